"""A chain between a guard on its input and a guard on its output."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, Literal

from langchain_core.callbacks import BaseCallbackManager
from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable, RunnableConfig

from guardreasoner_integrations._guards import check_guard
from guardreasoner_integrations.langchain._lcel import ChunkReader, answer_in, prompt_in, text_in, unread_in
from guardreasoner_integrations.langchain._questions import (
    ModelAnswer,
    Prompt,
    Question,
    Steps,
    ajudge,
    arun_steps,
    blocks,
    judge,
    run_steps,
    should_check,
    whole,
)
from guardreasoner_integrations.langchain._replies import ChainReplies, replies_of
from guardreasoner_sdk import ConfigurationError, Guard, Verdict
from guardreasoner_sdk.blocking import BlockRule
from guardreasoner_sdk.errors import PortableError
from guardreasoner_sdk.exchange import has_visible_text
from guardreasoner_sdk.streaming import AsyncGuardedStream, GuardedStream, StreamOptions

__all__ = ["GuardedChain"]

# LangChain hands over a run's manager and configuration by these names: ``run_manager``, ``config``.


class GuardedChain(Runnable[Any, Any]):
    """A chain, or a model, between a guard on its input and a guard on its output: ``prompt | GuardedChain(guard, model)``.

    The chain runs only for inputs that the guard lets pass; its answers, tool calls included, are judged together with what was
    asked. What blocks raises, or gives a message in the type that the chain returns: a str, an ``AIMessage``, or a mapping with
    it. Unblocked answers come as they are. ``stream`` and ``astream`` hold back what was not judged yet; ``batch`` and
    ``abatch`` make one call to the guard for all inputs and one for all answers.

    What runs inside does not show in ``astream_events``, ``astream_log`` and LangGraph's message stream, where it would be
    seen before it was judged: they show the chain's own, guarded stream. Callback handlers and tracers see it all.

    Args:
        guard: who judges, and by its policy decides.
        chain: what to guard.
        check_input: judge the input before the chain runs. None: where the policy can block a prompt.
        check_output: judge the answer. None: where the policy can block a response.
        input_key: where the input is a mapping, the key of what is judged: a str, a prompt value, or messages.
        output_key: where the output is a mapping, the key of the answer in it: a str or a message; nothing else in it is
            judged. On a block with ``on_block="message"`` the mapping holds that key alone.
        on_block: ``"raise"`` or ``"message"``; default: as the guard's policy says.
        message: that message. None: the policy's.
        returns: ``str`` or ``AIMessage``: what the message is to be, where the chain does not tell what it returns.
        window: most characters of a stream that wait for a check.
        name: what tracers show.

    Raises:
        ConfigurationError: the chain is no Runnable; a check that the guard's policy can never block by, or none at all; or
            ``on_block="message"`` and nobody knows what the chain returns.
        BlockedError, UndeterminedError: from ``invoke`` and the like; in a batch with ``return_exceptions``, row by row.
        InputError: an input that holds no prompt, or an output that holds no answer, that the guard could read.

    Example:
        >>> from langchain_core.language_models import FakeListChatModel
        >>> from langchain_core.output_parsers import StrOutputParser
        >>> from guardreasoner_integrations.langchain import GuardedChain
        >>> from guardreasoner_sdk import Guard
        >>> model = FakeListChatModel(responses=["Call her Miso."])  # yours
        >>> chain = GuardedChain(Guard(policy={"on_block": "message"}), model | StrOutputParser())
        >>> chain.invoke("What is a good name for a cat?")
        'Call her Miso.'
        >>> chain.invoke("How do I build a pipe bomb to kill my neighbour?")
        "I'm sorry, but I can't help with that."
    """

    def __init__(  # noqa: PLR0913 - the options of a chain are its arguments
        self,
        guard: Guard,
        chain: Runnable[Any, Any],
        *,
        check_input: bool | None = None,
        check_output: bool | None = None,
        input_key: str | None = None,
        output_key: str | None = None,
        on_block: Literal["raise", "message"] | None = None,
        message: str | None = None,
        returns: type[str] | type[AIMessage] | None = None,
        window: int = 200,
        name: str | None = None,
    ) -> None:
        check_guard(guard)
        if not isinstance(chain, Runnable):
            raise ConfigurationError(f"chain: must be a Runnable, not {type(chain).__name__}; RunnableLambda makes one")
        self._check_input = should_check(guard.policy, "check_input", check_input, response=False)
        self._check_output = should_check(guard.policy, "check_output", check_output, response=True)
        if not (self._check_input or self._check_output):
            raise ConfigurationError("check_input: every check is off; turn one on, or leave the guard out")
        self._guard = guard
        self._chain = chain
        self._input_key = input_key
        self._output_key = output_key
        rule = BlockRule(guard, on_block, message=message, functions=False)
        self._replies = replies_of(rule, chain, returns=returns, output_key=output_key)
        self._options = StreamOptions(window=window)
        self.name = name

    @property
    def InputType(self) -> Any:  # noqa: N802
        """What the chain takes."""
        return self._chain.InputType

    @property
    def OutputType(self) -> Any:  # noqa: N802
        """What the chain returns."""
        return self._chain.OutputType

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Judge the input, run the chain, judge its answer."""

        def one(given: Any, run_manager: Any, config: RunnableConfig) -> Any:
            def run(places: list[int]) -> list[Any]:
                return [self._chain.invoke(given, without_stream_handlers(config), **kwargs)]

            return only(run_steps(self._guard, self._guarded([given], run)))

        return self._call_with_config(one, input, config)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """:meth:`invoke` for asyncio."""

        async def one(given: Any, run_manager: Any, config: RunnableConfig) -> Any:
            async def run(places: list[int]) -> list[Any]:
                return [await self._chain.ainvoke(given, without_stream_handlers(config), **kwargs)]

            return only(await arun_steps(self._guard, self._guarded([given], run)))

        return await self._acall_with_config(one, input, config)

    def batch(
        self,
        inputs: list[Any],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[Any]:
        """:meth:`invoke` for many: one batch of inputs, one run of the chain's own ``batch``, one batch of answers."""

        def every(given: list[Any], run_manager: Any, config: list[RunnableConfig]) -> list[Any]:
            def run(places: list[int]) -> list[Any]:
                of = [without_stream_handlers(config[place]) for place in places]
                free = [given[place] for place in places]
                return self._chain.batch(free, of, return_exceptions=return_exceptions, **kwargs)

            return run_steps(self._guard, self._guarded(given, run, give_up=not return_exceptions))

        return self._batch_with_config(every, inputs, config, return_exceptions=return_exceptions)

    async def abatch(
        self,
        inputs: list[Any],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[Any]:
        """:meth:`batch` for asyncio."""

        async def every(given: list[Any], run_manager: Any, config: list[RunnableConfig]) -> list[Any]:
            async def run(places: list[int]) -> list[Any]:
                of = [without_stream_handlers(config[place]) for place in places]
                free = [given[place] for place in places]
                return await self._chain.abatch(free, of, return_exceptions=return_exceptions, **kwargs)

            return await arun_steps(self._guard, self._guarded(given, run, give_up=not return_exceptions))

        return await self._abatch_with_config(every, inputs, config, return_exceptions=return_exceptions)

    def stream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:
        """Judge the input, and pass on the chain's stream as far as it was judged."""
        yield from self._transform_stream_with_config(iter([input]), self._streamed, config, **kwargs)

    async def astream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> AsyncIterator[Any]:
        """:meth:`stream` for asyncio."""

        async def alone() -> AsyncIterator[Any]:
            yield input

        async for chunk in self._atransform_stream_with_config(alone(), self._astreamed, config, **kwargs):
            yield chunk

    def _guarded(self, inputs: Sequence[Any], run: Callable[[list[int]], Any], *, give_up: bool = True) -> Steps[list[Any]]:
        """The result of each input: the chain's answer, what replaces it, or an exception.

        Args:
            inputs: what is asked.
            run: runs the chain for the inputs at these places.
            give_up: run it for none where one is to raise.
        """
        prompts = [prompt_in(given, self._input_key) for given in inputs]
        results: list[Any] = [None] * len(inputs)
        free = list(range(len(inputs)))
        if self._check_input:
            verdicts = yield [Question(prompt) for prompt in prompts]
            for place, verdict in enumerate(verdicts):
                if blocks(verdict):
                    free.remove(place)
                    results[place] = self._replies.unanswered(verdict)
        if not free or (give_up and any(isinstance(result, Exception) for result in results)):
            return results
        answers = yield lambda: run(free)
        for place, answer in zip(free, answers, strict=True):
            results[place] = answer
        if self._check_output:
            answered = [place for place in free if not isinstance(results[place], Exception)]
            verdicts = yield [Question(prompts[place], answer_in(results[place], self._output_key)) for place in answered]
            for place, verdict in zip(answered, verdicts, strict=True):
                if blocks(verdict):
                    results[place] = self._replies.instead_of(results[place], verdict)
        return results

    def _streamed(self, inputs: Iterator[Any], run_manager: Any, config: RunnableConfig, **kwargs: Any) -> Iterator[Any]:
        (given,) = inputs
        held = _Held(self._replies, prompt_in(given, self._input_key))
        if self._check_input:
            (verdict,) = judge(self._guard, [Question(held.prompt)])
            if blocks(verdict):
                yield held.instead(verdict)
                return
        chunks = self._chain.stream(given, without_stream_handlers(config), **kwargs)
        if not self._check_output:
            yield from chunks
            return
        try:
            with GuardedStream(self._guard, held.prompt.stated, chunks, self._options, **held.options) as stream:
                for chunk in stream:
                    held.shown(chunk)
                    yield chunk
        except _UnreadPartError as unread:
            yield held.instead(unread.verdict)

    async def _astreamed(
        self, inputs: AsyncIterator[Any], run_manager: Any, config: RunnableConfig, **kwargs: Any
    ) -> AsyncIterator[Any]:
        (given,) = [given async for given in inputs]
        held = _Held(self._replies, prompt_in(given, self._input_key))
        if self._check_input:
            (verdict,) = await ajudge(self._guard, [Question(held.prompt)])
            if blocks(verdict):
                yield held.instead(verdict)
                return
        chunks = self._chain.astream(given, without_stream_handlers(config), **kwargs)
        if not self._check_output:
            async for chunk in chunks:
                yield chunk
            return
        try:
            async with AsyncGuardedStream(self._guard, held.prompt.stated, chunks, self._options, **held.options) as stream:
                async for chunk in stream:
                    held.shown(chunk)
                    yield chunk
        except _UnreadPartError as unread:
            yield held.instead(unread.verdict)


class _UnreadPartError(PortableError):
    """A chunk of a stream holds something other than text, and the policy does not allow that."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__()
        self.verdict = verdict


class _Held:
    """How the guard reads and ends a chain's stream.

    Args:
        replies: what ends it.
        prompt: what the chain was asked.
    """

    def __init__(self, replies: ChainReplies, prompt: Prompt) -> None:
        self.prompt = prompt
        self._replies = replies
        self._seen = False
        self._reader = ChunkReader(replies.key)

    @property
    def options(self) -> dict[str, Any]:
        """What a guarded stream is given beside its chunks."""
        return {"history": self.prompt.history, "text": self._texts, "on_block": self.instead}

    def shown(self, chunk: Any) -> None:
        """Note what the reader has seen."""
        self._seen = self._seen or has_visible_text(text_in(chunk, self._replies.key))

    def instead(self, verdict: Verdict) -> Any:
        """The chunk that ends the stream; raises where blocks raise."""
        return self._replies.chunk(verdict, apart=self._seen)

    def _texts(self, chunk: Any) -> Mapping[Hashable, str]:
        part = Question(self.prompt, ModelAnswer("", unread_in(chunk, self._replies.key)))
        if blocks(verdict := whole(self._replies.rule.guard, part, None)):
            raise _UnreadPartError(verdict)
        return self._reader.texts(chunk)


def only(results: list[Any]) -> Any:
    """The result of a single input, returned or raised."""
    (result,) = results
    if isinstance(result, Exception):
        raise result
    return result


def without_stream_handlers(config: RunnableConfig) -> RunnableConfig:
    """A run's configuration without the handlers that show an application what streams inside, before it was judged.

    Those of ``astream_events``, ``astream_log`` and LangGraph are all told by the method that taps streams.

    Args:
        config: made for one run; its callback manager is changed.
    """
    manager = config.get("callbacks")
    if isinstance(manager, BaseCallbackManager):
        for handler in [*manager.handlers, *manager.inheritable_handlers]:
            if hasattr(handler, "tap_output_iter"):
                manager.remove_handler(handler)
    return config
