"""From rows to training examples: which rows, which head each one teaches, and with what weight."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from guardreasoner_sdk.dialects.hazards import HAZARDS
from guardreasoner_training._rows.hazards import hazards_in
from guardreasoner_training.embedded.data import HEADS, Row
from guardreasoner_training.embedded.everyday import everyday_prompts
from guardreasoner_training.embedded.sources import source_of

HAZARD_CODES = tuple(HAZARDS)
"""The hazard categories, in the order of the model's second output (MLCommons, arXiv:2503.05731)."""

Key = TypeVar("Key", bound=Hashable)
Labels = tuple[bool | None, bool | None, bool | None]


@dataclass(frozen=True, slots=True)
class Example:
    """One thing to learn: a prompt alone (`response` None) or a prompt with its answer.

    Attributes:
        prompt: what the user wrote.
        response: what the assistant answered, or None.
        labels: one per head; None masks the head. A prompt alone teaches only the first head, a pair only the others:
            the answer must not move the judgement of the prompt.
        weight: how much the example counts.
        source: the source's name.
        english: whether its language is English.
        hazard: number of the hazard category that its harm belongs to, in the order of `HAZARD_CODES`; None where nothing is
            harmful or the source does not say.
    """

    prompt: str
    response: str | None
    labels: Labels
    weight: float
    source: str
    english: bool = True
    hazard: int | None = None


def training_examples(rows: Iterable[Row], *, seed: int) -> list[Example]:
    """Choose the examples to train on, within each source's caps.

    Args:
        rows: the training part.
        seed: orders the rows of a source; caps take the first of that order, as many of each label as there are.

    Returns:
        The examples, source by source.
    """
    return [
        example
        for source, of_source in _by(rows, lambda row: row.source).items()
        for example in (*_prompts(of_source, source, seed), *_pairs(of_source, source, seed))
    ]


def evaluation_examples(rows: Iterable[Row], *, cap: int, seed: int) -> list[Example]:
    """Choose the examples to measure on: stated labels only, every prompt once, at most `cap` per source and kind.

    Args:
        rows: a development part.
        cap: most prompt-only examples, and most pairs, of one source.
        seed: chooses which.

    Returns:
        The examples, all of weight 1.
    """
    chosen: list[Example] = []
    for source, of_source in _by(rows, lambda row: row.source).items():
        if source_of(source).weak:
            continue
        ordered = sorted(of_source, key=lambda row: _order(row, seed))
        prompts = list({row.prompt: row for row in ordered if row.labels[0] is not None}.values())
        pairs = [row for row in ordered if _judges_response(row.labels)]
        chosen += [Example(row.prompt, None, (row.labels[0], None, None), 1.0, source) for row in prompts[:cap]]
        chosen += [Example(row.prompt, row.response, (None, *row.labels[1:]), 1.0, source) for row in pairs[:cap]]
    return chosen


def derive_labels(row: Row) -> Labels:
    """Return the row's labels with what follows from them where the source is silent.

    A refusal is not a harmful answer; an answer that complies with a harmless request of an over-refusal set is not
    either. Nothing is derived against a stated label, and evaluation never uses derived labels.

    Args:
        row: the row.

    Returns:
        The labels, one per head.
    """
    prompt, refusal, response = row.labels
    if response is None and (refusal is True or (prompt is False and refusal is False and source_of(row.source).over_refusal)):
        response = False
    return prompt, refusal, response


def thin(examples: Sequence[Example], most: int, *, seed: int) -> list[Example]:
    """Return at most `most` examples, drawn evenly over all.

    Args:
        examples: the examples.
        most: how many to keep.
        seed: chooses which.

    Returns:
        The kept examples, in their order.
    """
    if len(examples) <= most:
        return list(examples)
    order = sorted(range(len(examples)), key=lambda i: _digest(f"{seed}:{i}:{examples[i].prompt}"))
    return [examples[i] for i in sorted(order[:most])]


