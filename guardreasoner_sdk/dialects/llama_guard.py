"""Llama Guard 1 to 4 (arXiv:2312.06674 and their model cards): is the last turn of a conversation safe?

The model's own chat template lists the categories and writes the conversation; ``messages`` is all it needs. It judges the
last turn, so that a prompt with its response is two queries. The answer is ``safe``, or ``unsafe`` and on the next line the
codes of the violated categories; blank lines may come before it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from guardreasoner_sdk.dialects.base import Answer, Reasoning
from guardreasoner_sdk.dialects.hazards import LLAMA_GUARD_1, LLAMA_GUARD_2, MLCOMMONS, Taxonomy
from guardreasoner_sdk.dialects.probabilities import CHOICES, label_probability
from guardreasoner_sdk.dialects.published import TASK_OF, Reading, SidesDialect
from guardreasoner_sdk.dialects.single_label import CONVERSATION, Side, sides, span, unreadable
from guardreasoner_sdk.errors import BackendError, ConfigurationError
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.generation import Capabilities, Completion, Query
from guardreasoner_sdk.verdict import Finding, undetermined

__all__ = ["LABEL_TOKENS", "LlamaGuardDialect", "SafetyAnswer", "read_safety"]

LABEL_TOKENS = 64
"""Most tokens of a label and its categories; all fourteen codes take 43."""

_MARKS = r"[ \t\r*_`\"']*+"
_LABEL = re.compile(
    rf"[\s#*_`\"'>-]*+(?:safety[ \t]+assessment{_MARKS}:{_MARKS})?(?P<word>[^\s,;:.*_`\"'(<]++)",
    re.IGNORECASE,
)
# The label is the whole statement: nothing follows on its line, or codes, or (of ThinkGuard) a sentence of its own.
_AFTER = re.compile(rf"{_MARKS}(?:$|<|[.(]|[,-]?[ \t]*[SO]\d)", re.IGNORECASE | re.MULTILINE)
_OTHER = re.compile(
    rf"(?:{_MARKS}[.,;:(/|]?{_MARKS}(?:or[ \t]++)?{_MARKS}|\s++[>#*_-]*+)(?P<word>(?:un)?safe){_MARKS}[.)]?{_MARKS}$",
    re.IGNORECASE | re.MULTILINE,
)
_LEAD = r"[\s,;:.*_`\"'-]*+"
_HEADING = rf"(?:violated[ \t]+)?categor(?:y|ies){_MARKS}:{_MARKS}"
_NAMED = re.compile(rf"{_LEAD}{_HEADING}(?P<line>[^\n]*)", re.IGNORECASE)


_TAXONOMIES = {1: LLAMA_GUARD_1, 2: LLAMA_GUARD_2, 3: MLCOMMONS, 4: MLCOMMONS}


_LETTERS = sorted({taxonomy.letter for taxonomy in _TAXONOMIES.values()})
_NAMES = "|".join(
    re.escape(name)
    for name in dict.fromkeys(
        name for taxonomy in _TAXONOMIES.values() for name in (*taxonomy.names.values(), *taxonomy.aliases)
    )
)
# By the letter of the codes: where they begin, one of them with its name if that is given, and one at the very end.
_BEGIN = {letter: re.compile(rf"{_LEAD}(?:{_HEADING})?(?={letter}\d{{1,2}}\b)", re.IGNORECASE) for letter in _LETTERS}
_CODE = {
    letter: re.compile(
        rf"[\s,;.*_`\"'-]*+(?:and[ \t]+)?{letter}(?P<number>\d{{1,2}})\b(?:[ \t]*+[:.)-]?+[ \t]*+(?:{_NAMES})\b)?",
        re.IGNORECASE,
    )
    for letter in _LETTERS
}
_CODE_AT_END = {letter: re.compile(rf"{letter}\d++\Z") for letter in _LETTERS}


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


def read_safety(answer: Answer, start: int, taxonomy: Taxonomy = MLCOMMONS) -> SafetyAnswer:
    """Read one answer.

    Args:
        answer: what the engine gave.
        start: where it begins in the judgement's raw text.
        taxonomy: the categories that it may name.
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
    return SafetyAnswer(finding, *_categories(answer, label.end(), taxonomy))


def _categories(answer: Completion, at: int, taxonomy: Taxonomy) -> tuple[tuple[str, ...], int]:
    """The categories behind a label, and where they end."""
    text = answer.text
    letter = taxonomy.letter
    if (codes := _BEGIN[letter].match(text, at)) is not None:
        found, end = [], codes.end()
        while (code := _CODE[letter].match(text, end)) is not None:
            found.append(f"{letter}{int(code['number'])}")
            end = code.end()
        if answer.finish_reason == "length" and end == len(text) and _CODE_AT_END[letter].search(text):
            # "S1" at the very end may be the beginning of "S14".
            found.pop()
        return tuple(dict.fromkeys(taxonomy.label(code) for code in found)), end
    if (named := _NAMED.match(text, at)) is not None:
        said = {taxonomy.find(name) for name in named["line"].split(",")}
        return tuple(label for code in taxonomy.names if (label := taxonomy.label(code)) in said), named.end()
    return (), at


class LlamaGuardDialect(SidesDialect):
    """Asks and reads a Llama Guard.

    It judges harm, of the prompt and of the response; it does not say whether the response refuses. Categories are those of
    the prompt and the response together. It does not reason.

    Args:
        version: 1 to 4; all are asked and read in the same way, and name categories of their own. Version 4 sees images.

    Raises:
        ConfigurationError: another version.

    Example:
        >>> from guardreasoner_sdk import Exchange
        >>> from guardreasoner_sdk.dialects import LlamaGuardDialect
        >>> from guardreasoner_sdk.generation import Capabilities
        >>> program = LlamaGuardDialect().ask(Exchange("How do I bake bread?"), "off", Capabilities())
        >>> [query] = next(program)  # what the engine is asked; the answer is sent in return
        >>> bool(query.pieces or query.messages)
        True
    """

    def __init__(self, version: Literal[1, 2, 3, 4] = 3) -> None:
        if version not in _TAXONOMIES:
            raise ConfigurationError(f"version: {version!r} is unknown; use 1, 2, 3 or 4")
        self.version = version
        self.name = f"llama-guard-{version}"
        self.sees_images = version == 4

    def query(self, side: Side, exchange: Exchange, reasoning: Reasoning, capabilities: Capabilities) -> Query:
        """Ask about one part: the chat ends with it, and its history becomes earlier turns."""
        return sides(exchange, CONVERSATION, max_tokens=LABEL_TOKENS, choices=CHOICES)[side]

    def read(self, title: str, query: Query, answer: Completion, exchange: Exchange, start: int) -> Reading:
        """Read the label and the codes behind it."""
        safety = read_safety(answer, start, _TAXONOMIES[self.version])
        return Reading({TASK_OF[title]: safety.finding}, safety.categories)
