"""Responses: answers of the guard's own."""

from __future__ import annotations

import copy
import time
import uuid
from collections.abc import Mapping
from typing import Any

from openai.types.responses import Response

from guardreasoner_integrations._answer_texts import ResponseEvents
from guardreasoner_integrations._sse import event
from guardreasoner_integrations._texts import Unjudged
from guardreasoner_integrations.openai._notes import Note
from guardreasoner_sdk.exchange import Exchange, has_visible_text

__all__ = ["ResponseStream", "instead_of", "response"]

# What echoes the request stays; what the model wrote, and what an SDK does not know, does not.
_KEPT = frozenset(Response.model_fields) - {"output", "output_text", "error", "incomplete_details", "status"}
_DELTAS = {
    "response.output_text.delta": "text",
    "response.refusal.delta": "refusal",
    "response.function_call_arguments.delta": "arguments",
}


def instead_of(body: Mapping[str, Any], note: Note) -> dict[str, Any]:
    """The same response with the guard's answer in place of everything that the model wrote."""
    return _ended({key: value for key, value in body.items() if key in _KEPT} or _begun(note), [_item(note)])


def response(note: Note) -> dict[str, Any]:
    """A response of the guard's own."""
    return _ended(_begun(note), [_item(note)])


def _begun(note: Note) -> dict[str, Any]:
    return {
        "id": f"resp_guard_{uuid.uuid4().hex}",
        "object": "response",
        "created_at": int(time.time()),
        "model": note.model,
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
    }


def _ended(begun: Mapping[str, Any], output: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        **begun,
        "output": output,
        # Not "incomplete", as after a server's own filter: agents treat that as a failure, and nobody reads the message.
        "status": "completed",
        "incomplete_details": {"reason": "content_filter"},
        "error": None,
    }


def _item(note: Note, message: str | None = None) -> dict[str, Any]:
    return {
        "id": f"msg_guard_{uuid.uuid4().hex}",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [_part(note, note.message if message is None else message)],
    }


def _part(note: Note, text: str) -> dict[str, Any]:
    if note.structured:
        return {"type": "refusal", "refusal": text}
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


class ResponseStream:
    """One stream of events: the texts in them, and how to end it early."""

    def __init__(self, opening: Exchange, note: Note, unjudged: Unjudged) -> None:
        self._note = note
        self.texts = ResponseEvents(unjudged).texts
        """The texts in an event, by channel."""
        self._response: dict[str, Any] = {}
        self._items: dict[int, dict[str, Any]] = {}
        self._open: set[int] = set()
        self._number = -1
        self._last = ""

    def released(self, data: Mapping[str, Any]) -> None:
        """Note what the reader has been given. Servers leave events out: what is not known is not ended."""
        kind, index, number = data.get("type"), data.get("output_index", 0), data.get("sequence_number")
        self._number = number if isinstance(number, int) else self._number
        told, item, part, delta = (data.get(key) for key in ("response", "item", "part", "delta"))
        if isinstance(told, Mapping):
            self._response = {key: value for key, value in told.items() if key in _KEPT}
        elif kind in ("response.output_item.added", "response.output_item.done") and isinstance(item, Mapping):
            self._items[index] = copy.deepcopy(dict(item))
            (self._open.discard if kind.endswith(".done") else self._open.add)(index)
        elif index in self._items and kind == "response.content_part.added" and isinstance(part, Mapping):
            self._items[index].setdefault("content", []).append(dict(part))
        elif kind in _DELTAS and isinstance(delta, str):
            if kind == "response.output_text.delta":
                self._last = delta or self._last
            if index in self._items:
                self._grow(self._items[index], _DELTAS[kind], data.get("content_index"), delta)

    @staticmethod
    def _grow(item: dict[str, Any], key: str, place: object, delta: str) -> None:
        parts = [item] if key == "arguments" else item.get("content", [])
        for number, part in enumerate(parts):
            if key == "arguments" or number == place:
                part[key] = part.get(key, "") + delta

    def ending(self) -> list[bytes]:
        """What ends the stream in place of what was blocked: open items end as they are, the message follows as one more."""
        events: list[bytes] = []

        def say(kind: str, **fields: Any) -> None:
            self._number += 1
            events.append(event({"type": kind, "sequence_number": self._number, **fields}, kind))

        if not self._response:
            self._response = _begun(self._note)
            say("response.created", response=self._response)
        for index in sorted(self._open):
            self._items[index]["status"] = "incomplete"
            say("response.output_item.done", output_index=index, item=self._items[index])
        apart = "\n\n" if has_visible_text(self._last) and not self._last[-1].isspace() and not self._note.structured else ""
        index, item = max(self._items, default=-1) + 1, _item(self._note, apart + self._note.message)
        at = {"output_index": index, "item_id": item["id"], "content_index": 0}
        part = item["content"][0]
        key, name = ("refusal", "refusal") if self._note.structured else ("text", "output_text")
        more: dict[str, Any] = {} if self._note.structured else {"logprobs": []}
        say("response.output_item.added", output_index=index, item={**item, "status": "in_progress", "content": []})
        say("response.content_part.added", **at, part={**part, key: ""})
        say(f"response.{name}.delta", **at, delta=part[key], **more)
        say(f"response.{name}.done", **at, **{key: part[key]}, **more)
        say("response.content_part.done", **at, part=part)
        say("response.output_item.done", output_index=index, item=item)
        # Half an answer in JSON is none, and the SDK's helper would try to parse it.
        left_out = self._open if self._note.structured else ()
        whole = [*(self._items[place] for place in sorted(self._items) if place not in left_out), item]
        # The SDK's stream helper treats no other event than this one as an end.
        say("response.completed", response=_ended(self._response, whole))
        return events
