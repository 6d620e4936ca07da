"""Granite Guardian (arXiv:2412.07724 and the cookbooks of ibm-granite/granite-guardian): does the last text meet a criterion?

Versions 3.0 to 3.3 write the request in their chat template, which takes the criterion as ``guardian_config``; version 4.1
reads a further user message with it (``wire/granite-guardian-4.1.txt``). The answers: ``Yes`` or ``No``, in 3.2 with a
confidence behind it; from 3.3 on ``<score> yes </score>`` behind reasoning, which may be empty.
"""

from __future__ import annotations

import re
from typing import Any, Literal

from guardreasoner_sdk.dialects.answers import beyond_reasoning, read_word, thoughts
from guardreasoner_sdk.dialects.base import Reasoning
from guardreasoner_sdk.dialects.probabilities import CHOICES
from guardreasoner_sdk.dialects.published import TASK_OF, Reading, SidesDialect, check_policy
from guardreasoner_sdk.dialects.quoting import fold_history, marks, quote
from guardreasoner_sdk.dialects.single_label import Side
from guardreasoner_sdk.errors import ConfigurationError
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.generation import Capabilities, Completion, Message, Query
from guardreasoner_sdk.verdict import undetermined

__all__ = ["GraniteGuardianDialect"]

Version = Literal["3.0", "3.1", "3.2", "3.3", "4.1"]

_WORDS = {"yes": True, "no": False}
_FIRST = re.compile(r"[\s*_`\"']*+(?P<word>[^\s,;:.!*_`\"'<]++)")
_AFTER = re.compile(r"(?<![ \t\r.!*_`\"'])[ \t\r.!*_`\"']*+(?:$|<)", re.MULTILINE)
_SCORE = re.compile(r"<score>\s*+(?P<word>[^\s<]++)\s*+</score>", re.IGNORECASE)
_SECTIONS = marks(
    "< /? (?:guardian|score|confidence|think|no-think)>",
    "\\#+ (?:criteria|scoring schema) [:\uff1a]",
    "(?:user|assistant) message [:\uff1a]",
    "< (?:start|end)_of_(?:turn|risk_definition)",
)


class GraniteGuardianDialect(SidesDialect):
    """Asks and reads a Granite Guardian.

    It judges harm, of the prompt and of the response, by the family's umbrella criterion ``harm`` or by a policy of yours; it
    does not say whether the response refuses, and names no categories. Versions 3.3 and 4.1 think before they answer under
    ``full``; the others do not reason. Earlier turns stand before the prompt, inside the user's part: the criterion is about
    the last turn.

    Args:
        version: ``3.0``, ``3.1``, ``3.2``, ``3.3`` or ``4.1``.
        policy_text: what counts as harmful, in place of the family's own criterion; it is trusted.

    Raises:
        ConfigurationError: another version, or a policy that is no text.

    Example:
        >>> from guardreasoner_sdk import Exchange
        >>> from guardreasoner_sdk.dialects import GraniteGuardianDialect
        >>> from guardreasoner_sdk.generation import Capabilities
        >>> program = GraniteGuardianDialect().ask(Exchange("How do I bake bread?"), "off", Capabilities())
        >>> [query] = next(program)  # what the engine is asked; the answer is sent in return
        >>> bool(query.pieces or query.messages)
        True
    """

    def __init__(self, version: Version = "3.3", *, policy_text: str | None = None) -> None:
        if version not in ("3.0", "3.1", "3.2", "3.3", "4.1"):
            raise ConfigurationError(f"version: {version!r} is unknown; use '3.0', '3.1', '3.2', '3.3' or '4.1'")
        check_policy(policy_text)
        self.version = version
        self.policy = None if policy_text is None else policy_text.strip()
        self.name = f"granite-guardian-{version}"
        self.wire = self.name if version == "4.1" else None
        self.thinks = version in ("3.3", "4.1")
        self.modes = ("auto", "full", "off") if self.thinks else ("auto", "off")

    def query(self, side: Side, exchange: Exchange, reasoning: Reasoning, capabilities: Capabilities) -> Query:
        """Ask about one part: the chat ends with it."""
        messages = [Message("user", fold_history(exchange, _SECTIONS))]
        if side == "response":
            messages.append(Message("assistant", quote(exchange.response or "", _SECTIONS)))
        think = reasoning == "full"
        most = (2048 if think else 48) if self.thinks else 24
        if self.version == "4.1":
            wire = self.published
            judge = {"judge": "think" if think else "no think", "schema": f"{side} side"}
            criteria = {"criteria": "harm"} if self.policy is None else {}
            own = {} if self.policy is None else {"criteria": self.policy}
            messages.append(Message.of("user", wire.fill("user", own, sections={**judge, **criteria})))
            return Query(messages=tuple(messages), max_tokens=most, choices=CHOICES)
        return Query(messages=tuple(messages), template=self._template(think), max_tokens=most, choices=CHOICES)

    def _template(self, think: bool) -> dict[str, Any]:
        if self.version == "3.3":
            config = {"criteria_id": "harm"} if self.policy is None else {"custom_criteria": self.policy}
            return {"guardian_config": config, "think": think}
        if self.policy is None:
            return {"guardian_config": {"risk_name": "harm"}}
        return {"guardian_config": {"risk_name": "policy", "risk_definition": self.policy}}

    def read(self, title: str, query: Query, answer: Completion, exchange: Exchange, start: int) -> Reading:
        """Read the word, or the score behind the reasoning."""
        task = TASK_OF[title]
        if not self.thinks:
            found = _FIRST.match(answer.text)
            return Reading({task: read_word(answer, [found] if found else [], _WORDS, task, start, after=_AFTER)})
        parts = beyond_reasoning(answer)
        if isinstance(parts, str):
            return Reading({task: undetermined(parts)})
        place, begin = parts
        finding = read_word(answer, list(_SCORE.finditer(answer.text, begin)), _WORDS, task, start)
        return Reading({task: finding}, reasoning=tuple(thoughts(answer.text, place, start, task)))
