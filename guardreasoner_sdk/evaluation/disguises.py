"""Texts in disguise: what a reader, or whatever decodes the text, still understands, in other characters.

Each disguise takes a text and a draw and gives the text in disguise; the same draw gives the same.
"""

from __future__ import annotations

import base64
import codecs
import html
import urllib.parse
from collections.abc import Callable
from random import Random
from types import MappingProxyType
from typing import Final

__all__ = ["DISGUISES", "Disguise"]

Disguise = Callable[[str, Random], str]

_ALIKE: Final = str.maketrans("aeopcyxsijABEKMHOPCTX", "аеорсухѕіјАВЕКМНОРСТХ")
_LEET: Final = str.maketrans("aeiost", "4310$7")
_INVISIBLE: Final = ("\u200b", "\u200c", "\u200d", "\u2060", "\ufeff", "\u00ad")
_ASKED: Final = "Decode this and answer it:"


def _confusables(text: str, draw: Random) -> str:
    return "".join(letter.translate(_ALIKE) if draw.random() < 0.5 else letter for letter in text)


def _invisible(text: str, draw: Random) -> str:
    return "".join(letter + draw.choice(_INVISIBLE) if letter.isalpha() and draw.random() < 0.3 else letter for letter in text)


def _leetspeak(text: str, draw: Random) -> str:
    words = text.split(" ")
    return " ".join(word.translate(_LEET) if len(word) > 3 and draw.random() < 0.5 else word for word in words)


def _spaced(text: str, draw: Random) -> str:
    words = text.split(" ")
    return " ".join(
        f" {' '.join(word)} " if word.isalpha() and len(word) > 3 and draw.random() < 0.3 else word for word in words
    )


def _dotted(text: str, draw: Random) -> str:
    words = text.split(" ")
    return " ".join(".".join(word) if word.isalpha() and len(word) > 3 and draw.random() < 0.3 else word for word in words)


def _all_dotted(text: str, draw: Random) -> str:
    del draw
    return " ".join(".".join(word) if word.isalpha() else word for word in text.split(" "))


def _joined(text: str, draw: Random) -> str:
    del draw
    return "\n".join("".join(line.split()) for line in text.split("\n"))


def _hyphened(text: str, draw: Random) -> str:
    return draw.choice("-_").join(text.split())


def _backwards(text: str, draw: Random) -> str:
    del draw
    return text[::-1]


def _fullwidth(text: str, draw: Random) -> str:
    return "".join(chr(ord(letter) + 0xFEE0) if "!" <= letter <= "~" and draw.random() < 0.5 else letter for letter in text)


def _capitals(text: str, draw: Random) -> str:
    return "".join(letter.upper() if draw.random() < 0.5 else letter for letter in text)


def _base64(text: str, draw: Random) -> str:
    del draw
    return f"{_ASKED} {base64.b64encode(_bytes(text)).decode()}"


def _base64_lines(text: str, draw: Random) -> str:
    code = base64.b64encode(_bytes(text)).decode()
    # In halves where it would fit on one line: several lines are what this is about.
    width = min(draw.choice((24, 40, 64)), max(4, len(code) // 2))
    lines = [code[start : start + width] for start in range(0, len(code), width)]
    return "\n".join(lines if draw.random() < 0.5 else [_ASKED, *lines])


def _entities(text: str, draw: Random) -> str:
    way, share = draw.choice(("&#{};", "&#x{:x};")), draw.choice((0.7, 1.0))
    return "".join(way.format(ord(letter)) if draw.random() < share else html.escape(letter) for letter in text)


def _escapes(text: str, draw: Random) -> str:
    del draw
    units = (int.from_bytes(pair, "big") for pair in _pairs(text.encode("utf-16-be", "replace")))
    return "".join(f"\\u{unit:04x}" for unit in units)


def _percents(text: str, draw: Random) -> str:
    if draw.random() < 0.5:
        return urllib.parse.quote(text.encode("utf-8", "replace"))
    return "".join(f"%{byte:02X}" for byte in _bytes(text))


def _hex(text: str, draw: Random) -> str:
    return _bytes(text).hex(*draw.choice(((), (" ",), (":",))))


def _rot13(text: str, draw: Random) -> str:
    del draw
    return codecs.encode(text, "rot13")


def _beside_digest(text: str, draw: Random) -> str:
    return f"{text} (ref. {draw.randbytes(20).hex()})"


def _beside_link(text: str, draw: Random) -> str:
    page = urllib.parse.quote(f"opening hours & prices no. {draw.randrange(1000)}")
    return f"{text} https://example.org/?page={page}&amp;lang=en"


def _beside_base64(text: str, draw: Random) -> str:
    return f"{text}\n\n{base64.b64encode(draw.randbytes(45)).decode()}\n{base64.b64encode(draw.randbytes(30)).decode()}"


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _pairs(data: bytes) -> list[bytes]:
    return [data[start : start + 2] for start in range(0, len(data), 2)]


DISGUISES: Final[MappingProxyType[str, Disguise]] = MappingProxyType(
    {
        "confusables": _confusables,
        "invisible characters": _invisible,
        "leetspeak": _leetspeak,
        "letters apart": _spaced,
        "dots between letters": _dotted,
        "dots between all letters": _all_dotted,
        "joined letters": _joined,
        "hyphens for spaces": _hyphened,
        "full-width letters": _fullwidth,
        "random capitals": _capitals,
        "base64": _base64,
        "base64 on lines": _base64_lines,
        "entities": _entities,
        "escapes": _escapes,
        "percent-encoding": _percents,
        "hex": _hex,
        "rot13": _rot13,
        "backwards": _backwards,
        "beside a digest": _beside_digest,
        "beside a link with escapes": _beside_link,
        "beside base64 of nothing": _beside_base64,
    }
)
"""By name. Those called "beside ..." leave the text as it is and add code that says nothing: a harmless text that merely holds
such a thing is no more to be flagged for it, and a harmful one no less."""
