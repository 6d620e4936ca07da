"""A guard's own event loop, on a thread of its own.

Calls from any thread and from any other loop end up here, so that clients bound to one loop are never used from two and
an engine sees one stream of requests to batch.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

__all__ = ["GuardLoop"]

T = TypeVar("T")


class GuardLoop:
    """Starts on first use; :meth:`close` stops it. Its thread never keeps the process alive."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: _Running | None = None

    def submit(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> Future[T]:
        """Start a coroutine function on the loop.

        Args:
            function: what to run.
            args: its positional arguments.

        Returns:
            its future; cancelling it cancels the task.
        """
        with self._lock:
            # A fork copies this object but not the thread: the child starts a loop of its own.
            if self._running is None or self._running.process != os.getpid():
                self._running = _Running()
            return asyncio.run_coroutine_threadsafe(function(*args), self._running.loop)

    def close(self) -> None:
        """Stop the loop. What still runs on it is cancelled."""
        with self._lock:
            if self._running is not None and self._running.process == os.getpid():
                self._running.stop()
            self._running = None


class _Running:
    """A loop that runs until :meth:`stop`."""

    def __init__(self) -> None:
        self.process = os.getpid()
        ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        self._thread = threading.Thread(target=asyncio.run, args=(_serve(ready),), name="guardreasoner", daemon=True)
        self._thread.start()
        self.loop, self._stop = ready.result()

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()


async def _serve(ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]) -> None:
    stop = asyncio.Event()
    ready.set_result((asyncio.get_running_loop(), stop))
    await stop.wait()
