"""Sequence classifiers of real architectures with weights made at random, and tokenizers of their kinds: made in a moment."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["ARCHITECTURES", "SPECIAL", "logits_of", "make_classifier", "make_tokenizer"]

SPECIAL = {
    "wordpiece": ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    "unigram": ("[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"),
    "bytes": ("<s>", "<pad>", "</s>", "<unk>", "<mask>"),
    "sentences": ("<unk>", "<s>", "</s>", "<pad>"),
    "chat": ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
}
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;!?'\"<>[]/|_-()"

# Model type, tokenizer, and what the architecture needs to be small.
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("wordpiece", {"type_vocab_size": 2, "pad_token_id": 0}),
    "deberta-v2": (
        "unigram",
        {
            "type_vocab_size": 0,
            "pad_token_id": 0,
            "relative_attention": True,
            "position_buckets": 16,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "pos_att_type": ["p2c", "c2p"],
            "max_relative_positions": -1,
            "position_biased_input": False,
            "pooler_hidden_size": 32,
        },
    ),
    "roberta": ("bytes", {"type_vocab_size": 1, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}),
    "xlm-roberta": ("bytes", {"type_vocab_size": 1, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}),
    "qwen2": ("chat", {"num_key_value_heads": 1, "pad_token_id": 0, "eos_token_id": 0, "bos_token_id": 0}),
    "llama": ("sentences", {"num_key_value_heads": 1, "pad_token_id": 3, "bos_token_id": 1, "eos_token_id": 2}),
}


def make_tokenizer(kind: str) -> Any:
    """A tokenizer of a kind: its model, its normaliser and what it puts around texts are those of the real ones."""
    from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors

    special = SPECIAL[kind]
    if kind == "wordpiece":
        words = [*special, *_LETTERS, *(f"##{letter}" for letter in _LETTERS), "bread", "bomb", "##ing"]
        made = Tokenizer(models.WordPiece({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
        made.normalizer = normalizers.BertNormalizer(lowercase=True)
        made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    elif kind == "unigram":
        words = [*((word, 0.0) for word in special), ("▁", -3.0), *((letter, -4.0) for letter in _LETTERS), ("▁bread", -2.0)]
        made = Tokenizer(models.Unigram(words, unk_id=3, byte_fallback=False))
        made.normalizer = normalizers.NFKC()
        made.pre_tokenizer = pre_tokenizers.Metaspace()
    else:
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        words = [*special, *alphabet, "br", "ea"]
        made = Tokenizer(models.BPE({word: number for number, word in enumerate(words)}, [("b", "r"), ("e", "a")]))
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in special])
    first, last = {"wordpiece": ("[CLS]", "[SEP]"), "unigram": ("[CLS]", "[SEP]"), "bytes": ("<s>", "</s>")}.get(kind, ("", ""))
    if first:
        known = [(word, made.token_to_id(word)) for word in (first, last)]
        between = f"{last} {last}" if kind == "bytes" else last
        second = 0 if kind == "bytes" else 1
        made.post_processor = processors.TemplateProcessing(
            single=f"{first} $A {last}",
            pair=f"{first} $A {between} $B:{second} {last}:{second}",
            special_tokens=known,
        )
    elif kind == "sentences":
        made.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", made.token_to_id("<s>"))])
    return made


def make_classifier(folder: Path, architecture: str, labels: Sequence[str], *, head: str | None = None, **fields: Any) -> Path:
    """Write a checkpoint: ``config.json``, weights, ``tokenizer.json``.

    Args:
        folder: where it goes.
        architecture: one of :data:`ARCHITECTURES`.
        labels: of its outputs.
        head: ``first token``: as PIGuard's.
        fields: further ones of its configuration.
    """
    import torch
    import transformers
    from safetensors.torch import save_file

    kind, small = ARCHITECTURES[architecture]
    tokenizer = make_tokenizer(kind)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(len(labels) + len(architecture))
    most = 66 if "roberta" in architecture else 128 if architecture in ("qwen2", "llama") else 64
    config = transformers.AutoConfig.for_model(
        architecture,
        **{
            "vocab_size": tokenizer.get_vocab_size() + 8,
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "max_position_embeddings": most,
            "initializer_range": 0.5,
            "id2label": dict(enumerate(labels)),
            "label2id": {label: number for number, label in enumerate(labels)},
            **small,
            **fields,
        },
    )
    made: Any = transformers.AutoModelForSequenceClassification
    model = made.from_config(config).eval()
    model.save_pretrained(folder)
    if head == "first token":
        kept = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("pooler")}
        save_file({name: tensor.contiguous() for name, tensor in kept.items()}, folder / "model.safetensors", {"format": "pt"})
        written = json.loads((folder / "config.json").read_text())
        written |= {"architectures": ["PIGuard"], "model_type": "PIGuard", "auto_map": {"AutoModel": "piguard.PIGuard"}}
        (folder / "config.json").write_text(json.dumps(written))
    return folder


def logits_of(folder: Path, *texts: str, ends_with: int | None = None) -> list[float]:
    """What transformers itself gives for a text, or a pair, by the tokenizer's own encoding."""
    import torch
    import transformers
    from tokenizers import Tokenizer

    encoding = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(*texts)
    ids = [*encoding.ids, *([] if ends_with is None else [ends_with])]
    made: Any = transformers.AutoModelForSequenceClassification
    model = made.from_pretrained(str(folder)).eval()
    if "score" in dict(model.named_children()):
        model.config.pad_token_id = None  # one text alone, read to its end
    typed = {"token_type_ids": torch.tensor([encoding.type_ids])} if model.config.model_type == "bert" else {}
    with torch.inference_mode():
        return list(model(torch.tensor([ids]), **typed).logits[0].tolist())
