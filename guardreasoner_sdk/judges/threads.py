"""Work that is shared among threads of its own."""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from itertools import chain, islice
from typing import TypeVar

from guardreasoner_sdk._deadline import call_off_all

__all__ = ["each_in_threads"]

T = TypeVar("T")
R = TypeVar("R")

_under_way: dict[object, int] = {}
"""Work that goes on, each with its process: a fork copies what its parent had under way, and it goes on there alone."""

_PATIENCE = 1.0


def _leave() -> None:
    """End all work, and let it end: a thread that is cut off inside the engine takes the process down with it."""
    call_off_all()
    until = time.monotonic() + _PATIENCE
    while os.getpid() in list(_under_way.values()) and time.monotonic() < until:
        time.sleep(0.002)


atexit.register(_leave)


def each_in_threads(function: Callable[[T], R], items: Iterable[T], threads: int) -> list[R]:
    """What a function gives for each item, in order; the items are taken as they are needed, by one thread at a time.

    New threads are made each time: those of a pool that is kept would not survive a fork.

    Args:
        items: what it is called with.
        threads: most threads to use, the calling one among them.

    Raises:
        Exception: what the first call that failed raised, or the items; no call is begun after it.
    """
    own = object()
    _under_way[own] = os.getpid()
    try:
        return _each_in_threads(function, iter(items), threads)
    finally:
        del _under_way[own]


def _each_in_threads(function: Callable[[T], R], source: Iterator[T], threads: int) -> list[R]:
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


def _started(work: Callable[[], None]) -> Future[None]:
    done: Future[None] = Future()

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
