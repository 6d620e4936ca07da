"""Texts as their readers will see them: what is written in JSON inside of them, decoded, whole and in pieces."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from typing import Any

from guardreasoner_sdk._unescaping import SecondReading, Unescaper, second_reading, unescape

__all__ = ["ChannelReadings", "Handed", "Texts", "both_readings", "read_by_tool", "side_channel", "split_handed"]

Texts = dict[Hashable, str]
"""Texts by channel: what is read as one text."""

# What is handed to a tool: JSON as text, in pieces, or as an object. The input of a custom tool is any text.
_JSON = frozenset({"arguments", "partial_json"})
_HANDED = _JSON | {"input"}

Handed = tuple[str, Any]
"""What a tool is handed, with its key."""


def split_handed(value: Any) -> tuple[Any, list[Handed]]:
    """A JSON value without what tools are handed in it, and that."""
    handed: list[Handed] = []
    return _without(value, handed), handed


def _without(value: Any, handed: list[Handed]) -> Any:
    if isinstance(value, list | tuple):
        return [_without(part, handed) for part in value]
    if not isinstance(value, Mapping):
        return value
    kept = {}
    for key, part in value.items():
        if key in _HANDED and (isinstance(part, str) or (part and isinstance(part, Mapping | list))):
            handed.append((key, part))
        else:
            kept[key] = _without(part, handed)
    return kept


def read_by_tool(handed: Handed) -> str:
    """What a tool is handed, as it reads it: names, numbers and strings, without escapes."""
    key, given = handed
    if isinstance(given, str):
        return unescape(given) if key in _JSON else given
    return unescape(json.dumps(given, ensure_ascii=False))


class ChannelReadings:
    """Follows the channels of one stream: arguments are decoded, and other texts have a second reading where they hold JSON."""

    def __init__(self) -> None:
        self._arguments: dict[Hashable, Unescaper] = {}
        self._second: dict[Hashable, SecondReading] = {}
        self.begun: set[Hashable] = set()
        """The channels in which a tool was handed something."""

    def read_by_tool(self, channel: Hashable, handed: Handed) -> str:
        """A piece of what a tool is handed, as far as it can be read by now."""
        key, given = handed
        self.begun.add(channel)
        if key in _JSON and isinstance(given, str):
            return self._arguments.setdefault(channel, Unescaper()).feed(given)
        return read_by_tool(handed)

    def both(self, texts: Mapping[Hashable, str]) -> Texts:
        """Texts with what their second reading adds, in channels of its own."""
        found = dict(texts)
        for channel, text in texts.items():
            if channel not in self._second:
                self._second[channel] = SecondReading(decoded=channel in self._arguments)
            if more := self._second[channel].feed(text):
                found[side_channel(channel, "decoded")] = more
        return found


def both_readings(texts: Mapping[Hashable, str]) -> Texts:
    """:meth:`ChannelReadings.both` of texts that are there as a whole."""
    second = {side_channel(channel, "decoded"): second_reading(text) for channel, text in texts.items()}
    return {**texts, **{channel: text for channel, text in second.items() if text}}


def side_channel(channel: Hashable, name: str) -> Hashable:
    """A further channel of a channel: what of its text is read as a text of its own."""
    return (*channel, name) if isinstance(channel, tuple) else (channel, name)
