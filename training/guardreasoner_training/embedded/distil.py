"""A student of half the layers, which learns from its teacher what each token says, beside the labels.

Layers taken out of a trained model do badly by themselves (a base model's even more so); led by the whole one they come near
it, at half the time a text (Sanh et al. 2019, arXiv:1910.01108).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

from guardreasoner_training.embedded.model import UNJUDGED, GuardNet

__all__ = ["choose_layers", "distil_loss", "student_of"]

# A logit beyond it says no more than that one is sure.
_SURE: Final = 8.0


def student_of(teacher: GuardNet, layers: Sequence[int]) -> GuardNet:
    """Make a network of some of a trained one's layers; everything else is copied.

    Args:
        teacher: the trained network, which stays as it is.
        layers: numbers of the layers to keep, counted from 0.
    """
    encoder = teacher.encoder.encoder
    kept: list[Any] = [copy.deepcopy(encoder.layer[number]) for number in layers]
    whole, encoder.layer = encoder.layer, nn.ModuleList()
    try:
        student = copy.deepcopy(teacher)
    finally:
        encoder.layer = whole
    student.encoder.encoder.layer = nn.ModuleList(kept)
    student.encoder.config.num_hidden_layers = len(kept)
    for number, layer in enumerate(kept):
        layer.attention.self.layer_idx = number
    return student


def choose_layers(layers: int, whole: int) -> list[int]:
    """Which layers of a network to keep, as far apart as can be, the last one among them.

    Args:
        layers: how many to keep, 1 or more.
    """
    return [(number + 1) * whole // layers - 1 for number in range(layers)]


def distil_loss(of: Sequence[Tensor], taught: Sequence[Tensor]) -> Tensor:
    """Return how far a student is from its teacher: on the logits of tokens and of windows, and on the hazards.

    Args:
        of: what `GuardNet.forward` gives for the student.
    """
    tokens, logits, hazards = (value.float() for value in of[:3])
    wanted, joined, named = (value.float() for value in taught[:3])
    judged = wanted > UNJUDGED / 2
    near = nn.functional.smooth_l1_loss(tokens.clamp(-_SURE, _SURE), wanted.clamp(-_SURE, _SURE), reduction="none")
    each = (near * judged).sum() / judged.sum().clamp(min=1)
    # Windows without a judged token of a head have no say.
    asked = joined > UNJUDGED / 2
    whole = nn.functional.binary_cross_entropy_with_logits(logits, torch.sigmoid(joined), reduction="none")
    kinds = nn.functional.kl_div(hazards.log_softmax(dim=-1), named.log_softmax(dim=-1), reduction="batchmean", log_target=True)
    return each + (whole * asked).sum() / asked.sum().clamp(min=1) + 0.2 * kinds
