"""A guarded response: what the app sends goes to the guard first, and to the client after it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from guardreasoner_integrations._messages import NO_PROMPT
from guardreasoner_integrations._readings import both_readings, read_by_tool
from guardreasoner_integrations.asgi._bodies import Headers, document, with_message
from guardreasoner_integrations.asgi._channel import Channel
from guardreasoner_integrations.asgi._events import BodyPiece, Cutter, cutter_for
from guardreasoner_integrations.asgi._replies import BlockReplies, HttpRefusedError, Message, Send, unreadable
from guardreasoner_integrations.asgi._routes import GuardedRoute, Parts
from guardreasoner_sdk import Exchange, InputError, VerdictError
from guardreasoner_sdk.blocking import BlockRule
from guardreasoner_sdk.exchange import has_visible_text
from guardreasoner_sdk.streaming import AsyncGuardedStream, StreamOptions
from guardreasoner_sdk.verdict import decisive

__all__ = ["GuardedResponse", "Options", "ResponseStoppedError"]

logger = logging.getLogger("guardreasoner_sdk")


class ResponseStoppedError(OSError):
    """The response was ended by the guard; to the app it is as if the client had left."""


@dataclass(frozen=True, slots=True)
class Options:
    """How answers are judged.

    Args:
        rule: who judges, and what follows a block.
        stream: when a stream is judged.
        replies: what the client hears of a block.
        max_body: most bytes of a response that is read as a whole, or of one event.
    """

    rule: BlockRule
    stream: StreamOptions
    replies: BlockReplies
    max_body: int


class GuardedResponse:
    """One response on its way. The app gets :meth:`send` in place of the server's.

    Args:
        route: says where the text stands.
        asked: what the request asked; None where it held no text.
        options: how to judge.
        send: the server's.
    """

    def __init__(self, route: GuardedRoute, asked: Exchange | None, options: Options, send: Send) -> None:
        self._route = route
        self._asked = Exchange(NO_PROMPT) if asked is None else asked
        self._options = options
        self._send = send
        self._start: Message = {}
        self._headers = Headers(())
        self._cutter: Cutter | None = None
        self._channel: Channel | None = None
        self._place: Parts = ()
        self._body = bytearray()
        self._started = False
        self._stopped = False

    async def send(self, message: Message) -> None:
        """Take what the app sends.

        Raises:
            StoppedError: the guard has ended the response, and the app would have gone on.
        """
        if not self._stopped:
            try:
                if message["type"] == "http.response.start":
                    self._take_start(message)
                elif message["type"] == "http.response.body":
                    await self._take_body(message.get("body", b""), more=message.get("more_body", False))
                # Nothing else was offered to the app: what it sends unasked could carry the answer past the guard.
            except HttpRefusedError as refusal:
                await self._stop(refusal)
        if self._stopped and message.get("more_body", False):
            raise ResponseStoppedError("the guard ended the response")

    async def aclose(self) -> None:
        """Leave nothing running when the app is done, however it ended."""
        if self._channel is not None:
            await self._channel.abandon()

    @property
    def _must_answer(self) -> bool:
        """Whether there has to be text where the route says so; errors and redirections have bodies of their own."""
        return bool(self._start["status"] < 300) and not self._route.optional

    def _take_start(self, message: Message) -> None:
        self._start = message
        self._headers = Headers(message.get("headers", ()))
        self._cutter = cutter_for(self._route, self._headers, self._options.max_body)
        if self._cutter is not None and self._headers.encoding != "identity":
            raise unreadable("the stream is compressed; put the compressing middleware around the guard")

    async def _take_body(self, chunk: bytes, *, more: bool) -> None:
        if self._cutter is None:
            self._body += chunk
            self._check_size()
            if not more:
                await self._judge_whole()
            return
        if self._channel is None:
            self._channel = Channel(partial(self._pass_on, self._cutter))
        await self._channel.put(chunk)
        if not more:
            await self._channel.finish()

    async def _judge_whole(self) -> None:
        found, texts = self._read_whole()
        read = (read_by_tool((str(place[-1]) if place else "", text)) for place, text in texts.items())
        answers = [answer for answer in both_readings({(): "\n\n".join(read)}).values() if has_visible_text(answer)]
        options = self._options
        try:
            exchanges = [self._asked.with_response(answer) for answer in answers]
            verdict = decisive(await options.rule.guard.acheck_many(exchanges, timeout=options.stream.timeout))
            if verdict is not None:
                verdict.raise_for_block()
        except Exception as error:
            message = options.rule.message_for(error)
            if message is None:
                await self._stop(error)
                return
            try:
                self._body = bytearray(with_message(found, texts, message))
            except RecursionError:
                await self._stop(error)
                return
            self._start = {**self._start, "headers": self._new_headers(len(self._body))}
        await self._release(bytes(self._body), more=False)

    def _read_whole(self) -> tuple[Any, dict[Parts, str]]:
        """The document that the app answered with, and the texts in it by place."""
        media = self._headers.media_type
        path, body = self._route.response, bytes(self._body)
        if not body:
            return None, {}
        if media != "application/json" and not media.endswith("+json"):
            if self._must_answer:
                raise unreadable(f"the app answered with {media!r:.60}; guard routes that answer with JSON, events or text")
            return None, {}
        if path is None:
            if self._must_answer:
                raise unreadable("the app answered with JSON; say where its text stands with GuardedRoute(response=...)")
            return None, {}
        found = document(body, self._headers, self._options.max_body, status=500, kind="unreadable_response")
        try:
            texts = path.texts(found)
        except InputError as error:
            raise unreadable(str(error)) from None
        if texts is None and self._must_answer:
            raise unreadable(f"the app's JSON has no {path.path}; correct response=, or pass optional=True")
        return found, dict(texts or ())

    async def _pass_on(self, cutter: Cutter, chunks: AsyncIterator[bytes]) -> None:
        guard, pieces = self._options.rule.guard, self._pieces(cutter, chunks)
        stream = AsyncGuardedStream(
            guard, self._asked, pieces, self._options.stream, text=lambda piece: piece.texts, on_block="raise"
        )
        async with stream:
            while True:
                # Only what judging raises is the guard's to answer; a failure to send is the server's, and goes to the app.
                try:
                    piece = await anext(stream)
                except StopAsyncIteration:
                    break
                except Exception as error:
                    await self._stop(error)
                    return
                await self._let_go(piece.raw)
        await self._release(bytes(self._body), more=False)

    async def _pieces(self, cutter: Cutter, chunks: AsyncIterator[bytes]) -> AsyncIterator[BodyPiece]:
        """The pieces of the stream. The first ones wait until one has text: a path that never matches is a mistake."""
        waiting: list[BodyPiece] = []
        size = 0
        found = not self._must_answer
        async for piece in _cut(cutter, chunks):
            self._place = self._place or piece.place
            found = found or piece.found
            waiting.append(piece)
            size += len(piece.raw)
            if found:
                for ready in waiting:
                    yield ready
                waiting.clear()
            elif size > self._options.max_body:
                raise self._no_text()
        if any(piece.data for piece in waiting):
            raise self._no_text()
        for piece in waiting:
            yield piece

    def _no_text(self) -> HttpRefusedError:
        path = None if self._route.event is None else self._route.event.path
        return unreadable(f"no event of the app has {path}; correct event=, or pass optional=True")

    async def _let_go(self, raw: bytes) -> None:
        if "content-length" in self._headers:
            # A block could not keep a length that was promised.
            self._body += raw
            self._check_size()
        elif raw:
            await self._release(raw, more=True)

    def _check_size(self) -> None:
        if len(self._body) > self._options.max_body:
            raise unreadable(f"the body has more than {self._options.max_body:,} bytes; raise max_body")

    async def _release(self, body: bytes, *, more: bool) -> None:
        if not self._started:
            self._started = True
            await self._send(self._start)
        await self._send({"type": "http.response.body", "body": body, "more_body": more})

    async def _stop(self, error: Exception) -> None:
        """End the response with what the client is to hear in place of the answer."""
        self._stopped = True
        if not isinstance(error, VerdictError):
            logger.error(
                "could not judge an answer: %s", error if isinstance(error, HttpRefusedError) else type(error).__name__
            )
        reply, message, cutter = self._options.replies.of(error), self._options.rule.message_for(error), self._cutter
        if cutter is not None and message is not None:
            self._start = {**self._start, "headers": self._new_headers(None)}
            separator = cutter.separator if self._started else b""
            await self._release(separator + cutter.message(message, self._place), more=False)
        elif cutter is not None and self._started:
            await self._release(cutter.separator + cutter.error(reply), more=False)
        else:
            await reply.send(self._send)

    def _new_headers(self, length: int | None) -> list[tuple[bytes, bytes]]:
        """The app's headers for another body than its own."""
        about_the_body = {b"content-length", b"content-encoding", b"etag", b"content-digest", b"content-md5"}
        kept = [pair for pair in self._start.get("headers", ()) if bytes(pair[0]).lower() not in about_the_body]
        return kept if length is None else [*kept, (b"content-length", str(length).encode())]


async def _cut(cutter: Cutter, chunks: AsyncIterator[bytes]) -> AsyncIterator[BodyPiece]:
    async for chunk in chunks:
        for piece in cutter.feed(chunk):
            yield piece
    for piece in cutter.end():
        yield piece
