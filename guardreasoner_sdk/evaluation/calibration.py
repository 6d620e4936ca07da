"""From labelled rows and a guard's scores to a :class:`~guardreasoner_sdk.calibration.Calibration`.

A part of the prompts is kept apart: curve, threshold and band are chosen on the others, and every figure that is reported is
measured on those kept apart.
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from guardreasoner_sdk.calibration import (
    BandReport,
    Calibration,
    Figures,
    Provenance,
    Report,
    TaskCalibration,
)
from guardreasoner_sdk.errors import ConfigurationError, InputError
from guardreasoner_sdk.evaluation._curves import Method, UnfitError, draw, fit_curve
from guardreasoner_sdk.evaluation.metrics import measure
from guardreasoner_sdk.evaluation.rows import LabelledRow, Prediction, called
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.judges.cascade import in_band
from guardreasoner_sdk.verdict import TASKS, Finding, Task, Verdict

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]

__all__ = ["CONFIDENCE", "FALSE_ALARM_RATE", "LEAST", "RECALL", "UNSEEN", "Case", "Method", "Plan", "calibrate", "fit"]

RECALL = 0.95
"""The recall that a band keeps where none is asked for."""

FALSE_ALARM_RATE = 0.05
"""The false alarms that a band lets pass where none are asked for."""

UNSEEN = 0.4
"""Share of the prompts that is kept apart to measure on."""

CONFIDENCE = 0.98
"""A promise is kept in this share of draws of as many rows as it was fitted on."""

LEAST = 10
"""Fewest positives, and fewest negatives, to fit or to measure on."""


@dataclass(frozen=True, slots=True)
class Case:
    """What a guard said on one task of one row, beside the truth.

    Args:
        key: names the row by its content.
        prompt: names its prompt: rows of one prompt stay on one side of the split.
        task: the task.
        truth: whether the positive label is right.
        label: what the guard said; None: undetermined.
        score: P(positive label), 0 to 1; None where the guard gives none.
    """

    key: str
    prompt: str
    task: Task
    truth: bool
    label: bool | None
    score: float | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a calibration is to do.

    A threshold or a band is chosen so that its promise holds in 49 of 50 draws of as many rows: on few rows it is further on
    the safe side, and on very few none can be given.

    Args:
        method: the kind of curve. Scores whose calibration error is not at least twice what chance gives for so many rows, or
            is not lowered by the curve in cross-validation, stay as they are.
        recall: choose thresholds that find at least this share of the positives, 0 to 1.
        false_alarm_rate: or thresholds that call at most this share of the negatives positive. Neither: the labels stay the
            guard's own.
        unseen: share of the prompts to measure on, 0 to 1.
        seed: of the split.

    Raises:
        ConfigurationError: settings that cannot work.
    """

    method: Method = "auto"
    recall: float | None = None
    false_alarm_rate: float | None = None
    unseen: float = UNSEEN
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise ConfigurationError(f"method: {self.method!r} is unknown; use one of {', '.join(get_args(Method))}")
        if self.recall is not None and self.false_alarm_rate is not None:
            raise ConfigurationError("recall, false_alarm_rate: one threshold cannot be chosen for both; leave one out")
        for name in ("recall", "false_alarm_rate", "unseen"):
            share = getattr(self, name)
            if share is not None and not 0 < share < 1:
                raise ConfigurationError(f"{name}: must be a share between 0 and 1, not {share:g}")

    @property
    def kept(self) -> float:
        """The recall that the band keeps."""
        return RECALL if self.recall is None else self.recall

    @property
    def let_pass(self) -> float:
        """The false alarms that the band lets pass."""
        return FALSE_ALARM_RATE if self.false_alarm_rate is None else self.false_alarm_rate


def calibrate(judged: Iterable[tuple[LabelledRow, Verdict]], plan: Plan | None = None) -> Calibration:
    """Calibrate a guard by what it said to labelled rows.

    Args:
        judged: the rows with its verdicts.
        plan: what is wanted.

    Raises:
        InputError: the verdicts are not of one guard, or calibrated already; or no task can be calibrated (see :func:`fit`).
        MissingExtraError: scikit-learn is not installed.
    """
    found: list[Case] = []
    makers: set[tuple[str, str]] = set()
    for row, verdict in judged:
        if verdict.calibrated:
            raise InputError("verdicts", "are calibrated already", "judge without: unset GUARDREASONER_CALIBRATION")
        if verdict.path:
            raise InputError("verdicts", "are those of a cascade", "calibrate one guard at a time: leave the screen out")
        makers.add((verdict.model, verdict.backend))
        if len(makers) > 1:
            models = " and ".join(sorted(f"{model} on {backend}" for model, backend in makers))
            raise InputError("verdicts", f"are those of {models}", "calibrate one guard at a time")
        found += _cases(row, verdict)
    if not makers:
        raise InputError("rows", "carry no label", "give rows with labels")
    ((model, backend),) = makers
    return fit(found, plan or Plan(), model=model, backend=backend)


