"""From rows to training examples: which rows, which head each one teaches, and with what weight."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from guardreasoner_sdk.dialects.hazards import HAZARDS
from guardreasoner_sdk.evaluation.rows import EVERYDAY, OVER_REFUSAL
from guardreasoner_training.embedded.data import HEADS, SourceRow
from guardreasoner_training.embedded.sources import source_of
from guardreasoner_training.rows.hazards import hazards_in

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
        lang: code of its language; None where it is in several or one unknown.
        hazard: number of the hazard category that its harm belongs to, in the order of `HAZARD_CODES`; None where nothing is
            harmful or the source does not say.
        history: the turns before, oldest first: who spoke (`user`, `assistant`) and what was said.
    """

    prompt: str
    response: str | None
    labels: Labels
    weight: float
    source: str
    lang: str | None = "en"
    hazard: int | None = None
    history: tuple[tuple[str, str], ...] = ()

    @property
    def english(self) -> bool:
        """Whether its language is English."""
        return self.lang == "en"


def training_examples(rows: Iterable[SourceRow], *, seed: int) -> list[Example]:
    """Choose the examples to train on, within each source's caps.

    Args:
        seed: orders the rows of a source; caps take the first of that order, as many of each label and language as there are.
    """
    rows = list(rows)
    of_sources = _by(rows, lambda row: row.source)
    # What one source says of a prompt's harm holds for the same prompt in the others.
    hazards = {
        row.prompt: hazard for of_source in of_sources.values() for row in of_source if (hazard := _hazard(row)) is not None
    }
    found = [
        example
        for source, of_source in of_sources.items()
        for example in (*_prompts(of_source, source, hazards, seed), *_pairs(of_source, source, hazards, seed))
    ]
    return _undisputed(found + _level(found, rows, seed))


def evaluation_examples(rows: Iterable[SourceRow], *, cap: int, seed: int) -> list[Example]:
    """Choose the examples to measure on: stated labels only, every prompt once, no language of a source before the others.

    Args:
        cap: most prompt-only examples, and most pairs, of one source.

    Returns:
        The examples, all of weight 1.
    """
    chosen: list[Example] = []
    for source, of_source in _by(rows, lambda row: row.source).items():
        if source_of(source).weak:
            continue
        if source_of(source).only_harmless:
            of_source = [row for row in of_source if row.labels[0] is not True]
        ordered = sorted(of_source, key=lambda row: _order(row, seed))
        unique = {row.prompt: row for row in ordered if row.labels[0] is not None}.values()
        prompts = _balanced(unique, cap, lambda row: row.lang, seed)
        pairs = _balanced((row for row in ordered if _judges_response(row.labels)), cap, lambda row: row.lang, seed)
        chosen += [Example(row.prompt, None, (row.labels[0], None, None), 1.0, source, row.lang) for row in prompts]
        chosen += [Example(row.prompt, row.response, (None, *row.labels[1:]), 1.0, source, row.lang) for row in pairs]
    return chosen


def derive_labels(row: SourceRow) -> Labels:
    """Return the row's labels with what follows from them where the source is silent.

    A refusal is not a harmful answer; an answer that complies with a harmless request of an over-refusal set is not
    either. Nothing is derived against a stated label, and evaluation never uses derived labels.

    Returns:
        The labels, one per head.
    """
    prompt, refusal, response = row.labels
    if response is None and (refusal is True or (prompt is False and refusal is False and source_of(row.source).over_refusal)):
        response = False
    return prompt, refusal, response


def sample_evenly(examples: Sequence[Example], most: int, *, seed: int) -> list[Example]:
    """Return at most `most` examples, drawn evenly over all.

    Returns:
        The kept examples, in their order.
    """
    if len(examples) <= most:
        return list(examples)
    order = sorted(range(len(examples)), key=lambda i: _digest(f"{seed}:{i}:{examples[i].prompt}"))
    return [examples[i] for i in sorted(order[:most])]


