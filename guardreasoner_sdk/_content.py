"""What is in messages: the walk that reads them, by the table of what their places and blocks hold.

The rule is closed. Whatever is not in the table holds something until proven otherwise: its strings are text, and where it has
none, or refers to something that is not in the message, it cannot be judged. Only names that are known say nothing: protocol
keys (where their value is a word, not a text), markers, and what is sealed for everyone but the provider.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Literal, NamedTuple, TypeVar
from uuid import UUID

from pydantic import BaseModel

from guardreasoner_sdk._content_table import (
    ARGUMENTS,
    ASIDE,
    AUDIO,
    AUDIO_EVENTS,
    BESIDE,
    BINARY,
    BLOCKS,
    CALLS,
    COPIES,
    HOLDERS,
    ITEMS,
    MARKERS,
    MEDIA,
    NO_CONTENT,
    PICTURES,
    PROTOCOL,
    QUOTED,
    REFERENCES,
    RESULTS,
    SAYING,
    SEALED,
    SEALED_TYPES,
    SOURCES,
)
from guardreasoner_sdk._unescaping import unescape

__all__ = ["Call", "Piece", "Text", "Unread", "block", "is_said", "message", "texts_by_speaker", "walk"]


class Text(NamedTuple):
    """Text to judge, and the key that it stands under."""

    text: str
    key: str
    where: str


class Call(NamedTuple):
    """What a model hands to a tool: its name, and the arguments as they came (JSON, a piece of it, or a value)."""

    name: str
    arguments: Any
    where: str
    id: str | None = None
    index: Any = None

    @property
    def json(self) -> str:
        """The arguments as JSON; as they came where that is text."""
        given = self.arguments
        if isinstance(given, str):
            return given
        try:
            return json.dumps(given, ensure_ascii=False, default=str)
        except (TypeError, ValueError):  # keys that JSON has not, or a circle: what Python writes says it all the same
            return repr(given)

    @property
    def written(self) -> str:
        """The call as ``name(arguments)``, with the escapes of JSON decoded: the tool gets the letters."""
        given = unescape(self.json)
        return f"{self.name}({given})" if self.name else given

    @property
    def same(self) -> tuple[str, str]:
        """Equal for two calls that say the same, however it is written."""
        given = self.arguments
        if isinstance(given, str):
            try:
                given = json.loads(given)
            except (ValueError, RecursionError):
                return self.name, given
        try:
            return self.name, json.dumps(given, sort_keys=True, default=str) if given else ""
        except (TypeError, ValueError):
            return self.name, repr(given)
        except RecursionError:
            return self.name, f"nested too deeply, at {id(given)}"


class Unread(NamedTuple):
    """Something that is no text, or no text that is here: its kind, fit to be named in an error, and the block that holds it,
    where it is one of a medium."""

    kind: str
    where: str
    block: Mapping[Any, Any] | None = None


Piece = Text | Call | Unread
R = TypeVar("R", bound=str)

_DATA = re.compile(r"data:[\w/+.;=-]*;base64,[\w+/=-]*", re.ASCII)
# A protocol's word: no blanks, nothing but ASCII.
_WORD = re.compile(r"[!-~]*")
# What may be shown in an error.
_NAME = re.compile(r"[\w.-]{1,60}", re.ASCII)
_STEPS = re.compile(r"[^.\[\]]+")
_NUMBERS = (int, float, complex, Decimal, date, time, timedelta, UUID)


def walk(value: object, where: str = "", key: str = "", *, quoted: bool = True) -> Iterator[Piece]:
    """Every text in a value, in order, and whatever is no text.

    Args:
        quoted: whether an address in it is a quotation, and not a reference to something that a model reads.
    """
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, BaseModel):
        value = value.model_dump(warnings=False)
    if isinstance(value, str):
        # Text behind such a beginning is still text.
        if _DATA.fullmatch(value) is not None:
            yield Unread("data: URL", where)
        else:
            yield Text(value, key, where)
    elif isinstance(value, Mapping):
        yield from _mapping(value, where, key, quoted)
    elif isinstance(value, list | tuple | Set):
        for index, part in enumerate(value):
            yield from walk(part, f"{where}[{index}]", key, quoted=quoted)
    elif value is not None and not isinstance(value, _NUMBERS):
        yield Unread(type(value).__name__, where)


def block(value: object, where: str) -> Iterator[Piece]:
    """:func:`walk` for a block of a message's content: one of an unknown type that says nothing is unread."""
    if isinstance(value, BaseModel):
        value = value.model_dump(warnings=False)
    if isinstance(value, Mapping):
        found = list(_mapping(value, where, "", False))
        kind = _kind(value)
        says = any(not isinstance(piece, Text) or piece.text for piece in found)
        if not says and kind not in BLOCKS and (kind is not None or any(_says(*item) for item in value.items())):
            found = [Unread(name_block_type(kind), where)]
        yield from found
    elif isinstance(value, _NUMBERS):
        yield Unread(type(value).__name__, where)
    else:
        yield from walk(value, where, "text")


