"""What can be promised of so many labelled rows, and how many are needed for a promise: told before anything is judged."""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.evaluation.calibration.curves import draw
from guardreasoner_sdk.evaluation.rows import LabelledRow
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.verdict import TASKS, Task

if TYPE_CHECKING:
    from guardreasoner_sdk.evaluation.calibration import Plan

__all__ = ["CONFIDENCE", "LEAST", "LabelCount", "count_labels", "losses_allowed", "prompt_key", "rows_needed"]

CONFIDENCE = 0.98
"""A promise is kept in this share of draws of as many rows as it was fitted on."""

LEAST = 10
"""Fewest positives, and fewest negatives, to fit or to measure on."""


@dataclass(frozen=True, slots=True)
class LabelCount:
    """The labels of one task, as the split parts them, beside those that are needed.

    Args:
        task: the task.
        positives: to fit on, and kept apart to measure on.
        negatives: the same.
        needed: positives and negatives that what is asked for takes, over both parts; where a promise depends on them, about
            so many: the split is drawn.
        wish: what is asked for, in words.
        enough: whether these do.
    """

    task: Task
    positives: tuple[int, int]
    negatives: tuple[int, int]
    needed: tuple[int, int]
    wish: str
    enough: bool

    def __str__(self) -> str:
        """What there is and what is needed, as a sentence."""
        return (
            f"{self.task} has {_kind(self.positives, 'positives')} and {_kind(self.negatives, 'negatives')}; "
            f"{self.wish} needs about {self.needed[0]:,} positives and {self.needed[1]:,} negatives"
        )


def _kind(parts: tuple[int, int], name: str) -> str:
    return f"{sum(parts):,} {name} ({parts[0]:,} to fit on, {parts[1]:,} kept apart)"


def count_labels(rows: Iterable[LabelledRow], plan: Plan) -> tuple[LabelCount, ...]:
    """Count the labels of each task, as :func:`~guardreasoner_sdk.evaluation.calibration.calibrate` will split them.

    Nothing is judged for it: whoever judges for hours should know before whether the rows are enough.

    Args:
        rows: the labelled rows.
        plan: what is wanted.

    Returns:
        one count for each labelled task.

    Raises:
        InputError: no task has labels enough to be calibrated at all.

    Example:
        >>> from guardreasoner_sdk import Exchange
        >>> from guardreasoner_sdk.evaluation import LabelledRow
        >>> from guardreasoner_sdk.evaluation.calibration import Plan, count_labels
        >>> label = "prompt_harmfulness"
        >>> rows = [LabelledRow(str(n), "mine", Exchange(f"question {n}"), {label: n % 2 == 0}) for n in range(200)]
        >>> [count] = count_labels(rows, Plan(recall=0.95))
        >>> count.enough
        False
    """
    every: dict[Task, dict[bool, list[int]]] = {}
    for row in rows:
        for task, truth in row.labels.items():
            kept = draw(plan.seed, prompt_key(row.exchange)) < plan.unseen
            every.setdefault(task, {True: [0, 0], False: [0, 0]})[truth][kept] += 1
    counts = tuple(_count(task, every[task], plan) for task in TASKS if task in every)
    if not counts:
        raise InputError("rows", "carry no label", "give rows with labels")
    if not any(min(*count.positives, *count.negatives) >= LEAST for count in counts):
        problem = "; ".join(map(str, counts))
        fix = f"label more: at least {LEAST} of each kind in either part (all rows of one prompt are in one of them)"
        raise InputError("rows", problem, fix)
    return counts


def _count(task: Task, found: dict[bool, list[int]], plan: Plan) -> LabelCount:
    (positives, further), (negatives, others) = found[True], found[False]
    least = math.ceil(LEAST / min(plan.unseen, 1 - plan.unseen))
    wanted, enough = [least, least], min(*found[True], *found[False]) >= LEAST
    if plan.guarantee and plan.recall is not None:
        wanted[0] = rows_needed(1 - plan.recall, plan.unseen)
        enough = enough and losses_allowed(positives, 1 - plan.recall, further) is not None
    if plan.guarantee and plan.false_alarm_rate is not None:
        wanted[1] = rows_needed(plan.false_alarm_rate, plan.unseen)
        enough = enough and losses_allowed(negatives, plan.false_alarm_rate, others) is not None
    return LabelCount(
        task, (positives, further), (negatives, others), (wanted[0], wanted[1]), plan.wish or "a calibration", enough
    )


def rows_needed(rate: float, unseen: float) -> int:
    """About the fewest rows of a kind, over both parts, of which a promise can be given: how they are split is drawn.

    Args:
        rate: the largest share of them that may be lost, 0 to 1.
        unseen: share of the rows that is kept apart, 0 to 1.
    """

    def enough(rows: int) -> bool:
        further = round(unseen * rows)
        return min(further, rows - further) >= LEAST and losses_allowed(rows - further, rate, further) is not None

    most = 1
    while not enough(most):
        most *= 2
    return 1 + bisect_right(range(1, most), False, key=enough)


def losses_allowed(rows: int, rate: float, further: int) -> int | None:
    """How many of the rows may be lost so that of as many further rows no larger share than ``rate`` is lost.

    It holds with a probability of CONFIDENCE at the least, for the chance in both draws: the true rate is taken to be spread
    as its upper limit of Clopper and Pearson (1934) says.

    Args:
        rate: 0 to 1.

    Returns:
        how many; None where not even a loss of none says so much.
    """

    def kept(lost: int) -> bool:
        return _chance_of_more(int(rate * further + 1e-9), further, lost + 1, rows - lost) <= 1 - CONFIDENCE

    if not rows or not kept(0):
        return None
    return bisect_right(range(1, rows), False, key=lambda lost: not kept(lost))


def _chance_of_more(most: int, further: int, a: int, b: int) -> float:
    """How likely more than ``most`` of further draws are hits, their rate spread as Beta(a, b)."""
    chance = 0.0
    for hits in range(most + 1):
        ways = math.lgamma(further + 1) - math.lgamma(hits + 1) - math.lgamma(further - hits + 1)
        chance += math.exp(ways + _log_beta(a + hits, b + further - hits) - _log_beta(a, b))
    return 1 - chance


def _log_beta(a: int, b: int) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def prompt_key(exchange: Exchange) -> str:
    """Names a prompt, whatever its letter case and blanks are: rows of one prompt stay on one side of the split."""
    return hashlib.sha256(" ".join(exchange.prompt.casefold().split()).encode()).hexdigest()
