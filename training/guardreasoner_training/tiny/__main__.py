"""`python -m guardreasoner_training.tiny`: trains the tiny guard that the tests of the engines run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from guardreasoner_sdk.errors import ConfigurationError
from guardreasoner_training.tiny import SEED, STEPS, TinyGuard, build_tiny_guard, keep_tiny_guard, load_tiny_guard


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: the command line; None for that of the process.
    """
    parser = argparse.ArgumentParser(
        prog="python -m guardreasoner_training.tiny",
        description="Train a tiny Llama on a synthetic guard task: a stand-in for the real weights in tests.",
    )
    parser.add_argument("--output", type=Path, required=True, help="gets the files of the model")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--kept", type=Path, help="train nothing: make the files from this folder, which --half wrote")
    parser.add_argument("--half", action="store_true", help="write what is worth keeping: weights in fp16, no GGUF file")
    given = parser.parse_args(arguments)
    report = partial(print, file=sys.stderr, flush=True)

    def made(folder: Path) -> TinyGuard:
        if given.kept:
            return load_tiny_guard(given.kept, folder)
        return build_tiny_guard(folder, steps=given.steps, seed=given.seed, report=report)

    try:
        if given.half:
            with TemporaryDirectory() as temporary:
                tiny = made(Path(temporary))
                keep_tiny_guard(tiny, given.output)
        else:
            tiny = made(given.output)
    except ModuleNotFoundError as error:
        report(f"error: {error.name} is missing; pip install 'guardreasoner-sdk[train]'")
        return 1
    except ConfigurationError as error:
        report(f"error: {error}")
        return 2
    report(f"{tiny.parameters:,} parameters, loss {tiny.loss:.4f}, {tiny.seconds:.0f} s, in {given.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
