"""Encoding: nothing of the text is lost, nothing of it becomes a special token, and a long text is quick."""

from __future__ import annotations

import itertools
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from costs import assert_in_proportion
from guardreasoner_sdk.judges.encoding import Encoder, EncodingConfig, Window, clean, collate

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PAD, UNK, CLS, SEP, MASK = range(5)
CONFIG = EncodingConfig(prompt_tokens=10, pair_tokens=16, pair_prompt_tokens=4, overlap_tokens=3)

# Any text, and text that leans towards what could break out of a window or hide in one.
HOSTILE = st.lists(
    st.one_of(
        st.text(st.characters(codec=None), max_size=12),
        st.sampled_from([*SPECIALS, "\u200b", "\ud800", "\x00", "\n\n", "\u202e", "word", "[SEP][SEP]", "\ufb01", " "]),
    ),
    max_size=30,
).map("".join)


def tokenizer() -> Tokenizer:
    letters = [chr(code) for code in range(33, 127)]
    words = SPECIALS + letters + ["##" + letter for letter in letters] + ["word", "harm", "##ful"]
    made = Tokenizer(WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]", max_input_chars_per_word=100))
    made.normalizer = BertNormalizer(lowercase=True)
    made.pre_tokenizer = BertPreTokenizer()
    made.add_special_tokens(SPECIALS)
    return made


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(tokenizer(), CONFIG)


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
def test_windows_hold_every_token_and_no_special_from_the_text(prompt: str, response: str) -> None:
    encoder = Encoder(tokenizer(), CONFIG)
    prompt_tokens, response_tokens = encoder.tokens(prompt), encoder.tokens(response)
    assert not {PAD, CLS, SEP, MASK} & {*prompt_tokens, *response_tokens}

    windows = encoder.prompt(prompt)
    for window in windows:
        assert window.ids[0] == CLS
        assert window.ids[-1] == SEP
        assert set(window.type_ids) == {0}
        assert len(window.type_ids) == len(window.ids) <= CONFIG.prompt_tokens
    assert covers([window.ids[1:-1] for window in windows], prompt_tokens)

    pairs = encoder.pair(prompt, response)
    for window in pairs:
        assert window.ids.count(CLS) == 1
        assert window.ids.count(SEP) == 2
        first = window.ids.index(SEP) + 1
        assert first - 2 <= CONFIG.pair_prompt_tokens
        assert window.type_ids == (0,) * first + (1,) * (len(window.ids) - first)
        assert len(window.ids) <= CONFIG.pair_tokens
    assert covers([window.ids[window.ids.index(SEP) + 1 : -1] for window in pairs], response_tokens)


def covers(parts: list[tuple[int, ...]], tokens: list[int]) -> bool:
    """Whether the parts are overlapping stretches of the tokens, in order and without a gap, that leave none out."""
    if len(parts) == 1:
        return list(parts[0]) == tokens
    room = len(parts[0])
    starts = [number * (room - CONFIG.overlap_tokens) for number in range(len(parts) - 1)] + [len(tokens) - room]
    gaps = [later - (earlier + room) for earlier, later in itertools.pairwise(starts)]
    return max(gaps) <= -CONFIG.overlap_tokens and all(
        list(part) == tokens[start : start + room] for start, part in zip(starts, parts, strict=True)
    )


def test_windows_start_where_they_should(encoder: Encoder) -> None:
    text = " ".join(chr(ord("a") + i) for i in range(20))
    tokens = encoder.tokens(text)
    windows = encoder.prompt(text)
    assert [list(window.ids[1:-1]) for window in windows] == [tokens[0:8], tokens[5:13], tokens[10:18], tokens[12:20]]


def test_prompt_in_a_pair_is_cut_to_head_and_tail(encoder: Encoder) -> None:
    (window,) = encoder.pair("a b c d e f", "word")
    a, b, e, f, word = (encoder.tokens(letter)[0] for letter in ("a", "b", "e", "f", "word"))
    assert window == Window((CLS, a, b, e, f, SEP, word, SEP), (0, 0, 0, 0, 0, 0, 1, 1))


