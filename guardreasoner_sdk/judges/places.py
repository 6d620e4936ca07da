"""Where in a text something stands that was made of it: character by character, through each step of the making."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import accumulate, pairwise
from typing import Final

__all__ = ["Folded", "Places", "map_changes", "map_squeezing"]

_WORD: Final = re.compile(r"\S+")
# Words of one text that are words of the other, too: beyond that a comparison may take long.
_MOST_PAIRS: Final = 5000


@dataclass(frozen=True, slots=True)
class Places:
    """For each character of a text that was made of another one, what it was made of.

    Args:
        starts: the first character of that in the other text; it never falls.
        ends: the character after the last one.
        whole: length of the other text.
    """

    starts: Sequence[int]
    ends: Sequence[int]
    whole: int

    def of(self, start: int, end: int) -> tuple[int, int]:
        """The stretch that another one was made of; an empty one stays empty.

        Args:
            start: the first character, in the text that was made.
        """
        if start >= end:
            place = self.starts[start] if start < len(self.starts) else self.whole
            return place, place
        first = self.starts[start]
        return first, max(first, self.ends[end - 1])


class Folded:
    """Through a change that takes each character with the marks behind it for itself, done piece by piece.

    Args:
        pieces: of the text, each with what became of it.
        fold: the change.
        begins: whether a character begins something, and does not belong to the one before it.
    """

    def __init__(self, pieces: Sequence[tuple[str, str]], fold: Callable[[str], str], begins: Callable[[str], bool]) -> None:
        self._pieces, self._fold, self._begins = pieces, fold, begins
        self._old = list(accumulate((len(piece) for piece, _ in pieces), initial=0))
        self._new = list(accumulate((len(made) for _, made in pieces), initial=0))
        self._known: dict[int, Places] = {}

    def of(self, start: int, end: int) -> tuple[int, int]:
        """As :meth:`Places.of`."""
        first = self._at(start)
        if start >= end:
            return first[0], first[0]
        return first[0], max(first[0], self._at(end - 1)[1])

    def _at(self, place: int) -> tuple[int, int]:
        """What one character was made of."""
        number = bisect_right(self._new, place) - 1
        if number >= len(self._pieces):
            return self._old[-1], self._old[-1]
        if number not in self._known:
            # Only the pieces that are asked for: this takes a step for each character.
            self._known[number] = _folded(*self._pieces[number], self._fold, self._begins)
        start, end = self._known[number].of(place - self._new[number], place - self._new[number] + 1)
        return start + self._old[number], end + self._old[number]


def _folded(text: str, made: str, fold: Callable[[str], str], begins: Callable[[str], bool]) -> Places:
    if text.isascii():
        return _same(len(text))
    edges = [0, *(place for place in range(1, len(text)) if begins(text[place])), len(text)]
    starts, ends = array("I"), array("I")
    for start, end in pairwise(edges):
        size = len(fold(text[start:end]))
        starts.extend([start] * size)
        ends.extend([end] * size)
    # Marks that no language puts together may fold otherwise in parts than as a whole.
    return Places(starts, ends, len(text)) if len(starts) == len(made) else _spread(0, len(text), len(made), len(text))


def map_squeezing(text: str, line: str) -> Places:
    """Through the squeezing of blanks."""
    if text == line:
        return _same(len(text))
    starts, ends = array("I"), array("I")
    for word in _WORD.finditer(text):
        if starts:
            starts.append(ends[-1])
            ends.append(word.start())
        starts.extend(range(word.start(), word.end()))
        ends.extend(range(word.start() + 1, word.end() + 1))
    return Places(starts, ends, len(text))


def map_changes(text: str, other: str) -> Places:
    """Through a change of some words: what stayed, or was changed letter by letter, is exact, the rest to the word."""
    if text == other or (len(text) == len(other) and _borders(text) == _borders(other)):
        return _same(len(text))
    old, new = _words(text), _words(other)
    starts, ends = array("I"), array("I")

    def add(upto: int, first: int, last: int) -> None:
        """The characters up to a place are what was made of a stretch."""
        part = _spread(first, last, upto - len(starts), len(text))
        starts.extend(part.starts)
        ends.extend(part.ends)

    at = 0
    for a, b, i, j in _runs([text[slice(*place)] for place in old], [other[slice(*place)] for place in new]):
        if i == j:
            continue
        add(new[i][0], at, max(at, old[a][0] if a < len(old) else len(text)))
        first = old[a][0] if a < len(old) else len(text)
        at = max(first, old[b - 1][1] if b else 0)
        add(new[j - 1][1], first, at)
    add(len(other), at, len(text))
    return Places(starts, ends, len(text))


def _runs(old: Sequence[str], new: Sequence[str]) -> Iterable[tuple[int, int, int, int]]:
    """Which words became which, in order; one by one where as many became as many."""
    common = Counter(old)
    if sum(common[word] for word in new) > _MOST_PAIRS:
        # As many of the first as of the last are the same; what lies between is one change.
        front = next((place for place, (one, two) in enumerate(zip(old, new, strict=False)) if one != two), 0)
        least = min(len(old), len(new)) - front
        back = next((place for place in range(least) if old[-1 - place] != new[-1 - place]), least)
        codes = [(0, front, 0, front), (front, len(old) - back, front, len(new) - back)]
        codes.append((len(old) - back, len(old), len(new) - back, len(new)))
    else:
        codes = [code[1:] for code in SequenceMatcher(None, old, new, autojunk=False).get_opcodes()]
    for a, b, i, j in codes:
        if b - a == j - i:
            yield from ((a + step, a + step + 1, i + step, i + step + 1) for step in range(b - a))
        else:
            yield a, b, i, j


def _words(text: str) -> list[tuple[int, int]]:
    return [found.span() for found in _WORD.finditer(text)]


def _borders(text: str) -> list[int]:
    return [place for span in _words(text) for place in span]


def _same(length: int) -> Places:
    return Places(range(length), range(1, length + 1), length)


def _spread(first: int, last: int, made: int, whole: int) -> Places:
    """What was made of a stretch: one by one where as many became as many, else all of it of all."""
    if made == last - first:
        return Places(range(first, last), range(first + 1, last + 1), whole)
    return Places([first] * made, [last] * made, whole)
