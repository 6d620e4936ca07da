"""Answers that are passed on while they are being written, as far as they were judged.

Made by :meth:`guardreasoner_sdk.Guard.stream` and :meth:`~guardreasoner_sdk.Guard.astream`, which say what the options mean.
"""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Generator,
    Hashable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, TypeAlias, TypeVar

from guardreasoner_sdk._ahead import ReadAhead
from guardreasoner_sdk._arguments import CallContext, check_context
from guardreasoner_sdk._window import StreamWindow
from guardreasoner_sdk.blocking import BlockRule, OnBlock
from guardreasoner_sdk.errors import ConfigurationError, InputError
from guardreasoner_sdk.exchange import Exchange, Turn, exchange_of
from guardreasoner_sdk.judges.base import LOOK_BACK, is_direct
from guardreasoner_sdk.trampoline import Steps, arun, run
from guardreasoner_sdk.verdict import Verdict, decisive

if TYPE_CHECKING:
    from guardreasoner_sdk.guard import Guard

__all__ = ["AsyncGuardedStream", "GuardedStream", "StreamOptions", "Text"]

T = TypeVar("T")

Text: TypeAlias = Callable[[T], str | Mapping[Hashable, str]]
"""From a chunk to the text in it, or to its texts by answer."""

NOTICEABLE = 0.1
"""Seconds from which a check is slow: a synchronous stream then lets as much time pass before the next one, while there is room
in the window."""

NOTICEABLE_WORK = 0.005
"""The same in CPU seconds, for a judge that works in the reader's own thread."""

DOUBTFUL = 0.1
"""Score of an excerpt's harmfulness from which the answer is judged whole, though nothing was found."""

