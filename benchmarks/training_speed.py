"""How fast R-SFT and HS-DPO train the 1B architecture on a GPU, without weights and without a network.

    python benchmarks/training_speed.py [--output benchmarks/results/training-speed-<device>.json]

The trainers are those of ``guardreasoner train``, on random weights and random tokens, in bf16: the time depends on the shapes
alone. ``full``: every row has 2,048 tokens, the recipe's longest. ``mixed``: lengths are log-normal around a mean of 640 tokens
(an assumption about GuardReasonerTrain: an instruction of 110 tokens, an exchange of about as many as the 260 to 400 of the
output); packing is only of use there. Half of a row's tokens are learnt.

A step has 12 rows (6 of them at a time, as in the paper) or 8 pairs (1 at a time); the first two steps are not counted. The GPU
hours are those of one GPU of this kind for the paper's 127,544 rows x 3 epochs, or its 23,000 pairs x 2 epochs, at this many
tokens a second; where the reference's log-probabilities are computed first, one pass over the pairs comes on top, and its
memory counts, too. Beside them stands what the paper (arXiv:2501.18492) reports for GuardReasoner 1B on four H100 with 80 GB:
6.33 GPU hours of R-SFT, 3.70 of HS-DPO.

``--tiny`` tries the script itself out, on a small architecture and a CPU.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import itertools
import json
import random
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from guardreasoner_training.hsdpo import HSDPOStage
from guardreasoner_training.recipe import HSDPOSettings, Recipe, RSFTSettings, TrainerSettings
from guardreasoner_training.rsft import RSFTStage
from guardreasoner_training.tiny.tokenizer import learn_tokenizer
from guardreasoner_training.trainers.advice import is_out_of_memory
from guardreasoner_training.trainers.arguments import Layout
from guardreasoner_training.trainers.encoded import label_output, write_encoded
from guardreasoner_training.trainers.stage import TrainingStage

PAPER = {"rsft": {"rows": 127_544, "epochs": 3, "gpu_hours": 6.33}, "hsdpo": {"rows": 23_000, "epochs": 2, "gpu_hours": 3.70}}
MEAN, SPREAD = 640, 0.6
WARM_UP = 2

LLAMA_1B = {  # Llama 3.2 1B
    "vocab_size": 128256,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
    "rope_parameters": {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
}
TINY = {
    "vocab_size": 512,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
}


def make_base(folder: Path, *, tiny: bool) -> None:
    """A model of random weights, as the hub would have it."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**(TINY if tiny else LLAMA_1B)))
    (model if tiny else model.to(torch.bfloat16)).save_pretrained(folder)
    learn_tokenizer(["a few words are enough here"], size=300).save_pretrained(folder)


