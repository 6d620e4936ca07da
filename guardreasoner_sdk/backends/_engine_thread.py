"""One thread for an engine that blocks: it loads the engine, collects what waits, and runs it in batches."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from functools import partial
from typing import Generic, TypeVar

from guardreasoner_sdk._deadline import Deadline
from guardreasoner_sdk._forks import abandon, renew_after_fork
from guardreasoner_sdk.backends._results import to_backend_error
from guardreasoner_sdk.errors import BackendError, ClosedError, ConfigurationError, DeadlineError

__all__ = ["EngineJob", "EngineThread"]

Engine = TypeVar("Engine")
Q = TypeVar("Q")
A = TypeVar("A")

LINGER = 0.003
"""Seconds without a new query before a batch begins that is not full: tasks of one event loop hand theirs over one by one."""


class EngineJob(Generic[Q, A]):
    """A query on its way through the engine.

    Args:
        query: what is asked: a :class:`~guardreasoner_sdk.generation.Query`, or a text to classify.
        deadline: time on ``time.monotonic()`` after which nobody waits any more, or None.
    """

    __slots__ = ("deadline", "future", "query")

    def __init__(self, query: Q, deadline: float | None) -> None:
        self.query = query
        self.deadline = Deadline.of(deadline)
        self.future: Future[A | BackendError] = Future()

    @property
    def wanted(self) -> bool:
        """Whether somebody still waits for the answer; engines look between two tokens."""
        return not self.future.done() and not self.deadline.passed

    def settle(self, answer: A | BackendError) -> None:
        """Hand the answer over; too late is no error."""
        with suppress(InvalidStateError):
            self.future.set_result(answer)

    async def answered(self) -> A | BackendError:
        """The answer, or that there was none in time: an engine may be busy with one step, or with loading, for longer."""
        try:
            async with self.deadline.scope():
                return await asyncio.wrap_future(self.future)
        except TimeoutError:
            return DeadlineError()


class EngineThread(Generic[Engine, Q, A]):
    """Runs an engine in a thread of its own. The engine is loaded on first use, once, and again in a forked child.

    Args:
        load: makes the engine; called in the thread.
        run: answers a batch: settles every job, or raises for those that it left.
        batch: most jobs handed to ``run`` at a time.
        name: the thread's name.
    """

    def __init__(
        self, load: Callable[[], Engine], run: Callable[[Engine, list[EngineJob[Q, A]]], None], *, batch: int, name: str
    ) -> None:
        self._load = load
        self._run = run
        self._batch = batch
        self._name = name
        self._closed = False
        self._reset()
        renew_after_fork(self)

    def after_fork(self) -> None:
        """Start again when there is something to do: neither the thread nor an engine that it may just use is of any use."""
        abandon(self._engine, self._waiting, self._running)
        self._reset()

    def _reset(self) -> None:
        self._engine: Engine | None = None
        self._thread: threading.Thread | None = None
        self._waiting: deque[EngineJob[Q, A] | Future[None]] = deque()
        self._running: list[EngineJob[Q, A]] = []
        self._wake = threading.Condition()

    async def answer(self, queries: Sequence[Q], deadline: float | None) -> list[A | BackendError]:
        """Answer the queries, in order; cancelling the task takes them back."""
        jobs: list[EngineJob[Q, A]] = [EngineJob(query, deadline) for query in queries]
        self._put(jobs)
        try:
            return list(await asyncio.gather(*(job.answered() for job in jobs)))
        finally:
            for job in jobs:
                job.future.cancel()

    async def load(self) -> None:
        """Load the engine now."""
        loaded: Future[None] = Future()
        self._put([loaded])
        await asyncio.wrap_future(loaded)

    async def aclose(self) -> None:
        """Stop the thread, and let the engine go. What is under way and what waits fails."""
        with self._wake:
            self._closed = True
            for job in self._running:
                _fail(job, ClosedError("the guard was closed before it decided"))
            thread = self._thread
            self._wake.notify()
        if thread is not None:
            await asyncio.to_thread(thread.join)

    def _put(self, items: Sequence[EngineJob[Q, A] | Future[None]]) -> None:
        with self._wake:
            if self._closed:
                raise ClosedError("the engine is closed; make a new guard")
            self._waiting.extend(items)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                self._thread.start()
            self._wake.notify()

    def _work(self) -> None:
        try:
            while (items := self._next()) is not None:
                self._serve(items)
        finally:
            self._engine = None

    def _next(self) -> list[EngineJob[Q, A] | Future[None]] | None:
        with self._wake:
            self._wake.wait_for(lambda: self._waiting or self._closed)
            while not self._closed and len(self._waiting) < self._batch:
                if not self._wake.wait_for(partial(self._changed, len(self._waiting)), timeout=LINGER):
                    break
            if self._closed:
                for item in self._waiting:
                    _fail(item, ClosedError("the guard was closed before it decided"))
                return None
            items = [self._waiting.popleft() for _ in range(min(self._batch, len(self._waiting)))]
            self._running = [item for item in items if isinstance(item, EngineJob)]
            return items

    def _changed(self, count: int) -> bool:
        return self._closed or len(self._waiting) != count

    def _serve(self, items: list[EngineJob[Q, A] | Future[None]]) -> None:
        jobs = [item for item in items if isinstance(item, EngineJob) and item.wanted]
        loads = [item for item in items if not isinstance(item, EngineJob)]
        try:
            if self._engine is None and (jobs or loads):
                self._engine = self._load()
            for load in loads:
                with suppress(InvalidStateError):
                    load.set_result(None)
            if jobs and self._engine is not None:
                self._run(self._engine, jobs)
        except Exception as error:
            for job in jobs:
                _fail(job, error)
            for load in loads:
                _fail(load, error)
        for job in (item for item in items if isinstance(item, EngineJob)):
            job.settle(DeadlineError() if job.deadline.passed else BackendError("the engine gave no answer"))


def _fail(item: EngineJob[Q, A] | Future[None], error: Exception) -> None:
    """Answer with an error that concerns this query, or raise one that concerns every caller."""
    future = item.future if isinstance(item, EngineJob) else item
    with suppress(InvalidStateError):
        if isinstance(error, ConfigurationError | ClosedError) or not isinstance(item, EngineJob):
            future.set_exception(error)
        else:
            item.settle(to_backend_error(error))
