"""JSON as its reader will see it: the escapes in its strings decoded, also while the JSON is still being written."""

from __future__ import annotations

import json
import re

__all__ = ["Unescaper", "unescaped"]

# One step through a string: a run of plain characters, its end, two halves of a character beyond U+FFFF, or one escape.
_STEP = re.compile(
    r'[^"\\]+|"|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\[^u]|\\', re.DOTALL
)
# What may still become one of those escapes.
_HALF = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?\Z|\\u[dD][89abAB][0-9a-fA-F]{2}(?:\\(?:u[0-9a-fA-F]{0,3})?)?\Z")
_OUTSIDE = re.compile(r'[^"]+|"')
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
        """Take a piece; returns what can be read by now. Half an escape waits for its other half.

        Args:
            piece: the next part of the text.
        """
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


def unescaped(text: str) -> str:
    """:class:`Unescaper` for a text that is there as a whole.

    Args:
        text: JSON, or any other text.
    """
    reader = Unescaper()
    return reader.feed(text) + reader.end()