def lengths(kind: str, count: int, longest: int) -> list[int]:
    """How many tokens each row has."""
    if kind == "full":
        return [longest] * count
    chance = random.Random(0)
    mean = min(MEAN, longest // 3)
    # The mean of a log-normal lies above its median by this factor.
    drawn = (chance.lognormvariate(0.0, SPREAD) * mean * 2.718281828 ** (-(SPREAD**2) / 2) for _ in range(count))
    return [max(16, min(longest, round(length))) for length in drawn]


def write_rows(folder: Path, stage: str, sizes: list[int], vocabulary: int) -> Path:
    """Random tokens as a stage encodes its rows."""
    import pyarrow

    chance = random.Random(1)

    def tokens(count: int) -> list[int]:
        return chance.choices(range(300, vocabulary), k=count)

    def rows() -> Iterator[dict[str, Any]]:
        for size in sizes:
            prompt = tokens(size - size // 2)
            if stage == "rsft":
                yield label_output(prompt, tokens(size // 2))
            else:
                answers = {"chosen_ids": tokens(size // 2), "rejected_ids": tokens(size // 2)}
                yield {"prompt_ids": prompt, **answers, "alpha": chance.uniform(0.8, 1.2)}

    ids = pyarrow.list_(pyarrow.int32())
    columns = dict.fromkeys(("input_ids", "labels"), ids)
    if stage == "hsdpo":
        columns = {**dict.fromkeys(("prompt_ids", "chosen_ids", "rejected_ids"), ids), "alpha": pyarrow.float64()}
    write_encoded(folder, rows(), {"rows": len(sizes), "too_long": 0}, columns)
    return folder / "rows.arrow"


def make_trainer(settings: TrainerSettings, base: Path, rows: Path, output: Path, longest: int, steps: int) -> Any:
    """The trainer of a stage, as the stage makes it; it saves nothing."""
    from transformers import AutoTokenizer

    kind: type[TrainingStage[Any]] = RSFTStage if isinstance(settings, RSFTSettings) else HSDPOStage
    stage = kind(rows, base, output, Recipe.model_construct(max_tokens=longest, seed=0))
    args = stage.arguments(settings, Layout(1, settings.batch, settings.accumulation))
    args.max_steps = steps
    args.save_strategy = "no"
    return stage.trainer(args, rows, AutoTokenizer.from_pretrained(base), settings)


def now() -> float:
    """Seconds, once the device has done all that it was given."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


@contextmanager
def reference_seconds() -> Iterator[list[float]]:
    """How long the reference's log-probabilities take, which are computed while the trainer is made."""
    from guardreasoner_training.trainers.dpo import HSDPOTrainer

    compute, found = HSDPOTrainer._precompute_ref_logps, list[float]()

    def clocked(*args: Any, **kwargs: Any) -> Any:
        began = now()
        rows = compute(*args, **kwargs)
        found.append(now() - began)
        return rows

    HSDPOTrainer._precompute_ref_logps = clocked
    try:
        yield found
    finally:
        HSDPOTrainer._precompute_ref_logps = compute


def timed(trainer: Any, accumulation: int) -> dict[str, float]:
    """Train, and count tokens and seconds of all steps but the first ones."""
    from transformers import PrinterCallback, TrainerCallback

    collate, tokens, ends = trainer.data_collator, [], []

    def counting(examples: list[dict[str, Any]]) -> Any:
        batch = collate(examples)
        tokens.append(int(batch["attention_mask"].sum() if "attention_mask" in batch else batch["input_ids"].numel()))
        return batch

    class Clock(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            ends.append(now())

    trainer.data_collator = counting
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Clock())
    trainer.train()
    # The loader fetches ahead; its batches come in order all the same.
    counted = tokens[WARM_UP * accumulation : len(ends) * accumulation]
    return {"tokens_per_second": round(sum(counted) / (ends[-1] - ends[WARM_UP - 1]), 1)}


def variations(*, tiny: bool) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Stage, kind of lengths, and settings: attention x packing x liger x gradient checkpointing."""
    import torch

    attentions = ["sdpa"]
    if torch.cuda.is_available():
        # With the package "kernels", transformers takes FlashAttention 3 from the hub where it is not installed.
        attentions += ["flash_attention_2"] if importlib.util.find_spec("flash_attn") else []
        attentions += ["flash_attention_3"] if any(map(importlib.util.find_spec, ("flash_attn_interface", "kernels"))) else []
    ligers = [False, True] if importlib.util.find_spec("liger_kernel") and torch.cuda.is_available() else [False]
    for kind, attention, liger, checkpointing in itertools.product(("full", "mixed"), attentions, ligers, (True, False)):
        common = {"attention": attention, "liger": liger, "gradient_checkpointing": checkpointing}
        for packing in (False, True) if kind == "mixed" else (False,):
            # A sequence of packed rows has as many tokens as several rows apart.
            size = {"batch": 2 if tiny else 6, "accumulation": 2} if not packing else {"batch": 1, "accumulation": 4}
            yield "rsft", kind, {**common, **size, "packing": packing}
        for precompute in (True, False):
            size = {"batch": 1, "accumulation": 2 if tiny else 8}
            yield "hsdpo", kind, {**common, **size, "precompute_reference": precompute}


def measured(
    stage: str, kind: str, chosen: dict[str, Any], base: Path, *, tiny: bool, longest: int, steps: int
) -> dict[str, Any]:
    """One variation: its settings, and its speed, or why there is none."""
    import torch

    make: Any = RSFTSettings if stage == "rsft" else HSDPOSettings
    found: dict[str, Any] = {"stage": stage, "lengths": kind, **chosen}
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    trainer = None
    with tempfile.TemporaryDirectory() as name:
        try:
            settings = make(**chosen, epochs=1, devices=1, precision="fp32" if tiny else "bf16")
            per_sequence = 4 if chosen.get("packing") else 1
            sizes = lengths(kind, steps * settings.batch * settings.accumulation * per_sequence, longest)
            rows = write_rows(Path(name) / "rows", stage, sizes, (TINY if tiny else LLAMA_1B)["vocab_size"])
            with reference_seconds() as reference:
                trainer = make_trainer(settings, base, rows, Path(name), longest, steps)
            found |= timed(trainer, settings.accumulation)
            mean = sum(sizes) / len(sizes) * (1 if stage == "rsft" else 2)  # a pair is read twice, once with each answer
            found["mean_tokens"] = round(mean, 1)
            if reference:
                found["reference_tokens_per_second"] = round(mean * len(sizes) / sum(reference), 1)
            if cuda:
                found["peak_memory_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
            if not tiny:
                found["gpu_hours"] = round(gpu_hours(stage, found), 2)
                found["paper_gpu_hours"] = PAPER[stage]["gpu_hours"]
        except Exception as error:  # the next variation may need less, or another library
            found["failed"] = (
                "out of memory" if is_out_of_memory(error) else " ".join(f"{type(error).__name__}: {error}".split())[:200]
            )
        del trainer
    gc.collect()
    if cuda:
        torch.cuda.empty_cache()
    return found


def gpu_hours(stage: str, found: dict[str, Any]) -> float:
    """What the paper's data would take at this speed."""
    tokens = PAPER[stage]["rows"] * found["mean_tokens"]
    seconds = tokens * PAPER[stage]["epochs"] / found["tokens_per_second"]
    if "reference_tokens_per_second" in found:
        seconds += tokens / found["reference_tokens_per_second"]
    return seconds / 3600


def main() -> None:
    """Measure all variations, and write them as JSON after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="a small architecture: tries the script out")
    parser.add_argument("--tokens", type=int, default=2048, help="longest row")
    parser.add_argument("--steps", type=int, default=6, help="steps of each variation, the first two of them not counted")
    parser.add_argument("--only", default="", help="variations whose settings hold this text, for example: rsft full")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()

    import torch

    longest = min(options.tokens, 192) if options.tiny else options.tokens
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    slug = re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")
    output = options.output or Path(__file__).parent / "results" / f"training-speed-{slug}.json"
    versions = {name: version(name) for name in ("torch", "transformers", "trl", "accelerate")}
    optional = ("flash_attn", "liger_kernel", "kernels")
    versions |= {name: version(name.replace("_", "-")) for name in optional if importlib.util.find_spec(name)}
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        make_base(base, tiny=options.tiny)
        for stage, kind, chosen in variations(tiny=options.tiny):
            if options.only not in f"{stage} {kind} {json.dumps(chosen)}":
                continue
            results.append(measured(stage, kind, chosen, base, tiny=options.tiny, longest=longest, steps=options.steps))
            print(json.dumps(results[-1]), flush=True)
            report = {
                "device": device,
                "architecture": "tiny" if options.tiny else "Llama 3.2 1B",
                "longest_row": longest,
                "versions": versions,
                "paper": PAPER,
                "results": results,
            }
            output.parent.mkdir(parents=True, exist_ok=True)
            output.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    print(f"written: {output}")


if __name__ == "__main__":
    main()
