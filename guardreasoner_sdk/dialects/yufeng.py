"""YuFeng-XGuard-Reason (arXiv:2601.15588 and its card): the first token is the category, and an explanation follows it.

The chat template writes the request; its variables are ``policy``, further categories of the application, and
``reason_first``, which turns the order round. ``sec`` is the category of what is safe.
"""

from __future__ import annotations

import re

from guardreasoner_sdk.dialects.answers import thoughts
from guardreasoner_sdk.dialects.base import Reasoning
from guardreasoner_sdk.dialects.probabilities import CHOICES, share_of
from guardreasoner_sdk.dialects.published import TASK_OF, Reading, SidesDialect, check_policy
from guardreasoner_sdk.dialects.quoting import marks, quote
from guardreasoner_sdk.dialects.single_label import Side, span, turns, unreadable
from guardreasoner_sdk.errors import ConfigurationError
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.generation import Capabilities, Completion, Message, Query
from guardreasoner_sdk.verdict import LABELS, Finding, Span, undetermined

__all__ = ["CATEGORIES", "YuFengXGuardDialect"]

SAFE = "sec"
CATEGORIES = {
    "pc": "Pornographic Contraband",
    "dc": "Drug Crimes",
    "dw": "Dangerous Weapons",
    "pi": "Property Infringement",
    "ec": "Economic Crimes",
    "ac": "Abusive Curses",
    "def": "Defamation",
    "ti": "Threats and Intimidation",
    "cy": "Cyberbullying",
    "ph": "Physical Health",
    "mh": "Mental Health",
    "se": "Social Ethics",
    "sci": "Science Ethics",
    "pp": "Personal Privacy",
    "cs": "Commercial Secret",
    "acc": "Access Control",
    "mc": "Malicious Code",
    "ha": "Hacker Attack",
    "ps": "Physical Security",
    "ter": "Violent Terrorist Activities",
    "sd": "Social Disruption",
    "ext": "Extremist Ideological Trends",
    "fin": "Finance",
    "med": "Medicine",
    "law": "Law",
    "cm": "Corruption of Minors",
    "ma": "Minor Abuse and Exploitation",
    "md": "Minor Delinquency",
}
"""The categories of what is not safe, by id."""

_RULE = re.compile(r"^[ \t]*-[ \t]*(?P<id>[a-z]{1,8})[ \t]*:[ \t]*(?P<text>\S.*)$", re.MULTILINE)
_FIRST = re.compile(
    r"\s*+(?P<word>[^\s<]++)\s*+(?:<explanation>(?P<why>.*?)(?:</explanation>\s*+)?)?\Z", re.DOTALL | re.IGNORECASE
)
_LAST = re.compile(r"\s*+<explanation>(?P<why>.*)</explanation>\s*+(?P<word>[^\s<]++)\s*+\Z", re.DOTALL | re.IGNORECASE)
_SECTIONS = marks("< /? explanation>", "(?:user|assistant) [:\uff1a]")


class YuFengXGuardDialect(SidesDialect):
    """Asks and reads a YuFeng-XGuard-Reason.

    It judges harm, of the prompt and of the response, and names a category; it does not say whether the response refuses.
    ``off`` costs one token; ``brief`` has it explain the category that it gave, ``full`` give reasons first.

    Args:
        policy_text: categories of your own, a line ``- id: what it is`` each, with ids of lower-case letters that are one
            token. An id of the model's own changes what that one means. It is trusted.

    Raises:
        ConfigurationError: the policy is no text, or holds no such line.

    Example:
        >>> from guardreasoner_sdk import Exchange
        >>> from guardreasoner_sdk.dialects import YuFengXGuardDialect
        >>> from guardreasoner_sdk.generation import Capabilities
        >>> program = YuFengXGuardDialect().ask(Exchange("How do I bake bread?"), "off", Capabilities())
        >>> [query] = next(program)  # what the engine is asked; the answer is sent in return
        >>> bool(query.pieces or query.messages)
        True
    """

    name = "yufeng-xguard"
    modes = ("auto", "full", "brief", "off")

    def __init__(self, policy_text: str | None = None) -> None:
        check_policy(policy_text)
        own = {rule["id"]: rule["text"].strip() for rule in _RULE.finditer(policy_text or "")}
        if policy_text is not None and (not own or SAFE in own):
            raise ConfigurationError(
                f"policy_text: {self.name} takes lines such as '- a: Advice on medicines', with an id other than {SAFE!r}"
            )
        self.policy = policy_text
        self._names = {**CATEGORIES, **own}

    def query(self, side: Side, exchange: Exchange, reasoning: Reasoning, capabilities: Capabilities) -> Query:
        """Ask about one part: the chat ends with it."""
        messages = turns(exchange, _SECTIONS)
        if side == "response":
            messages = (*messages, Message("assistant", quote(exchange.response or "", _SECTIONS)))
        return Query(
            messages=messages,
            template={"policy": self.policy, "reason_first": reasoning == "full"},
            max_tokens=1 if reasoning == "off" else 512,
            choices=CHOICES,
        )

    def read(self, title: str, query: Query, answer: Completion, exchange: Exchange, start: int) -> Reading:
        """Read the category, and the explanation behind it or in front of it."""
        task = TASK_OF[title]
        first = bool(query.template["reason_first"])
        found = _LAST.match(answer.text) if first else _FIRST.match(answer.text)
        word = found["word"].lower() if found else ""
        if found is None or (word != SAFE and word not in self._names):
            return Reading({task: unreadable(answer, "a category", found["word"] if found else None)})
        if first and answer.finish_reason == "length":
            return Reading({task: undetermined("the answer was cut off before it ended")})
        meanings = {**dict.fromkeys(self._names, True), SAFE: False}
        there = None if answer.choices is None else answer.choices.at(found.start("word"))
        finding = Finding(
            label=LABELS[task][word == SAFE],
            score=None if there is None else share_of(there[1], meanings),
            span=span(found, start),
        )
        place = Span(source="raw", start=max(0, found.start("why")), end=max(0, found.end("why")))
        steps = tuple(thoughts(answer.text, place, start, task)) if found["why"] else ()
        return Reading({task: finding}, () if word == SAFE else (self._names[word],), steps)
