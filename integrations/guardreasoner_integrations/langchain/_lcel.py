"""Prompts and answers as LCEL passes them around: texts, messages, prompt values, and mappings with one of these."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage, convert_to_messages
from langchain_core.prompt_values import PromptValue

from guardreasoner_integrations.langchain._messages import call_lines, pieces_of, text_of, text_with_key, unread_parts
from guardreasoner_integrations.langchain._questions import ModelAnswer, Prompt, answer_of, prompt_of, read_answer
from guardreasoner_sdk import InputError
from guardreasoner_sdk._content import Call, Text
from guardreasoner_sdk._unescaping import SecondReading, Unescaper

__all__ = ["ChunkReader", "answer_in", "prompt_in", "text_in", "unread_in"]


def prompt_in(given: Any, key: str | None) -> Prompt:
    """What an input of LCEL asks.

    Args:
        given: a str, a prompt value, a message, messages, or a mapping.

    Raises:
        InputError: none of these, or no such key.
    """
    if isinstance(given, Mapping):
        given = _under("input", given, key)
    if isinstance(given, str):
        return prompt_of([HumanMessage(given)])
    if isinstance(given, PromptValue):
        return prompt_of(given.to_messages())
    if isinstance(given, BaseMessage):
        return prompt_of([given])
    if isinstance(given, Sequence):
        return prompt_of(convert_to_messages(given))
    raise InputError("input", f"is a {type(given).__name__}", "pass a str, a prompt value, messages, or a mapping")


def answer_in(returned: Any, key: str | None) -> ModelAnswer:
    """What an output of LCEL answers.

    Raises:
        InputError: none of these, or no such key.
    """
    if isinstance(returned, Mapping):
        returned = _under("output", returned, key)
    if isinstance(returned, BaseMessage):
        return answer_of([returned])
    return read_answer(_str(returned))


def text_in(chunk: Any, key: str | None) -> str:
    """The text in a chunk of a stream; a chunk of a mapping that lacks the key has none.

    Args:
        chunk: a str, a message chunk, or a mapping.

    Raises:
        InputError: none of these.
    """
    value = _value(chunk, key)
    return text_of(value) if isinstance(value, BaseMessage) else _str(value)


_PLACES = re.compile(r"\[\d+\]")


class ChunkReader:
    """What the chunks of one stream say, by what is read as one text: each place of a message, and each tool call.

    Args:
        key: where in a chunk that is a mapping.
    """

    def __init__(self, key: str | None) -> None:
        self._key = key
        self._readers: dict[Hashable, Unescaper] = {}
        self._second: dict[Hashable, SecondReading] = {}
        self._names: dict[Hashable, str] = {}

    def texts(self, chunk: Any) -> dict[Hashable, str]:
        """The new text in a chunk, by channel. The escapes of JSON are decoded, as far as they have come.

        Args:
            chunk: a str, a message chunk, or a mapping.
        """
        found = self._said(chunk)
        for channel, text in [*found.items()]:
            # Nobody knows whether the reader of an answer will parse it.
            reader = self._second.setdefault(channel, SecondReading(decoded=channel in self._readers))
            if more := reader.feed(text):
                found["decoded", channel] = more
        return found

    def _said(self, chunk: Any) -> dict[Hashable, str]:
        value = _value(chunk, self._key)
        if not isinstance(value, BaseMessage):
            return {"text": _str(value)}
        pieces = pieces_of(value)
        found: dict[Hashable, str] = {}
        for piece in pieces:
            if isinstance(piece, Text):
                place = _PLACES.sub("", piece.where)
                channel: Hashable = "text" if place in ("content", "content.text") else place
                found[channel] = f"{found[channel]}\n{text_with_key(piece)}" if channel in found else text_with_key(piece)
        for number, call in enumerate(piece for piece in pieces if isinstance(piece, Call)):
            channel = ("call", number if call.index is None else call.index)
            found[channel] = found.get(channel, "") + "".join(self._call(channel, call))
        return found

    def _call(self, channel: Hashable, call: Call) -> Iterator[str]:
        if not isinstance(call.arguments, str):
            # A model that cannot stream gives its whole message as the only chunk.
            yield f"{call_lines(call)}\n"
            return
        if call.index is None:
            # Such a piece is a call of its own.
            self._readers.pop(channel, None)
        if call.name and (call.index is None or self._names.get(channel) != call.name):
            # Some servers say the name with every piece.
            self._names[channel] = call.name
            yield f"{call.name}\n"
        yield self._readers.setdefault(channel, Unescaper()).feed(call.arguments)


def unread_in(chunk: Any, key: str | None) -> tuple[str, ...]:
    """The types of the parts of a chunk that are not text."""
    value = _value(chunk, key)
    return tuple(unread_parts(value)) if isinstance(value, BaseMessage) else ()


def _under(field: str, value: Mapping[str, Any], key: str | None) -> Any:
    if key is None:
        raise InputError(field, "is a mapping", f"name the key of its text: {field}_key=...")
    if key not in value:
        raise InputError(field, f"has no key {key!r}", f"name the key of its text: {field}_key=...")
    return value[key]


def _value(chunk: Any, key: str | None) -> Any:
    if not isinstance(chunk, Mapping):
        return chunk
    return chunk.get(key, "") if key is not None else _under("output", chunk, None)


def _str(value: Any) -> str:
    if isinstance(value, str):
        return value
    fix = "let the chain return a str, a message, or a mapping, and name its key: output_key=..."
    raise InputError("output", f"is a {type(value).__name__}", fix)
