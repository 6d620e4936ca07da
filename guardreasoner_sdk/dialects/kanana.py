"""Kanana Safeguard (kakaocorp, on its cards): one token, ``<SAFE>`` or ``<UNSAFE-S4>``, about text that is Korean first of all.

The chat template writes the request. Three models: harm in prompts and responses, legal risk in prompts, attacks in prompts.
"""

from __future__ import annotations

import re
from typing import Literal

from guardreasoner_sdk.dialects.base import Reasoning
from guardreasoner_sdk.dialects.hazards import Taxonomy
from guardreasoner_sdk.dialects.probabilities import CHOICES, share_of
from guardreasoner_sdk.dialects.published import TASK_OF, Reading, SidesDialect
from guardreasoner_sdk.dialects.quoting import fold_history, marks, quote
from guardreasoner_sdk.dialects.single_label import Side, span, unreadable
from guardreasoner_sdk.errors import ConfigurationError
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.generation import Capabilities, Completion, Message, Query
from guardreasoner_sdk.verdict import LABELS, Finding

__all__ = ["KananaSafeguardDialect"]

Kind = Literal["harm", "siren", "prompt"]

_CATEGORIES: dict[Kind, Taxonomy] = {
    "harm": Taxonomy(
        {
            "S1": "Hate",
            "S2": "Harassment",
            "S3": "Sexual Content",
            "S4": "Crime",
            "S5": "Child Sexual Abuse",
            "S6": "Self-Harm",
            "S7": "Misinformation",
        }
    ),
    "siren": Taxonomy(
        {"I1": "Adult Authentication", "I2": "Professional Advice", "I3": "Personal Information", "I4": "Intellectual Property"}
    ),
    "prompt": Taxonomy({"A1": "Prompt Injection", "A2": "Prompt Leaking"}),
}
_NAMES: dict[Kind, str] = {"harm": "kanana-safeguard", "siren": "kanana-safeguard-siren", "prompt": "kanana-safeguard-prompt"}
_TOKEN = re.compile(r"\s*+<(?P<word>SAFE|UNSAFE)(?:-(?P<code>[A-Z]\d+))?>(?:\s|<\||</|\Z)")
_SECTIONS = marks("< (?:un)?safe[->]")


class KananaSafeguardDialect(SidesDialect):
    """Asks and reads a Kanana Safeguard.

    What it calls unsafe is harmful, with the category that it names: a request for advice of a professional, too, by the model
    for legal risk. It does not say whether the response refuses, and does not reason. Earlier turns stand before the prompt.
    A server must write special tokens into its answers (vLLM is asked to): the label is one.

    Args:
        kind: ``harm`` (prompts and responses), ``siren`` (legal risk, prompts alone) or ``prompt`` (attacks, prompts alone).

    Raises:
        ConfigurationError: another kind.

    Example:
        >>> from guardreasoner_sdk import Exchange
        >>> from guardreasoner_sdk.dialects import KananaSafeguardDialect
        >>> from guardreasoner_sdk.generation import Capabilities
        >>> program = KananaSafeguardDialect().ask(Exchange("How do I bake bread?"), "off", Capabilities())
        >>> [query] = next(program)  # what the engine is asked; the answer is sent in return
        >>> bool(query.pieces or query.messages)
        True
    """

    def __init__(self, kind: Kind = "harm") -> None:
        if kind not in _CATEGORIES:
            raise ConfigurationError(f"kind: {kind!r} is unknown; use 'harm', 'siren' or 'prompt'")
        self.kind = kind
        self.name = _NAMES[kind]
        if kind != "harm":
            self.judges = ("prompt_harmfulness",)

    def query(self, side: Side, exchange: Exchange, reasoning: Reasoning, capabilities: Capabilities) -> Query:
        """Ask about one part: the chat ends with it."""
        messages = [Message("user", fold_history(exchange, _SECTIONS))]
        if side == "response":
            messages.append(Message("assistant", quote(exchange.response or "", _SECTIONS)))
        return Query(messages=tuple(messages), max_tokens=1, choices=CHOICES, special=True)

    def read(self, title: str, query: Query, answer: Completion, exchange: Exchange, start: int) -> Reading:
        """Read the token."""
        task = TASK_OF[title]
        found = _TOKEN.match(answer.text)
        taxonomy = _CATEGORIES[self.kind]
        safe = found is not None and found["word"] == "SAFE"
        if found is None or safe == (found["code"] is not None) or (not safe and found["code"] not in taxonomy.names):
            return Reading({task: unreadable(answer, "<SAFE> or <UNSAFE-...>", answer.text.strip() or None)})
        meanings = {**{f"<unsafe-{code.lower()}>": True for code in taxonomy.names}, "<safe>": False}
        there = None if answer.choices is None else answer.choices.at(found.start())
        finding = Finding(
            label=LABELS[task][safe], score=None if there is None else share_of(there[1], meanings), span=span(found, start)
        )
        return Reading({task: finding}, () if safe else (taxonomy.label(found["code"]),))
