"""HTTP responses whose bytes were judged before anybody reads them."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from functools import cache
from typing import Any

from guardreasoner_integrations.openai._events import Event
from guardreasoner_integrations.openai._plans import RequestPlan
from guardreasoner_sdk.streaming import AsyncGuardedStream, GuardedStream

__all__ = ["abody", "body", "library_of", "with_body", "with_stream"]

_OF_THE_WIRE = frozenset({"content-encoding", "content-length", "transfer-encoding"})


def library_of(value: object) -> Any:
    """The HTTP library that an object is from: ``httpx``, or ``httpx2``, which newer SDKs use."""
    names = (kind.__module__.partition(".")[0] for kind in type(value).__mro__)
    return sys.modules[next(name for name in names if name in ("httpx", "httpx2"))]


def with_body(response: Any, content: bytes) -> Any:
    """The same response with another body, in JSON."""
    shown = _like(response, content=content)
    shown.headers["content-type"] = "application/json"
    with contextlib.suppress(RuntimeError):  # Not known before the connection is free.
        shown.elapsed = response.elapsed
    return shown


def with_stream(response: Any, stream: Any) -> Any:
    """The same response with another stream."""
    return _like(response, stream=stream)


def _like(response: Any, **content: Any) -> Any:
    return library_of(response).Response(
        response.status_code,
        headers=[(name, value) for name, value in response.headers.multi_items() if name.lower() not in _OF_THE_WIRE],
        request=response.request,
        extensions=response.extensions,
        history=list(response.history),
        default_encoding=response.default_encoding,
        **content,
    )


def body(response: Any, plan: RequestPlan) -> Any:
    """The guarded stream of a response's bytes, with the verdict as ``guarded.verdict``."""
    return _joined(_Body, library_of(response).SyncByteStream)(response, plan)


def abody(response: Any, plan: RequestPlan) -> Any:
    """:func:`body` for asyncio."""
    return _joined(_AsyncBody, library_of(response).AsyncByteStream)(response, plan)


@cache
def _joined(own: type, theirs: type) -> type:
    # The library asks for its own class, and which library it is shows only with the first response.
    return type(own.__name__, (own, theirs), {})


class _Body:
    def __init__(self, upstream: Any, plan: RequestPlan) -> None:
        self._upstream = upstream
        self._chunks: Iterator[bytes] = upstream.iter_bytes()
        self._events = plan.events(upstream.charset_encoding)
        self.guarded = GuardedStream(plan.settings.guard, plan.asked, self._read(), **plan.stream_options(self._events))
        self._steps = self._run()

    def __iter__(self) -> Iterator[bytes]:
        return self._steps

    def close(self) -> None:
        # Where another thread is reading, its generator cannot be closed from here; closing the connection ends it.
        for part in (self._steps, self.guarded):
            with contextlib.suppress(ValueError):
                part.close()
        self._upstream.close()

    def _read(self) -> Generator[Event, None, None]:
        for chunk in self._chunks:
            for event in self._events.feed(chunk):
                yield event
                if event.last:
                    return
        yield from self._events.finish()

    def _run(self) -> Generator[bytes, None, None]:
        try:
            instead = []
            for event in self.guarded:
                if self.guarded.blocked:
                    instead.append(event.raw)
                else:
                    self._events.released(event)
                    yield event.raw
            if not instead:
                for _ in self._chunks:  # Read to the end, the connection can be used again.
                    pass
        finally:
            self.guarded.close()
            self._upstream.close()
        if instead:
            yield b"".join(instead)


class _AsyncBody:
    def __init__(self, upstream: Any, plan: RequestPlan) -> None:
        self._upstream = upstream
        self._chunks: AsyncIterator[bytes] = upstream.aiter_bytes()
        self._events = plan.events(upstream.charset_encoding)
        self.guarded = AsyncGuardedStream(plan.settings.guard, plan.asked, self._read(), **plan.stream_options(self._events))
        self._steps = self._run()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._steps

    async def aclose(self) -> None:
        # Where another task is reading, its generator cannot be closed from here; closing the connection ends it.
        for part in (self._steps, self.guarded):
            with contextlib.suppress(RuntimeError):
                await part.aclose()
        await self._upstream.aclose()

    async def _read(self) -> AsyncGenerator[Event, None]:
        async for chunk in self._chunks:
            for event in self._events.feed(chunk):
                yield event
                if event.last:
                    return
        for event in self._events.finish():
            yield event

    async def _run(self) -> AsyncGenerator[bytes, None]:
        try:
            instead = []
            async for event in self.guarded:
                if self.guarded.blocked:
                    instead.append(event.raw)
                else:
                    self._events.released(event)
                    yield event.raw
            if not instead:
                async for _ in self._chunks:  # Read to the end, the connection can be used again.
                    pass
        finally:
            await self.guarded.aclose()
            await self._upstream.aclose()
        if instead:
            yield b"".join(instead)
