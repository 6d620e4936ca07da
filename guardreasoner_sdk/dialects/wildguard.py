"""WildGuard (arXiv:2406.18495): request, refusal and response in one answer of three lines.

The prompt is the exact text of the authors' package (``wire/wildguard.txt``), without the ``<s>`` that engines put in front
themselves.
"""

from __future__ import annotations

from collections.abc import Mapping

from guardreasoner_sdk.dialects.answers import Fields, Words
from guardreasoner_sdk.dialects.base import Reasoning
from guardreasoner_sdk.dialects.probabilities import CHOICES
from guardreasoner_sdk.dialects.published import PublishedDialect, Reading
from guardreasoner_sdk.dialects.quoting import fold_history, marks, quote
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.generation import Capabilities, Completion, Query
from guardreasoner_sdk.verdict import TASKS, Task

__all__ = ["FIELDS", "WildGuardDialect"]

# Not the rule between input and answers: it is in one answer of eight, and closes nothing without what follows it.
_SECTIONS = marks(
    "human user [:\uff1a]",
    "ai assistant [:\uff1a]",
    "answers [:\uff1a]",
    "(?:harmful request|response refusal|harmful response) [:\uff1a]",
    r"\[ /? inst \]",
    r"< \| (?:user|assistant) \|",
)
_WORDS: Words = {"yes": True, "no": False}
FIELDS: Mapping[Task, tuple[str, Words]] = {
    "prompt_harmfulness": ("harmful request", _WORDS),
    "response_refusal": ("response refusal", _WORDS),
    "response_harmfulness": ("harmful response", _WORDS),
}
"""The lines of an answer: their names, and what they may say."""

_FIELDS = Fields.of(FIELDS)


class WildGuardDialect(PublishedDialect):
    """Asks and reads a WildGuard.

    It judges all three tasks and names no categories. It does not reason. Earlier turns stand before the prompt, inside the
    human's part: the format has one turn only. Where there is no response, its part is left empty, as the authors' package
    does.

    Example:
        >>> from guardreasoner_sdk import Exchange
        >>> from guardreasoner_sdk.dialects import WildGuardDialect
        >>> from guardreasoner_sdk.generation import Capabilities
        >>> program = WildGuardDialect().ask(Exchange("How do I bake bread?"), "off", Capabilities())
        >>> [query] = next(program)  # what the engine is asked; the answer is sent in return
        >>> bool(query.pieces or query.messages)
        True
    """

    name = "wildguard"
    wire = "wildguard"
    judges = TASKS

    def render(self, exchange: Exchange) -> Query:
        """Turn an exchange into the family's query.

        Args:
            exchange: what is judged.
        """
        response = "" if exchange.response is None else quote(exchange.response, _SECTIONS)
        pieces = self.published.fill("text", {"prompt": fold_history(exchange, _SECTIONS), "response": response})
        return Query(pieces=pieces, max_tokens=128, choices=CHOICES)

    def queries(self, exchange: Exchange, reasoning: Reasoning, capabilities: Capabilities) -> dict[str, Query]:
        """One query for all tasks."""
        return {"answer": self.render(exchange)}

    def read(self, title: str, query: Query, answer: Completion, exchange: Exchange, start: int) -> Reading:
        """Read the lines; those about a response that there is not are left aside."""
        return Reading({task: _FIELDS.read(answer, task, start) for task in exchange.tasks})
