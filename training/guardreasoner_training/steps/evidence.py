"""The words of a text that a judgement hangs on: found in the rows themselves, or by a guard."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from guardreasoner_sdk.verdict import TASKS, ReasoningStep, Task

if TYPE_CHECKING:
    from guardreasoner_sdk.exchange import Exchange
    from guardreasoner_sdk.guard import Guard
    from guardreasoner_training.rows import TrainingRow

__all__ = ["Phrases", "guard_phrases", "opening", "word_phrases"]

Phrases = dict[Task, str]
"""Per task the words that it hangs on; none where no words stand out."""

_WORD: Final = re.compile(r"[\w'’-]+")
_SEEN: Final = 2000
_LONGEST: Final = 6
_OPENING: Final = 7
_CHARACTERS: Final = 60
# A word must be known from that many rows, and a phrase weigh that much, in nats, to say anything.
_ROWS: Final = 3
_LEAST: Final = 1.0
# What each word of a phrase costs: words that say little do not make it longer.
_COST: Final = 0.2


def opening(text: str) -> str:
    """The first words of a text."""
    words = list(_WORD.finditer(text[:_SEEN]))[:_OPENING]
    return _shown(text[words[0].start() : words[-1].end()]) if words else _shown(text)


def word_phrases(rows: Sequence[TrainingRow]) -> list[Phrases]:
    """For each row the words that speak most for harm, by how often words stand in harmful and in other rows.

    Which words they are does not depend on the row's own label: a guard that learns from it looks for them first and
    decides then. It is cheap: about ten thousand rows a second.

    Args:
        rows: all rows; they are what the weights of the words come from.
    """
    weights = {task: _weights(task, rows) for task in _PLACES}
    return [
        {
            task: phrase
            for task in _PLACES
            if (text := _text(task, row.exchange)) is not None and (phrase := _heaviest(text, weights[task])) is not None
        }
        for row in rows
    ]


def guard_phrases(exchanges: Iterable[Exchange], guard: Guard) -> list[Phrases]:
    """For each exchange the passages that a guard scores highest.

    Args:
        guard: gives evidence as its reasoning, as the embedded one does in ``Guard(reasoning="full")``.
    """
    listed = list(exchanges)
    verdicts = guard.iter_many(listed)
    return [_carrying(verdict.reasoning, exchange) for exchange, verdict in zip(listed, verdicts, strict=True)]


def _carrying(steps: Sequence[ReasoningStep], exchange: Exchange) -> Phrases:
    found: Phrases = {}
    for task in TASKS:
        own = [
            (step.weight, step.span)
            for step in steps
            if step.task == task and step.kind == "evidence" and step.span is not None and step.weight is not None
        ]
        if own:
            span = max(own, key=lambda one: one[0])[1]
            text = exchange.prompt if span.source == "prompt" else exchange.response or ""
            found[task] = opening(text[span.start : span.end])
    return found


_PLACES: Final[tuple[Task, ...]] = ("prompt_harmfulness", "response_harmfulness")


def _text(task: Task, exchange: Exchange) -> str | None:
    return exchange.prompt if task == "prompt_harmfulness" else exchange.response


def _weights(task: Task, rows: Iterable[TrainingRow]) -> Mapping[str, float]:
    """Log odds of each word between the rows with the positive label and the others, each row counted once."""
    counts: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    totals = [0, 0]
    for row in rows:
        text = _text(task, row.exchange)
        if text is None or task not in row.labels:
            continue
        side = int(row.labels[task])
        totals[side] += 1
        counts[side].update({word[0].lower() for word in _WORD.finditer(text[:_SEEN])})
    negative, positive = counts
    return {
        word: math.log((positive[word] + 0.5) / (totals[1] + 1.0)) - math.log((negative[word] + 0.5) / (totals[0] + 1.0))
        for word in positive.keys() | negative.keys()
        if positive[word] + negative[word] >= _ROWS
    }


def _heaviest(text: str, weights: Mapping[str, float]) -> str | None:
    """The run of at most six words that weighs most."""
    words = list(_WORD.finditer(text[:_SEEN]))
    values = [weights.get(word[0].lower(), 0.0) - _COST for word in words]
    best, place = _LEAST, None
    for start in range(len(words)):
        total = 0.0
        for end in range(start, min(start + _LONGEST, len(words))):
            total += values[end]
            if total > best:
                best, place = total, (start, end)
    if place is None:
        return None
    return _shown(text[words[place[0]].start() : words[place[1]].end()])


def _shown(text: str) -> str:
    shown = " ".join(text.replace('"', "'").split())
    return shown if len(shown) <= _CHARACTERS else shown[: _CHARACTERS - 1].rstrip() + "…"
