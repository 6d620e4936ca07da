"""PolyGuard (arXiv:2504.04377): request, refusal, response and the policies violated, in 17 languages.

The request is the authors' (``wire/polyguard.txt``), without a response for a prompt alone. The answer is five lines, those of
WildGuard and one with the categories of each part.
"""

from __future__ import annotations

from guardreasoner_sdk.dialects.answers import Fields, category_fields, read_categories
from guardreasoner_sdk.dialects.base import Reasoning
from guardreasoner_sdk.dialects.hazards import MLCOMMONS
from guardreasoner_sdk.dialects.probabilities import CHOICES
from guardreasoner_sdk.dialects.published import PublishedDialect, Reading
from guardreasoner_sdk.dialects.quoting import fold_history, marks, quote
from guardreasoner_sdk.dialects.wildguard import FIELDS
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.generation import Capabilities, Completion, Message, Query
from guardreasoner_sdk.verdict import TASKS

__all__ = ["PolyGuardDialect"]

_SECTIONS = marks(
    "(?:human user|ai assistant) [:\uff1a]",
    "(?:harmful request|response refusal|harmful response|(?:request|response) safety violations) [:\uff1a]",
)
_VIOLATIONS = ("request safety violations", "response safety violations")
_FIELDS = Fields.of(FIELDS, *_VIOLATIONS)
_NAMED = {"prompt": category_fields(_VIOLATIONS[0]), "pair": category_fields(*_VIOLATIONS)}


class PolyGuardDialect(PublishedDialect):
    """Asks and reads a PolyGuard.

    It judges all three tasks and names categories, those of the prompt and the response together. It does not reason. Earlier
    turns stand before the prompt, inside the human's part: the format has one turn only.

    Example:
        >>> from guardreasoner_sdk import Exchange
        >>> from guardreasoner_sdk.dialects import PolyGuardDialect
        >>> from guardreasoner_sdk.generation import Capabilities
        >>> program = PolyGuardDialect().ask(Exchange("How do I bake bread?"), "off", Capabilities())
        >>> [query] = next(program)  # what the engine is asked; the answer is sent in return
        >>> bool(query.pieces or query.messages)
        True
    """

    name = "polyguard"
    wire = "polyguard"
    judges = TASKS

    def queries(self, exchange: Exchange, reasoning: Reasoning, capabilities: Capabilities) -> dict[str, Query]:
        """One query for all tasks."""
        wire = self.published
        response = "" if exchange.response is None else quote(exchange.response, _SECTIONS)
        user = wire.fill("user", {"prompt": fold_history(exchange, _SECTIONS), "response": response})
        messages = (Message.of("system", wire.fill("system")), Message.of("user", user))
        return {"answer": Query(messages=messages, max_tokens=100, choices=CHOICES)}

    def read(self, title: str, query: Query, answer: Completion, exchange: Exchange, start: int) -> Reading:
        """Read the lines; those about a response that there is not are left aside."""
        findings = {task: _FIELDS.read(answer, task, start) for task in exchange.tasks}
        named = _NAMED["prompt" if exchange.response is None else "pair"]
        return Reading(findings, read_categories(answer.text, named, MLCOMMONS))
