"""From lists of messages, as the APIs of models take them, to what the guard judges: the last user message with what stands
before it, and what tools gave after it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from guardreasoner_integrations._texts import Unjudged, cannot_be_judged, leaves
from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.exchange import Exchange, exchange_from_messages, visible

__all__ = ["conversation", "said"]

Said = dict[str, str]
"""A message with nothing but text: ``role`` and ``content``."""

_TEXT_PARTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
# What the model wrote itself.
_OWN_PARTS = frozenset({"tool_use", "server_tool_use", "thinking", "redacted_thinking"})


def conversation(field: str, messages: list[Said]) -> Exchange | None:
    """The exchange in a conversation; None where it says nothing at all.

    Raises:
        InputError: there is text, and no message to judge.
    """
    heard = [message for message in messages if visible(message["content"])]
    if not heard:
        return None
    if not any(message["role"].lower() in ("user", "human") for message in heard):
        # Some applications put the task into the instructions and send nothing else.
        asked = next((message for message in reversed(heard) if message["role"] in ("system", "developer")), None)
        if asked is None:
            raise InputError(field, "has no user message", "add a user message with text")
        heard = [{**message, "role": "user"} if message is asked else message for message in heard]
    return exchange_from_messages(heard)


def said(field: str, messages: object, unjudged: Unjudged) -> Iterator[Said]:
    """The messages of Chat Completions, Responses (items) or Anthropic, as text.

    Args:
        field: the place of the messages, for errors.
        messages: the messages.
        unjudged: what to do about images and the like: ``raise``, or ``allow`` to say ``[image_url]`` in their place.

    Raises:
        InputError: something else than a list of messages, or a part that cannot be judged, with its place.
    """
    if not isinstance(messages, list | tuple):
        raise InputError(field, f"must be a list, not {type(messages).__name__}", "send a list of messages")
    for index, message in enumerate(messages):
        where = f"{field}[{index}]"
        if isinstance(message, BaseModel):
            message = message.model_dump(mode="json", warnings=False)
        if not isinstance(message, Mapping):
            raise InputError(where, f"must be a message, not {type(message).__name__}", "send an object with role and content")
        if "role" in message or message.get("type", "message") == "message":
            yield from _message(where, message, unjudged)
        else:
            # An item: what a tool gave, or what the model wrote.
            role = "tool" if str(message["type"]).endswith("_output") else "assistant"
            yield {"role": role, "content": "\n".join(leaves(message, where, unjudged))}


def _message(where: str, message: Mapping[str, Any], unjudged: Unjudged) -> Iterator[Said]:
    content = message.get("content")
    if not isinstance(content, str | list | tuple | None):
        raise InputError(f"{where}.content", f"must be text, not {type(content).__name__}", "send a string or text parts")
    texts = [content] if isinstance(content, str) else []
    for place, part in enumerate(content if isinstance(content, list | tuple) else ()):
        at = f"{where}.content[{place}]"
        if isinstance(part, Mapping) and part.get("type") == "tool_result":
            # Anthropic's tools answer in the user's name.
            yield {"role": "tool", "content": _result(f"{at}.content", part.get("content"), unjudged)}
        else:
            texts.append(_part(at, part, unjudged))
    for key in ("refusal", "tool_calls", "function_call"):
        texts.extend(leaves(message.get(key), f"{where}.{key}", unjudged))
    yield {"role": str(message.get("role", "user")), "content": "\n".join(texts)}


def _result(where: str, content: object, unjudged: Unjudged) -> str:
    parts = content if isinstance(content, list | tuple) else [content or ""]
    return "\n".join(_part(f"{where}[{place}]", part, unjudged) for place, part in enumerate(parts))


def _part(where: str, part: object, unjudged: Unjudged) -> str:
    if isinstance(part, str):
        return part
    kind = str(part.get("type", "text")) if isinstance(part, Mapping) else type(part).__name__
    if isinstance(part, Mapping):
        text = part.get(_TEXT_PARTS.get(kind))
        if isinstance(text, str):
            return text
        if kind in _OWN_PARTS:
            return "\n".join(leaves(part, where, unjudged))
    if unjudged == "raise":
        raise cannot_be_judged(where, kind)
    # The guard is told that something stood there.
    return f"[{kind}]"