def fit(found: Sequence[Case], plan: Plan, *, model: str, backend: str) -> Calibration:
    """Fit a calibration, and measure it on rows that it was not fitted on.

    Args:
        found: the cases.
        plan: what is wanted.
        model: the model whose scores they are.
        backend: what ran it.

    Raises:
        InputError: no task has enough rows of both kinds with a score; the message says why, for each.
        MissingExtraError: scikit-learn is not installed.
    """
    tasks: dict[Task, TaskCalibration] = {}
    problems = []
    for task in TASKS:
        own = [case for case in found if case.task == task]
        apart = [draw(plan.seed, case.prompt) < plan.unseen for case in own]
        try:
            tasks[task] = _fitted(
                _Part([case for case, kept in zip(own, apart, strict=True) if not kept]),
                _Part([case for case, kept in zip(own, apart, strict=True) if kept]),
                plan,
            )
        except UnfitError as error:
            if own:
                problems.append(f"{task} {error}")
    if not tasks:
        problem = "; ".join(problems) or "hold no label of a task that the guard judges"
        raise InputError("rows", problem, "give more labelled rows, or a guard that gives scores")
    return Calibration(
        model=model,
        tasks=tasks,
        made_of=Provenance(
            backend=backend,
            rows=len({case.key for case in found}),
            data=_digest(found),
            unseen=plan.unseen,
            seed=plan.seed,
            recall=plan.kept,
            false_alarm_rate=plan.let_pass,
            confidence=100 * CONFIDENCE,
        ),
        notes=tuple(f"Not calibrated: {problem}." for problem in problems),
    )


class _Part:
    """One side of the split.

    Args:
        own: its cases, all of one task.
    """

    def __init__(self, own: Sequence[Case]) -> None:
        import numpy as np

        self.cases = own
        scored = [case for case in own if case.score is not None and case.label is not None]
        self.prompts = [case.prompt for case in scored]
        self.scores: Floats = np.array([case.score for case in scored], dtype=np.float64)
        self.truths: Bools = np.array([case.truth for case in scored], dtype=np.bool_)
        self.labels: Bools = np.array([case.label for case in scored], dtype=np.bool_)

    def check(self, purpose: str) -> None:
        positives, negatives = int(self.truths.sum()), int((~self.truths).sum())
        if min(positives, negatives) < LEAST:
            raise UnfitError(
                f"has {positives} positives and {negatives} negatives with a score to {purpose} on, and needs {LEAST} of each"
            )


def _fitted(seen: _Part, unseen: _Part, plan: Plan) -> TaskCalibration:
    seen.check("fit")
    unseen.check("measure")
    notes: list[str] = []
    undecided = sum(case.score is None or case.label is None for case in (*seen.cases, *unseen.cases))
    if undecided:
        notes.append(f"{undecided:,} rows without a score or a decision are in no figure but the escalated share.")
    curve, note = fit_curve(seen.scores, seen.truths, seen.prompts, method=plan.method, seed=plan.seed)
    notes += [note] if note else []
    low = _low(seen, plan.kept, int(unseen.truths.sum()), notes)
    high = _high(seen, plan.let_pass, int((~unseen.truths).sum()), notes)
    wanted = low if plan.recall is not None else high if plan.false_alarm_rate is not None else None
    # Where no promise can be made on one side, everything there is doubtful.
    band = _band(seen, 0.0 if low is None else low, 1.0 if high is None else high)
    task = TaskCalibration(curve=curve, threshold=None if wanted is None else curve(wanted), band=band)
    return task.model_copy(update={"report": _report(task, band, seen, unseen, plan, notes)})


def _low(seen: _Part, recall: float, further: int, notes: list[str]) -> float | None:
    """The highest score below which few enough positives lie."""
    import numpy as np

    positives = np.sort(seen.scores[seen.truths])
    lost = _allowed(len(positives), 1 - recall, further)
    if lost is None:
        notes.append(f"{len(positives):,} positives are too few to promise a recall of {recall:.0%}.")
        return None
    first = positives[lost]
    if first == 0:
        notes.append(f"More than {lost:,} positives score 0: only calling all positive keeps a recall of {recall:.0%}.")
        return 0.0
    below = seen.scores[seen.scores < first]
    # Half-way to the next score: rows like those seen fall on the side that they fell on here.
    return float((first + below.max()) / 2) if below.size else 0.0