def message(value: Mapping[str, Any], where: str) -> list[Piece]:
    """Every piece of one message, of whichever API: its content, what else it holds, and its tool calls. A call that is told
    twice comes once.
    """
    told: set[object] = set()
    found: list[Piece] = list(_unheard(value, where))
    calls: list[Piece] = []
    derived = CALLS[1:] if value.get(CALLS[0]) else ()
    for key in sorted(value, key=_turn):
        part = value[key]
        if key in derived or key in ASIDE or (key == "name" and _quiet(part)) or (key not in ITEMS and _is_opaque(part)):
            continue
        if key == "additional_kwargs" and isinstance(part, Mapping):
            part = {name: inner for name, inner in part.items() if not _is_opaque(inner)}
        for piece in _mapping({key: part}, where, "", key not in ITEMS):
            same = _same(piece)
            if not (same in told and (isinstance(piece, Call) or key in COPIES)):
                (calls if key in CALLS else found).append(piece)
            told.add(same)
    return [*found, *calls]


def is_said(piece: Piece, where: str) -> bool:
    """Whether a piece is what a message says, and not something that stands beside it: reasoning, quotations, fields of an
    application's own. What is said has to be judged alone, too: enough harmless text beside it would hide harm in it.
    """
    if not isinstance(piece, Text):
        return True
    steps = _STEPS.findall(piece.where.removeprefix(where))
    return bool(steps) and steps[0] in SAYING and not BESIDE.intersection((*steps, piece.key))


def texts_by_speaker(role: R, value: Mapping[str, Any], where: str) -> Iterator[tuple[R | Literal["tool"], list[Piece]]]:
    """:func:`message` by who says it: Anthropic's tools answer in the user's name."""
    content = value.get("content")
    results = {}
    if role == "user" and isinstance(content, list | tuple):
        results = {
            place: part for place, part in enumerate(content) if isinstance(part, Mapping) and part.get("type") == "tool_result"
        }
    for place, part in results.items():
        yield "tool", list(block(part, f"{where}.content[{place}]"))
    if results:
        # What is left keeps its places.
        value = {**value, "content": ["" if place in results else part for place, part in enumerate(content or ())]}
    if not results or any(value["content"]):
        yield role, message(value, where)


def _is_opaque(value: object) -> bool:
    """Whether it is an object of an application's own: beside the content it holds no text that a model reads."""
    known = (str, bytes, bytearray, memoryview, Mapping, Sequence, Set, BaseModel, Enum, *_NUMBERS)
    return value is not None and not isinstance(value, known)


def _unheard(value: Mapping[str, Any], where: str) -> Iterator[Unread]:
    """Sound that is only named: an earlier answer, which the provider keeps. In a piece of a stream the rest may follow."""
    if CALLS[0] not in value:
        for holder in (value, value.get("additional_kwargs")):
            sound = holder.get("audio") if isinstance(holder, Mapping) else None
            if isinstance(sound, Mapping) and not sound.keys() & {"data", "transcript"}:
                yield Unread("audio", f"{where}.audio" if where else "audio")


def _turn(key: object) -> int:
    """Tool calls are read first, to know them again elsewhere; copies last."""
    return 0 if key in CALLS else 1 if key in ITEMS else 3 if key in COPIES else 2


def _same(piece: Piece) -> object:
    return piece.same if isinstance(piece, Call) else piece.text if isinstance(piece, Text) else None


def _kind(holder: Mapping[Any, Any]) -> str | None:
    """What a part says it is; a type that is no word is none that is known."""
    kind = holder.get("type")
    return kind if kind is None or isinstance(kind, str) else ""


