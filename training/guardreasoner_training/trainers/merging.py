"""Adapters into their base: merged, and looked at whether the whole still answers as the two did."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from guardreasoner_sdk.errors import ConfigurationError

__all__ = ["merge_adapter"]

_TOLERANCE: Final = {"float32": 1e-3}
_HALF_TOLERANCE: Final = 0.05
"""How far a logit may move, as a share of the largest: merged weights are rounded to 8 or 11 bits where they are kept in 16."""
_SAMPLE: Final = 64


def merge_adapter(model: Any, adapter: Path) -> Any:
    """Merge an adapter of peft's into its base.

    Many models keep one tensor for the embeddings of the words and for the head that writes them. An adapter on one of the two
    changes that one alone while it is trained, and would change both if it were merged into the common tensor. Such a base is
    untied first: the merged model has a head of its own.

    Returns:
        the model with the adapter in its weights.

    Raises:
        ConfigurationError: merged, it gives other logits than the base and the adapter do.
    """
    from peft import PeftModel

    adapted: Any = PeftModel.from_pretrained(model, str(adapter)).eval()
    before = _logits(adapted)
    _untie(model)
    merged = adapted.merge_and_unload(safe_merge=True).eval()
    off, largest = float((_logits(merged) - before).abs().max()), float(before.abs().max())
    kind = str(merged.dtype).removeprefix("torch.")
    if not off <= _TOLERANCE.get(kind, _HALF_TOLERANCE) * max(1.0, largest):
        raise ConfigurationError(
            f"adapter: merged into its base, {adapter} gives other logits than before (off by {off:.3g}, the largest is "
            f"{largest:.3g}), so that the guard would answer otherwise than it was trained to; use the adapter beside its base"
        )
    return merged


def _untie(model: Any) -> None:
    """Give a model with tied embeddings a head of its own where there is an adapter on the embeddings or on the head."""
    import torch
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import ModulesToSaveWrapper

    words, head = model.get_input_embeddings(), model.get_output_embeddings()
    if not any(isinstance(layer, BaseTunerLayer | ModulesToSaveWrapper) for layer in (words, head)):
        return
    words, head = (_own(layer) for layer in (words, head))
    if words.weight is head.weight:
        head.weight = torch.nn.Parameter(words.weight.detach().clone(), requires_grad=False)
    model.config.tie_word_embeddings = False


def _own(layer: Any) -> Any:
    """The model's own layer below an adapter."""
    below = getattr(layer, "get_base_layer", None)
    return getattr(layer, "original_module", layer) if below is None else below()


def _logits(model: Any) -> Any:
    """The logits of a sample of the vocabulary, as one text; the largest differences show on any."""
    import torch

    size = model.get_input_embeddings().weight.shape[0]
    ids = torch.arange(0, size, max(1, size // _SAMPLE), device=model.device)[:_SAMPLE]
    with torch.inference_mode():
        return model(ids[None]).logits.float()
