"""Base models and their tokenizers: loaded for a training, and saved as a guard."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from guardreasoner_sdk.data.atomic import write_json
from guardreasoner_sdk.errors import ConfigurationError
from guardreasoner_training.formats import dialect_of, template_of
from guardreasoner_training.recipe import Recipe, TrainerSettings
from guardreasoner_training.trainers.advice import errors_while_saving
from guardreasoner_training.trainers.checkpoints import newest_complete
from guardreasoner_training.trainers.merging import merge_adapter

__all__ = ["adapter_config", "apply_liger", "attention_of", "load_model", "load_tokenizer", "save_guard"]


def load_tokenizer(base: str | Path, recipe: Recipe) -> Any:
    """The tokenizer of a base model, with a chat template where the model has none and is asked by a chat.

    Args:
        base: a folder, or a model of the hub.

    Raises:
        ConfigurationError: there is none, or it is not a fast one.
    """
    from transformers import AutoTokenizer

    tokenizer = _loaded(AutoTokenizer.from_pretrained, base)
    if not tokenizer.is_fast:
        raise ConfigurationError(f"base: {base} has no fast tokenizer (tokenizer.json); use a base model with one")
    if recipe.rendering == "chat" and not tokenizer.chat_template:
        tokenizer.chat_template = template_of(recipe.format)
        known = tokenizer.get_vocab()
        if "<|eot_id|>" not in known:
            raise ConfigurationError(
                f"base: {base} has no chat template, and its vocabulary lacks Llama 3's marks; "
                'use a base model with a chat template, or rendering = "raw"'
            )
    return tokenizer


def load_model(base: str | Path, settings: TrainerSettings) -> Any:
    """The base model, in the precision that its weights are kept in while they are trained.

    All weights are kept in single precision, where DeepSpeed does not keep a copy of its own: a step of 5e-6 is lost in
    16 bits. Weights that are not trained, below adapters, are kept in 16 bits.

    Args:
        base: a folder, or a model of the hub.

    Raises:
        ConfigurationError: there is no such model.
    """
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    quantized: Any = BitsAndBytesConfig
    half = _dtype(settings)
    single = settings.tuning == "full" and settings.deepspeed is None
    options: dict[str, Any] = {"attn_implementation": attention_of(settings), "dtype": torch.float32 if single else half}
    if settings.tuning == "qlora":
        options["quantization_config"] = quantized(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=half
        )
        options["device_map"] = {"": int(os.environ.get("LOCAL_RANK", "0"))}
    model = _loaded(AutoModelForCausalLM.from_pretrained, base, **options)
    if settings.liger:
        apply_liger(model)
    return model


def apply_liger(model: Any) -> None:
    """Put liger-kernel's fused layers into a model. The loss is not among them: TRL computes it in tiles itself.

    Args:
        model: a Llama or another model that liger-kernel knows.
    """
    from transformers.integrations import liger

    apply: Any = liger.apply_liger_kernel
    apply(model, {"cross_entropy": False, "fused_linear_cross_entropy": False})


def attention_of(settings: TrainerSettings) -> str:
    """The kernel of the attention.

    Args:
        settings: ``auto`` takes FlashAttention where it is installed and there is a GPU, else PyTorch's own.
    """
    import torch

    if settings.attention != "auto":
        return settings.attention
    flash = torch.cuda.is_available() and importlib.util.find_spec("flash_attn") is not None and settings.precision != "fp32"
    return "flash_attention_2" if flash else "sdpa"


def adapter_config(settings: TrainerSettings) -> Any:
    """The adapters that are trained; None where all weights are."""
    if settings.tuning == "full":
        return None
    from peft import LoraConfig

    config: Any = LoraConfig
    lora = settings.lora
    return config(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.targets if isinstance(lora.targets, str) else list(lora.targets),
    )


def save_guard(
    trainer: Any, output: Path, *, base: str | Path, recipe: Recipe, settings: TrainerSettings, ends: Iterable[int]
) -> None:
    """Write the trained model as a folder that a guard and the next stage load. Every process has to call it.

    Adapters are written into ``adapter``, and merged into the base for the folder itself.

    Raises:
        InputError: it cannot be written.
    """
    from transformers import GenerationConfig

    generation: Any = GenerationConfig
    half = _dtype(settings)
    with errors_while_saving(output, newest_complete(Path(trainer.args.output_dir)), "model"):
        if settings.tuning == "full":
            if settings.deepspeed is None:
                trainer.model.to(half)
            weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)
            model = trainer.accelerator.unwrap_model(trainer.model)
        else:
            trainer.save_model(str(output / "adapter"))
            weights, model = None, None
        if not trainer.is_world_process_zero():
            return
        if model is None:
            model = _merged(base, output / "adapter", half)
        tokenizer = load_tokenizer(base, recipe)
        known = model.generation_config.eos_token_id if model.generation_config is not None else None
        stops = dict.fromkeys([*ends, *([known] if isinstance(known, int) else known or [])])
        model.config.pad_token_id = tokenizer.pad_token_id
        model.config.use_cache = True
        model.generation_config = generation(
            bos_token_id=tokenizer.bos_token_id, eos_token_id=list(stops), pad_token_id=tokenizer.pad_token_id, do_sample=False
        )
        model.save_pretrained(output, state_dict=weights)
        tokenizer.save_pretrained(output, save_jinja_files=False)
        note = {"dialect": dialect_of(recipe.format)}
        if recipe.format != "thinkguard":
            note["rendering"] = recipe.rendering
        write_json(output / "guard.json", note)


def _dtype(settings: TrainerSettings) -> Any:
    """The type of number that the recipe computes with, and that a finished model has."""
    import torch

    return {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[settings.precision]


def _merged(base: str | Path, adapter: Path, dtype: Any) -> Any:
    from transformers import AutoModelForCausalLM
    from transformers.integrations import deepspeed

    # Only one process is here: under ZeRO-3 a model would be loaded in parts, by all of them.
    settings: Any = deepspeed
    settings.unset_hf_deepspeed_config()
    model = _loaded(AutoModelForCausalLM.from_pretrained, base, dtype=dtype)
    return merge_adapter(model, adapter)


def _loaded(load: Any, base: str | Path, **options: Any) -> Any:
    path = Path(base).expanduser()
    if not path.exists() and (isinstance(base, Path) or str(base).count("/") != 1):  # the hub has owner/name
        raise ConfigurationError(f"base: {str(base)!r}: there is no such folder; name a folder with a model, or one of the hub")
    if path.is_dir() and not (path / "config.json").is_file():
        raise ConfigurationError(f"base: the folder {base} holds no model (config.json); name another one")
    try:
        return load(str(path if path.exists() else base), **options)
    except (OSError, ValueError, ImportError, KeyError) as error:
        # The libraries name a missing folder a repository of the hub; both are possible, and only the user knows.
        reason = " ".join(str(error).split())[:300]
        raise ConfigurationError(
            f"base: {str(base)!r} cannot be loaded ({reason}); name a folder with a model, or a model of the hub"
        ) from error
