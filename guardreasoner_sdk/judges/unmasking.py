"""Words that were disguised to slip past a classifier, as a reader reads them.

Only what is surely a disguise is undone: a word of letters that look alike, of digits in place of letters, or spelt letter by
letter, becomes the word that the model's vocabulary has; a long base64 word becomes the text that it holds. What is no
disguise stays as it is: ``mp3``, ``1st``, ``R2-D2``, a Russian word.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Iterator
from math import inf, log
from typing import Final

__all__ = ["Unmasker", "parts", "unchecked"]


def unchecked() -> None:
    """Stands for a check where nobody waits with a deadline."""


# Letters of other scripts that are drawn like a Latin one (Unicode Technical Standard 39, confusables), small letters first.
_ALIKE: Final = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0455\u0456\u0458\u04bb\u0501\u051b\u051d\u0432\u043a\u043c\u043d\u0442\u0433"
    "\u0410\u0412\u0415\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0423\u0425\u0405\u0406\u0408"
    "\u03b1\u03bf\u03c1\u03bd\u03b9\u03ba\u03c4\u03c5\u03c7\u03b5"
    "\u0391\u0392\u0395\u0396\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a5\u03a7"
    "\u0261\u0131\u0251\u028f\u1d00\u0299\u1d04\u1d05\u1d07\ua730\u0262\u029c\u026a\u1d0a\u1d0b\u029f\u1d0d\u0274\u1d0f\u1d18"
    "\u0280\ua731\u1d1b\u1d1c\u1d20\u1d21\u1d22",
    "aeopcyxsijhdqwbkmhtrABEKMHOPCTYXSIJaopvikTuxe".lower() + "ABEZHIKMNOPTYXgiayabcdefghijklmnoprstuvwz",
)
_LOOKS: Final = re.compile("[" + "".join(map(chr, _ALIKE)) + "]")
_LATIN: Final = re.compile("[A-Za-z]")
_WORD: Final = re.compile(r"[^\W\d_]+")

_PUNCTUATION: Final = str.maketrans(
    {"\u2018": "'", "\u2019": "'", "\u201b": "'", "\u02bc": "'", "\u201c": '"', "\u201d": '"', "\u2010": "-", "\u2011": "-",
     "\u2012": "-", "\u2013": "-", "\u2014": "-", "\u2212": "-"}
)  # fmt: skip

# What stands for a letter; some for one of two.
_LEET: Final = {
    "0": "o", "1": "il", "3": "e", "4": "a", "5": "s", "7": "t", "8": "b", "9": "g", "@": "a", "$": "s", "!": "i", "|": "il",
    "+": "t", "\u20ac": "e", "\u00a3": "l",
}  # fmt: skip
_MIXED: Final = re.compile(r"[01345789@$|+!\u20ac\u00a3]")
_CORE: Final = re.compile(r"(?P<before>[\"'(\[{<]*+)(?P<word>[\w@$!|+\u20ac\u00a3]{3,24}?)(?P<after>(?:'s|[!.,;:?\"')\]}>])*+)")
_JOINED: Final = re.compile(r"([-/])")
_SHORTENED: Final = re.compile(r"(.*)'(7|\$|[rv]3|1[1l]|l1)([!.,;:?\"')\]}>]*+)")
_ENDINGS: Final = str.maketrans("7$31", "tsel")
_MEASURE: Final = re.compile(
    r"\d+(?:st|nd|rd|th|[kmgtpn]?b|[kmcn]?m|[km]?g|[mk]?l|lbs?|oz|ft|in|hz|[kmn]?w|[km]?v|m?s|secs?|mins?|hrs?|h|d|[ap]m|[kxpcf])",
    re.IGNORECASE,
)
# Each way of asking "and then, anywhere behind it" begins at the start, not at every place: it must not cost its square.
_INSIDE: Final = re.compile(
    r"\A[^01345789@$|+!\u20ac\u00a3]*+.+[A-Za-z]|\A[^A-Za-z]*+[A-Za-z].{2,}[@$]|[A-Za-z]\d[@$]|[a-z\d]\$++\d"
)
_NO_COMPOUND: Final = re.compile(r"[@$]|.*!")
_AT_END: Final = re.compile(r"(?P<stem>[A-Za-z]+)(?P<digits>[013457]+)")
_SPELT: Final = re.compile(r"(?<![^\W_])[^\W\d_](?P<gap>[.\-_*]|\u00b7)[^\W\d_](?:(?P=gap)[^\W\d_])+(?![^\W_])")
_SPACED: Final = re.compile(r"(?<![^\W_])[^\W\d_](?: {1,8}[^\W\d_](?![^\W_])){3,}")
_MOST_LETTERS: Final = 400
_SHORTEST_MEAN: Final = 2.4
_PARTS: Final = re.compile(r"(\s+)")
_GAP: Final = re.compile(" {2,}")
# Where a long text may be cut, best places first. Nothing that is undone in one go reaches over the first kind: a blank before
# a word that is no single letter. Nor over the others, except for words of more letters than a disguise or a token has.
_CUTS: Final = (
    re.compile(r"(?<=\s)(?=\S)(?![^\W\d_](?![^\W_]))"),
    re.compile(r"(?<=\s)(?=\S)"),
    re.compile(r"(?=[^\w\s+/=-]|[\u3400-\u4dbf\u4e00-\u9fff])"),
)
_NO_BASE64: Final = re.compile(r"[^A-Za-z0-9+/=_-]")
_PIECE: Final = 2048
_NEAR: Final = 1024
_BASE64: Final = re.compile(r"(?<![A-Za-z0-9+/=_-])[A-Za-z0-9+/_-]{16,}+={0,2}+(?![A-Za-z0-9+/=_-])")
_MOST_BASE64: Final = 20_000
_MOST_GUESSES: Final = 16
_LONGEST_SHORTENED: Final = 32
_SHORTEST_MADE: Final = 6
_SHORTEST_PIECE: Final = 3
_MOST_PIECES: Final = 3
_LAST_PIECES: Final = frozenset({"s", "d", "ed", "er", "ly"})


def parts(text: str) -> bool:
    """Whether a text begins with what is no part of a word before it: a blank, a sign, a Chinese character.

    Args:
        text: any text.
    """
    return not text or text[0].isspace() or _CUTS[-1].match(text) is not None


class Unmasker:
    """Undoes disguises.

    Args:
        vocabulary: words in lower case that a disguise may hide, frequent ones first; those that begin with ``##`` are pieces
            that go on a word.
    """

    def __init__(self, vocabulary: Iterable[str]) -> None:
        # By Zipf's law the logarithm of a word's rank is about what it takes to tell it among all.
        vocabulary = tuple(vocabulary)
        words = (word for word in vocabulary if word.isalpha() and (len(word) > 1 or word in "ai"))
        self._known = {word: log(rank) for rank, word in enumerate(words, 2)}
        pieces = (piece.removeprefix("##") for piece in vocabulary if piece.startswith("##"))
        self._pieces = _LAST_PIECES.union(piece for piece in pieces if piece.isalpha() and len(piece) >= _SHORTEST_PIECE)
        self._longest = max(map(len, self._known), default=0)

    def __call__(self, text: str) -> str:
        """Return the text with its disguises undone.

        Args:
            text: any text.
        """
        return "".join(self.pieces(text))

    def pieces(self, text: str, check: Callable[[], None] = unchecked) -> Iterator[str]:
        """The text with its disguises undone, in pieces: no step takes longer than a few milliseconds, however long the text.

        Args:
            text: any text.
            check: called between two pieces; what it raises ends the work.

        Yields:
            what stands for one part of the text after the other; cut where the tokenizer cuts, too.
        """
        latin: bool | None = None
        for piece in _cut(text):
            check()
            if latin is None and _LOOKS.search(piece) is not None:
                latin = _mostly_latin(text, check)
            yield self._undone(piece, bool(latin))

    def _undone(self, text: str, latin: bool) -> str:
        if not text.isascii():
            text = _plain_letters(text.translate(_PUNCTUATION), latin)
        if _BASE64.search(text) is not None:
            text = _BASE64.sub(_decoded, text)
        # Two blanks part words, so this comes before blanks are folded.
        text = _SPACED.sub(lambda found: self._spaced(found[0]), text)
        text = _SPELT.sub(lambda found: self._dotted(found[0], found["gap"]), text)
        if _MIXED.search(text) is not None:
            text = "".join(self._spelt(part) for part in _PARTS.split(text))
        return text

    def _spaced(self, found: str) -> str:
        """``b o m b``, ``h o w  t o``."""
        words: list[str] = []
        for piece in _GAP.split(found):
            letters = piece.replace(" ", "").lower()
            words += self._parted(letters) or ([letters] if len(letters) > 1 and "  " in found else [""])
        whole = all(words) and len(found.replace(" ", "")) >= _SHORTEST_MEAN * len(words)
        return " ".join(words) if whole else found

    def _dotted(self, found: str, gap: str) -> str:
        """``b.o.m.b``."""
        letters = found.replace(gap, "")
        if letters.isupper() and len(letters) < 5:
            return found  # U.S.A.
        words = self._parted(letters.lower())
        return found if words is None or len(letters) < _SHORTEST_MEAN * len(words) else " ".join(words)

    def _parted(self, letters: str) -> list[str] | None:
        """Letters as the likeliest words of the vocabulary; None where they are none."""
        if len(letters) > _MOST_LETTERS:
            return None
        best: list[tuple[float, int] | None] = [(0.0, 0)] + [None] * len(letters)
        for end in range(1, len(letters) + 1):
            for start in range(max(0, end - self._longest), end):
                before, cost = best[start], self._known.get(letters[start:end])
                if before is not None and cost is not None:
                    best[end] = min(best[end] or (inf, 0), (before[0] + cost, start))
        words: list[str] = []
        end = len(letters)
        while end:
            found = best[end]
            if found is None:
                return None
            words.append(letters[found[1] : end])
            end = found[1]
        return words[::-1]

    def _spelt(self, word: str) -> str:
        """A word with digits or signs for letters, as the vocabulary has it; else as it is. Parts of a compound each."""
        if _MIXED.search(word) is None:
            return word
        short = _SHORTENED.fullmatch(word) if len(word) <= _LONGEST_SHORTENED else None
        if short is not None and _LATIN.search(short[1]) is not None:  # d0n'7, y0u'r3
            ending = short[2].translate(_ENDINGS)
            return f"{self._spelt(short[1])}'{ending}{short[3]}"
        return "".join(self._one(part) for part in _JOINED.split(word))

    def _one(self, word: str) -> str:
        found = _CORE.fullmatch(word) if _MIXED.search(word) is not None else None
        if found is None or _MEASURE.fullmatch(found["word"]):
            return word
        guesses = [""]
        for character in found["word"].lower():
            choices = _LEET.get(character, character)
            guesses = [guess + choice for guess in guesses for choice in choices][:_MOST_GUESSES]
        made = next((guess for guess in guesses if guess in self._known), None)
        if _INSIDE.search(found["word"]) is not None:
            if made is None and _NO_COMPOUND.match(found["word"]) is None:
                made = next((guess for guess in guesses if self._made_of(guess)), None)
        elif made is not None and not self._ends_in_letters(found["word"], made):
            made = None
        return word if made is None else f"{found['before']}{made}{found['after']}"

    def _ends_in_letters(self, word: str, made: str) -> bool:
        """Digits at the end are mostly those of a model, a year or a count (ps4, part5), but not those of cr3473 and sur3."""
        found = _AT_END.fullmatch(word)
        if found is None:
            return False
        stem = self._known.get(found["stem"].lower(), inf)
        many = len(found["digits"]) > 1 and len(word) > 3
        return many or (len(found["stem"]) > 1 and self._known[made] < stem)

    def _made_of(self, word: str) -> bool:
        """Whether a word that is not in the vocabulary is some long pieces of it: ``mal`` and ``ware``."""
        if len(word) < _SHORTEST_MADE:
            return False
        ends = {len(word): 1}  # how many pieces it takes if the first ends here
        for start in range(len(word) - 1, _SHORTEST_PIECE - 1, -1):
            rest = [ends[end] for end in ends if word[start:end] in self._pieces and (end == len(word) or end - start > 2)]
            if rest and min(rest) < _MOST_PIECES:
                ends[start] = min(rest) + 1
        return any(word[:end] in self._known for end in ends)


def _cut(text: str) -> Iterator[str]:
    """The text in pieces of about 2,000 characters; a word that may be base64 in one, with 20,000 more at most."""
    start, whole = 0, len(text)
    while whole - start > _PIECE + _NEAR:
        least = start + _PIECE
        found = next((cut for at in _CUTS if (cut := at.search(text, least, least + _NEAR)) is not None), None)
        if found is None:
            found = _NO_BASE64.search(text, least + _NEAR, least + _NEAR + _MOST_BASE64)
        end = min(least + _NEAR + _MOST_BASE64, whole) if found is None else found.start()
        yield text[start:end]
        start = end
    yield text[start:]


def _mostly_latin(text: str, check: Callable[[], None]) -> bool:
    """Whether more than half of a text's letters are those of ASCII."""
    letters = plain = 0
    for start in range(0, len(text), _PIECE):
        check()
        piece = text[start : start + _PIECE].translate(_PUNCTUATION)
        letters += sum(map(str.isalpha, piece))
        plain += sum(map(str.isalpha, piece.encode("ascii", "ignore").decode("ascii")))
    return plain * 2 > letters


