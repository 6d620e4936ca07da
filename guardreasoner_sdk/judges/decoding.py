r"""What is encoded in a text, and what it says: entities, escapes, percent-encoding, hex, base64, codes of characters, Morse.

Each stretch is decoded where it stands and counts only where language comes out: a hash, an image or a table of characters is
left as it is. Work and memory are in proportion to the text, and no step takes longer than a few milliseconds.
"""

from __future__ import annotations

import base64
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from html.entities import html5
from typing import Final

from guardreasoner_sdk.judges.language import Language, Stretch, drop_overlaps, replace_stretches
from guardreasoner_sdk.judges.turning import Way, find_turned

__all__ = ["find_encoded"]

Check = Callable[[], None]


_STEP: Final = 16_384
_REACH: Final = 64
_ROUNDS: Final = 3
_SLICE: Final = 400
_OFTEN: Final = 1024
_STRICT: Final = 16
_SURE: Final = 40
_AT_ONCE: Final = 65_536
_ALPHABETS: Final = 0x20
_BROKEN: Final = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\ufffd]")

# One character, or one byte of some. Escapes of escapes (``&amp;#104;``, ``%2568``, ``\\u0068``) are read at once.
_ESCAPE: Final = re.compile(
    r"&(?:amp;)?(?:#0{0,8}(?P<decimal>[1-9][0-9]{1,6})(?![0-9]);?|#[xX]0{0,8}(?P<hex>[1-9a-fA-F][0-9a-fA-F]{1,5})(?![0-9a-fA-F]);?"
    r"|(?P<name>[A-Za-z]\w{1,31};))"
    r"|(?:\\{1,4}|%)u(?P<four>[0-9a-fA-F]{4})|\\{1,4}[ux]\{0{0,8}(?P<braced>[1-9a-fA-F][0-9a-fA-F]{1,5})\}"
    r"|\\{1,4}U(?P<eight>00[01][0-9a-fA-F]{5})|\\{1,4}x(?P<byte>[0-9a-fA-F]{2})|\\{1,4}(?P<octal>[0-3][0-7]{2})"
    r"|%(?:25){0,3}(?P<percent>[0-9a-fA-F]{2})"
)
_BASES: Final = {"decimal": 10, "octal": 8}
_BYTES: Final = frozenset({"byte", "octal", "percent"})
_MOST_BYTES: Final = 240
_GAP: Final = 2
_MOST_PIECES: Final = 8192
_BACK: Final = 400
# The letters behind an escape, and the next word, as a word may be one letter; and before it, read backwards. In a form that
# was sent, with the words that ``+`` parts.
_WORD_ON: Final = re.compile(r"[^\W_]{0,24}(?: [^\W_]{1,24})?")
_WORD_BACK: Final = re.compile(r"\A[^\W_]{0,24}(?: [^\W_]{1,24})?")
_FORM_ON: Final = re.compile(r"[^\W_]{0,24}(?:\+[^\W_]{1,24}){0,30}(?: [^\W_]{1,24})?")
_FORM_BACK: Final = re.compile(r"\A[^\W_]{0,24}(?:\+[^\W_]{1,24}){0,30}(?: [^\W_]{1,24})?")
_BETWEEN: Final = re.compile(r"\w\s+\w")

