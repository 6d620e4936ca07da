"""Rows in a JSON file that is read as a whole: a list of objects, wherever in the file it stands."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from guardreasoner_sdk._text import JsonError, parse_json
from guardreasoner_sdk.data.encodings import remedy
from guardreasoner_sdk.data.jsonl import lines_in, open_binary
from guardreasoner_sdk.data.rows import CONVERSATIONS, Columns, Row, broken, make_row, reading
from guardreasoner_sdk.errors import InputError

__all__ = ["JsonFile", "Place", "are_objects", "holds_lines", "is_conversation", "lists_in", "whole_json"]

Place = tuple[str | int, ...]
"""What leads to a part of a document: names in objects and places in lists."""


def holds_lines(path: Path, encoding: str | None = None) -> bool:
    """Whether a file is JSON lines, whatever it is called: its first two lines are an object each.

    Args:
        path: the file.
        encoding: of its text; None: UTF-8.
    """
    return are_objects([line for _, line in itertools.islice(lines_in(path, encoding), 2)])


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


def whole_json(path: Path, encoding: str | None = None) -> Any:
    """What a file of JSON holds.

    Args:
        path: the file.
        encoding: of its text; None: UTF-8.

    Raises:
        InputError: it cannot be read, or is not JSON.
    """
    with reading(path), open_binary(path, encoding) as file:
        data = file.read()
    try:
        return parse_json(data.removeprefix(b"\xef\xbb\xbf"))
    except JsonError as error:
        fix = remedy(data) if str(error).startswith("is not UTF-8") else "write a list of objects, or one object on each line"
        raise InputError("--file", f"{path} {error}", fix) from None


def lists_in(whole: Any, *, levels: int = 8) -> list[tuple[Place, list[Any]]]:
    """The lists of rows in a document, with the names and places that lead to each.

    A list of objects is one, and so is a list of anything but lists; a list of lists is looked into, unless these are
    conversations. Of an object, the lists of objects count, however deep they stand; other lists are settings, unless there is
    nothing but one.

    Args:
        whole: what the file holds.
        levels: how deep they may stand.
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
    """Whether a list holds messages, and no rows.

    Args:
        value: the list.
    """
    keys = ({"role", "content"}, {"from", "value"})
    return bool(value) and all(isinstance(each, dict) and any(pair <= each.keys() for pair in keys) for each in value)


class JsonFile:
    """A :class:`~guardreasoner_sdk.data.rows.Source`; a record is what stands in the list.

    An object is a row by its keys, a text is a prompt, and a list of messages is a conversation. A file of one object that
    has the prompt is one row.

    Args:
        path: the file.
        columns: the keys of the texts.
        encoding: of the file; None: UTF-8.

    Raises:
        InputError: it cannot be read, or holds no list.
    """

    format = "json"
    unit = "row"

    def __init__(self, path: Path, columns: Columns, encoding: str | None = None) -> None:
        self._columns = columns
        whole = whole_json(path, encoding)
        names = (columns.prompt, *CONVERSATIONS)
        alone = isinstance(whole, dict) and any(name in whole for name in names) and not _columns_of(whole)
        if alone:
            self._rows = [whole]
        elif isinstance(whole, dict) and columns.prompt in whole and (table := _columns_of(whole)):
            self._rows = table
        else:
            self._rows = [row for _, rows in lists_in(whole) for row in rows]
        if not self._rows:
            raise InputError("--file", f"{path} holds no list of rows", 'write [{"prompt": "..."}, ...]')

    def records(self) -> Iterator[tuple[int, Any]]:
        """What stands in the lists, in order."""
        return enumerate(self._rows, 1)

    def row(self, number: int, record: Any) -> Row:
        """Check a row."""
        place = f"row {number}"
        if isinstance(record, str) or (isinstance(record, list) and is_conversation(record)):
            record = {self._columns.prompt: record}
        if not isinstance(record, dict):
            kind = {list: "list", type(None): "null"}.get(type(record), "number or truth value")
            return broken(number, place, f"is a JSON {kind}, not an object", 'write {"prompt": "...", "response": "..."}')
        return make_row(number, place, record, self._columns)


def _columns_of(whole: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of a table that is written by columns: ``{"prompt": ["a", "b"], "id": [1, 2]}``; none where it is not."""
    columns = list(whole.values())
    if not all(isinstance(column, list) and len(column) == len(columns[0]) for column in columns):
        return []
    if any(is_conversation(column) for column in columns):
        return []
    return [dict(zip(whole, values, strict=True)) for values in zip(*columns, strict=True)]
