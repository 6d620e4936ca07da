"""What a LangChain message says: its text, the parts that hold none, and the turns of a conversation."""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Mapping, Sequence

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from guardreasoner_sdk._content import Call, Piece, Text, Unread, is_said
from guardreasoner_sdk._content import message as pieces_in
from guardreasoner_sdk._content_table import IMAGES
from guardreasoner_sdk._unescaping import unescape
from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.exchange import MAX_CHARACTERS, Role, Turn, has_visible_text, image_in
from guardreasoner_sdk.images import Image

__all__ = [
    "REMOVED",
    "arguments_of",
    "call_lines",
    "calls_of",
    "from_human",
    "images_in",
    "is_removed",
    "pieces_of",
    "text_of",
    "text_with_key",
    "turn_at",
    "turns",
    "unread_parts",
]

REMOVED = "[This message was removed by the guard.]"
"""What replaces a blocked message that goes into the model."""

# Keys that say nothing about the text under them; that under others is judged with its key.
_PLAIN = frozenset(
    {
        *("", "cited_text", "content", "data", "parts", "reasoning", "reasoning_content", "refusal", "summary", "text"),
        *("thinking", "transcript"),
    }
)


def pieces_of(message: BaseMessage) -> list[Piece]:
    """Everything that a message says, wherever in it that stands."""
    fields = {name: getattr(message, name) for name in type(message).model_fields}
    try:
        return pieces_in({**(message.model_extra or {}), **fields}, "")
    except RecursionError:
        raise InputError("messages", "are nested too deeply", "send messages with less in them") from None


def text_of(message: BaseMessage, *, alone: bool = False) -> str:
    """The text in a message: its content and, where the model gives it, its reasoning; not its tool calls.

    Args:
        message: any message; images and the like in it are left out (:func:`unread_parts` tells of them).
        alone: only what the message says, and not what stands beside that, such as reasoning.
    """
    texts = []
    for piece in pieces_of(message):
        if alone and not is_said(piece, ""):
            continue
        if isinstance(piece, Text):
            texts.append(text_with_key(piece))
        elif isinstance(piece, Call) and not _is_proper(piece):
            texts.append(call_lines(piece))
    return "\n".join(text for text in texts if has_visible_text(text))


def unread_parts(message: BaseMessage) -> list[str]:
    """The types of the parts that hold something other than text, for example ``["image"]``."""
    return [piece.kind for piece in pieces_of(message) if isinstance(piece, Unread)]


def images_in(message: BaseMessage) -> tuple[list[Image], list[str]]:
    """The images that a human's message holds, for a guard that sees, and the types of what is left unread then."""
    images, left = [], []
    for piece in pieces_of(message):
        if not isinstance(piece, Unread):
            continue
        image = _image(piece) if from_human(message) else None
        if image is None:
            left.append(piece.kind)
        else:
            images.append(image)
    return images, left


def _image(piece: Unread) -> Image | None:
    """The image that a part is; None where it is none, or is not here."""
    if piece.kind not in IMAGES or piece.block is None:
        return None
    try:
        return image_in(piece.block, piece.where)
    except InputError:
        return None


def calls_of(message: BaseMessage, *, proper: bool) -> list[Call]:
    """What a message hands to tools.

    Args:
        message: any message; only a model's has tool calls.
        proper: take LangChain's own tool calls, and not what else looks like one (a function call of old, a block that is in
            no ``tool_calls``).
    """
    return [piece for piece in pieces_of(message) if isinstance(piece, Call) and _is_proper(piece) == proper]


def arguments_of(message: BaseMessage, answered: Container[str | None] | None = None, *, every: bool = False) -> str:
    """What a message's tool calls say: each call's name, and its arguments, one ``name: value`` line each.

    Args:
        message: any message; only a model's has tool calls.
        answered: the ids of the calls to take; None: all, and those whose arguments cannot be read as well.
        every: take also what :func:`text_of` tells of: calls that are not among LangChain's own.
    """
    if not isinstance(message, AIMessage):
        return ""
    calls = calls_of(message, proper=True)
    if answered is not None:
        calls = [call for call in calls if call.id in answered]
    return "\n".join(call_lines(call) for call in [*(calls_of(message, proper=False) if every else ()), *calls])


def call_lines(call: Call) -> str:
    """A tool call as lines: its name, then its arguments with theirs. JSON escapes are decoded: the tool gets the letters."""
    given = call.arguments
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError):
            given = unescape(given)
    return "\n".join(line for line in (call.name, *_lines(given)) if has_visible_text(line))


def text_with_key(text: Text) -> str:
    """A piece of text, with its key where that says something."""
    return text.text if text.key in _PLAIN else f"{text.key}: {text.text}"


def turns(messages: Sequence[BaseMessage]) -> list[Turn]:
    """The conversation so far as the guard takes it. Messages without text, and those that a guard removed, are left out.

    They are context here: what is longer than a guard judges is cut.
    """
    said = ((message, text_of(message)) for message in messages if not is_removed(message))
    return [Turn(role=_role(message), content=text[:MAX_CHARACTERS]) for message, text in said if text]


def turn_at(messages: Sequence[BaseMessage], place: int) -> list[int]:
    """Where the human messages of one turn stand: those since the model or a tool spoke, but for those that a guard removed.

    Args:
        place: the turn's last message that counts; later ones are not looked at.
    """
    turn = []
    for at in range(place, -1, -1):
        if from_human(messages[at]):
            if not is_removed(messages[at]):
                turn.append(at)
        elif not isinstance(messages[at], SystemMessage):
            break
    return turn[::-1]


def is_removed(message: BaseMessage) -> bool:
    """Whether all that a message says is that a guard removed it."""
    return text_of(message) == REMOVED and not unread_parts(message)


def from_human(message: BaseMessage) -> bool:
    """Whether a message counts as said by a human: a human one, or one with a role of its own that nobody else stands for."""
    return isinstance(message, HumanMessage | ChatMessage)


def _role(message: BaseMessage) -> Role:
    if from_human(message):
        return "user"
    if isinstance(message, SystemMessage):
        return "system"
    if isinstance(message, AIMessage):
        return "assistant"
    return "tool" if isinstance(message, ToolMessage) else "user"


def _is_proper(call: Call) -> bool:
    return call.where.startswith(("tool_call_chunks[", "tool_calls[", "invalid_tool_calls["))


def _lines(value: object, name: str = "") -> Iterator[str]:
    """Every name and value of nested mappings and sequences."""
    if isinstance(value, Mapping):
        if name:
            yield f"{name}:"
        for key, item in value.items():
            yield from _lines(item, str(key))
    elif isinstance(value, list | tuple):
        if name and not value:
            yield f"{name}:"
        for item in value:
            yield from _lines(item, name)
    else:
        yield f"{name}: {'' if value is None else value}" if name else "" if value is None else str(value)
