"""Verdicts as a flat table: CSV or Parquet."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from guardreasoner_sdk._text import json_text
from guardreasoner_sdk.data.atomic import errors_while_writing, replacing
from guardreasoner_sdk.data.cells import escape_formula
from guardreasoner_sdk.data.journal import TEXT, JournalEntry
from guardreasoner_sdk.data.parquet import import_pyarrow
from guardreasoner_sdk.verdict import TASKS

__all__ = ["write_table"]

_COLUMNS = (
    *("row", "id", "action", "allowed", "undetermined"),
    *(name for task in TASKS for name in (task, f"{task}_score")),
    "reasons",
)
_GROUP = 10_000


def write_table(entries: Iterable[JournalEntry], path: Path, output_format: str, *, with_text: bool = False) -> None:
    """Write verdicts as a table, whole or not at all.

    Args:
        path: the file; one that is there is replaced. In CSV, a text that a spreadsheet would take for a formula has an
            apostrophe in front, which reading the file as rows takes away again.
        output_format: ``csv`` or ``parquet``.
        with_text: whether it has columns for what was judged, too.

    Raises:
        InputError: it cannot be written.
    """
    write = _write_csv if output_format == "csv" else _write_parquet
    columns = (*_COLUMNS, *TEXT) if with_text else _COLUMNS
    with errors_while_writing(path), replacing(path) as fresh:
        write(map(_flat, entries), fresh, columns)


def _flat(entry: JournalEntry) -> dict[str, Any]:
    verdict = entry.verdict
    cells: dict[str, Any] = {
        "row": entry.row,
        "id": None if entry.identity is None else _text(str(entry.identity)),
        "action": verdict.action,
        "allowed": verdict.allowed,
        "undetermined": verdict.undetermined,
        "reasons": _text("; ".join(verdict.reasons)),
    }
    for task in TASKS:
        finding = verdict.findings.get(task)
        cells[task] = None if finding is None else finding.label
        cells[f"{task}_score"] = None if finding is None else finding.score
    for name, text in (entry.text or {}).items():
        cells[name] = _text(text if isinstance(text, str) else json_text(text)) if text else None
    return cells


def _text(text: str) -> str:
    """Text that UTF-8 can hold: JSON can spell half a character."""
    return text.encode("utf-8", "backslashreplace").decode()


def _write_csv(rows: Iterator[dict[str, Any]], path: Path, columns: Sequence[str]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return escape_formula(value)
    return str(value).lower() if isinstance(value, bool) else value


def _write_parquet(rows: Iterator[dict[str, Any]], path: Path, columns: Sequence[str]) -> None:
    arrow = import_pyarrow()
    kinds = {"row": arrow.int64(), "allowed": arrow.bool_(), "undetermined": arrow.bool_()}
    schema = arrow.schema(
        [(name, arrow.float64() if name.endswith("_score") else kinds.get(name, arrow.string())) for name in columns]
    )
    with arrow.parquet.ParquetWriter(path, schema) as writer:
        while group := list(islice(rows, _GROUP)):
            writer.write_table(arrow.Table.from_pylist(group, schema=schema))
