"""Rows in a JSON file that is read as a whole: a list of objects, wherever in the file it stands."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from guardreasoner_sdk._text import JsonError, parse_json
from guardreasoner_sdk.data.columns import CONVERSATIONS, Columns
from guardreasoner_sdk.data.records import Fault, Reading, Record, errors_while_reading, lines_in, open_unpacked

__all__ = ["JsonFile", "Place", "are_objects", "holds_lines", "is_conversation", "lists_in"]

Place = tuple[str | int, ...]
"""What leads to a part of a document: names in objects and places in lists."""


def holds_lines(path: Path, how: Reading) -> bool:
    """Whether a file is JSON lines, whatever it is called: its first two lines are an object each."""
    return are_objects([line for _, line in itertools.islice(lines_in(path, how), 2)])


def are_objects(lines: Sequence[bytes | None]) -> bool:
    """Whether two lines are the first ones of JSON lines, and not of a document.

    Args:
        lines: the first two of a file that hold anything, or fewer.
    """
    return len(lines) == 2 and all(line is not None and _is_object(line) for line in lines)


def _is_object(line: bytes) -> bool:
    # NaN is no JSON; whether it does here is for whoever reads the rows.
    try:
        return line.lstrip().startswith(b"{") and isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def lists_in(whole: Any, *, levels: int = 8) -> list[tuple[Place, list[Any]]]:
    """The lists of rows in a document, with the names and places that lead to each.

    A list of objects is one, and so is a list of anything but lists; a list of lists is looked into, unless these are
    conversations. Of an object, the lists of objects count, however deep they stand; other lists are settings, unless there is
    nothing but one.
    """
    if not levels:
        return []
    if isinstance(whole, dict):
        inner_of = [(name, lists_in(value, levels=levels - 1)) for name, value in whole.items()]
        found = [((name, *path), rows) for name, lists in inner_of for path, rows in lists]
        alone = len(whole) == len(found) == 1 and len(found[0][0]) == 1
        return found if alone else [(path, rows) for path, rows in found if any(isinstance(row, dict | list) for row in rows)]
    if not isinstance(whole, list):
        return []
    nested = bool(whole) and all(isinstance(row, list) and not is_conversation(row) for row in whole)
    if not nested:
        return [((), whole)]
    return [((place, *path), rows) for place, inner in enumerate(whole) for path, rows in lists_in(inner, levels=levels - 1)]


def is_conversation(value: Sequence[Any]) -> bool:
    """Whether a list holds messages, and no rows."""
    keys = ({"role", "content"}, {"from", "value"})
    return bool(value) and all(isinstance(each, dict) and any(pair <= each.keys() for pair in keys) for each in value)


class JsonFile:
    """A JSON document: a record is what is in its lists of rows. A :class:`~guardreasoner_sdk.data.records.RowSource`.

    An object is a row by its keys. Where rows are to be judged, a text is a prompt, a list of messages is a conversation, and a
    file of one object that has the prompt is one row; in a labelled file, rows in an object of lists have the name that led to
    them under ``key``.

    Raises:
        InputError: it cannot be read, or holds no list.
    """

    format = "json"
    unit = "row"

    def __init__(self, path: Path, how: Reading) -> None:
        self.how = how
        whole = _whole(path, how)
        lists = lists_in(whole)
        if not how.labelled:
            self._rows = _alone(whole, how.columns) or [row for _, rows in lists for row in rows]
            if not self._rows:
                raise how.error(path, "holds no list of rows", 'write [{"prompt": "..."}, ...]')
            return
        if not lists:
            raise how.error(path, f"is a JSON {type(whole).__name__}, not a list", "write a JSON list of objects")
        self._rows = [
            {"key": place[0], **row} if isinstance(row, dict) and place and isinstance(place[0], str) else row
            for place, rows in lists
            for row in rows
        ]

    @property
    def names(self) -> list[str]:
        """None: every row has its own."""
        return []

    def records(self) -> Iterator[tuple[int, Any]]:
        """What is in the lists, in order."""
        return enumerate(self._rows, 1)

    def read(self, number: int, record: Any) -> Record | Fault:
        """Take what is in a list for a row."""
        place = f"row {number}"
        judged = not self.how.labelled
        if judged and (isinstance(record, str) or (isinstance(record, list) and is_conversation(record))):
            record = {self.how.columns.prompt: record}
        if isinstance(record, dict):
            return Record(number, place, record)
        kind = {list: "list", str: "string", type(None): "null"}.get(type(record), "number or truth value")
        fix = 'write {"prompt": "...", "response": "..."}' if judged else "write a JSON list of objects"
        return Fault(number, place, f"is a JSON {kind}, not an object", fix)


def _whole(path: Path, how: Reading) -> Any:
    with errors_while_reading(path, how.option), open_unpacked(path, how.encoding) as file:
        data = file.read()
    try:
        return parse_json(data.removeprefix(b"\xef\xbb\xbf"), finite=not how.labelled)
    except JsonError as error:
        fix = (
            how.remedy(data) if str(error).startswith("is not UTF-8") else "write a list of objects, or one object on each line"
        )
        raise how.error(path, str(error), fix) from None


def _alone(whole: Any, columns: Columns) -> list[dict[str, Any]]:
    """The rows of an object that has the prompt itself: one, or those of a table that is written by columns."""
    if not isinstance(whole, dict):
        return []
    table = _columns_of(whole)
    if table:
        return table if columns.prompt in whole else []
    return [whole] if any(name in whole for name in (columns.prompt, *CONVERSATIONS)) else []


def _columns_of(whole: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of a table that is written by columns: ``{"prompt": ["a", "b"], "id": [1, 2]}``; none where it is not."""
    columns = list(whole.values())
    if not all(isinstance(column, list) and len(column) == len(columns[0]) for column in columns):
        return []
    if any(is_conversation(column) for column in columns):
        return []
    return [dict(zip(whole, values, strict=True)) for values in zip(*columns, strict=True)]
