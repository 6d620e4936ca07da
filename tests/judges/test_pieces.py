"""Pieces of a vocabulary: those that the package `tokenizers` gives for the same one, and their places in the text."""

from __future__ import annotations

import json
import math
import os
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Tokenizer
from tokenizers.models import Unigram
from tokenizers.pre_tokenizers import Metaspace
from tokenizers.trainers import UnigramTrainer

from costs import assert_in_proportion
from guardreasoner_sdk.judges.pieces import SentencePieces
from guardreasoner_training.embedded.pieces import SPECIALS, tokenizer_model

SENTENCES = [
    "How do I bake a cake with my children on a rainy afternoon?",
    "The committee met on Tuesday and talked about the new garden behind the library.",
    "\u041a\u0430\u043a \u0438\u0441\u043f\u0435\u0447\u044c \u043f\u0438\u0440\u043e\u0433 \u0434\u043e\u043c\u0430?",
    "\u6211\u60f3\u505a\u4e00\u4e2a\u86cb\u7cd5\uff0c\u600e\u4e48\u505a\uff1f",
    "Quels sont les horaires de la biblioth\u00e8que le dimanche ?",
    "A party \U0001f382\U0001f388 with \U0001f382 and \U00020bb7\u91ce\u5bb6.",
]
SPELT = [*SPECIALS, "<mask>"]
UNKNOWN = SPECIALS.index("<unk>")


@pytest.fixture(scope="module")
def vocabulary() -> list[tuple[str, float]]:
    """Learnt by the package `tokenizers`, behind the special pieces."""
    made = Tokenizer(Unigram())
    made.pre_tokenizer = Metaspace()
    draw = random.Random(7)
    words = [word for sentence in SENTENCES for word in sentence.split()]
    lines = [*SENTENCES, *(" ".join(draw.choices(words, k=12)) for _ in range(200))]
    trainer = UnigramTrainer(vocab_size=180, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False)
    made.train_from_iterator(lines, trainer)
    learnt = json.loads(made.to_str())["model"]["vocab"]
    return [(special, 0.0) for special in SPECIALS] + [(piece, score) for piece, score in learnt if piece != "<unk>"]


@pytest.fixture(scope="module")
def tokenizer(vocabulary: list[tuple[str, float]]) -> Tokenizer:
    # It knows no pieces that a text cannot spell.
    unspelt = [(f"\x01{piece}" if piece in SPECIALS else piece, score) for piece, score in vocabulary]
    made = Tokenizer(Unigram(unspelt, UNKNOWN))
    made.pre_tokenizer = Metaspace()
    return made


@pytest.fixture(scope="module")
def pieces(vocabulary: list[tuple[str, float]]) -> SentencePieces:
    return SentencePieces(tokenizer_model([*vocabulary, ("<mask>", 0.0)]))


TEXT = st.lists(
    st.one_of(
        st.sampled_from([word for sentence in SENTENCES for word in sentence.split()]),
        st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zs", "Zl", "Zp"]), max_size=6),
        st.sampled_from(["\u2581\u2581a", "a\u2581b", "\U0001f600\U0001f600", "e\u0301", *SPELT]),
    ),
    max_size=20,
).map(lambda words: " ".join(" ".join(words).split()))


@given(TEXT.filter(lambda line: not line.startswith("\u2581")))  # which `tokenizers` takes for a blank that is there already
def test_they_are_those_of_the_package_tokenizers(tokenizer: Tokenizer, pieces: SentencePieces, line: str) -> None:
    assert pieces.encode(line) == tokenizer.encode(line, add_special_tokens=False).ids


@given(TEXT)
def test_each_has_its_place_in_the_line(pieces: SentencePieces, line: str) -> None:
    places = pieces.offsets(line)
    assert len(places) == len(pieces.encode(line))
    edges = [place for span in places for place in span]
    assert edges == sorted(edges)
    assert "".join(line[a:b] for a, b in places) == line.replace(" ", "")


@given(TEXT)
def test_a_place_is_what_its_piece_spells(vocabulary: list[tuple[str, float]], pieces: SentencePieces, line: str) -> None:
    for number, (a, b) in zip(pieces.encode(line), pieces.offsets(line), strict=True):
        if number != UNKNOWN:
            assert vocabulary[number][0].lstrip("\u2581") == line[a:b].lstrip("\u2581")


@pytest.mark.parametrize("sentence", SENTENCES)
def test_places_are_those_of_the_package_tokenizers_without_blanks(
    tokenizer: Tokenizer, pieces: SentencePieces, sentence: str
) -> None:
    encoding = tokenizer.encode(sentence, add_special_tokens=False)
    trimmed = [(a + (sentence[a : a + 1] == " "), b) for a, b in encoding.offsets]
    # A blank that is a piece of its own stands nowhere; the package puts it on the character behind it.
    assert [own for own in pieces.offsets(sentence) if own[0] < own[1]] == [
        other for own, other in zip(pieces.offsets(sentence), trimmed, strict=True) if own[0] < own[1]
    ]


