"""Words that were disguised to slip past a classifier, as a reader reads them.

Only what is surely a disguise is undone: a word of letters that look alike, of digits in place of letters, or spelt letter by
letter, becomes the word that the vocabulary has, and words that are joined into one are separated. What is not a disguise stays
as it is: ``mp3``, ``1st``, ``R2-D2``, a Russian word. What is encoded is not a disguise of words: it is decoded apart.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import pairwise
from math import inf, log
from pathlib import Path
from typing import Final

__all__ = ["Unmasker", "no_check", "parts", "shared_unmasker", "word_list"]


def no_check() -> None:
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
# From the beginning of a word on: looked for from within, a long one without such a sign would cost its square.
_MIXED_WORD: Final = re.compile(r"(?<!\S)[^\s01345789@$|+!\u20ac\u00a3]*+[01345789@$|+!\u20ac\u00a3]\S*+")
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
# Letters with a sign between each two, and more of them after a blank: ``h.o.w d.o I b.a.k.e``, ``h.o.w. .d.o. .I``.
_SPELT: Final = re.compile(
    r"(?<![^\W_])[^\W\d_](?P<gap>[.\-_*]|\u00b7)[^\W\d_](?![^\W_])"
    r"(?:(?P=gap)[^\W\d_](?![^\W_])|(?P=gap)? (?P=gap)?[^\W\d_](?=(?P=gap)|[\s.,;:!?\"')\]]|\Z))*+"
)
_GLUED: Final = re.compile(r"(?<![^\s\"'(\[])[A-Za-z]{14,400}(?=[.,;:!?\"')\]]*+(?!\S))")
_SPACED: Final = re.compile(r"(?<![^\W_])[^\W\d_](?: {1,8}[^\W\d_](?![^\W_])){3,}")
_MOST_LETTERS: Final = 400
_SHORTEST_MEAN: Final = 2.4
_SHORTEST_DOTTED: Final = 3
_LONG: Final = 4
_FEWEST_GLUED: Final = 4
_SHORT: Final = frozenset("a am an as at be by do go he i if in is it me my no of on or so to up us we".split())  # noqa: SIM905
_ODD_ONE_IN: Final = 6
# By letter, in logarithms of ranks; measured on sentences without blanks and on 4,000 long words of twelve languages.
_DEAR: Final = 1.6
_DEARER: Final = 1.8
_FREQUENT: Final = 5.4
_INNER_CAPITAL: Final = re.compile(r"[a-z][A-Z]")
_LATIN_WORD: Final = re.compile(r"(?<!\w)[A-Za-z]++(?!\w)")
_WHOLE_WORD: Final = re.compile(r"(?<!\w)[^\W\d_]++(?!\w)")
_FEWEST_ODD: Final = 3
_GAP: Final = re.compile(" {2,}")
# Where a long text may be cut, best places first. Nothing that is undone in one go reaches over the first kind: a blank before
# a word that is no single letter. Nor over the others, except for words of more letters than a disguise or a token has.
_CUTS: Final = (
    re.compile(r"(?<=\s)(?=\S)(?![^\W\d_](?![^\W_]))"),
    re.compile(r"(?<=\s)(?=\S)"),
    re.compile(r"(?=[^\w\s+/=-]|[\u3400-\u4dbf\u4e00-\u9fff])"),
)
_NO_WORD: Final = re.compile(r"[^A-Za-z0-9+/=_-]")
_PIECE: Final = 2048
_NEAR: Final = 1024
_MOST_WHOLE: Final = 20_000
_MOST_GUESSES: Final = 16
_LONGEST_SHORTENED: Final = 32
_SHORTEST_MADE: Final = 6
_SHORTEST_PIECE: Final = 3
_MOST_PIECES: Final = 3
_WORDS: Final = Path(__file__).parent.parent / "assets" / "words.txt"
_LAST_PIECES: Final = frozenset({"s", "d", "ed", "er", "ly"})


def parts(text: str) -> bool:
    """Whether a text begins with what is no part of a word before it: a blank, a sign, a Chinese character."""
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
        """Return the text with its disguises undone."""
        return "".join(self.pieces(text))

    def pieces(self, text: str, check: Callable[[], None] = no_check) -> Iterator[str]:
        """The text with its disguises undone, in pieces: no step takes longer than a few milliseconds, however long the text.

        Args:
            check: called between two pieces; what it raises ends the work.

        Yields:
            what stands for one part of the text after the other; cut where the tokenizer cuts, too.
        """
        return (undone for _, undone in self.beside(text, check))

    def beside(self, text: str, check: Callable[[], None] = no_check) -> Iterator[tuple[str, str]]:
        """:meth:`pieces`, each behind the part of the text that it stands for; the parts together are the text.

        Args:
            check: called between two pieces; what it raises ends the work.
        """
        latin: bool | None = None
        for piece in _cut(text):
            check()
            if latin is None and _LOOKS.search(piece) is not None:
                latin = _mostly_latin(text, check)
            yield piece, self._undone(piece, bool(latin))

    def _undone(self, text: str, latin: bool) -> str:
        if not text.isascii():
            text = _plain_letters(text.translate(_PUNCTUATION), latin)
        # Two blanks part words, so this comes before blanks are folded.
        text = _SPACED.sub(lambda found: self._spaced(found[0]), text)
        text = _SPELT.sub(lambda found: self._dotted(found[0], found["gap"]), text)
        text = _GLUED.sub(lambda found: self._glued(found[0]), text)
        if _MIXED.search(text) is not None:
            text = _MIXED_WORD.sub(lambda found: self._spelt(found[0]), text)
        inside = _INNER_CAPITAL.search(text) is not None if text.isascii() else text != text.lower()
        return self._evened(text) if inside else text

    def _evened(self, text: str) -> str:
        """``hOw tO mAkE``: small letters, where capitals stand anywhere; else only in words that the vocabulary has."""
        words = [word for word in _WHOLE_WORD.findall(text) if word.lower() != word.upper()]
        odd = sum(not (word.islower() or word.isupper() or word.istitle()) for word in words)
        if odd >= _FEWEST_ODD and odd * 3 >= len(words):
            return text.lower()

        def even(found: re.Match[str]) -> str:
            low = found[0].lower()
            return low if low in self._known and _INNER_CAPITAL.search(found[0]) is not None else found[0]

        return _LATIN_WORD.sub(even, text)

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
        written = found.replace(f"{gap} ", " ").replace(f" {gap}", " ").split(" ")
        letters = [word.replace(gap, "") for word in written]
        spelt = [word for word in letters if len(word) >= _SHORTEST_DOTTED and not (word.isupper() and len(word) < 5)]
        # Two words that are spelt side by side are no names, whatever the language; what parts them is there.
        if len(spelt) > 1:
            return " ".join(self._glued(word) for word in letters)
        words = [self._one_dotted(word, gap) for word in written]
        if words == written:
            return found
        # Beside one, what may be an abbreviation elsewhere is a word.
        return " ".join(short if short.lower() in self._known else word for word, short in zip(words, letters, strict=True))

    def _one_dotted(self, word: str, gap: str) -> str:
        letters = word.replace(gap, "")
        if len(letters) < _SHORTEST_DOTTED or (letters.isupper() and len(letters) < 5):
            return word  # U.S.A.
        words = self._parted(letters.lower())
        return word if words is None or len(letters) < _SHORTEST_MEAN * len(words) else " ".join(words)

    def _glued(self, found: str) -> str:
        """``howdoicookacake``."""
        words = None if found.lower() in self._known else self._parted(found.lower())
        return found if words is None or not self._sentence(words) else " ".join(words)

    def _sentence(self, words: list[str]) -> bool:
        """Whether words that stood without blanks are some, and no long word of any language that falls into such pieces."""
        if len(words) < _FEWEST_GLUED or len(words[-1]) == 1 or any(len(one + other) == 2 for one, other in pairwise(words)):
            return False
        if sum(len(word) < 3 and word not in _SHORT for word in words) * _ODD_ONE_IN > len(words):
            return False
        dear = sum(self._known[word] for word in words) / sum(map(len, words))
        long = sum(len(word) >= _LONG for word in words)
        frequent = {word for word in words if len(word) > 1 and self._known[word] <= _FREQUENT}
        spoken = len(frequent) > 1 and max(map(len, frequent)) > 2
        return (dear <= _DEAR and long > 1) or (dear <= _DEARER and long > 0 and spoken)

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


@lru_cache(1)
def word_list() -> tuple[str, ...]:
    """The package's words: English ones, frequent ones first, and pieces that go on a word, which begin with ``##``."""
    return tuple(_WORDS.read_text("utf-8").splitlines())


@lru_cache(1)
def shared_unmasker() -> Unmasker:
    """The one that knows the package's words."""
    return Unmasker(word_list())


def _cut(text: str) -> Iterator[str]:
    """The text in pieces of about 2,000 characters; a word without an end in one, with 20,000 more at most."""
    start, whole = 0, len(text)
    while whole - start > _PIECE + _NEAR:
        least = start + _PIECE
        found = next((cut for at in _CUTS if (cut := at.search(text, least, least + _NEAR)) is not None), None)
        if found is None:
            found = _NO_WORD.search(text, least + _NEAR, least + _NEAR + _MOST_WHOLE)
        end = min(least + _NEAR + _MOST_WHOLE, whole) if found is None else found.start()
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
