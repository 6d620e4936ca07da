"""The contract of a judge."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from guardreasoner_sdk.errors import DeadlineError
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.verdict import Judgement

__all__ = ["LOOK_BACK", "DirectJudge", "Judge", "check_deadline", "load_judge"]

LOOK_BACK = 1000
"""Characters of an answer, at least, that a check in the middle of a stream shows before what is new. A judge that wants more,
or can do with fewer, has an attribute ``look_back``."""


class Judge(Protocol):
    """Turns exchanges into judgements. Give your own to ``Guard(judge=...)``.

    The core is asynchronous and runs on the guard's own event loop, whoever calls and from wherever. A judge may raise: the
    guard makes undetermined findings of it.

    Attributes:
        model: name of what judges, for the verdict.
        backend: name of what runs it, for the verdict.
        batch_size: most exchanges handed over in one call.
    """

    @property
    def model(self) -> str: ...

    @property
    def backend(self) -> str: ...

    @property
    def batch_size(self) -> int: ...

    async def judge(self, exchanges: Sequence[Exchange], *, deadline: float | None) -> list[Judgement]:
        """Judge the exchanges, one judgement each, in order.

        Args:
            exchanges: one to ``batch_size`` of them.
            deadline: time on ``time.monotonic()``, in seconds, after which nobody waits any more; None for no limit. The
                guard enforces it; a judge may use it to stop early.
        """
        ...

    async def aclose(self) -> None:
        """Free what the judge holds. Called once, on the guard's loop."""
        ...


@runtime_checkable
class DirectJudge(Judge, Protocol):
    """A judge fast enough to answer in the calling thread: a hop to another one would show in its latency."""

    def judge_now(self, exchanges: Sequence[Exchange], *, deadline: float | None) -> list[Judgement]:
        """Like :meth:`Judge.judge`, in the calling thread. It must raise ``DeadlineError`` soon after the deadline."""
        ...


def check_deadline(deadline: float | None) -> None:
    """Stop work that nobody waits for any more.

    Args:
        deadline: time on ``time.monotonic()``, in seconds, or None.

    Raises:
        DeadlineError: it has passed.
    """
    if deadline is not None and time.monotonic() >= deadline:
        raise DeadlineError()


async def load_judge(judge: Judge) -> None:
    """Have a judge load what it needs, if it can say so: those that hold a model have a coroutine method ``load``.

    Args:
        judge: the judge.
    """
    load = getattr(judge, "load", None)
    if load is not None:
        await load()
