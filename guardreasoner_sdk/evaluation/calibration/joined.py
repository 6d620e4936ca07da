"""Verdicts that do not say what is true, beside the labelled rows that they are about."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from guardreasoner_sdk.data.records import json_object, whole_lines
from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.evaluation.rows import LabelledRow

__all__ = ["Joined", "match_verdicts"]


class Joined(NamedTuple):
    """A line of a file of verdicts, and its row.

    Args:
        place: the line, for messages: ``verdicts.jsonl, line 3``.
        row: the row that it is about.
        values: what the line holds.
    """

    place: str
    row: LabelledRow
    values: dict[str, Any]


def match_verdicts(path: Path, rows: Iterable[LabelledRow]) -> Iterator[Joined]:
    """The verdicts of a file that are about some rows, in its order.

    A row is found by its ``id``, or by its line where it has none. Of a run over several benchmarks only the verdicts on that
    of the row count: names are unique within a benchmark only.

    Args:
        path: what ``guardreasoner check --file`` or ``evaluate`` wrote.

    Raises:
        InputError: a line cannot be read, two are about one row, or none is about any.
    """
    by_name = {row.id: row for row in rows}
    several = len({values.get("benchmark") for _, values in _lines(path)}) > 1
    seen: set[str] = set()
    for place, values in _lines(path):
        identity = values.get("id")
        row = by_name.get(str(values.get("row") if identity is None else identity))
        if row is None or (several and values.get("benchmark") != row.benchmark):
            continue
        if row.id in seen:
            raise InputError(place, f"is the second verdict of row {row.id}", "give every row an id of its own")
        seen.add(row.id)
        yield Joined(place, row, values)
    if not seen:
        raise InputError(str(path), "has no verdict on any of the labelled rows", "name the file that was judged")


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in whole_lines(path):
        place = f"{path}, line {number}"
        try:
            yield place, json_object(line)
        except ValueError as error:
            raise InputError(place, str(error), "run the command that wrote it again, or remove the line") from None
