"""Log-probabilities of answers on processors, where TRL's tiles would score the prompts as well."""

from __future__ import annotations

from typing import Any, Final

import torch

__all__ = ["MOST", "answer_log_probs", "scored_whole"]

MOST: Final = 2**26
"""Logits held at a time: 256 MiB in 32 bits. Beyond it tiles are worth what they cost."""


def scored_whole(model: Any, labels: torch.Tensor, *, processes: int, most: int = MOST) -> bool:
    """Whether :func:`answer_log_probs` is the better way for a batch: on a processor, with a small vocabulary.

    On processors TRL's fused head projects every position on the vocabulary, and once more for the gradient. With a model of
    a few million parameters that is two thirds of the time of a step; on GPUs it scores the answers alone.

    Processes that train together never take it: each has a batch of its own, and where one took this way and another TRL's,
    whose head and figures talk to the other processes, they would wait for each other for ever.

    Args:
        labels: of the batch (rows, tokens), -100 where nothing is learnt.
    """
    if processes > 1 or labels.device.type != "cpu":
        return False
    return bool(_kept(labels) * len(labels) * model.config.vocab_size <= most)


def answer_log_probs(model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The log-probability of each token but the first, zero where its label is -100 (rows, tokens - 1).

    Only positions from the first answer of the batch on are projected on the vocabulary.

    Args:
        model: it is called as a whole, so that its wrappers see the call.
        input_ids: of the batch (rows, tokens), padded at the right.
    """
    kept = _kept(labels)
    logits = model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False, logits_to_keep=kept).logits
    wanted = labels[:, -kept:][:, 1:]
    found = -torch.nn.functional.cross_entropy(logits[:, :-1].float().transpose(1, 2), wanted, reduction="none")
    return torch.nn.functional.pad(found, (labels.shape[1] - kept, 0))


def _kept(labels: torch.Tensor) -> int:
    """How many positions at the end hold all answers of a batch, and the position before the first of them."""
    some = (labels != -100).any(dim=0).nonzero()
    first = int(some[0]) if len(some) else labels.shape[1] - 1
    return min(labels.shape[1], labels.shape[1] - first + 1)
