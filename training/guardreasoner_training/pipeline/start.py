"""What is found out before any work: bases that cannot be trained like this, or not be exported, and machines that cannot."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from guardreasoner_sdk.catalog import MODELS
from guardreasoner_sdk.errors import ConfigurationError, InputError
from guardreasoner_training.gguf import check_llama
from guardreasoner_training.recipe import Recipe, ScratchSettings, TrainerSettings
from guardreasoner_training.rows import from_source, read_rows

__all__ = ["base_of", "check_base", "check_export", "check_machines", "check_members", "describe_base"]


def base_of(name: str) -> str:
    """What to load for a base model.

    Args:
        name: a folder, a name of the SDK's catalogue, or a model of the hub.

    Raises:
        ConfigurationError: it is not a language model, or a file of llama.cpp's, which cannot be trained.
    """
    if name.lower().endswith(".gguf"):
        raise ConfigurationError(
            f"base: {name!r} is a GGUF file, which is made for answering and cannot be trained; name the model that it was "
            "made of: a folder with config.json and safetensors, a model of the hub, or a name of the catalogue"
        )
    if not Path(name).exists() and name in MODELS:
        weights = MODELS[name].weights.get("transformers")
        if weights is None:
            raise ConfigurationError(f"base: {name!r} is not a language model; name one, such as guardreasoner-1b")
        return weights
    return name


def describe_base(recipe: Recipe) -> str:
    """The base model in words, for the model card; of a folder its name alone."""
    if isinstance(recipe.base, ScratchSettings):
        return "random weights"
    return Path(recipe.base).resolve().name if Path(recipe.base).exists() else base_of(recipe.base)


def check_base(recipe: Recipe) -> None:
    """Refuse what cannot be trained, and adapters on random weights: all that the base knows would be what they add.

    Raises:
        ConfigurationError: one of them is asked for.
    """
    if not isinstance(recipe.base, ScratchSettings):
        base_of(recipe.base)
    elif recipe.rsft.tuning != "full":
        raise ConfigurationError(
            f"rsft.tuning: {recipe.rsft.tuning!r} trains adapters, and the base is made of random weights, which would stay as "
            "they are; --set rsft.tuning=full (of the command finetune: --full), or name a base that was trained"
        )


def check_export(recipe: Recipe, tokenizer: Any) -> None:
    """Find out before the training whether what comes out of it can become the files that the recipe wants.

    Args:
        tokenizer: the base's; None where it is made here.

    Raises:
        ConfigurationError: llama.cpp could not run the base.
    """
    if tokenizer is None or isinstance(recipe.base, ScratchSettings) or not recipe.export.gguf:
        return
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    base = base_of(recipe.base)
    try:
        config: Any = AutoConfig.from_pretrained(base)
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ConfigurationError(f"base: {base!r} cannot be loaded ({reason}); name another one") from error
    # The class that is trained and saved, whatever class the base itself was saved as.
    names: Any = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    trained = names.get(config.model_type)
    try:
        check_llama(
            config.to_dict() | {"architectures": [trained] if trained else config.architectures},
            json.loads(tokenizer.backend_tokenizer.to_str()),
        )
    except ConfigurationError as error:
        raise ConfigurationError(
            f"export.gguf: {base} cannot become a GGUF file ({error}); --set 'export.gguf=[]' trains it all the same, and "
            "exports it for vLLM and transformers alone"
        ) from error


def check_machines(recipe: Recipe, kinds: Iterable[Literal["rsft", "hsdpo"]]) -> None:
    """Find out what this machine cannot do, before the hours that come before it.

    Raises:
        ConfigurationError: a precision, a library or a number of devices is not available here.
    """
    from guardreasoner_training.trainers.arguments import check_machine, layout, usable_devices
    from guardreasoner_training.trainers.launch import idle_devices
    from guardreasoner_training.trainers.training import on_this_machine, processes

    several = idle_devices()
    for name in kinds:
        settings: TrainerSettings = getattr(recipe, name)
        # The processes that a stage starts for several devices share the weights among them; one alone does not.
        spread = several > 1 and settings.tuning != "qlora"
        check_machine(name, settings if spread else on_this_machine(settings))
        layout(name, settings, usable_devices(settings, several) if several > 1 else processes())


def check_members(recipe: Recipe, rows: Path) -> None:
    """Find out whether each further model of the ensemble has rows.

    Raises:
        InputError: one has none.
    """
    if not recipe.mine.ensemble:
        return
    sources = sorted({row.source for row in read_rows(rows)})
    for member in recipe.mine.ensemble:
        if not any(from_source(source, member.sources) for source in sources):
            known = ", ".join(sources[:12]) + (" ..." if len(sources) > 12 else "")
            fix = f"correct its sources in mine.ensemble; the rows have {known}"
            raise InputError(f"mine.ensemble: {member.name}", "has no rows", fix)
