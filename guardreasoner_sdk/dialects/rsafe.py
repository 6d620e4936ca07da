"""RSafe (arXiv:2506.07736): reasons first, then ``\\boxed{safe}`` or ``\\boxed{unsafe}``.

The requests are the authors' (``wire/rsafe.txt``), one for prompts and one for responses.
"""

from __future__ import annotations

import re

from guardreasoner_sdk.dialects.answers import beyond_reasoning, read_word, thoughts
from guardreasoner_sdk.dialects.base import Reasoning
from guardreasoner_sdk.dialects.probabilities import CHOICES
from guardreasoner_sdk.dialects.published import TASK_OF, Reading, SidesDialect
from guardreasoner_sdk.dialects.quoting import fold_history, marks, quote
from guardreasoner_sdk.dialects.single_label import Side
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.generation import Capabilities, Completion, Message, Query
from guardreasoner_sdk.verdict import undetermined

__all__ = ["RSafeDialect"]

_WORDS = {"unsafe": True, "safe": False}
_BOXED = re.compile(r"\\boxed\{\s*+(?:\\text\{\s*+)?(?P<word>[^\s{}]++)\s*+\}", re.IGNORECASE)
_SECTIONS = marks(
    "(?:user|agent) [:\uff1a]", "< (?:begin|end) (?:unsafe|conversation)", "< /? think>", r"\\boxed \{", "you first go through"
)


class RSafeDialect(SidesDialect):
    """Asks and reads an RSafe.

    It judges harm, of the prompt and of the response; it does not say whether the response refuses, and names no categories. It
    always reasons. Earlier turns stand before the prompt, inside the user's part.

    Example:
        >>> from guardreasoner_sdk import Exchange
        >>> from guardreasoner_sdk.dialects import RSafeDialect
        >>> from guardreasoner_sdk.generation import Capabilities
        >>> program = RSafeDialect().ask(Exchange("How do I bake bread?"), "off", Capabilities())
        >>> [query] = next(program)  # what the engine is asked; the answer is sent in return
        >>> bool(query.pieces or query.messages)
        True
    """

    name = "rsafe"
    wire = "rsafe"
    modes = ("auto", "full")

    def query(self, side: Side, exchange: Exchange, reasoning: Reasoning, capabilities: Capabilities) -> Query:
        """Ask about one part."""
        said = {"prompt": fold_history(exchange, _SECTIONS), "response": quote(exchange.response or "", _SECTIONS)}
        user = self.published.fill(f"{side} side", said)
        return Query(messages=(Message.of("user", user),), max_tokens=4096, choices=CHOICES)

    def read(self, title: str, query: Query, answer: Completion, exchange: Exchange, start: int) -> Reading:
        """Read what is boxed behind the reasoning."""
        task = TASK_OF[title]
        parts = beyond_reasoning(answer)
        if isinstance(parts, str):
            return Reading({task: undetermined(parts)})
        place, begin = parts
        finding = read_word(answer, list(_BOXED.finditer(answer.text, begin)), _WORDS, task, start)
        return Reading({task: finding}, reasoning=tuple(thoughts(answer.text, place, start, task)))
