"""The network: a small BERT with a score for each token and question, pooled by the strongest.

One score for a whole window drowns a harmful line among harmless ones, however it is trained; a score for each token finds it,
says where it stands, and lets text be read for context that is not judged.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from guardreasoner_sdk.judges.encoding import PROMPT, RESPONSE
from guardreasoner_sdk.judges.pieces import SentencePieces
from guardreasoner_training.embedded.data import HEADS, DataError
from guardreasoner_training.embedded.examples import HAZARD_CODES
from guardreasoner_training.embedded.pieces import TOKENIZER_FILE

INPUTS: Final = ("input_ids", "attention_mask", "token_type_ids")
"""Names of the exported inputs, in the order of `forward`."""

OUTPUTS: Final = ("tokens", "logits", "hazards", "languages")
"""Names of the exported outputs, in the order of `forward`."""

UNJUDGED: Final = -1e4
"""The logit of a token that is not judged: large enough to lose against any other, small enough for 16-bit floats."""

_NEIGHBOURS: Final = 2  # On either side: a score is the mean over five tokens, a word or two.
_KINDS: Final = RESPONSE + 1


class GuardNet(nn.Module):
    """Three yes-or-no questions on each token; of the judged text, which hazard it is and which language.

    Args:
        encoder: the base model, without its pooler.
        head_width: hidden units of each head.
        dropout: share of a token's features dropped in training.
        opening_tokens: of a response, how many tokens are read for a refusal.
        languages: how many languages there are to tell apart.
    """

    def __init__(self, encoder: BertModel, *, head_width: int, dropout: float, opening_tokens: int, languages: int) -> None:
        super().__init__()
        features = encoder.config.hidden_size
        self.encoder = encoder
        self.opening_tokens = opening_tokens
        self.dropout = nn.Dropout(dropout)
        # All heads' hidden layers in one product; each head reads only its own part.
        self.hidden = nn.Linear(features, len(HEADS) * head_width)
        self.readout = nn.Parameter(torch.empty(len(HEADS), head_width))
        self.bias = nn.Parameter(torch.full((len(HEADS),), -2.0))
        nn.init.normal_(self.readout, std=head_width**-0.5)
        self.hazards = nn.Linear(features, len(HAZARD_CODES))
        self.languages = nn.Linear(features, languages)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> tuple[Tensor, ...]:
        """Return what the network makes of windows.

        Returns:
            The logits of each token, of shape (batch, sequence, 3), in the order of `HEADS`; those of the window (batch, 3);
            of its hazards (batch, 14); and of its language (batch, languages).
        """
        states: Tensor = self.encoder(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        ).last_hidden_state.float()
        judged = ((token_type_ids >= PROMPT) & (attention_mask > 0)).to(states.dtype).unsqueeze(-1)
        features = self.dropout(states)
        hidden = nn.functional.gelu(self.hidden(features)).reshape(*features.shape[:-1], *self.readout.shape)
        alone = ((hidden * self.readout).sum(dim=-1) + self.bias) * judged
        tokens = _smoothed(alone) / _smoothed(judged).clamp(min=1 / (2 * _NEIGHBOURS + 1))
        early = (judged.cumsum(dim=1) <= self.opening_tokens).to(states.dtype)
        seen = judged * torch.cat((torch.ones_like(early), early, torch.ones_like(early)), dim=-1)
        tokens = tokens * seen + UNJUDGED * (1 - seen)
        weights = torch.softmax(tokens, dim=1)
        logits = (weights * tokens * seen).sum(dim=1)
        # The hazard is that of the passage which counts: of a prompt by its own head, of a response by that of harm in it.
        response = (token_type_ids == RESPONSE).to(states.dtype).unsqueeze(-1)
        carrying = (weights[..., :1] * (1 - response) + weights[..., 2:] * response).detach() * judged
        hazards = self.hazards((carrying * features).sum(dim=1))
        # Read off only: to tell languages apart must not move what the other heads see.
        languages = self.languages((states.detach() * judged).sum(dim=1) / judged.sum(dim=1).clamp(min=1.0))
        return tokens, logits, hazards, languages


def _smoothed(values: Tensor) -> Tensor:
    """The mean of each token and its neighbours, for values of shape (batch, sequence, channels)."""
    return nn.functional.avg_pool1d(values.transpose(1, 2), 2 * _NEIGHBOURS + 1, stride=1, padding=_NEIGHBOURS).transpose(1, 2)


def base_folder(base: Path) -> str:
    """Check that a folder holds a base model.

    Args:
        base: a folder with config.json, model.safetensors and tokenizer.model.

    Returns:
        The SHA-256 of its weights.

    Raises:
        DataError: if a file is missing, or the vocabulary is not one that the guard reads.
    """
    for name in ("config.json", "model.safetensors", TOKENIZER_FILE):
        if not (base / name).is_file():
            raise DataError(f"{base}: no {name}; a base model is a folder of config, safetensors and the vocabulary")
    try:
        SentencePieces.from_file(base / TOKENIZER_FILE)
    except (OSError, ValueError) as error:
        raise DataError(f"{base / TOKENIZER_FILE}: cannot be loaded ({error}); write it with tokenizer_model") from error
    return hashlib.sha256((base / "model.safetensors").read_bytes()).hexdigest()


def load_encoder(folder: Path) -> BertModel:
    """Load a BERT from a folder, without dropout, and freeze its embeddings but those of the kinds of text.

    One pass over the data does not overfit, and dropout costs a quarter of the time on a CPU. Frozen embeddings keep
    what the base model knows of rare words that the training data never shows, and save time as well.

    Returns:
        The encoder, with a type embedding for each kind of token, all of them the base's first one.
    """
    config = BertConfig.from_pretrained(folder, attention_probs_dropout_prob=0.0, hidden_dropout_prob=0.0)
    encoder: BertModel = BertModel.from_pretrained(folder, config=config, add_pooling_layer=False)
    for parameter in encoder.embeddings.parameters():
        parameter.requires_grad_(False)
    kinds = nn.Embedding(_KINDS, config.hidden_size)
    with torch.no_grad():
        kinds.weight.copy_(encoder.embeddings.token_type_embeddings.weight[:1].expand(_KINDS, -1))
    encoder.embeddings.token_type_embeddings = kinds
    encoder.config.type_vocab_size = _KINDS
    return encoder
