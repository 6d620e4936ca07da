"""The same exchange more than once: as a repetition, or with another label."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from guardreasoner_sdk.verdict import TASKS, Task
from guardreasoner_training.rows import TrainingRow
from guardreasoner_training.rows.outputs import read_labels, steps_in

__all__ = ["Repeated", "deduplicate"]


@dataclass(frozen=True, slots=True)
class Repeated:
    """What became of rows with the same exchange.

    Args:
        rows: those that are left, in order.
        duplicates: how many were a repetition.
        contradictions: per exchange with contradictory labels, the names of its rows and the task.
    """

    rows: list[TrainingRow]
    duplicates: int
    contradictions: list[tuple[Task, tuple[str, ...]]]


def deduplicate(
    rows: Sequence[TrainingRow], *, duplicates: Literal["drop", "keep"], contradictions: Literal["drop", "keep", "error"]
) -> Repeated:
    """Join rows with the same prompt, response and history.

    A repetition may bring labels, an output or a category that the first row lacks; the first row gets them. A label that a
    guard filled in is a guess: it contradicts nothing, and gives way to one that is known.

    Args:
        contradictions: whether all rows of an exchange with contradictory labels are left out.
    """
    groups: dict[bytes, list[int]] = {}
    for number, row in enumerate(rows):
        groups.setdefault(_digest(row), []).append(number)
    found: list[tuple[Task, tuple[str, ...]]] = []
    out: set[int] = set()
    merged: dict[int, TrainingRow] = {}
    repeated = 0
    for group in groups.values():
        if len(group) < 2:
            continue
        members = [rows[number] for number in group]
        task = _contradicted(members)
        if task is not None:
            found.append((task, tuple(member.id for member in members)))
            if contradictions != "keep":
                out.update(group)
            continue
        repeated += len(group) - 1
        if duplicates == "drop":
            out.update(group[1:])
            merged[group[0]] = _merged(members)
    kept = [merged.get(number, row) for number, row in enumerate(rows) if number not in out]
    return Repeated(kept, repeated, found)


def _contradicted(rows: Sequence[TrainingRow]) -> Task | None:
    """The first task that some rows call positive and some negative, guesses aside."""
    said: dict[Task, bool] = {}
    for row in rows:
        for task, label in row.labels.items():
            if task not in row.filled and said.setdefault(task, label) != label:
                return task
    return None


def _merged(rows: Sequence[TrainingRow]) -> TrainingRow:
    known = {task: label for row in reversed(rows) for task, label in row.labels.items() if task not in row.filled}
    labels = {task: label for row in reversed(rows) for task, label in row.labels.items()} | known
    filled = tuple(task for task in TASKS if task in labels and task not in known)
    category = next((row.category for row in rows if row.category), None)
    written = [row for row in rows if row.output or row.reasoning]
    # What was written for a guess that was wrong comes last.
    best = min(written, key=lambda row: len(_overruled(row, labels)), default=rows[0])
    whole = best.output is not None and _still_whole(best, best.output, labels)
    return replace(
        rows[0],
        labels=labels,
        output=best.output if whole else None,
        reasoning=best.reasoning if whole else _steps([best, *rows], labels),
        category=category,
        filled=filled,
    )


def _still_whole(row: TrainingRow, output: str, labels: Mapping[Task, bool]) -> bool:
    """Whether a row's output can answer labels: those it was written for, or more, where it is about no task by name.

    An output that gives its label first is such a one; of another, its steps are what is left.
    """
    if labels == row.labels:
        return True
    return not (_overruled(row, labels) or steps_in(output) or read_labels(output, row.exchange))


def _steps(rows: Sequence[TrainingRow], labels: Mapping[Task, bool]) -> dict[Task, tuple[str, ...]]:
    """For each task the steps of the first row that has some and leads to the label."""
    found: dict[Task, tuple[str, ...]] = {}
    for row in rows:
        wrong = _overruled(row, labels)
        own = row.reasoning if row.output is None else steps_in(row.output)
        found = {task: steps for task, steps in own.items() if steps and task not in wrong} | found
    return {task: found[task] for task in TASKS if task in found}


def _overruled(row: TrainingRow, labels: Mapping[Task, bool]) -> list[Task]:
    """The tasks whose label in a row, a guess, is not the one that is known."""
    return [task for task, label in row.labels.items() if labels[task] != label]


def _digest(row: TrainingRow) -> bytes:
    exchange = row.exchange
    digest = hashlib.blake2b(digest_size=16)
    for text in (exchange.prompt, exchange.response, *(f"{turn.role} {turn.content}" for turn in exchange.history)):
        data = b"" if text is None else text.encode()
        digest.update(b"%d:" % (-1 if text is None else len(data)) + data)
    return digest.digest()
