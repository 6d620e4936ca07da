"""Rows to train on: read from a user's files or from the hub, written in the one form that every stage reads."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from guardreasoner_sdk._text import json_text
from guardreasoner_sdk.data.atomic import errors_while_writing, write_atomic
from guardreasoner_sdk.data.columns import Columns
from guardreasoner_sdk.data.readers import each_record
from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.verdict import TASKS, Task
from guardreasoner_training.rows.files import files_of, names_of, stem_of
from guardreasoner_training.rows.parsing import parse_row

__all__ = ["FIELDS", "HUB", "SPLITS", "TrainingRow", "from_source", "hub_rows", "read_each", "read_rows", "write_rows"]

FIELDS: dict[Task, str] = {
    "prompt_harmfulness": "prompt_harmful",
    "response_refusal": "refusal",
    "response_harmfulness": "response_harmful",
}
"""The field of a written row that holds each task's label."""

HUB = "yueliu1999/GuardReasonerTrain"
"""The paper's training data."""

SPLITS = ("WildGuardTrainR", "AegisTrainR", "BeaverTailsTrainR", "ToxicChatTrainR")
"""Its splits."""


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """One exchange to train on.

    Args:
        id: its name, the same in every run: the row's own ``id``, else ``<file>:<number>``; where two files have one name,
            with its ending or its folder.
        exchange: what is judged.
        labels: the truth for the tasks that are labelled; True is the positive label (harmful, refusal).
        output: what the model is to write, word for word, where that is known.
        category: of the harm, in whatever words the source has.
        source: the data set it comes from.
        reasoning: the steps of each task, where they are known and ``output`` is not.
        filled: tasks whose label was filled in by a guard.
    """

    id: str
    exchange: Exchange
    labels: Mapping[Task, bool]
    output: str | None = None
    category: str | None = None
    source: str = ""
    reasoning: Mapping[Task, tuple[str, ...]] = field(default_factory=dict)
    filled: tuple[Task, ...] = ()


def read_rows(
    path: str | Path | Sequence[str | Path], *, columns: Columns | None = None, source_from_file: bool = False
) -> Iterator[TrainingRow]:
    """The labelled rows of files.

    Fields: ``prompt``, ``response``; the labels ``prompt_harmful``, ``refusal``, ``response_harmful`` (true and false, the
    labels' own words, 1 and 0, or null); ``reasoning`` (the steps as text, a whole output, or steps by task), ``output``,
    ``category``, ``source``, ``id``. The authors' form (``instruction``, ``input``, ``output``) is read too.

    Args:
        path: files (``.jsonl``, ``.csv``, ``.tsv``, ``.json``, each also with ``.gz`` or ``.xz``, and ``.parquet``), or folders
            of them, in which hidden files are passed over.
        columns: where a file of other columns has texts and labels.
        source_from_file: whether a row's source is the name of its file, whatever ``source`` says.

    Yields:
        the rows that have a label.

    Raises:
        InputError: the first row that cannot be used, ``file:line: field: problem; fix``.
        MissingExtraError: Parquet, and pyarrow is not installed.
    """
    for row in read_each(path, columns=columns, source_from_file=source_from_file):
        if isinstance(row, InputError):
            raise row
        if row.labels:
            yield row


def read_each(
    path: str | Path | Sequence[str | Path], *, columns: Columns | None = None, source_from_file: bool = False
) -> Iterator[TrainingRow | InputError]:
    """What each line of some files is: a row, with or without labels, or what is wrong with it. See :func:`read_rows`.

    Raises:
        InputError: there is no such file.
        MissingExtraError: Parquet, and pyarrow is not installed.
    """
    chosen = columns or Columns()
    files = files_of([path] if isinstance(path, str | Path) else path)
    for file, own in zip(files, names_of(files), strict=True):
        name = stem_of(file)
        for record in each_record(file):
            if isinstance(record, InputError):
                yield record
                continue
            try:
                parsed = parse_row(record, chosen)
            except InputError as error:
                yield error
                continue
            yield TrainingRow(
                id=parsed.id or f"{own}:{record.line or record.number}",
                exchange=parsed.exchange,
                labels=parsed.labels,
                output=parsed.output,
                category=parsed.category,
                source=name if source_from_file else parsed.source or name,
                reasoning=parsed.reasoning,
                filled=parsed.filled,
            )


def write_rows(path: Path, rows: Iterable[TrainingRow]) -> int:
    """Write rows as JSON lines, whole or not at all.

    Args:
        path: the file; its folder is made.
        rows: the rows.

    Returns:
        how many there were.

    Raises:
        InputError: the file cannot be written, for instance because the disk is full.
    """
    with errors_while_writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    count = itertools.count()
    write_atomic(path, (_line(row) for row, _ in zip(rows, count, strict=False)))
    return next(count)


def hub_rows(splits: Sequence[str] = SPLITS, *, repo: str = HUB, revision: str = "main") -> Iterator[TrainingRow]:
    """The paper's training data, from the hub or a copy of it. A row's source is its split.

    Args:
        splits: which parts of it.
        repo: the repository, or a folder with its files.
        revision: commit, branch or tag.

    Raises:
        InputError: it cannot be downloaded or read.
        MissingExtraError: downloading needs an extra.
    """
    from guardreasoner_training.rows.hub import split_files

    for split, files in split_files(repo, splits, revision).items():
        for number, row in enumerate(read_rows(files), 1):
            yield replace(row, id=f"{split}:{number}", source=split)


def from_source(source: str, patterns: Iterable[str]) -> bool:
    """Whether a source is one of those meant.

    Args:
        source: the row's.
        patterns: names, ``*`` standing for anything; capitals do not matter.
    """
    return any(fnmatchcase(source.lower(), pattern.lower()) for pattern in patterns)


def _line(row: TrainingRow) -> str:
    values: dict[str, Any] = {"id": row.id, "prompt": row.exchange.prompt, "response": row.exchange.response}
    if row.exchange.history:
        values["history"] = [turn.model_dump() for turn in row.exchange.history]
    values |= {FIELDS[task]: row.labels.get(task) for task in TASKS}
    values |= {"output": row.output, "category": row.category, "source": row.source}
    if row.reasoning:
        values["reasoning"] = {task: list(steps) for task, steps in row.reasoning.items()}
    if row.filled:
        values["filled"] = list(row.filled)
    return json_text(values) + "\n"
