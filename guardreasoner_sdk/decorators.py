"""Functions that are guarded. Made by :meth:`guardreasoner_sdk.Guard.protect`, which says what the options mean."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from guardreasoner_sdk._steps import Steps, arun_steps, run_steps
from guardreasoner_sdk.errors import ConfigurationError, InputError
from guardreasoner_sdk.exchange import Exchange, exchange_from_messages, visible
from guardreasoner_sdk.streaming import as_list, check_options, on_block_of
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
        if (instead := await arun_steps(call.opening(exchange), call.ajudge)) is not None:
            for item in as_list(instead[0]):
                yield item
            return
        async with call.astream(exchange, function(*args, **kwargs)) as stream:
            async for item in stream:
                yield item

    def generator(*args: Any, **kwargs: Any) -> Iterator[Any]:
        exchange = call.exchange(args, kwargs)
        if (instead := run_steps(call.opening(exchange), call.judge)) is not None:
            yield from as_list(instead[0])
            return
        with call.stream(exchange, function(*args, **kwargs)) as stream:
            yield from stream

    async def coroutine(*args: Any, **kwargs: Any) -> Any:
        return await arun_steps(call.steps(args, kwargs), call.ajudge)

    def plain(*args: Any, **kwargs: Any) -> Any:
        return run_steps(call.steps(args, kwargs), call.judge)

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
        on_block: Literal["raise", "message"] | Callable[[Verdict], Any] | None = None,
        mode: Literal["hold", "pass"] = "hold",
        window: int = 200,
        timeout: float | None = None,
    ) -> None:
        check_options(mode, window, timeout)
        if response is not None and not callable(response):
            raise ConfigurationError(f"response: must be a function from an answer to its text, not {type(response).__name__}")
        for name, flag in (("check_input", check_input), ("check_output", check_output)):
            if not isinstance(flag, bool) and not (flag is None and name == "check_input"):
                raise ConfigurationError(f"{name}: must be True or False, not {flag!r}")
        self.guard = guard
        self.timeout = timeout
        self._function = function
        self._signature = inspect.signature(function)
        self._prompt = prompt if callable(prompt) else _named(self._signature, prompt)
        self._response = response
        self._input = "harmful_prompt" in guard.policy.block if check_input is None else check_input
        self._output = check_output
        self._on_block = on_block_of(guard, on_block)
        if self._on_block == "message" and response is not None:
            raise ConfigurationError("on_block: 'message' is for answers that are str; pass a function of the verdict")
        self._stream: dict[str, Any] = {"mode": mode, "window": window, "text": response, "on_block": self._on_block}

    def judge(self, exchange: Exchange) -> Verdict:
        """One verdict."""
        return self.guard.check(exchange.prompt, exchange.response, history=exchange.history, timeout=self.timeout)

    async def ajudge(self, exchange: Exchange) -> Verdict:
        """:meth:`judge` for asyncio."""
        return await self.guard.acheck(exchange.prompt, exchange.response, history=exchange.history, timeout=self.timeout)

    def exchange(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Exchange:
        """What is asked in this call."""
        if callable(self._prompt):
            asked = self._prompt(*args, **kwargs)
        else:
            bound = self._signature.bind(*args, **kwargs)
            bound.apply_defaults()
            asked = bound.arguments[self._prompt]
        if isinstance(asked, Sequence) and not isinstance(asked, str | bytes):
            return exchange_from_messages(asked)
        return Exchange(asked)

    def opening(self, exchange: Exchange) -> Steps[Exchange, Any]:
        """Judge the prompt; gives what is to be returned instead of an answer, in a tuple of one, or None."""
        if self._input:
            verdict = yield exchange
            if not verdict.allowed:
                return ((yield functools.partial(self._instead, verdict)),)
        return None

    def steps(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Steps[Exchange, Any]:
        """The whole way of a function that is no generator."""
        exchange = self.exchange(args, kwargs)
        if (instead := (yield from self.opening(exchange))) is not None:
            return instead[0]
        result = yield functools.partial(self._function, *args, **kwargs)
        if self._output and visible(text := self._text(result)):
            # What stands behind the last user message, such as the results of tools, was judged before the call.
            verdict = yield Exchange(exchange.prompt, text, exchange.history)
            if not verdict.allowed:
                return (yield functools.partial(self._instead, verdict))
        return result

    def stream(self, exchange: Exchange, chunks: Generator[Any, Any, Any]) -> contextlib.AbstractContextManager[Iterator[Any]]:
        """What a generator yields, guarded."""
        if not self._output:
            return contextlib.closing(chunks)
        return self.guard.stream(exchange.prompt, chunks, history=exchange.history, timeout=self.timeout, **self._stream)

    def astream(
        self, exchange: Exchange, chunks: AsyncGenerator[Any, Any]
    ) -> contextlib.AbstractAsyncContextManager[AsyncIterator[Any]]:
        """What an asynchronous generator yields, guarded."""
        if not self._output:
            return contextlib.aclosing(chunks)
        return self.guard.astream(exchange.prompt, chunks, history=exchange.history, timeout=self.timeout, **self._stream)

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

    def _instead(self, verdict: Verdict) -> Any:
        if self._on_block == "raise":
            verdict.raise_for_block()
        return self._on_block(verdict) if callable(self._on_block) else self.guard.policy.message


def _named(signature: inspect.Signature, name: str | None) -> str:
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
