"""Models that say one thing: real weights, made in a moment, so that a family can be asked and read on a real engine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from guardreasoner_training.gguf import LLAMA3_SPLIT

BOS, END, TURN = "<|begin_of_text|>", "<|eot_id|>", "<|turn|>"
SPECIAL = (BOS, END, TURN, "<|channel|>", "<|message|>", "<|end|>", "<SAFE>", "<UNSAFE-S4>")
ADDED = ("<think>", "</think>", "<answer>", "<score>", "[INST]")
VARIABLES = ("guideline", "guardian_config", "think", "enable_thinking", "request_categories", "reasoning_effort", "policy")

# As templates of guards do, it writes the conversation and shows the variables that it was given.
TEMPLATE = (
    "{{ bos_token }}"
    + "".join(f"{{% if {name} is defined %}}({name}: {{{{ {name} }}}}){{% endif %}}" for name in VARIABLES)
    + "{% for message in messages %}{{ '<|turn|>' + message['role'] + '\n' + message['content'] + '<|eot_id|>' }}{% endfor %}"
    + "{% if add_generation_prompt %}{{ '<|turn|>assistant\n' }}{% endif %}"
)


def speaking(folder: Path, said: Sequence[str], rival: str) -> Path:
    """Write a Llama that answers whatever it is asked with the same tokens, and then ends.

    Its layer adds nothing, so that what it computes is the embedding of the last token alone: a one among zeros, to whose
    successor the output gives a weight. In the label's place another word has a smaller one.

    Args:
        folder: where the checkpoint goes.
        said: the tokens of the answer, all different; the one that has a rival is the label.
        rival: ``label|other``: the label, and the word that loses to it with P = 0.119.
    """
    import torch
    from safetensors.torch import save_file
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    label, other = rival.split("|")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    spell = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    words = [one for one in (*said, other) if one not in (*SPECIAL, *ADDED)]
    # A merge that no text here has: llama.cpp reads no vocabulary without one.
    vocabulary = dict.fromkeys(
        [*alphabet, "~^", *("".join(part for part, _ in spell.pre_tokenize_str(word)) for word in words)]
    )
    tokenizer = Tokenizer(
        models.BPE({token: number for number, token in enumerate(vocabulary)}, [("~", "^")], ignore_merges=True)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA3_SPLIT), behavior="isolated"), spell])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in ADDED])
    bos = tokenizer.token_to_id(BOS)
    tokenizer.post_processor = processors.TemplateProcessing(f"{BOS} $A", special_tokens=[(BOS, bos)])
    wrapped: Any = PreTrainedTokenizerFast
    wrapped(
        tokenizer_object=tokenizer, bos_token=BOS, eos_token=END, chat_template=TEMPLATE, clean_up_tokenization_spaces=False
    ).save_pretrained(folder)

    def number(token: str) -> int:
        found = tokenizer.token_to_id(token)
        return found if found is not None else tokenizer.token_to_id("".join(part for part, _ in spell.pre_tokenize_str(token)))

    count = tokenizer.get_vocab_size()
    size = -(-count // 32) * 32
    weights = torch.zeros(size, size)  # weights[after, before]
    chain = [number(token) for token in said]
    spoken = {*chain, number(other)}
    for before in range(count):
        if before not in spoken:
            weights[chain[0], before] = 20.0
    for before, after in zip(chain, [*chain[1:], number(END)], strict=True):
        weights[after, before] = 20.0
        if before == number(label):
            weights[after, number(other)] = 20.0
    place = chain.index(number(label))
    # Where the label is due: after the token in front of it, or after any prompt.
    due = [chain[place - 1]] if place else [before for before in range(count) if before not in spoken]
    for before in due:
        weights[number(other), before] = 18.0
    weights /= size**0.5  # what the norm makes of a one among zeros

    def zeros(*shape: int) -> Any:
        return torch.zeros(*shape)

    layer = {f"self_attn.{name}_proj": zeros(32, size) for name in ("q", "k", "v")} | {"self_attn.o_proj": zeros(size, 32)}
    layer |= {f"mlp.{name}_proj": zeros(32, size) for name in ("gate", "up")} | {"mlp.down_proj": zeros(size, 32)}
    layer |= {f"{name}_layernorm": torch.ones(size) for name in ("input", "post_attention")}
    tensors = {f"model.layers.0.{name}.weight": tensor for name, tensor in layer.items()}
    tensors |= {"model.embed_tokens.weight": torch.eye(size), "model.norm.weight": torch.ones(size), "lm_head.weight": weights}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors", {"format": "pt"})
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": size,
        "hidden_size": size,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "max_position_embeddings": 16384,
        "rms_norm_eps": 1e-6,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "bos_token_id": bos,
        "eos_token_id": number(END),
        "torch_dtype": "float32",
        "attention_bias": False,
        "mlp_bias": False,
        "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder
