"""The one class that most users meet."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from guardreasoner_sdk._batches import Row, Work, aparts, parts
from guardreasoner_sdk._cache import JudgementCache
from guardreasoner_sdk._loop import GuardLoop
from guardreasoner_sdk.errors import ClosedError, ConfigurationError, InputError, UndeterminedError
from guardreasoner_sdk.exchange import Exchange, Turn, exchange_from, exchange_from_messages
from guardreasoner_sdk.judges.base import DirectJudge, Judge, load_judge
from guardreasoner_sdk.judges.careful import judge_carefully, judge_carefully_now
from guardreasoner_sdk.policy import Policy
from guardreasoner_sdk.verdict import Judgement, Verdict

if TYPE_CHECKING:
    from guardreasoner_sdk.dialects.base import Dialect
    from guardreasoner_sdk.judges.cascade import Band

__all__ = ["Guard"]

logger = logging.getLogger("guardreasoner_sdk")

T = TypeVar("T")


class Guard:
    """Decides whether a prompt is harmful, whether a response is a refusal and whether it is harmful, and says why.

    ``Guard()`` is the embedded guard: no download, no GPU. What is not given comes from ``GUARDREASONER_*`` environment
    variables (:class:`guardreasoner_sdk.settings.Settings`). A guard is thread-safe and cheap to share; its model is loaded
    on first use, once. Close it, or use it as a (possibly asynchronous) context manager.

    Args:
        model: a name of the catalogue (``guardreasoner models`` lists them), a folder or GGUF file of weights, or the name
            that the server at ``base_url`` gives its model.
        backend: what runs it: ``embedded``, ``vllm``, ``llama_cpp``, ``transformers`` or ``remote``.
        base_url: address of an OpenAI-compatible server.
        api_key: its key.
        dialect: how a model that is not in the catalogue is asked and read: a name or a dialect of your own. Default: what
            ``guard.json`` beside the weights says, or ``guardreasoner``.
        options: options of the engine, for instance ``{"tensor_parallel_size": 2}`` for vLLM.
        screen: ``"embedded"``: the embedded guard decides the clear cases, and the model only the doubtful ones.
        band: which scores of the screen are doubtful, ``(low, high)``, for all tasks or by task.
        judge: a judge of your own instead of a model and its engine.
        policy: what a finding means; default: block what is harmful, and what could not be decided.
        reasoning: how much to reason: ``auto``, ``full``, ``brief`` or ``off``.
        timeout: seconds for one check, or for one part of a batch; what is not decided by then is undetermined.
        cache: most verdicts to remember in memory, least recently used first out; 0: none.
        on_verdict: called with ``(exchange, verdict)`` after every check, in the calling thread (from ``acheck``: on its
            event loop). It must not block; an exception in it is logged and changes nothing.
        concurrency: most parts of a batch in flight at a time.

    Raises:
        ConfigurationError: arguments or environment variables that cannot work.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        backend: str | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        dialect: str | Dialect | None = None,
        options: Mapping[str, Any] | None = None,
        screen: str | Judge | None = None,
        band: Band | None = None,
        judge: Judge | None = None,
        policy: Policy | None = None,
        reasoning: Literal["auto", "full", "brief", "off"] | None = None,
        timeout: float | None = None,
        cache: int | None = None,
        on_verdict: Callable[[Exchange, Verdict], None] | None = None,
        concurrency: int = 8,
    ) -> None:
        # Late, for the sake of import time: reading the environment costs more to import than all the rest of this module.
        from guardreasoner_sdk.judges.build import build_judge
        from guardreasoner_sdk.settings import Settings

        given = {
            "model": model,
            "backend": backend,
            "base_url": base_url,
            "api_key": api_key,
            "reasoning": reasoning,
            "timeout": timeout,
            "cache": cache,
        }
        settings = Settings(**{name: value for name, value in given.items() if value is not None})
        if judge is not None and any(part is not None for part in (model, backend, base_url, dialect, options, screen, band)):
            raise ConfigurationError("judge: pass either a judge, or a model and its engine")
        if on_verdict is not None and inspect.iscoroutinefunction(on_verdict):
            raise ConfigurationError("on_verdict: must be a plain function; start a task in it to do something slow")
        if isinstance(cache, bool):
            raise ConfigurationError(f"cache: pass how many verdicts to remember, for instance 10_000, not {cache}")
        if not isinstance(concurrency, int) or concurrency < 1:
            raise ConfigurationError(f"concurrency: must be a whole number from 1, not {concurrency!r}")
        self.policy = Policy(on_undetermined=settings.on_undetermined) if policy is None else policy
        self._judge: Judge = (
            build_judge(settings, dialect=dialect, options=options, screen=screen, band=band) if judge is None else judge
        )
        self._timeout = settings.timeout
        self._cache = JudgementCache(settings.cache)
        self._on_verdict = on_verdict
        self._concurrency = concurrency
        self._loop = GuardLoop()
        self._closed = False

    def check(
        self,
        prompt: str,
        response: str | None = None,
        *,
        history: Sequence[Turn | Mapping[str, Any]] = (),
        timeout: float | None = None,
    ) -> Verdict:
        """Judge a prompt, or a response to it. Safe from any thread, also inside a running event loop.

        Args:
            prompt: what the human asked.
            response: what the assistant answered; None to judge the prompt alone.
            history: earlier turns, oldest first.
            timeout: seconds; overrides the guard's.

        Returns:
            the verdict. ``verdict.allowed`` is what to act upon.

        Raises:
            InputError: the text cannot be judged (empty, not a str, too long).
            UndeterminedError: undecided, and the policy says ``on_undetermined="raise"``.
            ClosedError: the guard was closed.
        """
        return self._check(Exchange(prompt, response, history), timeout)

    async def acheck(
        self,
        prompt: str,
        response: str | None = None,
        *,
        history: Sequence[Turn | Mapping[str, Any]] = (),
        timeout: float | None = None,
    ) -> Verdict:
        """:meth:`check` for asyncio: the event loop stays free meanwhile."""
        return await self._acheck(Exchange(prompt, response, history), timeout)

    def check_messages(self, messages: Sequence[Mapping[str, Any]], *, timeout: float | None = None) -> Verdict:
        """Judge an OpenAI-style message list.

        The last user message is the prompt, judged in the light of what stands before it; the text of what stands after it
        is the response.

        Args:
            messages: mappings with ``role`` and ``content`` (a str, or a list of text parts).
            timeout: seconds; overrides the guard's.

        Raises:
            InputError: no user message, or a part that is not text.
            UndeterminedError, ClosedError: as :meth:`check`.
        """
        return self._check(exchange_from_messages(messages), timeout)

    async def acheck_messages(self, messages: Sequence[Mapping[str, Any]], *, timeout: float | None = None) -> Verdict:
        """:meth:`check_messages` for asyncio."""
        return await self._acheck(exchange_from_messages(messages), timeout)

    def check_many(self, rows: Iterable[Row], *, timeout: float | None = None) -> list[Verdict]:
        """Judge many exchanges; one verdict each, in order.

        A row that cannot be judged gives an undetermined verdict that says why, and the batch goes on; it goes on too where
        the policy says ``on_undetermined="raise"`` (the verdict then blocks).

        Args:
            rows: prompts, ``(prompt, response)`` pairs, mappings with ``prompt``, ``response`` and ``history``, or exchanges.
            timeout: seconds for each part of the batch; overrides the guard's.
        """
        return list(self.iter_many(rows, timeout=timeout))

    async def acheck_many(self, rows: Iterable[Row] | AsyncIterable[Row], *, timeout: float | None = None) -> list[Verdict]:
        """:meth:`check_many` for asyncio; the rows may come from an asynchronous iterable too."""
        return [verdict async for verdict in self.aiter_many(rows, timeout=timeout)]

    def iter_many(self, rows: Iterable[Row], *, timeout: float | None = None) -> Iterator[Verdict]:
        """:meth:`check_many` for more rows than fit in memory: yields verdicts in order while it reads."""
        waiting: deque[tuple[Work, Future[list[Judgement]]]] = deque()
        try:
            for part in parts(rows, self._judge.batch_size):
                work = self._begin(part, timeout)
                if isinstance(self._judge, DirectJudge):
                    yield from self._settle(work, judge_carefully_now(self._judge, work.misses, work.deadline))
                    continue
                waiting.append((work, self._hosted(work)))
                if len(waiting) >= self._concurrency:
                    work, future = waiting.popleft()
                    yield from self._settle(work, self._result(future))
            while waiting:
                work, future = waiting.popleft()
                yield from self._settle(work, self._result(future))
        finally:
            for _, future in waiting:
                future.cancel()

    async def aiter_many(
        self, rows: Iterable[Row] | AsyncIterable[Row], *, timeout: float | None = None
    ) -> AsyncIterator[Verdict]:
        """:meth:`iter_many` for asyncio."""
        waiting: deque[tuple[Work, Future[list[Judgement]]]] = deque()
        try:
            async for part in aparts(rows, self._judge.batch_size):
                work = self._begin(part, timeout)
                waiting.append((work, self._hosted(work)))
                if len(waiting) >= self._concurrency:
                    work, future = waiting.popleft()
                    for verdict in self._settle(work, await self._aresult(future)):
                        yield verdict
            while waiting:
                work, future = waiting.popleft()
                for verdict in self._settle(work, await self._aresult(future)):
                    yield verdict
        finally:
            for _, future in waiting:
                future.cancel()

    def load(self) -> None:
        """Load the model now, and not with the first check: before a server takes requests, for instance.

        Raises:
            ConfigurationError: it cannot be loaded: no weights, an engine that is not installed, a wrong option.
        """
        self._check_open()
        self._result(self._loop.submit(load_judge, self._judge))

    async def aload(self) -> None:
        """:meth:`load` for asyncio."""
        self._check_open()
        await self._aresult(self._loop.submit(load_judge, self._judge))

    @property
    def judge(self) -> Judge:
        """Who judges."""
        return self._judge

    def close(self) -> None:
        """Free the judge and stop the guard's event loop. Closing twice does nothing."""
        if not self._closed:
            self._closed = True
            try:
                self._loop.submit(self._judge.aclose).result()
            finally:
                self._loop.close()

    async def aclose(self) -> None:
        """:meth:`close` for asyncio."""
        if not self._closed:
            self._closed = True
            try:
                await asyncio.wrap_future(self._loop.submit(self._judge.aclose))
            finally:
                await asyncio.to_thread(self._loop.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _check(self, exchange: Exchange, timeout: float | None) -> Verdict:
        work = self._begin([exchange], timeout)
        if isinstance(self._judge, DirectJudge):
            judgements = judge_carefully_now(self._judge, work.misses, work.deadline)
        else:
            judgements = self._result(self._hosted(work))
        return self._decided(exchange, self._settle(work, judgements)[0])

    async def _acheck(self, exchange: Exchange, timeout: float | None) -> Verdict:
        work = self._begin([exchange], timeout)
        judgements = await self._aresult(self._hosted(work))
        return self._decided(exchange, self._settle(work, judgements)[0])

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the guard is closed; make a new one")

    def _begin(self, rows: Sequence[Row], timeout: float | None) -> Work:
        self._check_open()
        limit = self._timeout if timeout is None else timeout
        if limit is not None and not (isinstance(limit, int | float) and 0 < limit < float("inf")):
            raise InputError("timeout", f"is {limit!r}", "pass seconds above 0, or None for no limit")
        started = time.monotonic()
        work = Work(started, None if limit is None else started + limit)
        for row in rows:
            try:
                exchange = exchange_from(row)
            except InputError as error:
                # Nobody knows whether there was a response: no part of such a row may pass for one that was not asked for.
                work.slots.append((None, Judgement.unable(str(error), response=True)))
                continue
            known = self._cache.get(exchange)
            work.slots.append((exchange, known))
            if known is None:
                work.misses.append(exchange)
        return work

    @staticmethod
    def _result(future: Future[T]) -> T:
        try:
            return future.result()
        except CancelledError:
            # Nobody else cancels what a synchronous caller waits for: the guard was closed by another thread.
            raise ClosedError("the guard was closed before it decided") from None

    @staticmethod
    async def _aresult(future: Future[T]) -> T:
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise ClosedError("the guard was closed before it decided") from None

    def _hosted(self, work: Work) -> Future[list[Judgement]]:
        """Have the judge work on the guard's own loop."""
        if not work.misses:
            done: Future[list[Judgement]] = Future()
            done.set_result([])
            return done
        return self._loop.submit(judge_carefully, self._judge, work.misses, work.deadline)

    def _settle(self, work: Work, judgements: list[Judgement]) -> list[Verdict]:
        """Make verdicts of judgements: cache, policy, events."""
        latency = (time.monotonic() - work.started) * 1000
        fresh = iter(judgements)
        verdicts = []
        for exchange, known in work.slots:
            judgement = next(fresh) if known is None else known
            decider = judgement.path[-1] if judgement.path else self._judge
            verdict = self.policy.verdict(
                judgement,
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
                self._tell(exchange, verdict)
            verdicts.append(verdict)
        return verdicts

    def _tell(self, exchange: Exchange, verdict: Verdict) -> None:
        if self._on_verdict is not None:
            try:
                self._on_verdict(exchange, verdict)
            except Exception as error:
                # Its message may quote what it was given; that is text to judge, which does not belong into a log.
                logger.error("on_verdict raised %s", type(error).__name__)
                logger.debug("the failure", exc_info=error)

    def _decided(self, exchange: Exchange, verdict: Verdict) -> Verdict:
        if self.policy.decide(verdict, response=exchange.response is not None).action == "raise":
            raise UndeterminedError(verdict)
        return verdict
