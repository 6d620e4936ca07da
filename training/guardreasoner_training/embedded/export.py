"""From the trained network to the files of the wheel: ONNX, int8, configuration."""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import onnx
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import Tensor, nn

from guardreasoner_sdk.judges.encoding import PROMPT, EncodingConfig, TokenWindow
from guardreasoner_training.embedded.data import HEADS
from guardreasoner_training.embedded.examples import HAZARD_CODES
from guardreasoner_training.embedded.languages import LANGUAGES
from guardreasoner_training.embedded.model import INPUTS, OUTPUTS, GuardNet
from guardreasoner_training.embedded.outliers import APART, without_outliers
from guardreasoner_training.embedded.pieces import TOKENIZER_FILE

NAME: Final = "guardreasoner-embedded"
VERSION: Final = "0.4.0"

# Has LayerNormalization in one piece, and every onnxruntime since 1.14 reads it.
_OPSET: Final = 17
# How the names of the heads' nodes begin.
_HEADS: Final = ("/hidden/", "/hazards/", "/languages/")
# Set by name: to the type checker the attribute is an Embedding, and its stand-in is none.
_TABLE: Final = "word_embeddings"


class QuantisedEmbedding(nn.Module):
    """An embedding kept as int8 rows, each with its own scale: a quarter of the size, and next to no loss.

    One scale for the whole table, as onnxruntime would use, lets the few largest rows coarsen all others.
    """

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        scale = table.abs().amax(dim=1, keepdim=True).clamp(min=1e-8) / 127
        self.register_buffer("scale", scale)
        self.register_buffer("rows", torch.round(table / scale).to(torch.int8))

    def forward(self, ids: Tensor) -> Tensor:
        """Return the embeddings of ids."""
        rows, scale = self.get_buffer("rows"), self.get_buffer("scale")
        return rows[ids].to(scale.dtype) * scale[ids]


def export_onnx(net: GuardNet, path: Path) -> None:
    """Write the network as ONNX, with batch and sequence left open."""
    net.eval()
    example = torch.ones(2, 8, dtype=torch.int64)
    axes = {name: {0: "batch", 1: "sequence"} for name in (*INPUTS, "tokens")}
    with warnings.catch_warnings():
        # Tracing warns of shapes that become constants; the test against torch at other shapes is the real check.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net,
            (example, example, torch.full_like(example, PROMPT)),
            path,
            input_names=list(INPUTS),
            output_names=list(OUTPUTS),
            dynamic_axes={**axes, **{name: {0: "batch"} for name in OUTPUTS if name not in axes}},
            opset_version=_OPSET,
            dynamo=False,
        )


def export_int8(net: GuardNet, path: Path, windows: Iterable[TokenWindow]) -> None:
    """Write the network with its matrices and word embeddings in 8 bits.

    Weights take 7 of their 8 bits: on processors without VNNI the sum of two 8-bit products can overflow. The heads
    stay in floating point: they are small, and all of the answer goes through them. So does what is too loud for 8 bits
    (`outliers`).

    Args:
        net: the network; unchanged on return.
        windows: text that shows what is loud: some hundreds of windows, of all kinds.
    """
    even = without_outliers(net, windows)
    setattr(even.encoder.embeddings, _TABLE, QuantisedEmbedding(even.encoder.embeddings.word_embeddings.weight.detach()))
    whole = path.with_suffix(".float.onnx")
    export_onnx(even, whole)
    names = [node.name for node in onnx.load(whole).graph.node]
    kept = [name for name in names if name.startswith(_HEADS) or f"/{APART}/" in name]
    # A Gemm is separated into a MatMul of this name and an Add, and only then asked whether it is left out.
    kept += [f"{name}_MatMul" for name in kept]
    logging.getLogger("root").setLevel(logging.ERROR)  # It advises a step that does nothing for this graph.
    quantize_dynamic(
        whole,
        path,
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        reduce_range=True,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=kept,
        extra_options={"MatMulConstBOnly": True},
    )
    whole.unlink()


def write_config(
    path: Path,
    *,
    model: Path,
    thresholds: Sequence[float],
    encoding: EncodingConfig,
    length_shift: Sequence[float],
    measured_languages: Sequence[str],
) -> str:
    """Write the configuration that the runtime reads.

    Args:
        path: the file; the vocabulary lies beside it.
        thresholds: one per head.
        length_shift: one per head: what a logit loses with each doubling of the number of windows.
        measured_languages: codes of those in which the model was measured.

    Returns:
        SHA-256 of the model file.
    """
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    value = {
        "name": NAME,
        "version": VERSION,
        "heads": list(HEADS),
        "hazards": list(HAZARD_CODES),
        "languages": list(LANGUAGES),
        "measured_languages": list(measured_languages),
        "thresholds": dict(zip(HEADS, thresholds, strict=True)),
        "length_shift": dict(zip(HEADS, length_shift, strict=True)),
        "encoding": encoding.to_json(),
        "sha256": digest,
        "tokenizer_sha256": hashlib.sha256((path.parent / TOKENIZER_FILE).read_bytes()).hexdigest(),
    }
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    return digest
