"""Adapters merged into their base: the whole gives the logits of the two, whatever the adapter is on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs guardreasoner-sdk[train]")
transformers = pytest.importorskip("transformers", reason="needs guardreasoner-sdk[train]")
peft = pytest.importorskip("peft", reason="needs guardreasoner-sdk[train]")

from guardreasoner_sdk.errors import ConfigurationError  # noqa: E402
from guardreasoner_training.trainers.merging import merge_adapter  # noqa: E402

# peft's advice to untie, which is what is tested here.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{start}") for start in ("Model ", "Setting `save_emb", "You have requested `ensure")
]

IDS = torch.arange(3, 40)[None]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Loads a small model whose embeddings and head are one tensor."""
    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        tie_word_embeddings=True,
        initializer_range=0.1,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return lambda: transformers.AutoModelForCausalLM.from_pretrained(folder).eval()


def logits(model: Any) -> Any:
    with torch.inference_mode():
        return model(IDS).logits


def adapter(base: Any, folder: Path, **settings: Any) -> Any:
    """An adapter with weights that say something; returns the logits of base and adapter."""
    model = peft.get_peft_model(base(), peft.LoraConfig(r=4, task_type="CAUSAL_LM", **settings)).eval()
    generator = torch.Generator().manual_seed(1)
    for name, weights in model.named_parameters():
        if "lora_" in name or "modules_to_save" in name:
            weights.data += 0.1 * torch.randn(weights.shape, generator=generator)
    model.save_pretrained(folder)
    return logits(model)


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": ["q_proj", "down_proj"]},
        {"target_modules": ["embed_tokens"]},
        {"target_modules": ["lm_head"]},
        {"target_modules": ["embed_tokens", "lm_head", "v_proj"]},
        {"target_modules": ["embed_tokens"], "ensure_weight_tying": True},
        {"target_modules": ["lm_head"], "ensure_weight_tying": True},
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
        {"target_modules": "all-linear"},
    ],
    ids=str,
)
def test_a_base_with_tied_embeddings_answers_merged_as_it_was_trained(
    base: Any, tmp_path: Path, settings: dict[str, Any]
) -> None:
    trained = adapter(base, tmp_path / "adapter", **settings)
    assert (logits(base()) - trained).abs().max() > 0.1
    merged = merge_adapter(base(), tmp_path / "adapter")
    torch.testing.assert_close(logits(merged), trained, atol=1e-4, rtol=1e-4)
    merged.save_pretrained(tmp_path / "merged")
    saved = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    torch.testing.assert_close(logits(saved), trained, atol=1e-4, rtol=1e-4)


def test_a_base_that_needs_no_head_of_its_own_stays_tied(base: Any, tmp_path: Path) -> None:
    adapter(base, tmp_path / "adapter", target_modules=["q_proj"])
    assert merge_adapter(base(), tmp_path / "adapter").config.tie_word_embeddings


def test_a_merge_that_moves_the_logits_is_refused(base: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter(base, tmp_path / "adapter", target_modules=["q_proj"])
    layer = peft.tuners.lora.layer.Linear
    right = layer.get_delta_weight
    monkeypatch.setattr(layer, "get_delta_weight", lambda self, name: 2 * right(self, name))
    with pytest.raises(ConfigurationError, match=r"gives other logits than before \(off by .*use the adapter beside its base"):
        merge_adapter(base(), tmp_path / "adapter")
