"""Which reader a file of rows needs, and the readers of lines and tables of text."""

from __future__ import annotations

import csv
import dataclasses
import io
import re
from collections.abc import Iterator
from pathlib import Path

from guardreasoner_sdk._text import JsonError
from guardreasoner_sdk.data.encodings import looks_like
from guardreasoner_sdk.data.records import (
    ENDINGS,
    FORMATS,
    Fault,
    Reading,
    Record,
    RowSource,
    ending_of,
    errors_while_reading,
    json_object,
    lines_in,
    open_unpacked,
    too_long,
)
from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.exchange import MAX_CHARACTERS

__all__ = [
    "CsvRows",
    "JsonLines",
    "TextLines",
    "each_record",
    "escape_formula",
    "open_source",
    "records_of",
    "unescape_formula",
]

_AN_OBJECT = 'write {"prompt": "...", "response": "..."}'
_UNDECODABLE = re.compile("[\udc80-\udcff]")
"""What ``surrogateescape`` makes of bytes that are not UTF-8: the row is broken, the file goes on."""

_MOST_CHARACTERS = 2 * MAX_CHARACTERS
"""Longest cell held in memory: a quote that is never closed must not swallow a file of any size."""

_OWN = ("row", "id", "action", "allowed", "undetermined")
"""How a table of verdicts begins: its cells are unescape_formula to what they were before they were neutralised."""

_OTHER_DELIMITERS = (";", "\t", "|")


def open_source(path: Path, how: Reading) -> RowSource:
    """Find out how a file is to be read, and whether it can be.

    Raises:
        InputError: no such file, or no such column, or it is in another format or encoding.
        MissingExtraError: Parquet, and pyarrow is not installed.
    """
    if not how.labelled:
        _check_file(path, how)
    if how.folder is None:
        how = dataclasses.replace(how, folder=path.parent)
    kind = how.format or _format(path, how)
    if how.delimiter is not None and kind != "csv":
        raise InputError("--delimiter", f"is for CSV, and {path} is read as {kind}", "leave it out, or pass --format csv")
    if kind == "parquet":
        from guardreasoner_sdk.data.parquet import ParquetRows

        if how.encoding is not None:
            raise InputError("--encoding", f"is for text, and {path} is Parquet", "leave it out")
        return ParquetRows(path, how)
    if not how.labelled:
        _check_encoding(path, how)
    if kind == "csv":
        return CsvRows(path, how)
    if kind == "lines":
        return TextLines(path, how)
    from guardreasoner_sdk.data.jsonfile import JsonFile, holds_lines

    # JSON lines are often called .json: what the file holds counts.
    return JsonLines(path, how) if kind == "jsonl" or holds_lines(path, how) else JsonFile(path, how)


def records_of(path: Path) -> Iterator[Record]:
    """The rows of a labelled file. Its format is told by the ending of its name.

    Args:
        path: ``.jsonl``, ``.ndjson``, ``.json``, ``.csv``, ``.tsv``, each also with ``.gz`` or ``.xz``, or ``.parquet``.

    Raises:
        InputError: no such file, no such format, or a row that cannot be read, with its line.
        MissingExtraError: Parquet, and pyarrow is not installed.
    """
    for found in _labelled(path):
        place = f"{path}, {found.place}"
        if isinstance(found, Fault):
            raise InputError(place, found.problem, found.fix)
        yield found._replace(place=place)


def each_record(path: Path) -> Iterator[Record | InputError]:
    """Each row of a labelled file, or what is wrong with it: a broken one does not stop the others.

    Args:
        path: as in :func:`records_of`.

    Raises:
        InputError: the file cannot be read at all, or not on from some place.
        MissingExtraError: Parquet, and pyarrow is not installed.
    """
    for found in _labelled(path):
        place = f"{path}, {found.place}" if found.line is None else f"{path}:{found.line}"
        if isinstance(found, Fault):
            yield InputError(place, found.problem, found.fix)
        else:
            yield found._replace(place=place)


