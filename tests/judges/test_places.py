"""Where in a text its tokens stand, whatever was done to it on the way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from costs import assert_in_proportion
from guardreasoner_sdk.judges.encoding import Encoder, EncodingConfig
from guardreasoner_sdk.judges.pieces import SentencePieces
from guardreasoner_sdk.judges.places import map_changes, map_squeezing
from guardreasoner_training.embedded.pieces import SPECIALS, tokenizer_model

WORDS = ["bake", "cake", "how", "to", "bread", "cookies", "are", "good", "fine", "\u043a\u0430\u043a"]
PIECES = [
    *SPECIALS,
    "\u2581",
    *(f"\u2581{word}" for word in WORDS),
    *(chr(code) for code in range(33, 127)),
    "\u4f60",
    "\u597d",
]


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    return Encoder(
        SentencePieces(tokenizer_model((piece, -float(len(piece) < 2)) for piece in PIECES)), EncodingConfig(32, 8, 4, 8)
    )


def found(encoder: Encoder, text: str) -> list[tuple[str, str]]:
    """The tokens of a text, each with what it was made of."""
    ids = encoder.read(text)
    places = encoder.places(text, [(0, len(ids))])
    assert sorted(places) == list(range(len(ids)))
    return [(PIECES[token].lstrip("\u2581"), text[slice(*places[number])]) for number, token in enumerate(ids)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bake  cake\n\nhow", "bake=bake cake=cake how=how"),
        ("  bake\tcake ", "bake=bake cake=cake"),
        ("b\u200bake cake\u00ad", "bake=b\u200bake cake=cake\u00ad"),
        ("\uff42\uff41\uff4b\uff45 \ufb01ne", "bake=\uff42\uff41\uff4b\uff45 fine=\ufb01ne"),
        ("g00d c@ke", "good=g00d cake=c@ke"),
        ("b\u0430ke cake", "bake=b\u0430ke cake=cake"),
        ("bake b.r.e.a.d how", "bake=bake bread=b.r.e.a.d how=how"),
        ("\u4f60\u597d bake", "=\u4f60 \u4f60=\u4f60"),
    ],
)
def test_tokens_stand_where_they_were_written(encoder: Encoder, text: str, expected: str) -> None:
    tokens = [(token, said) for token, said in found(encoder, text) if token]
    if expected.startswith("="):
        assert tokens == [("\u4f60", "\u4f60"), ("\u597d", "\u597d"), ("bake", "bake")]
    else:
        assert tokens == [tuple(pair.split("=")) for pair in expected.split(" ")]


def test_what_became_other_words_stands_in_all_of_them(encoder: Encoder) -> None:
    assert found(encoder, "bake h o w  t o cake") == [
        ("bake", "bake"),
        ("how", "h o w  t o"),
        ("to", "h o w  t o"),
        ("cake", "cake"),
    ]


@given(
    st.lists(
        st.one_of(
            st.text(st.characters(codec=None), max_size=12),
            st.sampled_from(
                ["bake", " c4ke ", "h o w  t o", "b.r.e.a.d", "\u200b", "\n\n ", "e\u0301", "\ufdfa", "\uac00\u11a8", "\x00"]
            ),
        ),
        max_size=40,
    ).map("".join),
    st.integers(0, 3),
)
def test_places_rise_and_stay_in_any_text(encoder: Encoder, text: str, repeats: int) -> None:
    text = text * (1 + repeats * 40)
    ids = encoder.read(text)
    places = encoder.places(text, [(0, len(ids))])
    assert list(places) == list(range(len(ids)))
    starts = [start for start, _ in places.values()]
    assert starts == sorted(starts)
    assert all(0 <= start <= end <= len(text) for start, end in places.values())
    middle = len(ids) // 2
    some = encoder.places(text, [(0, min(2, middle)), (middle, middle + 3)])
    assert some == {number: places[number] for number in places if number < min(2, middle) or middle <= number < middle + 3}


def test_a_place_far_in_a_long_text(encoder: Encoder) -> None:
    text = "bake  \u4f60\u597d f\u200bine b.r.e.a.d " * 3000 + "cookies"
    ids = encoder.read(text)
    assert encoder.places(text, [(len(ids) - 1, len(ids))]) == {len(ids) - 1: (len(text) - 7, len(text))}
    assert encoder.places(text, []) == {}


@given(st.lists(st.sampled_from(["a", "bb", "ccc", "b b", "dd-dd"])), st.lists(st.sampled_from(["a", "bb", "ccc", "e e e"])))
def test_any_change_of_words_keeps_order(old: list[str], new: list[str]) -> None:
    text, other = " ".join(old), " ".join(new)
    places = map_changes(text, other)
    assert len(places.starts) == len(places.ends) == len(other)
    spans = [places.of(at, at + 1) for at in range(len(other))]
    assert all(0 <= start <= end <= len(text) for start, end in spans)
    assert [start for start, _ in spans] == sorted(start for start, _ in spans)


def test_words_that_stayed_are_exact_beside_those_that_did_not() -> None:
    text, other = "one t w o three four five", "one two three vier five"
    places = map_changes(text, other)
    for word in ("one", "three", "five"):
        start = other.index(word)
        assert places.of(start, start + len(word)) == (text.index(word), text.index(word) + len(word))
    assert places.of(4, 7) == (4, 9)


def test_blanks_are_what_was_squeezed() -> None:
    text = " a \n bb  "
    places = map_squeezing(text, "a bb")
    assert [text[slice(*places.of(a, b))] for a, b in ((0, 1), (1, 2), (2, 4))] == ["a", " \n ", "bb"]


@pytest.mark.parametrize("unit", ["h o w  t o ", "a b c d ", "b.r.e.a.d x ", "\ufb01", "e\u0301\u0316", "c4ke "])
def test_looking_up_takes_no_longer_than_reading(encoder: Encoder, unit: str) -> None:
    def work(times: int) -> None:
        text = unit * times
        encoder.places(text, [(0, len(encoder.read(text)))])

    assert_in_proportion(work, 12_000 // len(unit), floor=0.05)
