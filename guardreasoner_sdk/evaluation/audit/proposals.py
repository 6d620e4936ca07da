"""Labels that a guard contradicts: which of them to show to a person, most confident first.

The rule is that of confident learning (Northcutt, Jiang and Chuang 2021, arXiv:1911.00068): a score counts as confident not by
its own value but beside the mean score of the rows that carry a label. So it does not matter how common a label is, nor that
the guard's scores are all too low or too high.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from guardreasoner_sdk.errors import ConfigurationError
from guardreasoner_sdk.evaluation.rows import Prediction
from guardreasoner_sdk.verdict import LABELS, TASKS, Task

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["AT_MOST", "Proposal", "TaskAudit", "propose"]

AT_MOST = 0.25
"""Largest share of the labels of a task that is proposed, unless the user says otherwise: a set with more wrong ones than that
is past correcting row by row. What is proposed below it is for the scores to say."""

REACH = 0.75
"""How far from the mean score of its own label to that of the other a score must lie, as a share of the way, to contradict.

1 would be confident learning as published. Chosen on the development split of the embedded guard, with its scores as they
are and bent in five ways (``benchmarks/audit.py``): at 1, a guard whose scores crowd together finds too few wrong labels.
"""

_FEWEST = 10
"""Labels of one kind that it takes for a mean that says something."""

_LEAST_SEPARATION = 0.6
"""Least chance that of a positive and a negative row the positive one scores higher; 0.5 is a coin's."""


