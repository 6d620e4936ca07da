"""Judged text stays text for llama.cpp: on the tiny guard's vocabulary, and on ones that make it hard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from guardreasoner_sdk.backends._llama_vocabulary import Vocabulary
from guardreasoner_sdk.backends._tokens import PromptEncoder
from guardreasoner_sdk.generation import PromptPiece, Query

from .llama_models import BYTE, CONTROL, LETTERS, NORMAL, UNKNOWN, USER
from .llama_models import vocabulary as vocabulary_file

llama_cpp = pytest.importorskip("llama_cpp", reason="not installed: llama_cpp")
pytest.importorskip("gguf", reason="not installed: gguf, which writes the models")

ADDED = {
    "<think>": USER,
    "</think>": USER,
    "\n\n": USER,
    "STOP": CONTROL,
    "<|im_end|>": CONTROL,
    "<|im_end|><": USER,
    "<<": USER,
}


def opened(path: Path) -> Any:
    return llama_cpp.Llama(str(path), vocab_only=True, n_ctx=64, verbose=False)


@pytest.fixture(scope="module")
def bpe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Byte-level, with tokens that llama.cpp reads in plain text, and a special one that is a word."""
    tokens = dict.fromkeys([*LETTERS, "ST", "OP"], NORMAL) | {"<s>": CONTROL, "</s>": CONTROL} | ADDED
    llama = opened(vocabulary_file(tmp_path_factory.mktemp("bpe") / "bpe.gguf", "gpt2", tokens, ("S T", "O P", "ST OP")))
    yield llama
    llama.close()


@pytest.fixture(scope="module")
def spm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """SentencePiece, with a blank in front of texts, and merges that end in special tokens."""
    letters = {"▁": NORMAL} | {chr(number): NORMAL for number in range(33, 127)} | {"☺": NORMAL}
    tokens = {"<unk>": UNKNOWN, "<s>": CONTROL, "</s>": CONTROL} | {f"<0x{number:02X}>": BYTE for number in range(256)}
    tokens |= dict.fromkeys(["s>", "/s>", "<s", "</", "ST", "OP", "▁a", "ab"], NORMAL) | letters | ADDED
    llama = opened(vocabulary_file(tmp_path_factory.mktemp("spm") / "spm.gguf", "llama", tokens))
    yield llama
    llama.close()


@pytest.fixture(scope="module")
def tiny(tiny_guard: Any) -> Iterator[Any]:
    llama = opened(tiny_guard.gguf)
    yield llama
    llama.close()


@pytest.fixture(scope="module")
def encoder(tiny_guard: Any) -> PromptEncoder:
    pytest.importorskip("transformers", reason="the reference is the tokenizer of transformers")
    return PromptEncoder.from_folder(tiny_guard.folder)


@pytest.fixture(scope="module", params=["bpe", "spm", "tiny"])
def vocabulary(request: pytest.FixtureRequest) -> Vocabulary:
    return Vocabulary(request.getfixturevalue(request.param))


NAMES = [*ADDED, "<s>", "</s>", "<unk>", "<|eot_id|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>"]
FRAGMENTS = sorted({part for name in NAMES for part in (name, name[:1], name[1:], name[:-1], name[-1:])})
TEXTS = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=5), st.sampled_from(" \n▁☺")), max_size=10).map("".join)


def test_llama_cpp_alone_would_read_special_tokens_in_text(bpe: Any, spm: Any) -> None:
    for llama, texts in ((bpe, ["<think>", "STOP"]), (spm, ["<think>", "</s>", "a<s>"])):
        special = set(Vocabulary(llama).special.values())
        for text in texts:
            assert special & set(llama.tokenize(text.encode(), add_bos=False, special=False)), text


@settings(max_examples=300, deadline=None)
@given(text=TEXTS, markup=TEXTS, continuation=TEXTS)
@example(text="<|im_end|><think>", markup="", continuation="<<<think></think>")
@example(text="think>", markup="a<", continuation="")
@example(text="STOP STOP", markup="", continuation="STOP</s>")
@example(text="", markup="<s>a", continuation="")
def test_no_text_becomes_a_special_token_and_none_is_lost(
    vocabulary: Vocabulary, text: str, markup: str, continuation: str
) -> None:
    assert vocabulary.bos is not None
    bos = vocabulary.name_of(vocabulary.bos)
    whole = text + markup + text
    before = "" if not text and markup.startswith(bos) else bos
    special = set(vocabulary.special.values())
    expected = [vocabulary.special[name] for name in (bos, *vocabulary._special.findall(markup))]

    ids = vocabulary.encode((PromptPiece(text), PromptPiece(markup, markup=True), PromptPiece(text)), continuation)

    assert [token for token in ids if token in special] == (expected if before else expected[1:])
    back = b"".join(vocabulary.piece(token, special=True) for token in ids).decode("utf-8", "replace")
    # SentencePiece writes blanks as U+2581, and may put one in front.
    assert back.replace("▁", "").replace(" ", "") == (before + whole + continuation).replace("▁", "").replace(" ", "")


@settings(max_examples=100, deadline=None)
@given(parts=st.lists(st.text(max_size=6), max_size=6))
def test_who_wrote_the_parts_of_a_text_does_not_change_its_tokens(vocabulary: Vocabulary, parts: list[str]) -> None:
    whole = vocabulary.encode((PromptPiece("".join(parts)),), "")
    assert vocabulary.encode([PromptPiece(part, markup=bool(number % 2)) for number, part in enumerate(parts)], "") == whole


@settings(max_examples=200, deadline=None)
@given(text=st.text(st.characters(max_codepoint=0x24F, exclude_categories=("C",)), max_size=40))
@example(text="  two  blanks\n\n\nand lines\n ")
def test_ordinary_text_has_the_tokens_that_transformers_gives_it(tiny: Any, encoder: PromptEncoder, text: str) -> None:
    query = Query(pieces=(PromptPiece("Human user:\n"), PromptPiece(text)), continuation="Answers: \n")
    assert Vocabulary(tiny).encode(query.pieces, query.continuation) == encoder.encode(query)


def test_a_continuation_gets_no_blank_in_front_of_it(spm: Any) -> None:
    vocabulary = Vocabulary(spm)
    assert text_of(vocabulary, vocabulary.encode((PromptPiece("ab"),), "ab")) == "<s> abab"
    assert text_of(vocabulary, vocabulary.encode((PromptPiece("a</s>b"),), "")) == "<s> a</s>b"
    assert vocabulary.special["</s>"] not in vocabulary.encode((PromptPiece("a</s>b"),), "")


def text_of(vocabulary: Vocabulary, ids: list[int]) -> str:
    return b"".join(vocabulary.piece(token, special=True) for token in ids).decode()


def test_a_long_text_of_openings_is_read_in_one_pass(vocabulary: Vocabulary) -> None:
    for text in ("<" * 100_000, "</s>" * 25_000, "<think>" * 10_000):
        ids = vocabulary.encode((PromptPiece(text),), "")
        assert set(ids) & set(vocabulary.special.values()) == {vocabulary.bos}
