"""Cutting a batch into parts."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from guardreasoner_sdk._deadline import Deadline
from guardreasoner_sdk._text import quoted
from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.verdict import Judgement

__all__ = ["Row", "Work", "aparts", "parts"]

Row = Exchange | str | Sequence[str | None] | Mapping[str, Any]
"""What a batch may hold: a prompt, a ``(prompt, response)`` pair, a mapping, or an exchange."""


@dataclass(slots=True)
class Work:
    """Part of a batch on its way: the rows in order, and which of them the judge has to see."""

    started: float
    deadline: Deadline | None
    slots: list[tuple[Exchange | None, Judgement | None]] = field(default_factory=list)
    misses: list[Exchange] = field(default_factory=list)


def parts(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    if isinstance(rows, str | bytes | Mapping | Exchange) or not isinstance(rows, Iterable):
        raise InputError("rows", f"must be an iterable of rows, not {type(rows).__name__}", "use check() for one")
    source = iter(_rows_of(rows))
    while part := list(itertools.islice(source, size)):
        yield part


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
        fix = "give it one column 'prompt'" if near in (None, "prompt") else f"rename {quoted(near)} to 'prompt'"
        raise InputError("rows", "has no column 'prompt'" if near != "prompt" else "has several columns 'prompt'", fix)
    kept = [name in ("prompt", "response", "history") for name in names]
    return ({str(name): _cell(value) for name, value, own in zip(names, row, kept, strict=True) if own} for row in values)


def _cell(value: Any) -> Any:
    """What a cell holds: an array as a list, and None where it is empty, however the frame writes that."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    return None if type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and value != value) else value


async def aparts(rows: Iterable[Row] | AsyncIterable[Row], size: int) -> AsyncIterator[list[Row]]:
    if not isinstance(rows, AsyncIterable):
        for part in parts(rows, size):
            yield part
        return
    part = []
    async for row in rows:
        part.append(row)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part
