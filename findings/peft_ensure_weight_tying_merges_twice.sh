#!/usr/bin/env bash
# Expected: an adapter that was trained with ensure_weight_tying=True, peft's own answer to bases whose embeddings and head are one
#   tensor, can be merged: merge_and_unload() gives a model with the logits of base and adapter.
# Happens: embeddings and head each hold the (tied) adapter, each adds its product to the one tensor, and so the update counts twice.
#   safe_merge=True looks for NaN only and says nothing. Without the option, an adapter on the embeddings alone moves the head too
#   (peft warns of that at least). Giving the head a tensor of its own just before the merge makes both right.
# Versions: peft 0.21.2, transformers 5.19.0, torch 2.13.0, Python 3.11. Exits 1 if that changes.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'torch==2.13.0' >&2
"$folder/venv/bin/pip" install --quiet 'peft==0.21.2' 'transformers==5.19.0' >&2
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import copy

import torch
import transformers
from peft import LoraConfig, get_peft_model

torch.manual_seed(0)
base = transformers.LlamaForCausalLM(
    transformers.LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        tie_word_embeddings=True,
        initializer_range=0.1,
    )
).eval()
ids = torch.arange(3, 40)[None]


def logits(model):
    with torch.inference_mode():
        return model(ids).logits


def trained(**settings):
    config = LoraConfig(r=4, target_modules=["embed_tokens"], task_type="CAUSAL_LM", **settings)
    model = get_peft_model(copy.deepcopy(base), config).eval()
    for name, weights in model.named_parameters():
        if "lora_" in name:
            weights.data += 0.1 * torch.randn(weights.shape, generator=torch.Generator().manual_seed(1))
    return model


def merge(model, *, apart=False):
    """The model merged, and by how much the largest logit is off."""
    wanted = logits(model)
    if apart:
        head = model.base_model.model.get_output_embeddings()
        head = getattr(head, "base_layer", head)
        head.weight = torch.nn.Parameter(head.weight.detach().clone())
    merged = model.merge_and_unload(safe_merge=True)
    return merged, ((logits(merged) - wanted).abs().max() / wanted.abs().max()).item()


model = trained(ensure_weight_tying=True)
update = model.base_model.model.get_input_embeddings().get_delta_weight("default").detach().clone()
merged, tied = merge(model)
arrived = (merged.get_input_embeddings().weight - base.get_input_embeddings().weight).detach()
times = ((arrived * update).sum() / (update * update).sum()).item()
_, apart = merge(trained(ensure_weight_tying=True), apart=True)
_, alone = merge(trained())
_, alone_apart = merge(trained(), apart=True)

print("logits after the merge, off by a share of the largest before it:")
print(f"ensure_weight_tying=True: {tied:.3f}; the update is in the common tensor {times:.3f} times")
print(f"the same, with a head of its own: {apart:.7f}")
print(f"without the option: {alone:.3f}; with a head of its own: {alone_apart:.7f}")
assert abs(times - 2) < 1e-3 and tied > 0.01
assert apart < 1e-5
assert alone > 0.01 and alone_apart < 1e-5
PYTHON
