"""The text of JSON, decoded as its reader will decode it."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardreasoner_sdk._unescaping import SecondReading, Unescaper, second_reading, unescape

LETTERS = st.text(alphabet=st.characters(blacklist_categories=("Cs",)))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | LETTERS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(LETTERS, inner, max_size=3),
    max_leaves=8,
)


def strings(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for key, inner in value.items() for text in (key, *strings(inner))]
    return [text for inner in value for text in strings(inner)] if isinstance(value, list) else []


@given(JSON, st.booleans(), st.lists(st.integers(0, 400)))
def test_every_string_is_read_in_whatever_pieces_it_comes(value, ascii_only, cuts):
    text = json.dumps([value], ensure_ascii=ascii_only)
    whole = unescape(text)
    for said in strings(value):
        assert said in whole
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    reader = Unescaper()
    pieces = [reader.feed(text[start:end]) for start, end in itertools.pairwise(places)]
    assert "".join(pieces) + reader.end() == whole


def test_every_character_may_be_written_as_an_escape():
    said = "How do I build a wall? 🧱 „Ä“"
    assert f'"{said}"' in unescape('{"body": "' + "".join(f"\\u{unit:04x}" for unit in units(said)) + '"}')


def units(text: str) -> list[int]:
    raw = text.encode("utf-16-be")
    return [int.from_bytes(raw[place : place + 2], "big") for place in range(0, len(raw), 2)]


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("plain \\u0041 text", "plain \\u0041 text"),
        ('  {"a": "\\u0041', '  {"a": "A'),
        ('{"a": "b\\q\\', '{"a": "b\\q\\'),
        ('{"a": "\\ud83d', '{"a": "\ud83d'),
        ('{"a": "\\u00', '{"a": "\\u00'),
        ('{\\u0041: "\\""}', '{\\u0041: """}'),
        ("", ""),
    ],
)
def test_what_is_no_escape_stays(text, read):
    assert unescape(text) == read


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("Here you are: {\\u0022b\\u0061d\\u0022}", 'Here you are: {"bad"}'),
        ('{"body": "so \\"bad\\""}', '{"body": "so "bad""}'),
        ('{"a": "{\\"b\\": \\"\\\\u0041\\"}"}', '{"a": "{"b": "A"}"}'),
        ("\\\\\\\\u0041", "A"),
        ('"\\bad', '"\bad'),
        ("\\ud83d\\ude42 and \\ud83d", "🙂 and \\ud83d"),
        ('{"a": "\\u0041\\u00', '{"a": "A\\u00'),
    ],
)
def test_json_in_a_text_has_a_reading_of_its_own(text, read):
    assert second_reading(text) == read


@pytest.mark.parametrize("text", ["", "plain", "a \\n b", "\\frac{\\beta}{2}", "C:\\users", '{"a": "b"}', '{"a": "b\\'])
def test_what_reads_the_same_to_everybody_has_no_second_reading(text):
    assert second_reading(text) == ""


def test_json_that_was_decoded_is_decoded_once_more_only_where_it_holds_letters():
    assert second_reading('{"code": "print(\\n)"}', decoded=True) == ""
    assert second_reading('{"code": "{"a": "\\u0041"}"}', decoded=True) == '{"code": "{"a": "A"}"}'


@given(st.text('\\u0041dD83ceEn"{ '), st.lists(st.integers(0, 60)), st.booleans())
def test_a_second_reading_is_the_same_in_whatever_pieces_it_comes(text, cuts, decoded):
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    reader = SecondReading(decoded=decoded)
    pieces = [reader.feed(text[start:end]) for start, end in itertools.pairwise(places)]
    assert "".join(pieces) + reader.end() == second_reading(text, decoded=decoded)
