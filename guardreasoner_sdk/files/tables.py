"""Verdicts as a flat table: CSV or Parquet."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from guardreasoner_sdk.files.journal import Entry, writing
from guardreasoner_sdk.files.parquet import import_pyarrow
from guardreasoner_sdk.verdict import TASKS

__all__ = ["write_table"]

_COLUMNS = (
    *("row", "id", "action", "allowed", "undetermined"),
    *(name for task in TASKS for name in (task, f"{task}_score")),
    "reasons",
)
_GROUP = 10_000


def write_table(entries: Iterable[Entry], path: Path, output_format: str) -> None:
    """Write verdicts as a table, whole or not at all.

    Args:
        entries: the rows.
        path: the file; one that is there is replaced.
        output_format: ``csv`` or ``parquet``.

    Raises:
        InputError: it cannot be written.
    """
    fresh = path.with_name(f"{path.name}.new")
    write: Callable[[Iterator[dict[str, Any]], Path], None] = _write_csv if output_format == "csv" else _write_parquet
    try:
        with writing(path):
            write(map(_flat, entries), fresh)
            fresh.replace(path)
    finally:
        with suppress(OSError):
            fresh.unlink()


def _flat(entry: Entry) -> dict[str, Any]:
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
    return cells


def _text(text: str) -> str:
    """Text that UTF-8 can hold: JSON can spell half a character."""
    return text.encode("utf-8", "backslashreplace").decode()


def _write_csv(rows: Iterator[dict[str, Any]], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, _COLUMNS)
        writer.writeheader()
        writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)


def _cell(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value


def _write_parquet(rows: Iterator[dict[str, Any]], path: Path) -> None:
    arrow = import_pyarrow()
    kinds = {"row": arrow.int64(), "allowed": arrow.bool_(), "undetermined": arrow.bool_()}
    schema = arrow.schema(
        [(name, arrow.float64() if name.endswith("_score") else kinds.get(name, arrow.string())) for name in _COLUMNS]
    )
    with arrow.parquet.ParquetWriter(path, schema) as writer:
        while group := list(islice(rows, _GROUP)):
            writer.write_table(arrow.Table.from_pylist(group, schema=schema))
