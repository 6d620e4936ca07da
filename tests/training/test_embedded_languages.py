"""Which language a row is in, and which of them the model tells apart."""

from __future__ import annotations

import pytest

from guardreasoner_sdk.judges.languages import language_name
from guardreasoner_training.embedded.data import parse_row
from guardreasoner_training.embedded.languages import LANGUAGES, OTHER, language_number


def test_the_language_of_a_row() -> None:
    def english(**fields: str) -> bool:
        return parse_row({"prompt": "x", "prompt_harmful": True, **fields}, "made").english

    assert english()
    assert english(lang="en")
    assert not english(lang="vi")


@pytest.mark.parametrize(
    ("stated", "code"),
    [
        ("Spanish", "es"),
        ("pt-BR", "pt"),
        ("zh", "zh"),
        ("gsw", "gsw"),
        (None, "en"),
        ("mul", None),
        ("Klingon", None),
        ("", None),
    ],
)
def test_languages_are_codes_however_a_set_names_them(stated: str | None, code: str | None) -> None:
    assert parse_row({"prompt": "x", "prompt_harmful": True, "lang": stated}, "made").lang == code


def test_every_language_has_a_number_and_those_without_rows_share_one() -> None:
    assert [language_number(code) for code in LANGUAGES] == list(range(len(LANGUAGES)))
    assert language_number("xx") == language_number("la") == LANGUAGES.index(OTHER)
    assert language_number(None) is None


def test_the_runtime_names_every_language_that_the_model_tells_apart() -> None:
    # What it cannot name it would show as a code.
    assert [code for code in LANGUAGES if language_name(code) == code] == [OTHER]
    assert all(code.isalpha() and code.isascii() and len(code) <= 8 for code in LANGUAGES)
