"""TRL's DPO trainer with a weight for each pair inside the loss."""

from __future__ import annotations

from typing import Any

import torch
from trl.trainer.dpo_trainer import DataCollatorForPreference, DPOTrainer

from guardreasoner_training.recipe import HSDPOSettings
from guardreasoner_training.trainers.head import answer_log_probs
from guardreasoner_training.trainers.loss import hs_dpo_loss
from guardreasoner_training.trainers.trainer import Resumable

__all__ = ["HSDPOTrainer", "WeightedCollator"]


class WeightedCollator(DataCollatorForPreference):
    """Batches of pairs with their weights."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """Pad some pairs to one batch.

        Args:
            examples: with ``prompt_ids``, ``chosen_ids``, ``rejected_ids`` and ``alpha``.
        """
        batch: dict[str, Any] = super().torch_call(examples)
        batch["alpha"] = torch.tensor([example["alpha"] for example in examples], dtype=torch.float32)
        return batch


class HSDPOTrainer(Resumable, DPOTrainer):
    """Hard-sample DPO. The pairs come as tokens; see :func:`guardreasoner_training.hsdpo.hsdpo`.

    Args:
        settings: beta, and the SFT term.
        keywords: as for TRL's trainer; the collator is a :class:`WeightedCollator`.
    """

    # The loss is divided by what the whole step holds, and not by the number of its parts.
    loss_is_scaled_for_ga = True

    def __init__(self, *, settings: HSDPOSettings, **keywords: Any) -> None:
        self._settings = settings
        self.keep_checkpoints = settings.keep_checkpoints
        super().__init__(**keywords)

    def compute_ref_log_probs(self, model: Any, inputs: dict[str, Any]) -> Any:
        """The reference's log-probabilities of a batch's answers: chosen, rejected.

        Args:
            model: the reference, or the policy whose adapters are switched off for it.
        """
        return super().compute_ref_log_probs(model, {name: value for name, value in inputs.items() if name != "alpha"})

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The HS-DPO loss of a part of a step.

        Args:
            num_items_in_batch: pairs, and tokens of chosen answers, of the whole step on all devices; None: those here.
        """
        completion = inputs["completion_mask"]
        mask = completion[:, 1:]
        labels = inputs["input_ids"].masked_fill(completion == 0, -100)
        tokens = {"input_ids": inputs["input_ids"], "attention_mask": inputs["attention_mask"], "labels": labels}
        if not return_outputs and self.scores_whole(labels):
            log_probs = answer_log_probs(model, **tokens)
        else:
            outputs = model(**tokens, use_cache=False, fused_lm_head=True)
            log_probs = outputs.log_probs
        if self.precompute_ref_logps:
            reference = inputs["ref_chosen_logps"], inputs["ref_rejected_logps"]
        else:
            reference = self.compute_ref_log_probs(model if self.ref_model is None else self.ref_model, inputs)
        step = self._count(inputs) if num_items_in_batch is None else num_items_in_batch
        found = hs_dpo_loss(
            log_probs,
            mask,
            reference,
            inputs["alpha"],
            beta=self._settings.beta,
            sft_weight=self._settings.sft_weight,
            sft_average=self._settings.sft_average,
            pairs=step[0],
            tokens=step[1],
        )
        self._note(
            {
                "preference": found.preference,
                "sft": found.sft,
                "rewards/chosen": self._settings.beta * found.chosen,
                "rewards/rejected": self._settings.beta * found.rejected,
                "rewards/margins": self._settings.beta * (found.chosen - found.rejected),
                "rewards/accuracies": (found.chosen > found.rejected).to(found.chosen.dtype),
            }
        )
        # The counts are those of all devices, and the gradients of the devices are averaged.
        loss = found.loss if num_items_in_batch is None else found.loss * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss

    def _count(self, inputs: dict[str, Any]) -> torch.Tensor:
        chosen = inputs["completion_mask"].chunk(2)[0][:, 1:]
        return torch.stack([torch.tensor(len(chosen), device=chosen.device), chosen.sum()])

    def _get_num_items_in_batch(self, batch_samples: list[dict[str, Any]], device: Any) -> torch.Tensor | None:
        if not batch_samples:
            return None
        counts = torch.stack([self._count(batch) for batch in batch_samples]).sum(dim=0).to(device)
        gathered: torch.Tensor = self.accelerator.gather(counts[None]).sum(dim=0)
        return gathered

    def _note(self, values: dict[str, torch.Tensor]) -> None:
        """Keep for the log of the step: the mean over the devices' pairs."""
        gathered = self.accelerator.gather(torch.stack(list(values.values()), dim=1)).mean(dim=0)
        for name, value in zip(values, gathered.tolist(), strict=True):
            self._metrics["train" if self.model.training else "eval"][name].append(value)

    def _prepare_dataset(self, dataset: Any, *args: Any) -> Any:
        return dataset  # it comes as tokens, which no text of a row can turn into special ones

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        if "alpha" not in self._signature_columns:
            self._signature_columns.append("alpha")
