"""Rows as Parquet, read in batches."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from guardreasoner_sdk.data.columns import CONVERSATIONS
from guardreasoner_sdk.data.records import Fault, Reading, Record, errors_while_reading
from guardreasoner_sdk.errors import MissingExtraError

__all__ = ["ParquetRows", "holds_json", "import_pyarrow", "rows_in"]

_BATCH = 256


def import_pyarrow() -> Any:
    """``pyarrow``, with its ``parquet`` module loaded.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError("parquet", "Parquet files") from None
    return pyarrow


def rows_in(batch: Any) -> list[dict[str, Any]]:
    """The rows of a record batch or table as Python values, columns of JSON decoded.

    A column of mixed types is kept as JSON text (the extension type ``arrow.json``, which ``datasets`` writes); read as it
    stands, a prompt would have quotes around it, and a label would be no label.
    """
    rows: list[dict[str, Any]] = batch.to_pylist()
    for field in batch.schema:
        if holds_json(field):
            decode = _decoder(field)
            for row in rows:
                row[field.name] = decode(row[field.name])
    return rows


def holds_json(field: Any) -> bool:
    """Whether the values of a column are JSON text, or have such in them."""
    return _is_json(field) or any(holds_json(field.type.field(place)) for place in range(field.type.num_fields))


def _is_json(field: Any) -> bool:
    # Before pyarrow 19 the type is unknown, and its name stands beside the column.
    name = getattr(field.type, "extension_name", None) or (field.metadata or {}).get(b"ARROW:extension:name", b"").decode()
    return bool(name == "arrow.json")


def _decoder(field: Any) -> Callable[[Any], Any]:
    """What turns a value of a column, as Arrow gives it, into what was written."""
    if _is_json(field):
        return _decoded
    kind = field.type
    inner = {kind.field(place).name: kind.field(place) for place in range(kind.num_fields)}
    decoders = {name: _decoder(child) for name, child in inner.items() if holds_json(child)}
    if not decoders:
        return lambda value: value

    def decode(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: decoders[name](each) if name in decoders else each for name, each in value.items()}
        if isinstance(value, list):
            (one,) = decoders.values()
            return [one(each) for each in value]
        return value

    return decode


def _decoded(value: Any) -> Any:
    if value is None:
        return None
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


class ParquetRows:
    """Parquet: a record is a mapping, None for one that is not UTF-8. A :class:`~guardreasoner_sdk.data.records.RowSource`.

    Raises:
        InputError: it is not Parquet, or has no such columns.
        MissingExtraError: pyarrow is not installed.
    """

    format = "parquet"
    unit = "row"

    def __init__(self, path: Path, how: Reading) -> None:
        self._path = path
        self.how = how
        self._arrow = import_pyarrow()
        with self._opened() as file:
            self._names: list[str] = list(file.schema_arrow.names)
        self._group: tuple[int, Any] | None = None
        self._wanted = self._names
        if not how.labelled:
            how.columns.check(path, self._names)
            wanted = (how.columns.prompt, how.columns.response_name, "history", "images", "id", *CONVERSATIONS)
            self._wanted = [name for name in dict.fromkeys(wanted) if name in self._names]

    @property
    def names(self) -> list[str]:
        """Those of all columns."""
        return self._names

    def records(self) -> Iterator[tuple[int, dict[str, Any] | None]]:
        """The rows."""
        return enumerate(self._values(), 1)

    def _values(self) -> Iterator[dict[str, Any] | None]:
        with self._opened() as file:
            for batch in file.iter_batches(batch_size=_BATCH, columns=self._wanted):
                yield from _each(batch)

    def groups(self) -> list[int]:
        """How many rows are in each of its groups, which can be read one by one."""
        with self._opened() as file:
            return [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]

    def group_rows(self, group: int, start: int, count: int) -> Iterator[dict[str, Any] | None]:
        """Some rows of a group. The group is kept until another one is asked for.

        Args:
            group: its number, from 0.
            start: the first row in it, from 0.
        """
        if self._group is None or self._group[0] != group:
            with self._opened() as file:
                self._group = group, file.read_row_group(group, columns=self._wanted)
        return _each(self._group[1].slice(start, count))

    def read(self, number: int, record: dict[str, Any] | None) -> Record | Fault:
        """Hand a row on."""
        place = f"row {number}"
        if record is None:
            return Fault(number, place, "is not UTF-8", "write the column as valid strings")
        return Record(number, place, record)

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        with errors_while_reading(self._path, self.how.option):
            try:
                with self._arrow.parquet.ParquetFile(self._path) as file:
                    yield file
            except self._arrow.ArrowException as error:
                fix = "check or download it again" if self.how.labelled else "check it, or pass --format"
                raise self.how.error(self._path, f"is not whole Parquet ({type(error).__name__})", fix) from None


def _each(batch: Any) -> Iterator[dict[str, Any] | None]:
    try:
        yield from rows_in(batch)
    except UnicodeDecodeError:
        yield from (_one(batch, place) for place in range(batch.num_rows))


def _one(batch: Any, place: int) -> dict[str, Any] | None:
    try:
        (values,) = rows_in(batch.slice(place, 1))
    except UnicodeDecodeError:
        return None
    return dict(values)
