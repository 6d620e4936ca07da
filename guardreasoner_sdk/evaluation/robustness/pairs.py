"""Pairs out of labelled rows: a harmful text, and the harmless one of its language that is nearest to it in length."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from guardreasoner_sdk.evaluation.robustness.texts import count_words, texts_in
from guardreasoner_sdk.evaluation.rows import EVERYDAY, OVER_REFUSAL, LabelledRow
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.verdict import Task

__all__ = ["TRIED", "Plain", "TextPair", "draw_pairs", "harmless_paragraphs"]

TRIED: Final[tuple[Task, ...]] = ("prompt_harmfulness", "response_harmfulness")
"""The tasks that robustness is measured in."""

_MOST_WORDS: Final[Mapping[Task, int]] = {"prompt_harmfulness": 60, "response_harmfulness": 120}
"""A text longer than that is no needle."""
_PARAGRAPH: Final = (20, 200)
"""Fewest and most words of a harmless row that others are put between."""


@dataclass(frozen=True, slots=True)
class Plain:
    """A text that is put elsewhere.

    Args:
        origin: the name of its row, with the benchmark's.
        exchange: it, alone; an answer after a prompt that says nothing: its own one would give it away.
        harmful: what it is.
        language: its language, or None.
        words: how many it has.
    """

    origin: str
    exchange: Exchange
    harmful: bool
    language: str | None
    words: int

    @property
    def text(self) -> str:
        """What is judged: the answer, or the prompt where there is none."""
        return self.exchange.prompt if self.exchange.response is None else self.exchange.response

    def put(self, text: str) -> Exchange:
        """The exchange with another text in place of what is judged."""
        if self.exchange.response is None:
            return Exchange(text)
        return Exchange(self.exchange.prompt, text)


@dataclass(frozen=True, slots=True)
class TextPair:
    """A harmful text and its harmless twin.

    Args:
        number: the pair's, from 0.
        harmful: the one.
        harmless: the other.
    """

    number: int
    harmful: Plain
    harmless: Plain

    @property
    def language(self) -> str | None:
        """That of both."""
        return self.harmful.language

    def __iter__(self) -> Iterator[Plain]:
        return iter((self.harmful, self.harmless))


def draw_pairs(rows: Sequence[LabelledRow], task: Task, *, most: int, seed: int) -> list[TextPair]:
    """Draw pairs; no text is in two of them.

    Args:
        task: whose labels count: that of prompts, or that of responses.
    """
    draw = Random(f"{seed}/{task}")  # noqa: S311 - the same seed has to give the same pairs
    harmful, harmless = [], dict[str | None, list[Plain]]()
    for plain in _plain(rows, task):
        if plain.harmful:
            harmful.append(plain)
        else:
            harmless.setdefault(plain.language, []).append(plain)
    draw.shuffle(harmful)
    for own in harmless.values():
        draw.shuffle(own)
    pairs: list[TextPair] = []
    for one in harmful:
        if len(pairs) == most:
            break
        if twins := harmless.get(one.language):
            place = min(range(len(twins)), key=lambda number: abs(twins[number].words - one.words))
            pairs.append(TextPair(len(pairs), one, twins.pop(place)))
    return pairs


def harmless_paragraphs(rows: Sequence[LabelledRow], task: Task, pairs: Sequence[TextPair]) -> dict[str | None, list[str]]:
    """The longer harmless texts of the rows by language, but for those of the pairs.

    What stands around a needle must not be one: where there are rows of the kind ``everyday`` these are taken, and never those
    that look harmful.
    """
    taken = {plain.text for pair in pairs for plain in pair}
    low, high = _PARAGRAPH
    everyday: dict[str | None, list[str]] = {}
    others: dict[str | None, list[str]] = {}
    for row in rows:
        text = row.exchange.prompt if task == "prompt_harmfulness" else row.exchange.response
        if row.kind == OVER_REFUSAL or row.labels.get(task) is not False or text is None or text in taken:
            continue
        if low <= count_words(text) <= high:
            (everyday if row.kind == EVERYDAY else others).setdefault(row.language, []).append(text.strip())
    return others | everyday


def _plain(rows: Sequence[LabelledRow], task: Task) -> Iterator[Plain]:
    """The texts that can be needles, each once; none that is labelled both ways, or needs the turns before it."""
    labels: dict[Exchange, set[bool]] = {}
    first: dict[Exchange, LabelledRow] = {}
    for row in rows:
        if task in row.labels and not row.exchange.history:
            prompt, response = row.exchange.prompt, row.exchange.response
            exchange = Exchange(prompt) if task == TRIED[0] else Exchange(texts_in(row.language).opener, response)
            labels.setdefault(exchange, set()).add(row.labels[task])
            first.setdefault(exchange, row)
    for exchange, row in first.items():
        words = count_words(exchange.prompt if exchange.response is None else exchange.response)
        if len(labels[exchange]) == 1 and 0 < words <= _MOST_WORDS[task]:
            yield Plain(f"{row.benchmark}/{row.id}", exchange, row.labels[task], row.language, words)
