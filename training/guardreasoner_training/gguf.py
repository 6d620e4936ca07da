"""Export of a Llama folder to one GGUF file for llama.cpp.

What llama.cpp expects of the `llama` architecture: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md and its own
converter. Only numpy and the package ``gguf`` are needed; weights are read one tensor at a time, so that the largest of them
is what the export holds in memory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from guardreasoner_sdk.data.atomic import errors_while_writing, replacing
from guardreasoner_sdk.errors import ConfigurationError, MissingExtraError
from guardreasoner_training.weights import Stored, model_json, stored_tensors

if TYPE_CHECKING:
    from gguf import GGMLQuantizationType, GGUFWriter

__all__ = ["LLAMA3_SPLIT", "Precision", "check_llama", "export_gguf"]

Precision = Literal["f32", "f16", "bf16", "q8_0"]

LLAMA3_SPLIT: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""The regular expression by which Llama 3 cuts a text into words, from its tokenizer.json."""

# llama.cpp takes these for ends of an answer by their text alone; others it must be told of.
_KNOWN_ENDS: Final = frozenset({"<|end_of_text|>", "<|endoftext|>", "<|eot_id|>", "<|eom_id|>", "<|im_end|>"})
_OUTSIDE: Final = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
_IN_LAYER: Final = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def export_gguf(folder: Path, output: Path, *, dtype: Precision = "f32") -> None:
    """Write a model folder as one GGUF file: weights, tokenizer, chat template, and what ``guard.json`` says.

    Args:
        folder: a ``LlamaForCausalLM`` as transformers saves it: config.json, weights in safetensors (one file or several, in
            fp32, fp16 or bf16), tokenizer.json with a byte-level BPE split as Llama 3, GPT-2 or SmolLM2 do.
        output: the file; it appears only when it is complete.
        dtype: how the matrices are kept; vectors stay in f32. ``q8_0`` falls back to f16 where rows are no multiple of 32.

    Raises:
        ConfigurationError: the folder holds something that the file could not express, or that llama.cpp would run
            differently; nothing is written.
        InputError: the file cannot be written.
        MissingExtraError: the package ``gguf`` is not installed.
    """
    try:
        from gguf import GGUFWriter
    except ImportError as error:
        raise MissingExtraError("train", "GGUF files") from error
    if dtype not in get_args(Precision):
        raise ConfigurationError(f"dtype: {dtype!r} is unknown; use one of {', '.join(get_args(Precision))}")
    model = _Llama.of(model_json(folder / "config.json"))
    stored = stored_tensors(folder)
    names = model.tensor_names(stored)
    with errors_while_writing(output), replacing(output) as fresh:
        writer = GGUFWriter(fresh, "llama")
        try:
            _add_model(writer, model, folder, dtype)
            _add_vocabulary(writer, model, folder)
            _write(writer, model, names, stored, dtype)
            writer.close()
        finally:
            with suppress(OSError):  # what was wrong is told already
                writer.close()


def check_llama(config: Mapping[str, Any], tokenizer: Mapping[str, Any]) -> None:
    """Look whether a model can become a GGUF file, as far as that can be told without its weights.

    Args:
        config: its config.json.
        tokenizer: its tokenizer.json.

    Raises:
        ConfigurationError: it cannot.
    """
    _Llama.of(config)
    _pre_tokenizer(tokenizer)
    for token in tokenizer.get("added_tokens", []):
        _check_added(token)