class Proposal(BaseModel):
    """A label to look at.

    Args:
        id: the row's, as in its prediction.
        task: what is labelled.
        label: the label as given: True for the positive one (harmful, refusal). Accepting the proposal turns it over.
        said: the guard's own label. It may be the given one where the guard's threshold does not suit the set.
        score: P(positive label), 0 to 1; None where the guard gives none.
        margin: where the score lies between the mean score of the rows labelled so (0) and of those labelled otherwise (1, and
            more beyond); None where there is no score, or no such means.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    task: Task
    label: bool
    said: bool
    score: float | None
    margin: float | None


class TaskAudit(BaseModel):
    """What was found for one task.

    Args:
        task: the task.
        labels: labelled rows.
        positives: those labelled harmful, or refusal.
        undetermined: rows on which the guard did not decide; none of them is proposed.
        positive_mean: mean score of the rows labelled positive; None where means say nothing.
        negative_mean: mean score of the others.
        separation: the chance that of two rows with different labels the one labelled positive scores higher, 0 to 1.
        contradicted: labels that the guard contradicts.
        proposed: those of them that are proposed, the most confident ones.
        notes: what one has to know, in sentences.
    """

    model_config = ConfigDict(frozen=True)

    task: Task
    labels: int
    positives: int
    undetermined: int
    positive_mean: float | None = None
    negative_mean: float | None = None
    separation: float | None = None
    contradicted: int = 0
    proposed: int = 0
    notes: tuple[str, ...] = ()


def propose(predictions: Iterable[Prediction], *, at_most: float = AT_MOST) -> tuple[list[Proposal], list[TaskAudit]]:
    """Find the labels that a guard contradicts with confidence.

    A label is contradicted where the score has gone three quarters of the way from the mean score of the rows with that label
    to the mean score of those with the other one. Where there are no scores, or too few labels of one kind for means, it is
    contradicted where the guard's own label is the other one.

    Args:
        predictions: the labels (as ``truth``) and what the guard said; read once, and kept as a few bytes a row.
        at_most: largest share of a task's labels to propose, above 0, at most 1.

    Returns:
        the proposals, most confident first, and what was found for each task that is labelled.

    Raises:
        ConfigurationError: ``at_most`` is no such share.

    Example:
        >>> from guardreasoner_sdk.evaluation import Prediction
        >>> from guardreasoner_sdk.evaluation.audit import propose
        >>> said = [(n % 2 == 0) != (n == 10) for n in range(100)]  # the guard, which contradicts the label of row 10
        >>> rows = [
        ...     Prediction(str(n), "mine", "prompt_harmfulness", n % 2 == 0, label, 0.9 if label else 0.1)
        ...     for n, label in enumerate(said)
        ... ]
        >>> [proposal], [task] = propose(rows)
        >>> proposal.id, task.labels
        ('10', 100)
    """
    if not 0 < at_most <= 1:
        raise ConfigurationError(f"at_most: must be a share above 0 and at most 1, not {at_most}")
    tasks: dict[Task, _Labels] = {}
    for prediction in predictions:
        tasks.setdefault(prediction.task, _Labels()).add(prediction)
    proposals: list[Proposal] = []
    found: list[TaskAudit] = []
    for task in TASKS:
        if task in tasks:
            own, audit = _of_task(task, tasks[task], at_most)
            proposals += own
            found.append(audit)
    # Stable: what has no margin stays behind, in its order.
    proposals.sort(key=lambda proposal: -1.0 if proposal.margin is None else proposal.margin, reverse=True)
    return proposals, found


@dataclass(slots=True)
class _Labels:
    """The labels of one task, beside what the guard said; a score that is not there is NaN."""

    ids: list[str] = field(default_factory=list)
    truths: array[int] = field(default_factory=lambda: array("b"))
    said: array[int] = field(default_factory=lambda: array("b"))
    scores: array[float] = field(default_factory=lambda: array("d"))
    labels: int = 0
    positives: int = 0

    def add(self, prediction: Prediction) -> None:
        self.labels += 1
        self.positives += prediction.truth
        if prediction.label is None:
            return
        self.ids.append(prediction.id)
        self.truths.append(prediction.truth)
        self.said.append(prediction.label)
        self.scores.append(float("nan") if prediction.score is None else prediction.score)


@dataclass(frozen=True, slots=True)
class _Means:
    positive: float
    negative: float
    separation: float


def _of_task(task: Task, of: _Labels, at_most: float) -> tuple[list[Proposal], TaskAudit]:
    import numpy as np

    truths = np.frombuffer(of.truths, dtype=np.int8).astype(bool) if of.ids else np.zeros(0, dtype=bool)
    said = np.frombuffer(of.said, dtype=np.int8).astype(bool) if of.ids else np.zeros(0, dtype=bool)
    scores = np.frombuffer(of.scores, dtype=np.float64) if of.ids else np.zeros(0)
    notes: list[str] = []
    means = _means(task, truths, scores, notes)
    contradicted = truths != said
    margins = np.full(len(scores), np.nan)
    # How to put them in order where there is no margin: by how far the score is from the label.
    distances = np.nan_to_num(np.where(truths, 1 - scores, scores), nan=-1.0)
    if means is not None and means.separation < _LEAST_SEPARATION:
        contradicted[:] = False
        notes.append(
            f"The guard does not tell these labels apart: of two rows labelled differently, the one labelled {LABELS[task][0]} "
            f"scores higher in {means.separation:.0%} of the cases. Nothing is proposed."
        )
    elif means is not None:
        way = means.positive - means.negative
        margins = np.where(truths, means.positive - scores, scores - means.negative) / way
        scored = ~np.isnan(scores)
        contradicted = np.where(scored, margins >= REACH, contradicted)
        distances = np.where(scored, margins, -1.0)
    places = np.flatnonzero(contradicted)
    places = places[np.argsort(-distances[places], kind="stable")]
    most = max(1, int(at_most * of.labels))
    if len(places) > most:
        notes.append(f"The guard contradicts {len(places):,} labels; the {most:,} surest are proposed (--at-most {at_most:g}).")
    proposals = [
        Proposal(
            id=of.ids[place],
            task=task,
            label=bool(truths[place]),
            said=bool(said[place]),
            score=None if np.isnan(scores[place]) else float(scores[place]),
            margin=None if np.isnan(margins[place]) else float(margins[place]),
        )
        for place in places[:most]
    ]
    if len(of.ids) < of.labels:
        notes.append(
            f"On {of.labels - len(of.ids):,} of {of.labels:,} rows the guard did not decide; none of them is proposed."
        )
    return proposals, TaskAudit(
        task=task,
        labels=of.labels,
        positives=of.positives,
        undetermined=of.labels - len(of.ids),
        positive_mean=None if means is None else means.positive,
        negative_mean=None if means is None else means.negative,
        separation=None if means is None else means.separation,
        contradicted=len(places),
        proposed=len(proposals),
        notes=tuple(notes),
    )


def _means(task: Task, truths: NDArray[np.bool_], scores: NDArray[np.float64], notes: list[str]) -> _Means | None:
    """What a score is compared with; None, and a note, where there is nothing to compare it with."""
    import numpy as np

    scored = ~np.isnan(scores)
    positives, negatives = scores[scored & truths], scores[scored & ~truths]
    own = "A label is proposed where the guard's own label is another"
    if not scored.any():
        if len(scores):
            notes.append(f"The guard gave no scores. {own}, in the order of the file: which are the surest is not known.")
        return None
    if not scored.all():
        notes.append(f"{int((~scored).sum()):,} answers have no score; those that contradict their label come last.")
    for label, group in zip(LABELS[task], (positives, negatives), strict=True):
        if len(group) < _FEWEST:
            count = f"Only {len(group)} rows are" if len(group) else "No row is"
            notes.append(f"{count} labelled {label}: too few to tell which scores are usual for it. {own}, by its score.")
            return None
    return _Means(float(positives.mean()), float(negatives.mean()), _separation(positives, negatives))


def _separation(positives: NDArray[np.float64], negatives: NDArray[np.float64]) -> float:
    """The area under the ROC curve, by counting: for each positive the negatives below it, and half of those level with it."""
    import numpy as np

    negatives = np.sort(negatives)
    below = np.searchsorted(negatives, positives, "left") + np.searchsorted(negatives, positives, "right")
    return float(below.mean() / (2 * len(negatives)))
