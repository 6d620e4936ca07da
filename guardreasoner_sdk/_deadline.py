"""The moment after which nobody waits for an answer any more: one value, handed through from the guard to the engine."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures.thread  # noqa: F401 - its own hook at the end, which waits for executors' threads, has to be there first
import contextlib
import math
import threading
import time
from collections.abc import Callable
from typing import Self, TypeVar

from guardreasoner_sdk.errors import DeadlineError

__all__ = ["JUDGE_GRACE", "ROW_GRACE", "Deadline", "call_off_all"]

T = TypeVar("T")

ROW_GRACE = 0.05
"""Seconds that an engine has to answer after the deadline; see :class:`Deadline`."""

JUDGE_GRACE = 0.1
"""Seconds that a judge has to answer after the deadline; see :class:`Deadline`."""

_TICK = time.get_clock_info("monotonic").resolution
"""Event loops fire a timer up to one tick of the clock early; what such a timer ends has ended at its deadline."""


_pools_end = threading.Event()
"""Set when the main thread has ended, before executors are waited for: others may go on for long, and judge as before."""

_leaving = threading.Event()
"""Set when every thread that the interpreter waits for has ended, before those are cut off that it does not wait for."""


def call_off_all() -> None:
    """Let every deadline pass: nobody is left who waits."""
    _leaving.set()


# What runs in a thread of an executor for a task of the guard's own loop would keep the process until it is done.
with contextlib.suppress(AttributeError, RuntimeError):
    threading._register_atexit(_pools_end.set)  # type: ignore[attr-defined]
atexit.register(call_off_all)


class Deadline(float):
    """A moment on ``time.monotonic()``, in seconds; it passes by itself, when it is called off, and when the interpreter ends.

    It is a float, so that judges and engines that know their deadline as ``float | None`` take it as it is, and
    :meth:`of` makes one of whatever they were given. None stands for "no limit" where a deadline is handed over.

    Everybody stops at the same moment, and whoever waits for somebody else waits a little longer than that one, so that
    what was decided in time arrives. From the inside out:

    1. *At the deadline* an engine stops. It answers ``DeadlineError`` in the place of each query that it has not answered;
       of the answers that it gave the judge still makes what it can. The embedded guard, which has no engine beside it,
       stops between two runs of its model.
    2. :data:`ROW_GRACE` *later* a reasoner gives up the row whose engine did not stop: that row, and no other.
    3. :data:`JUDGE_GRACE` *later* the guard cancels a judge that did not stop, with all the rows that it was given. Judges
       that keep the deadline row by row (``keeps_deadline``) are not cancelled: what they hold already would be lost.

    None of these graces adds to another one: all count from the deadline.
    """

    __slots__ = ("_called_off", "_pooled")

    _called_off: bool
    _pooled: bool

    def __new__(cls, moment: float = math.inf) -> Self:
        made = super().__new__(cls, moment)
        made._called_off = made._pooled = False
        return made

    @classmethod
    def after(cls, seconds: float) -> Self:
        """The deadline so many seconds from now."""
        return cls(time.monotonic() + seconds)

    @classmethod
    def of(cls, moment: float | None) -> Deadline:
        """The deadline that was handed over: as it is where it is one already.

        Args:
            moment: time on ``time.monotonic()``, in seconds; None for no limit.
        """
        if isinstance(moment, Deadline):
            return moment
        return cls() if moment is None else cls(moment)

    @property
    def passed(self) -> bool:
        """Whether nobody waits any more."""
        if self._called_off or _leaving.is_set() or (self._pooled and _pools_end.is_set()):
            return True
        return time.monotonic() >= self - _TICK

    def remaining(self) -> float:
        """Seconds until then: never below 0, infinite where there is no limit."""
        return 0.0 if self._called_off else max(0.0, self - time.monotonic())

    def check(self) -> None:
        """Stop work that nobody waits for any more.

        Raises:
            DeadlineError: it has passed.
        """
        if self.passed:
            raise DeadlineError()

    def call_off(self) -> None:
        """Let it pass now: whoever waited is gone. Safe from any thread."""
        self._called_off = True

    def scope(self, grace: float = 0.0) -> asyncio.Timeout:
        """A block of a coroutine that is cancelled at the deadline, and then raises ``TimeoutError``.

        Args:
            grace: seconds after the deadline that those have who are waited for in the block.
        """
        left = self.remaining() + grace
        return asyncio.timeout(None if left == math.inf else left)

    @staticmethod
    async def in_thread(work: Callable[[Deadline], T], moment: float | None) -> T:
        """Do what blocks in a thread, for a task that may be cancelled meanwhile: the work is told by its deadline.

        Args:
            work: takes a deadline of its own, and looks at it now and then.
            moment: when that passes at the latest; None for no limit.
        """
        own = Deadline(math.inf if moment is None else moment)
        own._pooled = True
        try:
            return await asyncio.to_thread(work, own)
        except asyncio.CancelledError:
            own.call_off()
            raise
