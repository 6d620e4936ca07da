"""Llama Guard 3 and 4 (arXiv:2312.06674 and their model cards): is the last turn of a conversation safe?

The model's own chat template lists the categories and writes the conversation; ``messages`` is all it needs. It judges the
last turn, so that a prompt with its response is two queries. The answer is ``safe``, or ``unsafe`` and on the next line the
codes of the violated categories; blank lines may come before it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from guardreasoner_sdk.dialects.base import Answer, JudgementProgram, Reasoning
from guardreasoner_sdk.dialects.hazards import HAZARDS, hazard
from guardreasoner_sdk.dialects.probabilities import CHOICES, label_probability
from guardreasoner_sdk.dialects.single_label import CONVERSATION, join_answers, sides, span, unreadable
from guardreasoner_sdk.errors import BackendError, ConfigurationError
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.generation import Capabilities, Completion
from guardreasoner_sdk.verdict import Finding, Judgement, undetermined

__all__ = ["LABEL_TOKENS", "LlamaGuardDialect", "SafetyAnswer", "read_safety"]

LABEL_TOKENS = 64
"""Most tokens of a label and its categories; all fourteen codes take 43."""

_MARKS = r"[ \t\r*_`\"']*+"
_LABEL = re.compile(
    rf"[\s#*_`\"'>-]*+(?:safety[ \t]+assessment{_MARKS}:{_MARKS})?(?P<word>[^\s,;:.*_`\"'(<]++)",
    re.IGNORECASE,
)
# The label is the whole statement: nothing follows on its line, or codes, or (of ThinkGuard) a sentence of its own.
_AFTER = re.compile(rf"{_MARKS}(?:$|<|[.(]|[,-]?[ \t]*S\d)", re.IGNORECASE | re.MULTILINE)
_OTHER = re.compile(
    rf"(?:{_MARKS}[.,;:(/|]?{_MARKS}(?:or[ \t]++)?{_MARKS}|\s++[>#*_-]*+)(?P<word>(?:un)?safe){_MARKS}[.)]?{_MARKS}$",
    re.IGNORECASE | re.MULTILINE,
)
_LEAD = r"[\s,;:.*_`\"'-]*+"
_HEADING = rf"(?:violated[ \t]+)?categor(?:y|ies){_MARKS}:{_MARKS}"
_CODES = re.compile(rf"{_LEAD}(?:{_HEADING})?(?=S\d{{1,2}}\b)", re.IGNORECASE)
# The templates name three of the categories in fewer words than the cards do.
_NAMES = "|".join(re.escape(name) for name in (*HAZARDS.values(), "Sex Crimes", "Child Exploitation", "Self-Harm"))
_CODE = re.compile(
    rf"[\s,;.*_`\"'-]*+(?:and[ \t]+)?S(?P<number>\d{{1,2}})\b(?:[ \t]*+[:.)-]?+[ \t]*+(?:{_NAMES})\b)?", re.IGNORECASE
)
_CODE_AT_END = re.compile(r"S\d++\Z")
_NAMED = re.compile(rf"{_LEAD}{_HEADING}(?P<line>[^\n]*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class SafetyAnswer:
    """What an answer says.

    Args:
        finding: harmful for ``unsafe``, unharmful for ``safe``.
        categories: the violated ones.
        rest: the place in the answer where label and categories end.
    """

    finding: Finding
    categories: tuple[str, ...] = ()
    rest: int = 0


def read_safety(answer: Answer, start: int) -> SafetyAnswer:
    """Read one answer.

    Args:
        answer: what the engine gave.
        start: where it begins in the judgement's raw text.
    """
    if isinstance(answer, BackendError):
        return SafetyAnswer(undetermined(str(answer)))
    text = answer.text
    label = _LABEL.match(text)
    word = label["word"].lower() if label else None
    if label is None or word not in ("safe", "unsafe"):
        return SafetyAnswer(unreadable(answer, "safe or unsafe", label["word"] if label else None))
    if not _AFTER.match(text, label.end()):
        return SafetyAnswer(undetermined("the answer goes on where a label ends"))
    other = _OTHER.match(text, label.end())
    if other is not None and other["word"].lower() != word:
        return SafetyAnswer(undetermined("the answer gives both safe and unsafe"))
    finding = Finding(
        label="harmful" if word == "unsafe" else "unharmful",
        score=label_probability(answer.choices, text, label.start("word"), "unsafe", "safe"),
        span=span(label, start),
    )
    return SafetyAnswer(finding, *_categories(answer, label.end()))


def _categories(answer: Completion, at: int) -> tuple[tuple[str, ...], int]:
    """The categories behind a label, and where they end."""
    text = answer.text
    if (codes := _CODES.match(text, at)) is not None:
        found, end = [], codes.end()
        while (code := _CODE.match(text, end)) is not None:
            found.append(f"S{int(code['number'])}")
            end = code.end()
        if answer.finish_reason == "length" and end == len(text) and _CODE_AT_END.search(text):
            # "S1" at the very end may be the beginning of "S14".
            found.pop()
        return tuple(dict.fromkeys(hazard(code) for code in found)), end
    if (named := _NAMED.match(text, at)) is not None:
        said = {name.strip(" \t.*_`\"'").lower() for name in named["line"].split(",")}
        return tuple(hazard(code) for code, name in HAZARDS.items() if name.lower() in said), named.end()
    return (), at


class LlamaGuardDialect:
    """Asks and reads a Llama Guard.

    It judges harm, of the prompt and of the response; it does not say whether the response refuses. Categories are those of
    the prompt and the response together. It does not reason.

    Args:
        version: 3 or 4; both are asked and read in the same way.

    Raises:
        ConfigurationError: another version. Their categories are others.
    """

    def __init__(self, version: Literal[3, 4] = 3) -> None:
        if version not in (3, 4):
            raise ConfigurationError(f"version: {version!r} is unknown; use 3 or 4")
        self.version = version

    @property
    def name(self) -> str:
        """``llama-guard-3`` or ``llama-guard-4``."""
        return f"llama-guard-{self.version}"

    def ask(self, exchange: Exchange, reasoning: Reasoning, capabilities: Capabilities) -> JudgementProgram:
        """Begin a judgement.

        Args:
            exchange: what is judged; its history becomes earlier turns of the chat.
            reasoning: ignored: this model gives none.
            capabilities: ignored: every engine can do what is asked.
        """
        queries = sides(exchange, CONVERSATION, max_tokens=LABEL_TOKENS, choices=CHOICES)
        answers = dict(zip(queries, (yield tuple(queries.values())), strict=True))
        sheet = join_answers(answers)
        readings = {side: read_safety(answer, sheet.starts[side]) for side, answer in answers.items()}
        return Judgement(
            prompt_harmfulness=readings["prompt"].finding,
            response_harmfulness=readings["response"].finding if "response" in readings else None,
            categories=tuple(dict.fromkeys(name for reading in readings.values() for name in reading.categories)),
            usage=sheet.usage,
            raw=sheet.raw,
        )
