"""What a file of rows holds, whatever its format: each row by the names of its values, or what is wrong with it."""

from __future__ import annotations

import gzip
import lzma
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any, Final, NamedTuple, Protocol

from guardreasoner_sdk._text import JsonError, parse_json, quote_value
from guardreasoner_sdk.data.columns import Columns
from guardreasoner_sdk.data.encodings import check_encoding, recode, remedy
from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.exchange import MAX_CHARACTERS

__all__ = [
    "ENDINGS",
    "FORMATS",
    "PACKED",
    "Fault",
    "Reading",
    "Record",
    "RowSource",
    "ending_of",
    "errors_while_reading",
    "json_object",
    "lines_in",
    "numbered_lines",
    "open_unpacked",
    "too_long",
    "whole_lines",
]

FORMATS: Final = ("jsonl", "json", "csv", "parquet", "lines")
"""What rows may be written in; ``lines`` is a prompt on each line."""

ENDINGS: Final[Mapping[str, str]] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
}
"""How the name of a file of rows ends, and the format that it says."""

PACKED: Final = (".gz", ".xz")
"""What may stand after that."""

_MOST_BYTES = 32 * MAX_CHARACTERS
"""Longest line held in memory: two texts of full length with every character escaped fit in."""

_BOM = b"\xef\xbb\xbf"


class Record(NamedTuple):
    """A row of a file as it is there.

    Args:
        number: its place, from 1: the line of JSON lines and lines of text, else the row.
        place: the same in words, for messages: ``row 3 (line 7)``.
        values: what it holds, by name.
        line: the line that it begins on, in formats that have lines.
        cells: whether the values are those of a table of text, in which an empty cell says nothing.
    """

    number: int
    place: str
    values: Mapping[str, Any]
    line: int | None = None
    cells: bool = False


class Fault(NamedTuple):
    """A row that cannot be read.

    Args:
        number: its place, as in :class:`Record`.
        place: the same in words.
        problem: what is wrong with it; never its text.
        fix: what to do about it.
        line: the line that it begins on, in formats that have lines.
    """

    number: int
    place: str
    problem: str
    fix: str
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """How a file of rows is to be read.

    Args:
        format: one of :data:`FORMATS`; None: as the ending of its name says.
        columns: where the texts stand.
        encoding: of the text, by Python's name; None: UTF-8.
        delimiter: what stands between two cells of CSV; None: a tab in a ``.tsv`` file, else a comma.
        labelled: whether the rows are those of an evaluation or a training: all that they hold is read, whatever its name, and
            errors name the file, where those of ``check --file`` name an option.
        named: what the file is called where it was given, for errors.
        folder: where the paths of images in the rows begin, and what they may not leave; None: the file's own.

    Raises:
        InputError: no such format or encoding, a delimiter that cannot be one, or one column for both texts.
    """

    format: str | None = None
    columns: Columns = field(default_factory=Columns)
    encoding: str | None = None
    delimiter: str | None = None
    labelled: bool = False
    named: str = "--file"
    folder: Path | None = None

    def __post_init__(self) -> None:
        if self.format is not None and self.format not in FORMATS:
            raise InputError("--format", f"{quote_value(self.format)} is unknown", f"use {', '.join(FORMATS)}")
        if self.columns.prompt == self.columns.response_name:
            raise InputError("--response-column", f"{self.columns.prompt!r} is the prompt's column too", "name two columns")
        if self.encoding is not None:
            object.__setattr__(self, "encoding", check_encoding(self.encoding))
        mark = {"tab": "\t", "\\t": "\t"}.get(self.delimiter or "", self.delimiter)
        if mark is not None and (len(mark) != 1 or mark in '"\r\n'):
            raise InputError("--delimiter", f"{quote_value(mark)} is not one character", "use for example ';' or tab")
        object.__setattr__(self, "delimiter", mark)

    @property
    def option(self) -> str | None:
        """The option that names the file; None where it is an argument of its own."""
        return None if self.labelled else self.named

    def error(self, path: Path, problem: str, fix: str) -> InputError:
        """What is wrong with a file as a whole."""
        return _error(path, problem, fix, self.option)

    def remedy(self, data: bytes) -> str:
        """What to do about a text that is not UTF-8.

        Args:
            data: the beginning of the file, or a line of it.
        """
        return remedy(data, option=not self.labelled)


