"""The text inside JSON that an API sends. What is not known to be technical counts as text, so that nothing new slips by."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from guardreasoner_sdk._content import Text, Unread, walk
from guardreasoner_sdk._content_table import NO_CONTENT, QUOTED
from guardreasoner_sdk._text import format_place, quote_value
from guardreasoner_sdk.errors import InputError

__all__ = ["TECHNICAL", "Unjudged", "cannot_be_judged", "leaves"]

_KEYS = re.compile(r"\w+")

Unjudged = Literal["raise", "allow"]

TECHNICAL = frozenset(NO_CONTENT)
"""Keys whose values need not be looked at: nothing in them is shown to anybody. Of all others :func:`leaves` decides."""


def cannot_be_judged(where: str, kind: object) -> InputError:
    """The error for a part that is no text."""
    return InputError(
        format_place(where),
        f"is not text but {quote_value(kind)}, which this guard cannot judge",
        "leave it out, or let it pass with unjudged='allow'",
    )


def leaves(value: object, where: str, unjudged: Unjudged) -> Iterator[str]:
    """Every text in a JSON value, in order. What the model hands to tools comes as it was sent: it may be half of an escape.

    Args:
        unjudged: what to do about images and the like: ``raise``, or ``allow`` to pass over them.

    Raises:
        InputError: a part that is no text, with its place.
    """
    for piece in walk(value, where):
        if isinstance(piece, Text):
            # What a text quotes is no part of it.
            yield f"\n{piece.text}" if QUOTED & set(_KEYS.findall(piece.where)) else piece.text
        elif isinstance(piece, Unread):
            if unjudged == "raise":
                raise cannot_be_judged(piece.where, piece.kind)
        else:
            yield from (text for text in (piece.name, piece.json if piece.arguments else "") if text)
