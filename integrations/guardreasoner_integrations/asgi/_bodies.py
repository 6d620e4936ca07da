"""JSON bodies: read from the client, unpacked, parsed, and written again."""

from __future__ import annotations

import json
import zlib
from collections.abc import Collection, Iterable
from typing import Any

from guardreasoner_integrations._json import TwiceError, parse
from guardreasoner_integrations.asgi._replies import HttpRefusedError, Kind, Message, Receive
from guardreasoner_integrations.asgi._routes import Parts

__all__ = ["Headers", "document", "only_message", "read_body", "replay", "with_message"]


class Headers:
    """The headers of a request or a response, by lower-case name.

    Args:
        pairs: as ASGI gives them.
    """

    def __init__(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        self._values = {bytes(name).lower().decode("latin-1"): bytes(value).decode("latin-1") for name, value in pairs}

    def __contains__(self, name: str) -> bool:
        return name in self._values

    @property
    def media_type(self) -> str:
        """What the body is, without parameters; empty where nothing says it."""
        return self._values.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def charset(self) -> str:
        """The character set; UTF-8 where nothing else is said."""
        for parameter in self._values.get("content-type", "").split(";")[1:]:
            name, _, value = parameter.partition("=")
            if name.strip().lower() == "charset":
                return value.strip().strip("\"'").lower()
        return "utf-8"

    @property
    def encoding(self) -> str:
        """How the body is compressed: ``identity`` or another name."""
        return self._values.get("content-encoding", "").strip().lower() or "identity"


async def read_body(receive: Receive, limit: int) -> bytes | None:
    """The whole body of a request; None where the client left before its end.

    Raises:
        RefusedError: it is larger (413).
    """
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if len(body) > limit:
            raise HttpRefusedError(413, "invalid_request", f"body: has more than {limit:,} bytes; send a smaller one")
        if not message.get("more_body", False):
            return bytes(body)


def replay(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that gives a body that was read once more, once, and goes on with the server's."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return pending.pop() if pending else await receive()

    return again


def document(body: bytes, headers: Headers, limit: int, *, status: int, kind: Kind) -> Any:
    """What a JSON body says.

    Raises:
        RefusedError: it is no JSON that every reader understands alike.
    """

    def refused(problem: str, status: int = status) -> HttpRefusedError:
        return HttpRefusedError(status, kind, f"body: {problem}")

    if headers.encoding not in ("identity", "gzip"):
        raise refused(f"is compressed as {headers.encoding!r:.40}; send it plain or as gzip", 415 if status == 400 else status)
    if headers.charset not in ("utf-8", "utf8", "us-ascii"):
        raise refused(f"is in {headers.charset!r:.40}; JSON is sent in UTF-8", 415 if status == 400 else status)
    if headers.encoding == "gzip":
        unpack = zlib.decompressobj(wbits=31)
        try:
            body = unpack.decompress(body, limit + 1)
        except zlib.error:
            raise refused("is not the gzip it is said to be; send it plain") from None
        if len(body) > limit:
            raise refused(f"has more than {limit:,} bytes when unpacked; send a smaller one", 413 if status == 400 else status)
        if not unpack.eof or unpack.unused_data:
            raise refused("is not one whole gzip member; send it plain")
    try:
        return parse(body.decode("utf-8-sig"))
    except TwiceError as error:
        raise refused(f"{error}; send each key once") from None
    except ValueError:
        raise refused("is not valid JSON; send a JSON document") from None


def with_message(found: object, places: Collection[Parts], message: str) -> bytes:
    """A JSON document with a message in the places of its text, and wherever else that text stands.

    Raises:
        RecursionError: the document is nested too deeply.
    """
    texts = {text for parts in places if (text := _at(found, parts))}

    def copied(value: object, parts: Parts) -> object:
        if isinstance(value, dict):
            return {key: copied(item, (*parts, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [copied(item, (*parts, index)) for index, item in enumerate(value)]
        if isinstance(value, str) and (parts in places or any(text in value for text in texts)):
            return message
        return value

    return json.dumps(copied(found, ())).encode()


def only_message(parts: Parts, message: str) -> object:
    """The smallest JSON document with a message in a place."""
    made: object = message
    for part in reversed(parts):
        made = {part: made} if isinstance(part, str) else [{}] * part + [made]
    return made


def _at(found: Any, parts: Parts) -> str:
    for part in parts:
        found = found[part]
    return str(found)
