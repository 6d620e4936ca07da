"""Text that was turned: rot13, written backwards. What it says, where that reads as language and the text itself does not."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from guardreasoner_sdk.judges.language import LETTERS, Language, Stretch, drop_overlaps

__all__ = ["Way", "find_turned", "ways"]

_ROTATED: Final = str.maketrans(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", "NOPQRSTUVWXYZABCDEFGHIJKLMnopqrstuvwxyzabcdefghijklm"
)
_PIECE: Final = 4096
_NEAR: Final = 512
_CUT: Final = re.compile(r"\s")
_LINES: Final = re.compile('[^\\s:"\u201c\u201d\u00ab\u00bb][^\r\n:"\u201c\u201d\u00ab\u00bb]*')
_PARTS: Final = re.compile(r"\S+")
_SHORTEST: Final = 4
_FEWEST_LETTERS: Final = 9
_FEWEST_WORDS: Final = 3
_SLACK: Final = 12
_FAR: Final = 40
_SIGNS: Final = re.compile(r"[^\w\s]{0,3}")
# Words of programs that are others backwards.
_SHELL: Final = frozenset({"fi", "esac", "elif", "sse", "flah"})
# The end of a sentence, or a mark that goes on the letter before it, where a line begins.
_BEGINS: Final = re.compile(
    "[?!.\u3002\uff1f\uff01\u061f\u06d4\u0964\u0965](?=[^\\W\\d_])|[\u0300-\u036f\u093e-\u094d\u0e31-\u0e3a]"
)
_ENDS: Final = re.compile("[?!.:\u3002\uff1f\uff01\u061f\u06d4\u0964\u0965]\\s*\\Z")


@dataclass(frozen=True, slots=True)
class Way:
    """A way of turning text.

    Args:
        word: what becomes of a word.
        text: what becomes of a stretch of text.
        telling: words, turned, that are common ones and were none.
        shows: tells a line that was turned, in any language, by its signs and capitals; None where they do not show it.
    """

    word: Callable[[str], str]
    text: Callable[[str], str]
    telling: frozenset[str]
    shows: Callable[[str, Language], bool] | None = None


def ways(language: Language) -> tuple[Way, ...]:
    """The ways in which text is turned."""
    backwards = _telling(language, _reverse)
    return (
        Way(_rotate, _rotate, _telling(language, _rotate)),
        Way(_reverse, _reverse, backwards, _ends_first),
        Way(_reverse, lambda text: _PARTS.sub(lambda found: _reverse(found[0]), text), backwards),
    )


def _rotate(text: str) -> str:
    return text.translate(_ROTATED)


def _reverse(text: str) -> str:
    return text[::-1]


def _telling(language: Language, turn: Callable[[str], str]) -> frozenset[str]:
    return frozenset(map(turn, language.common)) - language.common - _SHELL


def _ends_first(line: str, language: Language) -> bool:
    """Whether a line begins with the end of its sentence: the sign, or where letters have capitals, a word written ``woH``."""
    words = LETTERS.findall(line)
    if not words or _ENDS.search(line) is not None:
        return False
    letters = sum(map(len, words))
    if line.lower() == line.upper():
        return letters >= _FEWEST_LETTERS and _BEGINS.match(line) is not None
    last = words[-1]
    if len(line.split()) < _FEWEST_WORDS or not (
        last[:-1].islower() and line.rstrip().endswith(last[1:]) and last[-1].isupper()
    ):
        return False
    # Names in source code look like that, among words that are common ones as they stand.
    plain = any(word[0].isupper() for word in words if len(word) > 2)
    common = sum(len(word) for word in words if word.lower() in language.common)
    return not plain and common < 0.3 * letters and letters >= 0.85 * len("".join(line.split()))


def find_turned(text: str, way: Way, language: Language, check: Callable[[], None]) -> list[Stretch]:
    """The stretches of a text that read as language once they are turned, and not before.

    Args:
        check: called every few milliseconds; what it raises ends the work.
    """
    found: list[Stretch] = []
    asked = 0  # up to where
    for start, end in _pieces(text):
        check()
        piece = text[start:end]
        hits = [word for word in LETTERS.findall(piece.lower()) if word in way.telling]
        if sum(map(len, hits)) >= _SHORTEST:
            # A stretch may begin a little before a piece, and end a little behind.
            begin = max(asked, start - _NEAR)
            asked = min(end + _NEAR, len(text))
            found += _stretches(text, begin, asked, way, language)
        if way.shows is not None:
            lines = (line for line in _LINES.finditer(piece) if way.shows(line[0], language))
            found += (Stretch(start + line.start(), start + line.end(), way.text(line[0])) for line in lines)
    return drop_overlaps(found)


def _pieces(text: str) -> Iterator[tuple[int, int]]:
    start = 0
    while start < len(text):
        end = start + _PIECE
        cut = _CUT.search(text, end, end + _NEAR)
        end = min(end if cut is None else cut.start(), len(text))
        yield start, end
        start = end


def _stretches(text: str, begin: int, end: int, way: Way, language: Language) -> Iterator[Stretch]:
    """Rows of words of which most are common only once turned: those whose letters tell most for it."""
    words = [(found, _told(found[0].lower(), way, language)) for found in LETTERS.finditer(text, begin, end)]
    place = 0
    while place < len(words):
        if words[place][1] <= 0:
            place += 1
            continue
        total = best = 0.0
        last = place
        for further in range(place, len(words)):
            total += words[further][1]
            if total > best:
                best, last = total, further
            if total <= 0 or total < best - _SLACK:
                break
        hits = {found[0].lower() for found, told in words[place : last + 1] if told > 0}
        if best >= _FEWEST_LETTERS and len(hits) >= _FEWEST_WORDS and max(map(len, hits)) >= _SHORTEST:
            yield _stretch(text, *_widened(words, place, last, language), way)
        place = last + 1


def _told(word: str, way: Way, language: Language) -> float:
    if word in way.telling:
        return len(word)
    if word in language.common:
        return 0.0 if way.word(word) in language.common else -len(word)
    return 0.0 if len(word) == 1 else -0.25 * len(word)


def _widened(words: list[tuple[re.Match[str], float]], first: int, last: int, language: Language) -> tuple[int, int]:
    """Where a row begins and ends with the words beside it that are no common ones as they stand: names, other languages."""
    start, end = words[first][0].start(), words[last][0].end()
    for found, _ in reversed(words[:first]):
        if found[0].lower() in language.common or start - found.end() > 2 or words[first][0].start() - found.start() > _FAR:
            break
        start = found.start()
    for found, _ in words[last + 1 :]:
        if found[0].lower() in language.common or found.start() - end > 2 or found.end() - words[last][0].end() > _FAR:
            break
        end = found.end()
    return start, end


def _stretch(text: str, start: int, end: int, way: Way) -> Stretch:
    # A sentence that is turned begins with its full stop.
    before = _SIGNS.match(text[max(0, start - 3) : start][::-1])
    behind = _SIGNS.match(text, end)
    start -= 0 if before is None else before.end()
    end = end if behind is None else behind.end()
    return Stretch(start, end, way.text(text[start:end]))
