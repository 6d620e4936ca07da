"""From the trained network to the files of the wheel: ONNX, int8, tokenizer, configuration."""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import onnx
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from tokenizers import Tokenizer
from torch import Tensor, nn

from guardreasoner_sdk.judges.encoding import EncodingConfig
from guardreasoner_training.embedded.data import HEADS
from guardreasoner_training.embedded.examples import HAZARD_CODES
from guardreasoner_training.embedded.model import INPUTS, GuardNet

NAME: Final = "guardreasoner-embedded"
VERSION: Final = "0.3.0"

# Has LayerNormalization in one piece, and every onnxruntime since 1.14 reads it.
_OPSET: Final = 17
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
    """Write the network as ONNX, with batch and sequence left open.

    Args:
        net: the network, trained.
        path: the file.
    """
    net.eval()
    example = torch.ones(2, 8, dtype=torch.int64)
    axes = {name: {0: "batch", 1: "sequence"} for name in INPUTS}
    with warnings.catch_warnings():
        # Tracing warns of shapes that become constants; the test against torch at other shapes is the real check.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net,
            (example, example, torch.zeros_like(example)),
            path,
            input_names=list(INPUTS),
            output_names=["logits", "hazards"],
            dynamic_axes={**axes, "logits": {0: "batch"}, "hazards": {0: "batch"}},
            opset_version=_OPSET,
            dynamo=False,
        )


def export_int8(net: GuardNet, path: Path, *, keep_float: Sequence[str] = ()) -> None:
    """Write the network with its matrices and word embeddings in 8 bits.

    Weights take 7 of their 8 bits: on processors without VNNI the sum of two 8-bit products can overflow. The heads
    stay in floating point: they are small, and all of the answer goes through them.

    Args:
        net: the network; unchanged on return.
        path: the file.
        keep_float: parts of node names whose matrices stay in floating point.
    """
    table = net.encoder.embeddings.word_embeddings
    whole = path.with_suffix(".float.onnx")
    try:
        setattr(net.encoder.embeddings, _TABLE, QuantisedEmbedding(table.weight.detach()))
        export_onnx(net, whole)
    finally:
        setattr(net.encoder.embeddings, _TABLE, table)
    nodes = [node.name for node in onnx.load(whole).graph.node if any(part in node.name for part in keep_float)]
    logging.getLogger("root").setLevel(logging.ERROR)  # It advises a step that does nothing for this graph.
    quantize_dynamic(
        whole,
        path,
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        reduce_range=True,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=nodes,
        extra_options={"MatMulConstBOnly": True},
    )
    whole.unlink()


def write_tokenizer(base: Path, path: Path) -> None:
    """Copy the base model's tokenizer without truncation and padding: windows are cut by `encoding.Encoder`."""
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.save(str(path), pretty=False)


def write_config(path: Path, *, model: Path, thresholds: Sequence[float], encoding: EncodingConfig) -> str:
    """Write the configuration that the runtime reads.

    Args:
        path: the file.
        model: the model file it describes.
        thresholds: one per head.
        encoding: how texts are cut.

    Returns:
        SHA-256 of the model file.
    """
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    value = {
        "name": NAME,
        "version": VERSION,
        "heads": list(HEADS),
        "hazards": list(HAZARD_CODES),
        "thresholds": dict(zip(HEADS, thresholds, strict=True)),
        "encoding": encoding.to_json(),
        "sha256": digest,
    }
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    return digest
