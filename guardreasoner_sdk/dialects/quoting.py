"""Quoting lines of judged text that imitate the format they stand in, so that they open nothing in it."""

from __future__ import annotations

import re

from guardreasoner_sdk.exchange import Exchange, Turn
from guardreasoner_sdk.generation import PromptPiece

__all__ = ["BREAK", "fold_history", "fold_history_with_images", "marks", "quote", "quote_with_images"]

BREAK = r"\n\r\v\f\x1c-\x1e\x85\u2028\u2029"
_SKIP = rf"(?:[^\S{BREAK}]|[\u00ad\u200b-\u200f\u2060-\u2064\ufeff>*_])*+"
_EARLIER = r"\[ (?:system|tool|earlier (?:user|assistant|system|tool)|current user) message \]"


def marks(*lines: str) -> re.Pattern[str]:
    """The pattern of the places where a line of judged text imitates a section mark of a format.

    Such a line may stand after any kind of line break, and behind blanks, invisible characters and signs of quotation. The
    words that this SDK writes in front of folded turns always belong to it.

    Args:
        lines: how each mark begins, as regular expressions; a blank in them stands for any run of blanks, or none.
    """
    beginnings = "|".join((*lines, _EARLIER)).replace(" ", _SKIP)
    return re.compile(rf"(?:(?<=[{BREAK}])|\A)(?={_SKIP}(?:{beginnings}))", re.IGNORECASE)


def quote(text: str, pattern: re.Pattern[str]) -> str:
    """Put the mark of a quotation, ``"| "``, in front of the lines that imitate the format, and only those; all words stay.

    Args:
        text: a prompt, a response or an earlier turn.
        pattern: the marks of the format.
    """
    return pattern.sub("| ", text)


def quote_with_images(said: Exchange | Turn, pattern: re.Pattern[str]) -> tuple[PromptPiece, ...]:
    """What a user said and showed, in order: the text quoted, and each image in its place.

    Args:
        said: an earlier turn, or the exchange itself, whose prompt is meant.
        pattern: the marks of the format.
    """
    text = said.prompt if isinstance(said, Exchange) else said.content
    if not said.images:
        return (PromptPiece(quote(text, pattern)),)
    places = said.image_places or (0,) * len(said.images)
    pieces: list[PromptPiece] = []
    begin = 0
    for image, place in zip(said.images, places, strict=True):
        pieces += [PromptPiece(quote(text[begin:place], pattern)), PromptPiece(image=image)]
        begin = place
    pieces.append(PromptPiece(quote(text[begin:], pattern)))
    return tuple(piece for piece in pieces if piece.text or piece.image is not None)


def fold_history_with_images(exchange: Exchange, pattern: re.Pattern[str]) -> tuple[PromptPiece, ...]:
    """:func:`fold_history` for a family that sees: images stand where they were shown.

    Args:
        exchange: what is judged.
        pattern: the marks of the format.
    """
    if not exchange.all_images:
        return (PromptPiece(fold_history(exchange, pattern)),)
    prompt = quote_with_images(exchange, pattern)
    if not exchange.history:
        return prompt
    pieces: list[PromptPiece] = []
    for turn in exchange.history:
        pieces += [
            PromptPiece(f"[earlier {turn.role} message] "),
            *quote_with_images(turn, pattern),
            PromptPiece("\n"),
        ]
    return (*pieces, PromptPiece("[current user message] "), *prompt)


def fold_history(exchange: Exchange, pattern: re.Pattern[str]) -> str:
    """The human's part for a format that has one turn only: earlier turns are in it, before the prompt.

    Args:
        exchange: what is judged.
        pattern: the marks of the format.
    """
    prompt = quote(exchange.prompt, pattern)
    if not exchange.history:
        return prompt
    earlier = [f"[earlier {turn.role} message] {quote(turn.content, pattern)}" for turn in exchange.history]
    return "\n".join([*earlier, f"[current user message] {prompt}"])