def test_no_text_spells_a_special_piece(pieces: SentencePieces, vocabulary: list[tuple[str, float]]) -> None:
    assert (pieces.begin, pieces.end, pieces.unknown, pieces.size) == (0, 2, 3, len(vocabulary) + 1)
    for spelt in SPELT:
        for line in (spelt, f"cake {spelt} cake", f"a{spelt}", f"\u2581{spelt}"):
            assert not {0, 1, 2, len(vocabulary)} & {*pieces.encode(line)}
            assert "".join(line[a:b] for a, b in pieces.offsets(line)) == line.replace(" ", "")


@pytest.mark.parametrize("unit", ["a", "cake", "\u4f60", "\U0001f600", "\u2581", "a ", "\u0301"])
def test_a_line_without_an_end_takes_no_longer_than_its_length(pieces: SentencePieces, unit: str) -> None:
    assert_in_proportion(lambda times: pieces.encode(unit * times), 20_000 // len(unit), floor=0.01)
    assert_in_proportion(lambda times: pieces.offsets(unit * times), 20_000 // len(unit), floor=0.01)


def test_threads_share_one_vocabulary(pieces: SentencePieces) -> None:
    lines = [f"{sentence} {number}" for number in range(200) for sentence in SENTENCES]
    alone = [(pieces.encode(line), pieces.offsets(line)) for line in lines]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda line: (pieces.encode(line), pieces.offsets(line)), lines)) == alone


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_goes_on_with_it(pieces: SentencePieces) -> None:
    expected = [pieces.encode(sentence) for sentence in SENTENCES]
    if child := os.fork():
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    else:
        os._exit(7 if [pieces.encode(sentence) for sentence in SENTENCES] == expected else 8)


def changed(model: bytes, change: Callable[[Any], object]) -> bytes:
    value = sentencepiece_model_pb2.ModelProto.FromString(model)
    change(value)
    return value.SerializeToString()


def without(piece: str) -> Callable[[Any], object]:
    return lambda value: value.pieces.remove(next(entry for entry in value.pieces if entry.piece == piece))


def score(number: float) -> Callable[[Any], object]:
    return lambda value: setattr(value.pieces[9], "score", number)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (without("<s>"), "no piece that begins a text"),
        (without("</s>"), "or none that ends one"),
        (without("<unk>"), "not a model of sentencepiece: .*unk is not defined"),
        (lambda value: value.pieces[0].ClearField("type"), "no piece that begins a text"),
        (lambda value: value.ClearField("pieces"), "not a model of sentencepiece"),
        (lambda value: value.pieces.add(piece="a", score=-1.0), "not a model of sentencepiece: .*a is already defined"),
        (lambda value: value.pieces.add(piece="", score=-1.0), "not a model of sentencepiece"),
        (lambda value: setattr(value.normalizer_spec, "add_dummy_prefix", False), "it changes texts"),
        (lambda value: setattr(value.normalizer_spec, "remove_extra_whitespaces", True), "it changes texts"),
        (lambda value: setattr(value.normalizer_spec, "escape_whitespaces", False), "it changes texts"),
        (lambda value: setattr(value.trainer_spec, "treat_whitespace_as_suffix", True), "it changes texts"),
        *((score(bad), "not a model of sentencepiece: .*score is NaN or Inf") for bad in (math.nan, math.inf, -math.inf)),
    ],
)
def test_a_model_of_another_make_is_refused_in_silence(
    vocabulary: list[tuple[str, float]],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    change: Callable[[Any], object],
    problem: str,
) -> None:
    path = tmp_path / "tokenizer.model"
    path.write_bytes(changed(tokenizer_model(vocabulary), change))
    with pytest.raises(ValueError, match=problem):
        SentencePieces.from_file(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("content", [b"", b"rubbish", b"{}", bytes(100)])
def test_what_is_no_model_is_refused_in_silence(content: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="not a model of sentencepiece"):
        SentencePieces(content)
    assert capfd.readouterr() == ("", "")


@given(cut=st.integers(0, 10**6))
def test_a_model_that_was_cut_off_is_refused(vocabulary: list[tuple[str, float]], cut: int) -> None:
    model = tokenizer_model(vocabulary)
    # Cut between two of its parts it is a model still, without the settings at its end.
    with pytest.raises(ValueError, match="it "):
        SentencePieces(model[: cut % len(model)])
