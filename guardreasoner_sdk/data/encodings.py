"""Files of text in another encoding than UTF-8: which one it looks like, and how they are read."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Callable
from typing import IO

from guardreasoner_sdk._text import quote_value
from guardreasoner_sdk.errors import InputError

__all__ = ["check_encoding", "looks_like", "recode", "remedy"]

_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""The longer ones first: that of UTF-32 begins with that of UTF-16."""

_NAMES = {
    "gb18030": "GB18030 (Chinese)",
    "big5": "Big5 (Chinese)",
    "shift_jis": "Shift JIS (Japanese)",
    "euc-jp": "EUC-JP (Japanese)",
    "euc-kr": "EUC-KR (Korean)",
    "cp1251": "Windows-1251 (Cyrillic)",
    "cp1252": "Windows-1252 (Western)",
    "iso-8859-1": "Latin-1",
    "utf-16": "UTF-16",
    "utf-16le": "UTF-16",
    "utf-16be": "UTF-16",
    "utf-32": "UTF-32",
}
_SAMPLE = 1 << 16
_TOGETHER = re.compile("[^\x00-\x7f]{2,}")


def looks_like(data: bytes) -> str | None:
    """The encoding of a text that is not UTF-8, by a name that Python and iconv know; None where nothing tells it.

    Args:
        data: the beginning of the file, or a line of it.
    """
    data = data[:_SAMPLE]
    for mark, name in _MARKS.items():
        if data.startswith(mark):
            return name
    if zeros := data.count(0):
        # ASCII in UTF-16 has one at every second place; a text in UTF-8 has none.
        odd = data[1::2].count(0)
        return None if zeros < len(data) // 4 else "utf-16le" if odd > zeros // 2 else "utf-16be"
    if _decoded(data, "utf-8") is not None:
        return None
    for name, plausible in _PLAUSIBLE.items():
        text = _decoded(data, name)
        foreign = [] if text is None else [character for character in text if ord(character) > 0x7F]
        if foreign and plausible(foreign):
            # Letters with accents stand alone among others; those of another script stand together.
            together = sum(map(len, _TOGETHER.findall(text or "")))
            if together > len(foreign) // 2:
                return name
    return "cp1252" if any(0x80 <= byte < 0xA0 for byte in data) else "iso-8859-1"


def remedy(data: bytes, *, option: bool = True) -> str:
    """What to do about a text that is not UTF-8, as the end of an error.

    Args:
        data: the beginning of the file, or a line of it.
        option: whether there is an option that names the encoding.
    """
    name = looks_like(data)
    if name is None:
        return "convert it, e.g. with iconv -t utf-8"
    say = f", or pass --encoding {name}" if option else ""
    return f"convert it, e.g. with iconv -f {name} -t utf-8{say}: it looks like {_NAMES[name]}"


def check_encoding(name: str) -> str:
    """The encoding of a name.

    Raises:
        InputError: Python knows none of that name.
    """
    try:
        "".encode(name)
        return codecs.lookup(name).name
    except (LookupError, ValueError):
        raise InputError(
            "--encoding", f"{quote_value(name)} is unknown", "use for example gb18030, shift_jis, utf-16 or latin-1"
        ) from None


def recode(raw: IO[bytes], encoding: str) -> IO[bytes]:
    """A file as UTF-8, whatever its encoding; bytes that are none of its characters stay as they are."""
    return io.BufferedReader(_Recoded(raw, encoding))


class _Recoded(io.RawIOBase):
    def __init__(self, raw: IO[bytes], encoding: str) -> None:
        self._raw = raw
        self._encoding = encoding
        self._decoder = codecs.getincrementaldecoder(encoding)("surrogateescape")
        self._left = b""
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # what BufferedReader hands over
        while not self._left and not self._ended:
            data = self._raw.read(_SAMPLE)
            self._ended = not data
            try:
                text = self._decoder.decode(data, final=self._ended)
            except UnicodeError:  # bytes that are none of its, or a mark at the beginning that it wants
                raise OSError(None, f"it is not {self._encoding}") from None
            self._left = text.encode("utf-8", "surrogateescape")
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count


def _decoded(data: bytes, encoding: str) -> str | None:
    try:
        # Not final: the sample may end within a character.
        return codecs.getincrementaldecoder(encoding)().decode(data)
    except UnicodeDecodeError:
        return None


def _share(characters: list[str], within: Callable[[str], bool]) -> float:
    return sum(map(within, characters)) / len(characters)


def _in(*ranges: tuple[str, str]) -> Callable[[str], bool]:
    return lambda character: any(first <= character <= last for first, last in ranges)


def _often(character: str) -> bool:
    """Whether GB2312 counts a character among the usual ones: its first level, and signs."""
    try:
        return character.encode("gb2312")[0] < 0xD8
    except UnicodeEncodeError:
        return False


_KANA, _HANGUL = _in(("\u3040", "\u30ff")), _in(("\uac00", "\ud7a3"))
_HAN, _CYRILLIC = _in(("\u4e00", "\u9fff"), ("\u3000", "\u303f"), ("\uff00", "\uffef")), _in(("\u0410", "\u044f"))

# What one encoding writes, most others can read as something: as characters that nobody would write.
_PLAUSIBLE: dict[str, Callable[[list[str]], bool]] = {
    "euc-kr": lambda found: _share(found, _HANGUL) > 0.9,
    "euc-jp": lambda found: _share(found, _KANA) > 0.3,
    "shift_jis": lambda found: _share(found, _KANA) > 0.3 and _share(found, _in(("\uff61", "\uff9f"))) < 0.2,
    "gb18030": lambda found: _share(found, _often) > 0.7 and _share(found, _HAN) > 0.5,
    "big5": lambda found: len(found) > 5 and _share(found, _HAN) > 0.8,
    "cp1251": lambda found: _share(found, _CYRILLIC) > 0.9,
}