# Runs of characters that codes are written with, and the codes in them. Nothing in them can be asked twice, and none ends
# within a code.
_HEX_RUN: Final = re.compile(r"[0-9a-fA-FxXU+][0-9a-fA-FxXU+\s:,;-]{7,65536}+[0-9a-fA-F]*+")
_HEX: Final = re.compile(r"(?P<point>U\+)?(?:0[xX])?(?P<digits>[0-9a-fA-F]++)")
_DIGIT_RUN: Final = re.compile(r"[0-9][0-9\s,;:_-]{11,65536}+[0-9]*+")
_DIGITS: Final = re.compile(r"[0-9]++")
_FEWEST_CODES: Final = 4
_LARGEST_CODE: Final = 0x2FFFF
_MORSE_RUN: Final = re.compile(r"[.\-_\u2013\u2014\u00b7/| ]{11,8192}+")
_MORSE_GAP: Final = re.compile(" {3,}")
_MORSE_WORD: Final = re.compile(r"[^/|]+")
_CODES: Final = (
    ".- -... -.-. -.. . ..-. --. .... .. .--- -.- .-.. -- -. --- .--. --.- .-. ... - ..- ...- .-- -..- -.-- --.. "
    "----- .---- ..--- ...-- ....- ..... -.... --... ---.. ----. ..--.. .-.-.- --..-- .----. -..-. -....-"
)
_MORSE: Final = dict(
    zip(
        _CODES.split(),
        "abcdefghijklmnopqrstuvwxyz0123456789?.,'/-",
        strict=True,
    )
)
_STROKES: Final = str.maketrans("_\u2013\u2014\u00b7", "---.")

# A word that is mixed as no other is: capitals behind small letters, digits among letters.
_MIXED: Final = re.compile(
    r"(?<![A-Za-z0-9+/_%-])(?:[A-Z]?[a-z]++[A-Z0-9+/_%-]|[A-Z][0-9+/_%-]|[A-Z]{2,}+[a-z0-9+/_%-]|[0-9]++[A-Za-z+/_%-]|[+/_%-]++[A-Za-z0-9])"
    r"[A-Za-z0-9+/_%-]*+={0,2}"
)
_GAP64: Final = re.compile(r"[\s>|#*\"',+\\]{1,12}")
_WORD64: Final = re.compile(r"[A-Za-z0-9+/_%-]{2,}+={0,2}(?![A-Za-z0-9])")
_SHORTEST_MIXED: Final = 4
_SHORTEST_BASE64: Final = 8
_PERCENT_SIGNS: Final = {"%2B": "+", "%2F": "/", "%3D": "="}
_URL_SAFE: Final = str.maketrans("-_", "+/")
_NO_BASE64: Final = re.compile(r"[^A-Za-z0-9+/]")


def find_encoded(text: str, language: Language, ways: Sequence[Way], check: Check, *, rounds: int = _ROUNDS) -> list[Stretch]:
    """The encoded stretches of a text that read as language once decoded, in order; what is encoded in them is decoded, too.

    Args:
        ways: in which text inside a code may be turned.
        check: called every few milliseconds; what it raises ends the work.
        rounds: how deeply one code may be nested in another.
    """
    reader = _Reader(language, ways, check, rounds)
    found = (stretch for kind in (_escaped, _base64, _hex, _numbers, _morse) for stretch in kind(text, reader))
    return drop_overlaps(stretch for stretch in found if stretch.said != text[stretch.start : stretch.end])


class _Reader:
    """Reads what came out of a code: the parts of it that are language."""

    def __init__(self, language: Language, ways: Sequence[Way], check: Check, rounds: int) -> None:
        self._language = language
        self._ways = ways
        self.check = check
        self._rounds = rounds

    def said(self, text: str, *, surely: bool = False) -> str | None:
        """What a decoded text says; None where nothing in it reads as language.

        Args:
            surely: whether the code is one in which chance writes letters, too.
        """
        length = min(len(text), _SLICE)
        text = "".join(part for part in self._slices(text) if len(_BROKEN.findall(part)) * 20 <= len(part))
        if len(text) * 2 < length or not self._rounds:
            return self._language_in(text, surely)
        if inner := find_encoded(text, self._language, self._ways, self.check, rounds=self._rounds - 1):
            text = replace_stretches(text, inner)
        if (said := self._language_in(text, surely)) is not None:
            return said
        turns = (find_turned(text, way, self._language, self.check) for way in self._ways)
        return next((self._language_in(replace_stretches(text, stretches), surely) for stretches in turns if stretches), None)

    def _slices(self, text: str) -> Iterator[str]:
        if len(text) <= _SLICE:
            # What stood before a code or behind it may have been taken for a part of it.
            text = text.strip("\x00\ufffd \t\r\n")
        for start in range(0, len(text), _SLICE):
            self.check()
            yield text[start : start + _SLICE]

    def _language_in(self, text: str, surely: bool) -> str | None:
        language = self._language.surely if surely else self._language.reads
        return "".join(part for part in self._slices(text) if language(part)) or None

    def bytes_said(self, data: bytes, *, surely: bool = False) -> str | None:
        """:meth:`said` of bytes in UTF-8 or UTF-16."""
        if len(data) < _STRICT and data.decode("utf-8", "ignore").encode() != data:
            return None
        said = self.said(data.decode("utf-8", "replace"), surely=surely)
        if said is None and len(data) >= _STRICT:
            for encoding, high in (("utf-16-le", data[1::2]), ("utf-16-be", data[::2])):
                # The letters of an alphabet are in one block.
                block, times = Counter(high[:_SLICE]).most_common(1)[0]
                if block < _ALPHABETS and times * 2 > len(high[:_SLICE]):
                    return self.said(data.decode(encoding, "replace"), surely=True)
        return said


