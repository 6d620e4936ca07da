"""Work that is shared among threads, and that stops when nobody waits for it any more."""

from __future__ import annotations

import asyncio
import concurrent.futures.thread  # its own hook at the end, which waits for executors' threads, has to be there first
import contextlib
import threading
from collections.abc import Callable, Iterable
from itertools import chain, islice
from typing import TypeVar

from guardreasoner_sdk.errors import DeadlineError
from guardreasoner_sdk.judges.base import check_deadline

__all__ = ["each_in_threads", "stoppable"]

T = TypeVar("T")
R = TypeVar("R")

_leaving = threading.Event()
# The interpreter waits for executors' threads before it runs what ``atexit`` holds: only this is told before. Without it, work
# that is under way at the end keeps the process until it is done.
with contextlib.suppress(AttributeError, RuntimeError):
    threading._register_atexit(_leaving.set)  # type: ignore[attr-defined]


async def stoppable(function: Callable[[Callable[[], None]], R], deadline: float | None) -> R:
    """Run a function in a worker thread; it ends soon after the coroutine is cancelled or the interpreter ends.

    Args:
        function: called with a check that it calls every few milliseconds; the check raises ``DeadlineError`` as soon as
            nobody waits any more.
        deadline: time on ``time.monotonic()``, in seconds, or None.
    """
    stopped = threading.Event()
    try:
        return await asyncio.to_thread(function, lambda: check_waited_for(deadline, stopped))
    finally:
        stopped.set()


def check_waited_for(deadline: float | None, stopped: threading.Event | None = None) -> None:
    """:func:`check_deadline`, that also asks whether the work was given up.

    Args:
        deadline: time on ``time.monotonic()``, in seconds, or None.
        stopped: set when the work was given up.

    Raises:
        DeadlineError: nobody waits any more.
    """
    if _leaving.is_set() or (stopped is not None and stopped.is_set()):
        raise DeadlineError()
    check_deadline(deadline)


def each_in_threads(function: Callable[[T], R], items: Iterable[T], threads: int) -> list[R]:
    """What a function gives for each item, in order; the items are taken as they are needed, by one thread at a time.

    The threads are made anew each time: those of a pool that is kept would not survive a fork.

    Args:
        function: called in several threads at a time.
        items: what it is called with.
        threads: most threads to use, the calling one among them.

    Raises:
        Exception: what the first call that failed raised, or the items; no call is begun after it.
    """
    source = iter(items)
    first = list(islice(source, max(1, threads)))
    if len(first) < 2:
        return [function(item) for item in chain(first, source)]
    numbered = enumerate(chain(first, source))
    lock, failed = threading.Lock(), threading.Event()
    found: dict[int, R] = {}

    def work() -> None:
        try:
            while not failed.is_set():
                with lock:
                    number, item = next(numbered, (-1, None))
                if number < 0:
                    return
                found[number] = function(item)  # type: ignore[arg-type]
        except BaseException:
            failed.set()
            raise

    helpers = [_started(work) for _ in first[1:]]
    try:
        work()
    finally:
        # Not one of them may still be at work when the caller goes on, whatever happened here.
        errors = [helper.exception() for helper in helpers]
    for error in errors:
        if error is not None:
            raise error
    return [found[number] for number in sorted(found)]


def _started(work: Callable[[], None]) -> concurrent.futures.Future[None]:
    done: concurrent.futures.Future[None] = concurrent.futures.Future()

    def run() -> None:
        try:
            work()
        except BaseException as error:
            done.set_exception(error)
        else:
            done.set_result(None)

    # As a daemon: what calls from such a thread at the interpreter's end must not keep the process.
    threading.Thread(target=run, name="guardreasoner-window", daemon=True).start()
    return done
