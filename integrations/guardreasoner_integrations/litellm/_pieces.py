"""Streamed answers: in pieces that can be judged."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple, cast

from litellm.types.utils import Delta, ModelResponseStream, StreamingChoices, TextChoices, TextCompletionResponse

from guardreasoner_integrations._answer_texts import AnthropicEvents, ChatChunks, ResponseEvents, Texts
from guardreasoner_integrations._json import UnclearError, document_or_text
from guardreasoner_integrations._readings import ChannelReadings
from guardreasoner_integrations._sse import Splitter, data_of, event, extras_of
from guardreasoner_integrations._texts import Unjudged
from guardreasoner_integrations.litellm._responses import plain, unknown
from guardreasoner_sdk import InputError

__all__ = ["Problem", "StreamPieces"]


class Problem(NamedTuple):
    """What the client is told of a block: HTTP status and JSON."""

    status: int
    body: dict[str, Any]


class StreamPieces:
    """A streamed response in pieces that can be judged: objects as they come, bytes cut into server-sent events.

    Args:
        source: the stream.
        unjudged: what to do about a picture or sound in it: ``raise``, or ``allow``.
    """

    def __init__(self, source: Any, unjudged: Unjudged) -> None:
        self._source = source
        self._chunks = ChatChunks(unjudged)
        self._responses = ResponseEvents(unjudged)
        self._anthropic = AnthropicEvents(unjudged)
        self._plain = ChannelReadings()
        self._kind = ""

    async def __aiter__(self) -> AsyncIterator[Any]:
        splitter = Splitter(events=True)
        try:
            async for chunk in self._source:
                if isinstance(chunk, bytes | str):
                    for piece in splitter.feed(chunk.encode() if isinstance(chunk, str) else chunk):
                        yield piece
                else:
                    yield chunk
            for piece in splitter.end():
                yield piece
        finally:
            close = getattr(self._source, "aclose", None)
            if close is not None:
                await close()

    def texts(self, piece: Any) -> Texts:
        """The new text in a piece, by channel.

        Raises:
            InputError: a piece of an unknown shape, or with a part that cannot be judged.
        """
        if not isinstance(piece, bytes):
            return self._said(piece)
        self._kind = "bytes"
        data, extras = (part.decode("utf-8", "replace") for part in (data_of(piece).strip(), extras_of(piece)))
        texts: Texts = {"extras": extras} if extras else {}
        if not data or data == "[DONE]":
            return texts
        try:
            document = document_or_text(data)
        except UnclearError as error:
            raise InputError("response", str(error), "send each event as one JSON object") from None
        if isinstance(document, str):
            return self._plain.both({**texts, "data": document})
        return {**self._said(document), **self._plain.both(texts)}

    def _said(self, piece: Any) -> Texts:
        body = plain(piece)
        if not isinstance(body, Mapping):
            raise unknown(piece)
        kind = str(body.get("type"))
        if body.get("choices") is not None:
            if self._kind != "bytes":
                self._kind = "chat" if isinstance(piece, ModelResponseStream) else "completion"
            return self._chunks.texts(body)
        if kind.startswith("response."):
            return self._responses.texts(body)
        if kind in _ANTHROPIC_EVENTS:
            return self._anthropic.texts(body)
        raise unknown(piece)

    def last(self, message: str | None, problem: Problem, *, begun: bool) -> Any:
        """What ends a blocked stream; None where an exception does: litellm makes a proper error of it.

        Args:
            message: the message in place of the rest; None: the problem.
            begun: whether the client has got some of the stream.
        """
        if self._kind == "bytes":
            kind = "invalid_request_error" if problem.status < 500 else "api_error"
            said = {"type": "error", "error": {"type": kind, "message": problem.body["message"]}, "guard": problem.body}
            return event(said, "error")
        if self._kind == "chat" and message is not None:
            delta = Delta(role="assistant", content=message)
            return ModelResponseStream(choices=[StreamingChoices(index=0, delta=delta, finish_reason="content_filter")])
        if self._kind == "completion" and message is not None:
            completion, choice = cast("Any", TextCompletionResponse), cast("Any", TextChoices)
            return completion(choices=[choice(index=0, text=message, finish_reason="content_filter")])
        if self._kind in ("chat", "completion") and begun:
            # An exception would break the connection off without a word; litellm itself ends a stream with an error so.
            return "data: " + json.dumps({"error": {**problem.body, "code": str(problem.status)}}) + "\n\n"
        return None


_ANTHROPIC_EVENTS = frozenset(
    {
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "ping",
        "error",
    }
)
