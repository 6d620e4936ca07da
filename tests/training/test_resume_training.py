"""``kill -9`` in R-SFT and in HS-DPO: started again, the end is that of a run which was left alone."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="training needs torch")
pytest.importorskip("trl", reason="training needs TRL")

from guardreasoner_training.hsdpo import hsdpo  # noqa: E402
from guardreasoner_training.rsft import rsft  # noqa: E402
from guardreasoner_training.scratch import scratch  # noqa: E402
from killed import Killed  # noqa: E402
from samples import TRAINER, quiet, small_recipe, write  # noqa: E402

RECIPE = small_recipe(
    "resume",
    max_tokens=1024,
    rsft={**TRAINER, "epochs": 3, "save_steps": 4, "group_by_length": True},
    # Dropout in the adapters needs the state of the random numbers, too.
    hsdpo={
        **TRAINER,
        "epochs": 3,
        "save_steps": 4,
        "precompute_reference": True,
        "tuning": "lora",
        "lora": {"rank": 4, "dropout": 0.1},
    },
)
ANSWERS = [f"Answers: \nRequest: {label}\nCompletion: None\nResponse: None" for label in ("harmful", "unharmful")]

STEPS = 15  # of 18 rows, three times
MOMENTS = {
    "rsft": [
        Killed("18 rows"),  # encoded, and nothing trained
        Killed("step 6 of"),  # between two checkpoints, in the second epoch
        Killed("step 8 of", size=50_000),  # in the weights of a checkpoint
        Killed("step 12 of", size=150_000),  # in the state of the optimiser
    ],
    "hsdpo": [
        Killed("18 pairs"),
        Killed("step 6 of"),
        Killed("step 8 of", size=5_000),
        Killed("step 15 of", size=5_000),  # the last one: all the steps are done
    ],
}

Start = Callable[[Path, Callable[[str], None]], Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("resume")
    rows = [
        {"prompt": f"How do I {'bomb' if number % 2 else 'bake'} {number}?", "prompt_harmful": bool(number % 2)}
        for number in range(18)
    ]
    pairs = [
        {
            "prompt": row["prompt"],
            "response": None,
            "chosen": ANSWERS[1 - number % 2],
            "rejected": ANSWERS[number % 2],
            "alpha": 0.8 + number / 40,
        }
        for number, row in enumerate(rows)
    ]
    write(folder / "rows.jsonl", rows)
    write(folder / "pairs.jsonl", pairs)
    scratch(folder / "rows.jsonl", folder / "base", RECIPE, report=lambda _: None)
    return folder


@pytest.fixture(scope="module")
def starts(folder: Path) -> dict[str, Start]:
    """Starts a stage in a process of its own, which has its libraries imported already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [
            "guardreasoner_training.trainers.sft",
            "guardreasoner_training.trainers.dpo",
            "guardreasoner_training.trainers.model",
        ]
    )
    stages = {"rsft": (rsft, "rows"), "hsdpo": (hsdpo, "pairs")}

    def starting(name: str) -> Start:
        stage, rows = stages[name]

        def start(output: Path, report: Callable[[str], None] = quiet) -> Any:
            arguments = (folder / f"{rows}.jsonl", folder / "base", output, RECIPE)
            process = context.Process(target=stage, args=arguments, kwargs={"report": report})
            process.start()
            return process

        return start

    return {name: starting(name) for name in stages}


def finished(start: Start, output: Path) -> dict[str, Any]:
    process = start(output, quiet)
    process.join()
    assert process.exitcode == 0
    return {name: value for name, value in json.loads((output / "figures.json").read_bytes()).items() if name != "seconds"}


def log_of(output: Path) -> list[dict[str, Any]]:
    lines = (json.loads(line) for line in (output / "log.jsonl").read_text("utf-8").splitlines())
    return [{name: value for name, value in line.items() if name not in ("seconds", "num_tokens")} for line in lines]


def torn(output: Path) -> list[Path]:
    return [path for path in (output / "checkpoints").glob("checkpoint-*") if not (path / "complete.json").exists()]


@pytest.mark.parametrize("name", ["rsft", "hsdpo"])
def test_the_end_of_a_killed_training_is_that_of_one_left_alone(starts: dict[str, Start], tmp_path: Path, name: str) -> None:
    start, output = starts[name], tmp_path / "killed"
    for moment in MOMENTS[name]:
        process = start(output, moment)
        process.join()
        assert process.exitcode == moment.exitcode
        # What was being written is what was cut off.
        step = moment.line.removeprefix("step ").removesuffix(" of")
        assert [path.name for path in torn(output)] == ([] if moment.size is None else [f"checkpoint-{step}"])
    wanted = finished(start, tmp_path / "whole")
    assert finished(start, output) == wanted
    assert (output / "model.safetensors").read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()
    assert log_of(output) == log_of(tmp_path / "whole")
    assert len(log_of(output)) == wanted["steps"] == STEPS
    assert not torn(output)
