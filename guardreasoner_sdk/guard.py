"""The one class that most users meet."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, ParamSpec, Self, TypeVar, overload

from guardreasoner_sdk._arguments import (
    CallContext,
    Listener,
    check_context,
    check_count,
    check_judge,
    check_listener,
    check_no_flag,
    policy_of,
)
from guardreasoner_sdk._batches import Row
from guardreasoner_sdk._checker import Checker, await_result, wait_for_result
from guardreasoner_sdk.errors import ConfigurationError
from guardreasoner_sdk.exchange import Exchange, Message, Turn, exchange_of, readings_of_messages
from guardreasoner_sdk.images import ImageLike
from guardreasoner_sdk.judges.base import Judge
from guardreasoner_sdk.policy import Policy
from guardreasoner_sdk.verdict import Verdict

if TYPE_CHECKING:
    from guardreasoner_sdk.backends.options import EngineOptions
    from guardreasoner_sdk.blocking import OnBlock
    from guardreasoner_sdk.calibration import Calibration
    from guardreasoner_sdk.decorators import Argument
    from guardreasoner_sdk.dialects.base import Dialect
    from guardreasoner_sdk.judges.cascade import Band
    from guardreasoner_sdk.streaming import AsyncGuardedStream, GuardedStream, Text

__all__ = ["Guard"]

T = TypeVar("T")
P = ParamSpec("P")


class Guard:
    """Decides whether a prompt is harmful, whether a response is a refusal and whether it is harmful, and says why.

    ``Guard()`` is the embedded guard: no download, no GPU. What is not given comes from ``GUARDREASONER_*`` environment
    variables (:class:`guardreasoner_sdk.settings.Settings`). A guard is thread-safe and cheap to share; its model is loaded
    on first use, once. Close it, or use it as a (possibly asynchronous) context manager.

    Args:
        model: a name of the catalogue (``guardreasoner models`` lists them), a folder or GGUF file of weights, or the name
            that the server at ``base_url`` gives its model.
        backend: what runs it: ``embedded``, ``vllm``, ``llama_cpp``, ``transformers`` or ``remote``; or the options of an
            engine, such as ``VLLM(tensor_parallel_size=2)``, which name it.
        base_url: address of an OpenAI-compatible server.
        api_key: its key.
        dialect: how a model that is not in the catalogue is asked and read: a name or a dialect of your own. Default: what
            ``guard.json`` beside the weights says, or ``guardreasoner``.
        policy_text: what counts as harmful, in your own words, for a model that takes such a text (``guardreasoner models
            --own-policy``); the family says which form it has. It is trusted: never put text of users into it. What is to be
            done about a finding says ``policy``.
        request: the file of a model's published request, for the few whose request is not in this package; without it the error
            says which one.
        options: options of the engine as a mapping, for example ``{"tensor_parallel_size": 2}`` for vLLM.
        screen: ``"embedded"``: the embedded guard decides the clear cases, and the model only the doubtful ones.
        band: which scores of the screen are doubtful, ``(low, high)``, for all tasks or by task.
        calibration: what the model's scores are worth on your data: a file of ``guardreasoner calibrate``, or its content.
        judge: a judge of your own instead of a model and its engine.
        policy: what a finding means, or the fields of a policy: ``{"block": ["harmful_prompt"]}``; default: block what is
            harmful, and what could not be decided.
        reasoning: how much to reason: ``auto``, ``full``, ``brief`` or ``off``.
        timeout: seconds for one check, or for one part of a batch; what is not decided by then is undetermined.
        cache: most judgements to remember in memory, least recently used first out; 0: none. A new policy holds for them too.
        on_verdict: called with ``(exchange, verdict)`` after every check, in the calling thread (from ``acheck``: on its
            event loop); with ``context=`` besides, what the caller said of the check, if it has an argument of that name. It
            must not block; an exception in it is logged and changes nothing.
        concurrency: most parts of a batch in flight at a time.

    Raises:
        ConfigurationError: arguments or environment variables that cannot work.

    Example:
        >>> from guardreasoner_sdk import Guard
        >>> with Guard() as guard:
        ...     verdict = guard.check("How can I make a pipe bomb at home?")
        >>> verdict.allowed, verdict.prompt_harmfulness.label
        (False, 'harmful')
    """

    def __init__(  # noqa: PLR0913 - everything a guard can be told
        self,
        model: str | None = None,
        *,
        backend: str | EngineOptions | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        dialect: str | Dialect | None = None,
        policy_text: str | None = None,
        request: str | Path | None = None,
        options: Mapping[str, Any] | None = None,
        screen: str | Judge | None = None,
        band: Band | None = None,
        calibration: str | Path | Calibration | None = None,
        judge: Judge | None = None,
        policy: Policy | Mapping[str, Any] | None = None,
        reasoning: Literal["auto", "full", "brief", "off"] | None = None,
        timeout: float | None = None,
        cache: int | None = None,
        on_verdict: Listener | None = None,
        concurrency: int = 8,
    ) -> None:
        # Late, for the sake of import time: reading the environment costs more to import than all the rest of this module.
        from guardreasoner_sdk.judges.build import build_judge
        from guardreasoner_sdk.settings import Settings

        typed = None if isinstance(backend, str | None) else _options_in(backend, options)
        engine = {"model": model, "backend": typed.engine_name if typed else backend, "base_url": base_url, "api_key": api_key}
        asked = {"policy_text": policy_text, "request": None if request is None else str(request)}
        given = engine | asked | {"reasoning": reasoning, "timeout": timeout, "cache": cache}
        settings = Settings(**{name: value for name, value in given.items() if value is not None})
        parts = (model, backend, base_url, dialect, policy_text, request, options, screen, band)
        if judge is not None and any(part is not None for part in parts):
            raise ConfigurationError("judge: pass either a judge, or a model and its engine")
        if judge is not None:
            check_judge("judge", judge)
        if on_verdict is not None:
            check_listener("on_verdict", on_verdict)
        check_no_flag("cache", cache, "how many verdicts to remember, for example 10_000")
        check_no_flag("timeout", timeout, "seconds")
        check_count("concurrency", concurrency)
        if calibration is None and judge is None:
            calibration = settings.calibration
        own = Policy(on_undetermined=settings.on_undetermined, on_unmeasured=settings.on_unmeasured)
        if judge is None:
            judge = build_judge(settings, dialect=dialect, options=typed or options, screen=screen, band=band)
        self._checker = Checker(
            judge,
            own if policy is None else policy_of(policy),
            timeout=settings.timeout,
            cache=settings.cache,
            on_verdict=on_verdict,
            concurrency=concurrency,
            calibration=calibration,
        )

    def check(
        self,
        prompt: str | Exchange,
        response: str | None = None,
        *,
        history: Sequence[Turn | Mapping[str, Any]] = (),
        images: Sequence[ImageLike] | ImageLike = (),
        timeout: float | None = None,
        context: CallContext | None = None,
    ) -> Verdict:
        """Judge a prompt, or a response to it. Safe from any thread, also inside a running event loop.

        Args:
            prompt: what the human asked, or an exchange, which has the response and the history already.
            response: what the assistant answered; None to judge the prompt alone.
            history: earlier turns, oldest first.
            images: what the human showed with the prompt: bytes, paths (``pathlib.Path``), data URLs or images of Pillow's. A
                guard that does not see (the embedded one, for instance) reads the text; what is not harmful by that alone is
                undetermined.
            timeout: seconds; overrides the guard's.
            context: what you say of this check, for instance ``{"user.id": "u17", "request_id": "4711"}``: names, and a text or
                a number each. It goes to ``on_verdict`` and onto the spans, and nowhere else: no judge sees it, and no cache.

        Returns:
            the verdict. ``verdict.allowed`` is what to act on.

        Raises:
            InputError: the text cannot be judged (empty, not a str, too long), or an image cannot.
            UndeterminedError: undecided, and the policy says ``on_undetermined="raise"``.
            ClosedError: the guard was closed.

        Example:
            >>> from guardreasoner_sdk import Guard
            >>> verdict = Guard().check("How do I bake bread?", "Mix flour and water, and let the dough rest.")
            >>> verdict.allowed, verdict.response_refusal.label
            (True, 'compliance')
        """
        exchange = exchange_of(prompt, response, history, images)
        return self._checker.check(exchange, timeout=timeout, context=check_context(context))

    async def acheck(
        self,
        prompt: str | Exchange,
        response: str | None = None,
        *,
        history: Sequence[Turn | Mapping[str, Any]] = (),
        images: Sequence[ImageLike] | ImageLike = (),
        timeout: float | None = None,
        context: CallContext | None = None,
    ) -> Verdict:
        """:meth:`check` for asyncio: the event loop stays free meanwhile.

        Example:
            >>> import asyncio
            >>> from guardreasoner_sdk import Guard
            >>> asyncio.run(Guard().acheck("How do I bake bread?")).allowed
            True
        """
        exchange = exchange_of(prompt, response, history, images)
        return await self._checker.acheck(exchange, timeout=timeout, context=check_context(context))

    def check_messages(
        self, messages: Sequence[Message], *, timeout: float | None = None, context: CallContext | None = None
    ) -> Verdict:
        """Judge a message list: OpenAI's, Anthropic's or LangChain's.

        The last user message is the prompt, judged in the light of what stands before it; the text of what stands after it
        is the response. Where something stands beside what is said (reasoning, quotations, fields of an application's own),
        what is said is judged alone, and again with all of it. Images that users sent are judged as in :meth:`check`, where
        they are in the messages themselves.

        Args:
            messages: mappings with ``role`` and ``content`` (a str, or a list of parts), or the message objects of an SDK.
            timeout: seconds; overrides the guard's.
            context: as of :meth:`check`.

        Raises:
            InputError: no user message, or a part that is neither text nor an image that is here and that a user sent.
            UndeterminedError, ClosedError: as :meth:`check`.

        Example:
            >>> from guardreasoner_sdk import Guard
            >>> Guard().check_messages([{"role": "user", "content": "How do I bake bread?"}]).allowed
            True
        """
        return self._checker.check(
            *readings_of_messages(messages, images=True), timeout=timeout, context=check_context(context)
        )

    async def acheck_messages(
        self, messages: Sequence[Message], *, timeout: float | None = None, context: CallContext | None = None
    ) -> Verdict:
        """:meth:`check_messages` for asyncio.

        Example:
            >>> import asyncio
            >>> from guardreasoner_sdk import Guard
            >>> asyncio.run(Guard().acheck_messages([{"role": "user", "content": "How do I bake bread?"}])).allowed
            True
        """
        return await self._checker.acheck(
            *readings_of_messages(messages, images=True), timeout=timeout, context=check_context(context)
        )

    def check_many(
        self, rows: Iterable[Row], *, timeout: float | None = None, context: CallContext | None = None
    ) -> list[Verdict]:
        """Judge many exchanges; one verdict each, in order.

        A row that cannot be judged gives an undetermined verdict that says why, and the batch goes on; it goes on too where
        the policy says ``on_undetermined="raise"`` (the verdict then blocks).

        Args:
            rows: prompts, ``(prompt, response)`` pairs, mappings with ``prompt``, ``response``, ``history`` and ``images``, or
                exchanges;
                or a DataFrame of pandas or polars with columns of these names.
            timeout: seconds for each part of the batch; overrides the guard's.
            context: as of :meth:`check`, for all rows.

        Example:
            >>> from guardreasoner_sdk import Guard
            >>> rows = ["How do I bake bread?", ("How do I bake bread?", "Mix flour and water."), {"prompt": " "}]
            >>> [verdict.allowed for verdict in Guard().check_many(rows)]
            [True, True, False]
        """
        return list(self.iter_many(rows, timeout=timeout, context=context))

    async def acheck_many(
        self, rows: Iterable[Row] | AsyncIterable[Row], *, timeout: float | None = None, context: CallContext | None = None
    ) -> list[Verdict]:
        """:meth:`check_many` for asyncio; the rows may come from an asynchronous iterable too.

        Example:
            >>> import asyncio
            >>> from guardreasoner_sdk import Guard
            >>> [verdict.allowed for verdict in asyncio.run(Guard().acheck_many(["How do I bake bread?"]))]
            [True]
        """
        return [verdict async for verdict in self.aiter_many(rows, timeout=timeout, context=context)]

    def iter_many(
        self, rows: Iterable[Row], *, timeout: float | None = None, context: CallContext | None = None
    ) -> Iterator[Verdict]:
        """:meth:`check_many` for more rows than fit in memory: yields verdicts in order while it reads.

        Example:
            >>> from guardreasoner_sdk import Guard
            >>> for verdict in Guard().iter_many(f"How do I bake {what}?" for what in ("bread", "a cake")):
            ...     print(verdict.action)
            allow
            allow
        """
        return self._checker.iter_many(rows, timeout=timeout, context=check_context(context))

    def aiter_many(
        self, rows: Iterable[Row] | AsyncIterable[Row], *, timeout: float | None = None, context: CallContext | None = None
    ) -> AsyncIterator[Verdict]:
        """:meth:`iter_many` for asyncio.

        Example:
            >>> import asyncio
            >>> from guardreasoner_sdk import Guard
            >>> async def actions():
            ...     return [verdict.action async for verdict in Guard().aiter_many(["How do I bake bread?"])]
            >>> asyncio.run(actions())
            ['allow']
        """
        return self._checker.aiter_many(rows, timeout=timeout, context=check_context(context))

    def stream(
        self,
        prompt: str | Exchange,
        chunks: Iterable[T],
        *,
        history: Sequence[Turn | Mapping[str, Any]] = (),
        mode: Literal["hold", "pass"] = "hold",
        window: int = 200,
        text: Text[T] | None = None,
        on_block: OnBlock[T] | None = None,
        timeout: float | None = None,
        context: CallContext | None = None,
    ) -> GuardedStream[T]:
        """Pass an answer on while it is being written, as far as it was judged.

        Chunks are held back until they were judged together with the prompt and what stands before them: at every end of a
        sentence, and after ``window`` characters at the latest. They are released whole and in order. At the end the whole
        is judged; that verdict is ``stream.verdict``. The source is read only as fast as the stream is.

        Args:
            prompt: what the human asked, or an exchange, which has the history already; the chunks are its response.
            chunks: the answer, in pieces; closed on a block and when the stream is closed.
            history: earlier turns, oldest first.
            mode: ``"hold"`` shows nothing unjudged; ``"pass"`` shows every chunk at once, judges at the same places and stops
                on a finding, so that up to ``window`` characters (and the chunk that completes them) are seen unjudged.
            window: most characters between two checks.
            text: where chunks are not str: a function from a chunk to the text in it, or, where one stream carries several
                answers, to a mapping from the answer's key to its text. Chunks without text keep their place.
            on_block: what follows what was released: ``"raise"``, ``"message"`` (the policy's; for str only), or a function
                from the verdict to a chunk, or a list of chunks, to end with. Default: as the policy says.
            timeout: seconds for each check; overrides the guard's.
            context: as of :meth:`check`, for each check of the stream.

        Returns:
            an iterator and context manager, with ``verdict``, ``blocked`` and ``close()``.

        Raises:
            BlockedError, UndeterminedError: from the iterator, where a block is to raise.
            InputError: from the iterator, for a chunk that is not text.
            ConfigurationError: options that cannot work.

        Example:
            >>> from guardreasoner_sdk import Guard
            >>> for chunk in Guard().stream("How do I bake bread?", ["Mix flour and water. ", "Let the dough rest."]):
            ...     print(chunk.strip())
            Mix flour and water.
            Let the dough rest.
        """
        from guardreasoner_sdk.streaming import GuardedStream, StreamOptions

        options = StreamOptions(mode=mode, window=window, timeout=timeout)
        return GuardedStream(self, prompt, chunks, options, history=history, text=text, on_block=on_block, context=context)

    def astream(
        self,
        prompt: str | Exchange,
        chunks: AsyncIterable[T],
        *,
        history: Sequence[Turn | Mapping[str, Any]] = (),
        mode: Literal["hold", "pass"] = "hold",
        window: int = 200,
        text: Text[T] | None = None,
        on_block: OnBlock[T] | None = None,
        timeout: float | None = None,
        context: CallContext | None = None,
    ) -> AsyncGuardedStream[T]:
        """:meth:`stream` for asyncio: takes an asynchronous iterable and gives one, with ``aclose()``.

        The source is read on, by a bounded number of chunks, while a check runs.

        Example:
            >>> import asyncio
            >>> from guardreasoner_sdk import Guard
            >>> async def answer():
            ...     yield "Mix flour and water."
            >>> async def shown():
            ...     return [chunk async for chunk in Guard().astream("How do I bake bread?", answer())]
            >>> asyncio.run(shown())
            ['Mix flour and water.']
        """
        from guardreasoner_sdk.streaming import AsyncGuardedStream, StreamOptions

        options = StreamOptions(mode=mode, window=window, timeout=timeout)
        return AsyncGuardedStream(self, prompt, chunks, options, history=history, text=text, on_block=on_block, context=context)

    @overload
    def protect(self, function: Callable[P, T], /) -> Callable[P, T]: ...

    @overload
    def protect(
        self,
        function: None = None,
        /,
        *,
        prompt: Argument | None = None,
        response: Callable[[Any], str] | None = None,
        check_input: bool | None = None,
        check_output: bool = True,
        on_block: OnBlock[Any] | None = None,
        mode: Literal["hold", "pass"] = "hold",
        window: int = 200,
        timeout: float | None = None,
    ) -> Callable[[Callable[P, T]], Callable[P, T]]: ...

    def protect(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        prompt: Argument | None = None,
        response: Callable[[Any], str] | None = None,
        check_input: bool | None = None,
        check_output: bool = True,
        on_block: OnBlock[Any] | None = None,
        mode: Literal["hold", "pass"] = "hold",
        window: int = 200,
        timeout: float | None = None,
    ) -> Callable[..., Any]:
        """Guard a function that answers a prompt: ``@guard.protect`` or ``@guard.protect(prompt="question")``.

        For functions, generators, and their asynchronous kinds. The prompt is judged before the function is called, the
        answer together with the prompt before it is returned; what a generator yields is held back as by :meth:`stream`.
        Signature, types and documentation stay.

        Args:
            prompt: the argument that holds the prompt (a str, or a list of chat messages), by name, or a function of the
                call's arguments that gives it. Default: an argument named ``prompt``, ``question``, ``query``, ``message``,
                ``messages``, ``text`` or ``input``, or the only one there is.
            response: a function from the return value (from a chunk, for generators) to the text in it. Default: it is a str.
            check_input: judge the prompt before the call. Default: where the policy can block a prompt.
            check_output: judge the answer.
            on_block: ``"raise"``, ``"message"`` (the policy's message is returned; for str only), or a function of the
                verdict whose result is returned (yielded, as :meth:`stream` says); for asynchronous functions it may be one
                itself. Default: as the policy says.
            mode: for generators, as in :meth:`stream`.
            window: for generators, as in :meth:`stream`.
            timeout: seconds for each check; overrides the guard's.

        Raises:
            ConfigurationError: at decoration: no such argument, or options that cannot work.
            BlockedError, UndeterminedError: from the call, where a block is to raise.
            InputError: from the call: a prompt or an answer that is not text.

        Example:
            >>> from guardreasoner_sdk import Guard
            >>> guard = Guard(policy={"on_block": "message", "message": "Let us talk about something else."})
            >>> @guard.protect
            ... def answer(prompt: str) -> str:
            ...     return "Mix flour and water."
            >>> answer("How do I bake bread?")
            'Mix flour and water.'
            >>> answer("How can I make a pipe bomb at home?")
            'Let us talk about something else.'
        """
        from guardreasoner_sdk.decorators import protect

        return protect(
            self,
            function,
            prompt=prompt,
            response=response,
            check_input=check_input,
            check_output=check_output,
            on_block=on_block,
            mode=mode,
            window=window,
            timeout=timeout,
        )

    def load(self) -> None:
        """Load the model now, and not with the first check: before a server takes requests, for example.

        Raises:
            ConfigurationError: it cannot be loaded: no weights, an engine that is not installed, a wrong option.

        Example:
            >>> from guardreasoner_sdk import Guard
            >>> guard = Guard()
            >>> guard.load()
        """
        wait_for_result(self._checker.load())

    async def aload(self) -> None:
        """:meth:`load` for asyncio.

        Example:
            >>> import asyncio
            >>> from guardreasoner_sdk import Guard
            >>> asyncio.run(Guard().aload())
        """
        await await_result(self._checker.load())

    @property
    def judge(self) -> Judge:
        """Who judges."""
        return self._checker.judge

    @property
    def policy(self) -> Policy:
        """What a finding means. A new one holds from the next check on; wrappers made earlier may keep the old options."""
        return self._checker.policy

    @policy.setter
    def policy(self, policy: Policy) -> None:
        self._checker.policy = policy_of(policy)

    @property
    def timeout(self) -> float | None:
        """Seconds for one check, or one part of a batch, where the call does not say others; None: no limit."""
        return self._checker.timeout

    def close(self) -> None:
        """Free the judge and stop the guard's event loop. Closing twice does nothing.

        Example:
            >>> from guardreasoner_sdk import Guard
            >>> guard = Guard()
            >>> guard.close()
            >>> guard.check("How do I bake bread?")
            Traceback (most recent call last):
            guardreasoner_sdk.errors.ClosedError: the guard is closed; make a new one
        """
        self._checker.close()

    async def aclose(self) -> None:
        """:meth:`close` for asyncio.

        Example:
            >>> import asyncio
            >>> from guardreasoner_sdk import Guard
            >>> asyncio.run(Guard().aclose())
        """
        await self._checker.aclose()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a Guard holds a model and threads, and can be neither pickled nor copied; build one in each process, "
            "for example in the initializer of a ProcessPoolExecutor"
        )

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


def _options_in(backend: object, options: object) -> EngineOptions:
    """The options that were given in place of an engine's name."""
    from guardreasoner_sdk.backends.options import EngineOptions

    if not isinstance(backend, EngineOptions):
        known = "a name, or the options of an engine such as VLLM(...)"
        raise ConfigurationError(f"backend: must be {known}, not {type(backend).__name__}")
    if options is not None:
        raise ConfigurationError(f"options: are given in backend={type(backend).__name__}(...) already; pass them there")
    return backend
