"""Streamed bodies, cut into the pieces that are held back and let go as wholes."""

from __future__ import annotations

import codecs
import json
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from guardreasoner_integrations._json import TwiceError, UnclearError, document_or_text, parse
from guardreasoner_integrations._readings import ChannelReadings
from guardreasoner_integrations._sse import Splitter, data_of, extras_of
from guardreasoner_integrations.asgi._bodies import Headers, only_message
from guardreasoner_integrations.asgi._replies import Reply, unreadable
from guardreasoner_integrations.asgi._routes import GuardedRoute, Parts, TextPath
from guardreasoner_sdk import InputError

__all__ = ["BodyPiece", "Cutter", "cutter_for"]

_JSON_LINES = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"})


@dataclass(frozen=True)
class BodyPiece:
    """A part of a streamed body.

    Args:
        raw: its bytes, as they came.
        texts: the text in it, by answer.
        place: where the first of it stands.
        found: whether the path matched in it, even if that is only null.
        data: whether it says anything, to the path or not.
    """

    raw: bytes = field(repr=False)
    texts: Mapping[Hashable, str] = field(default_factory=dict, repr=False)
    place: Parts = ()
    found: bool = False
    data: bool = True


class Cutter(Protocol):
    """Cuts a body into pieces, wherever its chunks end."""

    def feed(self, chunk: bytes) -> Iterator[BodyPiece]:
        """The pieces that a further chunk completes."""
        ...

    def end(self) -> Iterator[BodyPiece]:
        """What is left."""
        ...

    separator: bytes
    """What sets a last piece apart from those before it."""

    def message(self, message: str, place: Parts) -> bytes:
        """A message to the reader, as a piece in the place where the text stood."""
        ...

    def error(self, reply: Reply) -> bytes:
        """An error, as the last piece."""
        ...


def cutter_for(route: GuardedRoute, headers: Headers, limit: int) -> Cutter | None:
    """The cutter for a response; None where it is no stream that can be read.

    Raises:
        RefusedError: a stream of events on a route that does not say where their text stands, or an unknown character set.
    """
    if headers.media_type == "text/plain":
        try:
            return PlainText(headers.charset)
        except LookupError:
            raise unreadable(f"unknown charset {headers.charset!r:.40}; use utf-8") from None
    if headers.charset not in ("utf-8", "utf8", "us-ascii"):
        raise unreadable(f"the stream is in {headers.charset!r:.40}; events and JSON are sent in UTF-8")
    kind = ServerSentEvents if headers.media_type == "text/event-stream" else JsonLinesCutter
    if kind is JsonLinesCutter and headers.media_type not in _JSON_LINES:
        return None
    if route.event is None:
        raise unreadable(f"the app answered with {headers.media_type}; say where its text stands with GuardedRoute(event=...)")
    return kind(route.event, limit)


class PlainText:
    """Text as it stands."""

    separator = b"\n\n"

    def __init__(self, charset: str) -> None:
        self._decoder = codecs.getincrementaldecoder(charset)(errors="replace")
        self._readings = ChannelReadings()

    def feed(self, chunk: bytes) -> Iterator[BodyPiece]:
        if chunk:
            yield BodyPiece(chunk, self._readings.both({(): self._decoder.decode(chunk)}), found=True)

    def end(self) -> Iterator[BodyPiece]:
        rest = self._decoder.decode(b"", final=True)
        if rest:
            yield BodyPiece(b"", self._readings.both({(): rest}), found=True)

    def message(self, message: str, place: Parts) -> bytes:
        return f"{message}\n".encode()

    def error(self, reply: Reply) -> bytes:
        return reply.body + b"\n"


