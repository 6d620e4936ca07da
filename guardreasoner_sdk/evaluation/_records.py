"""The rows of a file, whatever its format: JSON lines, a JSON list, CSV or Parquet; texts also packed with gzip or xz."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import lzma
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from guardreasoner_sdk.data.encodings import looks_like
from guardreasoner_sdk.data.jsonfile import are_objects, lists_in
from guardreasoner_sdk.data.parquet import rows_in
from guardreasoner_sdk.errors import InputError, MissingExtraError
from guardreasoner_sdk.exchange import MAX_CHARACTERS

__all__ = [
    "ENDINGS",
    "PACKED",
    "Record",
    "ending_of",
    "json_entries",
    "json_object",
    "lines_of",
    "not_utf8",
    "open_bytes",
    "reading",
    "records_of",
]

ENDINGS = (".jsonl", ".ndjson", ".json", ".csv", ".parquet")
"""How the name of a file of rows ends."""

PACKED = (".gz", ".xz")
"""What may stand behind that."""

_MOST_BYTES = 32 * MAX_CHARACTERS
"""Longest line held in memory: two texts of full length with every character escaped fit in."""

_BATCH = 256


class Record(NamedTuple):
    """One row of a file.

    Args:
        number: its place, from 1: the line of JSON lines, else the row.
        place: the same in words, for messages: ``rows.csv, row 3 (line 7)``.
        values: its cells by name.
    """

    number: int
    place: str
    values: Mapping[str, Any]


def records_of(path: Path) -> Iterator[Record]:
    """The rows of a file. Its format is told by the ending of its name.

    Args:
        path: ``.jsonl``, ``.ndjson``, ``.json``, ``.csv``, each also with ``.gz`` or ``.xz``, or ``.parquet``.

    Raises:
        InputError: no such file, no such format, or a row that cannot be read, with its line.
        MissingExtraError: Parquet, and pyarrow is not installed.
    """
    match ending_of(path):
        case ".jsonl" | ".ndjson":
            return _json_lines(path)
        case ".json":
            return _json_whole(path)
        case ".csv":
            return _csv(path)
        case ".parquet":
            return _parquet(path)
    raise InputError(str(path), "has none of the endings .jsonl, .json, .csv, .parquet", "rename or convert it")


def ending_of(path: Path) -> str:
    """What tells the format of a file: the end of its name, in lower case and without that of the packing.

    Args:
        path: the file.
    """
    endings = [ending.lower() for ending in path.suffixes[-2:]]
    if endings and endings[-1] in PACKED:
        endings.pop()
    return endings[-1] if endings else ""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Say of a failure to read which file it was.

    Raises:
        InputError: for every ``OSError``, and for a torn or unpackable file.
    """
    import zlib

    try:
        yield
    except FileNotFoundError:
        raise InputError(str(path), "does not exist", "check the path") from None
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        problem = getattr(error, "strerror", None) or str(error)
        raise InputError(str(path), f"cannot be read ({problem})", "check the file and its permissions") from None


@contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading, unpacked if it is packed, whatever its name says."""
    with path.open("rb") as raw:
        magic = raw.read(6)
        raw.seek(0)
        if magic[:2] == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=raw) as unpacked:
                yield unpacked  # type: ignore[misc]  # a GzipFile reads as a file does
        elif magic == b"\xfd7zXZ\x00":
            with lzma.LZMAFile(raw) as unpacked_xz:
                yield unpacked_xz
        else:
            yield raw


def lines_of(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file that hold anything, with their numbers from 1.

    Raises:
        InputError: it cannot be read, or has a line too long to hold.
    """
    with reading(path), open_bytes(path) as file:
        number = 0
        while line := file.readline(_MOST_BYTES):
            number += 1
            if len(line) == _MOST_BYTES and not line.endswith(b"\n"):
                raise InputError(f"{path}, line {number}", f"has more than {_MOST_BYTES:,} bytes", "split its text")
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if line.strip():
                yield number, line


def json_object(line: bytes) -> dict[str, Any]:
    """The object that a line holds.

    Raises:
        ValueError: it holds none; the message says what it is instead, never its text.
    """
    try:
        value = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 at byte {error.start + 1:,}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON ({error.msg.lower()} at character {error.pos + 1:,})") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except ValueError:  # Python reads no integer of thousands of digits
        raise ValueError("holds a number of too many digits") from None
    if not isinstance(value, dict):
        raise ValueError(f"is a JSON {type(value).__name__}, not an object")
    return value


