"""Lines and headings of a reasoning guard's answer, with their places in the text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

__all__ = ["RULE", "Heading", "Line", "heading", "lines"]

RULE = re.compile(r"[ \t]*(?:-{3,}|\*{3,}|_{3,}|={3,})[ \t]*")
"""A horizontal rule; models draw them between tasks."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line without its line break.

    Args:
        start: place of its first character in the whole text.
        text: its characters.
    """

    start: int
    text: str

    @property
    def end(self) -> int:
        """Place after its last character."""
        return self.start + len(self.text)


@dataclass(frozen=True, slots=True)
class Heading:
    """What a heading opens.

    Args:
        kind: ``task``, ``step``, ``conclusion`` or ``answers``.
        number: the task named in it, 1 to 3; None where it names none.
        rest_start: place in the whole text where what follows the heading's words begins.
    """

    kind: Literal["task", "step", "conclusion", "answers"]
    number: int | None
    rest_start: int


def lines(text: str) -> Iterator[Line]:
    """Cut a text at line feeds, with the places kept."""
    start = 0
    for part in text.split("\n"):
        yield Line(start, part.removesuffix("\r"))
        start += len(part) + 1


_OPEN = r"[ \t>]*+(?P<mark>#{1,6}[ \t]*+)?[*_]{0,3}[ \t]*+"
_CLOSE = r"[ \t*_]*+[:\uff1a.)\u2013-]*+[ \t*_]*+"
_HEADINGS = (
    ("answers", re.compile(rf"{_OPEN}(?:final[ \t]+|my[ \t]+)?answers?(?P<tail>{_CLOSE})(?P<number>)", re.IGNORECASE)),
    (
        "conclusion",
        re.compile(
            rf"{_OPEN}(?:task[ \t]*(?P<before>[123])[ \t:\u2013-]*)?(?:final[ \t]+|overall[ \t]+)?conclusion"
            rf"(?:[ \t]++(?:(?:for|of|on|to)[ \t]*+)?task[ \t]*+(?P<number>[123]))?(?P<tail>{_CLOSE})",
            re.IGNORECASE,
        ),
    ),
    (
        "step",
        re.compile(
            rf"{_OPEN}(?:reasoning[ \t]+(?:steps?)|step|reasoning)[ \t]*(?P<number>)\d*(?P<tail>{_CLOSE})",
            re.IGNORECASE,
        ),
    ),
    ("task", re.compile(rf"{_OPEN}task[ \t]*(?P<number>[123])\b(?P<tail>{_CLOSE})", re.IGNORECASE)),
)


def heading(line: Line) -> Heading | None:
    """Read a line as a heading, or say that it is none.

    A heading carries a mark (``#``, bold), or ends in a colon, or has nothing behind its words; anything else is prose that
    happens to begin with such a word ("Step by step the user ...").

    Args:
        line: the line.
    """
    for kind, pattern in _HEADINGS:
        found = pattern.match(line.text)
        if found is None:
            continue
        rest = line.text[found.end() :]
        marked = bool(found["mark"]) or "*" in line.text[: found.end()] or "__" in line.text[: found.end()]
        if not (marked or ":" in found["tail"] or "\uff1a" in found["tail"] or not rest.strip()):
            continue
        if kind == "answers" and rest.strip() and not (":" in found["tail"] or "\uff1a" in found["tail"]):
            continue
        number = found["number"] or (found["before"] if kind == "conclusion" else None)
        return Heading(kind, int(number) if number else None, line.start + found.end())  # type: ignore[arg-type]
    return None
