"""From lists of messages, as the APIs of models take them, to what the guard judges: the last user message with what stands
before it, and what tools gave after it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from guardreasoner_integrations._texts import Unjudged, cannot_be_judged
from guardreasoner_sdk._content import Call, Piece, Text, Unread, block, is_said, texts_by_speaker
from guardreasoner_sdk._content_table import IMAGES
from guardreasoner_sdk._unescaping import unescape
from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.exchange import Exchange, exchange_from_messages, has_visible_text, image_in
from guardreasoner_sdk.images import Image

__all__ = ["NO_PROMPT", "Said", "conversation", "read_messages", "readings"]

NO_PROMPT = "(no text)"
"""Stands for a prompt that is not there: what tools gave and what the model says are judged as the answer to something."""

Said = dict[str, Any]
"""A message as it is judged: ``role``, ``content`` and, where something stands beside what it says, that ``alone``. Each is a
text, or a list of parts where images that the guard sees stand in it."""


def conversation(field: str, messages: list[Said], *, continued: bool = False) -> Exchange | None:
    """The exchange in a conversation; None where it says nothing at all.

    What tools gave may come alone, where the server remembers what was asked. It is judged as the answer to
    :data:`NO_PROMPT`.

    Args:
        continued: whether the server is told which conversation it is that they go on with.

    Raises:
        InputError: there is text, and no message to judge.
    """
    heard = [{"role": message["role"], "content": message["content"]} for message in messages if _says(message["content"])]
    if not heard:
        return None
    roles = {message["role"].lower() for message in heard}
    if not roles & {"user", "human"}:
        # Some applications put the task into the instructions and send nothing else.
        asked = next((message for message in reversed(heard) if message["role"] in ("system", "developer")), None)
        if asked is not None:
            heard = [{**message, "role": "user"} if message is asked else message for message in heard]
        elif continued or "tool" in roles:
            heard.insert(0, {"role": "user", "content": NO_PROMPT})
        else:
            raise InputError(field, "has no user message", "add a user message with text")
    return exchange_from_messages(heard, images=True)


def _says(content: str | list[Any]) -> bool:
    return bool(content) if isinstance(content, list) else has_visible_text(content)


def readings(field: str, messages: list[Said], *, continued: bool = False) -> list[Exchange]:
    """:func:`conversation`, first of what is said alone and then of all that is there, to be judged both: enough harmless text
    beside it would hide harm in a message. One exchange where nothing stands beside what is said; none where nothing is there.

    Args:
        continued: whether the server is told which conversation it is that they go on with.

    Raises:
        InputError: there is text, and no message to judge.
    """
    whole = conversation(field, messages, continued=continued)
    if whole is None:
        return []
    heard = [{**message, "content": message.get("alone", message["content"])} for message in messages]
    alone = whole if heard == messages else conversation(field, heard, continued=continued)
    return [whole] if alone in (None, whole) else [alone, whole]


def read_messages(field: str, messages: object, unjudged: Unjudged, *, images: bool = False) -> Iterator[Said]:
    """The messages of Chat Completions, Responses (items) or Anthropic, as text.

    Args:
        unjudged: what to do about images and the like: ``raise``, or ``allow`` to say ``[image_url]`` in their place.
        images: whether the guard sees those of users that are in the messages themselves.

    Raises:
        InputError: something else than a list of messages, or a part that cannot be judged, with its place.
    """
    if not isinstance(messages, list | tuple):
        raise InputError(field, f"must be a list, not {type(messages).__name__}", "send a list of messages")
    for index, message in enumerate(messages):
        try:
            yield from _said(f"{field}[{index}]", message, unjudged, images)
        except RecursionError:
            raise InputError(f"{field}[{index}]", "is nested too deeply", "send a message with less in it") from None


def _said(where: str, message: object, unjudged: Unjudged, images: bool) -> Iterator[Said]:
    if isinstance(message, BaseModel):
        message = message.model_dump(mode="json", warnings=False)
    if not isinstance(message, Mapping):
        raise InputError(where, f"must be a message, not {type(message).__name__}", "send an object with role and content")
    if "role" in message or message.get("type", "message") == "message":
        content = message.get("content")
        if not isinstance(content, str | list | tuple | None):
            fix = "send a string or text parts"
            raise InputError(f"{where}.content", f"must be text, not {type(content).__name__}", fix)
        for role, pieces in texts_by_speaker(str(message.get("role", "user")), message, where):
            see = images and role.lower() in ("user", "human")
            whole = _content(pieces, unjudged, see)
            alone = _content([piece for piece in pieces if is_said(piece, where)], unjudged, see)
            yield {"role": role, "content": whole} | ({"alone": alone} if _says(alone) and alone != whole else {})
    else:
        # An item: what a tool gave, or what the model wrote.
        role = "tool" if str(message["type"]).endswith("_output") else "assistant"
        yield {"role": role, "content": _content(block(message, where), unjudged, False)}


def _content(pieces: Iterable[Piece], unjudged: Unjudged, images: bool) -> str | list[dict[str, Any]]:
    texts: list[str] = []
    parts: list[dict[str, Any]] = []

    def text_part() -> list[dict[str, Any]]:
        text = "\n".join(text for text in texts if text)
        texts.clear()
        return [{"type": "text", "text": text}] if text else []

    for piece in pieces:
        image = _image(piece, unjudged) if images else None
        if image is not None:
            parts += [*text_part(), {"type": "image", "image": image}]
        elif isinstance(piece, Text):
            texts.append(piece.text)
        elif isinstance(piece, Call):
            texts.extend(text for text in (piece.name, unescape(piece.json)) if text)
        elif unjudged == "raise":
            raise cannot_be_judged(piece.where, piece.kind)
        else:
            # The guard is told that something stood there.
            texts.append(f"[{piece.kind}]")
    if parts:
        return [*parts, *text_part()]
    return "\n".join(text for text in texts if text)


def _image(piece: Piece, unjudged: Unjudged) -> Image | None:
    """The image that a piece is; None where it is none, or may pass though nobody sees it.

    Raises:
        InputError: it is one that cannot be judged.
    """
    if not isinstance(piece, Unread) or piece.kind not in IMAGES or piece.block is None:
        return None
    try:
        return image_in(piece.block, piece.where)
    except InputError:
        if unjudged == "raise":
            raise
        return None
