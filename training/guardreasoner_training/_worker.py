"""One process of a training on all devices of a machine: what :mod:`guardreasoner_training._trainers.launch` starts."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from guardreasoner_sdk.errors import GuardError, InputError
from guardreasoner_training._stage import write_json
from guardreasoner_training._trainers.launch import MARK
from guardreasoner_training.hsdpo import hsdpo
from guardreasoner_training.recipe import Recipe
from guardreasoner_training.rsft import rsft

_STAGES: Mapping[str, Any] = {"rsft": rsft, "hsdpo": hsdpo}


def _work(job: Path) -> int:
    """What each process does."""
    told: Mapping[str, Any] = json.loads(job.read_bytes())
    arguments: dict[str, Any] = {name: value if name == "base" else Path(value) for name, value in told["arguments"].items()}
    recipe = Recipe.model_validate(told["recipe"])
    rank = int(os.environ.get("RANK", "0"))

    def report(message: str) -> None:
        if not rank:
            for line in message.splitlines():
                print(f"{MARK}{line}", flush=True)  # noqa: T201 - it is how the process that started this one hears of it

    try:
        _STAGES[told["stage"]](**arguments, recipe=recipe, restart=told["restart"], report=report)
    except GuardError as error:
        parts = [error.field, error.problem, error.fix] if isinstance(error, InputError) else None
        # A file for each: they may all fail at the same moment.
        write_json(job.with_name(f"error-{rank:05}.json"), {"text": str(error), "input": parts})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_work(Path(sys.argv[1])))