def _high(seen: _Part, rate: float, further: int, notes: list[str]) -> float | None:
    """The lowest score above which few enough negatives lie."""
    import numpy as np

    negatives = np.sort(seen.scores[~seen.truths])[::-1]
    passed = _allowed(len(negatives), rate, further)
    if passed is None:
        notes.append(f"{len(negatives):,} negatives are too few to promise a false-alarm rate of {rate:.0%}.")
        return None
    last = negatives[passed]
    if last == 1:
        notes.append(f"More than {passed:,} negatives score 1: no threshold keeps false alarms to {rate:.0%}.")
        return None
    above = seen.scores[seen.scores > last]
    return float((last + above.min()) / 2) if above.size else 1.0


def _allowed(rows: int, rate: float, further: int) -> int | None:
    """How many of the rows may be lost so that of as many further rows no larger share than ``rate`` is lost.

    It holds with a probability of CONFIDENCE at the least, for the chance in both draws: the true rate is taken to be spread
    as its upper limit of Clopper and Pearson (1934) says. None where not even a loss of none says so much.
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


def _band(seen: _Part, low: float, high: float) -> tuple[float, float]:
    """The band between two scores, either of which may be the lower one.

    Outside the band the guard's own label stands. So it has to hold the score at which that label changes: beyond it, a low
    score would be called positive, or a high one negative.
    """
    own = _own_threshold(seen)
    return min(low, high, own), max(low, high, own)


def _own_threshold(seen: _Part) -> float:
    """The score that best parts what the guard calls negative from what it calls positive."""
    import numpy as np

    order = np.argsort(seen.scores, kind="stable")
    scores, labels = seen.scores[order], seen.labels[order]
    # Cut behind the first k rows: wrong are the positive labels before the cut and the negative ones behind it.
    wrong = np.concatenate([[0], np.cumsum(labels)]) + np.concatenate([np.cumsum(~labels[::-1])[::-1], [0]])
    cut = int(np.argmin(wrong))
    ends = np.concatenate([[0.0], scores, [1.0]])
    return float((ends[cut] + ends[cut + 1]) / 2)


def _report(
    task: TaskCalibration, band: tuple[float, float], seen: _Part, unseen: _Part, plan: Plan, notes: list[str]
) -> Report:
    before = [_prediction(case, case.label, case.score) for case in unseen.cases]
    after = []
    for case in unseen.cases:
        worth = None if case.score is None or case.label is None else task.curve(case.score)
        label = case.label if worth is None or task.threshold is None else worth >= task.threshold
        after.append(_prediction(case, label, worth))
    return Report(
        fitted=len(seen.scores),
        rows=len(unseen.scores),
        positives=int(unseen.truths.sum()),
        before=_figures(before),
        after=_figures(after),
        band=_band_report(band, unseen, plan),
        notes=tuple(notes),
    )


def _band_report(band: tuple[float, float], unseen: _Part, plan: Plan) -> BandReport:
    import numpy as np

    low, high = band
    inside = np.array([in_band(score, low, high) for score in unseen.scores], dtype=bool)
    lost, passed = ~inside & ~unseen.labels & unseen.truths, ~inside & unseen.labels & ~unseen.truths
    every = len(unseen.cases)
    return BandReport(
        promised_recall=100 * plan.kept,
        recall=100 * (1 - float(lost.sum() / unseen.truths.sum())),
        promised_false_alarm_rate=100 * plan.let_pass,
        false_alarm_rate=100 * float(passed.sum() / (~unseen.truths).sum()),
        # What has no score, or was not decided, is passed on too.
        escalated=100 * (int(inside.sum()) + every - len(unseen.scores)) / every,
    )


def _prediction(case: Case, label: bool | None, score: float | None) -> Prediction:
    return Prediction(case.key, "", case.task, case.truth, label, score)


def _figures(predictions: list[Prediction]) -> Figures:
    (found,) = measure([prediction for prediction in predictions if prediction.label is not None])
    return Figures(ece=found.ece, f1=found.f1, recall=found.recall, false_alarm_rate=found.false_alarm_rate)


def _cases(row: LabelledRow, verdict: Verdict) -> Iterator[Case]:
    """What a verdict says on the tasks that are labelled and that the guard judges."""
    key, prompt = _key(row.exchange), _prompt(row.exchange)
    for task, truth in row.labels.items():
        finding: Finding | None = getattr(verdict, task)
        if finding is not None:
            yield Case(key, prompt, task, truth, called(finding, task), finding.score)


def _key(exchange: Exchange) -> str:
    return hashlib.sha256(exchange.model_dump_json().encode()).hexdigest()


def _prompt(exchange: Exchange) -> str:
    """The prompt, whatever its letter case and blanks are."""
    return hashlib.sha256(" ".join(exchange.prompt.casefold().split()).encode()).hexdigest()


def _digest(every: Sequence[Case]) -> str:
    lines = sorted(f"{case.key} {case.task} {case.truth}\n" for case in every)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
