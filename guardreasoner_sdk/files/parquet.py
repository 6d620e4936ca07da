"""Rows as Parquet, read in batches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from guardreasoner_sdk.errors import InputError, MissingExtraError
from guardreasoner_sdk.files.rows import Columns, Row, broken, make_row, reading

__all__ = ["ParquetRows", "import_pyarrow"]

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


class ParquetRows:
    """A :class:`~guardreasoner_sdk.files.rows.Source`; a record is a mapping, or what is wrong with the row.

    Args:
        path: the file.
        columns: the columns of the texts.

    Raises:
        InputError: it is not Parquet, or has no such columns.
        MissingExtraError: pyarrow is not installed.
    """

    format = "parquet"
    unit = "row"

    def __init__(self, path: Path, columns: Columns) -> None:
        self._path = path
        self._columns = columns
        self._arrow = import_pyarrow()
        with self._opened() as file:
            names = list(file.schema_arrow.names)
        columns.check(path, names)
        self._names = [name for name in (columns.prompt, columns.response, "history", "id") if name in names]

    def records(self) -> Iterator[dict[str, Any] | None]:
        """The rows; None for one whose bytes are not UTF-8."""
        with self._opened() as file:
            for batch in file.iter_batches(batch_size=_BATCH, columns=self._names):
                try:
                    yield from batch.to_pylist()
                except UnicodeDecodeError:
                    yield from (_one(batch, place) for place in range(batch.num_rows))

    def row(self, number: int, record: dict[str, Any] | None) -> Row:
        """Check a row."""
        place = f"row {number}"
        if record is None:
            return broken(number, place, "is not UTF-8", "write the column as valid strings")
        return make_row(number, place, record, self._columns)

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        with reading(self._path):
            try:
                with self._arrow.parquet.ParquetFile(self._path) as file:
                    yield file
            except self._arrow.ArrowException as error:
                raise InputError(
                    "--file", f"{self._path} is not whole Parquet ({type(error).__name__})", "check it, or say --format"
                ) from None


def _one(batch: Any, place: int) -> dict[str, Any] | None:
    try:
        (values,) = batch.slice(place, 1).to_pylist()
    except UnicodeDecodeError:
        return None
    return dict(values)
