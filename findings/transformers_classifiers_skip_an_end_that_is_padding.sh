#!/usr/bin/env bash
# Expected: a language model with a classification head (Qwen2, Llama and others) that is given one text, without any padding and with
#   an attention mask of ones, classifies it by its last token.
# Happens: it takes the last token that is not pad_token_id, whatever the mask says. Where padding and the end of text are one token, as
#   in Qwen2.5 and wherever pad_token = eos_token was set, a text that was given its end on purpose is classified as if it had none,
#   without a warning; a text that can write that token would choose where the model looks. With pad_token_id = -1, which no token is,
#   the last token counts; the texts of a batch then have to be of one length.
# Versions: transformers 5.19.0, torch 2.13.0, Python 3.11. Exits 1 if that changes.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'torch==2.13.0' >&2
"$folder/venv/bin/pip" install --quiet 'transformers==5.19.0' >&2
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import torch
import transformers

torch.manual_seed(0)
END = 7
model = transformers.Qwen2ForSequenceClassification(
    transformers.Qwen2Config(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.3,
        num_labels=2,
        eos_token_id=END,
        pad_token_id=END,
    )
).eval()


def logits(ids):
    with torch.inference_mode():
        return model(torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long)).logits


text = [20, 21, 22]
skipped = torch.allclose(logits([*text, END]), logits(text), atol=1e-5)
model.config.pad_token_id = -1
read = not torch.allclose(logits([*text, END]), logits(text), atol=1e-3)
print(f"with pad_token_id = eos_token_id the end is skipped: {skipped}; with pad_token_id = -1 it is read: {read}")
raise SystemExit(not (skipped and read))
PYTHON
