"""A text as a reader sees it: without the bytes that hide words from a classifier."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator
from typing import Final

from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.exchange import MAX_CHARACTERS
from guardreasoner_sdk.judges.unmasking import no_check

__all__ = ["begins", "clean", "folded_piece", "folded_pieces", "squeeze_blanks", "without_hidden"]

# A call into C holds the interpreter's lock to its end. In pieces of this size none is felt, and a deadline is kept.
_PIECE: Final = 2048
_NEAR: Final = 512


def clean(text: str) -> str:
    """Return `text` as the model may see it: what a reader sees, without the bytes that hide words from a classifier.

    Compatibility forms are folded (NFKC), invisible characters (Unicode category Cf: zero-width, bidirectional and
    other format characters) are dropped, lone surrogates become U+FFFD, control characters become spaces, and every
    run of white space becomes one space, so that 100,000 newlines cost as much as one.

    Returns:
        The cleaned text; empty if nothing visible was there. Cleaning twice changes nothing.
    """
    return squeeze_blanks("".join(made for _, made in folded_pieces(text)))


def folded_pieces(text: str, check: Callable[[], None] = no_check, most: int | None = None) -> list[tuple[str, str]]:
    """The pieces of a text, each with what becomes of it in compatibility forms and without invisible characters.

    Args:
        check: called between two pieces; what it raises ends the work.

    Raises:
        InputError: more than that come of it.
    """
    pieces = [(text, text)]
    length = len(text)
    if not (text.isascii() and text.isprintable()):
        pieces, length = [], 0
        for piece in _apart(text):
            check()
            pieces.append((piece, folded_piece(piece)))
            length += len(pieces[-1][1])
            if most is not None and length > most:
                break
    if most is not None and length > most:
        raise InputError(
            "text",
            f"has more than the {MAX_CHARACTERS:,} characters allowed once its compatibility forms are written out",
            "split it and check the parts",
        )
    return pieces


def folded_piece(text: str) -> str:
    """A short text in compatibility forms, without invisible characters; its control characters are blanks."""
    if text.isascii() and text.isprintable():
        return text
    # Only the characters that occur are looked up: a table of all of Unicode costs more than most texts.
    table = {character: _replacement(character) for character in set(text)}
    if any(new is not None for new in table.values()):
        text = text.translate({ord(old): old if new is None else new for old, new in table.items()})
    return unicodedata.normalize("NFKC", text)


def _apart(text: str) -> Iterator[str]:
    """The text in pieces that are normalised apart as they are together, but for runs of marks that no language has."""
    start, whole = 0, len(text)
    while whole - start > _PIECE + _NEAR:
        end = start + _PIECE
        most = end + _NEAR
        while end < most and not begins(text[end]):
            end += 1
        yield text[start:end]
        start = end
    yield text[start:]


def begins(character: str) -> bool:
    """Whether a character is never joined to one before it: no mark, no part of a Hangul syllable, nothing that is dropped."""
    first = unicodedata.normalize("NFKC", character)[0]
    return not ("\u1100" <= first <= "\u11ff" or unicodedata.category(first) in ("Mn", "Mc", "Me", "Cf"))


def without_hidden(text: str, check: Callable[[], None] = no_check) -> str:
    """A text without the characters that nobody sees, and otherwise as it stands.

    Args:
        check: called every few milliseconds; what it raises ends the work.
    """
    if text.isascii():
        return text
    pieces = []
    for start in range(0, len(text), _PIECE):
        check()
        piece = text[start : start + _PIECE]
        hidden = {ord(character): None for character in set(piece) if unicodedata.category(character) == "Cf"}
        pieces.append(piece.translate(hidden) if hidden else piece)
    return "".join(pieces)


def squeeze_blanks(text: str) -> str:
    """The words of a text with one blank between them."""
    return " ".join(text.split())


def _replacement(character: str) -> str | None:
    """What stands for a character before normalisation; None where it stays."""
    match unicodedata.category(character):
        case "Cf":
            return ""
        case "Cs":
            return "\ufffd"
        case "Cc" | "Zl" | "Zp":
            return " "
        case _:
            return None
