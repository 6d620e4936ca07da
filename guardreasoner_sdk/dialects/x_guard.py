"""X-Guard (UNHSAILLab's X-Guard agent, saillab/x-guard): thinks about a text, then labels it.

The request is the authors', whose words are not in this package (``wire/x-guard.txt`` says why): the text between two marks,
and an assistant's turn that only opens the thinking. The answer is ``<think>...</think>``, ``<label>safe</label>`` or
``<label>unsafe</label>``, and ``<categories>``, whose names are not published as a list.
"""

from __future__ import annotations

import re

from guardreasoner_sdk.dialects.answers import beyond_reasoning, read_word, thoughts
from guardreasoner_sdk.dialects.base import Reasoning
from guardreasoner_sdk.dialects.probabilities import CHOICES
from guardreasoner_sdk.dialects.published import TASK_OF, Reading, SidesDialect
from guardreasoner_sdk.dialects.quoting import fold_history, marks
from guardreasoner_sdk.dialects.single_label import Side
from guardreasoner_sdk.dialects.wire import Request, complete_request
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.generation import Capabilities, Completion, Message, Query
from guardreasoner_sdk.verdict import undetermined

__all__ = ["XGuardDialect"]

_WORDS = {"unsafe": True, "safe": False}
_LABEL = re.compile(r"<label>\s*+(?P<word>[^\s<]++)\s*+</label>", re.IGNORECASE)
_SECTIONS = marks("< user text (?:starts|ends)>", "< /? (?:think|label|categories)>")


class XGuardDialect(SidesDialect):
    """Asks and reads an X-Guard.

    It judges the prompt alone: nothing is published about responses. It always reasons. Its authors translate what is not
    English first (mBART-50); that is not done here. Earlier turns stand before the prompt.

    Args:
        request: the path of the authors' file that holds the request; it is not in this package.

    Raises:
        ConfigurationError: no file, or not theirs; the message says where it is.

    Example:
        >>> from guardreasoner_sdk import ConfigurationError
        >>> from guardreasoner_sdk.dialects import XGuardDialect
        >>> try:
        ...     XGuardDialect()
        ... except ConfigurationError as error:
        ...     print(str(error)[:57])
        request: x-guard is asked with a text that its authors pu
    """

    name = "x-guard"
    wire = "x-guard"
    judges = ("prompt_harmfulness",)
    modes = ("auto", "full")

    def __init__(self, request: Request | None = None) -> None:
        self.request = complete_request(self.wire, request)

    def query(self, side: Side, exchange: Exchange, reasoning: Reasoning, capabilities: Capabilities) -> Query:
        """Ask about the prompt."""
        wire = self.published
        messages = (
            Message.of("system", wire.fill("system")),
            Message.of("user", wire.fill("user", {"text": fold_history(exchange, _SECTIONS)})),
            Message.of("assistant", wire.fill("opening")),
        )
        return Query(messages=messages, max_tokens=512, choices=CHOICES)

    def read(self, title: str, query: Query, answer: Completion, exchange: Exchange, start: int) -> Reading:
        """Read the label behind the reasoning; it may go on with the one that the request opened, and only close it."""
        task = TASK_OF[title]
        parts = beyond_reasoning(answer)
        if isinstance(parts, str):
            return Reading({task: undetermined(parts)})
        place, begin = parts
        finding = read_word(answer, list(_LABEL.finditer(answer.text, begin)), _WORDS, task, start)
        return Reading({task: finding}, reasoning=tuple(thoughts(answer.text, place, start, task)))
