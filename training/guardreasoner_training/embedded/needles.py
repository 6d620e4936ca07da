"""A request among others: one line in a list, one sentence in a page, one paragraph of a long answer.

A harmful question between harmless ones is harmful, and a model that learnt from single requests overlooks it. Bags of lines,
lists, prose and questions are made here out of the examples' own texts: with one harmful part, and, of the same make, with
harmless parts only, half of which look harmful. The other lines are mostly in the same language, at times in any.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from random import Random
from typing import Final

from guardreasoner_training.embedded.examples import Example
from guardreasoner_training.embedded.framings import twins
from guardreasoner_training.embedded.sources import source_of
from guardreasoner_training.embedded.unlabelled import declines

__all__ = ["LAYOUTS", "make_needles"]

Lines = Sequence[str]

LAYOUTS: Final[tuple[Callable[[Lines], str], ...]] = (
    "\n".join,
    "\n\n".join,
    " ".join,
    " ".join,
    " / ".join,
    lambda lines: "\n".join(f"{number}. {line}" for number, line in enumerate(lines, 1)),
    lambda lines: "\n".join(f"- {line}" for line in lines),
    lambda lines: "\n".join(f"* [ ] {line}" for line in lines),
    lambda lines: "\n".join(f"Q{number}: {line}" for number, line in enumerate(lines, 1)),
    lambda lines: "\n".join(f"> {line}" for line in lines),
    lambda lines: "; ".join(lines),
    lambda lines: "Please answer all of these:\n" + "\n".join(f"{number}) {line}" for number, line in enumerate(lines, 1)),
    lambda lines: "Notes of today\n\n" + "\n".join(f"* {line}" for line in lines) + "\n\nThat is all for now.",
)
"""How the parts of a bag are put together."""

_NEEDLE: Final = 300
_FILLER: Final = 260
_ANSWER: Final = 900
_FEWEST, _MOST = 20, 400
_MIXED: Final = 0.15
_LOOKALIKE: Final = 0.5
_PROSE: Final = 0.35
_NEIGHBOURS: Final = 15
# Bytes of one word, about: lengths of Chinese and English texts are told alike.
_WORD_BYTES: Final = 6
_SENTENCE: Final = re.compile(r"(?<=[.!?。！？।])\s*(?=\S)")


def make_needles(examples: Sequence[Example], most: int, *, seed: int) -> list[Example]:
    """Bags with one harmful part and bags with none, as many of each; five in eight are prompts, the rest answers.

    Args:
        examples: what the parts are drawn from; no moderation text.
    """
    draw = Random(seed)  # noqa: S311
    fit = [example for example in examples if not source_of(example.source).moderation and not example.history]
    return _prompts(fit, most * 5 // 8, draw) + _answers(fit, most * 3 // 8, draw)


def _prompts(examples: Sequence[Example], most: int, draw: Random) -> list[Example]:
    prompts = [example for example in examples if example.response is None]
    harmful = [example for example in prompts if example.labels[0] is True and len(example.prompt) <= _NEEDLE]
    harmless = [example for example in prompts if example.labels[0] is False and len(example.prompt) <= _NEEDLE]
    fillers = _by_language(example for example in harmless if len(example.prompt) <= _FILLER and "\n" not in example.prompt)
    prose = _by_language(
        replace(example, prompt=sentence)
        for example in examples
        if example.response is not None and source_of(example.source).benign and len(example.response) > _FILLER
        for sentence in _SENTENCE.split(example.response.replace("\n", " "))[:6]
        if 30 <= len(sentence) <= _FILLER
    )
    lookalikes = [example for example in harmless if source_of(example.source).over_refusal or example.source == "written"]
    half = most // 2
    pairs = twins([*harmful, *harmless], int(half * (1 - _LOOKALIKE)), draw) + twins(
        [*harmful, *lookalikes], int(half * _LOOKALIKE), draw
    )
    made: list[Example] = []
    for needle in (one for pair in pairs for one in pair):
        # Prose there is in English, mostly: other languages get questions then.
        of = prose if draw.random() < _PROSE and needle.lang in prose else fillers
        lines = _around(needle.prompt, of, needle.lang, draw)
        made.append(replace(needle, prompt=draw.choice(LAYOUTS)(lines), source="written"))
    return made


def _answers(examples: Sequence[Example], most: int, draw: Random) -> list[Example]:
    pairs = [example for example in examples if example.response and len(example.response) <= _ANSWER]
    # Some answers that are labelled harmful begin with a refusal, or hold nothing else.
    harmful = [example for example in pairs if example.labels[2] is True and declines(example.response or "") is not True]
    harmless = [example for example in pairs if example.labels[2] is False]
    harmless.sort(key=lambda example: (len(example.response or ""), example.response))
    lookalikes = [example for example in harmless if not source_of(example.source).benign]
    helpful = [example for example in harmless if example.labels[1] is False and source_of(example.source).benign]
    fillers = _by_language(
        replace(example, prompt=paragraph)
        for example in helpful
        for paragraph in (example.response or "").split("\n\n")
        if 20 <= len(paragraph) <= _ANSWER // 2
    )
    made: list[Example] = []
    for _ in range(most // 2 if harmful and harmless and fillers else 0):
        bad = draw.choice(harmful)
        looks = lookalikes and draw.random() < _LOOKALIKE
        for needle in (bad, _as_long(bad, lookalikes if looks else harmless, draw)):
            answer = (needle.response or "").strip()
            parts = _around(answer, fillers, needle.lang, draw)
            asked = needle if draw.random() < 0.5 else draw.choice(helpful)
            # An answer that begins with help is no refusal, whatever stands further down.
            labels = (None, None if parts[0] == answer else False, needle is bad)
            joined = draw.choice(("\n\n", "\n\n", "\n", " ")).join(parts)
            made.append(replace(needle, prompt=asked.prompt, response=joined, labels=labels, source="written"))
    return made


def _as_long(of: Example, examples: Sequence[Example], draw: Random) -> Example:
    """One of the examples, which are in order of length, with an answer about as long as this one's: length tells nothing."""
    place = bisect_left(examples, len(of.response or ""), key=lambda example: len(example.response or ""))
    return examples[min(len(examples) - 1, max(0, place + draw.randint(-_NEIGHBOURS, _NEIGHBOURS)))]


def _around(needle: str, fillers: dict[str | None, list[str]], lang: str | None, draw: Random) -> list[str]:
    """The needle among drawn lines, anywhere; 20 to 400 words in all, short bags as often as long ones."""
    words = _FEWEST * (_MOST / _FEWEST) ** draw.random() - _words(needle)
    own = fillers.get(lang) or fillers.get("en") or next(iter(fillers.values()))
    mixed = draw.random() < _MIXED
    languages = list(fillers)
    lines: list[str] = []
    while words > 0 or not lines:
        line = draw.choice(fillers[draw.choice(languages)] if mixed else own).strip()
        lines.append(line)
        words -= max(1, _words(line))
    lines.insert(draw.randint(0, len(lines)), needle.strip())
    return lines


def _by_language(examples: Iterable[Example]) -> dict[str | None, list[str]]:
    found: defaultdict[str | None, dict[str, None]] = defaultdict(dict)
    for example in examples:
        found[example.lang][example.prompt] = None
    return {lang: list(texts) for lang, texts in found.items() if len(texts) >= _FEWEST}


def _words(text: str) -> int:
    return _bytes(text) // _WORD_BYTES


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "replace"))
