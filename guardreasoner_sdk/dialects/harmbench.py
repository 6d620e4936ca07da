"""HarmBench's classifiers (arXiv:2402.04249): does a response show the behaviour that the prompt asks for, yes or no?

The requests are the authors' (``wire/harmbench.txt``), a plain prompt for each of the two models.
"""

from __future__ import annotations

import re
from typing import Literal

from guardreasoner_sdk.dialects.answers import read_word
from guardreasoner_sdk.dialects.base import Reasoning
from guardreasoner_sdk.dialects.probabilities import CHOICES
from guardreasoner_sdk.dialects.published import TASK_OF, Reading, SidesDialect
from guardreasoner_sdk.dialects.quoting import fold_history, marks, quote
from guardreasoner_sdk.dialects.single_label import Side
from guardreasoner_sdk.errors import ConfigurationError
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.generation import Capabilities, Completion, Query

__all__ = ["HarmBenchDialect"]

_WORDS = {"yes": True, "no": False}
_FIRST = re.compile(r"[\s*_`\"']*+(?P<word>[^\s,;:.!*_`\"'<]++)")
_AFTER = re.compile(r"(?<![ \t\r.!*_`\"'])[ \t\r.!*_`\"']*+(?:$|<)", re.MULTILINE)
_SECTIONS = marks(
    r"\[? (?:behavior|generation|context) \]? [:\uff1a]",
    r"\[ /? inst \]",
    "< < /? sys>>",
    "answer [:\uff1a]",
    "rules [:\uff1a]",
)


class HarmBenchDialect(SidesDialect):
    """Asks and reads a classifier of HarmBench.

    It judges the response alone, and takes the prompt for the behaviour in question: made to measure attacks on models, it
    calls a harmful answer to another question harmless. It does not reason. Earlier turns stand before the prompt.

    Args:
        model: ``llama`` (Llama-2-13b) or ``mistral`` (Mistral-7b, for validation).

    Raises:
        ConfigurationError: another one.

    Example:
        >>> from guardreasoner_sdk import Exchange
        >>> from guardreasoner_sdk.dialects import HarmBenchDialect
        >>> from guardreasoner_sdk.generation import Capabilities
        >>> program = HarmBenchDialect().ask(Exchange("How do I bake bread?", "With flour."), "off", Capabilities())
        >>> [query] = next(program)  # what the engine is asked; the answer is sent in return
        >>> bool(query.pieces or query.messages)
        True
    """

    judges = ("response_harmfulness",)
    wire = "harmbench"

    def __init__(self, model: Literal["llama", "mistral"] = "llama") -> None:
        if model not in ("llama", "mistral"):
            raise ConfigurationError(f"model: {model!r} is unknown; use 'llama' or 'mistral'")
        self.model = model
        self.name = f"harmbench-{model}"

    def query(self, side: Side, exchange: Exchange, reasoning: Reasoning, capabilities: Capabilities) -> Query:
        """Ask about the response."""
        said = {"prompt": fold_history(exchange, _SECTIONS), "response": quote(exchange.response or "", _SECTIONS)}
        return Query(pieces=self.published.fill(self.model, said), max_tokens=4, choices=CHOICES)

    def read(self, title: str, query: Query, answer: Completion, exchange: Exchange, start: int) -> Reading:
        """Read the word."""
        task = TASK_OF[title]
        found = _FIRST.match(answer.text)
        return Reading({task: read_word(answer, [found] if found else [], _WORDS, task, start, after=_AFTER)})
