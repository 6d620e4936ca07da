"""Fits an exported model to a change in how text is read: new windows, thresholds and figures, the same weights."""

from __future__ import annotations

import filecmp
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from guardreasoner_training.embedded import export, pipeline
from guardreasoner_training.embedded.baseline import train_baseline
from guardreasoner_training.embedded.benchmarks import load_benchmarks
from guardreasoner_training.embedded.config import TrainConfig
from guardreasoner_training.embedded.data import HEADS, DataError
from guardreasoner_training.embedded.figures import SHIPPED, figures, judge
from guardreasoner_training.embedded.pieces import TOKENIZER_FILE
from guardreasoner_training.embedded.surroundings import surroundings

_CHOSEN_LATER = frozenset({"encodings", "limits", "measured_pairs", "threads"})
"""Settings that training does not depend on."""

_KEPT = ("model.onnx", TOKENIZER_FILE)


def measure_again(
    data: Path,
    model: Path,
    output: Path,
    *,
    unlabelled: Path | None,
    benchmarks: Path | None,
    ablation: Path | None,
    config: TrainConfig,
    keep_disguises: bool = False,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Choose windows and thresholds again, measure, and write a model's five files: the weights are the same.

    Figures of the training itself and of what 8 bits cost stay those of the training run.

    Args:
        data: folder of labelled rows that the model was trained on.
        output: gets the files; what it has of weights and vocabulary stays.
        unlabelled: folder of text without labels, if it was trained on that.
        benchmarks: folder of benchmark files to measure on, or None.
        ablation: figures of what each part of the training adds, for the card, or None.
        keep_disguises: take over the figures of disguises, which take the longest; the card says so.

    Returns:
        What metrics.json holds.

    Raises:
        DataError: if the rows or the settings are not those of the training: then what is held out here may have been learnt.
            Or if the output folder holds the weights or the vocabulary of another model.
    """
    torch.set_num_threads(config.threads)
    try:
        before = json.loads((model / "metrics.json").read_bytes())
        trained_with, trained_on = before["config"], before["data"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise DataError(f"{model}: is not a folder of a model that was made here ({type(error).__name__})") from None
    for name in _KEPT:
        if not (model / name).is_file():
            raise DataError(f"{model}: is not a folder of a model that was made here (no {name})")
        if (output / name).exists() and not filecmp.cmp(model / name, output / name, shallow=False):
            raise DataError(f"{output / name}: is of another model than {model}; give --output a folder without one")
    measured_on = load_benchmarks(benchmarks) if benchmarks is not None else []
    what_helped = pipeline.read_ablations(ablation) if ablation is not None else before.get("ablation")
    settings = json.loads(json.dumps(config.to_json()))
    prepared = pipeline.prepare(data, unlabelled, config)
    for name, now, then in (
        ("settings", settings, trained_with),
        ("rows", json.loads(json.dumps(prepared.described)), trained_on),
    ):
        if other := [key for key in now if now[key] != then.get(key) and key not in _CHOSEN_LATER]:
            raise DataError(f"{model}: was trained with other {name} ({', '.join(other)}); give those of its metrics.json")
    say("choosing windows, measuring the model and the baseline")
    graph, examples = model / _KEPT[0], prepared.examples
    encoding, shipped, trials = pipeline.choose_encoding(graph, model, examples, config)
    baseline = train_baseline(examples.train, seed=config.seed)
    judges = {
        SHIPPED: shipped,
        "baseline": judge(baseline, examples.dev, examples.unseen, limits=config.limits),
    }
    output.mkdir(parents=True, exist_ok=True)
    for name in _KEPT:
        if not (output / name).exists():
            shutil.copyfile(model / name, output / name)
    measured = pipeline.measured_languages([*examples.dev, *examples.unseen])
    digest = export.write_config(
        output / "config.json",
        model=graph,
        thresholds=shipped.thresholds,
        encoding=encoding,
        length_shift=shipped.shift,
        measured_languages=measured,
    )
    kept = before["disguises"] if keep_disguises else None
    metrics: dict[str, Any] = before | figures(judges, examples.dev, examples.unseen, measured_on, config, disguises=kept)
    metrics |= {
        "surroundings": surroundings(output, examples.dev, pairs=config.measured_pairs, seed=config.seed),
        "model": before["model"] | {"version": export.VERSION, "sha256": digest},
        "config": settings | {"threads": trained_with["threads"]},
        "encoding": encoding.to_json(),
        "encoding_trials": trials,
        "length_shift": dict(zip(HEADS, shipped.shift, strict=True)),
        "measured_languages": measured,
        "ablation": what_helped,
        "measured_again": True,
        "disguises_measured_again": not keep_disguises,
    }
    pipeline.write_figures(output, metrics)
    return metrics
