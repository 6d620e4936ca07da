"""From exchanges to verdicts: the way that every check takes, whether alone, in a batch or in a stream."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from guardreasoner_sdk import _forks
from guardreasoner_sdk._arguments import CallContext, Listener, takes_context
from guardreasoner_sdk._batches import Row, abatches, batches
from guardreasoner_sdk._cache import JudgementCache
from guardreasoner_sdk._deadline import Deadline
from guardreasoner_sdk._failures import log_failure
from guardreasoner_sdk._loop import GuardLoop
from guardreasoner_sdk.errors import BackendError, ClosedError, InputError, UndeterminedError
from guardreasoner_sdk.exchange import Exchange, exchange_from
from guardreasoner_sdk.judges.base import DirectJudge, Judge, is_direct, load_judge
from guardreasoner_sdk.judges.cascade import CascadeJudge
from guardreasoner_sdk.judges.safe_judging import judge_safely, judge_safely_now
from guardreasoner_sdk.policy import Policy
from guardreasoner_sdk.telemetry.recording import UNRECORDED, CheckRecord, record_check
from guardreasoner_sdk.verdict import Judgement, Verdict, decisive

if TYPE_CHECKING:
    from guardreasoner_sdk.calibration import Calibration

__all__ = ["Checker", "await_result", "wait_for_result"]

logger = logging.getLogger("guardreasoner_sdk")

T = TypeVar("T")

_LONGEST = 1e9  # seconds; a number beyond every float is none

_judging: ContextVar[frozenset[Checker]] = ContextVar("guardreasoner_judging", default=frozenset())
"""Whose judge is at work around here: a guard that its own judge asks would wait for itself."""


@dataclass(slots=True)
class Batch:
    """Rows on their way to verdicts.

    Args:
        started: when they were taken in.
        deadline: when nobody waits for them any more; None: never.
        rows: each as an exchange, with what is known of it already. One that is no exchange has a judgement that says why.
        to_judge: the exchanges of which nothing is known.
        context: what the caller says of them; the judge is not told.
        record: what OpenTelemetry is told.
    """

    started: float
    deadline: Deadline | None
    rows: list[tuple[Exchange | None, Judgement | None]] = field(default_factory=list)
    to_judge: list[Exchange] = field(default_factory=list)
    context: CallContext = field(default_factory=dict)
    record: CheckRecord = UNRECORDED


_Window: TypeAlias = deque[tuple[Batch, Future[list[Judgement]]]]
"""The batches that the judge has in its hands, oldest first."""


class Checker:
    """A judge with what an application needs around it: deadline, cache, policy, events, and an event loop of its own.

    Args:
        judge: who judges.
        policy: what a finding means.
        timeout: seconds for one batch; None: no limit.
        cache: most judgements to remember.
        on_verdict: see :class:`guardreasoner_sdk.Guard`.
        concurrency: most batches in the judge's hands at a time, of one caller.
        calibration: of one of the judge's models, or the file that holds it.

    Raises:
        ConfigurationError: the calibration cannot be read, or was made for another model.
    """

    def __init__(
        self,
        judge: Judge,
        policy: Policy,
        *,
        timeout: float | None,
        cache: int,
        on_verdict: Listener | None,
        concurrency: int,
        calibration: str | Path | Calibration | None = None,
    ) -> None:
        self.judge = judge
        self._direct = judge if is_direct(judge) else None
        self.policy = policy
        self.timeout = timeout
        self._cache = JudgementCache(cache)
        self._on_verdict: Any = on_verdict
        self._tells_context = on_verdict is not None and takes_context(on_verdict)
        self._concurrency = concurrency
        self._calibration = None if calibration is None else _calibration_of(judge, calibration)
        self._loop = GuardLoop()
        self._closed = False

    def check(self, *readings: Exchange, timeout: float | None, context: CallContext) -> Verdict:
        """One verdict, for a thread that waits: the one that counts among those on all readings of what is judged."""
        return self._decided(list(self.iter_many(readings, timeout=timeout, context=context)))

    async def acheck(self, *readings: Exchange, timeout: float | None, context: CallContext) -> Verdict:
        """:meth:`check` for a coroutine."""
        return self._decided([verdict async for verdict in self.aiter_many(readings, timeout=timeout, context=context)])

    def iter_many(self, rows: Iterable[Row], *, timeout: float | None, context: CallContext) -> Iterator[Verdict]:
        """A verdict for each row, in order; rows are read as far as ``concurrency`` batches go beyond the one waited for."""
        window: _Window = deque()
        try:
            for part in batches(rows, self.judge.batch_size):
                batch = self._take_in(part, timeout, context)
                if self._direct is not None:
                    with _record(batch):
                        verdicts = self._to_verdicts(batch, self._judge_here(self._direct, batch))
                    yield from verdicts
                    continue
                window.append((batch, self._judge_on_loop(batch)))
                if len(window) >= self._concurrency:
                    yield from self._wait_for(*window.popleft())
            while window:
                yield from self._wait_for(*window.popleft())
        finally:
            _cancel(window)

    async def aiter_many(
        self, rows: Iterable[Row] | AsyncIterable[Row], *, timeout: float | None, context: CallContext
    ) -> AsyncIterator[Verdict]:
        """:meth:`iter_many` for a coroutine. A direct judge, too, works on the guard's loop: the caller's stays free."""
        window: _Window = deque()
        try:
            async for part in abatches(rows, self.judge.batch_size):
                batch = self._take_in(part, timeout, context)
                window.append((batch, self._judge_on_loop(batch)))
                if len(window) >= self._concurrency:
                    for verdict in await self._await(*window.popleft()):
                        yield verdict
            while window:
                for verdict in await self._await(*window.popleft()):
                    yield verdict
        finally:
            _cancel(window)

    def _wait_for(self, batch: Batch, judging: Future[list[Judgement]]) -> list[Verdict]:
        with _record(batch):
            return self._to_verdicts(batch, wait_for_result(judging))

    async def _await(self, batch: Batch, judging: Future[list[Judgement]]) -> list[Verdict]:
        with _record(batch):
            return self._to_verdicts(batch, await await_result(judging))

    def _take_in(self, rows: Sequence[Row], timeout: float | None, context: CallContext) -> Batch:
        """Make a batch of rows: what is known already, and what the judge has to see."""
        self._check_usable()
        limit = self.timeout if timeout is None else timeout
        number = isinstance(limit, int | float) and not isinstance(limit, bool)
        if limit is not None and not (number and 0 < limit <= _LONGEST):
            raise InputError("timeout", f"is {limit!r}", "pass seconds above 0, or None for no limit")
        batch = Batch(time.monotonic(), None if limit is None else Deadline.after(limit), context=context)
        for row in rows:
            try:
                exchange = exchange_from(row)
            except InputError as error:
                # Nobody knows whether there was a response: no part of such a row may pass for one that was not asked for.
                batch.rows.append((None, Judgement.unable(str(error), response=True)))
                continue
            known = self._cache.get(exchange)
            batch.rows.append((exchange, known))
            if known is None:
                batch.to_judge.append(exchange)
        known_already = sum(known is not None and exchange is not None for exchange, known in batch.rows)
        batch.record = record_check(len(batch.rows), known_already, context)
        return batch

    def _judge_here(self, judge: DirectJudge, batch: Batch) -> list[Judgement]:
        """Have the judge work in the calling thread."""
        if not batch.to_judge:
            return []
        around = _judging.set(_judging.get() | {self})
        try:
            with batch.record.attach():
                return judge_safely_now(judge, batch.to_judge, batch.deadline)
        finally:
            _judging.reset(around)

    def _judge_on_loop(self, batch: Batch) -> Future[list[Judgement]]:
        """Have the judge work on the guard's own loop."""
        if not batch.to_judge:
            nothing: Future[list[Judgement]] = Future()
            nothing.set_result([])
            return nothing
        batch.record.queue()
        return self._loop.submit(self._judged, batch, _judging.get() | {self})

    def _to_verdicts(self, batch: Batch, judgements: list[Judgement]) -> list[Verdict]:
        """Make verdicts of judgements: calibration, policy, cache, events."""
        latency = (time.monotonic() - batch.started) * 1000
        fresh = iter(judgements)
        verdicts = []
        for exchange, known in batch.rows:
            judgement = next(fresh) if known is None else known
            decider = judgement.decider or self.judge
            # Not what is remembered: that stays as the judge gave it.
            calibrated = self._calibrated(judgement, decider.model)
            verdict = self.policy.verdict(
                calibrated,
                response=exchange is None or exchange.response is not None,
                model=decider.model,
                backend=decider.backend,
                latency_ms=latency,
                cached=exchange is not None and known is not None,
            )
            if exchange is not None:
                if known is None:
                    self._cache.put(exchange, judgement)
                if verdict.allowed and verdict.reasons:
                    logger.warning("allowed undecided: %s", "; ".join(verdict.reasons))
                self._tell(exchange, verdict, batch.context)
            verdicts.append(verdict)
        batch.record.finish([exchange for exchange, _ in batch.rows], verdicts)
        return verdicts

    def load(self) -> Future[None]:
        """Start to load the judge's model."""
        self._check_usable()
        return self._loop.submit(load_judge, self.judge)

    def close(self) -> None:
        """Free the judge and stop the loop; the first time only."""
        self._check_outside()
        if not self._closed:
            self._closed = True
            try:
                self._loop.submit(self.judge.aclose).result()
            finally:
                self._loop.close()

    async def aclose(self) -> None:
        """:meth:`close` for a coroutine."""
        self._check_outside()
        if not self._closed:
            self._closed = True
            try:
                await asyncio.wrap_future(self._loop.submit(self.judge.aclose))
            finally:
                await asyncio.to_thread(self._loop.close)

    def _calibrated(self, judgement: Judgement, model: str) -> Judgement:
        if self._calibration is None or not self._calibration.fits([model]):
            return judgement
        return self._calibration.apply(judgement)

    def _check_usable(self) -> None:
        if self._closed:
            raise ClosedError("the guard is closed; make a new one")
        self._check_outside()

    def _check_outside(self) -> None:
        _forks.notice_fork()
        if self in _judging.get():
            raise BackendError("the judge used the guard that it judges for; give it a guard of its own")

    async def _judged(self, batch: Batch, around: frozenset[Checker]) -> list[Judgement]:
        _judging.set(around)  # for this task and what it starts
        batch.record.start()
        with batch.record.attach():
            return await judge_safely(self.judge, batch.to_judge, batch.deadline)

    def _tell(self, exchange: Exchange, verdict: Verdict, context: CallContext) -> None:
        if self._on_verdict is not None:
            try:
                if self._tells_context:
                    self._on_verdict(exchange, verdict, context=context)
                else:
                    self._on_verdict(exchange, verdict)
            except Exception as error:
                # Its message may quote what it was given; that is text to judge, which does not belong into a log.
                logger.error("on_verdict raised %s", type(error).__name__)
                log_failure(logger, "the failure", error)

    def _decided(self, verdicts: Sequence[Verdict]) -> Verdict:
        verdict = decisive(verdicts) or verdicts[0]
        if self.policy.insists(verdict):
            raise UndeterminedError(verdict)
        return verdict


