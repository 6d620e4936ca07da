"""JSON as its reader will see it: the escapes in its strings decoded, also while the JSON is still being written."""

from __future__ import annotations

import json
import re

__all__ = ["SecondReading", "Unescaper", "second_reading", "unescape"]

# One step through a string: a run of plain characters, its end, two halves of a character beyond U+FFFF, or one escape.
_STEP = re.compile(
    r'[^"\\]+|"|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\[^u]|\\', re.DOTALL
)
# What may still become one of those escapes.
_HALF = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?\Z|\\u[dD][89abAB][0-9a-fA-F]{2}(?:\\(?:u[0-9a-fA-F]{0,3})?)?\Z")
_OUTSIDE = re.compile(r'[^"]+|"')
# An escape wherever it stands, or at the end what may still become one.
_ESCAPE = re.compile(
    r"(?P<half>\\(?:u[0-9a-fA-F]{0,3})?\Z|\\u[dD][89abAB][0-9a-fA-F]{2}(?:\\(?:u[0-9a-fA-F]{0,3})?)?\Z)"
    r"|(?P<letter>\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4})"
    r'|\\["\\/bfnrt]'
)
_ROUNDS = 3
_SIMPLE = {"\\b": "\b", "\\f": "\f", "\\n": "\n", "\\r": "\r", "\\t": "\t", "\\/": "/", "\\\\": "\\", '\\"': '"'}


class Unescaper:
    r"""Decodes the escapes in the strings of JSON that comes in pieces: ``{"a": "\u0041`` gives ``{"a": "A``.

    A model may write any character of an argument as ``\u0041``; whoever runs the tool reads the letter, and so must the guard.
    Everything outside strings, and what is no escape of JSON, stays as it is. Text that does not begin like JSON (``{``, ``[``
    or ``"``) stays untouched.
    """

    def __init__(self) -> None:
        self._json: bool | None = None
        self._inside = False
        self._kept = ""

    def feed(self, piece: str) -> str:
        """Take a piece; returns what can be read by now. Half an escape waits for its other half."""
        if self._json is None and piece.strip():
            self._json = piece.lstrip()[0] in '{["'
        if not self._json:
            return piece
        return self._decoded(self._kept + piece, last=False)

    def end(self) -> str:
        """What still waits, as it stands: nothing follows."""
        return self._decoded(self._kept, last=True)

    def _decoded(self, text: str, *, last: bool) -> str:
        found = []
        place = 0
        self._kept = ""
        while place < len(text):
            if self._inside and not last and (half := _HALF.match(text, place)) is not None:
                self._kept = half[0]
                break
            step = (_STEP if self._inside else _OUTSIDE).match(text, place)
            part = text[place] if step is None else step[0]
            place += len(part)
            if part == '"':
                self._inside = not self._inside
            elif self._inside and part[0] == "\\" and len(part) > 1:
                part = json.loads(f'"{part}"') if part[1] == "u" else _SIMPLE.get(part, part)
            found.append(part)
        return "".join(found)


def unescape(text: str) -> str:
    """:class:`Unescaper` for a text that is there as a whole."""
    reader = Unescaper()
    return reader.feed(text) + reader.end()


class SecondReading:
    r"""A text as somebody reads it who takes it for JSON, or for text with JSON inside, where that is another text.

    Of an answer nobody knows whether its reader will parse it, and arguments may hold JSON once more. So escapes are decoded
    wherever they stand, and those that come out once more. It is a reading beside the first, which stays what it is: ``\bad``
    is no JSON to everybody. Texts with the escape of a letter (``\u0041``) have a second reading, and those that begin like
    JSON and hold any escape.

    Args:
        decoded: whether the text is JSON that was decoded once. Its other escapes are then those of the text itself.
    """

    def __init__(self, *, decoded: bool = False) -> None:
        self._rounds = [_Round() for _ in range(_ROUNDS)]
        self._json: bool | None = False if decoded else None
        self._alike: list[str] | None = []

    def feed(self, piece: str) -> str:
        """Take a piece; returns what this reading adds: nothing as long as the readings are the same."""
        if self._json is None and piece.strip():
            self._json = piece.lstrip()[0] in '{["'
        return self._added(piece, last=False)

    def end(self) -> str:
        """What this reading adds at the end: nothing follows."""
        return self._added("", last=True)

    def _added(self, piece: str, *, last: bool) -> str:
        for decoding in self._rounds:
            piece = decoding.feed(piece, last=last)
        if self._alike is None:
            return piece
        self._alike.append(piece)
        if any(decoding.letters or (self._json and decoding.escapes) for decoding in self._rounds):
            piece, self._alike = "".join(self._alike), None
            return piece
        return ""


class _Round:
    def __init__(self) -> None:
        self.letters = False
        self.escapes = False
        self._kept = ""

    def feed(self, piece: str, *, last: bool) -> str:
        text, self._kept = self._kept + piece, ""
        if "\\" not in text:
            return text

        def decode(match: re.Match[str]) -> str:
            if match["half"] and not last:
                self._kept = match[0]
                return ""
            if match["half"]:
                return match[0]
            self.escapes = True
            if match["letter"]:
                self.letters = True
                return str(json.loads(f'"{match[0]}"'))
            return _SIMPLE[match[0]]

        return _ESCAPE.sub(decode, text)


def second_reading(text: str, *, decoded: bool = False) -> str:
    """:class:`SecondReading` of a text that is there as a whole; empty where it is the same as the first.

    Args:
        decoded: whether it is JSON that was decoded once.
    """
    reader = SecondReading(decoded=decoded)
    return reader.feed(text) + reader.end()
