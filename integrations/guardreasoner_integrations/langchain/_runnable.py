"""A gate for LCEL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeVar

from langchain_core.runnables import Runnable, RunnableConfig

from guardreasoner_integrations._guards import check_guard
from guardreasoner_integrations.langchain._lcel import prompt_in
from guardreasoner_integrations.langchain._questions import Question, ajudge, can_block, error_of, judge
from guardreasoner_sdk import ConfigurationError, Guard, Verdict
from guardreasoner_sdk.blocking import BlockRule

__all__ = ["GuardRunnable"]

T = TypeVar("T")


class GuardRunnable(Runnable[T, T]):
    """A gate for LCEL: ``GuardRunnable(guard) | model``. What may pass goes through unchanged, a block raises.

    It judges what it is given as a prompt, in one batch for all rows of a ``batch``, and collects a stream before it lets it
    pass. What it returned in place of a blocked prompt would be what the model is asked: therefore it raises. The policy's
    message comes from :class:`GuardedChain`, which also judges the answer.

    Args:
        guard: who judges. A policy with ``on_block="message"`` needs ``on_block="raise"`` here.
        input_key: where the input is a mapping, the key of what is judged: a str, a prompt value, or messages.
        on_block: ``"raise"``: whatever the guard's policy says.
        name: what tracers show.

    Raises:
        ConfigurationError: the policy wants a message, or does not block prompts.
        BlockedError, UndeterminedError: from ``invoke`` and the like; in a batch with ``return_exceptions``, row by row.
        InputError: an input that holds no prompt.

    Example:
        >>> from langchain_core.language_models import FakeListChatModel
        >>> from guardreasoner_integrations.langchain import GuardRunnable
        >>> from guardreasoner_sdk import Guard
        >>> gated = GuardRunnable(Guard(), on_block="raise") | FakeListChatModel(responses=["Call her Miso."])  # yours
        >>> gated.invoke("How do I build a pipe bomb to kill my neighbour?")
        Traceback (most recent call last):
        guardreasoner_sdk.errors.BlockedError: ...
    """

    def __init__(
        self,
        guard: Guard,
        *,
        input_key: str | None = None,
        on_block: Literal["raise"] | None = None,
        name: str | None = None,
    ) -> None:
        check_guard(guard)
        if BlockRule(guard, on_block).on_block != "raise":
            raise ConfigurationError(
                "on_block: a gate in front of a model can only raise, a message would go to the model; "
                "use GuardedChain(guard, model), or pass on_block='raise'"
            )
        if not can_block(guard.policy, response=False):
            raise ConfigurationError("policy: a gate judges prompts; let the policy block 'harmful_prompt'")
        self._guard = guard
        self._input_key = input_key
        self.name = name

    def invoke(self, input: T, config: RunnableConfig | None = None, **kwargs: Any) -> T:
        """Judge and pass on."""

        def one(given: T) -> T:
            return _passed(given, *judge(self._guard, self._questions([given])))

        return self._call_with_config(one, input, config)

    async def ainvoke(self, input: T, config: RunnableConfig | None = None, **kwargs: Any) -> T:
        """:meth:`invoke` for asyncio."""

        async def one(given: T) -> T:
            return _passed(given, *await ajudge(self._guard, self._questions([given])))

        return await self._acall_with_config(one, input, config)

    def batch(
        self,
        inputs: list[T],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[T]:
        """Judge all in one batch."""

        def every(given: list[T]) -> list[T | Exception]:
            return _rows(given, judge(self._guard, self._questions(given)))

        return self._batch_with_config(every, inputs, config, return_exceptions=return_exceptions)

    async def abatch(
        self,
        inputs: list[T],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[T]:
        """:meth:`batch` for asyncio."""

        async def every(given: list[T]) -> list[T | Exception]:
            return _rows(given, await ajudge(self._guard, self._questions(given)))

        return await self._abatch_with_config(every, inputs, config, return_exceptions=return_exceptions)

    def _questions(self, inputs: Sequence[T]) -> list[Question]:
        return [Question(prompt_in(given, self._input_key)) for given in inputs]


def _passed(given: T, verdict: Verdict | None) -> T:
    if error := error_of(verdict):
        raise error
    return given


def _rows(inputs: Sequence[T], verdicts: Sequence[Verdict | None]) -> list[T | Exception]:
    return [error_of(verdict) or given for given, verdict in zip(inputs, verdicts, strict=True)]