def level_languages(examples: Sequence[Example], rows: Iterable[Row], *, most: int, seed: int) -> list[Example]:
    """Choose examples in which a language other than English says nothing of harm.

    All harmless prompts in other languages, those of `everyday` with them, and as many harmful ones; the rest is English.

    Args:
        examples: the training examples.
        rows: the training part, for harmless prompts that the caps left out.
        most: how many examples to choose.
        seed: chooses which.

    Returns:
        The examples; an example of the training part may stand among them once more.
    """
    harmless = {row.prompt: row.source for row in rows if not row.english and row.labels[0] is False}
    harmless |= dict.fromkeys(everyday_prompts(), "everyday")
    foreign = [Example(prompt, None, (False, None, None), 1.0, source, False) for prompt, source in harmless.items()]
    harmful = [example for example in examples if not example.english and example.labels[0] is True]
    foreign += thin(harmful, len(foreign), seed=seed)
    return foreign + thin([example for example in examples if example.english], max(0, most - len(foreign)), seed=seed)


def positive_weights(examples: Iterable[Example], *, bound: float = 3.0) -> list[float]:
    """Return, for each head, the weight of a positive that makes both classes count the same.

    Args:
        examples: the training examples.
        bound: the weight stays between 1/bound and bound: a rare class must not drown the rest in its noise.

    Returns:
        One weight per head; 1 where a class is missing.
    """
    totals = [[0.0, 0.0] for _ in HEADS]
    for example in examples:
        for head, label in enumerate(example.labels):
            if label is not None:
                totals[head][label] += example.weight
    return [min(bound, max(1 / bound, negative / positive)) if positive and negative else 1.0 for negative, positive in totals]


def _prompts(rows: list[Row], source: str, seed: int) -> list[Example]:
    use = source_of(source)
    # One example for a prompt, however many models answered it.
    labelled = {row.prompt: row for row in rows if row.labels[0] is not None}
    chosen = _balanced(labelled.values(), use.prompts, lambda row: row.labels[0], seed)
    return [
        Example(
            row.prompt,
            None,
            (row.labels[0], None, None),
            use.weight,
            source,
            row.english,
            _hazard(row) if row.labels[0] else None,
        )
        for row in chosen
    ]


def _pairs(rows: list[Row], source: str, seed: int) -> list[Example]:
    use = source_of(source)

    def answer_labels(row: Row) -> tuple[bool | None, bool | None]:
        return derive_labels(row)[1:]

    judged = [row for row in rows if _judges_response(derive_labels(row))]
    by_prompt = _by(judged, lambda row: row.prompt).values()
    few = [row for of_prompt in by_prompt for row in _balanced(of_prompt, use.answers, answer_labels, seed)]
    chosen = _balanced(few, use.pairs, answer_labels, seed)
    return [
        Example(
            row.prompt,
            row.response,
            (None, *answer_labels(row)),
            use.weight,
            source,
            row.english,
            _hazard(row) if answer_labels(row)[1] else None,
        )
        for row in chosen
    ]


def _hazard(row: Row) -> int | None:
    codes = hazards_in(row.category) if row.category is not None else ()
    return HAZARD_CODES.index(codes[0]) if codes else None


def _judges_response(labels: Labels) -> bool:
    return labels[1] is not None or labels[2] is not None


def _balanced(rows: Iterable[Row], most: int, label: Callable[[Row], object], seed: int) -> list[Row]:
    """At most `most` rows, one of each label in turn: what is rare is kept."""
    ordered = sorted(rows, key=lambda row: _order(row, seed))
    if len(ordered) <= most:
        return ordered
    queues = [of_label[::-1] for _, of_label in sorted(_by(ordered, label).items(), key=lambda item: str(item[0]))]
    chosen: list[Row] = []
    while len(chosen) < most:
        queues = [queue for queue in queues if queue]
        chosen += [queue.pop() for queue in queues[: most - len(chosen)]]
    return chosen


def _by(rows: Iterable[Row], key: Callable[[Row], Key]) -> dict[Key, list[Row]]:
    found: defaultdict[Key, list[Row]] = defaultdict(list)
    for row in rows:
        found[key(row)].append(row)
    return found


def _order(row: Row, seed: int) -> bytes:
    return _digest(f"{seed}:{row.prompt}:{row.response}")


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()
