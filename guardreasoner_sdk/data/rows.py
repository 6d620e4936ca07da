"""What a row of an input file is, whatever the format: something to judge, or the reason why it cannot be read."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from guardreasoner_sdk._text import JsonError, named, parse_json, quoted
from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.exchange import Exchange, exchange_from_messages

__all__ = ["CONVERSATIONS", "Columns", "Row", "Source", "broken", "make_row", "near_prompt", "reading", "rows_of"]


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
        conversations = self.prompt == "prompt" and any(name in names for name in CONVERSATIONS)
        for option, name, needed in (
            ("--prompt-column", self.prompt, not conversations),
            ("--response-column", self.response, self.asked_response is not None),
        ):
            if name in names and names.count(name) > 1:
                raise InputError(option, f"{path} has {names.count(name)} columns {quoted(name)}", "rename all but one")
            if needed and name not in names:
                near = near_prompt(names) if option == "--prompt-column" else None
                fix = f"name one of those it has: {named(names)}" if near is None else f"say --prompt-column {near}"
                raise InputError(option, f"{path} has no column {quoted(name)}", fix)


CONVERSATIONS = ("messages", "conversation", "conversations")
"""Columns of whole conversations, the first that is there: read where a row has no prompt."""

_PROMPTS = ("prompt", "text", "input", "question", "query", "instruction", "user_input", "user_prompt", "goal", "behavior")
"""What the prompt is called elsewhere, the likeliest first."""


def near_prompt(names: Iterable[str]) -> str | None:
    """The column that most probably holds the prompt; None where no name says so.

    Args:
        names: those of all columns.
    """
    found = {name.strip().lower(): name for name in names if len(name) <= _LONGEST_NAME}
    return next((found[name] for name in _PROMPTS if name in found), None)


_LONGEST_NAME = 40
_NAME = re.compile(r"[\w.:/-]{1,40}")
"""What is a column's name for sure, and no text that ought to be judged."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the input.

    Args:
        number: its place, from 1: the line (JSON lines) or the record.
        exchange: what is to be judged; None where it cannot be read.
        cause: why it cannot be read, beginning with its place.
        response: whether there is, or for all that is known may be, a response.
        identity: its ``id``, if it has one.
        problem: the cause without its place, the same for all rows that suffer from it; empty where there is none.
        fix: what to do about that.
    """

    number: int
    exchange: Exchange | None
    cause: str | None = None
    response: bool = True
    identity: str | int | float | bool | None = None
    problem: str = ""
    fix: str = ""


class Source(Protocol):
    """A file of rows, read from its beginning each time it is asked for them.

    Attributes:
        format: ``jsonl``, ``json``, ``lines``, ``csv`` or ``parquet``.
        unit: what a row is called: ``line`` or ``row``.
    """

    format: str
    unit: str

    def records(self) -> Iterator[tuple[int, Any]]:
        """The rows as they stand, each behind its number, neither parsed nor checked, so that passing over them is cheap.

        Numbers begin at 1 and rise; those of blank lines are left out.

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
        after: number of the last row to pass over.
    """
    for number, record in source.records():
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
    return Row(number, None, f"{place}: {problem}; {fix}", problem=problem, fix=fix)


def make_row(number: int, place: str, values: Mapping[str, Any], columns: Columns) -> Row:
    """Make a row of its values by name.

    Args:
        number: its place, from 1.
        place: the same in words: ``line 7``.
        values: prompt, response, history and id under their names.
        columns: the names.
    """
    asked = columns.prompt if columns.prompt in values else None
    if asked is None and columns.prompt == "prompt":
        asked = next((name for name in CONVERSATIONS if name in values), None)
    if asked is None:
        near = near_prompt(values)
        others = [name for name in values if _NAME.fullmatch(name)]
        more = f" with one of {named(others)}" if others else ""
        fix = f"say --prompt-column {near}" if near is not None else f"give every row a prompt, or say --prompt-column{more}"
        return broken(number, place, f"{columns.prompt}: is missing", fix)
    if columns.asked_response is not None and columns.response not in values:
        problem = f"{columns.response}: is missing"
        return broken(number, place, problem, "give every row one; null where there is no response")
    response = values.get(columns.response)
    try:
        identity = _identity(values.get("id"))
    except RecursionError:
        return broken(number, place, "id: is no plain value", "use a string or a number")
    try:
        exchange = _exchange(asked, values[asked], response, values.get("history"))
    except RecursionError:
        return broken(number, place, "is nested too deeply", "write texts, and lists of messages")
    except InputError as error:
        name = {"prompt": asked, "response": columns.response}.get(error.field, error.field)
        problem = f"{name}: {error.problem}"
        unanswered = response is None and name not in CONVERSATIONS and not isinstance(values[asked], list)
        return Row(
            number,
            None,
            f"{place}: {problem}; {error.fix}",
            response=not unanswered,
            identity=identity,
            problem=problem,
            fix=error.fix,
        )
    return Row(number, exchange, identity=identity)


def _exchange(name: str, asked: Any, response: Any, history: Any) -> Exchange:
    """What a row says is to be judged: a prompt and what may stand around it, or a conversation."""
    history = _turns("history", history)
    if not isinstance(asked, list) and name not in CONVERSATIONS:
        return Exchange(asked, response, () if history is None else history)
    asked = _turns(name, asked)
    if history is not None:
        raise InputError("history", f"does not go with {name}", "put its turns in front of the others")
    exchange = exchange_from_messages([_message(message) for message in asked] if isinstance(asked, list) else asked)
    if response is None:
        return exchange
    if exchange.response is not None:
        raise InputError("response", f"is given, and {name} holds one, too", "leave one of them out")
    return Exchange(exchange.prompt, response, exchange.history)


def _turns(name: str, value: Any) -> Any:
    """A list of messages; tables often hold it as JSON text."""
    if not isinstance(value, str):
        return value
    try:
        return parse_json(value)
    except JsonError as error:
        raise InputError(name, str(error), "write a list of messages as JSON, or leave it empty") from None


def _message(message: Any) -> Any:
    """A message as OpenAI writes it, of one as collections of chats do: ``{"from": "human", "value": "..."}``."""
    if isinstance(message, dict) and "role" not in message and {"from", "value"} <= message.keys():
        speaker = message["from"]
        return {"role": "assistant" if speaker == "gpt" else speaker, "content": message["value"]}
    if isinstance(message, dict):
        # A table has every key in every row; one without a value was left out.
        return {key: value for key, value in message.items() if value is not None}
    return message


def _identity(value: Any) -> str | int | float | bool | None:
    if isinstance(value, float) and not math.isfinite(value):
        # What tables write where there is no number. JSON has no such thing.
        return None if math.isnan(value) else str(value)
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return json.dumps(value, default=str, ensure_ascii=False)
