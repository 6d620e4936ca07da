"""A user's labelled file as an audit sees it: its rows by number, and how it writes its labels."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from guardreasoner_sdk.data.columns import Columns
from guardreasoner_sdk.data.readers import records_of
from guardreasoner_sdk.data.records import Record, errors_while_reading
from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.verdict import LABELS, Task

__all__ = ["AuditedRow", "LabelledSet", "digest_of", "other_word"]


class AuditedRow(NamedTuple):
    """A labelled row.

    Args:
        number: its place in the file, from 1: the line of JSON lines, else the row.
        id: its name in the file, or its number.
        exchange: what is judged.
        labels: as given: True for the positive label (harmful, refusal).
        cells: per task the label's column and what is there.
    """

    number: int
    id: str
    exchange: Exchange
    labels: dict[Task, bool]
    cells: dict[Task, tuple[str, Any]]


@dataclass(slots=True)
class LabelledSet:
    """A file of labelled rows, read from its beginning each time it is asked for them.

    Args:
        path: the file.
        settings: which column holds what, as ``--column`` takes it.

    Raises:
        InputError: a setting says nothing that is known.
    """

    path: Path
    settings: Sequence[str] = ()
    _columns: Columns = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._columns = Columns.parse(self.settings)

    def name(self) -> str:
        """A name of these labels, which decisions on them carry: a hash of the file and of the columns.

        Raises:
            InputError: the file cannot be read.
        """
        return hashlib.sha256(json.dumps([digest_of(self.path), *self.settings]).encode()).hexdigest()[:16]

    def rows(self) -> Iterator[AuditedRow]:
        """The rows that carry a label, in order.

        Raises:
            InputError: the file or a row cannot be read, or a word is not a label; with the line.
        """
        for record in records_of(self.path):
            row = self._columns.row(record)
            if row is None:
                continue
            try:
                exchange = Exchange(row.prompt, row.response)
            except InputError as error:
                raise InputError(f"{row.place}, {error.field}", error.problem, error.fix) from None
            cells = {task: _cell(self._columns, task, record) for task in row.labels}
            yield AuditedRow(record.number, row.id, exchange, row.labels, cells)

    def check(self) -> tuple[int, int]:
        """Read all of it once, before anything is judged.

        Returns:
            how many rows there are, and how many of them carry a label.

        Raises:
            InputError: a row cannot be read, or none carries a label.
        """
        labelled = sum(1 for _ in self.rows())
        if not labelled:
            fix = "label some, or name the column, for example --column prompt_harmfulness=toxic"
            raise InputError(str(self.path), "has no labelled row", fix)
        return sum(1 for _ in records_of(self.path)), labelled

    def words(self) -> dict[tuple[str, bool], Any]:
        """The word that the file writes for each label of each column, the commonest where there are more."""
        seen: dict[tuple[str, bool], Counter[Any]] = {}
        for row in self.rows():
            for task, label in row.labels.items():
                column, value = row.cells[task]
                seen.setdefault((column, label), Counter())[value] += 1
        return {place: counts.most_common(1)[0][0] for place, counts in seen.items()}


def other_word(task: Task, column: str, value: Any, label: bool, words: dict[tuple[str, bool], Any]) -> Any:
    """What to write for a label that is turned over."""
    if isinstance(value, bool | int | float) and value in (0, 1):
        # Of the value and not of its meaning: in a column "is_safe" they are each other's opposite.
        return type(value)(not value)
    return words.get((column, not label), _OPPOSITES.get(str(value).strip().lower(), LABELS[task][label]))


_PAIRS = (("harmful", "unharmful"), ("unsafe", "safe"), ("refusal", "compliance"), ("true", "false"), ("yes", "no"), ("1", "0"))
_OPPOSITES = {word: other for pair in _PAIRS for word, other in (pair, pair[::-1])}


def _cell(columns: Columns, task: Task, record: Record) -> tuple[str, Any]:
    name = columns.column_of(task, record.values)
    assert name is not None  # noqa: S101 - the row has a label for this task
    return name, record.values[name]


def digest_of(path: Path) -> str:
    """SHA-256 of a file.

    Raises:
        InputError: it cannot be read.
    """
    with errors_while_reading(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
