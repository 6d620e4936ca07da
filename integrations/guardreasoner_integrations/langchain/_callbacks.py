"""Callback handlers: a guard that watches models wherever they run, and one that stops them."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.outputs import LLMResult

from guardreasoner_integrations._guards import check_guard
from guardreasoner_integrations.langchain._observer import ObservedRun, Observer, Sight
from guardreasoner_integrations.langchain._questions import Stage, ajudge, can_block, judge, should_check
from guardreasoner_sdk import ConfigurationError, Guard, Verdict
from guardreasoner_sdk._failures import log_failure
from guardreasoner_sdk._forks import abandon, renew_after_fork

__all__ = ["AsyncGuardCallbackHandler", "GuardCallbackHandler"]

logger = logging.getLogger("guardreasoner_integrations")

_WORKERS = 2
_MOST_RUNS = 10_000


class _Handler:
    """What both handlers have: an observer, a record, and how many checks wait."""

    def __init__(self, guard: Guard, checks: Mapping[Stage, bool], *, record: int, pending: int) -> None:
        check_guard(guard)
        for name, number, least in (("record", record, 0), ("pending", pending, 1)):
            if isinstance(number, bool) or not isinstance(number, int) or number < least:
                raise ConfigurationError(f"{name}: must be a whole number from {least}, not {number!r}")
        self._guard = guard
        self._observer = Observer([stage for stage, made in checks.items() if made], runs=_MOST_RUNS)
        self._pending = pending
        self.record: deque[tuple[Verdict, ObservedRun]] = deque(maxlen=record)
        """The last verdicts, oldest first, each with the run that it is about."""
        self.dropped = 0
        """How many events were not judged because too many were waiting."""

    def _drop(self) -> None:
        self.dropped += 1
        if self.dropped == 1:
            logger.warning("a callback handler left events unjudged: more than pending=%d wait for the guard", self._pending)


class GuardCallbackHandler(_Handler, BaseCallbackHandler):
    """Judges what models are asked and what they answer, under every API of LangChain: ``invoke``, ``ainvoke``, ``stream``,
    ``astream``, ``batch``, ``abatch``, in chains and in agents.

    It watches, unless it is told to block. A watching handler checks on threads of its own: the application neither waits nor
    sees an error, whatever becomes of the check. A blocking handler checks before the run goes on, and raises; under the
    asynchronous APIs LangChain calls it on a worker thread, so that the event loop stays free. It can stop a model from being
    asked and an answer from being returned. It cannot take back tokens that were streamed: for that there are
    :class:`GuardMiddleware` (agents), :class:`GuardedChain` (chains) and :meth:`guardreasoner_sdk.Guard.astream`.

    Args:
        guard: who judges.
        block: stop the run where the policy blocks.
        on_verdict: called with ``(verdict, run)``: on the thread that checks. An exception in it is logged and changes nothing.
        check_input: judge what models are asked. None: yes, but a blocking handler only where the policy can block a prompt.
        check_output: judge what models answer, tool calls included, together with what they were asked. None: yes, but a
            blocking handler only where the policy can block a response.
        check_tool_args: judge what tools are given when they are called, names included, as a response: a model wrote it. It is
            judged together with what the model was asked where this handler saw the model's call.
        check_tool_results: judge what tools return, as a prompt.
        record: most verdicts to keep in ``handler.record``.
        pending: most events that wait for a check while watching; what comes on top of them is counted in
            ``handler.dropped`` and not judged.

    Raises:
        ConfigurationError: options that cannot work.
        BlockedError, UndeterminedError: out of the run, from a blocking handler.

    Example:
        >>> from langchain_core.language_models import FakeListChatModel
        >>> from guardreasoner_integrations.langchain import GuardCallbackHandler
        >>> from guardreasoner_sdk import Guard
        >>> handler = GuardCallbackHandler(Guard())
        >>> model = FakeListChatModel(responses=["Call her Miso."])  # yours
        >>> _ = model.invoke("What is a good name for a cat?", config={"callbacks": [handler]})
        >>> _ = handler.flush()
        >>> sorted((run.stage, verdict.action) for verdict, run in handler.record)
        [('input', 'allow'), ('output', 'allow')]
    """

    # LangChain swallows what a handler raises unless it says so, and calls it on the event loop where it says "inline".
    run_inline = False

    def __init__(
        self,
        guard: Guard,
        *,
        block: bool = False,
        on_verdict: Callable[[Verdict, ObservedRun], None] | None = None,
        check_input: bool | None = None,
        check_output: bool | None = None,
        check_tool_args: bool = False,
        check_tool_results: bool = False,
        record: int = 100,
        pending: int = 1000,
    ) -> None:
        if on_verdict is not None and inspect.iscoroutinefunction(on_verdict):
            raise ConfigurationError("on_verdict: must be a plain function here; AsyncGuardCallbackHandler awaits one")
        checks: dict[Stage, bool] = {
            "input": not block or can_block(guard.policy, response=False) if check_input is None else check_input,
            "output": not block or can_block(guard.policy, response=True) if check_output is None else check_output,
            "tool_args": should_check(guard.policy, "check_tool_args", check_tool_args, response=True)
            if block
            else check_tool_args,
            "tool_result": check_tool_results,
        }
        super().__init__(guard, checks, record=record, pending=pending)
        self.raise_error = block
        self._block = block
        self._on_verdict = on_verdict
        self._start()
        renew_after_fork(self)

    def after_fork(self) -> None:
        """Watch with threads of its own in a forked child: what still waited is judged by the parent."""
        abandon(self._workers, self._checks)
        self._start()

    def _start(self) -> None:
        self._room = threading.BoundedSemaphore(self._pending)
        self._workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="guardreasoner-callbacks")
        self._checks: set[Future[None]] = set()

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until everything seen so far was judged: before a process ends, or in a test.

        Args:
            timeout: most seconds to wait; None: no limit.

        Returns:
            whether everything was.
        """
        return not wait(list(self._checks), timeout).not_done

    def on_chat_model_start(self, serialized: dict[str, Any], messages: list[list[BaseMessage]], **about: Any) -> None:
        """See what a chat model is asked."""
        self._see(self._observer.model_starts, [message for turn in messages for message in turn], about)

    def on_llm_start(self, serialized: dict[str, Any], prompts: list[str], **about: Any) -> None:
        """See what a plain language model is asked."""
        self._see(self._observer.llm_starts, "\n\n".join(prompts), about)

    def on_llm_end(self, response: LLMResult, **about: Any) -> None:
        """See what a model answers."""
        self._see(self._observer.model_ends, response, about)

    def on_llm_error(self, error: BaseException, **about: Any) -> None:
        """Forget a run that failed."""
        self._observer.fails(about["run_id"])

    def on_tool_start(self, serialized: dict[str, Any], input_str: str, **about: Any) -> None:
        """See what a tool is given."""
        self._see(self._observer.tool_starts, input_str, {**about, "tool": (serialized or {}).get("name")})

    def on_tool_end(self, output: Any, **about: Any) -> None:
        """See what a tool returns."""
        self._see(self._observer.tool_ends, output, about)

    def _see(self, look: Callable[[Any, Mapping[str, Any]], Sight | None], what: Any, about: Mapping[str, Any]) -> None:
        if self._block:
            sight = look(what, about)
            if sight is not None:
                self._stop(sight)
            return
        with _failures_logged():
            sight = look(what, about)
            if sight is not None:
                self._watch(sight)

    def _stop(self, sight: Sight) -> None:
        try:
            for verdict in self._judged(sight):
                verdict.raise_for_block()
        except BaseException:
            # LangChain reports no end of a run that a handler did not let begin.
            self._observer.fails(sight.run.run_id)
            raise

    def _watch(self, sight: Sight) -> None:
        if not self._room.acquire(blocking=False):
            self._drop()
            return
        try:
            check = self._workers.submit(self._check, sight)
        except BaseException:
            self._room.release()
            raise
        self._checks.add(check)
        check.add_done_callback(self._checks.discard)

    def _check(self, sight: Sight) -> None:
        try:
            with _failures_logged():
                self._judged(sight)
        finally:
            self._room.release()

    def _judged(self, sight: Sight) -> list[Verdict]:
        verdicts = [verdict for verdict in judge(self._guard, sight.questions) if verdict is not None]
        for verdict in verdicts:
            self.record.append((verdict, sight.run))
            if self._on_verdict is not None:
                with _failures_logged():
                    self._on_verdict(verdict, sight.run)
        return verdicts