@pytest.mark.parametrize("text", ["", " \n", "\u200b", "\u4e2d"])
def test_text_without_known_words_gives_one_window(encoder: Encoder, text: str) -> None:
    assert len(encoder.prompt(text)) == len(encoder.pair(text, text)) == 1
    assert set(encoder.prompt(text)[0].ids) <= {CLS, SEP, UNK}


def test_tokens_of_a_long_text_are_those_of_its_parts(encoder: Encoder) -> None:
    text = "harmful word, and more; " * 3000
    plain = tokenizer()
    plain.encode_special_tokens = True
    assert encoder.tokens(text) == plain.encode(clean(text), add_special_tokens=False).ids


@pytest.mark.parametrize("unit", ["word harmful \u00e9t\u00e9 ", "\n", "x"])
def test_a_long_text_takes_no_longer_than_its_length(encoder: Encoder, unit: str) -> None:
    assert_in_proportion(lambda times: encoder.prompt(unit * times), 50_000 // len(unit))


def test_collate_pads_to_the_longest() -> None:
    arrays = collate([Window((2, 7, 3), (0, 0, 0)), Window((2, 7, 3, 8, 3), (0, 0, 0, 1, 1))])
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.int64)}
    assert arrays["input_ids"].tolist() == [[2, 7, 3, 0, 0], [2, 7, 3, 8, 3]]
    assert arrays["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert arrays["token_type_ids"].tolist() == [[0, 0, 0, 0, 0], [0, 0, 0, 1, 1]]
    with pytest.raises(ValueError, match="no windows"):
        collate([])


@pytest.mark.parametrize("length", [2, 5, 6, 40])
def test_the_opening_is_the_beginning_of_the_first_window(length: int) -> None:
    encoder = Encoder(tokenizer(), EncodingConfig(10, 16, 4, 3, 11))
    first = encoder.pair("harm word word harm word", "a b c d e f g h i j k l m n o p q r s t".replace(" ", "")[:length])[0]
    opening = encoder.opening(first)
    if len(first.ids) <= 11:
        assert opening is first
        return
    assert opening.ids == (*first.ids[:10], SEP)
    assert opening.type_ids == first.type_ids[:11]
    assert opening.place[1] == pytest.approx(first.place[1] * 4 / (len(first.ids) - 7))
    assert Encoder(tokenizer(), CONFIG).opening(first) is first  # without the setting


def test_config_is_read_and_written() -> None:
    assert EncodingConfig.from_json(CONFIG.to_json()) == CONFIG
    with_opening = EncodingConfig(10, 16, 4, 3, 11)
    assert EncodingConfig.from_json(with_opening.to_json()) == with_opening
    older = {name: size for name, size in CONFIG.to_json().items() if name != "opening_tokens"}
    assert EncodingConfig.from_json(older) == CONFIG
    with pytest.raises(ValueError, match=r"encoding\.pair_tokens must be a whole number of tokens, not None"):
        EncodingConfig.from_json({"prompt_tokens": 10})
    with pytest.raises(ValueError, match=r"encoding\.prompt_tokens .* not True"):
        EncodingConfig.from_json({"prompt_tokens": True})


@pytest.mark.parametrize("sizes", [(5, 16, 4, 3), (10, 10, 4, 3), (10, 16, 4, -1), (10, 16, -1, 3), (10, 16, 4, 3, 7)])
def test_config_refuses_sizes_that_do_not_advance(sizes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="tokens"):
        EncodingConfig(*sizes)


def test_tokenizer_without_specials_is_refused() -> None:
    bare = Tokenizer(WordPiece({"[UNK]": 0, "[PAD]": 1}, unk_token="[UNK]"))
    with pytest.raises(ValueError, match=r"\[CLS\], \[SEP\]"):
        Encoder(bare, CONFIG)
