"""`python -m guardreasoner_training.embedded.held_out`: what the model is measured on, as labelled rows for any guard.

`guardreasoner evaluate` reads them, and makes its robustness sets of them. They hold texts of the data: keep them with it.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from guardreasoner_training.embedded.config import TrainConfig
from guardreasoner_training.embedded.data import DataError
from guardreasoner_training.embedded.examples import Example, evaluation_examples, kind_of
from guardreasoner_training.embedded.split import hold_out
from guardreasoner_training.embedded.unlabelled import load_rows

__all__ = ["write_held_out"]

# No UTF-8 file can hold a lone one; U+FFFD, which the guard reads in its place, says that something stood there.
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def write_held_out(data: Path, output: Path, config: TrainConfig, *, unlabelled: Path | None = None) -> dict[str, int]:
    """Write `dev.jsonl` and `unseen.jsonl`: the development split, and the sources that training never sees.

    Args:
        data: folder of labelled rows, as it was or will be trained on.
        output: gets the files; one that is there is replaced.
        config: the shares, the caps, the unseen sources and the seed of the training.
        unlabelled: folder of text without labels, if it was trained on that: what is near one of its prompts goes with it.

    Returns:
        how many rows each file holds, by its name.

    Raises:
        DataError: the data cannot be used.
    """
    rows = load_rows(data, unlabelled)
    split = hold_out(rows, config)
    output.mkdir(parents=True, exist_ok=True)
    counts = {}
    for name, numbers, cap in (("dev", split.dev, config.dev_cap), ("unseen", split.unseen, config.unseen_cap)):
        examples = evaluation_examples((rows[number] for number in numbers), cap=cap, seed=config.seed)
        counts[f"{name}.jsonl"] = len(examples)
        lines = "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in _lines(examples))
        (output / f"{name}.jsonl").write_text(_SURROGATE.sub("\ufffd", lines), encoding="utf-8")
    return counts


def _lines(examples: Iterable[Example]) -> Iterable[dict[str, object]]:
    for number, example in enumerate(examples, 1):
        prompt, refusal, response = example.labels
        yield {
            "id": f"{example.source}/{number}",
            "prompt": example.prompt,
            "response": example.response,
            "prompt_harmful": prompt,
            "refusal": refusal,
            "response_harmful": response,
            "lang": example.lang,
            "source": example.source,
            "kind": kind_of(example),
        }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: the command line; None for that of the process.

    Returns:
        The exit status: 0, or 1 where the data cannot be used.
    """
    parser = argparse.ArgumentParser(
        prog="python -m guardreasoner_training.embedded.held_out",
        description="Write what the embedded guard is measured on as labelled rows.",
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of labelled rows (*.jsonl, *.jsonl.gz)")
    parser.add_argument("--unlabelled", type=Path, help="folder of text without labels, if it was trained on that")
    parser.add_argument("--output", type=Path, required=True, help="gets dev.jsonl and unseen.jsonl")
    given = parser.parse_args(arguments)
    try:
        counts = write_held_out(given.data, given.output, TrainConfig(), unlabelled=given.unlabelled)
    except DataError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write("".join(f"{given.output / name}: {count:,} rows\n" for name, count in counts.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