def _runs(pattern: re.Pattern[str], text: str, check: Check) -> Iterator[re.Match[str]]:
    """What ``finditer`` gives for a pattern that takes all it can and at least a few characters; in steps."""
    place = 0
    while place < len(text):
        check()
        end = place + _STEP
        found = pattern.search(text, place, end)
        if found is not None and found.end() > end - _REACH:
            found = pattern.match(text, found.start()) or found
        if found is None:
            place = end - _REACH if end < len(text) else end
            continue
        yield found
        place = max(found.end(), place + 1)


def _escapes(text: str, check: Check) -> Iterator[Stretch]:
    """Escaped characters one by one; bytes that belong together as the characters that they are."""
    if not any(sign in text for sign in "&\\%"):
        return
    start, end, kept = 0, 0, bytearray()
    for found in _runs(_ESCAPE, text, check):
        kind = found.lastgroup or ""
        if kept and (kind not in _BYTES or found.start() != end or (len(kept) >= _MOST_BYTES and _code(found) & 0xC0 != 0x80)):
            yield Stretch(start, end, _bytes_text(kept, text[start:end]))
            kept = bytearray()
        if kind in _BYTES:
            start = start if kept else found.start()
            end = found.end()
            kept.append(_code(found) & 0xFF)
        elif kind == "name":
            if (said := html5.get(found["name"])) is not None:
                yield Stretch(found.start(), found.end(), said)
        elif (code := _code(found)) <= 0x10FFFF:
            yield Stretch(found.start(), found.end(), chr(code))
    if kept:
        yield Stretch(start, end, _bytes_text(kept, text[start:end]))


def _code(found: re.Match[str]) -> int:
    kind = found.lastgroup or ""
    return int(found[kind], _BASES.get(kind, 16))


