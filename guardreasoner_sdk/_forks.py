"""What a forked child renews.

A fork copies the memory of a process and one of its threads, the one that forks. Whatever the others held stays held for ever:
locks, event loops without their thread, engines in the middle of a run. So the child gets new ones, and leaves the inherited
ones alone: to free them would reach into what the parent still uses, such as its connections and its loop's epoll.
"""

from __future__ import annotations

import os
import threading
from types import TracebackType
from typing import Protocol
from weakref import WeakSet

__all__ = ["Forked", "Lock", "abandon", "notice_fork", "renew_after_fork"]


class Forked(Protocol):
    """What holds something that no child can use."""

    def after_fork(self) -> None:
        """Renew it. Called in the child, before anything else runs there."""
        ...


_living: WeakSet[Forked] = WeakSet()
_inherited: list[object] = []
_process = os.getpid()


def renew_after_fork(thing: Forked) -> None:
    """Have :meth:`Forked.after_fork` called in every child, for as long as the thing lives."""
    _living.add(thing)


def abandon(*things: object) -> None:
    """Keep what was inherited from ever being freed."""
    _inherited.extend(things)


def notice_fork() -> None:
    """Renew everything if this is a child that has not done so yet.

    Python calls it after ``os.fork``; guards call it too, for servers that fork without telling Python.
    """
    global _process
    if _process != os.getpid():
        _process = os.getpid()
        for thing in list(_living):
            thing.after_fork()


class Lock:
    """A ``threading.Lock`` that is free in a forked child, whoever held it.

    Args:
        reentrant: whether the thread that holds it may take it again, as a signal handler does that interrupts it.
    """

    def __init__(self, *, reentrant: bool = False) -> None:
        self._make = threading.RLock if reentrant else threading.Lock
        self._lock = self._make()
        renew_after_fork(self)

    def after_fork(self) -> None:
        self._lock = self._make()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=notice_fork)
