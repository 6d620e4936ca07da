"""From an app that sends to a guard that reads."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

__all__ = ["Channel"]


class Channel(AsyncIterator[bytes]):
    """Hands chunks over to a task that reads them; the sender goes on when the next one is asked for.

    Args:
        read: reads the channel to its end; runs as a task.
    """

    def __init__(self, read: Callable[[AsyncIterator[bytes]], Coroutine[Any, Any, None]]) -> None:
        self._chunks: deque[bytes] = deque()
        self._closed = False
        self._arrived = asyncio.Event()
        self._wanted = asyncio.Event()
        self._reader = asyncio.create_task(read(self))
        self._reader.add_done_callback(lambda _: self._wanted.set())

    async def put(self, chunk: bytes) -> None:
        """Hand a chunk over; returns when there is room for another, or nobody reads any more.

        Raises:
            what the reader raised.
        """
        if not self._reader.done():
            self._chunks.append(chunk)
            self._wanted.clear()
            self._arrived.set()
            await self._wanted.wait()
        if self._reader.done():
            self._reader.result()

    async def finish(self) -> None:
        """Say that there is no more, and wait for the reader.

        Raises:
            what the reader raised.
        """
        self._closed = True
        self._arrived.set()
        await asyncio.wait({self._reader})
        self._reader.result()

    async def abandon(self) -> None:
        """Stop the reader; what it raised is of no interest any more."""
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)

    async def __anext__(self) -> bytes:
        while not self._chunks:
            if self._closed:
                raise StopAsyncIteration
            self._arrived.clear()
            self._wanted.set()
            await self._arrived.wait()
        return self._chunks.popleft()
