"""Qwen3Guard-Gen (arXiv:2510.14276): safe, controversial or unsafe, and whether a response refuses.

The model's own chat template holds the policy; ``messages`` is all it needs. It judges the last turn, so that a prompt with its
response is two queries. The answer is three lines (QwenLM/Qwen3Guard): ``Safety: Safe | Unsafe | Controversial``,
``Categories: ...``, and for a response ``Refusal: Yes | No``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from guardreasoner_sdk.dialects.base import Answer, JudgementProgram, Reasoning
from guardreasoner_sdk.dialects.probabilities import CHOICES, label_probability
from guardreasoner_sdk.dialects.single_label import CONVERSATION, Side, join_answers, sides, span, unreadable
from guardreasoner_sdk.errors import BackendError, ConfigurationError
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.generation import Capabilities, Completion, TokenProbabilities
from guardreasoner_sdk.verdict import TASKS, Finding, Judgement, Task, undetermined

__all__ = ["CATEGORIES", "Controversial", "Qwen3GuardDialect"]

Controversial = Literal["undetermined", "harmful", "unharmful"]

CATEGORIES = (
    "Violent",
    "Non-violent Illegal Acts",
    "Sexual Content or Sexual Acts",
    "PII",
    "Suicide & Self-Harm",
    "Unethical Acts",
    "Politically Sensitive Topics",
    "Copyright Violation",
    "Jailbreak",
)
"""The categories of the model card; the last one for prompts only."""

_MAX_TOKENS = 128
_MARKS = r"[ \t\r*_`\"']*+"
_AFTER = re.compile(rf"(?:{_MARKS}[.,;]?{_MARKS}(?:$|<|(?:safety|categor(?:y|ies)|refusal)\b)|[ \t]*\()", re.IGNORECASE)


def _field(name: str) -> re.Pattern[str]:
    return re.compile(
        rf"(?:^|(?<=[,;.|]))[ \t>#*_`\"'-]*+{name}{_MARKS}[:=]{_MARKS}(?P<word>[^\s,;.*_`\"'<(]++)(?P<after>[^\n]*)",
        re.IGNORECASE | re.MULTILINE,
    )


_SAFETY, _REFUSAL = _field("safety"), _field("refusal")
_NAMED = re.compile(rf"^[ \t>#*_`\"'-]*+categor(?:y|ies){_MARKS}:(?P<line>[^\n]*)", re.IGNORECASE | re.MULTILINE)


class Qwen3GuardDialect:
    """Asks and reads a Qwen3Guard-Gen. Its streaming variant has no generated answer and is another matter.

    It judges all three tasks. Categories are those of the prompt and the response together. It does not reason.

    Args:
        controversial: what ``Controversial`` means, "harmful or not depending on the context or the application's policy":
            ``undetermined`` (the policy of the guard then decides), ``harmful`` or ``unharmful``. Where it has a meaning, its
            probability counts for that label in the score too; otherwise the score is P(Unsafe) against P(Safe).

    Raises:
        ConfigurationError: no such meaning.

    Example:
        >>> from guardreasoner_sdk import Exchange
        >>> from guardreasoner_sdk.dialects import Qwen3GuardDialect
        >>> from guardreasoner_sdk.generation import Capabilities
        >>> program = Qwen3GuardDialect().ask(Exchange("How do I bake bread?"), "off", Capabilities())
        >>> [query] = next(program)  # what the engine is asked; the answer is sent in return
        >>> bool(query.pieces or query.messages)
        True
    """

    name = "qwen3guard"
    judges: tuple[Task, ...] = TASKS
    modes: tuple[Reasoning, ...] = ("auto", "off")

    def __init__(self, controversial: Controversial = "undetermined") -> None:
        if controversial not in ("undetermined", "harmful", "unharmful"):
            known = "'undetermined', 'harmful' or 'unharmful'"
            raise ConfigurationError(f"controversial: {controversial!r} is unknown; use {known}")
        self.controversial: Controversial = controversial

    def ask(self, exchange: Exchange, reasoning: Reasoning, capabilities: Capabilities) -> JudgementProgram:
        """Begin a judgement.

        Args:
            exchange: what is judged; its history becomes earlier turns of the chat.
            reasoning: ignored: this model gives none.
            capabilities: ignored: every engine can do what is asked.
        """
        queries = sides(exchange, CONVERSATION, max_tokens=_MAX_TOKENS, choices=CHOICES)
        answers: dict[Side, Answer] = dict(zip(queries, (yield tuple(queries.values())), strict=True))
        sheet = join_answers(answers)
        safety = {side: self._safety(answer, sheet.starts[side]) for side, answer in answers.items()}
        named = {name for answer in answers.values() if isinstance(answer, Completion) for name in _categories(answer.text)}
        return Judgement(
            prompt_harmfulness=safety["prompt"],
            response_refusal=_refusal(answers["response"], sheet.starts["response"]) if "response" in answers else None,
            response_harmfulness=safety.get("response"),
            categories=tuple(name for name in CATEGORIES if name in named),
            usage=sheet.usage,
            raw=sheet.raw,
        )

    def _safety(self, answer: Answer, start: int) -> Finding:
        found = _value(answer, _SAFETY, ("safe", "unsafe", "controversial"))
        if isinstance(found, Finding):
            return found
        word = found["word"].lower()
        if word == "controversial" and self.controversial == "undetermined":
            return undetermined("the answer is 'Controversial'; the option controversial='harmful' or 'unharmful' decides it")
        harmful = word == "unsafe" or (word == "controversial" and self.controversial == "harmful")
        return Finding(
            label="harmful" if harmful else "unharmful",
            score=self._score(answer, found),
            span=span(found, start),
        )

    def _score(self, answer: Answer, found: re.Match[str]) -> float | None:
        choices = answer.choices if isinstance(answer, Completion) else None
        if choices is not None and self.controversial != "undetermined":
            choices = _read_as(choices, "Unsafe" if self.controversial == "harmful" else "Safe")
        return label_probability(choices, found.string, found.start("word"), "Unsafe", "Safe")


def _read_as(choices: TokenProbabilities, meaning: str) -> TokenProbabilities:
    """The probabilities with those of the tokens that begin ``Controversial`` given to another word."""

    def alternatives(number: int) -> Mapping[str, float]:
        merged: dict[str, float] = {}
        for token, probability in choices.alternatives(number).items():
            word = token.strip().lower()
            key = meaning if word and ("controversial".startswith(word) or word.startswith("controversial")) else token
            merged[key] = merged.get(key, 0.0) + probability
        return merged

    return TokenProbabilities(choices.starts, alternatives)


def _value(answer: Answer, field: re.Pattern[str], words: tuple[str, ...]) -> re.Match[str] | Finding:
    """The one place where a field is given one of its words, or the finding that says why there is none."""
    if isinstance(answer, BackendError):
        return undetermined(str(answer))
    expected = ", ".join(word.capitalize() for word in words[:-1]) + f" or {words[-1].capitalize()}"
    found = list(field.finditer(answer.text))
    if not found:
        return unreadable(answer, expected)
    for place in found:
        if place["word"].lower() not in words:
            return unreadable(answer, expected, place["word"])
        if not _AFTER.match(place["after"]):
            return undetermined("the answer goes on where a label ends")
    said = sorted({place["word"].capitalize() for place in found})
    if len(said) > 1:
        return undetermined(f"the answer gives both {' and '.join(said)}")
    return found[0]


def _refusal(answer: Answer, start: int) -> Finding:
    found = _value(answer, _REFUSAL, ("yes", "no"))
    if isinstance(found, Finding):
        return found
    choices = answer.choices if isinstance(answer, Completion) else None
    return Finding(
        label="refusal" if found["word"].lower() == "yes" else "compliance",
        score=label_probability(choices, found.string, found.start("word"), "Yes", "No"),
        span=span(found, start),
    )


def _categories(text: str) -> set[str]:
    known = {name.lower(): name for name in CATEGORIES}
    said = (name.strip(" \t\r.*_`\"'").lower() for found in _NAMED.finditer(text) for name in found["line"].split(","))
    return {known[name] for name in said if name in known}
