"""What a text is written in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardreasoner_sdk.judges.languages import OTHER, language_name, language_note, script

LANGUAGES = ["en", "ru", "sw", "xx"]
MEASURED = frozenset({"en", "ru"})
ENGLISH, RUSSIAN, SWAHILI, UNKNOWN = ([0.9 if place == own else 0.03 for place in range(4)] for own in range(4))
UNSURE = [0.3, 0.1, 0.5, 0.1]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("How are you?", "LATIN"),
        ("\u041a\u0430\u043a \u0434\u0435\u043b\u0430?", "CYRILLIC"),
        ("\u4f60\u597d\u5417", "CJK"),
        ("\u3053\u3093\u306b\u3061\u306f", "HIRAGANA"),
        ("\uc548\ub155", "HANGUL"),
        ("\u0645\u0631\u062d\u0628\u0627", "ARABIC"),
        ("\u0928\u092e\u0938\u094d\u0924\u0947", "DEVANAGARI"),
        ("\u13e3\u13b3\u13a9", "CHEROKEE"),
        ("\uff21\uff22\uff23 \U0001d400\U0001d401", "LATIN"),
        ("OK \u041a\u0430\u043a \u0434\u0435\u043b\u0430", "CYRILLIC"),
        ("2 + 2 = 4 \U0001f600", None),
        ("", None),
    ],
)
def test_the_script_is_that_of_most_letters(text: str, name: str | None) -> None:
    assert script(text) == name


def test_a_language_never_measured_is_named() -> None:
    text = "Habari ya asubuhi rafiki yangu"
    note = "written in Swahili, a language this guard was never measured in"
    assert language_note(text, SWAHILI, LANGUAGES, MEASURED) == note
    assert language_note(text, SWAHILI, LANGUAGES, {*MEASURED, "sw"}) is None
    assert language_note(text, ENGLISH, LANGUAGES, MEASURED) is None
    assert language_note(text, UNKNOWN, LANGUAGES, MEASURED) == note.replace("Swahili", "xx")
    assert language_note(text, UNSURE, LANGUAGES, MEASURED) is None


def test_a_language_without_a_code_of_its_own_is_not_named() -> None:
    note = language_note("Habari ya asubuhi rafiki yangu", UNKNOWN, ["en", "ru", "sw", "other"], MEASURED)
    assert note == "written in a language this guard was never measured in"


@pytest.mark.parametrize("text", ["Habari", "Habari rafiki", "a b c d", "1 2 3 4 5 6 7 8 9", "..."])
def test_of_a_few_words_no_language_is_told(text: str) -> None:
    assert language_note(text, SWAHILI, LANGUAGES, MEASURED) is None


def test_a_script_without_blanks_has_words_all_the_same() -> None:
    text = "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35\u0e15\u0e2d\u0e19\u0e40\u0e0a\u0e49\u0e32\u0e04\u0e23\u0e31\u0e1a\u0e2d\u0e32\u0e01\u0e32\u0e28\u0e14\u0e35"
    assert language_note(text, SWAHILI, ["en", "ru", "th", "xx"], MEASURED) == (
        "written in Thai, a language this guard was never measured in"
    )


@pytest.mark.parametrize("text", ["\u0532\u0561\u0580\u0565\u0582", "\u0532\u0561\u0580\u0565\u0582 \u0571\u0565\u0566 " * 50])
@pytest.mark.parametrize("chances", [ENGLISH, UNSURE])
def test_a_script_that_no_measured_language_has_is_named_however_short(text: str, chances: list[float]) -> None:
    note = "written in the Armenian script, which this guard was never measured in"
    assert language_note(text, chances, LANGUAGES, MEASURED) == note
    assert language_note(text, chances, LANGUAGES, {*MEASURED, "hy"}) is None


def test_scripts_of_measured_languages_are_not_noted() -> None:
    assert language_note("\u041a\u0430\u043a", RUSSIAN, LANGUAGES, MEASURED) is None
    assert language_note("\u4f60\u597d", ENGLISH, LANGUAGES, {"ja"}) is None
    assert language_note("\u4f60\u597d", ENGLISH, LANGUAGES, MEASURED) == (
        "written in the Chinese script, which this guard was never measured in"
    )
    assert language_note("How are you", ENGLISH, LANGUAGES, {"ru"}) is None, "too few words, and Latin letters are everywhere"


def test_a_model_that_tells_no_languages_names_scripts_alone() -> None:
    assert language_note("Habari ya asubuhi rafiki yangu", [], [], MEASURED) is None
    assert language_note("\u4f60\u597d", [], [], MEASURED) is not None


@given(st.text(st.characters(codec=None)), st.integers(1, 200))
def test_any_text_is_looked_at(text: str, times: int) -> None:
    note = language_note(text * times, ENGLISH, LANGUAGES, MEASURED)
    assert note is None or note.startswith("written in the ")


def test_languages_have_english_names() -> None:
    assert [language_name(code) for code in ("de", "sw", "zh", "tlh")] == ["German", "Swahili", "Chinese", "tlh"]


def test_a_language_that_no_guard_tells_apart_has_no_name() -> None:
    text = "zxqv blorf mneh gralk trundle wibbon"
    assert language_note(text, [0.1, 0.9], ["en", OTHER], {"en"}) == "written in a language this guard was never measured in"
