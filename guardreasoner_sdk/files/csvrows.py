"""Rows as CSV, plain or gzipped: a header, then a record per row; an empty response cell means that there is none."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.exchange import MAX_CHARACTERS
from guardreasoner_sdk.files.jsonl import open_binary
from guardreasoner_sdk.files.rows import Columns, Row, broken, make_row, reading

__all__ = ["CsvRows"]

_Record = tuple[int, "list[str] | csv.Error"]

_UNDECODABLE = re.compile("[\udc80-\udcff]")
"""What ``surrogateescape`` makes of bytes that are not UTF-8: the row is broken, the file goes on."""

_MOST_CHARACTERS = 2 * MAX_CHARACTERS
"""Longest cell held in memory: a quote that is never closed must not swallow a file of any size."""


class CsvRows:
    """A :class:`~guardreasoner_sdk.files.rows.Source`; a record is the line it begins on and its cells, or what is wrong.

    Args:
        path: the file.
        columns: the columns of the texts.

    Raises:
        InputError: there is no header with these columns.
    """

    format = "csv"
    unit = "row"

    def __init__(self, path: Path, columns: Columns) -> None:
        self._path = path
        self._columns = columns
        _, header = next(self._all(), (1, []))
        if isinstance(header, csv.Error) or _UNDECODABLE.search("".join(header)):
            raise InputError("--file", f"{path} has a first line that is not CSV in UTF-8", "write the column names there")
        self._names = [name.strip() for name in header]
        columns.check(path, self._names)

    def records(self) -> Iterator[_Record]:
        """The records after the header. Blank ones at the end of the file are no rows."""
        blanks: list[_Record] = []
        for place, record in enumerate(self._all()):
            if place == 0:
                continue
            if record[1] == []:
                blanks.append(record)
                continue
            yield from blanks
            blanks = []
            yield record

    def _all(self) -> Iterator[_Record]:
        csv.field_size_limit(_MOST_CHARACTERS)
        with (
            reading(self._path),
            open_binary(self._path) as raw,
            io.TextIOWrapper(raw, "utf-8-sig", errors="surrogateescape", newline="") as text,
        ):
            reader = csv.reader(text, strict=True)
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
        if _UNDECODABLE.search("".join(cells)):
            return broken(number, place, "is not UTF-8", "convert the file, e.g. with iconv -t utf-8")
        found = dict(zip(self._names, cells, strict=True))
        # No "history": a cell can hold no list of turns.
        values: dict[str, str | None] = {name: found.get(name) or None for name in ("id", self._columns.response)}
        values[self._columns.prompt] = found[self._columns.prompt]
        return make_row(number, place, values, self._columns)
