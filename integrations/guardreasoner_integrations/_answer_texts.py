"""The texts in answers of the APIs that models are asked by, whole and streamed, by channel.

A channel is what is read as one text: the content of one choice, the arguments of one tool call, the messages of a response.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Any

from guardreasoner_integrations._readings import ChannelReadings, Texts, both_readings, read_by_tool, side_channel, split_handed
from guardreasoner_integrations._texts import TECHNICAL, Unjudged, leaves

__all__ = [
    "MESSAGES",
    "AnthropicEvents",
    "ChatChunks",
    "ResponseEvents",
    "Texts",
    "anthropic_texts",
    "chat_texts",
    "error_texts",
    "response_texts",
]

MESSAGES = "messages"
"""The channel of all messages of a response."""

# Places where litellm and others put once more what stands beside them.
_COPIES = frozenset({"provider_specific_fields", "thinking_blocks"})
_OF_ERRORS = frozenset({"code", "message", "param", "type"})


def chat_texts(body: Mapping[str, Any], unjudged: Unjudged) -> Texts:
    """The texts of a completion; channel: ``(choice, key of the message, number of the tool call)``."""
    return both_readings(_chat_texts(body, unjudged, None))


class ChatChunks:
    """The chunks of one streamed completion."""

    def __init__(self, unjudged: Unjudged) -> None:
        self._unjudged = unjudged
        self._readings = ChannelReadings()

    def texts(self, chunk: Mapping[str, Any]) -> Texts:
        """The texts in a chunk, by the channels of :func:`chat_texts`."""
        return self._readings.both(_chat_texts(chunk, self._unjudged, self._readings))


def _chat_texts(body: Mapping[str, Any], unjudged: Unjudged, readings: ChannelReadings | None) -> Texts:
    found: Texts = {}
    choices = body.get("choices")
    for place, choice in enumerate(choices if isinstance(choices, list) else [body]):
        where = f"choices[{place}]"
        if not isinstance(choice, Mapping):
            found[place, "", 0] = "".join(leaves(choice, where, unjudged))
            continue
        said = set()
        for key, number, at, part in _parts(choice, where):
            channel = (_number(choice.get("index", place)), key, number)
            texts = _texts(part, at, unjudged, channel, readings)
            text = "".join(texts.values())
            if text and not (key in _COPIES and text in said):
                said.add(text)
                _add(found, texts)
    return found


def _texts(part: Any, where: str, unjudged: Unjudged, channel: Hashable, readings: ChannelReadings | None) -> Texts:
    """The text of a part. In a stream (with readings), pieces that a tool is handed belong together, and what else is said
    between them, such as its name once more, does not part them.
    """
    rest, handed = split_handed(part)
    said = "".join(leaves(rest, where, unjudged))
    between = readings is not None and channel in readings.begun
    read = (read_by_tool(one) if readings is None else readings.read_by_tool(channel, one) for one in handed)
    found: Texts = {}
    _add(found, {side_channel(channel, "between") if between else channel: said})
    _add(found, {channel: "".join(read)})
    return {channel: text for channel, text in found.items() if text}


def _add(texts: Texts, more: Texts) -> None:
    for channel, text in more.items():
        texts[channel] = texts.get(channel, "") + text


def _parts(choice: Mapping[str, Any], where: str) -> Iterator[tuple[str, Hashable, str, Any]]:
    for key, value in sorted(choice.items(), key=lambda item: item[0] in _COPIES):
        if key in ("message", "delta") and isinstance(value, Mapping):
            yield from _parts(value, f"{where}.{key}")
        elif key == "tool_calls" and isinstance(value, list):
            for place, call in enumerate(value):
                number = _number(call.get("index", place)) if isinstance(call, Mapping) else place
                yield key, number, f"{where}.{key}[{place}]", call
        elif key not in TECHNICAL:
            # As a mapping of one key, so that what the key says about the value is seen.
            yield key, 0, where, {key: value}


def response_texts(body: Mapping[str, Any], unjudged: Unjudged) -> Texts:
    """The texts of a response: that of all messages together, and that of every other item."""
    found: Texts = {}
    for index, where, part in _output(body):
        channel = MESSAGES if isinstance(part, Mapping) and part.get("type") == "message" else index
        _add(found, _texts(part, where, unjudged, channel, None))
    return both_readings(found)


def _output(body: Mapping[str, Any]) -> Iterator[tuple[int, str, Any]]:
    output = body.get("output")
    if "output_text" in body or not isinstance(output, list):
        # Not the API's own form: whatever is said where text may be.
        yield -1, "output", [body.get("output_text"), output if not isinstance(output, list) else None]
    for index, item in enumerate(output if isinstance(output, list) else ()):
        yield index, f"output[{index}]", item


class ResponseEvents:
    """The events of one streamed response. They say everything twice: in deltas, and then whole."""

    def __init__(self, unjudged: Unjudged) -> None:
        self._unjudged = unjudged
        self._readings = ChannelReadings()
        self._written: Texts = {}
        self._repeated: set[tuple[Hashable, str]] = set()

    def texts(self, event: Mapping[str, Any]) -> Texts:
        """The texts in an event. Events that repeat what deltas said have none: they wait for those."""
        return self._readings.both(self._texts(event))

    def _texts(self, event: Mapping[str, Any]) -> Texts:
        kind, index, delta = str(event.get("type")), _number(event.get("output_index", -1)), event.get("delta")
        if kind.endswith(".delta") and isinstance(delta, str):
            if kind.endswith("arguments.delta"):
                text = self._readings.read_by_tool(index, ("arguments", delta))
            else:
                text = "".join(leaves({"type": kind, "delta": delta}, kind, self._unjudged))
            part = (kind, index, _number(event.get("content_index")), _number(event.get("summary_index")))
            self._written[part] = self._written.get(part, "") + text
            return {(MESSAGES if kind == "response.output_text.delta" else index): text}
        told = event.get("response")
        found: Texts = {}
        for item, where, value in _output(told) if isinstance(told, Mapping) else [(index, kind, event)]:
            rest, handed = split_handed(value)
            for text in (*leaves(rest, where, self._unjudged), *map(read_by_tool, handed)):
                if (item, text) not in self._repeated and text not in self._written.values():
                    self._repeated.add((item, text))
                    found[item] = found.get(item, "") + f"{text}\n"
        return found


def anthropic_texts(body: Mapping[str, Any], unjudged: Unjudged) -> Texts:
    """The texts of an Anthropic message; channel: ``(block, kind of the delta)``."""
    return both_readings(_anthropic_texts(body, unjudged, None))


class AnthropicEvents:
    """The events of one streamed Anthropic message."""

    def __init__(self, unjudged: Unjudged) -> None:
        self._unjudged = unjudged
        self._readings = ChannelReadings()

    def texts(self, event: Mapping[str, Any]) -> Texts:
        """The texts in an event, by the channels of :func:`anthropic_texts`."""
        return self._readings.both(_anthropic_texts(event, self._unjudged, self._readings))


def _anthropic_texts(body: Mapping[str, Any], unjudged: Unjudged, readings: ChannelReadings | None) -> Texts:
    message = body.get("message")
    if isinstance(message, Mapping):
        return _anthropic_texts(message, unjudged, readings)
    if isinstance(body.get("error"), Mapping):
        return error_texts(body, unjudged)
    found: Texts = {}
    blocks = body.get("content")
    if not isinstance(blocks, list):
        blocks = [body.get("delta") or body.get("content_block")]
    for place, block in enumerate(blocks):
        kind = str(block.get("type")) if isinstance(block, Mapping) and "delta" in body else ""
        channel = (_number(body.get("index", place)), kind)
        _add(found, _texts(block, f"content[{place}]", unjudged, channel, readings))
    return found


def error_texts(body: Any, unjudged: Unjudged) -> Texts:
    """What an error holds besides the server's own words, such as the answer in which the error lies."""
    error = body.get("error", body) if isinstance(body, Mapping) else body
    if isinstance(error, Mapping):
        error = {key: value for key, value in error.items() if key not in _OF_ERRORS}
        return both_readings({"error": text}) if (text := "\n".join(leaves(error, "error", unjudged))) else {}
    return {}


def _number(value: object) -> Hashable:
    """A number that the server gives to a part of an answer; what is none is told apart by how it is written."""
    return value if isinstance(value, int | str) else repr(value)