@dataclass(frozen=True, slots=True)
class _Llama:
    """What config.json says, checked."""

    config: Mapping[str, Any]
    heads: int
    kv_heads: int
    head_size: int
    rope: Mapping[str, Any]
    rope_type: str

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> _Llama:
        named = config.get("architectures") or []
        if named != ["LlamaForCausalLM"]:
            raise ConfigurationError(
                f"config.json: architectures is {named}, only ['LlamaForCausalLM'] can be exported; "
                "convert others with llama.cpp's convert_hf_to_gguf.py"
            )
        plain = {"hidden_act": "silu", "attention_bias": False, "mlp_bias": False, "quantization_config": None}
        for key, value in plain.items():
            if config.get(key, value) != value:
                raise ConfigurationError(f"config.json: {key} is {config[key]!r}, only {value!r} can be exported")
        heads = int(config["num_attention_heads"])
        # transformers 5 has it all in rope_parameters, earlier ones in rope_theta and rope_scaling.
        rope = {
            "rope_theta": config.get("rope_theta", 10000.0),
            **(config.get("rope_scaling") or {}),
            **(config.get("rope_parameters") or {}),
        }
        rope_type = rope.get("rope_type") or rope.get("type") or "default"
        if rope_type not in ("default", "linear", "llama3"):
            raise ConfigurationError(
                f"config.json: rope_type is {rope_type!r}, only default, linear and llama3 can be exported"
            )
        return cls(
            config=config,
            heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head_size=int(config.get("head_dim") or config["hidden_size"] // heads),
            rope=rope,
            rope_type=rope_type,
        )

    def tensor_names(self, stored: Mapping[str, Stored]) -> dict[str, str]:
        """Name in the GGUF file by name in the folder, in the order in which they are written."""
        outside = dict(_OUTSIDE)
        if self.config.get("tie_word_embeddings", False):
            del outside["lm_head.weight"]  # llama.cpp takes the embeddings where there is no output.weight
        names = outside | {
            f"model.layers.{layer}.{name}.weight": f"blk.{layer}.{short}.weight"
            for layer in range(int(self.config["num_hidden_layers"]))
            for name, short in _IN_LAYER.items()
        }
        if missing := sorted(names.keys() - stored.keys()):
            raise ConfigurationError(f"{missing[0]}: is not in the safetensors files; the model is not complete")
        # Old checkpoints hold the rotary frequencies, which follow from config.json; tied ones may hold the head twice.
        others = [name for name in stored if name not in names and name != "lm_head.weight" and "rotary_emb" not in name]
        if others:
            raise ConfigurationError(f"{others[0]}: is not a tensor of a plain Llama; merge adapters into the weights first")
        return names

    def rope_factors(self) -> NDArray[np.float32]:
        """By how much each rotary frequency is divided, per pair of a head's dimensions (Llama 3.1's scaling)."""
        factor, low, high = (float(self.rope[key]) for key in ("factor", "low_freq_factor", "high_freq_factor"))
        original = float(self.rope["original_max_position_embeddings"])
        factors = []
        for place in range(0, self.head_size, 2):
            wavelength = 2 * math.pi * float(self.rope["rope_theta"]) ** (place / self.head_size)
            kept = min(1.0, max(0.0, (original / wavelength - low) / (high - low)))
            factors.append(1 / ((1 - kept) / factor + kept))
        return np.array(factors, dtype=np.float32)

    def interleaved(self, name: str, tensor: NDArray[Any]) -> NDArray[Any]:
        """Queries and keys in llama.cpp's order: it rotates neighbours, transformers rotates the halves of a head."""
        heads = {"q_proj": self.heads, "k_proj": self.kv_heads}.get(name.split(".")[-2])
        if heads is None:
            return tensor
        return tensor.reshape(heads, 2, -1, tensor.shape[-1]).swapaxes(1, 2).reshape(tensor.shape)


def _add_model(writer: GGUFWriter, model: _Llama, folder: Path, dtype: Precision) -> None:
    """The keys of the architecture, and our own."""
    from gguf import GGML_QUANT_VERSION, LlamaFileType, RopeScalingType

    config = model.config
    file_types = {
        "f32": LlamaFileType.ALL_F32,
        "f16": LlamaFileType.MOSTLY_F16,
        "bf16": LlamaFileType.MOSTLY_BF16,
        "q8_0": LlamaFileType.MOSTLY_Q8_0,
    }
    writer.add_type("model")
    writer.add_name(folder.resolve().name)
    writer.add_file_type(file_types[dtype])
    writer.add_quantization_version(GGML_QUANT_VERSION)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(model.heads)
    writer.add_head_count_kv(model.kv_heads)
    writer.add_key_length(model.head_size)
    writer.add_value_length(model.head_size)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(model.head_size)
    writer.add_rope_freq_base(float(model.rope["rope_theta"]))
    if model.rope_type == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(float(model.rope["factor"]))
    if (guard := folder / "guard.json").exists():
        said = model_json(guard)
        for key in ("dialect", "rendering"):
            if said.get(key):
                writer.add_string(f"guardreasoner.{key}", said[key])


def _add_vocabulary(writer: GGUFWriter, model: _Llama, folder: Path) -> None:
    """Tokens, merges, special tokens and the chat template."""
    from gguf import TokenType

    described = model_json(folder / "tokenizer.json")
    pre = _pre_tokenizer(described)
    size = int(model.config["vocab_size"])
    tokens, types = [f"[PAD{number}]" for number in range(size)], [TokenType.UNUSED] * size
    added = {token["id"]: token for token in described.get("added_tokens", [])}
    last = max([*described["model"]["vocab"].values(), *added])
    if last >= size:
        raise ConfigurationError(f"tokenizer.json: has a token number {last}, config.json a vocab_size of {size}; resize one")
    for text, number in described["model"]["vocab"].items():
        tokens[number], types[number] = text, TokenType.NORMAL
    for number, token in added.items():
        _check_added(token)
        tokens[number] = token["content"]
        types[number] = TokenType.CONTROL if token["special"] else TokenType.USER_DEFINED
    merges = described["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    _add_special_tokens(writer, model, folder, tokens)
    if template := _chat_template(folder):
        writer.add_chat_template(template)


def _pre_tokenizer(described: Mapping[str, Any]) -> str:
    """llama.cpp's name for how tokenizer.json cuts texts; it must be the same cut, or answers differ unnoticed."""
    model, pre = described["model"], described.get("pre_tokenizer") or {}
    if model.get("type") != "BPE" or model.get("byte_fallback"):
        kind = f"{model.get('type')}{' with byte_fallback' if model.get('byte_fallback') else ''}"
        raise ConfigurationError(f"tokenizer.json: the model is {kind}, only a byte-level BPE can be exported")
    for key, value in (("normalizer", described.get("normalizer")), ("dropout", model.get("dropout"))):
        if value:
            raise ConfigurationError(f"tokenizer.json: has a {key}, which llama.cpp has not; only a plain one can be exported")
    ignore_merges = bool(model.get("ignore_merges"))
    steps = pre["pretokenizers"] if pre.get("type") == "Sequence" else [pre]
    levels = [step for step in steps if step.get("type") == "ByteLevel" and not step.get("add_prefix_space", True)]
    splits = [step for step in steps if step.get("type") == "Split"]
    digits = [step for step in steps if step.get("type") == "Digits" and step.get("individual_digits")]
    if (
        [*digits, *levels] == steps
        and len(digits) == len(levels) == 1
        and levels[0].get("use_regex", True)
        and not ignore_merges
    ):
        return "smollm"
    if len(levels) == 1 and len(levels) + len(splits) == len(steps):
        use_regex = levels[0].get("use_regex", True)
        if not splits and use_regex and not ignore_merges:
            return "gpt-2"
        patterns = [
            step["pattern"].get("Regex") for step in splits if step["behavior"] == "Isolated" and not step.get("invert")
        ]
        if steps[-1] is levels[0] and patterns == [LLAMA3_SPLIT] and not use_regex and ignore_merges:
            return "llama-bpe"
    raise ConfigurationError(
        "tokenizer.json: pre_tokenizer is neither that of Llama 3 (its split, then ByteLevel, with ignore_merges) nor that of "
        "GPT-2 (ByteLevel with use_regex, without add_prefix_space and ignore_merges), alone or behind the single Digits of "
        "SmolLM2; others cannot be exported"
    )


def _check_added(token: Mapping[str, Any]) -> None:
    if any(token.get(key) for key in ("lstrip", "rstrip", "single_word")):
        raise ConfigurationError(
            f"tokenizer.json: the added token {token['content']!r} strips or looks at its neighbours, "
            "which llama.cpp does not; only plain added tokens can be exported"
        )


def _add_special_tokens(writer: GGUFWriter, model: _Llama, folder: Path, tokens: list[str]) -> None:
    """Begin and ends of a text, and whether the tokenizer sets them itself."""
    settings, generation = (
        model_json(path) if (path := folder / name).exists() else {}
        for name in ("tokenizer_config.json", "generation_config.json")
    )

    def number_of(key: str) -> int | None:
        token = settings.get(key)
        text = token["content"] if isinstance(token, dict) else token
        return tokens.index(text) if text in tokens else None

    bos = number_of("bos_token")
    named = generation.get("eos_token_id", model.config.get("eos_token_id"))
    ends = [] if named is None else named if isinstance(named, list) else [named]
    eos = number_of("eos_token")
    eos = eos if eos is not None else next(iter(ends), None)
    if eos is None:
        raise ConfigurationError("tokenizer_config.json: has no eos_token, so that an answer would not end; name it")
    if unknown := [end for end in ends if end != eos and tokens[end] not in _KNOWN_ENDS]:
        raise ConfigurationError(
            f"generation_config.json: eos_token_id has {tokens[unknown[0]]!r} besides {tokens[eos]!r}, and llama.cpp would not "
            "stop there; make it the tokenizer's eos_token"
        )
    writer.add_eos_token_id(eos)
    if "<|eot_id|>" in tokens:
        writer.add_eot_token_id(tokens.index("<|eot_id|>"))
    if bos is not None:
        writer.add_bos_token_id(bos)
    from tokenizers import Tokenizer  # late: recipes and folders are looked at without the extra

    # What the tokenizer does, however its file says so.
    around = Tokenizer.from_file(str(folder / "tokenizer.json")).encode("").ids
    writer.add_add_bos_token(bos is not None and around[:1] == [bos])
    writer.add_add_eos_token(around[-1:] == [eos])


def _chat_template(folder: Path) -> str | None:
    if (path := folder / "chat_template.jinja").exists():
        return path.read_text(encoding="utf-8")
    settings = folder / "tokenizer_config.json"
    template = model_json(settings).get("chat_template") if settings.exists() else None
    if isinstance(template, list):  # several, by name
        return next((str(one["template"]) for one in template if one["name"] == "default"), None)
    return template


def _write(writer: GGUFWriter, model: _Llama, names: Mapping[str, str], stored: Mapping[str, Stored], dtype: Precision) -> None:
    """The table of the tensors, then the tensors, each loaded, converted, written and let go."""
    from gguf import GGML_QUANT_SIZES
    from gguf.quants import quantize

    wanted = {name: _kept_as(stored[name].shape, dtype) for name in names}
    factors = model.rope_factors() if model.rope_type == "llama3" else None
    if factors is not None:
        writer.add_tensor_info("rope_freqs.weight", factors.shape, factors.dtype, factors.nbytes)
    for name, kind in wanted.items():
        values, size = GGML_QUANT_SIZES[kind]
        count = math.prod(stored[name].shape)
        writer.add_tensor_info(names[name], stored[name].shape, np.dtype(np.float32), count // values * size, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    if factors is not None:
        writer.write_tensor_data(factors)
    for name, kind in wanted.items():
        writer.write_tensor_data(quantize(model.interleaved(name, stored[name].load()), kind))


def _kept_as(shape: tuple[int, ...], dtype: Precision) -> GGMLQuantizationType:
    """The type a tensor is written in: norms are few and sensitive, and q8_0 works on blocks of 32 along a row."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    if len(shape) == 1 or dtype == "f32":
        return GGMLQuantizationType.F32
    if dtype == "bf16":
        return GGMLQuantizationType.BF16
    block, _ = GGML_QUANT_SIZES[GGMLQuantizationType.Q8_0]
    return GGMLQuantizationType.Q8_0 if dtype == "q8_0" and shape[-1] % block == 0 else GGMLQuantizationType.F16
