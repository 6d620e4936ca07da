"""Fits an exported model to a change in how text is read: windows, thresholds and figures anew, the same weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from guardreasoner_training.embedded import export, pipeline
from guardreasoner_training.embedded.baseline import train_baseline
from guardreasoner_training.embedded.benchmarks import load_benchmarks
from guardreasoner_training.embedded.config import TrainConfig
from guardreasoner_training.embedded.data import DataError
from guardreasoner_training.embedded.figures import SHIPPED, figures, judge

_CHOSEN_LATER = frozenset({"encodings", "threads"})
"""Settings that training does not depend on."""


def measure_again(
    data: Path,
    model: Path,
    output: Path,
    *,
    unlabelled: Path | None,
    benchmarks: Path | None,
    ablation: Path | None,
    config: TrainConfig,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Choose windows and thresholds again, measure, and write config.json, metrics.json and MODEL_CARD.md.

    Figures of the training itself and of what 8 bits cost stay those of the training run.

    Args:
        data: folder of labelled rows that the model was trained on.
        model: folder of the model's five files.
        output: gets the three files.
        unlabelled: folder of text without labels, if it was trained on that.
        benchmarks: folder of benchmark files to measure on, or None.
        ablation: figures of what each part of the training adds, for the card, or None.
        config: the settings that it was trained with.
        say: told what happens.

    Returns:
        What metrics.json holds.

    Raises:
        DataError: if the rows or the settings are not those of the training: then what is held out here may have been learnt.
    """
    torch.set_num_threads(config.threads)
    try:
        before = json.loads((model / "metrics.json").read_bytes())
        trained_with, trained_on = before["config"], before["data"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise DataError(f"{model}: is no folder of a model that was made here ({type(error).__name__})") from None
    measured_on = load_benchmarks(benchmarks) if benchmarks is not None else []
    what_helped = pipeline.helped(ablation) if ablation is not None else before.get("ablation")
    settings = json.loads(json.dumps(config.to_json()))
    prepared = pipeline.prepare(data, unlabelled, config)
    for name, now, then in (
        ("settings", settings, trained_with),
        ("rows", json.loads(json.dumps(prepared.described)), trained_on),
    ):
        if other := [key for key in now if now[key] != then.get(key) and key not in _CHOSEN_LATER]:
            raise DataError(f"{model}: was trained with other {name} ({', '.join(other)}); give those of its metrics.json")
    say("choosing windows, measuring the model and the baseline")
    graph, examples = model / "model.onnx", prepared.examples
    encoding, shipped, trials = pipeline.choose_encoding(graph, model, examples, config)
    baseline = train_baseline(examples.train, seed=config.seed)
    judges = {
        SHIPPED: shipped,
        "baseline": judge(baseline, examples.dev, examples.unseen, most_false_alarms=config.most_false_alarms),
    }
    output.mkdir(parents=True, exist_ok=True)
    digest = export.write_config(output / "config.json", model=graph, thresholds=shipped.thresholds, encoding=encoding)
    metrics: dict[str, Any] = before | figures(judges, examples.dev, examples.unseen, measured_on, config)
    metrics |= {
        "model": before["model"] | {"version": export.VERSION, "sha256": digest},
        "config": settings | {"threads": trained_with["threads"]},
        "encoding": encoding.to_json(),
        "encoding_trials": trials,
        "ablation": what_helped,
        "measured_again": True,
    }
    pipeline.write_figures(output, metrics)
    return metrics
