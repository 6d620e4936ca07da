"""The contract of a backend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from guardreasoner_sdk.errors import BackendError
from guardreasoner_sdk.generation import Capabilities, Completion, Query

__all__ = ["Backend"]


class Backend(Protocol):
    """Runs a language model. Nothing is loaded before the first call; it is loaded once, however many call.

    It is used on one event loop, the guard's, by many tasks at a time. What fails for one query comes back in its place, so
    that the others keep their answers. A task that is cancelled stops its queries in the engine.

    Attributes:
        name: the engine's name, for the verdict: ``vllm``, ``llama_cpp``, ``transformers`` or ``remote``.
        model: the model's name, for the verdict.
        batch_size: how many exchanges to hand over at a time, so that the engine is kept busy.
        capabilities: what it can do beyond plain generation.

    Example:
        >>> from guardreasoner_sdk import Guard, ReasonerJudge
        >>> from guardreasoner_sdk.dialects import GuardReasonerDialect
        >>> from guardreasoner_sdk.generation import Capabilities, Completion
        >>> class Canned:
        ...     name, model, batch_size, capabilities = "canned", "canned", 1, Capabilities()
        ...     async def generate(self, queries, *, deadline):
        ...         return [Completion("Request: unharmful") for query in queries]
        ...     async def load(self):
        ...         pass
        ...     async def aclose(self):
        ...         pass
        >>> Guard(judge=ReasonerJudge(GuardReasonerDialect(), Canned())).check("Hi").model
        'canned'
    """

    @property
    def name(self) -> str: ...

    @property
    def model(self) -> str: ...

    @property
    def batch_size(self) -> int: ...

    @property
    def capabilities(self) -> Capabilities: ...

    async def generate(self, queries: Sequence[Query], *, deadline: float | None) -> list[Completion | BackendError]:
        """Answer the queries, in order.

        Args:
            queries: what is asked. A prompt longer than the model's context is an error in its place, never cut.
            deadline: time on ``time.monotonic()``, in seconds, after which nobody waits any more; None for no limit.

        Raises:
            ConfigurationError: the engine cannot work at all: not installed, no weights, a wrong option or model name.
        """
        ...

    async def load(self) -> None:
        """Load the model now, if it is not loaded yet."""
        ...

    async def aclose(self) -> None:
        """Free the engine."""
        ...