def positive_weights(examples: Iterable[Example], *, bound: float = 3.0) -> list[float]:
    """Return, for each head, the weight of a positive that makes both classes count the same.

    Args:
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


def _prompts(rows: list[SourceRow], source: str, hazards: Mapping[str, int], seed: int) -> list[Example]:
    use = source_of(source)
    # One example for a prompt, however many models answered it.
    labelled = {row.prompt: row for row in rows if row.labels[0] is False or (row.labels[0] and not use.only_harmless)}
    chosen = _balanced(labelled.values(), use.prompts, lambda row: (row.labels[0], row.lang), seed)
    return [
        Example(
            row.prompt,
            None,
            (row.labels[0], None, None),
            use.weight,
            source,
            row.lang,
            hazards.get(row.prompt) if row.labels[0] else None,
        )
        for row in chosen
    ]


def _pairs(rows: list[SourceRow], source: str, hazards: Mapping[str, int], seed: int) -> list[Example]:
    use = source_of(source)

    def answer_labels(row: SourceRow) -> tuple[bool | None, bool | None]:
        return derive_labels(row)[1:]

    judged = [row for row in rows if _judges_response(derive_labels(row))]
    by_prompt = _by(judged, lambda row: row.prompt).values()
    few = [row for of_prompt in by_prompt for row in _balanced(of_prompt, use.answers, answer_labels, seed)]
    chosen = _balanced(few, use.pairs, lambda row: (answer_labels(row), row.lang), seed)
    return [
        Example(
            row.prompt,
            row.response,
            (None, *answer_labels(row)),
            use.weight,
            source,
            row.lang,
            hazards.get(row.prompt) if answer_labels(row)[1] else None,
        )
        for row in chosen
    ]


def _level(examples: Sequence[Example], rows: Iterable[SourceRow], seed: int) -> list[Example]:
    """Harmless prompts beyond the caps, for the languages that would have more harmful ones: a language is no sign of harm."""
    counts: Counter[tuple[str | None, bool]] = Counter()
    for example in examples:
        if example.labels[0] is not None:
            counts[example.lang, example.labels[0]] += 1
    used = {example.prompt for example in examples}
    more = {row.prompt: row for row in rows if row.labels[0] is False and not row.english and row.prompt not in used}
    return [
        Example(row.prompt, None, (False, None, None), source_of(row.source).weight, row.source, lang)
        for lang, of_lang in _by((row for row in more.values() if source_of(row.source).benign), lambda row: row.lang).items()
        for row in sorted(of_lang, key=lambda row: _order(row, seed))[: max(0, counts[lang, True] - counts[lang, False])]
    ]


def _undisputed(examples: list[Example]) -> list[Example]:
    """Without the prompts that one source calls harmful and another harmless."""
    said: defaultdict[str, set[bool]] = defaultdict(set)
    for example in examples:
        if example.labels[0] is not None:
            said[example.prompt].add(example.labels[0])
    return [example for example in examples if example.labels[0] is None or len(said[example.prompt]) == 1]


def _hazard(row: SourceRow) -> int | None:
    codes = hazards_in(row.category) if row.category is not None else ()
    code = codes[0] if codes else source_of(row.source).hazard
    return HAZARD_CODES.index(code) if code is not None else None


def _judges_response(labels: Labels) -> bool:
    return labels[1] is not None or labels[2] is not None


def _balanced(rows: Iterable[SourceRow], most: int, label: Callable[[SourceRow], object], seed: int) -> list[SourceRow]:
    """At most `most` rows, one of each label in turn: what is rare is kept."""
    ordered = sorted(rows, key=lambda row: _order(row, seed))
    if len(ordered) <= most:
        return ordered
    queues = [of_label[::-1] for _, of_label in sorted(_by(ordered, label).items(), key=lambda item: str(item[0]))]
    chosen: list[SourceRow] = []
    while len(chosen) < most:
        queues = [queue for queue in queues if queue]
        chosen += [queue.pop() for queue in queues[: most - len(chosen)]]
    return chosen


def _by(rows: Iterable[SourceRow], key: Callable[[SourceRow], Key]) -> dict[Key, list[SourceRow]]:
    found: defaultdict[Key, list[SourceRow]] = defaultdict(list)
    for row in rows:
        found[key(row)].append(row)
    return found


def _order(row: SourceRow, seed: int) -> bytes:
    return _digest(f"{seed}:{row.prompt}:{row.response}")


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()


def kind_of(example: Example) -> str | None:
    """What kind of text an example is, as rows say it.

    Returns:
        `everyday`, `over_refusal` or `moderation`; None: none of these.
    """
    source = source_of(example.source)
    if source.moderation:
        return "moderation"
    if any(example.labels):
        return None
    return OVER_REFUSAL if source.over_refusal else EVERYDAY if source.benign else None
