"""A labelled file with some labels turned over, and every other byte as it was, where the format has such a thing."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import lzma
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

from guardreasoner_sdk.data.atomic import errors_while_writing, replacing
from guardreasoner_sdk.data.jsonfile import are_objects, lists_in
from guardreasoner_sdk.data.parquet import holds_json
from guardreasoner_sdk.data.records import PACKED, ending_of, errors_while_reading, open_unpacked
from guardreasoner_sdk.errors import InputError

__all__ = ["Changes", "endings_of", "write_corrected"]

Changes = Mapping[int, Mapping[str, Any]]
"""By number of a row the new value of each column that changes."""

_DECODER = json.JSONDecoder()


def endings_of(path: Path) -> str:
    """The endings that say how a file is read: ``.jsonl.gz``."""
    return "".join(path.suffixes[-2:] if path.suffix.lower() in PACKED else path.suffixes[-1:])


def write_corrected(source: Path, target: Path, changes: Changes) -> None:
    """Rewrite a file with other values in some cells, whole or not at all.

    In JSON and CSV only the characters of these values change. Parquet keeps schema, metadata, row groups and compression.

    Args:
        target: the new one, which is packed as the source is.

    Raises:
        InputError: the source cannot be read, or the target not be written.
    """
    with errors_while_writing(target):
        if target.exists() and target.samefile(source):
            raise InputError("--corrected", f"{target} is the file that was audited", "name another")
        if target.exists() and not target.is_file():
            raise InputError("--corrected", f"{target} is not a plain file", "name one: it is replaced as a whole")
    kind = ending_of(source)
    with errors_while_writing(target), replacing(target) as fresh:
        if kind == ".parquet":
            _write_parquet(source, fresh, changes)
            return
        pieces = _PIECES.get(kind, _json_lines)
        with errors_while_reading(source), open_unpacked(source) as old, _packed(source, fresh) as new:
            for piece in pieces(old, changes):
                with errors_while_writing(target):
                    new.write(piece)


@contextmanager
def _packed(source: Path, target: Path) -> Iterator[IO[bytes]]:
    """Open a file for writing, packed as another one is."""
    with source.open("rb") as file:
        magic = file.read(6)
    with errors_while_writing(target), target.open("wb") as raw:
        if magic[:2] == b"\x1f\x8b":
            with gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as packed:
                yield packed  # type: ignore[misc]  # a GzipFile writes as a file does
        elif magic == b"\xfd7zXZ\x00":
            with lzma.LZMAFile(raw, "wb") as packed_xz:
                yield packed_xz  # so does this one
        else:
            yield raw


def _json_lines(file: IO[bytes], changes: Changes) -> Iterator[bytes]:
    for number, line in enumerate(file, 1):
        change = changes.get(number)
        yield line if change is None else _changed(line.decode("utf-8"), change).encode()


def _changed(text: str, change: Mapping[str, Any]) -> str:
    """A JSON object with other values; where a name stands twice, the last one counts, as everywhere."""
    spans = {name: (start, end) for name, start, end in _members(text, text.index("{"))}
    return _spliced(text, ((*spans[name], json.dumps(value, ensure_ascii=False)) for name, value in change.items()))


def _spliced(text: str, splices: Iterable[tuple[int, int, str]]) -> str:
    for start, end, new in sorted(splices, reverse=True):
        text = text[:start] + new + text[end:]
    return text


def _json_whole(file: IO[bytes], changes: Changes) -> Iterator[bytes]:
    data = file.read()
    if are_objects([line for line in itertools.islice(io.BytesIO(data), 100) if line.strip()][:2]):
        yield from _json_lines(io.BytesIO(data), changes)
        return
    text = data.decode("utf-8")
    splices: list[tuple[int, int, str]] = []
    for number, (start, end) in enumerate(_objects(text), 1):
        if number in changes:
            splices.append((start, end, _changed(text[start:end], changes[number])))
    yield _spliced(text, splices).encode()


def _objects(text: str) -> Iterator[tuple[int, int]]:
    """Where the rows of a document stand."""
    start = _skip(text, 1 if text.startswith("\ufeff") else 0)
    for names, _ in lists_in(_DECODER.raw_decode(text, start)[0]):
        place = start
        for name in names:
            place = _inside(text, place, name)
        yield from _items(text, place)


def _inside(text: str, place: int, name: str | int) -> int:
    """Where the value of a name in an object, or at a place in a list, begins."""
    if isinstance(name, int):
        return next(itertools.islice(_items(text, place), name, None))[0]
    return {own: start for own, start, _ in _members(text, place)}[name]


def _items(text: str, place: int) -> Iterator[tuple[int, int]]:
    """Where the items of a list that begins at a place stand."""
    place = _skip(text, place + 1)
    while text[place] != "]":
        _, end = _DECODER.raw_decode(text, place)
        yield place, end
        place = _skip(text, end)
        if text[place] == ",":
            place = _skip(text, place + 1)


def _members(text: str, place: int) -> Iterator[tuple[str, int, int]]:
    """The names of a JSON object that begins at a place, and where their values stand."""
    place = _skip(text, place + 1)
    while text[place] != "}":
        name, place = _DECODER.raw_decode(text, place)
        start = _skip(text, _skip(text, place) + 1)
        _, place = _DECODER.raw_decode(text, start)
        yield name, start, place
        place = _skip(text, place)
        if text[place] == ",":
            place = _skip(text, place + 1)


def _skip(text: str, place: int) -> int:
    while text[place] in " \t\r\n":
        place += 1
    return place


def _csv(file: IO[bytes], changes: Changes, delimiter: str = ",") -> Iterator[bytes]:
    with io.TextIOWrapper(file, "utf-8", newline="") as text:
        lines = _Kept(text)
        reader = csv.reader(lines, strict=True, delimiter=delimiter)
        header = next(cells for cells in reader if cells)
        places = {name.strip(): place for place, name in enumerate(header)}
        yield lines.taken().encode()
        number = 0
        for cells in reader:
            raw = lines.taken()
            # A blank line is no row.
            number += bool(cells)
            if cells and number in changes:
                spans = _cells(raw, delimiter)
                splices = ((*spans[places[name]], str(value)) for name, value in changes[number].items())
                raw = _spliced(raw, ((start, end, _quoted(new, raw[start:end], delimiter)) for start, end, new in splices))
            yield raw.encode()
        yield lines.taken().encode()


class _Kept:
    """Lines of a text, which are kept until they are asked for."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self._lines: list[str] = []

    def __iter__(self) -> _Kept:
        return self

    def __next__(self) -> str:
        line = next(self._text)
        self._lines.append(line)
        return line.removeprefix("\ufeff")

    def taken(self) -> str:
        taken = "".join(self._lines)
        self._lines.clear()
        return taken


