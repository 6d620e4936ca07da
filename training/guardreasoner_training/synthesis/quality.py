"""What a synthesis came to: rows, answers, cost, and how its steps compare with the paper's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Final

from guardreasoner_sdk.dialects.steps import split_steps
from guardreasoner_sdk.verdict import TASKS, Task
from guardreasoner_training.formats import Format, tasks_of
from guardreasoner_training.rows import TrainingRow
from guardreasoner_training.synthesis.budget import Prices, TokenCost
from guardreasoner_training.synthesis.examined import REASONS

__all__ = ["TABLE_1", "Spent", "quality_of", "quality_text"]

TABLE_1: Final[dict[str, dict[str, float]]] = {
    "WildGuardTrain-R": {"rows": 86759, "steps": 323930, "steps_per_row": 3.73, "mean_step_length": 138.35},
    "AegisTrain-R": {"rows": 10798, "steps": 37082, "steps_per_row": 3.43, "mean_step_length": 140.83},
    "BeaverTailsTrain-R": {"rows": 27186, "steps": 90553, "steps_per_row": 3.33, "mean_step_length": 114.49},
    "ToxicChatTrain-R": {"rows": 2801, "steps": 9094, "steps_per_row": 3.25, "mean_step_length": 143.89},
    "GuardReasonerTrain": {"rows": 127544, "steps": 460659, "steps_per_row": 3.61, "mean_step_length": 133.97},
}
"""The paper's Table 1 (arXiv:2501.18492v1). It does not say how a row's steps are counted over its three tasks; the published
models write about 2.7 to 3.3 steps in a row's longest task and 7 to 9 in all, so that the former is what compares."""


@dataclass(slots=True)
class Spent:
    """What became of the answers, and what they cost.

    Args:
        answers: how many there were, by what became of them (``accepted``, or a reason).
        cost: tokens that the teacher said it took.
        assumed: tokens counted at their most, for requests without an answer that may have been paid for all the same, and for
            answers without a count.
        damaged: lines of the journal that cannot be read, so that nobody knows what they have cost.
    """

    answers: Counter[str] = field(default_factory=Counter)
    cost: TokenCost = field(default_factory=TokenCost)
    assumed: TokenCost = field(default_factory=TokenCost)
    damaged: int = 0

    @property
    def total(self) -> TokenCost:
        """Both."""
        return self.cost + self.assumed


def quality_of(
    rows: Sequence[TrainingRow],
    kept: int,
    rejected: Mapping[str, str],
    spent: Spent,
    tries: Iterable[int],
    prices: Prices,
    format: Format,
) -> dict[str, Any]:
    """The report.

    Args:
        rejected: rows that have none, with the last reason.
    """
    reasons = Counter(rejected.values())
    return {
        "accepted": len(rows),
        "kept": kept,
        "rejected": len(rejected),
        "rejected_by_reason": {reason: reasons[reason] for reason in REASONS if reasons[reason]},
        "answers": sum(spent.answers.values()),
        "answers_by_outcome": {name: spent.answers[name] for name in ("accepted", *REASONS) if spent.answers[name]},
        "rows_by_tries": {str(number): count for number, count in sorted(Counter(tries).items())},
        "tokens": {"input": spent.cost.input, "output": spent.cost.output, "assumed": spent.assumed.tokens},
        "damaged_lines": spent.damaged,
        "money": round(prices.of(spent.total), 6),
        "steps": _steps(rows, format),
        "paper_table_1": TABLE_1["GuardReasonerTrain"],
    }


def _steps(rows: Sequence[TrainingRow], format: Format) -> dict[str, Any]:
    """Steps per row and their length in characters, for each task and over all."""
    per_row = [_lengths(row, format) for row in rows]
    by_task = {task: [found[task] for found in per_row if task in found] for task in TASKS}
    return {
        "by_task": {
            task: {
                "rows": len(lengths),
                "steps_per_row": _mean([len(row) for row in lengths]),
                "mean_step_length": _mean([step for row in lengths for step in row]),
            }
            for task, lengths in by_task.items()
            if lengths
        },
        "steps_per_row": _mean([sum(map(len, found.values())) for found in per_row]),
        "steps_of_longest_task": _mean([max(map(len, found.values()), default=0) for found in per_row]),
        "mean_step_length": _mean([step for found in per_row for task in found.values() for step in task]),
    }


def _lengths(row: TrainingRow, format: Format) -> dict[Task, list[int]]:
    """Length in characters of the steps of a row's output, by task."""
    text = row.output or ""
    if format == "thinkguard":
        (task,) = tasks_of(row.exchange, format)
        body = text.partition("Explanation:")[2]
        return {task: [len(part.strip()) for part in body.split("\n\n")[:-1] if part.strip()]}
    found: dict[Task, list[int]] = {}
    for step in split_steps(text):
        if step.task is not None and step.kind == "thought":
            found.setdefault(step.task, []).append(len(step.text))
    return found


def _mean(values: Sequence[int]) -> float:
    return round(fmean(values), 2) if values else 0.0


def quality_text(quality: Mapping[str, Any]) -> str:
    """The report for a terminal.

    Args:
        quality: of :func:`quality_of`.
    """
    steps, paper = quality["steps"], quality["paper_table_1"]
    lines = [
        f"rows: {quality['accepted']:,} accepted, {quality['rejected']:,} rejected, {quality['kept']:,} had their reasoning",
        f"answers: {quality['answers']:,}"
        + "".join(f"; {count:,} {name}" for name, count in quality["answers_by_outcome"].items()),
        f"cost: {quality['tokens']['input']:,} tokens read, {quality['tokens']['output']:,} written"
        + (f", up to {quality['tokens']['assumed']:,} more without an answer" if quality["tokens"]["assumed"] else "")
        + f"; money: {quality['money']:g}",
        f"{'':24}steps a row  mean step length (characters)",
    ]
    lines += [
        f"  {task:22}{counts['steps_per_row']:11.2f}{counts['mean_step_length']:14.2f}"
        for task, counts in steps["by_task"].items()
    ]
    lines += [
        f"  {'all tasks':22}{steps['steps_per_row']:11.2f}{steps['mean_step_length']:14.2f}",
        f"  {'longest task':22}{steps['steps_of_longest_task']:11.2f}",
        f"  {'paper, Table 1':22}{paper['steps_per_row']:11.2f}{paper['mean_step_length']:14.2f}",
    ]
    lines += [f"rejected, {count:,}: {REASONS[reason]}" for reason, count in quality["rejected_by_reason"].items()]
    if quality["damaged_lines"]:
        lines.append(f"damaged lines of the journal, left out: {quality['damaged_lines']:,}")
    return "\n".join(lines)
