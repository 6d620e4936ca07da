"""What was found in training data, and what became of it: for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from guardreasoner_sdk.verdict import LABELS, TASKS, Task
from guardreasoner_training.checks.leaks import Leak
from guardreasoner_training.checks.lengths import Lengths

__all__ = ["SHOWN", "DataReport"]

SHOWN = 20
"""How many of a kind are named one by one."""

_SOURCES = 12


@dataclass(slots=True)
class DataReport:
    """What was found in training data, and what became of it.

    Args:
        files: where they came from.
        lines: rows read, broken ones included.
        errors: all that is wrong, ``file:line: field: problem; fix``.
        broken: how many lines of those are broken and left out.
        unlabelled: rows without any label.
        labels: per task and label how many rows, as read.
        sources: per source how many rows, as read.
        without_reasoning: labelled rows without reasoning, as read.
        duplicates: rows that repeat an exchange with its labels.
        contradictions: per exchange with contradictory labels, the task and its rows.
        near_duplicates: prompts that differ, and yet are near-duplicates of another one.
        leaks: rows whose prompt a benchmark has.
        incomplete: rows with a response and too few labels.
        filled: per task how many labels a guard filled in.
        alone: incomplete rows of which the prompt alone is used.
        left_out: rows that are not used, by reason.
        derived: rows whose steps were derived.
        to_synthesize: rows whose output a teacher is to write.
        train: rows to train on.
        dev: rows kept out of training.
        train_labels: per task and label how many rows to train on.
        train_sources: per source how many rows to train on.
        dev_labels: per task and label how many are kept out.
        lengths: tokens, where a tokenizer was given.
    """

    files: tuple[str, ...] = ()
    lines: int = 0
    errors: list[str] = field(default_factory=list)
    broken: int = 0
    unlabelled: int = 0
    labels: dict[str, dict[str, int]] = field(default_factory=dict)
    sources: dict[str, int] = field(default_factory=dict)
    without_reasoning: int = 0
    duplicates: int = 0
    contradictions: list[tuple[Task, tuple[str, ...]]] = field(default_factory=list)
    near_duplicates: int = 0
    leaks: list[Leak] = field(default_factory=list)
    incomplete: int = 0
    filled: dict[str, int] = field(default_factory=dict)
    alone: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    derived: int = 0
    to_synthesize: int = 0
    train: int = 0
    dev: int = 0
    train_labels: dict[str, dict[str, int]] = field(default_factory=dict)
    train_sources: dict[str, int] = field(default_factory=dict)
    dev_labels: dict[str, dict[str, int]] = field(default_factory=dict)
    lengths: Lengths | None = None

    def to_json(self) -> dict[str, Any]:
        """The report as plain values; long lists hold their first entries and their count."""
        values = asdict(self)
        for name in ("errors", "contradictions", "leaks"):
            values[name] = {"count": len(values[name]), "first": values[name][:SHOWN]}
        if values["lengths"] is not None:
            named = values["lengths"]["too_long"]
            values["lengths"]["too_long"] = {"count": len(named), "first": named[:SHOWN]}
        return values

    def __str__(self) -> str:
        """The report as lines to read."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{self.lines:,} rows in {', '.join(self.files[:3]) or 'memory'}{' ...' if len(self.files) > 3 else ''}"
        if self.errors:
            yield f"{len(self.errors):,} errors:"
            yield from _first(self.errors)
        yield from _counts("labels", self.labels)
        shown = sorted(self.sources.items(), key=lambda item: -item[1])
        more = f", and {len(shown) - _SOURCES:,} more" if len(shown) > _SOURCES else ""
        yield "sources: " + ", ".join(f"{name} {count:,}" for name, count in shown[:_SOURCES]) + more
        for count, what in (
            (self.unlabelled, "without any label"),
            (self.without_reasoning, "without reasoning"),
            (self.duplicates, "that repeat an exchange"),
            (self.near_duplicates, "whose prompt is a near-duplicate of another one"),
            (self.incomplete, "with a response and too few labels"),
            (self.alone, "of which the prompt alone is used"),
            (self.derived, "whose steps were derived from their labels"),
            (self.to_synthesize, "whose output a teacher is to write"),
        ):
            if count:
                yield f"{count:,} rows {what}"
        if self.filled:
            yield "labels filled in by a guard: " + ", ".join(f"{task} {count:,}" for task, count in self.filled.items())
        if self.contradictions:
            yield f"{len(self.contradictions):,} exchanges with contradictory labels:"
            yield from _first([f"{task}: {', '.join(names[:6])}" for task, names in self.contradictions])
        if self.leaks:
            yield f"{len(self.leaks):,} rows whose prompt a benchmark has:"
            yield from _first([f"{leak.id}: {_kind(leak)} {leak.benchmark} {leak.row}" for leak in self.leaks])
        if self.left_out:
            yield "left out: " + ", ".join(f"{count:,} {reason}" for reason, count in self.left_out.items())
        if self.train or self.dev:
            yield f"{self.train:,} rows to train on, {self.dev:,} kept out"
            yield from _counts("train", self.train_labels)
            yield from _counts("kept out", self.dev_labels)
        if (lengths := self.lengths) is not None:
            yield (
                f"tokens a row: median {lengths.median:,}, 95 % {lengths.p95:,}, 99 % {lengths.p99:,}, "
                f"most {lengths.longest:,}; output alone: median {lengths.output_median:,}"
            )
            share = len(lengths.too_long) / lengths.rows
            yield f"over {lengths.limit:,} tokens: {len(lengths.too_long):,} rows ({share:.2%})"
            yield from _first(lengths.too_long)


def _counts(title: str, labels: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    for task in TASKS:
        if found := labels.get(task):
            yield f"{title}: {task} " + ", ".join(f"{found.get(label, 0):,} {label}" for label in LABELS[task])


def _first(items: list[str] | tuple[str, ...]) -> Iterator[str]:
    yield from (f"  {item}" for item in items[:SHOWN])
    if len(items) > SHOWN:
        yield f"  ... and {len(items) - SHOWN:,} more"


def _kind(leak: Leak) -> str:
    return "same as" if leak.kind == "same" else "near-duplicate of"