def _labelled(path: Path) -> Iterator[Record | Fault]:
    source = open_source(path, Reading(labelled=True))
    if len(set(source.names)) < len(source.names):
        raise InputError(f"{path}, the header", "has two columns of the same name", "rename one of them")
    for number, record in source.records():
        yield source.read(number, record)


class JsonLines:
    """JSON lines: a record is the bytes of a line, None for one too long to hold. A :class:`Source`."""

    format = "jsonl"
    unit = "line"

    def __init__(self, path: Path, how: Reading) -> None:
        self._path = path
        self.how = how

    @property
    def names(self) -> list[str]:
        """None: every line has its own."""
        return []

    def records(self) -> Iterator[tuple[int, bytes | None]]:
        """The lines that hold anything."""
        return lines_in(self._path, self.how)

    def read(self, number: int, record: bytes | None) -> Record | Fault:
        """Parse a line."""
        place = f"line {number}"
        if record is None:
            return Fault(number, place, too_long(), "split it and check the parts", number)
        try:
            return Record(number, place, json_object(record, finite=not self.how.labelled), number)
        except JsonError as error:
            problem, fix = str(error), "write one JSON object on each line"
            if problem.startswith("is not UTF-8"):
                fix = self.how.remedy(record)
            elif problem == "is nested too deeply" or problem.endswith("not an object"):
                fix = _AN_OBJECT
            elif b"\x00" in record:
                problem, fix = "holds a NUL byte", "remove it, or write it as \\u0000 inside a string"
            return Fault(number, place, problem, fix, number)


class TextLines(JsonLines):
    """Prompts as lines of text: one prompt on each line that holds anything. A record is the bytes of a line."""

    format = "lines"

    def read(self, number: int, record: bytes | None) -> Record | Fault:
        """Take a line for a prompt."""
        place = f"line {number}"
        if record is None:
            return Fault(number, place, "is too long", "split it and check the parts", number)
        try:
            text = record.decode("utf-8")
        except UnicodeDecodeError as error:
            return Fault(number, place, f"is not UTF-8 at byte {error.start + 1:,}", self.how.remedy(record), number)
        return Record(number, place, {self.how.columns.prompt: text.removesuffix("\n").removesuffix("\r")}, number)


_Cells = tuple[int, "list[str] | csv.Error"]