def name_block_type(kind: object) -> str:
    """A block's type, fit for an error: what may be text to judge is not quoted."""
    if kind is None:
        return "a part without a type"
    return kind if isinstance(kind, str) and _NAME.fullmatch(kind) else "a part of an unknown type"


def _mapping(holder: Mapping[Any, Any], where: str, above: str, quoted: bool) -> Iterator[Piece]:
    kind = _kind(holder)
    known = isinstance(kind, str) and kind in BLOCKS
    media = isinstance(kind, str) and (kind in MEDIA or (above == "source" and kind in SOURCES))
    media = media and holder.get("source_type") != "text"
    if media:
        yield Unread(str(kind), where, holder)
    quoted = known or (quoted and not media)
    calls = [key for key, value in holder.items() if key in ARGUMENTS and value is not None]
    for key, value in sorted(holder.items(), key=lambda item: item[0] in QUOTED):
        unseen = key in REFERENCES and not quoted
        if (_passed(key, value) and not unseen) or (key == "data" and kind in SEALED_TYPES and _quiet(value)):
            continue
        # A key may be text to judge, which belongs into no error.
        shown = key if isinstance(key, str) and _NAME.fullmatch(key) else "..."
        place = f"{where}.{shown}" if where else shown
        if key == "text" and isinstance(value, _NUMBERS):
            yield Unread(type(value).__name__, place)
        elif key in calls or (key in RESULTS and (key == "json" or "name" in holder) and isinstance(value, Mapping | list)):
            # What a tool chose to say, too: no key of it is the protocol's.
            yield Call(str(holder.get("name") or ""), value, place, holder.get("id"), holder.get("index"))
        elif key == "name" and calls:
            continue
        elif not _empty(value) and (unseen or _is_media(holder, key, value, above)):
            if not media:
                yield Unread(name_block_type(above or key if kind is None else kind), place)
            elif isinstance(value, Mapping):
                yield from _beside(value, place, key)
        elif media and isinstance(value, Mapping):
            yield from _beside(value, place, key)
        elif key in ITEMS and isinstance(value, list | tuple):
            for index, part in enumerate(value):
                at = f"{place}[{index}]"
                yield from walk(part, at, key) if quoted and kind not in HOLDERS else block(part, at)
        else:
            if not _quiet(key):
                yield Text(str(key), "", place)
            yield from walk(value, place, str(key), quoted=quoted)


def _empty(value: object) -> bool:
    return value is None or (isinstance(value, str | bytes | bytearray | Mapping | Sequence | Set) and not value)


def _beside(value: Mapping[Any, Any], place: str, key: str) -> Iterator[Piece]:
    """The text that stands beside a medium: that it is one was said already."""
    return (piece for piece in _mapping(value, place, key, False) if not isinstance(piece, Unread))


def _passed(key: object, value: object) -> bool:
    if key in NO_CONTENT:
        # Tokens have blanks.
        return _quiet(value) or (key == "logprobs" and not isinstance(value, str))
    if key in PROTOCOL or key in MARKERS:
        return _quiet(value)
    return key in SEALED and (isinstance(value, bytes | bytearray) or _quiet(value))


def _quiet(value: object) -> bool:
    """Whether all strings in a value are words of a protocol."""
    if isinstance(value, str):
        return _WORD.fullmatch(value) is not None
    if isinstance(value, Mapping):
        return all(_quiet(part) for item in value.items() for part in item)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return all(_quiet(part) for part in value)
    return value is None or isinstance(value, _NUMBERS)


def _is_media(holder: Mapping[Any, Any], key: str, value: object, above: str) -> bool:
    kind = _kind(holder)
    return (
        isinstance(value, bytes | bytearray | memoryview)
        or key in BINARY
        or (key in PICTURES and _holds_words(value))
        or (key == "data" and above in AUDIO)
        or (key == "result" and kind == "image_generation_call")
        or (key == "delta" and kind in AUDIO_EVENTS)
    )


def _holds_words(value: object) -> bool:
    """Whether strings without a blank stand there, or bytes: a picture, or where one is."""
    parts = value if isinstance(value, list | tuple) else [value]
    return any(isinstance(part, bytes | bytearray) or (isinstance(part, str) and part != "" and _quiet(part)) for part in parts)


def _says(key: object, value: object) -> bool:
    return bool(value) and not _passed(key, value)
