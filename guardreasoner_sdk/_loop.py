"""A guard's own event loop, on a thread of its own.

Calls from any thread and from any other loop end up here, so that clients bound to one loop are never used from two and
an engine sees one stream of requests to batch.
"""

from __future__ import annotations

import asyncio
import contextvars
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
            # In a context of its own: what a framework hangs on the caller's, such as callbacks that stream every model call
            # to the user, must not see the guard's own model.
            return contextvars.Context().run(asyncio.run_coroutine_threadsafe, function(*args), self._running.loop)

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
        # Made here and run there: nobody has to wait until the thread is up.
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self.loop = self._runner.get_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="guardreasoner", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        with self._runner:
            self._runner.run(self._wait())

    async def _wait(self) -> None:
        await self._stop.wait()
