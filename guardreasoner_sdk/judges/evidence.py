"""Which passages carry a finding: leave each out, judge again, and say how far the score falls.

This is occlusion (Zeiler and Fergus 2014, arXiv:1311.2901, section 4.2; Li et al. 2016, arXiv:1612.08220), with phrases as
the parts left out. What is said is a measurement of the model, not its chain of thought.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from guardreasoner_sdk.verdict import LABELS, ReasoningStep, Span, Task

__all__ = ["Passage", "Row", "find_evidence", "parts"]

Row = tuple[Sequence[str], str | None, str | None]
Scorer = Callable[[Sequence[Row]], tuple[list[dict[Task, float]], list[int]]]

MOST_PARTS = 8
_STRETCH = 1200
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
    """

    source: Literal["prompt", "response"]
    text: str
    row: Callable[[str], Row]


def find_evidence(passage: Passage, scores: Mapping[Task, float], score: Scorer) -> tuple[list[ReasoningStep], int]:
    """Find the passages that carry findings.

    A text over about 1,200 characters is first judged in stretches, and the stretch that scores highest is looked into.

    Args:
        passage: the text judged.
        scores: the tasks to explain, with the score (0 to 1) that the whole text got.
        score: scores rows in one batch; also returns the tokens each took.

    Returns:
        the steps, at most three for each task, and the tokens spent.
    """
    tasks = list(scores)
    before = dict(scores)
    start, end, cost = 0, len(passage.text), 0
    if len(passage.text) > _STRETCH * 3 // 2:
        stretches = _stretches(passage.text)
        rows, tokens = score([passage.row(passage.text[a:b]) for a, b in stretches])
        hottest = max(range(len(rows)), key=lambda place: max(rows[place][task] for task in tasks))
        (start, end), before = stretches[hottest], {task: rows[hottest][task] for task in tasks}
        cost += sum(tokens)
    cut = parts(passage.text, start, end)
    if len(cut) < 2:
        return [], cost
    rows, tokens = score([passage.row(_without(passage.text, start, end, a, b)) for a, b in cut])
    cost += sum(tokens)
    steps = []
    where = "" if (start, end) == (0, len(passage.text)) else f" within characters {start} to {end} of the {passage.source}"
    for task in tasks:
        steps += _steps(task, passage, cut, before[task], [row[task] for row in rows], where)
    return steps, cost


def _steps(
    task: Task, passage: Passage, cut: list[tuple[int, int]], before: float, after: list[float], where: str
) -> list[ReasoningStep]:
    name = f"P({LABELS[task][0]})"
    ranked = sorted(zip(after, cut, strict=True))
    carrying = [(left, span) for left, span in ranked if before - left >= _LEAST_FALL][:_MOST_STEPS]
    if not carrying:
        text = (
            f"No single passage carries it: leaving out any one of {len(cut)} in turn and judging again{where} leaves "
            f"{name} at {ranked[0][0]:.2f} or more."
        )
        return [ReasoningStep(task=task, kind="evidence", text=text)]
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


def _quote(text: str) -> str:
    shown = " ".join(text.split())
    return f'"{shown if len(shown) <= _QUOTED else shown[: _QUOTED - 1].rstrip() + "…"}"'


def _without(text: str, start: int, end: int, a: int, b: int) -> str:
    return f"{text[start:a].rstrip()} {text[b:end].lstrip()}".strip() or " "


_SENTENCE_END = re.compile(r"(?<=[.!?;:\u3002\uff01\uff1f])[\"'\u201d\u2019)\]]*\s+|\n+")
_CLAUSE_END = re.compile(
    rf"{_SENTENCE_END.pattern}|(?<=,)\s+|\s+(?=(?:and|or|but|which|who|so|because|without|with|using|for|to|from|into)\b)"
)


def parts(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """Cut a stretch of text into 2 to 8 passages that mean something: sentences, else clauses, else runs of words.

    Args:
        text: the whole text.
        start: first character of the stretch.
        end: the character after it.

    Returns:
        places (start, end) of the passages, blanks trimmed; one alone, or none, where there is nothing to divide.
    """
    for pattern in (_SENTENCE_END, _CLAUSE_END, re.compile(r"\s+")):
        pieces = _cut(text, start, end, pattern)
        if len(pieces) >= 3 or (len(pieces) == 2 and pattern is not _SENTENCE_END):
            break
    return _grouped(pieces)


def _cut(text: str, start: int, end: int, pattern: re.Pattern[str]) -> list[tuple[int, int]]:
    pieces, at = [], start
    for border in pattern.finditer(text, start, end):
        pieces.append((at, border.start()))
        at = border.end()
    pieces.append((at, end))
    return [(a, b) for a, b in pieces if text[a:b].strip()]


def _grouped(pieces: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join neighbours until at most ``MOST_PARTS`` are left."""
    size = -(-len(pieces) // MOST_PARTS) or 1
    return [(group[0][0], group[-1][1]) for at in range(0, len(pieces), size) if (group := pieces[at : at + size])]


def _stretches(text: str) -> list[tuple[int, int]]:
    """Cut a long text at blanks into stretches of about equal length."""
    stretches, at = [], 0
    while len(text) - at > _STRETCH * 3 // 2:
        border = text.rfind(" ", at + _STRETCH // 2, at + _STRETCH)
        border = at + _STRETCH if border < 0 else border
        stretches.append((at, border))
        at = border
    stretches.append((at, len(text)))
    return [(a, b) for a, b in stretches if text[a:b].strip()]
