"""Encoding: nothing of the text is lost, nothing of it becomes a special token, and a long text is quick."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from costs import assert_in_proportion
from guardreasoner_sdk.judges.encoding import (
    ANSWERED,
    ASKED,
    PROMPT,
    RESPONSE,
    Encoder,
    EncodingConfig,
    TokenWindow,
    clean,
    collate,
)
from guardreasoner_sdk.judges.pieces import SentencePieces
from guardreasoner_training.embedded.pieces import SPECIALS, tokenizer_model

BEGIN, PAD, END, UNKNOWN = range(4)
CONFIG = EncodingConfig(window_tokens=16, context_tokens=6, overlap_tokens=3, opening_tokens=4)
PIECES = [*SPECIALS, "\u2581", "\u2581word", "\u2581harm", "ful", *map(chr, range(33, 127))]

# Any text, and text that leans towards what could break out of a window or hide in one.
HOSTILE = st.lists(
    st.one_of(
        st.text(st.characters(codec=None), max_size=12),
        st.sampled_from(
            [*SPECIALS, "<mask>", "\x01<s>", "\u2581", "\u200b", "\ud800", "\x00", "\n\n", "\u202e", "word", "\ufb01", " "]
        ),
    ),
    max_size=30,
).map("".join)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(SentencePieces(tokenizer_model((piece, -float(len(piece) < 2)) for piece in PIECES)), CONFIG)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain text", "plain text"),
        ("  two\n\n\tlines ", "two lines"),
        ("\n" * 100_000, ""),
        ("ki\u200bll\u00ad", "kill"),
        ("\u202eabc\u2066", "abc"),
        ("\uff4b\uff49\uff4c\uff4c \ufb01re", "kill fire"),
        ("a\x00b\x7fc", "a b c"),
        ("a\ud800b", "a\ufffdb"),
        ("line\u2028break", "line break"),
        ("", ""),
    ],
)
def test_clean(text: str, expected: str) -> None:
    assert clean(text) == expected


@given(HOSTILE)
def test_clean_text_is_visible_and_stays_as_it_is(text: str) -> None:
    cleaned = clean(text)
    assert clean(cleaned) == cleaned
    assert not {unicodedata.category(character) for character in cleaned} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert cleaned == " ".join(cleaned.split())


@given(HOSTILE, HOSTILE)
def test_windows_hold_every_token_and_no_special_from_the_text(encoder: Encoder, prompt: str, response: str) -> None:
    prompt_tokens, response_tokens = encoder.tokens(prompt), encoder.tokens(response)
    assert not {BEGIN, PAD, END} & {*prompt_tokens, *response_tokens}

    windows = encoder.prompt(prompt)
    for window in windows:
        assert (window.ids[0], window.ids[-1], window.first) == (BEGIN, END, 1)
        assert {*window.type_ids} == {PROMPT}
        assert len(window.type_ids) == len(window.ids) <= CONFIG.window_tokens
    assert covers(windows, prompt_tokens)

    pairs = encoder.pair(prompt, response)
    for window in pairs:
        assert window.ids.count(BEGIN) == 1
        assert window.ids.count(END) == (2 if prompt else 1)
        assert len(window.ids) <= CONFIG.window_tokens
        if prompt:
            assert window.ids[window.first - 1] == END
            assert window.first - 1 <= 1 + CONFIG.context_tokens
            assert window.type_ids == (ASKED,) * window.first + (RESPONSE,) * (len(window.ids) - window.first)
    assert covers(pairs, response_tokens)


def covers(windows: list[TokenWindow], tokens: list[int]) -> bool:
    """Whether the windows show overlapping stretches of the tokens, in order and without a gap, that leave none out."""
    shown = [(window.start, list(window.ids[window.first : -1])) for window in windows]
    ends = [start + len(part) for start, part in shown]
    assert all(part == tokens[start : start + len(part)] for start, part in shown)
    assert all(end - start >= CONFIG.overlap_tokens for end, (start, _) in zip(ends, shown[1:], strict=False))
    return shown[0][0] == 0 and ends[-1] == len(tokens)


def test_windows_start_where_they_should(encoder: Encoder) -> None:
    text = " ".join(["word"] * 30)
    windows = encoder.prompt(text)
    assert [(window.start, len(window.ids)) for window in windows] == [(0, 16), (11, 16), (16, 16)]


def test_the_prompt_of_a_pair_is_cut_to_head_and_tail(encoder: Encoder) -> None:
    (window,) = encoder.pair("a b c d", "word")
    a, b, c, d = (encoder.tokens(letter)[1] for letter in "abcd")
    blank, word = encoder.tokens("a")[0], encoder.tokens("word")[0]
    assert encoder.tokens("a b c d") == [blank, a, blank, b, blank, c, blank, d]
    assert window == TokenWindow((BEGIN, blank, a, blank, blank, d, END, word, END), (ASKED,) * 7 + (RESPONSE,) * 2, 7)


def test_earlier_turns_stand_in_front_of_the_first_window(encoder: Encoder) -> None:
    word, harm = encoder.tokens("word")[0], encoder.tokens("harm")[0]
    (window,) = encoder.prompt("word", [(ASKED, "harm"), (ANSWERED, "word word")])
    assert window == TokenWindow(
        (BEGIN, harm, END, word, word, END, word, END), (ASKED,) * 3 + (ANSWERED,) * 3 + (PROMPT,) * 2, 6
    )
    first, *others = encoder.prompt("word " * 40, [(ASKED, "harm")])
    assert first.first == 3
    assert all(window.first == 1 for window in others)
    # Of many turns the last ones are shown, and of a long one its ends.
    (window,) = encoder.prompt("word", [(ASKED, "harm " * 9), (ANSWERED, "word " * 9)])
    assert window.ids[:-2] == (BEGIN, harm, END, word, word, word, END)


@pytest.mark.parametrize("text", ["", " \n", "\u200b", "\u4e2d"])
def test_text_without_known_words_gives_one_window(encoder: Encoder, text: str) -> None:
    assert len(encoder.prompt(text)) == len(encoder.pair(text, text)) == 1
    assert {*encoder.prompt(text)[0].ids} <= {BEGIN, END, UNKNOWN, PIECES.index("\u2581")}


def test_tokens_of_a_long_text_are_those_of_its_parts(encoder: Encoder) -> None:
    text = "harmful word, and more; " * 3000
    assert encoder.tokens(text) == encoder._pieces.encode(clean(text))


@pytest.mark.parametrize("unit", ["word harmful \u00e9t\u00e9 ", "\n", "x", "xyz"])
def test_a_long_text_takes_no_longer_than_its_length(encoder: Encoder, unit: str) -> None:
    assert_in_proportion(lambda times: encoder.prompt(unit * times), 50_000 // len(unit), floor=0.01)


def test_collate_pads_to_the_longest() -> None:
    arrays = collate([TokenWindow((2, 7, 3), (2, 2, 2)), TokenWindow((2, 7, 3, 8, 3), (0, 0, 0, 3, 3))])
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.int64)}
    assert arrays["input_ids"].tolist() == [[2, 7, 3, 0, 0], [2, 7, 3, 8, 3]]
    assert arrays["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert arrays["token_type_ids"].tolist() == [[2, 2, 2, 0, 0], [0, 0, 0, 3, 3]]
    alone = collate([TokenWindow((2, 7, 3), (2, 2, 2))])
    assert {name: array.tolist() for name, array in alone.items()} == {
        "input_ids": [[2, 7, 3]],
        "attention_mask": [[1, 1, 1]],
        "token_type_ids": [[2, 2, 2]],
    }
    with pytest.raises(ValueError, match="no windows"):
        collate([])


def test_the_widest_window_holds_all_kinds_of_tokens(encoder: Encoder) -> None:
    window = encoder.widest()
    assert len(window.ids) == len(window.type_ids) == CONFIG.window_tokens
    assert {*window.type_ids} == {ASKED, ANSWERED, PROMPT, RESPONSE}
    assert max(window.ids) == len(PIECES) - 1


def test_config_is_read_and_written() -> None:
    assert EncodingConfig.from_json(CONFIG.to_json()) == CONFIG
    with pytest.raises(ValueError, match=r"encoding\.context_tokens must be a whole number of tokens, not None"):
        EncodingConfig.from_json({"window_tokens": 10})
    with pytest.raises(ValueError, match=r"encoding\.window_tokens .* not True"):
        EncodingConfig.from_json({"window_tokens": True})


@pytest.mark.parametrize("sizes", [(10, 4, 4, 4), (8, 6, 0, 4), (16, 4, -1, 4), (16, -1, 3, 4), (16, 4, 3, 0)])
def test_config_refuses_sizes_that_do_not_advance(sizes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="tokens"):
        EncodingConfig(*sizes)
