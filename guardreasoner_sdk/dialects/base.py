"""The contract of a dialect: how one family of guard models is asked, and how its answers are read. Pure, no I/O."""

from __future__ import annotations

from collections.abc import Generator
from typing import Literal, Protocol

from guardreasoner_sdk.errors import BackendError
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.generation import Capabilities, Completion, Message, PromptPiece, Query
from guardreasoner_sdk.verdict import Judgement

__all__ = [
    "Answer",
    "Capabilities",
    "Completion",
    "Dialect",
    "JudgementProgram",
    "Message",
    "PromptPiece",
    "Query",
    "Reasoning",
    "Rendering",
]

Rendering = Literal["raw", "chat"]
Reasoning = Literal["auto", "full", "brief", "off"]

Answer = Completion | BackendError
"""What comes back for a query: an answer, or why there is none."""

JudgementProgram = Generator[tuple[Query, ...], list[Answer], Judgement]
"""A judgement in the making: yields queries that can run side by side, is sent their answers, returns the judgement.

It does no I/O itself, so that every engine runs the same one::

    program = dialect.ask(exchange, "brief", Capabilities())
    queries = next(program)
    queries = program.send(answers_to(queries))  # until StopIteration, whose value is the judgement
"""


class Dialect(Protocol):
    """One family of guard models. No state between calls.

    Attributes:
        name: as in ``Guard(dialect=...)``.

    A family that cannot do everything that ``Guard(reasoning=...)`` may ask for has an attribute ``modes``, a tuple of what it
    can, ``auto`` among it; a guard is then refused at once where it asks for something else. One that asks about the images of
    an exchange, too, has ``sees_images = True``, and is handed some where the engine takes them.

    Example:
        >>> from guardreasoner_sdk import Exchange
        >>> from guardreasoner_sdk.dialects import GuardReasonerDialect
        >>> from guardreasoner_sdk.generation import Capabilities
        >>> program = GuardReasonerDialect().ask(Exchange("How do I bake bread?"), "full", Capabilities())
        >>> [query] = next(program)
        >>> "How do I bake bread?" in query.text
        True
    """

    @property
    def name(self) -> str: ...

    def ask(self, exchange: Exchange, reasoning: Reasoning, capabilities: Capabilities) -> JudgementProgram:
        """Begin a judgement.

        Args:
            exchange: what is judged.
            reasoning: how much to reason; one of its ``modes``, if it has such.
            capabilities: what the engine can do.

        Returns:
            the program. What cannot be read, and what an engine failed to answer, is undetermined with its cause in the
            judgement; a task that the family does not judge is None; nothing is guessed.
        """
        ...
