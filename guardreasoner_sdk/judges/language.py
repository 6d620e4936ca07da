"""Whether a text reads as language, whatever the language: what comes out of a code is noise more often than not."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Final, NamedTuple

__all__ = ["LETTERS", "Language", "Stretch", "drop_overlaps", "replace_stretches"]

LETTERS: Final = re.compile(r"[^\W\d_]+")
"""A run of letters."""


class Stretch(NamedTuple):
    """A part of a text, and what it says."""

    start: int
    end: int
    said: str


def drop_overlaps(stretches: Iterable[Stretch]) -> list[Stretch]:
    """The stretches in order, without those that lie over one before."""
    kept: list[Stretch] = []
    for stretch in sorted(stretches, key=lambda stretch: (stretch.start, -stretch.end)):
        if not kept or stretch.start >= kept[-1].end:
            kept.append(stretch)
    return kept


def replace_stretches(text: str, stretches: Sequence[Stretch]) -> str:
    """The text with what its stretches say in their place.

    Args:
        stretches: in order, none over another.
    """
    pieces: list[str] = []
    place = 0
    for start, end, said in stretches:
        pieces += (text[place:start], said)
        place = end
    return "".join((*pieces, text[place:]))


# The most frequent words of languages that the word list has none of: three of them in a row are hardly ever chance.
_FREQUENT: Final = (
    # German, Dutch, Danish, Norwegian, Swedish
    "der die das und ist ich nicht ein eine einen einem einer zu den mit wie man auf für von dem sich auch es kann mir mein "
    "meine was bei nach aus wird werden haben sein mach machen bitte gibt wenn oder über ohne jemand jemanden haus hause "
    "het een van ik niet dat hoe voor met zijn kan wat naar aan je mijn maken iemand zonder thuis worden deze "
    "og det jeg ikke til hvordan kan på lage som att jag inte hur och är göra hjemme hemma med uten utan "
    # French, Spanish, Portuguese, Italian, Catalan, Romanian
    "le la les des une est pas que qui dans pour sur avec comment je vous mon faire peut quel quelle sont sans quels "
    "maison aux cette être plus mes ma par ou puis au "
    "el los las una por para con como qué cómo se mi puedo hacer es cuál del casa sin sobre alguien son unos hay "
    "os um uma não eu meu fazer posso ao dos mais isso qual em sem alguém são está você "
    "il che di per come un sono della nel fare mio posso qual gli più cosa una senza qualcuno questo quali alla del dei "
    "și nu este cum pentru care fără unui "
    # Polish, Czech, Hungarian, Finnish, Turkish, Indonesian, Swahili
    "nie się jak jest na do czy co to mogę w z bez domu zrobić jsem jako že udělat doma "
    "hogyan egy nem ez az és nélkül miten mikä ja ei on ilman "
    "bir ve bu nasıl için ne mi da de yapılır var evde yapabilirim olarak daha nedir "
    "yang dan di untuk saya cara apa ini itu dengan bagaimana membuat tidak rumah tanpa pada "
    "ya wa kwa ni na jinsi kutengeneza bila "
    # Russian, Ukrainian, Bulgarian, Greek
    "и в не на я что как с это по но из для мне мой у к так бы он она они мы вы если или его сделать можно дома без кто где "
    "від що як це та про без е да се от за "
    "και το να του η της με για πώς είναι στο χωρίς"
)
_FREQUENT_RANK: Final = 400
_SHORTEST_COMMON: Final = 4
_VOWELS: Final = frozenset("aeiouyæøœıəаеиоуыэюяіїαειουηω")
_CONSONANTS: Final = re.compile(r"[bcdfghjklmnpqrstvwxz]{6}")
_LONGEST: Final = 24
_FEWEST: Final = 4
_FEW: Final = 8
_MANY: Final = 3
_FEWEST_FOREIGN: Final = 6
# Scripts that are written beside each other, those that take few letters, and those in which people write today.
_TOGETHER: Final = frozenset({"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "HANGUL", "BOPOMOFO", "IDEOGRAPHIC"})
_DENSE: Final = _TOGETHER | {"THAI", "LAO", "KHMER", "MYANMAR"}
_IN_USE: Final = _DENSE | {
    "LATIN", "CYRILLIC", "GREEK", "ARABIC", "HEBREW", "ARMENIAN", "GEORGIAN", "ETHIOPIC", "DEVANAGARI", "BENGALI", "GURMUKHI",
    "GUJARATI", "ORIYA", "TAMIL", "TELUGU", "KANNADA", "MALAYALAM", "SINHALA", "TIBETAN", "MONGOLIAN",
}  # fmt: skip
# What these hold of Chinese and Korean is what people write: a seventh to a third of what there is.
_ENCODINGS: Final = ("gb2312", "shift_jis", "euc_kr", "big5")
_BIG5_SELDOM: Final = b"\xc9"


@lru_cache(maxsize=4096)
def _kind(character: str) -> tuple[str, str]:
    """What a character is: ``letter``, ``mark``, ``blank``, ``broken`` or another; and the script of a letter."""
    category = unicodedata.category(character)
    if category[0] == "L":
        script = unicodedata.name(character, "?").partition(" ")[0]
        return "letter", "LATIN" if script in ("FULLWIDTH", "MODIFIER", "FEMININE", "MASCULINE", "MICRO") else script
    if category[0] == "M":
        return "mark", ""
    if character.isspace():
        return "blank", ""
    return ("broken" if category in ("Cc", "Cn", "Co", "Cs") or character == "\ufffd" else "other"), ""


@lru_cache(maxsize=4096)
def _sound(word: str) -> bool:
    """Whether letters may be a word: capitals where words have them, a vowel, no row of consonants."""
    if len(word) > _LONGEST or not (word.islower() or word.isupper() or word[1:].islower() or word.lower() == word.upper()):
        return False
    bare = "".join(letter for letter in unicodedata.normalize("NFD", word.lower()) if letter.isalpha())
    if not bare.isascii():
        return True
    return len(bare) < 3 or (not _VOWELS.isdisjoint(bare) and _CONSONANTS.search(bare) is None)


class Language:
    """Tells language from noise.

    Args:
        vocabulary: words in lower case, frequent ones first; those that begin with ``##`` are pieces, and not taken.
    """

    def __init__(self, vocabulary: Iterable[str]) -> None:
        ranked = [word for word in vocabulary if word.isalpha() and len(word) > 1]
        long = (word for word in ranked if len(word) >= _SHORTEST_COMMON)
        self.common: Final = frozenset(
            (*long, *ranked[:_FREQUENT_RANK], *(word for word in _FREQUENT.split() if len(word) > 1))
        )
        """Words that tell something: those of four letters or more, and the most frequent short ones."""

    def reads(self, text: str) -> bool:
        """Whether a text that somebody encoded on purpose reads as language.

        Args:
            text: what was decoded; at most some hundred characters.
        """
        text = text.strip()
        kinds: Counter[str] = Counter()
        scripts: Counter[str] = Counter()
        for character, times in Counter(text).items():
            kind, script = _kind(character)
            kinds[kind] += times
            if script:
                scripts[script] += times
        letters, said = kinds["letter"], kinds["letter"] + kinds["mark"] + kinds["blank"]
        if kinds["broken"] * 20 > len(text) or said < 0.65 * len(text):
            return False
        main = {script for script, times in scripts.items() if times * 20 > letters}
        if letters < (2 if main and main <= _DENSE else _FEWEST) or not _written(text, main):
            return False
        written = [character for character in text if _kind(character)[0] == "letter"]
        # Tables of characters go through the alphabet; words go to and fro.
        rising = sum(one < other for one, other in pairwise(written))
        if rising > 0.85 * len(written) if len(written) > _FEW else rising == len(written) - 1 and not text.isascii():
            return False
        return scripts["LATIN"] * 2 < letters or self._sounds(text)

    def _sounds(self, text: str) -> bool:
        words = LETTERS.findall(text)
        letters = sum(map(len, words))
        plain = "".join(words).lower()
        vowels = sum(map(plain.count, "aeiouy"))
        if plain.isascii() and letters >= _FEW and not 0.2 * letters <= vowels <= 0.65 * letters:
            return False
        # Words of one letter prove nothing, and noise is full of them.
        return sum(len(word) for word in words if len(word) > 1 and _sound(word)) >= 0.7 * letters

    def surely(self, text: str) -> bool:
        """Whether a text reads as language and could not be taken for it by chance.

        Args:
            text: what was decoded; at most some hundred characters.
        """
        if not self.reads(text):
            return False
        words = LETTERS.findall(text.lower())
        letters = sum(map(len, words))
        if sum(len(word) for word in words if not word.isascii()) * 2 > letters:
            scripts = {_kind(letter)[1] for word in words for letter in word}
            return letters >= _FEWEST_FOREIGN and (len(scripts) == 1 or scripts <= _TOGETHER)
        common = {word for word in words if word in self.common}
        told = sum(len(word) for word in words if word in common)
        many = len(common) >= _MANY
        return (told >= 0.5 * letters and (many or any(len(word) >= _SHORTEST_COMMON for word in common))) or (
            told >= 0.25 * letters and many
        )


def _written(text: str, scripts: set[str]) -> bool:
    """Whether scripts are written beside each other today, and the characters of the Chinese one are used."""
    foreign = scripts - {"LATIN"}
    if not scripts <= _IN_USE or not (len(foreign) < 2 or foreign <= _TOGETHER):
        return False
    if foreign.isdisjoint(("CJK", "HANGUL")):
        return True
    dense = [character for character in text if _kind(character)[1] in ("CJK", "HANGUL")]
    return any(_held(dense, encoding) >= 0.9 * len(dense) for encoding in _ENCODINGS)


def _held(characters: list[str], encoding: str) -> int:
    """How many characters an encoding holds; of Big5, its first level."""
    found = (character.encode(encoding, "ignore") for character in characters)
    return sum(bool(data) and (encoding != "big5" or data < _BIG5_SELDOM) for data in found)
