"""Chat Completions: answers of the guard's own."""

from __future__ import annotations

import time
import uuid
from collections.abc import Collection, Hashable, Mapping
from typing import Any

from guardreasoner_integrations._answer_texts import ChatChunks, Texts, error_texts
from guardreasoner_integrations._sse import event
from guardreasoner_integrations._texts import Unjudged
from guardreasoner_integrations.openai._notes import Note
from guardreasoner_sdk.exchange import Exchange, has_visible_text

__all__ = ["ChatStream", "completion", "instead_of"]

# What is kept of an answer that is blocked. Anything else in it may quote the text.
_KEPT = ("id", "object", "created", "model", "service_tier", "system_fingerprint", "usage")


def instead_of(body: Mapping[str, Any], blocked: Collection[Hashable], note: Note) -> dict[str, Any]:
    """The same completion with the blocked choices answered by the guard."""
    choices = body.get("choices")
    if not isinstance(choices, list):
        return {**completion(note), **_kept(body)}
    numbers = [choice.get("index", place) if isinstance(choice, Mapping) else place for place, choice in enumerate(choices)]
    found = {channel[0] if isinstance(channel, tuple) else channel for channel in blocked}
    if not found <= set(numbers):
        # It is in no choice, but in the body as somebody may read it otherwise: nothing of that is let by.
        found = set(numbers)
    return {
        **_kept(body),
        "choices": [
            choice if number not in found else _choice(number, note) for number, choice in zip(numbers, choices, strict=True)
        ],
    }


def completion(note: Note) -> dict[str, Any]:
    """A completion of the guard's own."""
    return {
        **_head(note, "chat.completion"),
        "choices": [_choice(index, note) for index in range(note.choices)],
        "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    }


def _kept(body: Mapping[str, Any]) -> dict[str, Any]:
    return {key: body[key] for key in _KEPT if key in body}


def _head(note: Note, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-guard-{uuid.uuid4().hex}", "object": kind, "created": int(time.time()), "model": note.model}


def _choice(index: int, note: Note) -> dict[str, Any]:
    said = {"content": None, "refusal": note.message} if note.structured else {"content": note.message, "refusal": None}
    return {"index": index, "message": {"role": "assistant", **said}, "finish_reason": _finish(note), "logprobs": None}


def _finish(note: Note) -> str:
    # The SDK's parse and stream helpers raise on "content_filter".
    return "stop" if note.helper else "content_filter"


class ChatStream:
    """One stream of chunks: the texts in them, and how to end it early."""

    def __init__(self, opening: Exchange, note: Note, unjudged: Unjudged) -> None:
        self._note = note
        self._unjudged = unjudged
        self._chunks = ChatChunks(unjudged)
        self._head = _head(note, "chat.completion.chunk")
        self._finished: set[int] = set()
        self._last: dict[int, str] = {}

    def texts(self, data: Mapping[str, Any]) -> Texts:
        """The texts in a chunk, by channel."""
        if data.get("error") and "choices" not in data:
            return error_texts(data, self._unjudged)  # The SDK makes an exception of it.
        if data.get("id"):
            self._head |= {key: data[key] for key in ("id", "created", "model") if key in data}
        return self._chunks.texts(data)

    def released(self, data: Mapping[str, Any]) -> None:
        """Note what the reader has been given."""
        choices = data.get("choices")
        for place, choice in enumerate(choices if isinstance(choices, list) else ()):
            if isinstance(choice, Mapping):
                index = choice.get("index", place)
                if choice.get("finish_reason"):
                    self._finished.add(index)
                delta = choice.get("delta")
                text = delta.get("content") if isinstance(delta, Mapping) else None
                if text and isinstance(text, str):
                    self._last[index] = text

    def ending(self) -> list[bytes]:
        """What ends the stream in place of what was blocked: every choice that is not finished gets the message."""
        ending = []
        for index in range(self._note.choices):
            if index not in self._finished:
                ending.append(self._chunk(index, {"role": "assistant", **self._said(index)}, None))
                ending.append(self._chunk(index, {}, _finish(self._note)))
        return [*ending, b"data: [DONE]\n\n"]

    def _said(self, index: int) -> dict[str, str]:
        if self._note.structured:
            return {"refusal": self._note.message}
        # Set apart from what the reader has seen already.
        shown = self._last.get(index, "")
        apart = "\n\n" if has_visible_text(shown) and not shown[-1].isspace() else ""
        return {"content": apart + self._note.message}

    def _chunk(self, index: int, delta: Mapping[str, str], finish: str | None) -> bytes:
        return event({**self._head, "choices": [{"index": index, "delta": delta, "finish_reason": finish, "logprobs": None}]})