def _json_lines(path: Path) -> Iterator[Record]:
    for number, line in lines_of(path):
        place = f"{path}, line {number}"
        try:
            values = json_object(line)
        except ValueError as error:
            raise InputError(place, str(error), "write one JSON object on each line") from None
        yield Record(number, place, values)


def _json_whole(path: Path) -> Iterator[Record]:
    for entry in json_entries(path):
        if isinstance(entry, InputError):
            raise entry
        yield entry


def json_entries(path: Path) -> Iterator[Record | InputError]:
    """The rows of a JSON document: a list of objects, wherever in it they stand, in order; what is no object is told.

    In an object of lists, each row has the name that led to it under ``key``. JSON lines are read as such, whatever the file
    is called.

    Args:
        path: the file.

    Raises:
        InputError: it cannot be read as a whole.
    """
    if are_objects([line for _, line in itertools.islice(lines_of(path), 2)]):
        yield from _json_lines(path)
        return
    with reading(path), open_bytes(path) as file:
        data = file.read()
    try:
        whole = json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InputError(str(path), f"is not UTF-8 at byte {error.start + 1:,}", not_utf8(data)) from None
    except json.JSONDecodeError as error:
        problem = f"is not JSON ({error.msg.lower()} in line {error.lineno:,})"
        raise InputError(str(path), problem, "write a JSON list of objects, or one object on each line") from None
    except RecursionError:
        raise InputError(str(path), "is nested too deeply", "write a JSON list of objects") from None
    except ValueError:  # Python reads no integer of thousands of digits
        raise InputError(str(path), "holds a number of too many digits", "write it as text, or leave it out") from None
    lists = lists_in(whole)
    if not lists:
        raise InputError(str(path), f"is a JSON {type(whole).__name__}, not a list", "write a JSON list of objects")
    named = ((path_in[0] if path_in else 0, row) for path_in, rows in lists for row in rows)
    for number, (key, values) in enumerate(named, 1):
        place = f"{path}, row {number}"
        if isinstance(values, dict):
            yield Record(number, place, {"key": key, **values} if isinstance(key, str) else values)
        else:
            yield InputError(place, f"is a JSON {type(values).__name__}, not an object", "write a JSON list of objects")


def _csv(path: Path) -> Iterator[Record]:
    csv.field_size_limit(MAX_CHARACTERS)
    with reading(path), open_bytes(path) as raw, io.TextIOWrapper(raw, "utf-8-sig", newline="") as text:
        reader = csv.DictReader(text, strict=True)
        number = 0
        while True:
            place = f"{path}, row {number} (line {reader.line_num + 1})" if number else f"{path}, the header"
            try:
                names = list(reader.fieldnames or ())
                values = next(reader) if number else {}
            except StopIteration:
                return
            except UnicodeDecodeError:
                with open_bytes(path) as start:
                    fix = not_utf8(start.read(1 << 16))
                raise InputError(place, "or one close behind is not UTF-8", fix) from None
            except csv.Error as error:
                fix = 'put texts in quotes, and double the quotes in them: ""'
                raise InputError(place, f"is not CSV ({error})", fix) from None
            if len(set(names)) < len(names):
                raise InputError(place, "has two columns of the same name", "rename one of them")
            if None in values or None in values.values():
                problem = f"does not have the {len(names)} cells of the header"
                raise InputError(place, problem, "put texts with commas or line breaks in quotes")
            if number:
                yield Record(number, place, values)
            number += 1


def not_utf8(data: bytes) -> str:
    """What to do about a text that is not UTF-8.

    Args:
        data: the beginning of the file, or a line of it.
    """
    found = looks_like(data)
    if found is None:
        return "convert it, e.g. with iconv -t utf-8"
    return f"convert it, it looks like {found}: iconv -f {found} -t utf-8"


def _parquet(path: Path) -> Iterator[Record]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError("eval", "Evaluations on Parquet files") from None
    number = 0
    with reading(path):
        try:
            with pyarrow.parquet.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=_BATCH):
                    for values in rows_in(batch):
                        number += 1
                        yield Record(number, f"{path}, row {number}", values)
        except pyarrow.ArrowException as error:
            raise InputError(
                str(path), f"is not whole Parquet ({type(error).__name__})", "check or download it again"
            ) from None
        except UnicodeDecodeError:
            place = f"{path}, one of the rows behind {number - number % _BATCH}"
            raise InputError(place, "is not UTF-8", "write the column as valid strings") from None
