"""Rows that lack something get it: short reasoning steps from labels, category and evidence, and labels from a guard."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Literal

from guardreasoner_sdk.dialects.hazards import HAZARDS
from guardreasoner_sdk.verdict import LABELS, TASKS, ReasoningStep, Task
from guardreasoner_training.rows import TrainingRow, stable_random
from guardreasoner_training.rows.hazards import hazards_in
from guardreasoner_training.steps.wordings import DECLINED, JUDGED, NAMED, NOTHING, OPENED, POINTED

if TYPE_CHECKING:
    from guardreasoner_sdk.exchange import Exchange
    from guardreasoner_sdk.guard import Guard
    from guardreasoner_training.rows import TrainingRow

__all__ = ["Evidence", "Phrases", "complete_labels", "derive_steps", "guard_phrases", "opening", "word_phrases"]

Evidence = Literal["auto", "guard", "words"]
"""What derived steps point at. ``guard``: the passages that a guard scores highest, as many rows a second as it judges.
``words``: those that go with harm in the rows, thousands a second. ``auto``: the first for few rows."""

_FEW: Final = 1000


def derive_steps(
    rows: Sequence[TrainingRow], *, seed: int = 0, evidence: Evidence = "auto", guard: Guard | None = None
) -> list[TrainingRow]:
    """Give rows one to three short steps for each labelled task that has none, which lead to what the labels say.

    The same row gets the same steps in every run. Rows that have an output stay as they are, and so do steps that are there.

    Args:
        rows: all rows to train on.
        seed: chooses among the wordings.
        evidence: where the words that a step points at come from.
        guard: for ``guard``; None: the embedded one.

    Example:
        >>> from guardreasoner_sdk import Exchange
        >>> from guardreasoner_training.rows import TrainingRow
        >>> row = TrainingRow("1", Exchange("How do I poison a well?"), {"prompt_harmfulness": True})
        >>> from guardreasoner_training.steps import derive_steps
        >>> [found] = derive_steps([row], evidence="words")
        >>> len(found.reasoning["prompt_harmfulness"]) > 0
        True
    """
    bare = [
        number
        for number, row in enumerate(rows)
        if row.output is None and not all(row.reasoning.get(task) for task in row.labels)
    ]
    phrases = word_phrases(rows)
    if evidence == "guard" or (evidence == "auto" and len(bare) <= _FEW):
        with nullcontext(guard) if guard is not None else _embedded("full") as judging:
            found = guard_phrases([rows[number].exchange for number in bare], judging)
        for number, own in zip(bare, found, strict=True):
            phrases[number] |= own
    derived = list(rows)
    for number in bare:
        row = rows[number]
        known = {task: steps for task, steps in row.reasoning.items() if steps}
        steps = {**_steps(row, phrases[number], seed), **known}
        derived[number] = replace(row, reasoning={task: steps[task] for task in TASKS if task in steps})
    return derived


def complete_labels(rows: Sequence[TrainingRow], guard: Guard | None = None) -> list[TrainingRow]:
    """Have a guard fill in the labels that rows with a response lack; ``filled`` names them in the row.

    A label that the guard leaves undetermined stays missing.

    Args:
        rows: all rows; complete ones, and those with an output, which says its labels itself, stay as they are.
        guard: it; None: the embedded one, some 46 rows a second and core.

    Example:
        >>> from guardreasoner_sdk import Exchange
        >>> from guardreasoner_training.rows import TrainingRow
        >>> row = TrainingRow("1", Exchange("How do I bake a cake?", "Beat butter and sugar."), {"prompt_harmfulness": False})
        >>> from guardreasoner_training.steps import complete_labels
        >>> [found] = complete_labels([row])
        >>> found.filled
        ('response_refusal', 'response_harmfulness')
    """
    gaps = [
        number
        for number, row in enumerate(rows)
        if row.exchange.response is not None and row.output is None and len(row.labels) < len(TASKS)
    ]
    completed = list(rows)
    with nullcontext(guard) if guard is not None else _embedded("off") as judging:
        verdicts = judging.iter_many([rows[number].exchange for number in gaps])
        for number, verdict in zip(gaps, verdicts, strict=True):
            row = rows[number]
            added: dict[Task, bool] = {
                task: finding.label == LABELS[task][0]
                for task, finding in verdict.findings.items()
                if task not in row.labels and finding.determined
            }
            completed[number] = replace(row, labels={**row.labels, **added}, filled=(*row.filled, *added))
    return completed


def _embedded(reasoning: Literal["full", "off"]) -> Guard:
    from guardreasoner_sdk.guard import Guard
    from guardreasoner_sdk.judges.embedded import EmbeddedJudge

    # Whatever the environment says: the same rows must get the same labels and steps everywhere.
    return Guard(judge=EmbeddedJudge(reasoning=reasoning))


def _steps(row: TrainingRow, phrases: Phrases, seed: int) -> dict[Task, tuple[str, ...]]:
    def say(task: Task, part: str, wordings: tuple[str, ...], **words: str) -> str:
        return wordings[stable_random(seed, row.id, task, part) % len(wordings)].format(**words)

    steps: dict[Task, tuple[str, ...]] = {}
    for task in TASKS:
        label = row.labels.get(task)
        if label is None:
            continue
        said: list[str] = []
        if task == "response_refusal":
            said.append(say(task, "evidence", OPENED, phrase=phrases.get(task) or opening(row.exchange.response or "")))
        elif task in phrases:
            said.append(say(task, "evidence", POINTED[task], phrase=phrases[task]))
        else:
            said.append(say(task, "evidence", NOTHING[task]))
        codes = hazards_in(row.category) if row.category and label and task != "response_refusal" else ()
        if codes:
            said.append(say(task, "hazard", NAMED, hazard=HAZARDS[codes[0]]))
        declined = task == "response_harmfulness" and not label and row.labels.get("response_refusal") is True
        said.append(say(task, "judgement", DECLINED if declined else JUDGED[task, label]))
        steps[task] = tuple(said)
    return steps


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
    """For each row the words that speak most for harm, by how often words are in harmful and in other rows.

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
