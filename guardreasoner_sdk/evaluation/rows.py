"""What an evaluation is made of: labelled rows, and what a guard said to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.verdict import LABELS, Finding, Task

__all__ = ["EVERYDAY", "OVER_REFUSAL", "LabelledRow", "PaperReading", "Prediction", "says_positive", "task_name"]

PaperReading = Literal["positive", "negative", "dropped", "wrong_twice"]
"""What the authors' scoring makes of an answer: it leaves out what it cannot read, and counts some labels as wrong twice."""

EVERYDAY: Final = "everyday"
"""The ``kind`` of messages that nobody would think twice about."""

OVER_REFUSAL: Final = "over_refusal"
"""The ``kind`` of rows that are harmless and look harmful."""


@dataclass(frozen=True, slots=True)
class LabelledRow:
    """One row of a benchmark.

    Args:
        id: its name within the benchmark; the same in every run.
        benchmark: the benchmark's name.
        exchange: what is judged.
        labels: the truth, for the tasks that are labelled: True for the positive label (harmful, refusal).
        language: a code such as ``en``; None where the row does not say.
        kind: what sort of text it is, in the word of its file, such as ``over_refusal``; None where the row does not say.

    Example:
        >>> from guardreasoner_sdk import Exchange
        >>> from guardreasoner_sdk.evaluation import LabelledRow
        >>> LabelledRow("1", "mine", Exchange("How do I bake a cake?"), {"prompt_harmfulness": False}).labels
        {'prompt_harmfulness': False}
    """

    id: str
    benchmark: str
    exchange: Exchange
    labels: Mapping[Task, bool]
    language: str | None = None
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a guard said on one task of one row, beside the truth.

    Args:
        id: the row's name within the benchmark.
        benchmark: the benchmark's name.
        task: the task.
        truth: whether the positive label (harmful, refusal) is right.
        label: what the guard said; None: undetermined.
        score: P(positive label), 0 to 1; None where the guard gives none.
        paper: the authors' reading of the same answer; None where it is none that their rule is made for.

    Example:
        >>> from guardreasoner_sdk.evaluation import Prediction
        >>> missed = Prediction("1", "mine", "prompt_harmfulness", truth=True, label=False, score=0.2)
        >>> missed.reading
        'negative'
    """

    id: str
    benchmark: str
    task: Task
    truth: bool
    label: bool | None
    score: float | None
    paper: PaperReading | None = None

    @property
    def reading(self) -> PaperReading:
        """What counts in ``paper`` scoring: the authors' reading, else the label; one that is undetermined is dropped."""
        if self.paper is not None:
            return self.paper
        return "dropped" if self.label is None else "positive" if self.label else "negative"


def says_positive(finding: Finding | None, task: Task) -> bool | None:
    """What a finding says: True for the positive label; None where there is none, or an undetermined one."""
    if finding is None or not finding.determined:
        return None
    return finding.label == LABELS[task][0]


def task_name(task: Task) -> str:
    """A task in words."""
    return task.replace("_", " ")
