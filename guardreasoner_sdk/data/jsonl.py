"""Rows as JSON lines, plain or gzipped: one object on each physical line."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from guardreasoner_sdk._text import JsonError, parse_json
from guardreasoner_sdk.data.encodings import recoded, remedy
from guardreasoner_sdk.data.rows import Columns, Row, broken, make_row, reading
from guardreasoner_sdk.exchange import MAX_CHARACTERS

__all__ = ["JsonLines", "lines_in", "open_binary"]

_MOST_BYTES = 32 * MAX_CHARACTERS
"""Longest line held in memory: two texts of full length with every character escaped fit in."""

_BOM = b"\xef\xbb\xbf"


@contextmanager
def open_binary(path: Path, encoding: str | None = None) -> Iterator[IO[bytes]]:
    """Open a file for reading, unpacked if it is gzipped, whatever its name says.

    Args:
        path: the file.
        encoding: of its text, which is then read as UTF-8; None: as it stands.
    """
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if not packed:
            yield raw if encoding is None else recoded(raw, encoding)
            return
        with gzip.GzipFile(fileobj=raw) as unpacked:
            yield unpacked if encoding is None else recoded(unpacked, encoding)  # type: ignore[misc, arg-type]  # it is one


def lines_in(path: Path, encoding: str | None) -> Iterator[tuple[int, bytes | None]]:
    """The lines of a file that hold anything, with their numbers from 1; None for one too long to hold.

    Args:
        path: the file.
        encoding: of its text; None: UTF-8.
    """
    with reading(path), open_binary(path, encoding) as file:
        number = 0
        while line := file.readline(_MOST_BYTES):
            number += 1
            long = not _ends(line)
            while long and not _ends(file.readline(_MOST_BYTES)):
                pass
            if number == 1:
                line = line.removeprefix(_BOM)
            if long:
                yield number, None
            elif line.strip():
                yield number, line


class JsonLines:
    """A :class:`~guardreasoner_sdk.data.rows.Source`; a record is the bytes of a line, None for one too long to hold.

    Args:
        path: the file.
        columns: the keys of the texts.
        encoding: of the file; None: UTF-8.
    """

    format = "jsonl"
    unit = "line"

    def __init__(self, path: Path, columns: Columns, encoding: str | None = None) -> None:
        self._path = path
        self._columns = columns
        self._encoding = encoding

    def records(self) -> Iterator[tuple[int, bytes | None]]:
        """The lines that hold anything."""
        return lines_in(self._path, self._encoding)

    def row(self, number: int, record: bytes | None) -> Row:
        """Parse a line."""
        place = f"line {number}"
        if record is None:
            return broken(number, place, f"has more than {_MOST_BYTES:,} bytes", "split it and check the parts")
        try:
            value = parse_json(record)
        except JsonError as error:
            problem = str(error)
            fix = "write one JSON object on each line"
            if problem.startswith("is not UTF-8"):
                fix = remedy(record)
            elif problem == "is nested too deeply":
                fix = 'write {"prompt": "...", "response": "..."}'
            elif b"\x00" in record:
                problem, fix = "holds a NUL byte", "remove it, or write it as \\u0000 inside a string"
            return broken(number, place, problem, fix)
        if not isinstance(value, dict):
            kind = {list: "list", str: "string", type(None): "null"}.get(type(value), "number or truth value")
            return broken(number, place, f"is a JSON {kind}, not an object", 'write {"prompt": "...", "response": "..."}')
        return make_row(number, place, value, self._columns)


def _ends(line: bytes) -> bool:
    """Whether a line that was read with a limit reached its end, or that of the file."""
    return len(line) < _MOST_BYTES or line.endswith(b"\n")