def _cancel(window: _Window) -> None:
    """Call off what nobody waits for any more."""
    for batch, judging in window:
        judging.cancel()
        batch.record.give_up()


@contextmanager
def _record(batch: Batch) -> Iterator[None]:
    """A block that ends with the batch's verdicts, or without them."""
    try:
        yield
    except BaseException as error:
        batch.record.give_up(error)
        raise


def _calibration_of(judge: Judge, given: str | Path | Calibration) -> Calibration:
    from guardreasoner_sdk.calibration import Calibration

    calibration = given if isinstance(given, Calibration) else Calibration.load(given)
    if not calibration.fits([judge.model]):
        judges = [judge.first, judge.second] if isinstance(judge, CascadeJudge) else [judge]
        calibration.check_made_for([each.model for each in judges])
    return calibration


def wait_for_result(future: Future[T]) -> T:
    """Wait for what runs on the guard's loop."""
    try:
        return future.result()
    except CancelledError:
        # Nobody else cancels what a synchronous caller waits for: the guard was closed by another thread.
        raise ClosedError("the guard was closed before it decided") from None


async def await_result(future: Future[T]) -> T:
    """:func:`wait_for_result` for a coroutine."""
    try:
        return await asyncio.wrap_future(future)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise ClosedError("the guard was closed before it decided") from None
