"""What a row of a file is to ``check``: something to judge, or the reason why it cannot be read."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guardreasoner_sdk._text import JsonError, format_names, parse_json
from guardreasoner_sdk.data.columns import CONVERSATIONS, Columns, near_prompt
from guardreasoner_sdk.data.records import Fault, Record, RowSource
from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.exchange import Exchange, exchange_from_messages
from guardreasoner_sdk.images import MAX_IMAGES, Image

__all__ = ["CheckRow", "make_row", "rows_of"]


_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:", re.IGNORECASE)
"""How a URL begins; a drive of Windows is one letter."""

_NAME = re.compile(r"[\w.:/-]{1,40}")
"""What is a column's name for sure, and no text that ought to be judged."""


@dataclass(frozen=True, slots=True)
class CheckRow:
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


def rows_of(source: RowSource, *, after: int = 0) -> Iterator[CheckRow]:
    """The rows of a source.

    Args:
        after: number of the last row to pass over.
    """
    for number, record in source.records():
        if number > after:
            yield make_row(source.read(number, record), source.how.columns, source.how.folder)


def make_row(found: Record | Fault, columns: Columns, folder: Path | None = None) -> CheckRow:
    """What is to be judged of a row, or why it cannot be read.

    Args:
        found: the row as it is in the file.
        folder: where the paths of its images begin; None: it may have none.
    """
    if isinstance(found, Fault):
        return _broken(found, found.problem, found.fix)
    values = found.values
    if found.cells:
        # The prompt stays: one that is empty is told so.
        values = {name: value if name == columns.prompt else value or None for name, value in values.items()}
    asked = columns.prompt if columns.prompt in values else None
    if asked is None and columns.prompt == "prompt":
        asked = next((name for name in CONVERSATIONS if name in values), None)
    if asked is None:
        near = near_prompt(values)
        others = [name for name in values if _NAME.fullmatch(name)]
        more = f" with one of {format_names(others)}" if others else ""
        fix = f"pass --prompt-column {near}" if near is not None else f"give every row a prompt, or pass --prompt-column{more}"
        return _broken(found, f"{columns.prompt}: is missing", fix)
    name_of_response = columns.response_name
    if columns.response is not None and name_of_response not in values:
        return _broken(found, f"{name_of_response}: is missing", "give every row one; null where there is no response")
    response = values.get(name_of_response)
    try:
        identity = _identity(values.get("id"))
    except RecursionError:
        return _broken(found, "id: is no plain value", "use a string or a number")
    try:
        exchange = _exchange(asked, values[asked], response, values.get("history"), _images(values.get("images"), folder))
    except RecursionError:
        return _broken(found, "is nested too deeply", "write texts, and lists of messages")
    except InputError as error:
        name = {"prompt": asked, "response": name_of_response}.get(error.field, error.field)
        unanswered = response is None and name not in CONVERSATIONS and not isinstance(values[asked], list)
        return _broken(found, f"{name}: {error.problem}", error.fix, response=not unanswered, identity=identity)
    return CheckRow(found.number, exchange, identity=identity)


def _broken(found: Record | Fault, problem: str, fix: str, **known: Any) -> CheckRow:
    return CheckRow(found.number, None, f"{found.place}: {problem}; {fix}", problem=problem, fix=fix, **known)


def _exchange(name: str, asked: Any, response: Any, history: Any, images: tuple[Image, ...]) -> Exchange:
    """What a row says is to be judged: a prompt and what may stand around it, or a conversation."""
    history = _turns("history", history)
    if not isinstance(asked, list) and name not in CONVERSATIONS:
        asked = "" if asked is None and images else asked
        return Exchange(asked, response, () if history is None else history, images)
    asked = _turns(name, asked)
    if history is not None:
        raise InputError("history", f"does not go with {name}", "put its turns in front of the others")
    if images:
        raise InputError("images", f"do not go with {name}", "put them into its messages")
    given = [_message(message) for message in asked] if isinstance(asked, list) else asked
    exchange = exchange_from_messages(given, images=True)
    if response is None:
        return exchange
    if exchange.response is not None:
        raise InputError("response", f"is given, and {name} holds one, too", "leave one of them out")
    return exchange.with_response(response)


def _images(value: Any, folder: Path | None) -> tuple[Image, ...]:
    """The images of a row: paths from the file's folder, data URLs, bytes, or bytes as ``datasets`` keeps them."""
    if value is None or value == "":
        return ()
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = parse_json(value)
        except JsonError as error:
            raise InputError("images", str(error), "write a path, a data URL, or a list of them as JSON") from None
    several = value if isinstance(value, list | tuple) else [value]
    if len(several) > MAX_IMAGES:  # before any of them is read
        raise InputError("images", f"has {len(several):,} images, the most is {MAX_IMAGES}", "make several rows of them")
    return tuple(_image(f"images[{place}]" if several is value else "images", one, folder) for place, one in enumerate(several))


def _image(name: str, value: Any, folder: Path | None) -> Image:
    if isinstance(value, dict) and isinstance(value.get("bytes"), bytes):
        value = value["bytes"]
    elif isinstance(value, dict):
        value = value.get("path")
    if not isinstance(value, str) or _ADDRESS.match(value):
        return Image.of(value, name=name)
    if folder is None:
        raise InputError(name, "is a path, and rows that are in no file have none", "write a data URL, or bytes")
    whole = (folder / value).resolve()
    if not whole.is_relative_to(folder.resolve()):
        raise InputError(name, "is a path out of the file's folder", "put the images below it")
    return Image.of(whole, name=name)


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
