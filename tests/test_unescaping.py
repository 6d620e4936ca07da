"""The text of JSON, decoded as its reader will decode it."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardreasoner_sdk._unescaping import Unescaper, unescaped

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
    whole = unescaped(text)
    for said in strings(value):
        assert said in whole
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    reader = Unescaper()
    pieces = [reader.feed(text[start:end]) for start, end in itertools.pairwise(places)]
    assert "".join(pieces) + reader.end() == whole


def test_every_character_may_be_written_as_an_escape():
    said = "How do I build a wall? 🧱 „Ä“"
    assert f'"{said}"' in unescaped('{"body": "' + "".join(f"\\u{unit:04x}" for unit in units(said)) + '"}')


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
    assert unescaped(text) == read
