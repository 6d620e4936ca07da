"""What a row of an input file is, whatever the format: something to judge, or the reason why it cannot be read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.exchange import Exchange

__all__ = ["Columns", "Row", "Source", "broken", "make_row", "reading", "rows_of"]


@dataclass(frozen=True, slots=True)
class Columns:
    """Where the texts stand.

    Args:
        prompt: name of the prompt's column or key.
        asked_response: name of the response's, where the user gave one: then every row must have it, so that a slip of the
            pen does not quietly judge the prompts alone. None: ``response``, where there is one.

    Raises:
        InputError: they are one and the same.
    """

    prompt: str = "prompt"
    asked_response: str | None = None

    def __post_init__(self) -> None:
        if self.prompt == self.response:
            raise InputError("--response-column", f"{self.prompt!r} is the prompt's column too", "name two columns")

    @property
    def response(self) -> str:
        """Name of the response's column or key."""
        return self.asked_response or "response"

    def check(self, path: Path, names: list[str]) -> None:
        """Check them against the columns of a table.

        Raises:
            InputError: one is missing, or stands there twice.
        """
        for option, name, needed in (
            ("--prompt-column", self.prompt, True),
            ("--response-column", self.response, self.asked_response is not None),
        ):
            if name in names and names.count(name) > 1:
                raise InputError(option, f"{path} has {names.count(name)} columns {name!r}", "rename all but one")
            if needed and name not in names:
                there = ", ".join(map(repr, names)) or "none"
                raise InputError(option, f"{path} has no column {name!r}", f"name one of those it has: {there}")


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the input.

    Args:
        number: its place, from 1: the line (JSON lines) or the record.
        exchange: what is to be judged; None where it cannot be read.
        cause: why it cannot be read, beginning with its place.
        response: whether there is, or for all that is known may be, a response.
        identity: its ``id``, if it has one.
    """

    number: int
    exchange: Exchange | None
    cause: str | None = None
    response: bool = True
    identity: str | int | float | bool | None = None


class Source(Protocol):
    """A file of rows, read from its beginning each time it is asked for them.

    Attributes:
        format: ``jsonl``, ``csv`` or ``parquet``.
        unit: what a row is called: ``line`` or ``row``.
    """

    format: str
    unit: str

    def records(self) -> Iterator[Any]:
        """The rows as they stand, neither parsed nor checked, so that passing over them is cheap.

        Raises:
            InputError: the file cannot be read on.
        """
        ...

    def row(self, number: int, record: Any) -> Row:
        """Parse and check a record. Never raises: what is wrong is in the row."""
        ...


def rows_of(source: Source, *, after: int = 0) -> Iterator[Row]:
    """The rows of a source.

    Args:
        source: the file.
        after: how many to pass over.
    """
    for number, record in enumerate(source.records(), 1):
        if number > after:
            yield source.row(number, record)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Say of a failure to read which file it was.

    Raises:
        InputError: for every ``OSError``, and for a torn gzip file.
    """
    import zlib

    try:
        yield
    except FileNotFoundError:
        raise InputError("--file", f"{path} does not exist", "check the path") from None
    except (OSError, EOFError, zlib.error) as error:
        problem = getattr(error, "strerror", None) or str(error)
        raise InputError("--file", f"{path} cannot be read ({problem})", "check the file and its permissions") from None


def broken(number: int, place: str, problem: str, fix: str) -> Row:
    """A row that cannot be read.

    Args:
        number: its place, from 1.
        place: the same in words: ``line 7``.
        problem: what is wrong with it; never its text.
        fix: what to do about it.
    """
    return Row(number, None, f"{place}: {problem}; {fix}")


def make_row(number: int, place: str, values: Mapping[str, Any], columns: Columns) -> Row:
    """Make a row of its values by name.

    Args:
        number: its place, from 1.
        place: the same in words: ``line 7``.
        values: prompt, response, history and id under their names.
        columns: the names.
    """
    if columns.prompt not in values:
        near = next((key for key in values if key.strip().lower() in {"prompt", "text", "input", "question"}), None)
        fix = f"say --prompt-column {near}" if near is not None else "give every row a prompt, or say --prompt-column"
        return broken(number, place, f"{columns.prompt}: is missing", fix)
    if columns.asked_response is not None and columns.response not in values:
        return broken(number, place, f"{columns.response}: is missing", "give every row one; null where there is no response")
    response = values.get(columns.response)
    try:
        identity = _identity(values.get("id"))
    except RecursionError:
        return broken(number, place, "id: is no plain value", "use a string or a number")
    try:
        history = values.get("history")
        exchange = Exchange(values[columns.prompt], response, () if history is None else history)
    except InputError as error:
        name = {"prompt": columns.prompt, "response": columns.response}.get(error.field, error.field)
        cause = f"{place}: {name}: {error.problem}; {error.fix}"
        return Row(number, None, cause, response=response is not None, identity=identity)
    return Row(number, exchange, identity=identity)


def _identity(value: Any) -> str | int | float | bool | None:
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return json.dumps(value, default=str, ensure_ascii=False)
