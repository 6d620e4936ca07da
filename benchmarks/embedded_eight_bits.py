"""What 8 bits lose of the embedded guard's network, by the ways to get there, and what each costs in time.

    python benchmarks/embedded_eight_bits.py --weights checkpoint.pt --base base/ --rows held/dev.jsonl

``--weights`` and ``--base`` are what ``python -m guardreasoner_training.embedded`` leaves in its work folder, ``--rows`` what
``python -m guardreasoner_training.embedded.held_out`` writes. Windows of the rows, at even distances, are run in 32 bits and in
each of the ways: the root mean square and the largest difference of their logits, the largest and the mean difference of a
score, and milliseconds for a window of 32 and of 128 tokens on one thread, the ways taking turns. Other windows of the same
rows show which channels are loud.

- ``plain``: onnxruntime's dynamic quantisation, one scale for each input.
- ``without outliers``: what is shipped; the loudest channels are divided, the loudest units computed apart.
- ``blocks of 64``: onnxruntime's ``MatMulNBits`` with 8 bits, a scale for every 64 weights.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx
import torch

from guardreasoner_sdk.evaluation.benchmarks import read_file
from guardreasoner_sdk.judges.encoding import PROMPT, Encoder, TokenWindow, collate
from guardreasoner_training.embedded import export, pipeline, scoring
from guardreasoner_training.embedded.config import TrainConfig
from guardreasoner_training.embedded.model import GuardNet
from guardreasoner_training.embedded.progress import read_weights

_TOKENS = (32, 128)
_BLOCK = 64
_HEADS = ("/hidden/", "/hazards/", "/languages/")


def some_windows(path: Path, encoder: Encoder, count: int, offset: float) -> list[TokenWindow]:
    """The first windows of so many rows at even distances, beginning at a share of the distance."""
    rows = list(read_file(path))
    chosen = [rows[int((number + offset) * len(rows) / count)].exchange for number in range(count)]
    return [
        (encoder.prompt(one.prompt) if one.response is None else encoder.pair(one.prompt, one.response))[0] for one in chosen
    ]


def plain(net: GuardNet, path: Path, _: Sequence[TokenWindow]) -> None:
    """As the shipped one, with its outliers."""
    with patch.object(export, "without_outliers", lambda net, windows: copy.deepcopy(net)):
        export.export_int8(net, path, [])


def blocks(net: GuardNet, path: Path, _: Sequence[TokenWindow]) -> None:
    """A scale for each block of 64 weights; the input is cut into the same blocks."""
    small = copy.deepcopy(net)
    embeddings = small.encoder.embeddings
    setattr(embeddings, "word_embeddings", export.QuantisedEmbedding(embeddings.word_embeddings.weight.detach()))  # noqa: B010
    export.export_onnx(small, path)
    model = onnx.load(path)
    weights = {one.name: one for one in model.graph.initializer}
    for node in model.graph.node:
        if (
            node.op_type != "MatMul"
            or node.input[1] not in weights
            or node.name.startswith(("/hidden/", "/hazards/", "/languages/"))
        ):
            continue
        name = node.input[1]
        matrix = onnx.numpy_helper.to_array(weights.pop(name)).T
        parts = matrix.reshape(len(matrix), -1, _BLOCK)
        scales = np.abs(parts).max(axis=2) / 127
        whole = np.clip(np.round(parts / scales[..., None]), -127, 127) + 128
        stored = {f"{name}_whole": whole.astype(np.uint8), f"{name}_scales": scales.astype(np.float32).reshape(-1)}
        weights |= {key: onnx.numpy_helper.from_array(value, key) for key, value in stored.items()}
        node.op_type, node.domain = "MatMulNBits", "com.microsoft"
        del node.input[1:]
        node.input.extend(stored)
        sizes = {"K": matrix.shape[1], "N": matrix.shape[0], "bits": 8, "block_size": _BLOCK, "accuracy_level": 4}
        node.attribute.extend(onnx.helper.make_attribute(key, value) for key, value in sizes.items())
    del model.graph.initializer[:]
    model.graph.initializer.extend(weights.values())
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    onnx.save(model, path)


WAYS: dict[str, Callable[[GuardNet, Path, Sequence[TokenWindow]], None]] = {
    "plain": plain,
    "without outliers": export.export_int8,
    "blocks of 64": blocks,
}


def lost(exact: np.ndarray, found: np.ndarray, windows: Sequence[TokenWindow]) -> dict[str, float]:
    """How far the logits of a way are from those in 32 bits, of the questions that each window answers."""
    asked = [(0,) if window.type_ids[-1] == PROMPT else (1, 2) for window in windows]
    pairs = np.array([(exact[row, head], found[row, head]) for row, heads in enumerate(asked) for head in heads])
    scores = 1 / (1 + np.exp(-pairs))
    apart, off = np.abs(scores[:, 0] - scores[:, 1]), pairs[:, 1] - pairs[:, 0]
    return {
        "logit, root mean square": round(float(np.sqrt(np.mean(off**2))), 4),
        "logit, worst": round(float(np.abs(off).max()), 3),
        "score, worst": round(float(apart.max()), 4),
        "score, mean": round(float(apart.mean()), 5),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="checkpoint.pt of a training")
    parser.add_argument("--base", type=Path, required=True, help="the base model that it began with")
    parser.add_argument("--rows", type=Path, required=True, help="rows that 'guardreasoner evaluate' reads")
    parser.add_argument("--windows", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=20, help="how often each way is timed, in turn")
    parser.add_argument("--output", type=Path, help="a JSON file for the figures")
    given = parser.parse_args()
    torch.set_num_threads(1)
    config = TrainConfig()
    net = pipeline.network(given.base, config)
    read_weights(net, given.weights)
    net.eval()
    encoder = Encoder(pipeline.pieces_of(given.base), config.train_encodings[0])
    windows, shown = (some_windows(given.rows, encoder, given.windows, offset) for offset in (0.0, 0.5))
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole.onnx"
        export.export_onnx(net, whole)
        exact = scoring.logits(scoring.session(whole, threads=1), windows)
        sessions = {"32 bits": scoring.session(whole, threads=1)}
        for number, (name, write) in enumerate(WAYS.items()):
            path = Path(folder) / f"{number}.onnx"
            write(net, path, shown)
            sessions[name] = scoring.session(path, threads=1)
            figures[name] = {"bytes": path.stat().st_size, **lost(exact, scoring.logits(sessions[name], windows), windows)}
        figures = {"32 bits": {"bytes": whole.stat().st_size}} | figures
        for tokens in _TOKENS:
            inputs = collate([TokenWindow((windows[0].ids * tokens)[:tokens], (PROMPT,) * tokens)])
            times: dict[str, list[float]] = {name: [] for name in sessions}
            for _ in range(given.rounds):
                for name, session in sessions.items():
                    begun = time.process_time()
                    session.run(["logits"], inputs)
                    times[name].append(1000 * (time.process_time() - begun))
            for name, of in times.items():
                figures[name][f"ms, {tokens} tokens"] = round(statistics.median(of), 2)
    result = {"onnxruntime": version("onnxruntime"), "windows": len(windows), "ways": figures}
    print(json.dumps(result, indent=1))
    if given.output:
        given.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
