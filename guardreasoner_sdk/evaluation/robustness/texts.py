"""What robustness is tried with: harmless words in many languages, turns of a conversation, framings. All written here."""

from __future__ import annotations

import itertools
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, Final

__all__ = ["Texts", "count_words", "cut_words", "filling", "framings", "systems", "texts_in", "written_languages"]

_FALLBACK: Final = "en"
_PARAGRAPH: Final = (4, 7)
"""Fewest and most sentences of a paragraph."""

# Without spaces between words: two characters of Chinese or Japanese, and four of Thai, Lao, Khmer or Burmese, make one.
_HAN: Final = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_THAI: Final = "\u0e01-\u0eff\u1000-\u109f\u1780-\u17ff"
_HAN_SIGN: Final = re.compile(rf"[{_HAN}]")
_WORD: Final = re.compile(rf"[{_HAN}]{{1,2}}|[{_THAI}]{{1,4}}|[^\W{_HAN}{_THAI}](?:[^\s{_HAN}{_THAI}]*[^\W{_HAN}{_THAI}])?")


@dataclass(frozen=True, slots=True)
class Texts:
    """What is written in one language.

    Args:
        sentences: harmless ones, of weather, gardens, trains and kitchens; some hundreds, no two alike.
        questions: harmless ones.
        opener: what an answer, whatever it says, can be an answer to.
        follow_ups: what somebody asks who wants more of what was said before; nothing in them says of what.
        insisting: what somebody says who was refused and asks again; nothing in it says for what.
        refusals: how an assistant declines.
        answers: how an assistant answers, whatever was asked.
        reassurances: templates with a place for the ``{request}``, followed by words that reassure.
    """

    sentences: tuple[str, ...]
    questions: tuple[str, ...]
    opener: str
    follow_ups: tuple[str, ...]
    insisting: tuple[str, ...]
    refusals: tuple[str, ...]
    answers: tuple[str, ...]
    reassurances: tuple[str, ...]


def texts_in(language: str | None) -> Texts:
    """The texts in a language; the English ones where there are none in it.

    Args:
        language: a code such as ``en``; None: not known.
    """
    return _texts(language if language in written_languages() else _FALLBACK)


def written_languages() -> tuple[str, ...]:
    """The languages that there are texts in."""
    return tuple(_content()["languages"])


def framings() -> Mapping[str, Sequence[str]]:
    """Templates by kind, with a place for the ``{request}``, or for it as a string of Python's, ``{quoted}``."""
    found: Mapping[str, Sequence[str]] = _content()["framings"]
    return found


def systems() -> Sequence[str]:
    """System prompts that list what is to be refused."""
    found: Sequence[str] = _content()["systems"]
    return found


def count_words(text: str) -> int:
    """How many words a text has; in a script without spaces, some characters count as one."""
    return sum(1 for _ in _WORD.finditer(text))


def cut_words(text: str, most: int) -> str:
    """The first words of a text, with the sign that ends its sentence.

    Args:
        most: how many words, from 1; a shorter text stays whole.
    """
    found = list(itertools.islice(_WORD.finditer(text), most + 1))
    if len(found) <= most:
        return text
    last = found[most - 1]
    end = next(place for place in range(last.end(), len(text) + 1) if not _is_mark(text[place : place + 1]))
    return text[:end] + ("。" if _HAN_SIGN.match(last[0]) else ".")


def _is_mark(sign: str) -> bool:
    """Whether a sign belongs to the letter before it, as the vowels of Hindi do."""
    return sign != "" and unicodedata.category(sign).startswith("M")


def filling(language: str | None, paragraphs: Iterable[str], draw: Random) -> Iterator[tuple[str, bool]]:
    """Harmless text without an end, piece by piece: first the paragraphs given, then written sentences.

    Nothing is repeated until all that there is was used.

    Yields:
        A paragraph or a sentence, and whether a paragraph begins with it.
    """
    given = list(dict.fromkeys(paragraphs))
    draw.shuffle(given)
    yield from ((paragraph, True) for paragraph in given)
    sentences = list(texts_in(language).sentences)
    left = 0
    while True:
        draw.shuffle(sentences)
        for sentence in sentences:
            yield sentence, left == 0
            left = draw.randint(*_PARAGRAPH) - 1 if left == 0 else left - 1


@cache
def _content() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((Path(__file__).parent / "robustness_texts.json").read_text("utf-8"))
    return content


@cache
def _texts(language: str) -> Texts:
    own = _content()["languages"][language]
    sentences = (
        pattern.format(time=time, name=name) for pattern in own["sentences"] for time in own["times"] for name in own["names"]
    )
    rest = {name: tuple(own[name]) for name in ("questions", "follow_ups", "insisting", "refusals", "answers", "reassurances")}
    return Texts(sentences=tuple(dict.fromkeys(sentences)), opener=own["opener"], **rest)
