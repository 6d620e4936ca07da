"""A tiny guard for tests: a real Llama that has learnt a synthetic guard task, in a minute or two on two cores."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from guardreasoner_sdk.errors import ConfigurationError

__all__ = ["TinyGuard", "build_tiny_guard", "fingerprint", "keep_tiny_guard", "load_tiny_guard"]

STEPS = 390
SEED = 7


@dataclass(frozen=True, slots=True)
class TinyGuard:
    """The files of a tiny guard, and how its training went.

    Args:
        folder: config, weights (fp32 safetensors), tokenizer with chat template, and ``guard.json``.
        gguf: the same model for llama.cpp, f32.
        examples: held-out exchanges with their true labels, one JSON object a line.
        steps: how many training steps were made.
        seed: of weights and examples.
        parameters: how many weights it has.
        loss: mean of the last 50 steps, in nats a token.
        seconds: how long the training took.
    """

    folder: Path
    gguf: Path
    examples: Path
    steps: int
    seed: int
    parameters: int
    loss: float
    seconds: float


def fingerprint() -> str:
    """A hash of all that makes the weights and the tokenizer, steps and seed apart: equal for equal models, so that a built
    one can be kept and used again."""
    from guardreasoner_sdk.dialects.guardreasoner import INSTRUCTION
    from guardreasoner_training.gguf import LLAMA3_SPLIT

    digest = hashlib.sha256(INSTRUCTION.encode() + LLAMA3_SPLIT.encode())
    for path in sorted(Path(__file__).parent.glob("[!_]*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def build_tiny_guard(folder: Path, *, steps: int = STEPS, seed: int = SEED, report: Callable[[str], None] = print) -> TinyGuard:
    """Train a tiny guard and write its files, or take those that are there from the same source, steps and seed.

    The same steps and seed give the same weights on the same machine.

    Args:
        folder: gets the files; it is made where it is missing.
        steps: how many batches to train on; about 300 are enough for the labels.
        seed: of weights and examples.
        report: is told the progress, a line every 50 steps.
    """
    source = {"fingerprint": fingerprint(), "steps": steps, "seed": seed}
    record = folder / _RECORD
    if record.exists() and (kept := json.loads(record.read_text(encoding="utf-8")))["source"] == source:
        return _with_gguf(folder, kept)
    from guardreasoner_training.tiny.build import build

    record.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    parameters, loss = build(folder, steps=steps, seed=seed, report=report)
    figures = {"parameters": parameters, "loss": loss, "seconds": time.monotonic() - started}
    return _with_gguf(folder, _write_record(folder, source, figures))


def keep_tiny_guard(tiny: TinyGuard, folder: Path) -> None:
    """Write a tiny guard in about a quarter of its bytes: weights in fp16, and no GGUF file.

    Args:
        tiny: the guard.
        folder: gets the files; it is made where it is missing. It is a model's folder, too.

    Raises:
        ConfigurationError: a file of the guard is missing or damaged, or both are the same folder.
    """
    _copy(tiny.folder, folder, "float16")


def load_tiny_guard(kept: Path, folder: Path) -> TinyGuard:
    """Make all files of a tiny guard out of those that were kept, in seconds instead of minutes.

    Its weights are fp32 again, rounded as they were kept.

    Args:
        kept: a folder that ``keep_tiny_guard`` wrote, whatever the source is today.
        folder: gets the files; it is made where it is missing.

    Raises:
        ConfigurationError: a file of the kept folder is missing or damaged, or both are the same folder.
    """
    return _with_gguf(folder, _copy(kept, folder, "float32"))


_RECORD = "tiny.json"
_WEIGHTS = "model.safetensors"
_GGUF = "tiny.gguf"
_OTHERS = ("config.json", "examples.jsonl", "generation_config.json", "guard.json", "tokenizer.json", "tokenizer_config.json")


def _copy(origin: Path, folder: Path, dtype: Literal["float16", "float32"]) -> dict[str, Any]:
    """Write the files of another folder with weights of that type, and return their record."""
    from safetensors.numpy import load, save_file

    if folder.exists() and folder.samefile(origin):
        raise ConfigurationError(f"folder: {folder} is where the files come from; give another one")
    if missing := [name for name in (_RECORD, _WEIGHTS, *_OTHERS) if not (origin / name).is_file()]:
        raise ConfigurationError(f"{origin / missing[0]} is missing: that is no folder of a whole tiny guard")
    try:
        record = json.loads((origin / _RECORD).read_text(encoding="utf-8"))
        source, figures, digest = record["source"], record["figures"], record["weights"]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{origin / _RECORD} is no record of a tiny guard; make the folder anew") from error
    data = (origin / _WEIGHTS).read_bytes()
    if hashlib.sha256(data).hexdigest() != digest:
        raise ConfigurationError(f"{origin / _WEIGHTS} is damaged: {_RECORD} has another hash; make the folder anew")
    (folder / _RECORD).unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    for name in _OTHERS:
        shutil.copyfile(origin / name, folder / name)
    weights = {name: tensor.astype(dtype) for name, tensor in load(data).items()}
    save_file(weights, folder / _WEIGHTS, metadata={"format": "pt"})
    return _write_record(folder, source, figures)


def _write_record(folder: Path, source: dict[str, Any], figures: dict[str, Any]) -> dict[str, Any]:
    # Written last: a folder that has it is complete, but for the GGUF file.
    weights = hashlib.sha256((folder / _WEIGHTS).read_bytes()).hexdigest()
    record = {"source": source, "figures": figures, "weights": weights}
    (folder / _RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return record


def _with_gguf(folder: Path, record: dict[str, Any]) -> TinyGuard:
    from guardreasoner_training.gguf import export_gguf

    # Anew each time: that takes less than a second, and the exporter is no part of the fingerprint.
    export_gguf(folder, folder / _GGUF)
    steps, seed = record["source"]["steps"], record["source"]["seed"]
    return TinyGuard(folder, folder / _GGUF, folder / "examples.jsonl", steps, seed, **record["figures"])
