"""Which passages carry a finding: leave each out and see how far the score falls; where it does not fall, judge each alone.

This is occlusion (Zeiler and Fergus 2014, arXiv:1311.2901, section 4.2; Li et al. 2016, arXiv:1612.08220), with phrases as
the parts left out. What is said is a measurement of the model, not its chain of thought.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from guardreasoner_sdk.verdict import LABELS, ReasoningStep, Span, Task

__all__ = ["MOST_PARTS", "Passage", "Probe", "Row", "behind_first_sentence", "parts", "probe", "stretch"]

Row = tuple[Sequence[str], str | None, str | None]
"""What is scored: prompts of which the most harmful counts, the prompt of the response, the response."""

Scores = Mapping[Task, float]

MOST_PARTS = 8
_SHORT = 1000
_LONGEST_WORD = 60
_LEAST_FALL = 0.05
_MOST_STEPS = 3
_QUOTED = 120


@dataclass(frozen=True, slots=True)
class Passage:
    """The text whose parts are left out.

    Args:
        source: whether it is the prompt or the response.
        text: it.
        row: turns a variant of it into a row to score.
        hottest: where in the text the window lies that decided, as shares of its length (0 to 1).
        beside: further rows to score, each with what it stands for: "without the prompt".
    """

    source: Literal["prompt", "response"]
    text: str
    row: Callable[[str], Row]
    hottest: tuple[float, float] = (0.0, 1.0)
    beside: Mapping[str, Row] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Probe:
    """Which variants of a text are to be judged in order to explain its findings; see :func:`probe`.

    Args:
        passage: the text judged.
        scores: of the tasks to explain, what the whole text got.
        start: the first character that is looked into.
        end: the character after the last one.
        cut: the parts that are left out in turn.
    """

    passage: Passage
    scores: Scores
    start: int
    end: int
    cut: Sequence[tuple[int, int]]

    @property
    def rows(self) -> list[Row]:
        """The variants to score, in the order in which :meth:`steps` wants their scores."""
        text = self.passage.text
        variants = [text[self.start : self.end]] * self._in_part
        variants += [_without(text, self.start, self.end, a, b) for a, b in self.cut]
        variants += [text[a:b] for a, b in self._alone]
        return [*map(self.passage.row, variants), *self.passage.beside.values()]

    def steps(self, found: Sequence[Scores]) -> list[ReasoningStep]:
        """What the scores of the variants say.

        Args:
            found: for each of the rows.

        Returns:
            at most three passages for each task, and a step for each of ``beside``.
        """
        before = found[0] if self._in_part else self.scores
        after = found[self._in_part : self._in_part + len(self.cut)]
        # Of two passages, either is what is left without the other one.
        alone = found[self._in_part + len(self.cut) :][: len(self._alone)] or after[::-1]
        where = f" within characters {self.start} to {self.end} of the {self.passage.source}" if self._in_part else ""
        steps: list[ReasoningStep] = []
        for task, score in self.scores.items():
            if self.cut:
                scored = [
                    (left[task], by_itself[task], span) for left, by_itself, span in zip(after, alone, self.cut, strict=True)
                ]
                steps += _steps(task, self.passage, before[task], scored, where)
            for what, row in zip(self.passage.beside, found[len(found) - len(self.passage.beside) :], strict=True):
                text = f"Judged {what}, {_name(task)} is {row[task]:.2f} instead of {score:.2f}."
                steps.append(ReasoningStep(task=task, kind="evidence", text=text, score_without=row[task]))
        return steps

    @property
    def _alone(self) -> Sequence[tuple[int, int]]:
        return self.cut if len(self.cut) > 2 else ()

    @property
    def _in_part(self) -> bool:
        return (self.start, self.end) != (0, len(self.passage.text))


def probe(passage: Passage, scores: Scores) -> Probe:
    """Plan how the findings of a text are to be explained.

    Of a text over 1,000 characters, the window that decided is looked into; that stretch is judged on its own, too, and the
    falls are measured against it.

    Args:
        passage: the text judged.
        scores: the tasks to explain, with the score (0 to 1) that the whole text got.
    """
    start, end = stretch(passage.text, passage.hottest)
    cut = parts(passage.text, start, end)
    if len(cut) < 2:
        return Probe(passage, scores, 0, len(passage.text), ())
    return Probe(passage, scores, start, end, cut)


def stretch(text: str, hottest: tuple[float, float]) -> tuple[int, int]:
    """The part of a long text that is looked into: where its most harmful window lies.

    Args:
        text: all of it.
        hottest: where the window begins and ends, as shares of the text's length.

    Returns:
        the first character and the one after the last; the whole text where it is short.
    """
    if len(text) <= _SHORT:
        return 0, len(text)
    start = min(round(len(text) * hottest[0]), len(text) - 1)
    end = max(start + 1, round(len(text) * hottest[1]))
    # Out to blanks, so that no word is cut; a text without any is cut all the same.
    if start and (blank := text.rfind(" ", max(0, start - _LONGEST_WORD), start)) >= 0:
        start = blank + 1
    if end < len(text) and (blank := text.find(" ", end, end + _LONGEST_WORD)) >= 0:
        end = blank
    return start, end


def _steps(
    task: Task, passage: Passage, before: float, scored: Sequence[tuple[float, float, tuple[int, int]]], where: str
) -> list[ReasoningStep]:
    """Steps from what each passage leaves behind, and what it is judged by itself."""
    name = _name(task)
    ranked = sorted(scored)
    carrying = [(left, span) for left, _, span in ranked if before - left >= _LEAST_FALL][:_MOST_STEPS]
    if not carrying:
        left, by_itself, (a, b) = max(scored, key=lambda one: one[1])
        text = (
            f"No single passage carries it: leaving out any one of {len(scored)} in turn and judging again{where} leaves "
            f"{name} at {ranked[0][0]:.2f} or more. Judged alone, {_quote(passage.text[a:b])} has {by_itself:.2f}, the "
            "highest."
        )
        span = Span(source=passage.source, start=a, end=b)
        return [ReasoningStep(task=task, kind="evidence", text=text, span=span, score_without=left)]
    return [
        ReasoningStep(
            task=task,
            kind="evidence",
            text=f"Leaving out {_quote(passage.text[a:b])} and judging again{where} "
            f"lowers {name} from {before:.2f} to {left:.2f}.",
            span=Span(source=passage.source, start=a, end=b),
            score_without=left,
        )
        for left, (a, b) in carrying
    ]


def _name(task: Task) -> str:
    return f"P({LABELS[task][0]})"


def _quote(text: str) -> str:
    shown = " ".join(text.split())
    return f'"{shown if len(shown) <= _QUOTED else shown[: _QUOTED - 1].rstrip() + "…"}"'


def _without(text: str, start: int, end: int, a: int, b: int) -> str:
    return f"{text[start:a].rstrip()} {text[b:end].lstrip()}".strip() or " "


# A run of blanks is looked at once, from its beginning: begun at each blank of it, a long one costs its square.
_SENTENCE_END = re.compile(r"(?<=[.!?;:\u3002\uff01\uff1f])[\"'\u201d\u2019)\]]*+\s++|\n++")
_CLAUSE_END = re.compile(
    rf"{_SENTENCE_END.pattern}|(?<=,)\s++"
    r"|(?<!\s)\s++(?=(?:and|or|but|which|who|so|because|without|with|using|for|to|from|into)\b)"
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


def parts(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """Cut a stretch of text into 2 to 8 passages that mean something: sentences, else clauses, else phrases.

    What says nothing by itself (``I``, ``to the``) goes with what it belongs to: to leave it out explains nothing.

    Args:
        text: the whole text.
        start: first character of the stretch.
        end: the character after it.

    Returns:
        places (start, end) of the passages, blanks trimmed; one alone, or none, where there is nothing to divide.
    """
    for pattern in (_SENTENCE_END, _CLAUSE_END, _BLANKS):
        pieces = _phrases(text, _cut(text, start, end, pattern))
        if len(pieces) >= 3 or (len(pieces) == 2 and pattern is not _SENTENCE_END):
            break
    return _grouped(pieces)


def behind_first_sentence(text: str) -> str:
    """What follows the first sentence of a text; empty where that is all of it.

    Args:
        text: the text.
    """
    border = _SENTENCE_END.search(text, len(text) - len(text.lstrip()))
    return "" if border is None else text[border.end() :].strip()


def _cut(text: str, start: int, end: int, pattern: re.Pattern[str]) -> list[tuple[int, int]]:
    pieces, at = [], start
    for border in pattern.finditer(text, start, end):
        pieces.append((at, border.start()))
        at = border.end()
    pieces.append((at, end))
    return [(a, b) for a, b in pieces if text[a:b].strip()]


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


def _grouped(pieces: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join neighbours until at most ``MOST_PARTS`` are left."""
    size = -(-len(pieces) // MOST_PARTS) or 1
    return [(group[0][0], group[-1][1]) for at in range(0, len(pieces), size) if (group := pieces[at : at + size])]
