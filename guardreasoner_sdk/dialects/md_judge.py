"""MD-Judge (arXiv:2402.05044): is the answer to a question safe? By the six domains of SALAD-Bench.

Version 0.1 reads a plain prompt (``wire/md-judge.txt``) and answers as Llama Guard does, with one category. Version 0.2 has
the request in its chat template and answers with a line ``[RESULT]``; its format is known from programs of others only, so try
it on the weights.
"""

from __future__ import annotations

import re
from typing import Literal

from guardreasoner_sdk.dialects.answers import MARKS, read_word
from guardreasoner_sdk.dialects.base import Reasoning
from guardreasoner_sdk.dialects.hazards import MD_JUDGE
from guardreasoner_sdk.dialects.llama_guard import read_safety
from guardreasoner_sdk.dialects.probabilities import CHOICES
from guardreasoner_sdk.dialects.published import TASK_OF, Reading, SidesDialect
from guardreasoner_sdk.dialects.quoting import fold_history, marks, quote
from guardreasoner_sdk.dialects.single_label import Side
from guardreasoner_sdk.errors import ConfigurationError
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.generation import Capabilities, Completion, Message, Query

__all__ = ["MDJudgeDialect"]

_WORDS = {"unsafe": True, "safe": False}
_RESULT = re.compile(rf"^[ \t#*]*+\[RESULT\][ \t:*]*+\n?+{MARKS}(?P<word>[^\s,;.*_`\"'<]++)", re.IGNORECASE | re.MULTILINE)
_AFTER = re.compile(rf"(?<![ \t\r*_`\"']){MARKS}[.,]?{MARKS}(?:$|<|\[|O\d)", re.IGNORECASE | re.MULTILINE)
_SECTIONS = marks(
    "(?:user|agent) [:\uff1a]",
    "< (?:begin|end) (?:unsafe|conversation)",
    r"\[ /? (?:inst|result) \]",
    "provide your safety assessment for",
)


class MDJudgeDialect(SidesDialect):
    """Asks and reads an MD-Judge.

    It judges the response alone. Version 0.1 names one category. It does not reason. Earlier turns stand before the prompt.

    Args:
        version: ``0.1`` or ``0.2``.

    Raises:
        ConfigurationError: another version.

    Example:
        >>> from guardreasoner_sdk import Exchange
        >>> from guardreasoner_sdk.dialects import MDJudgeDialect
        >>> from guardreasoner_sdk.generation import Capabilities
        >>> program = MDJudgeDialect().ask(Exchange("How do I bake bread?", "With flour."), "off", Capabilities())
        >>> [query] = next(program)  # what the engine is asked; the answer is sent in return
        >>> bool(query.pieces or query.messages)
        True
    """

    judges = ("response_harmfulness",)

    def __init__(self, version: Literal["0.1", "0.2"] = "0.1") -> None:
        if version not in ("0.1", "0.2"):
            raise ConfigurationError(f"version: {version!r} is unknown; use '0.1' or '0.2'")
        self.version = version
        self.name = f"md-judge-{version}"
        self.wire = "md-judge" if version == "0.1" else None

    def query(self, side: Side, exchange: Exchange, reasoning: Reasoning, capabilities: Capabilities) -> Query:
        """Ask about the response."""
        prompt, response = fold_history(exchange, _SECTIONS), quote(exchange.response or "", _SECTIONS)
        if self.version == "0.1":
            pieces = self.published.fill("text", {"prompt": prompt, "response": response})
            return Query(pieces=pieces, max_tokens=32, choices=CHOICES)
        messages = (Message("user", prompt), Message("assistant", response))
        return Query(messages=messages, max_tokens=256, choices=CHOICES)

    def read(self, title: str, query: Query, answer: Completion, exchange: Exchange, start: int) -> Reading:
        """Read the label, and what stands behind it."""
        task = TASK_OF[title]
        if self.version == "0.1":
            safety = read_safety(answer, start, MD_JUDGE)
            return Reading({task: safety.finding}, safety.categories)
        return Reading({task: read_word(answer, list(_RESULT.finditer(answer.text)), _WORDS, task, start, after=_AFTER)})