class CsvRows:
    """CSV: a header, then a record a row, which is the line it begins on and its cells, or what is wrong. A :class:`RowSource`.

    Raises:
        InputError: there is no header with the columns that are needed.
    """

    format = "csv"
    unit = "row"

    def __init__(self, path: Path, how: Reading) -> None:
        self._path = path
        self.how = how
        self._delimiter = how.delimiter or ("\t" if ending_of(path) == ".tsv" else ",")
        _, header = next(filter(_holds_anything, self._all()), (1, []))
        if isinstance(header, csv.Error):
            raise how.error(path, f"has a first line that is not CSV ({header})", "write the column names there")
        if _UNDECODABLE.search("".join(header)):
            with errors_while_reading(path, how.option), open_unpacked(path) as raw:
                start = raw.read(1 << 16)
            raise how.error(path, f"has a first line that is not CSV in {how.encoding or 'UTF-8'}", how.remedy(start))
        self._names = [name.strip() for name in header]
        self._own = tuple(self._names[: len(_OWN)]) == _OWN
        if how.labelled:
            return
        if how.columns.prompt not in self._names and (other := self._other_delimiter()) is not None:
            shown = "tab" if other == "\t" else other
            raise InputError("--delimiter", f"{path} has its cells separated by {shown!r}", f"pass --delimiter {shown!r}")
        how.columns.check(path, self._names)

    @property
    def names(self) -> list[str]:
        """Those in the header."""
        return self._names

    def _other_delimiter(self) -> str | None:
        """What parts the cells, where the header would have the prompt's column with another delimiter."""
        cells = self._delimiter.join(self._names)
        parted = {mark: [name.strip().strip('"') for name in cells.split(mark)] for mark in _OTHER_DELIMITERS}
        prompt = self.how.columns.prompt
        return next((mark for mark, names in parted.items() if prompt in names and len(names) > 1), None)

    def records(self) -> Iterator[tuple[int, _Cells]]:
        """The records after the header. Blank ones at the end of the file are no rows, and in a labelled one none is."""
        records = self._all()
        next(filter(_holds_anything, records), None)
        blanks: list[_Cells] = []
        number = 0
        for record in records:
            if not _holds_anything(record):
                if not self.how.labelled:
                    blanks.append(record)
                continue
            for each in (*blanks, record):
                number += 1
                yield number, each
            blanks = []

    def _all(self) -> Iterator[_Cells]:
        csv.field_size_limit(_MOST_CHARACTERS)
        with (
            errors_while_reading(self._path, self.how.option),
            open_unpacked(self._path, self.how.encoding) as raw,
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

    def read(self, number: int, record: _Cells) -> Record | Fault:
        """Give the cells of a record their names."""
        line, cells = record
        place = f"row {number} (line {line})"
        if isinstance(cells, csv.Error):
            fix = 'put texts in quotes, and double the quotes in them: ""'
            return Fault(number, place, f"is not CSV ({cells})", fix, line)
        if not cells:
            return Fault(number, place, "is blank", "remove it", line)
        if len(cells) != len(self._names):
            problem = f"has {len(cells)} cells, the header has {len(self._names)}"
            return Fault(number, place, problem, "put texts with commas or line breaks in quotes", line)
        if _UNDECODABLE.search(whole := self._delimiter.join(cells)):
            return Fault(number, place, "is not UTF-8", self.how.remedy(whole.encode("utf-8", "surrogateescape")), line)
        if self._own:
            cells = [unescape_formula(cell) for cell in cells]
        return Record(number, place, dict(zip(self._names, cells, strict=True)), line, cells=True)


def _holds_anything(record: _Cells) -> bool:
    return record[1] != []


def _check_file(path: Path, how: Reading) -> None:
    if path.is_dir():
        raise how.error(path, "is a folder", "name a file in it")
    with errors_while_reading(path, how.option):
        kind = path.stat()
        if not path.is_file():
            raise how.error(path, "is not a plain file", "save it first: a run can only go on in one it can reread")
        if kind.st_size == 0:
            raise how.error(path, "is empty", "write rows into it")


def _check_encoding(path: Path, how: Reading) -> None:
    """UTF-16 has no lines that could be read one by one; what else is not UTF-8 is told with its row."""
    if how.encoding is not None:
        return
    with errors_while_reading(path, how.option), open_unpacked(path) as raw:
        found = looks_like(raw.read(1 << 12))
    if found is not None and found.startswith(("utf-16", "utf-32")):
        fix = f"convert it: iconv -f {found} -t utf-8 {path}, or pass --encoding {found}"
        raise how.error(path, f"is {found[:6].upper()}", fix)


def _format(path: Path, how: Reading) -> str:
    ending = ending_of(path)
    if ending in ENDINGS:
        return ENDINGS[ending]
    if how.labelled:
        raise how.error(path, f"has none of the endings {', '.join(ENDINGS)}", "rename or convert it")
    known = f"pass --format {', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
    fix = f"pass --lines if each line is a prompt, else {known}" if ending == ".txt" else known
    raise InputError("--file", f"the ending of {path} is not one of {', '.join(ENDINGS)}", fix)


# OWASP, "CSV Injection": what a spreadsheet takes for the beginning of a formula, in either width, and what it cuts off before
# it looks. The apostrophes in front are those of a text that begins like one that was neutralised.
_FORMULA = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")


def escape_formula(text: str) -> str:
    """A text as a cell: with an apostrophe in front where a spreadsheet would run it."""
    return f"'{text}" if _FORMULA.match(text) else text


def unescape_formula(cell: str) -> str:
    """The text that :func:`escape_formula` made a cell of."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