READ_AHEAD = 64
"""Most chunks that an asynchronous stream reads ahead of its reader."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """When a stream is judged.

    Args:
        mode: ``"hold"`` shows nothing unjudged; ``"pass"`` shows every chunk at once and stops on a finding.
        window: most characters between two checks.
        timeout: seconds for each check; None: the guard's.

    Raises:
        ConfigurationError: one of them cannot work, named.

    Example:
        >>> from guardreasoner_sdk import StreamOptions
        >>> StreamOptions(window=400)
        StreamOptions(mode='hold', window=400, timeout=None)
    """

    mode: Literal["hold", "pass"] = "hold"
    window: int = 200
    timeout: float | None = None

    def __post_init__(self) -> None:
        if self.mode not in ("hold", "pass"):
            raise ConfigurationError(f"mode: must be 'hold' or 'pass', not {self.mode!r}")
        if isinstance(self.window, bool) or not isinstance(self.window, int) or self.window < 1:
            raise ConfigurationError(f"window: must be a number of characters from 1, not {self.window!r}")
        if self.timeout is not None and (
            isinstance(self.timeout, bool) or not isinstance(self.timeout, int | float) or not 0 < self.timeout < math.inf
        ):
            raise ConfigurationError(f"timeout: must be seconds above 0, or None for no limit, not {self.timeout!r}")


class _Stream(Generic[T]):
    """What both kinds of streams are: a window, a guard, and what a block means."""

    def __init__(
        self,
        guard: Guard,
        prompt: str | Exchange,
        options: StreamOptions | None,
        *,
        history: Sequence[Turn | Mapping[str, Any]] = (),
        text: Text[T] | None = None,
        on_block: OnBlock[T] | None = None,
        context: CallContext | None = None,
    ) -> None:
        self._options = StreamOptions() if options is None else options
        self._context = check_context(context)
        if text is not None and not callable(text):
            raise ConfigurationError(f"text: must be a function from a chunk to the text in it, not {type(text).__name__}")
        self._rule = BlockRule(guard, on_block)
        if self._rule.on_block == "message" and text is not None:
            raise ConfigurationError("on_block: 'message' is for streams of str; pass a function from a verdict to a chunk")
        self._guard = guard
        self._window = StreamWindow(
            exchange_of(prompt, None, history),
            size=self._options.window,
            hold=self._options.mode == "hold",
            text=text,
            look_back=getattr(guard.judge, "look_back", LOOK_BACK),
        )
        self._ends_in_text = False
        self.verdict: Verdict | None = None
        """The last verdict: on the answer so far or on an excerpt of it; at the end, the one on the whole answer (or on the
        answer that was blocked)."""

    @property
    def blocked(self) -> bool:
        """Whether the guard stopped the stream."""
        return self.verdict is not None and not self.verdict.allowed

    def _judging(self, *, last: bool) -> Steps[list[Exchange], list[T]]:
        """Judge what is due; returns the items that are free now: none where something blocks.

        An excerpt may look worse than the answer is, as any quotation may, or a little better. Where it gives cause for doubt,
        the answer so far is judged whole, and decides.
        """
        looks = self._window.looks(last=last)
        verdicts = list((yield [look.exchange for look in looks]))
        wholes = {}
        for place, (look, verdict) in enumerate(zip(looks, verdicts, strict=True)):
            unmeasured = _unmeasured(verdict)
            # Each of these would end the stream.
            found = verdict.blocked_by == "finding" or (unmeasured and not verdict.allowed)
            doubt = found or unmeasured or self._in_doubt(verdict)
            if doubt and (whole := self._window.whole(look, found=found)) is not None:
                wholes[place] = whole
        asked = (yield [whole.exchange for whole in wholes.values()]) if wholes else []
        for (place, whole), verdict in zip(wholes.items(), asked, strict=True):
            # A failure to decide clears nothing, whatever the policy makes of it.
            if verdicts[place].allowed or verdict.blocked_by == "finding" or not verdict.reasons:
                looks[place], verdicts[place] = whole, verdict
        return [] if self._noted(verdicts) else self._window.release(looks, list(wholes.values()))

    def _in_doubt(self, verdict: Verdict) -> bool:
        finding = verdict.response_harmfulness
        scored = finding is not None and finding.score is not None and finding.score >= DOUBTFUL
        return scored and "harmful_response" in self._guard.policy.block

    def _noted(self, verdicts: Sequence[Verdict]) -> Verdict | None:
        """Keep the verdict that counts: a finding before a failure, a failure before the last; returns one that blocks."""
        # Reversed: among several that allow, the last one counts.
        self.verdict = decisive(verdicts[::-1]) or self.verdict
        return self.verdict if self.blocked else None

    def _instead(self, verdict: Verdict) -> Any:
        """What ends the stream in place of what was blocked."""
        instead = self._rule.replacement(verdict)
        # The message is set apart from what the reader has seen already.
        return f"\n\n{instead}" if self._ends_in_text and self._rule.on_block == "message" else instead

    def _shown(self, items: list[T]) -> list[T]:
        for item in items:
            if isinstance(item, str) and item:
                self._ends_in_text = not item[-1].isspace()
        return items


class GuardedStream(_Stream[T], Iterator[T]):
    """A guarded answer; an iterator and a context manager. :meth:`guardreasoner_sdk.Guard.stream` makes one.

    Args:
        guard: who judges.
        prompt: what the human asked, or an exchange, which has the history already.
        chunks: the answer, in pieces.
        options: when it is judged.
        history, text, on_block, context: as of :meth:`guardreasoner_sdk.Guard.stream`.

    Raises:
        InputError: the prompt or the history cannot be judged, or the chunks are no iterable.
        ConfigurationError: options that cannot work.

    Example:
        >>> from guardreasoner_sdk import Guard, GuardedStream, StreamOptions
        >>> answer = ["Mix flour and water. ", "Let the dough rest."]
        >>> with GuardedStream(Guard(), "How do I bake bread?", answer, StreamOptions(window=100)) as stream:
        ...     print("".join(stream))
        Mix flour and water. Let the dough rest.
        >>> stream.blocked
        False
    """

    def __init__(
        self,
        guard: Guard,
        prompt: str | Exchange,
        chunks: Iterable[T],
        options: StreamOptions | None = None,
        *,
        history: Sequence[Turn | Mapping[str, Any]] = (),
        text: Text[T] | None = None,
        on_block: OnBlock[T] | None = None,
        context: CallContext | None = None,
    ) -> None:
        super().__init__(guard, prompt, options, history=history, text=text, on_block=on_block, context=context)
        if isinstance(chunks, str | bytes) or not isinstance(chunks, Iterable):
            fix = "use guard.astream" if isinstance(chunks, AsyncIterable) else "pass the chunks of the answer"
            raise InputError("chunks", f"must be an iterable of chunks, not {type(chunks).__name__}", fix)
        self._source = chunks
        self._items = iter(chunks)
        self._works_here = is_direct(guard.judge)
        self._patient_until = 0.0
        self._steps = self._run()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        return next(self._steps)

    def close(self) -> None:
        """Stop, and close the source. What is held back is dropped."""
        self._steps.close()
        self._close_source()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _run(self) -> Generator[T, None, None]:
        try:
            for item in self._items:
                yield from self._shown(self._window.take(item))
                if self._window.due and (self._window.full or time.monotonic() >= self._patient_until):
                    yield from self._judged()
                    if self.blocked:
                        return
            yield from self._judged(last=True)
        finally:
            self._close_source()

    def _judged(self, *, last: bool = False) -> Sequence[T]:
        """Judge what is due; what may be shown now."""
        started, worked = time.monotonic(), time.process_time()
        free = run(self._judging(last=last), self._verdicts)
        if self.verdict is not None and self.blocked:
            return as_list(self._instead(self.verdict))
        took, worked = time.monotonic() - started, time.process_time() - worked
        slow = took > NOTICEABLE or (self._works_here and worked > NOTICEABLE_WORK)
        # The source wrote on meanwhile: better to judge more at once than to fall behind it, check by check.
        self._patient_until = time.monotonic() + took if slow else 0.0
        return self._shown(free)

    def _verdicts(self, exchanges: list[Exchange]) -> list[Verdict]:
        return self._guard.check_many(exchanges, timeout=self._options.timeout, context=self._context)

    def _close_source(self) -> None:
        for part in (self._items, self._source):
            close = getattr(part, "close", None)
            if close is not None:
                close()


class AsyncGuardedStream(_Stream[T], AsyncIterator[T]):
    """:class:`GuardedStream` for asyncio; an asynchronous iterator and context manager.
    :meth:`guardreasoner_sdk.Guard.astream` makes one.

    Args:
        guard, prompt, options, history, text, on_block, context: as of :class:`GuardedStream`.
        chunks: the answer, in pieces: an asynchronous iterable.

    Raises:
        InputError, ConfigurationError: as :class:`GuardedStream`.

    Example:
        >>> import asyncio
        >>> from guardreasoner_sdk import AsyncGuardedStream, Guard
        >>> async def answer():
        ...     yield "Mix flour and water."
        >>> async def shown():
        ...     async with AsyncGuardedStream(Guard(), "How do I bake bread?", answer()) as stream:
        ...         return [chunk async for chunk in stream]
        >>> asyncio.run(shown())
        ['Mix flour and water.']
    """

    def __init__(
        self,
        guard: Guard,
        prompt: str | Exchange,
        chunks: AsyncIterable[T],
        options: StreamOptions | None = None,
        *,
        history: Sequence[Turn | Mapping[str, Any]] = (),
        text: Text[T] | None = None,
        on_block: OnBlock[T] | None = None,
        context: CallContext | None = None,
    ) -> None:
        super().__init__(guard, prompt, options, history=history, text=text, on_block=on_block, context=context)
        if not isinstance(chunks, AsyncIterable):
            # Reading it here would block the event loop, and reading it in a thread would move it between threads.
            raise InputError(
                "chunks",
                f"must be an asynchronous iterable, not {type(chunks).__name__}",
                "use guard.stream in a thread for what blocks",
            )
        self._items = ReadAhead(chunks, READ_AHEAD)
        self._steps = self._run()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        return await anext(self._steps)

    async def aclose(self) -> None:
        """Stop, and close the source. What is held back is dropped."""
        await self._steps.aclose()
        await self._items.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _run(self) -> AsyncGenerator[T, None]:
        try:
            async for item in self._items:
                for shown in self._shown(self._window.take(item)):
                    yield shown
                # While a check ran, more may have come: that is judged together, as far as the window goes.
                if self._window.due and (self._window.full or self._items.empty):
                    for shown in await self._judged():
                        yield shown
                    if self.blocked:
                        return
            for shown in await self._judged(last=True):
                yield shown
        finally:
            await self._items.aclose()

    async def _judged(self, *, last: bool = False) -> Sequence[T]:
        """Judge what is due; what may be shown now."""
        free = await arun(self._judging(last=last), self._verdicts)
        if self.verdict is not None and self.blocked:
            instead = self._instead(self.verdict)
            return as_list(await instead if inspect.isawaitable(instead) else instead)
        return self._shown(free)

    async def _verdicts(self, exchanges: list[Exchange]) -> list[Verdict]:
        return await self._guard.acheck_many(exchanges, timeout=self._options.timeout, context=self._context)


def _unmeasured(verdict: Verdict) -> bool:
    """Whether it is for an excerpt's language that nothing was decided: the whole may merely quote it."""
    findings = (verdict.response_refusal, verdict.response_harmfulness) if verdict.reasons else ()
    return any(of is not None and of.note is not None and not of.determined for of in findings)


def as_list(items: Any) -> Sequence[Any]:
    """What a handler of blocks gave: a chunk, or a list of chunks."""
    return items if isinstance(items, list | tuple) else [items]