def _plain_letters(text: str, latin: bool) -> str:
    """Letters that are drawn like Latin ones become those, in words that have Latin letters, or stand among such words."""
    if _LOOKS.search(text) is None:
        return text

    def plain(found: re.Match[str]) -> str:
        word = found[0]
        if word.isascii():
            return word
        made = word.translate(_ALIKE)
        return made if made.isascii() and (latin or _LATIN.search(word) is not None) else word

    return _WORD.sub(plain, text)


def _decoded(found: re.Match[str]) -> str:
    """The text of a base64 word; the word itself where it holds none."""
    word = found[0]
    # Words and paths of letters alone are no base64; real base64 mixes capitals, small letters and digits.
    if len(word) > _MOST_BASE64 or word.islower() or word.isupper() or word.isdigit():
        return word
    padded = word.rstrip("=").translate(str.maketrans("-_", "+/"))
    try:
        text = base64.b64decode(padded + "=" * (-len(padded) % 4), validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        return word
    # Bytes that no text was encoded in are hardly ever printable, and text has blanks and letters.
    said = sum(character.isalpha() or character.isspace() for character in text)
    shown = all(character.isprintable() or character.isspace() for character in text)
    parted = len(text.split()) > 1 or not text.isascii()  # not every script parts words
    return text if shown and said >= 0.6 * len(text) and parted else word
