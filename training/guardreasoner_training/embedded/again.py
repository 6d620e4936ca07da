"""Measures an exported model again, after a change to how text is read: what was trained stays as it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from guardreasoner_sdk.judges.encoding import Encoder, EncodingConfig
from guardreasoner_training.embedded import card, pipeline
from guardreasoner_training.embedded.baseline import train_baseline
from guardreasoner_training.embedded.benchmarks import load_benchmarks
from guardreasoner_training.embedded.config import TrainConfig
from guardreasoner_training.embedded.data import HEADS, DataError
from guardreasoner_training.embedded.figures import SHIPPED, figures, judge

_BY_JUDGE = ("thresholds", "dev", "unseen", "benchmarks")


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
    """Measure the model and the baseline at their thresholds, and write metrics.json and MODEL_CARD.md.

    Figures of the weights in 32 bits, of the quantisation and of the training itself stay those of the training run.

    Args:
        data: folder of labelled rows that the model was trained on.
        model: folder of the model's five files.
        output: gets the two files.
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
        shipped = json.loads((model / "config.json").read_bytes())
        trained_with, trained_on = before["config"], before["data"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError(f"{model}: is no folder of a model that was made here ({type(error).__name__})") from None
    measured_on = load_benchmarks(benchmarks) if benchmarks is not None else []
    prepared = pipeline.prepare(data, unlabelled, config)
    for name, now, then in (
        ("settings", json.loads(json.dumps(config.to_json())), trained_with),
        ("rows", json.loads(json.dumps(prepared.described)), {name: trained_on.get(name) for name in prepared.described}),
    ):
        if other := [key for key in now if now[key] != then.get(key)]:
            raise DataError(f"{model}: was trained with other {name} ({', '.join(other)}); give those of its metrics.json")
    tokenizer = pipeline.tokenizer_of(model)
    encoder = Encoder(tokenizer, EncodingConfig.from_json(shipped["encoding"]))
    say("measuring the model and the baseline")
    dev, unseen = prepared.examples.dev, prepared.examples.unseen
    most = config.most_false_alarms
    judges = {
        SHIPPED: judge(
            pipeline.scorer(model / "model.onnx", encoder),
            dev,
            unseen,
            most_false_alarms=most,
            thresholds=[shipped["thresholds"][head] for head in HEADS],
        ),
        "baseline": judge(train_baseline(prepared.examples.train, seed=config.seed), dev, unseen, most_false_alarms=most),
    }
    found = figures(judges, dev, unseen, measured_on, config)
    metrics: dict[str, Any] = before | found | {"measured_again": True}
    metrics["ablation"] = pipeline.helped(ablation) if ablation is not None else before.get("ablation")
    for part in _BY_JUDGE:
        metrics[part] = before[part] | found[part]
    for name in metrics["benchmarks"]:
        metrics["benchmarks"][name] = before["benchmarks"].get(name, {}) | metrics["benchmarks"][name]
    output.mkdir(parents=True, exist_ok=True)
    (output / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
    (output / "MODEL_CARD.md").write_text(card.render(metrics), encoding="utf-8")
    return metrics
