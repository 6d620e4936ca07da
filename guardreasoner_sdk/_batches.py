"""Cutting rows into batches, whatever holds them: lists, iterators, data frames."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import Any

from guardreasoner_sdk._text import quote_value
from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.exchange import Exchange

__all__ = ["Row", "abatches", "batches"]

Row = Exchange | str | Sequence[str | None] | Mapping[str, Any]
"""What a batch may hold: a prompt, a ``(prompt, response)`` pair, a mapping, or an exchange."""


def batches(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    """Cut rows into batches; they are read no further than the batches are.

    Args:
        rows: an iterable of rows, or a data frame of pandas or polars.

    Raises:
        InputError: there are no rows in it, or no column ``prompt``.
    """
    if isinstance(rows, str | bytes | Mapping | Exchange) or not isinstance(rows, Iterable):
        raise InputError("rows", f"must be an iterable of rows, not {type(rows).__name__}", "use check() for one")
    source = iter(_rows_of(rows))
    while batch := list(itertools.islice(source, size)):
        yield batch


def _rows_of(rows: Any) -> Iterable[Row]:
    """The rows of a data frame; anything else as it is. A frame is told by what it can do: none of them is imported here."""
    if not hasattr(type(rows), "columns"):
        return rows  # type: ignore[no-any-return]
    if hasattr(rows, "itertuples"):
        return _records(rows.columns, rows.itertuples(index=False, name=None))
    if hasattr(rows, "iter_rows"):
        return _records(rows.columns, rows.iter_rows())
    fix = "pass a DataFrame of pandas or polars (collect() a lazy one), or an iterable of rows"
    raise InputError("rows", f"must be an iterable of rows, not {type(rows).__name__}", fix)


def _records(columns: Iterable[object], values: Iterable[Iterable[Any]]) -> Iterator[Row]:
    names = list(columns)
    if names.count("prompt") != 1:
        near = next((name for name in names if str(name).strip().lower() in {"prompt", "text", "input", "question"}), None)
        fix = "give it one column 'prompt'" if near in (None, "prompt") else f"rename {quote_value(near)} to 'prompt'"
        raise InputError("rows", "has no column 'prompt'" if near != "prompt" else "has several columns 'prompt'", fix)
    kept = [name in ("prompt", "response", "history", "images") for name in names]
    return ({str(name): _cell(value) for name, value, own in zip(names, row, kept, strict=True) if own} for row in values)


def _cell(value: Any) -> Any:
    """What a cell holds: an array as a list, and None where it is empty, however the frame writes that."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    return None if type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and value != value) else value


async def abatches(rows: Iterable[Row] | AsyncIterable[Row], size: int) -> AsyncIterator[list[Row]]:
    """:func:`batches` for asyncio; the rows may come from an asynchronous iterable too."""
    if not isinstance(rows, AsyncIterable):
        for batch in batches(rows, size):
            yield batch
        return
    batch = []
    async for row in rows:
        batch.append(row)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
