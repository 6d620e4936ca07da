"""Server-sent events and lines out of chunks of bytes, wherever the chunks end."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["Splitter", "data_of", "event", "extras_of"]

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"
# Not merely a word: in Chinese, a sentence is one.
_NAME = re.compile(rb"[\w.:/+=@~-]{0,100}")


class Splitter:
    """Cuts a stream of bytes into lines, or into events; put together they are the stream again, byte for byte.

    Args:
        events: whether a blank line ends a piece, and not every line.
    """

    def __init__(self, *, events: bool) -> None:
        self._events = events
        self._raw = bytearray()
        self._line = 0
        self._scanned = 0

    def __len__(self) -> int:
        """Bytes that wait for the end of their piece."""
        return len(self._raw)

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The pieces that a further chunk completes."""
        self._raw += chunk
        while (match := _LINE_END.search(self._raw, self._scanned)) is not None:
            self._scanned = match.start()
            if match.group() == b"\r" and match.end() == len(self._raw):
                # The LF that belongs to it may be on its way.
                return
            ends = not self._events or match.start() == self._line
            self._line = self._scanned = match.end()
            if ends:
                yield self._cut(match.end())
        self._scanned = len(self._raw)

    def end(self) -> Iterator[bytes]:
        """What is left when the stream is over: some readers treat a last event without its end as one."""
        if self._raw:
            yield self._cut(len(self._raw))

    def _cut(self, end: int) -> bytes:
        piece = bytes(self._raw[:end])
        del self._raw[:end]
        self._line = self._scanned = 0
        return piece


def data_of(raw: bytes) -> bytes:
    """The data of an event, as browsers read it.

    See https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation.
    """
    return b"\n".join(value for name, value, _ in _fields(raw) if name == b"data")


def extras_of(raw: bytes) -> bytes:
    """What else in an event could be text: lines of no known field, and names and ids that are no single word of ASCII.

    Servers that forget to begin each line of a text with ``data:`` send such; somebody may show them. Comments keep
    connections alive, and are no text.
    """
    return b"\n".join(line for name, value, line in _fields(raw) if not _technical(name, value))


def _technical(name: bytes, value: bytes) -> bool:
    if name in (b"event", b"id"):
        return _NAME.fullmatch(value.strip()) is not None
    return name in (b"data", b"") or (name == b"retry" and value.isdigit())


def _fields(raw: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    for line in _LINE_END.split(raw.removeprefix(_BOM)):
        if line:
            name, _, value = line.partition(b":")
            yield name, value.removeprefix(b" "), line


def event(data: Mapping[str, Any], name: str | None = None) -> bytes:
    """An event with this data and name."""
    head = f"event: {name}\n" if name is not None else ""
    return f"{head}data: {json.dumps(data, separators=(',', ':'))}\n\n".encode()