def _cells(raw: str, delimiter: str) -> list[tuple[int, int]]:
    """Where the cells of a record stand, their quotes with them."""
    spans, start = [], 0
    while True:
        end = start
        if raw.startswith('"', start):
            end = raw.index('"', start + 1)
            while raw.startswith('""', end):
                end = raw.index('"', end + 2)
            end += 1
        while end < len(raw) and raw[end] not in f"{delimiter}\r\n":
            end += 1
        spans.append((start, end))
        if not raw.startswith(delimiter, end):
            return spans
        start = end + 1


def _quoted(value: str, old: str, delimiter: str) -> str:
    if old.startswith('"') or any(character in value for character in f'{delimiter}"\r\n'):
        return '"{}"'.format(value.replace('"', '""'))
    return value


_PIECES: Mapping[str, Callable[[IO[bytes], Changes], Iterator[bytes]]] = {
    ".json": _json_whole,
    ".csv": _csv,
    ".tsv": partial(_csv, delimiter="\t"),
}
"""By the ending of a file what rewrites it; lines of JSON are those of any other."""


def _write_parquet(source: Path, target: Path, changes: Changes) -> None:
    import pyarrow
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(source) as file:
        schema = file.schema_arrow
        first = file.metadata.row_group(0).column(0).compression if file.num_row_groups else "NONE"
        number = 0
        with pyarrow.parquet.ParquetWriter(target, schema, compression=first) as writer:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group)
                here = {row - number - 1: values for row, values in changes.items() if number < row <= number + len(table)}
                for name in {name for values in here.values() for name in values}:
                    place = schema.get_field_index(name)
                    kind = schema.field(place)
                    # JSON text stays as it is written, but for the cells that change.
                    kept = kind.type.storage_type if isinstance(kind.type, pyarrow.BaseExtensionType) else kind.type
                    cells = table.column(place).cast(kept).to_pylist()
                    for row, values in here.items():
                        if name in values:
                            cells[row] = json.dumps(values[name], ensure_ascii=False) if holds_json(kind) else values[name]
                    column = pyarrow.array(cells, kept).cast(kind.type)
                    table = table.set_column(place, kind, column)
                writer.write_table(table, row_group_size=max(1, len(table)))
                number += len(table)
