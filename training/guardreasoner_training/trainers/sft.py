"""TRL's SFT trainer, with checkpoints that are known to be complete."""

from __future__ import annotations

from typing import Any

import torch
from trl.trainer.sft_trainer import SFTTrainer

from guardreasoner_training.trainers.head import answer_log_probs
from guardreasoner_training.trainers.trainer import Resumable

__all__ = ["RSFTTrainer"]


class RSFTTrainer(Resumable, SFTTrainer):
    """Supervised training on rows that come as tokens with labels."""

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The mean negative log-likelihood of a step's answer tokens; of a part of a step its share of it.

        Args:
            num_items_in_batch: answer tokens of the whole step on all devices; None: those here.
        """
        labels = inputs["labels"]
        padded = not return_outputs and "attention_mask" in inputs
        if not (padded and self.scores_whole(labels)):
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        log_probs = answer_log_probs(model, inputs["input_ids"], inputs["attention_mask"], labels)
        if num_items_in_batch is None:
            return -log_probs.sum() / (labels[:, 1:] != -100).sum().clamp(min=1)
        return -log_probs.sum() / torch.as_tensor(num_items_in_batch).clamp(min=1)
