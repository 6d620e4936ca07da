"""Where requests meet the guard: who waits, for how long, and which exchanges are judged together."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.judges.base import is_direct
from guardreasoner_sdk.server.failures import Failure
from guardreasoner_sdk.server.settings import ServerSettings
from guardreasoner_sdk.verdict import Verdict, decisive

if TYPE_CHECKING:
    from guardreasoner_sdk.guard import Guard
    from guardreasoner_sdk.server.metrics import Meter

__all__ = ["Desk"]

logger = logging.getLogger("guardreasoner_sdk.server")

_DIRECT_CALLS, _OTHER_CALLS = 2, 64
_TOGETHER = 40_000
"""Most characters that are judged in one call with others: nobody's short text waits for the end of a long one."""


@dataclass(eq=False, slots=True)
class _Request:
    """The exchanges of one request, on their way to verdicts."""

    exchanges: Sequence[Exchange]
    done: asyncio.Future[None]
    verdicts: list[Verdict | None]
    waiting: int
    left: int
    calls: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def gone(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.done.done()


_Place = tuple[_Request, int]


class Desk:
    """Hands exchanges of concurrent requests to one guard.

    A guard that judges in the calling thread (the embedded one) gets what waits in calls of many exchanges, whoever sent them:
    a call costs some hops between threads, and its rows are independent of one another. Any other guard gets each exchange by
    itself, so that no answer waits for a slower neighbour's; its engine does its own batching.

    Args:
        guard: who judges.
        settings: the limits.
        meter: counts.

    Raises:
        Failure: from the methods: 503 where there is no room, no turn in time, or no guard.
    """

    def __init__(self, guard: Guard, settings: ServerSettings, meter: Meter) -> None:
        together = is_direct(guard.judge)
        self.guard = guard
        self._settings = settings
        self._meter = meter
        self._calls = settings.concurrency or (_DIRECT_CALLS if together else _OTHER_CALLS)
        self._together = guard.judge.batch_size if together else 1
        own = guard.timeout
        self.timeout = settings.timeout if own is None else min(own, settings.timeout)
        self._pending: deque[_Place] = deque()
        self._waiting = 0
        self._running: dict[asyncio.Task[None], list[_Place]] = {}
        self._streams = 0

    async def judge(self, asked: Sequence[Sequence[Exchange]]) -> list[Verdict]:
        """A verdict for each thing asked: of its readings, the one that counts.

        Args:
            asked: what is to be judged, each as one or more readings.
        """
        verdicts = iter(await self.check([reading for readings in asked for reading in readings]))
        found = []
        for readings in asked:
            own = [next(verdicts) for _ in readings]
            # One that is allowed though it is undecided counts before one that is clear.
            verdict = decisive(sorted(own, key=lambda verdict: not (verdict.reasons or verdict.undetermined)))
            assert verdict is not None  # noqa: S101 - there are no readings of nothing
            found.append(verdict)
        return found

    async def check(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        """A verdict for each exchange, in order.

        Args:
            exchanges: those of one request.
        """
        if not exchanges:
            return []
        if self._waiting + len(exchanges) > self._settings.max_waiting:
            raise self._overloaded("the queue is full")
        loop = asyncio.get_running_loop()
        request = _Request(exchanges, loop.create_future(), [None] * len(exchanges), len(exchanges), len(exchanges))
        self._pending.extend((request, place) for place in range(len(exchanges)))
        self._count_waiting(len(exchanges))
        turn = loop.call_later(self._settings.wait, self._give_up, request)
        try:
            self._hand_over()
            await request.done
        finally:
            turn.cancel()
            self._forget(request)
        return [verdict for verdict in request.verdicts if verdict is not None]

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Room for an answer that is judged while it is being written."""
        if self._streams >= self._settings.max_streams:
            raise self._overloaded("there are too many streams")
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1

    def count(self, verdict: Verdict) -> None:
        """Count a verdict that was reached without the desk: a stream's last one."""
        self._meter.judged([verdict])

    def _hand_over(self) -> None:
        """Begin calls of the guard, as long as there is room and somebody waits."""
        while len(self._running) < self._calls and (places := self._next()):
            call = asyncio.get_running_loop().create_task(self._call(places))
            self._running[call] = places
            for request, _ in places:
                request.calls.add(call)
            call.add_done_callback(self._called)

    def _next(self) -> list[_Place]:
        """What the next call takes: the oldest that wait, as many as are judged together."""
        places: list[_Place] = []
        room = _TOGETHER
        while self._pending and len(places) < self._together:
            request, place = self._pending[0]
            if request.gone:
                self._pending.popleft()
                continue
            exchange = request.exchanges[place]
            room -= len(exchange.prompt) + len(exchange.response or "")
            if places and room < 0:
                break
            self._pending.popleft()
            request.waiting -= 1
            self._count_waiting(-1)
            places.append((request, place))
        return places

    async def _call(self, places: list[_Place]) -> None:
        exchanges = [request.exchanges[place] for request, place in places]
        verdicts = await self.guard.acheck_many(exchanges, timeout=self.timeout)
        self._meter.judged(verdicts)
        for (request, place), verdict in zip(places, verdicts, strict=True):
            request.verdicts[place] = verdict
            request.left -= 1
            if not request.left and not request.gone:
                request.done.set_result(None)

    def _called(self, call: asyncio.Task[None]) -> None:
        places = self._running.pop(call)
        error = None if call.cancelled() else call.exception()
        for request, _ in places:
            request.calls.discard(call)
            if error is not None and not request.gone:
                request.done.set_exception(error)
        self._hand_over()

    def _give_up(self, request: _Request) -> None:
        """The time to wait is over: for those that are not all in the guard's hands."""
        if request.waiting and not request.gone:
            request.done.set_exception(self._overloaded(f"there was no turn within {self._settings.wait:g} s"))

    def _forget(self, request: _Request) -> None:
        """Call off what nobody waits for any more."""
        if not request.gone:
            request.done.cancel()
        self._count_waiting(-request.waiting)
        request.waiting = 0
        for call in list(request.calls):
            if all(other.gone for other, _ in self._running[call]):
                call.cancel()
        # What is gone is passed over when its turn comes. Where turns do not come, it must not pile up.
        if len(self._pending) > 2 * self._settings.max_waiting:
            self._pending = deque(place for place in self._pending if not place[0].gone)

    def _count_waiting(self, more: int) -> None:
        self._waiting += more
        self._meter.waiting(more)

    def _overloaded(self, why: str) -> Failure:
        self._meter.refused(why)
        return Failure(503, "overloaded", f"The server is busy: {why}; try again.", retry_after=1)