class RowSource(Protocol):
    """A file of rows, read from its beginning each time it is asked for them.

    Attributes:
        format: one of :data:`FORMATS`.
        unit: what a row is called: ``line`` or ``row``.
        how: it is read.
    """

    format: str
    unit: str
    how: Reading

    @property
    def names(self) -> list[str]:
        """The columns, where the file has such; else nothing."""
        ...

    def records(self) -> Iterator[tuple[int, Any]]:
        """The rows as they stand, each behind its number, neither parsed nor checked, so that passing over them is cheap.

        Numbers begin at 1 and rise; those of blank lines are left out.

        Raises:
            InputError: the file cannot be read on.
        """
        ...

    def read(self, number: int, record: Any) -> Record | Fault:
        """Parse what :meth:`records` gave. Never raises."""
        ...


def ending_of(path: Path) -> str:
    """What tells the format of a file: the end of its name, in lower case and without that of the packing."""
    endings = [ending.lower() for ending in path.suffixes[-2:]]
    if endings and endings[-1] in PACKED:
        endings.pop()
    return endings[-1] if endings else ""


def _error(path: Path, problem: str, fix: str, option: str | None) -> InputError:
    return InputError(str(path), problem, fix) if option is None else InputError(option, f"{path} {problem}", fix)


@contextmanager
def errors_while_reading(path: Path, option: str | None = None) -> Iterator[None]:
    """Say of a failure to read which file it was.

    Args:
        option: the one that named it; None: it is an argument of its own.

    Raises:
        InputError: for every ``OSError``, and for a torn or unpackable file.
    """
    try:
        yield
    except FileNotFoundError:
        raise _error(path, "does not exist", "check the path", option) from None
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        problem = getattr(error, "strerror", None) or str(error)
        raise _error(path, f"cannot be read ({problem})", "check the file and its permissions", option) from None


@contextmanager
def open_unpacked(path: Path, encoding: str | None = None) -> Iterator[IO[bytes]]:
    """Open a file for reading, unpacked if it is packed, whatever its name says.

    Args:
        encoding: of its text, which is then read as UTF-8; None: as it stands.
    """
    with path.open("rb") as raw:
        magic = raw.read(6)
        raw.seek(0)
        unpack: Any = nullcontext
        if magic.startswith(b"\x1f\x8b"):
            unpack = partial(gzip.GzipFile, None, "rb", 9)
        elif magic == b"\xfd7zXZ\x00":
            unpack = lzma.LZMAFile
        with unpack(raw) as unpacked:
            yield unpacked if encoding is None else recode(unpacked, encoding)


def lines_in(path: Path, how: Reading = Reading(labelled=True)) -> Iterator[tuple[int, bytes | None]]:
    """The lines of a file that hold anything, with their numbers from 1; None for one too long to hold.

    Raises:
        InputError: it cannot be read on.
    """
    with errors_while_reading(path, how.option), open_unpacked(path, how.encoding) as file:
        yield from numbered_lines(file)


def numbered_lines(file: IO[bytes], *, after: int = 0) -> Iterator[tuple[int, bytes | None]]:
    """:func:`lines_in` of a file that is open, from the place where it stands.

    Args:
        after: how many lines stand before that.
    """
    number = after
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


def whole_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file that hold anything, with their numbers from 1.

    Raises:
        InputError: it cannot be read, or has a line too long to hold.
    """
    for number, line in lines_in(path):
        if line is None:
            raise InputError(f"{path}, line {number}", too_long(), "split its text")
        yield number, line


def json_object(line: bytes, *, finite: bool = False) -> dict[str, Any]:
    """The object that a line holds.

    Args:
        finite: whether a number without an end is none: JSON has no such thing, and programs write it all the same.

    Raises:
        JsonError: it holds none; the message says what it is instead, never its text.
    """
    value = parse_json(line, finite=finite)
    if not isinstance(value, dict):
        kind = {list: "list", str: "string", type(None): "null"}.get(type(value), "number or truth value")
        raise JsonError(f"is a JSON {kind}, not an object")
    return value


def too_long() -> str:
    """What is said of a line that is too long to hold."""
    return f"has more than {_MOST_BYTES:,} bytes"


def _ends(line: bytes) -> bool:
    """Whether a line that was read with a limit reached its end, or that of the file."""
    return len(line) < _MOST_BYTES or line.endswith(b"\n")
