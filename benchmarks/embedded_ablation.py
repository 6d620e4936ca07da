"""What each part of the embedded guard's training adds: the same small training with one part left out at a time.

    python benchmarks/embedded_ablation.py --data rows/ [--unlabelled text/] [--examples 12000] [--output figures.json]

Every training sees as many examples. Figures are of the development split and of the sources held out whole, in percent; no
benchmark is read. Differences of a point are within the noise of such small trainings, and many points on the held-out sources.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from tokenizers import Tokenizer

from guardreasoner_sdk.judges.embedded import DEFAULT_FOLDER
from guardreasoner_sdk.judges.encoding import Encoder, EncodingConfig
from guardreasoner_training.embedded import export, measures, model, pipeline, scoring
from guardreasoner_training.embedded.config import TrainConfig
from guardreasoner_training.embedded.data import Row, load_folder
from guardreasoner_training.embedded.examples import Example, level_languages
from guardreasoner_training.embedded.split import Split
from guardreasoner_training.embedded.train import train
from guardreasoner_training.embedded.unlabelled import load_unlabelled

Change = Callable[[TrainConfig], TrainConfig]

VARIANTS: dict[str, tuple[bool, Change]] = {
    # whether text without labels is used, and what else changes
    "all parts": (True, lambda config: config),
    "no guessed labels": (False, lambda config: config),
    "nothing written for the project": (True, lambda config: replace(config, written=False)),
    "no wrappings": (True, lambda config: replace(config, wrapped_examples=0)),
    "no further answers": (True, lambda config: replace(config, paired_examples=0)),
    "no hazard categories": (True, lambda config: replace(config, hazard_weight=0.0)),
    "no mean of the weights": (True, lambda config: replace(config, average_share=0.0)),
    "no second stage": (True, lambda config: replace(config, level_examples=0)),
}


def measure(rows: Sequence[Row], split: Split, config: TrainConfig, most: int) -> dict[str, object]:
    """Train on a draw of the examples, and measure.

    Args:
        rows: all rows.
        split: of them.
        config: the settings.
        most: examples to learn.
    """
    torch.manual_seed(config.seed)
    examples = pipeline.chosen_examples(rows, split, replace(config, max_rows=most))
    folder, _ = model.base_folder(None)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    net = model.GuardNet(model.load_encoder(folder), head_width=config.head_width, dropout=config.head_dropout)
    encode = Encoder(tokenizer, config.train_encoding)
    with tempfile.TemporaryDirectory() as work:
        train(net, examples.train, encode, config, Path(work))
        if config.level_examples:
            level = level_languages(examples.train, (rows[i] for i in split.train), most=most // 6, seed=config.seed)
            train(net, level, encode, pipeline.second_stage(config), Path(work))
        export.export_int8(net, Path(work) / "model.onnx", keep_float=config.keep_float)
        run = scoring.session(Path(work) / "model.onnx", threads=1)
    shipped = json.loads((DEFAULT_FOLDER / "config.json").read_bytes())
    judge = Encoder(tokenizer, EncodingConfig.from_json(shipped["encoding"]))

    def scores(of: Sequence[Example]) -> scoring.Scores:
        return scoring.score(run, judge, of)

    dev = scores(examples.dev)
    limits = measures.choose_thresholds(examples.dev, dev, most_false_alarms=config.most_false_alarms)
    unseen = scores(examples.unseen)
    return {
        "dev": measures.balanced_heads(examples.dev, dev, limits),
        "unseen AUC": {head: found["auc"] for head, found in measures.measure_heads(examples.unseen, unseen, limits).items()},
        "unseen F1": {head: found["f1"] for head, found in measures.measure_heads(examples.unseen, unseen, limits).items()},
        "false alarms, unseen": measures.false_alarms(examples.unseen, unseen, limits)["benign"]["false_alarm_rate"],
    }


def main() -> None:
    """Measure all variants and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of labelled rows")
    parser.add_argument("--unlabelled", type=Path, help="folder of text without labels")
    parser.add_argument("--examples", type=int, default=12_000, help="that each training sees")
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--output", type=Path, help="a JSON file for the figures; what it has already is not measured again")
    given = parser.parse_args()
    labelled = load_folder(given.data)
    guessed = load_unlabelled(given.unlabelled) if given.unlabelled else []
    found: dict[str, object] = {}
    if given.output and given.output.exists():
        kept = json.loads(given.output.read_text("utf-8"))
        if kept["examples"] != given.examples:
            parser.error(f"--output: {given.output} is of trainings of {kept['examples']} examples; name another file")
        found = kept["variants"]
    config = TrainConfig()
    torch.set_num_threads(config.threads)
    rows = labelled + guessed
    split = pipeline.parted(rows, config)
    for name in given.variants:
        if name in found:
            continue
        both, change = VARIANTS[name]
        kept = [number for number in split.train if both or number < len(labelled)]
        found[name] = measure(rows, replace(split, train=kept), change(config), given.examples)
        print(name, json.dumps(found[name]), flush=True)
        if given.output:
            whole = {"examples": given.examples, "variants": found}
            given.output.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
