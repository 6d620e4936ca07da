"""Which passages carry a finding: the phrases around the tokens that score highest.

The model scores each token of a text, and the strongest decide (:mod:`guardreasoner_sdk.judges.embedded`); so the pass that
judges a text tells where in it the finding comes from. What is said is a measurement of the model, not its chain of thought.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from guardreasoner_sdk.verdict import LABELS, ReasoningStep, Span, Task

__all__ = ["Token", "evidence", "phrases", "probability", "sentence"]

Token = tuple[int, int, float]
"""A token of a judged text: its first character, the one after its last, and its logit."""

_MOST_LOGIT = 700.0  # beyond it the exponential is no number
_MOST_STEPS = 3
_LONGEST = 120
"""Characters of a passage, and of a quotation."""
_NEAR = 400
"""Characters on either side of a word within which its sentence ends."""
_UNPARTED = 30
"""Characters of a word from which on it is no word, but a text of a script that parts none, or something like an address."""
_BELOW = 1.5
"""Logits below the strongest phrase, within which another one carries a finding as it does."""
_MANY = 8
"""Phrases of a text, of which no single one stands out where more than half carry a finding alike."""


@dataclass(frozen=True, slots=True)
class _Phrase:
    start: int
    end: int
    sentence: int
    logit: float


def evidence(
    task: Task,
    source: Literal["prompt", "response"],
    text: str,
    stretches: Sequence[Sequence[Token]],
    *,
    least: float | None,
    before: str = "",
    place: Callable[[int, int], tuple[int, int] | None] = lambda start, end: (start, end),
) -> list[ReasoningStep]:
    """Name the passages that carry a finding, the strongest first, three at most.

    Args:
        source: whether the text is the prompt or the response.
        stretches: the tokens that the strongest windows showed, each stretch in order, the stretches in order and apart.
        least: the logit from which on the finding's first label holds; None where it does not: then the passage that comes
            nearest is named.
        before: how the text was read, for the beginning of a step: "Behind earlier turns, ".
        place: where a stretch of the text is in what the caller gave; None: it cannot be said.
    """
    found = [
        phrase
        for tokens in stretches
        if (spoken := [token for token in tokens if token[0] < token[1]])
        for phrase in _scored(text, spoken)
    ]
    if not found:
        return []

    def step(said: str, logit: float, start: int, end: int) -> ReasoningStep:
        places = place(start, end)
        span = None if places is None else Span(source=source, start=places[0], end=places[1])
        shown = said.format(_quote(text[start:end]), _chance(logit))
        return ReasoningStep(task=task, kind="evidence", text=f"{before}{shown}", span=span, weight=probability(logit))

    name = f"P({LABELS[task][0]})"
    top = max(found, key=lambda phrase: phrase.logit)
    if least is None:
        return [step(f"{{}} comes nearest: {name} there is {{}}.", top.logit, top.start, top.end)]
    high = {place for place, phrase in enumerate(found) if phrase.logit >= max(least, top.logit - _BELOW)}
    if len(found) >= _MANY and 2 * len(high) > len(found):
        low = _chance(min(found[place].logit for place in high))
        said = (
            f"No single passage stands out: {name} is {low} or more in {len(high)} of {len(found)} phrases; "
            "{} has the highest, {}."
        )
        return [step(said, top.logit, top.start, top.end)]
    carrying = islice(_joined(found, high or {found.index(top)}), _MOST_STEPS)
    return [step(f"{{}} carries it: {name} there is {{}}.", one.logit, one.start, one.end) for one in carrying]


def phrases(text: str, start: int, end: int) -> list[list[tuple[int, int]]]:
    """Cut a stretch of text into sentences, and these into phrases that mean something.

    What says nothing by itself (``I``, ``to the``) goes with what it belongs to: named alone it explains nothing. A sentence
    of nothing else is one phrase.

    Returns:
        for each sentence the places (start, end) of its phrases, blanks trimmed.
    """
    return [_phrases(text, _cut(text, *sentence, _BLANKS)) or [sentence] for sentence in _cut(text, start, end, _PASSAGE_END)]


def sentence(text: str, start: int, end: int) -> tuple[int, int]:
    """The sentence, or the line of a list, in which a stretch of text stands; of a very long one, what is near the stretch.

    What stands after a colon goes with what stands before it ("They told my son: ..."), and a line of wrapped prose with its
    neighbours.

    Returns:
        the place of the sentence (start, end), blanks trimmed.
    """
    first, last = max(0, start - _NEAR), min(len(text), end + _NEAR)
    for border in _BORDER.finditer(text, first, last):
        if border.end() <= start:
            first = border.end()
        elif border.start() >= end:
            last = border.start()
            break
    return _trimmed(text, first, last)


def _scored(text: str, tokens: Sequence[Token]) -> Iterator[_Phrase]:
    """The phrases of a stretch, each with the logit of its strongest token."""
    ahead = iter(tokens)
    token = next(ahead, None)
    last: Token | None = None
    for sentence in phrases(text, tokens[0][0], max(end for _, end, _ in tokens)):
        for start, end in sentence:
            own: list[Token] = []
            # A token that reaches over a border belongs to both sides.
            if last is not None and last[1] > start:
                own.append(last)
            while token is not None and token[0] < end:
                if token[1] > start:
                    own.append(token)
                last, token = token, next(ahead, None)
            if not own:
                continue
            if end - start > _UNPARTED and not _BLANKS.search(text, start, end):
                # A line without blanks is no phrase: its tokens are.
                yield from (_Phrase(max(a, start), min(b, end), sentence[0][0], logit) for a, b, logit in own)
            else:
                yield _Phrase(start, end, sentence[0][0], max(logit for _, _, logit in own))


def _joined(found: Sequence[_Phrase], high: set[int]) -> Iterator[_Phrase]:
    """Passages, the strongest first: phrases that carry a finding and are neighbours within a sentence, as far as one reads."""
    left = set(high)

    def passage(first: int, last: int) -> bool:
        own = found[first : last + 1]
        return own[0].sentence == own[-1].sentence and max(one.end for one in own) - own[0].start <= _LONGEST

    while left:
        first = last = top = max(left, key=lambda place: (found[place].logit, -place))
        left.discard(top)
        while True:
            wider = [
                (a, b) for a, b in ((first - 1, last), (first, last + 1)) if left & {a, b} - {first, last} and passage(a, b)
            ]
            if not wider:
                break
            first, last = max(wider, key=lambda place: found[place[0] if place[0] < first else place[1]].logit)
            left -= {first, last}
        end = max(one.end for one in found[first : last + 1])
        yield _Phrase(found[first].start, end, found[top].sentence, found[top].logit)


def _chance(logit: float) -> str:
    return f"{probability(logit):.2f}"


def probability(logit: float) -> float:
    """What a logit stands for, 0 to 1."""
    return 1.0 / (1.0 + math.exp(-max(-_MOST_LOGIT, logit)))


def _quote(text: str) -> str:
    shown = " ".join(text.split())
    return f'"{shown if len(shown) <= _LONGEST else shown[: _LONGEST - 1].rstrip() + "…"}"'


# What ends a sentence, and what may follow that. A run of blanks is looked at once, from its beginning: begun at each blank of
# it, a long one costs its square.
_ENDS = r".!?\u2026\u3002\uff01\uff0e\uff1f\u061f\u06d4\u0964"
_CLOSED = r"[\"'\u201d\u2019)\]]*+\s++|(?<=[\u3002\uff01\uff0e\uff1f])"
# Phrases end at colons, semicolons and the ends of lines, too.
_PASSAGE_END = re.compile(rf"(?<=[{_ENDS}:;]){_CLOSED}|\n++")
# A long line was wrapped, and its sentence goes on; after a short one, before a blank one or an item of a list, it ends.
_BORDER = re.compile(
    rf"(?<=[{_ENDS}]){_CLOSED}"
    r"|\n[ \t]*+\n\s*+|\n(?=[ \t]*+(?:[-*\u2022\u2013>#|]|\d{1,3}[.)]))|(?<![^\n]{50})\n++"
)
_BLANKS = re.compile(r"\s+")
_WORD = re.compile(r"[^\W_]+")
_FIRST_IDEOGRAPH = "\u2e80"
"""From here on, writing systems whose single characters are words."""
# What a phrase is held together with. None of these says by itself what is asked for.
_HOLDS_TOGETHER = (
    "a about after all also am an and any are as at be because been before being but by can could did do does doing don down"
    " each few for from get give had has have having he her here hers him his how i if in into is it its just let like may"
    " me might mine more most must my no nor not now of off on once only or other our out over own please same shall she"
    " should so some such than that the their them there these they this those through to too under until up upon us very"
    " was we were what when where which while who whom whose why will with without would you your"
)
_FUNCTION_WORDS = frozenset(_HOLDS_TOGETHER.split())


def _cut(text: str, start: int, end: int, pattern: re.Pattern[str]) -> list[tuple[int, int]]:
    pieces, at = [], start
    for border in pattern.finditer(text, start, end):
        pieces.append((at, border.start()))
        at = border.end()
    pieces.append((at, end))
    return [_trimmed(text, a, b) for a, b in pieces if text[a:b].strip()]


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """A stretch without the blanks at its ends."""
    return end - len(text[start:end].lstrip()), start + len(text[start:end].rstrip())


def _phrases(text: str, pieces: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join what carries no meaning to what follows it; at the end, to what it follows."""
    phrases: list[tuple[int, int]] = []
    begun: int | None = None
    for a, b in pieces:
        begun = a if begun is None else begun
        if _carries(text, a, b):
            phrases.append((begun, b))
            begun = None
    if begun is not None and phrases:
        phrases[-1] = (phrases[-1][0], pieces[-1][1])
    return phrases


def _carries(text: str, start: int, end: int) -> bool:
    """Whether a stretch holds a word that says something: three letters and no function word, or a character that is a word."""
    return any(
        found[0] >= _FIRST_IDEOGRAPH or (len(found[0]) > 2 and found[0].lower() not in _FUNCTION_WORDS)
        for found in _WORD.finditer(text, start, end)
    )
