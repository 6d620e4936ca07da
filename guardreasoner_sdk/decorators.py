"""Functions that are guarded. Made by :meth:`guardreasoner_sdk.Guard.protect`, which says what the options mean."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from guardreasoner_sdk.blocking import BlockRule, OnBlock
from guardreasoner_sdk.errors import ConfigurationError, InputError
from guardreasoner_sdk.exchange import Exchange, exchange_from_messages, has_visible_text
from guardreasoner_sdk.judges.base import sees_images
from guardreasoner_sdk.streaming import AsyncGuardedStream, GuardedStream, StreamOptions, as_list
from guardreasoner_sdk.trampoline import Steps, arun, run
from guardreasoner_sdk.verdict import Verdict

if TYPE_CHECKING:
    from guardreasoner_sdk.guard import Guard

__all__ = ["Argument", "protect"]

Argument: TypeAlias = str | Callable[..., Any]
"""Which argument of a call is the prompt: its name, or a function of all arguments."""

_PROMPTS = ("prompt", "question", "query", "message", "messages", "text", "input")


def protect(guard: Guard, function: Callable[..., Any] | None, **options: Any) -> Callable[..., Any]:
    """See :meth:`guardreasoner_sdk.Guard.protect`."""
    if function is None:
        return functools.partial(protect, guard, **options)
    if not callable(function) or isinstance(function, staticmethod | classmethod):
        fix = "put @staticmethod or @classmethod above it" if callable(function) else "write @guard.protect above a function"
        raise ConfigurationError(f"protect: cannot guard a {type(function).__name__}; {fix}")
    call = _Protected(guard, function, **options)

    async def async_generator(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        exchange = call.exchange(args, kwargs)
        if (instead := await arun(call.opening(exchange), call.ajudge)) is not None:
            for item in as_list(instead[0]):
                yield item
            return
        async with call.astream(exchange, function(*args, **kwargs)) as stream:
            async for item in stream:
                yield item

    def generator(*args: Any, **kwargs: Any) -> Iterator[Any]:
        exchange = call.exchange(args, kwargs)
        if (instead := run(call.opening(exchange), call.judge)) is not None:
            yield from as_list(instead[0])
            return
        with call.stream(exchange, function(*args, **kwargs)) as stream:
            yield from stream

    async def coroutine(*args: Any, **kwargs: Any) -> Any:
        return await arun(call.steps(args, kwargs), call.ajudge)

    def plain(*args: Any, **kwargs: Any) -> Any:
        return run(call.steps(args, kwargs), call.judge)

    if inspect.isasyncgenfunction(function):
        return functools.wraps(function)(async_generator)
    if inspect.isgeneratorfunction(function):
        return functools.wraps(function)(generator)
    return functools.wraps(function)(coroutine if inspect.iscoroutinefunction(function) else plain)


class _Protected:
    """One guarded function. Arguments: see :meth:`guardreasoner_sdk.Guard.protect`."""

    def __init__(
        self,
        guard: Guard,
        function: Callable[..., Any],
        *,
        prompt: Argument | None = None,
        response: Callable[[Any], str] | None = None,
        check_input: bool | None = None,
        check_output: bool = True,
        on_block: OnBlock[Any] | None = None,
        mode: Literal["hold", "pass"] = "hold",
        window: int = 200,
        timeout: float | None = None,
    ) -> None:
        if response is not None and not callable(response):
            raise ConfigurationError(f"response: must be a function from an answer to its text, not {type(response).__name__}")
        if check_output is None:
            raise ConfigurationError("check_output: must be True or False, not None")
        self._rule = BlockRule(guard, on_block, check_input=check_input, check_output=check_output)
        if self._rule.on_block == "message" and response is not None:
            raise ConfigurationError("on_block: 'message' is for answers that are str; pass a function of the verdict")
        self._guard = guard
        self._options = StreamOptions(mode=mode, window=window, timeout=timeout)
        self._function = function
        self._signature = inspect.signature(function)
        self._prompt = prompt if callable(prompt) else _argument_of(self._signature, prompt)
        self._response = response

    def judge(self, exchange: Exchange) -> Verdict:
        """One verdict."""
        return self._guard.check(exchange, timeout=self._options.timeout)

    async def ajudge(self, exchange: Exchange) -> Verdict:
        """:meth:`judge` for asyncio."""
        return await self._guard.acheck(exchange, timeout=self._options.timeout)

    def exchange(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Exchange:
        """What is asked in this call."""
        if callable(self._prompt):
            asked = self._prompt(*args, **kwargs)
        else:
            bound = self._signature.bind(*args, **kwargs)
            bound.apply_defaults()
            asked = bound.arguments[self._prompt]
        if isinstance(asked, Sequence) and not isinstance(asked, str | bytes):
            return exchange_from_messages(asked, images=sees_images(self._guard.judge))
        return Exchange(asked)

    def opening(self, exchange: Exchange) -> Steps[Exchange, Any]:
        """Judge the prompt; gives what is to be returned instead of an answer, in a tuple of one, or None."""
        if self._rule.check_input:
            verdict = yield exchange
            if not verdict.allowed:
                return ((yield functools.partial(self._rule.replacement, verdict)),)
        return None

    def steps(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Steps[Exchange, Any]:
        """The whole way of a function that is no generator."""
        exchange = self.exchange(args, kwargs)
        if (instead := (yield from self.opening(exchange))) is not None:
            return instead[0]
        result = yield functools.partial(self._function, *args, **kwargs)
        if self._rule.check_output and has_visible_text(text := self._text(result)):
            # What stands after the last user message, such as the results of tools, was judged before the call.
            verdict = yield exchange.with_response(text)
            if not verdict.allowed:
                return (yield functools.partial(self._rule.replacement, verdict))
        return result

    def stream(self, exchange: Exchange, chunks: Generator[Any, Any, Any]) -> contextlib.AbstractContextManager[Iterator[Any]]:
        """What a generator yields, guarded."""
        if not self._rule.check_output:
            return contextlib.closing(chunks)
        return GuardedStream(self._guard, exchange, chunks, self._options, text=self._response, on_block=self._rule.on_block)

    def astream(
        self, exchange: Exchange, chunks: AsyncGenerator[Any, Any]
    ) -> contextlib.AbstractAsyncContextManager[AsyncIterator[Any]]:
        """What an asynchronous generator yields, guarded."""
        if not self._rule.check_output:
            return contextlib.aclosing(chunks)
        return AsyncGuardedStream(
            self._guard, exchange, chunks, self._options, text=self._response, on_block=self._rule.on_block
        )

    def _text(self, result: Any) -> str:
        text = result if self._response is None else self._response(result)
        if isinstance(text, str):
            return text
        if self._response is None and (inspect.isawaitable(text) or isinstance(text, Iterator | AsyncIterator)):
            fix = "write it as a coroutine function or as a generator function, so that what it gives can be judged"
            if inspect.iscoroutine(text):
                text.close()
        else:
            fix = "pass response=, a function from it to the text in it"
        raise InputError("return value", f"must be a str, not {type(text).__name__}", fix)


def _argument_of(signature: inspect.Signature, name: str | None) -> str:
    """The name of the argument that holds the prompt."""
    collects = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    names = [key for key, it in signature.parameters.items() if it.kind not in collects and key not in ("self", "cls")]
    if name is None:
        likely = next((key for key in _PROMPTS if key in names), names[0] if len(names) == 1 else None)
        if likely is not None:
            return likely
    elif name in names:
        return name
    problem = "which argument holds it is not clear" if name is None else f"there is no argument {name!r}"
    raise ConfigurationError(f"prompt: {problem}; name one of {', '.join(names)}, or pass a function of all arguments")
