"""DynaGuard (arXiv:2509.02563): does what an agent says break one of the application's rules?

The request is the authors' (``wire/dynaguard.txt``). The answer is ``PASS`` or ``FAIL`` between ``<answer>`` tags, behind
reasoning or at once, as the prompt opens the one or the other.
"""

from __future__ import annotations

import re

from guardreasoner_sdk.dialects.answers import beyond_reasoning, read_word, thoughts
from guardreasoner_sdk.dialects.base import Reasoning
from guardreasoner_sdk.dialects.gpt_oss import GENERAL_HARM
from guardreasoner_sdk.dialects.probabilities import CHOICES
from guardreasoner_sdk.dialects.published import TASK_OF, Reading, SidesDialect, check_policy
from guardreasoner_sdk.dialects.quoting import fold_history, marks, quote
from guardreasoner_sdk.dialects.single_label import Side
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.generation import Capabilities, Completion, Message, Query
from guardreasoner_sdk.verdict import undetermined

__all__ = ["DynaGuardDialect"]

_WORDS = {"fail": True, "pass": False}
_ANSWER = re.compile(r"<answer>\s*+(?P<word>[^\s<]++)\s*+</answer>", re.IGNORECASE)
_OPENED = re.compile(r"\s*+(?P<word>[^\s<]++)\s*+(?:</answer>|\Z)", re.IGNORECASE)
_SECTIONS = marks("< /? (?:rules|transcript|answer|think|explanation)>", "'? (?:user|agent) '? [:\uff1a]")
_NUMBERED = re.compile(r"\s*1[.)]")


class DynaGuardDialect(SidesDialect):
    """Asks and reads a DynaGuard.

    It judges the response alone, by the application's rules: one that breaks any of them is harmful. It names no categories.
    ``full`` has it reason about the rules before it answers, ``off`` answer at once; a server that cannot go on from the
    beginning of an answer lets it do either.

    Args:
        policy_text: the rules for the response, one on a line, with numbers or without; None for a general notion of harm. It
            is trusted.

    Raises:
        ConfigurationError: the policy is no text, or blank.

    Example:
        >>> from guardreasoner_sdk import Exchange
        >>> from guardreasoner_sdk.dialects import DynaGuardDialect
        >>> from guardreasoner_sdk.generation import Capabilities
        >>> program = DynaGuardDialect().ask(Exchange("How do I bake bread?", "With flour."), "off", Capabilities())
        >>> [query] = next(program)  # what the engine is asked; the answer is sent in return
        >>> bool(query.pieces or query.messages)
        True
    """

    name = "dynaguard"
    wire = "dynaguard"
    judges = ("response_harmfulness",)
    modes = ("auto", "full", "off")

    def __init__(self, policy_text: str | None = None) -> None:
        check_policy(policy_text)
        rules = [rule.strip() for rule in (GENERAL_HARM if policy_text is None else policy_text).splitlines() if rule.strip()]
        numbered = _NUMBERED.match(rules[0])
        self.policy = "\n".join(rules if numbered else [f"{number}. {rule}" for number, rule in enumerate(rules, 1)])

    def query(self, side: Side, exchange: Exchange, reasoning: Reasoning, capabilities: Capabilities) -> Query:
        """Ask about the response; the beginning of the answer decides whether reasoning comes first."""
        wire = self.published
        said = {"prompt": fold_history(exchange, _SECTIONS), "response": quote(exchange.response or "", _SECTIONS)}
        user = wire.fill("user", {"policy": self.policy, **said}, sections={"conversation": "response side"})
        messages = (Message.of("system", wire.fill("system")), Message.of("user", user))
        if not capabilities.continues:
            return Query(messages=messages, max_tokens=1000, choices=CHOICES)
        think = reasoning == "full"
        return Query(
            messages=messages,
            template={"enable_thinking": think},
            opening="\n<think>" if think else "<answer>\n",
            max_tokens=1000 if think else 8,
            choices=CHOICES,
        )

    def read(self, title: str, query: Query, answer: Completion, exchange: Exchange, start: int) -> Reading:
        """Read what stands between the tags."""
        task = TASK_OF[title]
        if query.opening.startswith("<answer>"):
            found = _OPENED.match(answer.text)
            return Reading({task: read_word(answer, [found] if found else [], _WORDS, task, start)})
        parts = beyond_reasoning(answer, opened=bool(query.opening))
        if isinstance(parts, str):
            return Reading({task: undetermined(parts)})
        place, begin = parts
        finding = read_word(answer, list(_ANSWER.finditer(answer.text, begin)), _WORDS, task, start)
        return Reading({task: finding}, reasoning=tuple(thoughts(answer.text, place, start, task)))
