"""What the tests of the training share: recipes and models of the smallest size, rows to train on, and files of lines."""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from guardreasoner_training.recipe import Recipe, ScratchSettings
from guardreasoner_training.tiny.tasks import corpus, draw, full_answer

TRAINER: dict[str, Any] = {
    "batch": 2,
    "accumulation": 2,
    "devices": 1,
    "precision": "fp32",
    "gradient_checkpointing": False,
    "learning_rate": 3e-3,
    "epochs": 2,
    "threads": 1,
    "save_steps": 2,
    "logging_steps": 1,
}


def quiet(_: str) -> None:
    """Reports to nobody."""


def alive() -> list[Any]:
    """Trainers and their models that are still in memory."""
    from transformers import PreTrainedModel, Trainer

    kinds = (Trainer, PreTrainedModel)
    return [thing for thing in gc.get_objects() if issubclass(type(thing), kinds)]


@dataclass
class Done:
    """A finished training that many tests look at; who changes its folder takes a copy."""

    output: Path
    figures: dict[str, Any]
    said: list[str] = field(default_factory=list)
    alive: list[int] = field(default_factory=list)

    def copy(self, output: Path) -> Path:
        return Path(shutil.copytree(self.output, output))


def finished(stage: Callable[..., dict[str, Any]], rows: Path, base: Path, output: Path, recipe: Recipe) -> Done:
    """Run a stage, and count at every line that it reports what is in memory. Nothing is collected by chance while it runs."""
    done = Done(output, {})

    def report(line: str) -> None:
        done.said.append(line)
        done.alive.append(len(alive()))

    gc.collect()
    gc.disable()
    try:
        done.figures = stage(rows, base, output, recipe, report=report)
        done.alive.append(len(alive()))
    finally:
        gc.enable()
    return done


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def write(path: Path, rows: Iterable[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def small_recipe(name: str, *, max_tokens: int = 512, **stages: dict[str, Any]) -> Recipe:
    """A recipe whose base is made in a second; ``stages`` are the settings of those that train."""
    base = ScratchSettings(vocabulary=500, hidden=32, layers=2, heads=2, kv_heads=1, intermediate=48, positions=1024)
    return Recipe.model_validate({"name": name, "base": base, "format": "labels", "max_tokens": max_tokens, **stages})


def random_llama(folder: Path, template: str | None = None) -> Path:
    """A random Llama that has learnt nothing, in which four heads share two of keys and values."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from guardreasoner_training.tiny.tokenizer import learn_tokenizer

    tokenizer = learn_tokenizer(corpus(Random(1), 200), size=400)
    if template is not None:
        tokenizer.chat_template = template
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, initializer_range=0.4, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def synthetic(count: int, seed: int, *, reasoned: bool = True) -> Iterator[dict[str, Any]]:
    """Rows of the tiny guard's own world, many of which no guard can be sure of; with the outputs to learn or without."""
    random, seen = Random(seed), set()
    positive = {"harmful": True, "refusal": True, "unharmful": False, "compliance": False, None: None}
    while len(seen) < count:
        example = draw(random, vague=0.6)
        if example.exchange in seen:
            continue
        seen.add(example.exchange)
        yield {
            "id": f"r{len(seen)}",
            "prompt": example.exchange.prompt,
            "response": example.exchange.response,
            "prompt_harmful": positive[example.labels["prompt_harmfulness"]],
            "refusal": positive[example.labels["response_refusal"]],
            "response_harmful": positive[example.labels["response_harmfulness"]],
            **({"output": full_answer(example)} if reasoned else {}),
            "source": "one" if len(seen) % 3 else "two",
        }