class _Lines:
    """What formats made of lines share."""

    separator = b""

    def __init__(self, path: TextPath, limit: int, *, events: bool) -> None:
        self._path = path
        self._limit = limit
        self._splitter = Splitter(events=events)
        self._readings = ChannelReadings()
        self._strings: bool | None = None
        """Whether all events that are nothing but text were strings in JSON; None before the first one."""

    def feed(self, chunk: bytes) -> Iterator[BodyPiece]:
        for raw in self._splitter.feed(chunk):
            yield self._piece(raw)
        if len(self._splitter) > self._limit:
            raise unreadable(f"an event has more than {self._limit:,} bytes; raise max_body")

    def end(self) -> Iterator[BodyPiece]:
        for raw in self._splitter.end():
            yield self._piece(raw)

    def _piece(self, raw: bytes) -> BodyPiece:
        data, extras = (part.decode("utf-8", errors="replace") for part in self._parts(raw))
        texts: dict[Hashable, str] = {"extras": extras}
        if not data.strip() or data.strip() == "[DONE]":
            return BodyPiece(raw, self._readings.both(texts), data=bool(extras))
        document = self._document(data)
        if isinstance(document, str):
            return BodyPiece(raw, self._readings.both({**texts, (): document}), found=True)
        try:
            found = self._path.texts(document)
        except InputError as error:
            raise unreadable(str(error)) from None
        for place, text in found or ():
            answer = _answer(document, place)
            key = str(place[-1]) if place else ""
            texts[answer] = texts.get(answer, "") + self._readings.read_by_tool(answer, (key, text))
        return BodyPiece(raw, self._readings.both(texts), found[0][0] if found else (), found=found is not None)

    def _document(self, data: str) -> Any:
        """What a piece says: a document, or text.

        Raises:
            RefusedError: who reads it leniently sees another document than the one that is judged.
        """
        try:
            document = document_or_text(data) if self._path.path != "$" else _plain(data)
        except UnclearError as error:
            raise unreadable(f"an event {error}; send each as one JSON document") from None
        if isinstance(document, str):
            self._strings = document != data and self._strings is not False
        elif self._path.path == "$" and isinstance(document, int | float):
            return data  # A word like any other.
        return document

    def _parts(self, raw: bytes) -> tuple[bytes, bytes]:
        """The data of a piece, and what else in it could be text."""
        raise NotImplementedError


def _plain(data: str) -> Any:
    """What an event of nothing but text says: a string in JSON, or the text as it stands, whatever it begins like."""
    try:
        return parse(data, strict=False)
    except TwiceError as error:
        raise UnclearError(str(error)) from None
    except ValueError:
        return data


def _answer(document: Any, place: Parts) -> Parts:
    """Which answer a text belongs to: its place, with numbers as the document counts: chunks of choice 1 say so by an index."""
    answer: list[int | str] = []
    for part in place:
        document = document[part]
        index = document.get("index") if isinstance(part, int) and isinstance(document, dict) else None
        answer.append(index if isinstance(index, int) else part)
    return tuple(answer)


class ServerSentEvents(_Lines):
    """Events as browsers read them."""

    def __init__(self, path: TextPath, limit: int) -> None:
        super().__init__(path, limit, events=True)

    def message(self, message: str, place: Parts) -> bytes:
        said = json.dumps(only_message(place, message)) if place or self._strings else message
        return "".join(f"data: {line}\n" for line in said.splitlines()).encode() + b"\n"

    def error(self, reply: Reply) -> bytes:
        return b"event: error\ndata: " + reply.body + b"\n\n"

    def _parts(self, raw: bytes) -> tuple[bytes, bytes]:
        return data_of(raw), extras_of(raw)


class JsonLinesCutter(_Lines):
    """One JSON document on each line."""

    def __init__(self, path: TextPath, limit: int) -> None:
        super().__init__(path, limit, events=False)

    def message(self, message: str, place: Parts) -> bytes:
        return json.dumps(only_message(place, message)).encode() + b"\n"

    def error(self, reply: Reply) -> bytes:
        return reply.body + b"\n"

    def _parts(self, raw: bytes) -> tuple[bytes, bytes]:
        return raw.removeprefix(codecs.BOM_UTF8), b""
