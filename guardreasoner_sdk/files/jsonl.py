"""Rows as JSON lines, plain or gzipped: one object on each physical line."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from guardreasoner_sdk.exchange import MAX_CHARACTERS
from guardreasoner_sdk.files.rows import Columns, Row, broken, make_row, reading

__all__ = ["JsonLines", "open_binary"]

_MOST_BYTES = 32 * MAX_CHARACTERS
"""Longest line held in memory: two texts of full length with every character escaped fit in."""

_BOM = b"\xef\xbb\xbf"


@contextmanager
def open_binary(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading, unpacked if it is gzipped, whatever its name says."""
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if not packed:
            yield raw
            return
        with gzip.GzipFile(fileobj=raw) as unpacked:
            yield unpacked  # type: ignore[misc]  # a GzipFile reads as a file does


class JsonLines:
    """A :class:`~guardreasoner_sdk.files.rows.Source`; a record is the bytes of a line, None for one too long to hold.

    Args:
        path: the file.
        columns: the keys of the texts.
    """

    format = "jsonl"
    unit = "line"

    def __init__(self, path: Path, columns: Columns) -> None:
        self._path = path
        self._columns = columns

    def records(self) -> Iterator[bytes | None]:
        """The lines. Blank ones at the end of the file are no rows."""
        with reading(self._path), open_binary(self._path) as file:
            blanks = 0
            first = True
            while line := file.readline(_MOST_BYTES):
                long = not _ends(line)
                while long and not _ends(file.readline(_MOST_BYTES)):
                    pass
                if first:
                    line, first = line.removeprefix(_BOM), False
                if not long and not line.strip():
                    blanks += 1
                    continue
                yield from [b""] * blanks
                blanks = 0
                yield None if long else line

    def row(self, number: int, record: bytes | None) -> Row:
        """Parse a line."""
        place = f"line {number}"
        if record is None:
            return broken(number, place, f"has more than {_MOST_BYTES:,} bytes", "split it and check the parts")
        if not record.strip():
            return broken(number, place, "is blank", "remove it")
        try:
            value = json.loads(record.decode("utf-8"), parse_constant=_no_constant)
        except UnicodeDecodeError as error:
            return broken(number, place, f"is not UTF-8 at byte {error.start + 1:,}", "convert it, e.g. with iconv -t utf-8")
        except json.JSONDecodeError as error:
            if b"\x00" in record:
                return broken(number, place, "holds a NUL byte", "remove it, or write it as \\u0000 inside a string")
            problem = f"is not JSON ({error.msg.lower()} at character {error.pos + 1:,})"
            return broken(number, place, problem, "write one JSON object on each line")
        except RecursionError:
            return broken(number, place, "is nested too deeply", 'write {"prompt": "...", "response": "..."}')
        except ValueError as error:
            return broken(number, place, f"is not JSON ({error})", "write one JSON object on each line")
        if not isinstance(value, dict):
            kind = {list: "list", str: "string", type(None): "null"}.get(type(value), "number or truth value")
            return broken(number, place, f"is a JSON {kind}, not an object", 'write {"prompt": "...", "response": "..."}')
        return make_row(number, place, value, self._columns)


def _ends(line: bytes) -> bool:
    """Whether a line that was read with a limit reached its end, or that of the file."""
    return len(line) < _MOST_BYTES or line.endswith(b"\n")


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")
