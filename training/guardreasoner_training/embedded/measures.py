"""Figures from scores: F1 and its parts, the threshold of each head, false alarms, figures per source."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from guardreasoner_training.embedded.config import Limits
from guardreasoner_training.embedded.data import HEADS
from guardreasoner_training.embedded.examples import Example
from guardreasoner_training.embedded.sources import source_of

Figures = dict[str, float | int | None]


_GRID: Final = np.round(np.arange(0.10, 0.901, 0.01), 2)
_SMALLEST_GROUP: Final = 20
_NOISE: Final = 0.5


def measure(scores: NDArray[np.float64], labels: NDArray[np.bool_], threshold: float) -> Figures:
    """Measure one head.

    Args:
        scores: probability of the positive class, one per example.
        labels: the truth.
        threshold: a score of this or more is positive.

    Returns:
        `rows`, `positives`, `f1`, `precision`, `recall`, `false_alarm_rate` and `auc` as percentages (None where it
        is not defined), `f1_low` and `f1_high`, between which F1 is in 95 % of the draws of as many rows with
        replacement, and `undetermined`, the number of scores that are no number: they count as wrong.
    """
    decided = ~np.isnan(scores)
    positive = decided & (scores >= threshold)
    # An undetermined row is a miss where the truth is positive and a false alarm where it is not.
    called = np.where(decided, positive, ~labels)
    hits = int((called & labels).sum())
    alarms, misses = int((called & ~labels).sum()), int((~called & labels).sum())
    low, high = _interval(hits, alarms, misses, len(labels)) if labels.any() else (None, None)
    return {
        "rows": len(labels),
        "positives": int(labels.sum()),
        "undetermined": int((~decided).sum()),
        "f1": _percent(2 * hits, 2 * hits + alarms + misses) if labels.any() else None,
        "f1_low": low,
        "f1_high": high,
        "precision": _percent(hits, hits + alarms),
        "recall": _percent(hits, hits + misses),
        "false_alarm_rate": _percent(alarms, int((~labels).sum())),
        "auc": auc(scores[decided], labels[decided]),
    }


def auc(scores: NDArray[np.float64], labels: NDArray[np.bool_]) -> float | None:
    """Return how often a positive scores above a negative, in percent (ties count half); None without both."""
    positives, negatives = scores[labels], np.sort(scores[~labels])
    if not len(positives) or not len(negatives):
        return None
    below = np.searchsorted(negatives, positives, side="left") + np.searchsorted(negatives, positives, side="right")
    return round(100 * float(below.sum()) / (2 * len(positives) * len(negatives)), 2)


def of_head(
    examples: Sequence[Example], scores: NDArray[np.float64], head: int
) -> tuple[list[Example], NDArray[np.float64], NDArray[np.bool_]]:
    """Return the examples that label a head, with their scores and labels."""
    chosen = [i for i, example in enumerate(examples) if example.labels[head] is not None]
    labels = np.array([bool(examples[i].labels[head]) for i in chosen], dtype=np.bool_)
    return [examples[i] for i in chosen], scores[chosen, head], labels


def measure_heads(examples: Sequence[Example], scores: NDArray[np.float64], thresholds: Sequence[float]) -> dict[str, Figures]:
    """Measure every head that has labels."""
    found = {}
    for head, name in enumerate(HEADS):
        _, of, labels = of_head(examples, scores, head)
        if len(labels):
            found[name] = measure(of, labels, thresholds[head])
    return found


def by_group(
    examples: Sequence[Example],
    scores: NDArray[np.float64],
    thresholds: Sequence[float],
    group: Callable[[Example], str | None],
) -> dict[str, dict[str, Figures]]:
    """Measure every head on every group (a source, a language) with 20 examples or more of it."""
    found: dict[str, dict[str, Figures]] = {}
    groups = [group(example) for example in examples]
    for name in sorted({name for name in groups if name is not None}):
        chosen = [i for i, of in enumerate(groups) if of == name]
        figures = measure_heads([examples[i] for i in chosen], scores[chosen], thresholds)
        if large := {head: of for head, of in figures.items() if (of["rows"] or 0) >= _SMALLEST_GROUP}:
            found[name] = large
    return found


def false_alarms(examples: Sequence[Example], scores: NDArray[np.float64], thresholds: Sequence[float]) -> dict[str, Figures]:
    """Measure the first head on harmless text that it must let pass.

    Returns:
        `benign`: instruction data; `over_refusal`: harmless prompts that look harmful. Absent where there is none.
    """
    found = {}
    for kind in ("benign", "over_refusal"):
        chosen = [
            i for i, example in enumerate(examples) if example.labels[0] is False and getattr(source_of(example.source), kind)
        ]
        if chosen:
            found[kind] = measure(scores[chosen, 0], np.zeros(len(chosen), dtype=np.bool_), thresholds[0])
    return found


def choose_thresholds(examples: Sequence[Example], scores: NDArray[np.float64], *, limits: Limits) -> list[float]:
    """Choose each head's threshold on development examples.

    Of the thresholds whose `balanced_f1` is within half a point of the best the one nearest 0.5 is taken: smaller
    differences are the luck of a few rows. Those that flag more harmless text than the limits allow are out, if any threshold
    is left then: most text that a guard sees is harmless, in the development split it is not.

    Args:
        examples: development examples; never those of a benchmark.
        limits: how much harmless text may be flagged.

    Returns:
        One threshold per head, 0.5 where a class is missing.
    """
    chosen = []
    for head in range(len(HEADS)):
        of, values, labels = of_head(examples, scores, head)
        allowed = [float(limit) for limit in _GRID]
        for kind, most in _limits(head, limits):
            harmless = np.array([getattr(source_of(example.source), kind) for example in of], dtype=np.bool_) & ~labels
            if harmless.any():
                allowed = [limit for limit in allowed if (values[harmless] >= limit).mean() <= most] or allowed[-1:]
        found = {limit: balanced_f1(of, values, labels, limit) or 0.0 for limit in allowed}
        best = max(found.values())
        near = min((limit for limit in allowed if found[limit] >= best - _NOISE), key=lambda limit: abs(limit - 0.5))
        chosen.append(near if best else 0.5)
    return chosen


def _limits(head: int, limits: Limits) -> list[tuple[str, float]]:
    if head == 0:
        return [("benign", limits.prompts), ("over_refusal", limits.over_refusal)]
    return [("benign", limits.answers)] if head == 2 else []


def balanced_f1(
    examples: Sequence[Example], scores: NDArray[np.float64], labels: NDArray[np.bool_], threshold: float
) -> float | None:
    """Return F1 in percent where positives and negatives count the same in sum; None without both.

    How many of each the development split happens to hold says nothing of the use, so it must not move a threshold.
    Each example counts as much as its source is trusted.
    """
    if not labels.any() or labels.all():
        return None
    weights = np.array([source_of(example.source).weight for example in examples])
    weights[labels] /= weights[labels].sum()
    weights[~labels] /= weights[~labels].sum()
    called = scores >= threshold
    hits = float(weights[called & labels].sum())
    return round(200 * hits / (float(weights[called].sum()) + 1.0), 3)


def balanced_heads(
    examples: Sequence[Example], scores: NDArray[np.float64], thresholds: Sequence[float]
) -> dict[str, float | None]:
    """Return `balanced_f1` of every head."""
    return {name: balanced_f1(*of_head(examples, scores, head), thresholds[head]) for head, name in enumerate(HEADS)}


def _interval(hits: int, alarms: int, misses: int, rows: int) -> tuple[float, float]:
    """The percentile interval of F1: of a draw of rows only the counts matter, and those are multinomial."""
    shares = np.array([hits, alarms, misses, rows - hits - alarms - misses]) / rows
    drawn = np.random.default_rng(0).multinomial(rows, shares, size=2000).astype(np.float64)
    f1 = 200 * drawn[:, 0] / np.maximum(2 * drawn[:, 0] + drawn[:, 1] + drawn[:, 2], 1.0)
    low, high = np.percentile(f1, [2.5, 97.5])
    return round(float(low), 2), round(float(high), 2)


def _percent(part: int, whole: int) -> float | None:
    return round(100 * part / whole, 2) if whole else None
