"""Which reader a file needs, and whether the file can be read at all."""

from __future__ import annotations

from pathlib import Path

from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.files.rows import Columns, Source, reading

__all__ = ["open_source"]


def open_source(path: Path, asked: str | None, columns: Columns) -> Source:
    """Find out how a file is to be read, and whether it can be.

    Args:
        path: the file.
        asked: its format, or None to go by the ending of its name.
        columns: where the texts stand.

    Raises:
        InputError: no such file, no such format, or no such column.
        MissingExtraError: Parquet, and pyarrow is not installed.
    """
    _check_file(path)
    match _format(path, asked):
        case "jsonl":
            from guardreasoner_sdk.files.jsonl import JsonLines

            return JsonLines(path, columns)
        case "csv":
            from guardreasoner_sdk.files.csvrows import CsvRows

            return CsvRows(path, columns)
        case _:
            from guardreasoner_sdk.files.parquet import ParquetRows

            return ParquetRows(path, columns)


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
            raise InputError("--file", f"{path} is empty", "write one row per line into it")
        with path.open("rb") as raw:
            start = raw.read(2)
    if start in (b"\xff\xfe", b"\xfe\xff"):
        raise InputError("--file", f"{path} is UTF-16", f"convert it: iconv -f utf-16 -t utf-8 {path}")


_ENDINGS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet"}


def _format(path: Path, asked: str | None) -> str:
    if asked is not None:
        if asked not in _ENDINGS.values():
            raise InputError("--format", f"{asked!r} is unknown", "use jsonl, csv or parquet")
        return asked
    endings = [ending.lower() for ending in path.suffixes[-2:]]
    if endings[-1:] == [".gz"]:
        endings.pop()
    found = _ENDINGS.get(endings[-1] if endings else "")
    if found is None:
        fix = "jq -c '.[]' turns a list into JSON lines" if endings[-1:] == [".json"] else "say --format jsonl, csv or parquet"
        raise InputError("--file", f"the ending of {path} is not one of {', '.join(_ENDINGS)}", fix)
    return found
