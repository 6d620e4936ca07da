"""A guard's own event loop, on a thread of its own.

Calls from any thread and from any other loop end up here, so that clients bound to one loop are never used from two and
an engine sees one stream of requests to batch.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from guardreasoner_sdk._forks import Lock, abandon, renew_after_fork

__all__ = ["GuardLoop"]

logger = logging.getLogger("guardreasoner_sdk")

T = TypeVar("T")


class GuardLoop:
    """Starts on first use, in a forked child again; :meth:`close` stops it. Its thread never keeps the process alive."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._running: _Running | None = None
        renew_after_fork(self)

    def after_fork(self) -> None:
        """Leave the loop to the parent: its thread does not exist here."""
        abandon(self._running)
        self._running = None

    def submit(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> Future[T]:
        """Start a coroutine function on the loop.

        Returns:
            its future; cancelling it cancels the task.
        """
        with self._lock:
            if self._running is None:
                self._running = _Running()
            # In a context of its own: what a framework hangs on the caller's, such as callbacks that stream every model call
            # to the user, must not see the guard's own model.
            return contextvars.Context().run(asyncio.run_coroutine_threadsafe, function(*args), self._running.loop)

    def close(self) -> None:
        """Stop the loop. What still runs on it is cancelled."""
        with self._lock:
            if self._running is not None:
                self._running.stop()
            self._running = None


class _Running:
    """A loop that runs until :meth:`stop`."""

    def __init__(self) -> None:
        # Made here and run there: nobody has to wait until the thread is up.
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self.loop = self._runner.get_loop()
        self._stop = asyncio.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="guardreasoner", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped = True
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        with self._runner:
            while not self._stopped:
                try:
                    self._runner.run(self._wait())
                except (SystemExit, KeyboardInterrupt) as error:
                    # Raised by a task that a judge made: asyncio gives it to whoever waits for the task, and then ends the
                    # loop with it. The checks of everybody else go on.
                    logger.error("a judge's task raised %s", type(error).__name__)

    async def _wait(self) -> None:
        await self._stop.wait()