class AsyncGuardCallbackHandler(_Handler, AsyncCallbackHandler):
    """:class:`GuardCallbackHandler` for applications that want an asynchronous ``on_verdict``. It watches only.

    LangChain swallows what an asynchronous handler raises under ``invoke``, ``stream`` and ``batch``, whatever its
    ``raise_error`` says: a handler that blocks in one half of the APIs and lets everything pass in the other is no guard. The
    one that blocks under all of them is :class:`GuardCallbackHandler`; it does not block the event loop.

    Checks are tasks on the event loop that the model was called on. ``await handler.drain()`` before that loop ends.

    Args:
        guard: who judges.
        on_verdict: called with ``(verdict, run)``, and awaited where it is asynchronous. An exception in it is logged.
        check_input, check_output, check_tool_args, check_tool_results, record, pending: as for :class:`GuardCallbackHandler`.
        block: there is no such thing here.

    Raises:
        ConfigurationError: ``block=True``, or options that cannot work.

    Example:
        >>> import asyncio
        >>> from langchain_core.language_models import FakeListChatModel
        >>> from guardreasoner_integrations.langchain import AsyncGuardCallbackHandler
        >>> from guardreasoner_sdk import Guard
        >>> async def main():
        ...     handler = AsyncGuardCallbackHandler(Guard())
        ...     model = FakeListChatModel(responses=["Call her Miso."])  # yours
        ...     await model.ainvoke("What is a good name for a cat?", config={"callbacks": [handler]})
        ...     await handler.drain()
        ...     return sorted((run.stage, verdict.action) for verdict, run in handler.record)
        >>> asyncio.run(main())
        [('input', 'allow'), ('output', 'allow')]
    """

    def __init__(
        self,
        guard: Guard,
        *,
        on_verdict: Callable[[Verdict, ObservedRun], Awaitable[None] | None] | None = None,
        check_input: bool = True,
        check_output: bool = True,
        check_tool_args: bool = False,
        check_tool_results: bool = False,
        record: int = 100,
        pending: int = 1000,
        block: bool = False,
    ) -> None:
        if block:
            raise ConfigurationError(
                "block: an asynchronous handler cannot block invoke, stream or batch, where LangChain swallows what it raises; "
                "use GuardCallbackHandler(guard, block=True), which blocks there and under ainvoke, astream and abatch too"
            )
        checks: dict[Stage, bool] = {
            "input": check_input,
            "output": check_output,
            "tool_args": check_tool_args,
            "tool_result": check_tool_results,
        }
        super().__init__(guard, checks, record=record, pending=pending)
        self._on_verdict = on_verdict
        self._checks: set[asyncio.Task[None]] = set()

    async def drain(self) -> None:
        """Wait until everything seen so far on this event loop was judged."""
        here = asyncio.get_running_loop()
        await asyncio.gather(*(check for check in list(self._checks) if check.get_loop() is here))

    async def on_chat_model_start(self, serialized: dict[str, Any], messages: list[list[BaseMessage]], **about: Any) -> None:
        """See what a chat model is asked."""
        self._see(self._observer.model_starts, [message for turn in messages for message in turn], about)

    async def on_llm_start(self, serialized: dict[str, Any], prompts: list[str], **about: Any) -> None:
        """See what a plain language model is asked."""
        self._see(self._observer.llm_starts, "\n\n".join(prompts), about)

    async def on_llm_end(self, response: LLMResult, **about: Any) -> None:
        """See what a model answers."""
        self._see(self._observer.model_ends, response, about)

    async def on_llm_error(self, error: BaseException, **about: Any) -> None:
        """Forget a run that failed."""
        self._observer.fails(about["run_id"])

    async def on_tool_start(self, serialized: dict[str, Any], input_str: str, **about: Any) -> None:
        """See what a tool is given."""
        self._see(self._observer.tool_starts, input_str, {**about, "tool": (serialized or {}).get("name")})

    async def on_tool_end(self, output: Any, **about: Any) -> None:
        """See what a tool returns."""
        self._see(self._observer.tool_ends, output, about)

    def _see(self, look: Callable[[Any, Mapping[str, Any]], Sight | None], what: Any, about: Mapping[str, Any]) -> None:
        sight = None
        with _failures_logged():
            sight = look(what, about)
        if sight is None:
            return
        if len(self._checks) >= self._pending:
            self._drop()
            return
        check = asyncio.get_running_loop().create_task(self._check(sight))
        # An event loop holds tasks by weak references only.
        self._checks.add(check)
        check.add_done_callback(self._checks.discard)

    async def _check(self, sight: Sight) -> None:
        with _failures_logged():
            for verdict in await ajudge(self._guard, sight.questions):
                if verdict is not None:
                    self.record.append((verdict, sight.run))
                    await self._tell(verdict, sight.run)

    async def _tell(self, verdict: Verdict, run: ObservedRun) -> None:
        if self._on_verdict is not None:
            with _failures_logged():
                told = self._on_verdict(verdict, run)
                if inspect.isawaitable(told):
                    await told


@contextmanager
def _failures_logged() -> Iterator[None]:
    """What watches a run must not harm it, whatever fails: the guard, LangChain's data, or the application's ``on_verdict``."""
    try:
        yield
    except Exception as error:
        # Its message may quote what was judged, which does not belong into a log.
        logger.error("a callback handler failed: %s", type(error).__name__)
        log_failure(logger, "the failure", error)