def _bytes_text(data: bytearray, as_it_stands: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        # In the source of programs a byte is a letter of Latin-1; in an address it is none.
        return as_it_stands if "%" in as_it_stands else data.decode("latin-1")


@dataclass(slots=True)
class _Region:
    """Words with escaped characters in them.

    Args:
        start: where they begin.
        form: whether they are percent-encoded, so that ``+`` is a blank.
    """

    start: int
    form: bool
    pieces: list[str] = field(default_factory=list)
    end: int = 0
    reach: int = 0
    telling: bool = False
    blanks: bool = False

    def plain(self, between: str) -> None:
        """Take what is there unescaped."""
        self.blanks = self.blanks or (self.form and "+" in between)
        self.pieces.append(between.replace("+", " ") if self.form else between)

    def add(self, text: str, found: Stretch) -> None:
        """Take an escape."""
        self.pieces.append(found.said)
        self.end = found.end
        words = _FORM_ON if text[found.start] == "%" else _WORD_ON
        on = words.match(text, found.end)
        self.reach = found.end if on is None else on.end()
        self.telling = self.telling or any(map(str.isalpha, found.said))
        self.blanks = self.blanks or found.said.isspace()

    def stretch(self, text: str, reader: _Reader) -> Iterator[Stretch]:
        self.plain(text[self.end : self.reach])
        whole = "".join(self.pieces)
        if not (self.telling or (self.blanks and _BETWEEN.search(whole) is not None)):
            return
        # Two halves become the character beyond U+FFFF that they are.
        said = reader.said(whole.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
        if said is not None:
            yield Stretch(self.start, self.reach, said)


def _escaped(text: str, reader: _Reader) -> Iterator[Stretch]:
    region: _Region | None = None
    for found in _escapes(text, reader.check):
        words = _FORM_BACK if text[found.start] == "%" else _WORD_BACK
        least = max(found.start - _BACK, 0 if region is None else region.end)
        before = found.start - len(words.findall(text[least : found.start][::-1])[0])
        if region is not None and before <= region.reach + _GAP and len(region.pieces) < _MOST_PIECES:
            region.plain(text[region.end : found.start])
        else:
            if region is not None:
                yield from region.stretch(text, reader)
                before = max(before, region.reach)
            region = _Region(before, text[found.start] == "%")
            region.plain(text[before : found.start])
        region.add(text, found)
    if region is not None:
        yield from region.stretch(text, reader)


def _base64(text: str, reader: _Reader) -> Iterator[Stretch]:
    end = 0
    for found in _runs(_MIXED, text, reader.check):
        if found.start() < end or found.end() - found.start() < _SHORTEST_MIXED:
            continue
        group = [found]
        while (further := _further(text, group[-1])) is not None:
            if len(group) % _OFTEN == 0:
                reader.check()
            group.append(further)
        end = group[-1].end()
        yield from _base64_group(group, reader)


def _further(text: str, before: re.Match[str]) -> re.Match[str] | None:
    """The next word of base64 on several lines, or in parts: on a line of its own, as long as the one before, or mixed."""
    if before[0].endswith("="):
        return None
    gap = _GAP64.match(text, before.end())
    found = None if gap is None else _WORD64.match(text, gap.end())
    if gap is None or found is None:
        return None
    padded = found[0].endswith("=") and len(found[0]) % 4 == 0
    alike = padded or len(found[0]) == len(before[0]) or _MIXED.match(text, gap.end()) is not None
    return found if alike or (text[found.end() : found.end() + 1] in ("", "\r", "\n") and "\n" in gap[0]) else None


def _base64_group(group: list[re.Match[str]], reader: _Reader) -> Iterator[Stretch]:
    """Words of base64 on one or several lines; the first or the last word may be none."""
    for part in (group, group[1:], group[:-1]) if len(group) > 1 else ():
        said = _from_base64("".join(found[0] for found in part), reader)
        if said is not None:
            yield Stretch(part[0].start(), part[-1].end(), said)
            return
    for found in group:
        said = _from_base64(found[0], reader)
        if said is not None:
            yield Stretch(found.start(), found.end(), said)


def _from_base64(word: str, reader: _Reader) -> str | None:
    reader.check()
    if "%" in word:
        for code, sign in _PERCENT_SIGNS.items():
            word = word.replace(code, sign).replace(code.lower(), sign)
    word = word.translate(_URL_SAFE).replace("=", "")
    if len(word) < _SHORTEST_BASE64 or _NO_BASE64.search(word) is not None:
        return None
    if len(word) % 4 == 1:
        word = word[:-1]
    word += "=" * (-len(word) % 4)
    parts = (base64.b64decode(word[start : start + _AT_ONCE]) for start in range(0, len(word), _AT_ONCE))
    said = [reader.bytes_said(data, surely=len(word) < _SURE) for data in parts]
    return "".join(filter(None, said)) or None


def _hex(text: str, reader: _Reader) -> Iterator[Stretch]:
    for run in _runs(_HEX_RUN, text, reader.check):
        data: list[str] = []
        start = end = 0
        points = False
        for place, found in enumerate(_HEX.finditer(text, run.start(), run.end())):
            if place % _OFTEN == 0:
                reader.check()
            point, digits = found["point"] is not None, found["digits"]
            whole = _parted(text, found.start(), found.end()) and (4 <= len(digits) <= 6 if point else len(digits) % 2 == 0)
            if data and (not whole or point != points):
                yield from _from_hex(data, points, start, end, reader)
                data = []
            if whole:
                points, start, end = point, start if data else found.start(), found.end()
                data.append(digits)
        if data:
            yield from _from_hex(data, points, start, end, reader)


def _parted(text: str, start: int, end: int) -> bool:
    """Whether what is there is no part of a word."""
    return not (text[start - 1 : start].isalnum() or text[end : end + 1].isalnum())


def _from_hex(data: list[str], points: bool, start: int, end: int, reader: _Reader) -> Iterator[Stretch]:
    if points:
        said = reader.said("".join(_character(code) for digits in data if (code := int(digits, 16)) <= _LARGEST_CODE))
    else:
        digits = "".join(data)
        few = len(digits) < 2 * _FEWEST_CODES
        said = None if few else reader.bytes_said(bytes.fromhex(digits), surely=len(digits) < _SURE)
    if said is not None:
        yield Stretch(start, end, said)


def _numbers(text: str, reader: _Reader) -> Iterator[Stretch]:
    """Numbers of characters: binary, decimal or octal."""
    for run in _runs(_DIGIT_RUN, text, reader.check):
        group: list[re.Match[str]] = []
        for place, found in enumerate(_DIGITS.finditer(text, run.start(), run.end())):
            if place % _OFTEN == 0:
                reader.check()
            if group and not (_parted(text, found.start(), found.end()) and _alike(group[-1][0], found[0])):
                yield from _from_numbers(group, reader)
                group = []
            group.append(found)
        if group:
            yield from _from_numbers(group, reader)


def _alike(one: str, other: str) -> bool:
    """Whether two numbers may be in one row: both of bits, or both of two to six digits."""
    bits = [len(number) > 6 and not number.strip("01") for number in (one, other)]
    return all(bits) or (not any(bits) and 2 <= len(one) <= 6 and 2 <= len(other) <= 6)


def _from_numbers(group: list[re.Match[str]], reader: _Reader) -> Iterator[Stretch]:
    numbers = [found[0] for found in group]
    for base in (2,) if len(numbers[0]) > 6 else (10, 8):
        text = _of_base(numbers, base)
        said = None if text is None or len(text) < _FEWEST_CODES else reader.said(text, surely=True)
        if said is not None:
            yield Stretch(group[0].start(), group[-1].end(), said)
            return


def _of_base(numbers: list[str], base: int) -> str | None:
    if base == 2:
        digits = "".join(numbers)
        size = 7 if all(len(number) == 7 for number in numbers) else 8
        if digits.strip("01") or len(digits) % size:
            return None
        data = bytes(int(digits[start : start + size], 2) for start in range(0, len(digits), size))
        return data.decode("utf-8", "replace")
    if base == 8 and any(len(number) > 3 or "8" in number or "9" in number for number in numbers):
        return None
    codes = [int(number, base) for number in numbers]
    return "".join(map(_character, codes)) if all(0x20 <= code <= _LARGEST_CODE for code in codes) else None


def _character(code: int) -> str:
    """The character of a code; half of a pair stands for none."""
    return "\ufffd" if 0xD800 <= code <= 0xDFFF else chr(code)


def _morse(text: str, reader: _Reader) -> Iterator[Stretch]:
    for run in _runs(_MORSE_RUN, text, reader.check):
        words = _MORSE_WORD.findall(_MORSE_GAP.sub(" / ", run[0].translate(_STROKES)))
        letters = [[_MORSE.get(code, "\ufffd") for code in word.split()] for word in words]
        said = reader.said(" ".join("".join(word) for word in letters), surely=True)
        if said is not None:
            yield Stretch(run.start(), run.end(), said)
