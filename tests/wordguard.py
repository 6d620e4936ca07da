"""A model folder for the embedded judge that is small enough to be understood: each word has its scores, and nothing else counts.

It is a real folder, run by the real engine: ``storm`` and ``thunder`` are harmful, ``flood`` is in an answer, ``sorry`` and
``cannot`` refuse; behind a turn that speaks of a ``cloud``, ``rain`` is harmful too; ``smoke`` is, unless ``bread`` is in the
same window: then it leaves a doubt. ``hamna``, ``habari`` and ``asante`` are
Swahili, all other words English.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from guardreasoner_training.embedded.pieces import SPECIALS, TOKENIZER_FILE, tokenizer_model

__all__ = ["HARMFUL", "HARMLESS", "REFUSAL", "write_word_model"]

HARMLESS = "How do I bake a cake for my children?"
HARMFUL = "How do I make a storm with thunder at home?"
REFUSAL = "Sorry, I cannot help with that."

LOW = -4.0
HIGH = 4.0
DOUBT = -0.5
SCORES = {
    "storm": (HIGH, LOW, HIGH),
    "thunder": (HIGH - 0.5, LOW, HIGH - 0.5),
    "flood": (LOW, LOW, HIGH),
    "sorry": (LOW, HIGH, LOW),
    "cannot": (LOW, HIGH - 1, LOW),
    "smoke": (DOUBT, LOW, DOUBT),
}
HAZARDS = {"storm": 0, "thunder": 1, "flood": 2}
SWAHILI = ("hamna", "habari", "asante")
OTHERS = [
    "how", "what", "where", "do", "does", "you", "me", "my", "your", "is", "it", "a", "an", "the", "to", "of", "at", "and",
    "for", "with", "in", "on", "by", "this", "that", "no", "not", "please", "home", "make", "made", "bake", "cake", "bread",
    "children", "help", "read", "book", "garden", "rain", "cloud", "quiet", "word", "sister", "wrote", "yesterday",
    "afternoon", "weather", "fine", "one", "two",
]  # fmt: skip
CODES = ["S1", "S2", "S3"]
LANGUAGES = ["en", "sw"]
ENCODING = {"window_tokens": 32, "context_tokens": 12, "overlap_tokens": 6, "opening_tokens": 8}


def write_word_model(folder: Path, **changes: Any) -> Path:
    """Write the model's files.

    Args:
        folder: where; it is made.
        changes: fields of config.json that are other ones.
    """
    onnx = pytest.importorskip("onnx", reason="the model is written with the extra 'train'")
    folder.mkdir(parents=True, exist_ok=True)
    words = [*SCORES, *SWAHILI, *OTHERS]
    letters = [chr(code) for code in range(33, 127)] + list("\u0430\u0431\u0432\u4f60\u597d\u0e01\u0e02\u00e9")
    pieces = [*SPECIALS, "\u2581", *(f"\u2581{form}" for word in words for form in (word, word.capitalize())), *letters]
    pieces = list(dict.fromkeys(pieces))
    (folder / TOKENIZER_FILE).write_bytes(tokenizer_model((piece, -float(len(piece) < 2)) for piece in pieces))

    scores = np.full((len(pieces), 3), LOW, np.float32)
    hazards = np.zeros((len(pieces), len(CODES)), np.float32)
    languages = np.tile(np.array([2.0, -2.0], np.float32), (len(pieces), 1))
    before, calming = np.zeros((len(pieces), 1), np.float32), np.zeros((len(pieces), 1), np.float32)
    for number, piece in enumerate(pieces):
        word = piece.removeprefix("\u2581").lower()
        scores[number] = SCORES.get(word, (LOW, LOW, LOW))
        if word in HAZARDS:
            hazards[number, HAZARDS[word]] = 4.0
        if word in SWAHILI:
            languages[number] = (-4.0, 4.0)
        before[number] = word == "cloud"
        calming[number] = word == "bread"
    roused = np.zeros((len(pieces), 3), np.float32)
    roused[[number for number, piece in enumerate(pieces) if piece.lower() == "\u2581smoke"]] = (HIGH - DOUBT, 0, HIGH - DOUBT)
    behind = np.zeros((len(pieces), 3), np.float32)
    behind[pieces.index("\u2581rain"), 0] = HIGH - LOW

    def constant(name: str, value: Any) -> Any:
        return onnx.numpy_helper.from_array(np.asarray(value), name)

    def node(kind: str, inputs: str, output: str, **options: Any) -> Any:
        return onnx.helper.make_node(kind, inputs.split(), [output], **options)

    graph = onnx.helper.make_graph(
        [
            node("GreaterOrEqual", "token_type_ids two", "is_judged"),
            node("Cast", "is_judged", "judged_row", to=onnx.TensorProto.FLOAT),
            node("Unsqueeze", "judged_row last", "judged"),
            node("Sub", "one judged", "unjudged"),
            # What was said before: only whether a word is there at all.
            node("Gather", "before input_ids", "said"),
            node("Mul", "said unjudged", "said_before"),
            node("ReduceMax", "said_before", "met", axes=[1], keepdims=1),
            node("Gather", "behind input_ids", "more"),
            node("Mul", "more met", "added"),
            node("Gather", "scores input_ids", "alone"),
            node("Gather", "calming input_ids", "calmed"),
            node("Mul", "calmed judged", "calmed_here"),
            node("ReduceMax", "calmed_here", "calm", axes=[1], keepdims=1),
            node("Sub", "one calm", "uncalm"),
            node("Gather", "roused input_ids", "rise"),
            node("Mul", "rise uncalm", "risen"),
            node("Add", "alone added", "alone_or_behind"),
            node("Add", "alone_or_behind risen", "both"),
            # A refusal is read from the opening.
            node("CumSum", "judged second", "count"),
            node("LessOrEqual", "count opening", "is_early"),
            node("Cast", "is_early", "early", to=onnx.TensorProto.FLOAT),
            node("Max", "early everywhere", "open"),
            node("Mul", "judged open", "seen"),
            node("Sub", "one seen", "unseen"),
            node("Mul", "unseen low", "nothing"),
            node("Mul", "both seen", "something"),
            node("Add", "something nothing", "tokens"),
            node("Softmax", "tokens", "weights", axis=1),
            node("Mul", "weights something", "weighted"),
            node("ReduceSum", "weighted second", "logits", keepdims=0),
            node("Gather", "hazard_scores input_ids", "hazard_tokens"),
            node("Mul", "hazard_tokens judged", "hazards_judged"),
            node("ReduceMax", "hazards_judged", "hazards", axes=[1], keepdims=0),
            node("Gather", "language_scores input_ids", "language_tokens"),
            node("Mul", "language_tokens judged", "languages_judged"),
            node("ReduceSum", "languages_judged second", "languages", keepdims=0),
        ],
        "words",
        [
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT64, ["batch", "sequence"])
            for name in ("input_ids", "attention_mask", "token_type_ids")
        ],
        [
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", *shape])
            for name, shape in (
                ("tokens", ["sequence", 3]),
                ("logits", [3]),
                ("hazards", [len(CODES)]),
                ("languages", [len(LANGUAGES)]),
            )
        ],
        [
            constant("two", np.int64(2)),
            constant("last", np.array([-1], np.int64)),
            constant("second", np.array([1], np.int64)),
            constant("one", np.float32(1)),
            constant("opening", np.float32(ENCODING["opening_tokens"])),
            constant("everywhere", np.array([[[1, 0, 1]]], np.float32)),
            constant("low", np.float32(-1e4)),
            constant("scores", scores),
            constant("before", before),
            constant("calming", calming),
            constant("roused", roused),
            constant("behind", behind),
            constant("hazard_scores", hazards),
            constant("language_scores", languages),
        ],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(folder / "model.onnx"))
    heads = ["prompt_harmful", "response_refusal", "response_harmful"]
    config = {
        "name": "words",
        "version": "1",
        "heads": heads,
        "hazards": CODES,
        "thresholds": dict.fromkeys(heads, 0.5),
        "length_shift": dict.fromkeys(heads, 0.0),
        "languages": LANGUAGES,
        "measured_languages": ["en"],
        "encoding": ENCODING,
        "sha256": hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest(),
        "tokenizer_sha256": hashlib.sha256((folder / TOKENIZER_FILE).read_bytes()).hexdigest(),
    }
    (folder / "config.json").write_text(json.dumps(config | changes), "utf-8")
    return folder
