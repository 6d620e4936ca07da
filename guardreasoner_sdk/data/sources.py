"""Which reader a file needs, and whether the file can be read at all."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from guardreasoner_sdk._text import quoted
from guardreasoner_sdk.data.encodings import check_encoding, looks_like
from guardreasoner_sdk.data.jsonl import open_binary
from guardreasoner_sdk.data.rows import Columns, Source, reading
from guardreasoner_sdk.errors import InputError

__all__ = ["FORMATS", "Reading", "open_source"]

FORMATS = ("jsonl", "json", "csv", "parquet", "lines")
"""What rows may be written in; ``lines`` is a prompt on each line."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How a file of rows is to be read.

    Args:
        format: one of :data:`FORMATS`; None: as the ending of its name says.
        columns: where the texts stand.
        encoding: of the text, by Python's name; None: UTF-8.
        delimiter: what stands between two cells of CSV; None: a tab in a ``.tsv`` file, else a comma.

    Raises:
        InputError: no such format or encoding, or a delimiter that cannot be one.
    """

    format: str | None = None
    columns: Columns = field(default_factory=Columns)
    encoding: str | None = None
    delimiter: str | None = None

    def __post_init__(self) -> None:
        if self.format is not None and self.format not in FORMATS:
            raise InputError("--format", f"{quoted(self.format)} is unknown", f"use {', '.join(FORMATS)}")
        if self.encoding is not None:
            object.__setattr__(self, "encoding", check_encoding(self.encoding))
        mark = {"tab": "\t", "\\t": "\t"}.get(self.delimiter or "", self.delimiter)
        if mark is not None and (len(mark) != 1 or mark in '"\r\n'):
            raise InputError("--delimiter", f"{quoted(mark)} is not one character", "say for instance ';' or tab")
        object.__setattr__(self, "delimiter", mark)


def open_source(path: Path, how: Reading) -> Source:
    """Find out how a file is to be read, and whether it can be.

    Args:
        path: the file.
        how: what is known of it.

    Raises:
        InputError: no such file, or no such column, or it is in another format or encoding.
        MissingExtraError: Parquet, and pyarrow is not installed.
    """
    _check_file(path)
    kind = how.format or _format(path)
    if how.delimiter is not None and kind != "csv":
        raise InputError("--delimiter", f"is for CSV, and {path} is read as {kind}", "leave it out, or say --format csv")
    if kind == "parquet":
        from guardreasoner_sdk.data.parquet import ParquetRows

        if how.encoding is not None:
            raise InputError("--encoding", f"is for text, and {path} is Parquet", "leave it out")
        return ParquetRows(path, how.columns)
    _check_encoding(path, how.encoding)
    if kind == "csv":
        from guardreasoner_sdk.data.csvrows import CsvRows

        tabs = ".tsv" in [ending.lower() for ending in path.suffixes[-2:]]
        return CsvRows(path, how.columns, how.encoding, how.delimiter or ("\t" if tabs else ","))
    if kind == "lines":
        from guardreasoner_sdk.data.textlines import TextLines

        return TextLines(path, how.encoding)
    from guardreasoner_sdk.data.jsonfile import JsonFile, holds_lines
    from guardreasoner_sdk.data.jsonl import JsonLines

    # JSON lines are often called .json: what the file holds counts.
    if kind == "jsonl" or holds_lines(path, how.encoding):
        return JsonLines(path, how.columns, how.encoding)
    return JsonFile(path, how.columns, how.encoding)


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise InputError("--file", f"{path} is a folder", "name a file in it")
    with reading(path):
        kind = path.stat()
        if not path.is_file():
            raise InputError(
                "--file", f"{path} is not a plain file", "save it first: a run can only go on in one it can reread"
            )
        if kind.st_size == 0:
            raise InputError("--file", f"{path} is empty", "write rows into it")


def _check_encoding(path: Path, encoding: str | None) -> None:
    """UTF-16 has no lines that could be read one by one; what else is not UTF-8 is told with its row."""
    if encoding is not None:
        return
    with reading(path), open_binary(path) as raw:
        found = looks_like(raw.read(1 << 12))
    if found is not None and found.startswith(("utf-16", "utf-32")):
        name = found[:6].upper()
        fix = f"convert it: iconv -f {found} -t utf-8 {path}, or say --encoding {found}"
        raise InputError("--file", f"{path} is {name}", fix)


_ENDINGS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
}


def _format(path: Path) -> str:
    endings = [ending.lower() for ending in path.suffixes[-2:]]
    if endings[-1:] == [".gz"]:
        endings.pop()
    found = _ENDINGS.get(endings[-1] if endings else "")
    if found is None:
        known = f"say --format {', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        fix = f"say --lines if each line is a prompt, else {known}" if endings[-1:] == [".txt"] else known
        raise InputError("--file", f"the ending of {path} is not one of {', '.join(_ENDINGS)}", fix)
    return found
