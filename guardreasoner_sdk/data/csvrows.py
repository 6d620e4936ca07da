"""Rows as CSV, plain or gzipped: a header, then a record per row; an empty response cell means that there is none."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from guardreasoner_sdk.data.cells import restored
from guardreasoner_sdk.data.encodings import remedy
from guardreasoner_sdk.data.jsonl import open_binary
from guardreasoner_sdk.data.rows import CONVERSATIONS, Columns, Row, broken, make_row, reading
from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.exchange import MAX_CHARACTERS

__all__ = ["CsvRows"]

_Record = tuple[int, "list[str] | csv.Error"]

_UNDECODABLE = re.compile("[\udc80-\udcff]")
"""What ``surrogateescape`` makes of bytes that are not UTF-8: the row is broken, the file goes on."""

_MOST_CHARACTERS = 2 * MAX_CHARACTERS
"""Longest cell held in memory: a quote that is never closed must not swallow a file of any size."""


_OWN = ("row", "id", "action", "allowed", "undetermined")
"""How a table of verdicts begins: its cells are restored to what they were before they were neutralised."""

_OTHER_DELIMITERS = (";", "\t", "|")


class CsvRows:
    """A :class:`~guardreasoner_sdk.data.rows.Source`; a record is the line it begins on and its cells, or what is wrong.

    Args:
        path: the file.
        columns: the columns of the texts.
        encoding: of the file; None: UTF-8.
        delimiter: what stands between two cells.

    Raises:
        InputError: there is no header with these columns.
    """

    format = "csv"
    unit = "row"

    def __init__(self, path: Path, columns: Columns, encoding: str | None = None, delimiter: str = ",") -> None:
        self._path = path
        self._columns = columns
        self._encoding = encoding
        self._delimiter = delimiter
        _, header = next(self._all(), (1, []))
        undecodable = not isinstance(header, csv.Error) and _UNDECODABLE.search("".join(header))
        if undecodable:
            with reading(path), open_binary(path) as raw:
                start = raw.read(1 << 16)
            raise InputError("--file", f"{path} has a first line that is not CSV in {encoding or 'UTF-8'}", remedy(start))
        if isinstance(header, csv.Error):
            raise InputError("--file", f"{path} has a first line that is not CSV ({header})", "write the column names there")
        self._names = [name.strip() for name in header]
        if columns.prompt not in self._names and (other := self._other_delimiter()) is not None:
            shown = "tab" if other == "\t" else other
            raise InputError("--delimiter", f"{path} has its cells parted by {shown!r}", f"say --delimiter {shown!r}")
        columns.check(path, self._names)
        self._own = tuple(self._names[: len(_OWN)]) == _OWN

    def _other_delimiter(self) -> str | None:
        """What parts the cells, where the header would have the prompt's column with another delimiter."""
        cells = self._delimiter.join(self._names)
        parted = {mark: [name.strip().strip('"') for name in cells.split(mark)] for mark in _OTHER_DELIMITERS}
        return next((mark for mark, names in parted.items() if self._columns.prompt in names and len(names) > 1), None)

    def records(self) -> Iterator[tuple[int, _Record]]:
        """The records after the header. Blank ones at the end of the file are no rows."""
        blanks: list[_Record] = []
        number = 0
        for place, record in enumerate(self._all()):
            if place == 0:
                continue
            if record[1] == []:
                blanks.append(record)
                continue
            for each in (*blanks, record):
                number += 1
                yield number, each
            blanks = []

    def _all(self) -> Iterator[_Record]:
        csv.field_size_limit(_MOST_CHARACTERS)
        with (
            reading(self._path),
            open_binary(self._path, self._encoding) as raw,
            io.TextIOWrapper(raw, "utf-8-sig", errors="surrogateescape", newline="") as text,
        ):
            reader = csv.reader(text, strict=True, delimiter=self._delimiter)
            while True:
                line = reader.line_num + 1
                try:
                    yield line, next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    yield line, error

    def row(self, number: int, record: _Record) -> Row:
        """Check a record."""
        line, cells = record
        place = f"row {number} (line {line})"
        if isinstance(cells, csv.Error):
            return broken(number, place, f"is not CSV ({cells})", 'put texts in quotes, and double the quotes in them: ""')
        if not cells:
            return broken(number, place, "is blank", "remove it")
        if len(cells) != len(self._names):
            problem = f"has {len(cells)} cells, the header has {len(self._names)}"
            return broken(number, place, problem, "put texts with commas or line breaks in quotes")
        if _UNDECODABLE.search(whole := self._delimiter.join(cells)):
            return broken(number, place, "is not UTF-8", remedy(whole.encode("utf-8", "surrogateescape")))
        if self._own:
            cells = [restored(cell) for cell in cells]
        found = dict(zip(self._names, cells, strict=True))
        values: dict[str, Any] = {name: found.get(name) or None for name in ("id", self._columns.response)}
        if self._columns.prompt in found:
            values[self._columns.prompt] = found[self._columns.prompt]
        # A cell holds a list of turns as JSON, which is read where every row is.
        values |= {name: found[name] or None for name in ("history", *CONVERSATIONS) if name in found and name not in values}
        return make_row(number, place, values, self._columns)
