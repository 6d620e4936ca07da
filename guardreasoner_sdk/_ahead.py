"""Reading an asynchronous source on while its reader is busy with something else."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterable, AsyncIterator
from typing import Self, TypeVar

__all__ = ["ReadAhead"]

T = TypeVar("T")

_reading: set[asyncio.Task[None]] = set()
"""The loop itself forgets a task that nobody refers to: a stream that is thrown away must still find its own to end it."""


class ReadAhead(AsyncIterator[T]):
    """The items of a source, read by a task of its own from beginning to end.

    One task, because what is bound to a task, such as a cancel scope inside the source, must stay whole.

    Args:
        source: what to read.
        most: most items read and not yet taken.
    """

    def __init__(self, source: AsyncIterable[T], most: int) -> None:
        self._parts = (aiter(source), source)
        self._arrived: asyncio.Queue[T | _End] = asyncio.Queue()
        # The reader waits behind an item, not before it.
        self._slots = asyncio.Semaphore(most - 1)
        self._reader: asyncio.Task[None] | None = None

    @property
    def empty(self) -> bool:
        """Whether nothing more has arrived."""
        return self._arrived.empty()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        if self._reader is None:
            self._reader = asyncio.create_task(_read(self._parts, self._arrived, self._slots))
            _reading.add(self._reader)
            self._reader.add_done_callback(_reading.discard)
        item = await self._arrived.get()
        if isinstance(item, _End):
            await self._reader
            raise StopAsyncIteration
        self._slots.release()
        return item

    async def aclose(self) -> None:
        """Stop reading, and close the source."""
        if self._reader is None:
            await _close(self._parts)
        else:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)


class _End:
    """Stands behind the last item."""


_Parts = tuple[AsyncIterator[T], AsyncIterable[T]]


# A function, not a method: the task must not keep alive what it reads for.
async def _read(parts: _Parts[T], arrived: asyncio.Queue[T | _End], slots: asyncio.Semaphore) -> None:
    try:
        async for item in parts[0]:
            arrived.put_nowait(item)
            await slots.acquire()
    finally:
        # However it ended, nobody may wait for more.
        arrived.put_nowait(_End())
        await _close(parts)


async def _close(parts: _Parts[T]) -> None:
    for part in parts:
        close = getattr(part, "aclose", None) or getattr(part, "close", None)
        closing = close() if close is not None else None
        if inspect.isawaitable(closing):
            await closing
