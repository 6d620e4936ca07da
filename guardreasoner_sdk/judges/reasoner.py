"""The judge that asks a language model: a dialect says what to ask and how to read it, a backend answers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import get_args

from guardreasoner_sdk._arguments import check_backend, check_dialect
from guardreasoner_sdk._deadline import ROW_GRACE, Deadline
from guardreasoner_sdk.backends.base import Backend
from guardreasoner_sdk.dialects.base import Dialect, Reasoning
from guardreasoner_sdk.errors import ConfigurationError
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.judges.safe_judging import stops_the_task, unable
from guardreasoner_sdk.telemetry.recording import record_call
from guardreasoner_sdk.verdict import Judgement

__all__ = ["ReasonerJudge"]


class ReasonerJudge:
    """Judges by a reasoning guard, or any other guard that is a language model.

    ``Guard(model, backend=...)`` builds one; make it yourself for a dialect or an engine of your own::

        Guard(judge=ReasonerJudge(GuardReasonerDialect("chat"), TransformersBackend("/models/my-guard")))

    Every exchange goes its own way through the engine, and has the deadline for itself: one that fails or takes long is
    undetermined, and costs no other its judgement.

    Args:
        dialect: how the model is asked and read.
        backend: what runs it.
        reasoning: how much to reason: ``auto``, ``full``, ``brief`` or ``off``.

    Raises:
        ConfigurationError: one of these that it cannot work with.

    Example:
        >>> from guardreasoner_sdk import Guard, ReasonerJudge
        >>> from guardreasoner_sdk.backends.remote import RemoteBackend
        >>> from guardreasoner_sdk.dialects import GuardReasonerDialect
        >>> judge = ReasonerJudge(GuardReasonerDialect("chat"), RemoteBackend("my-guard", "http://localhost:8000/v1"))
        >>> Guard(judge=judge).judge.model
        'my-guard'
    """

    keeps_deadline = True

    def __init__(self, dialect: Dialect, backend: Backend, *, reasoning: Reasoning = "auto") -> None:
        check_dialect("dialect", dialect)
        check_backend("backend", backend)
        if reasoning not in get_args(Reasoning):
            raise ConfigurationError(f"reasoning: must be one of {', '.join(get_args(Reasoning))}, not {reasoning!r}")
        able: tuple[Reasoning, ...] = getattr(dialect, "modes", get_args(Reasoning))
        if reasoning not in able:
            how = "always reasons" if "off" not in able and reasoning == "off" else f"does not reason as {reasoning!r} asks"
            raise ConfigurationError(f"reasoning: {dialect.name} {how}; use {' or '.join(map(repr, able))}")
        self.dialect = dialect
        self._backend = backend
        self.reasoning = reasoning
        self._loaded = False

    @property
    def model(self) -> str:
        """Name of the model."""
        return self._backend.model

    @property
    def backend(self) -> str:
        """Name of the engine."""
        return self._backend.name

    @property
    def engine(self) -> Backend:
        """The engine itself."""
        return self._backend

    @property
    def sees_images(self) -> bool:
        """Whether it judges images: the family does, and the engine can show it some."""
        return getattr(self.dialect, "sees_images", False) is True and self._backend.capabilities.images

    @property
    def batch_size(self) -> int:
        """How many exchanges to hand over at a time."""
        return self._backend.batch_size

    async def load(self) -> None:
        """Load the model now, and not with the first check.

        Raises:
            ConfigurationError: it cannot be loaded.
        """
        await self._backend.load()
        self._loaded = True

    async def judge(self, exchanges: Sequence[Exchange], *, deadline: float | None) -> list[Judgement]:
        """Judge the exchanges, side by side.

        Args:
            exchanges: what is judged.
            deadline: time on ``time.monotonic()`` after which nobody waits any more, or None.

        Raises:
            ConfigurationError: the engine cannot work at all.
        """
        tasks = [asyncio.ensure_future(self._alone(exchange, deadline)) for exchange in exchanges]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()

    async def aclose(self) -> None:
        """Free the engine."""
        await self._backend.aclose()

    async def _alone(self, exchange: Exchange, deadline: float | None) -> Judgement:
        try:
            async with Deadline.of(deadline).scope(ROW_GRACE):
                return await self._judge(exchange, deadline)
        except BaseException as error:
            if stops_the_task(error):
                raise
            return unable(error, [exchange])[0]

    async def _judge(self, exchange: Exchange, deadline: float | None) -> Judgement:
        if not self._loaded:
            await self.load()
        program = self.dialect.ask(exchange, self.reasoning, self._backend.capabilities)
        try:
            queries = next(program)
            while True:
                with record_call(self._backend, queries) as call:
                    answers = await self._backend.generate(queries, deadline=deadline)
                    call.finish(answers)
                queries = program.send(answers)
        except StopIteration as done:
            judgement: Judgement = done.value
            return judgement
        finally:
            program.close()
