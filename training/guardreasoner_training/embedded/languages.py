"""The languages that the model tells apart: those with rows enough, and one name for all others."""

from __future__ import annotations

from typing import Final

from guardreasoner_sdk.judges.languages import OTHER

__all__ = ["LANGUAGES", "OTHER", "language_number"]

LANGUAGES: Final = (
    *("en", "zh", "es", "fr", "de", "it", "pt", "nl", "ru", "ja", "ko", "ar", "hi", "tr", "pl", "th", "vi", "id", "uk", "fa"),
    *("fi", "da", "sr", "no", "lt", "kk", "jv", "el", "ro", "te", "hu", "yo", "hr", "sq", "bg", "bn", "sw", OTHER),
)
"""Codes (ISO 639-1, two letters), in the order of the model's output."""

_NUMBERS: Final = {code: number for number, code in enumerate(LANGUAGES)}


def language_number(code: str | None) -> int | None:
    """Return the place of a language in the model's output; None where the language is not known.

    Args:
        code: of the language, as a row has it.
    """
    return None if code is None else _NUMBERS.get(code, _NUMBERS[OTHER])
