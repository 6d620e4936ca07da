"""``kill -9`` in R-SFT and in HS-DPO: started again, the end is that of a run which was left alone."""

from __future__ import annotations

import json
import multiprocessing
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="training needs torch")
pytest.importorskip("trl", reason="training needs TRL")

from guardreasoner_training.hsdpo import hsdpo  # noqa: E402
from guardreasoner_training.rsft import rsft  # noqa: E402
from guardreasoner_training.scratch import scratch  # noqa: E402
from samples import TRAINER, small_recipe, write  # noqa: E402

RECIPE = small_recipe(
    "resume",
    max_tokens=1024,
    rsft={**TRAINER, "epochs": 3, "group_by_length": True},
    # Dropout in the adapters needs the state of the random numbers, too.
    hsdpo={**TRAINER, "epochs": 3, "precompute_reference": True, "tuning": "lora", "lora": {"rank": 4, "dropout": 0.1}},
)
ANSWERS = [f"Answers: \nRequest: {label}\nCompletion: None\nResponse: None" for label in ("harmful", "unharmful")]

Start = Callable[[Path], Any]


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
            "guardreasoner_training._trainers.sft",
            "guardreasoner_training._trainers.dpo",
            "guardreasoner_training._trainers.model",
        ]
    )
    stages = {"rsft": (rsft, "rows"), "hsdpo": (hsdpo, "pairs")}

    def starting(name: str) -> Start:
        stage, rows = stages[name]

        def start(output: Path) -> Any:
            arguments = (folder / f"{rows}.jsonl", folder / "base", output, RECIPE)
            process = context.Process(target=stage, args=arguments, kwargs={"report": str})
            process.start()
            return process

        return start

    return {name: starting(name) for name in stages}


def finished(start: Start, output: Path) -> dict[str, Any]:
    process = start(output)
    process.join()
    assert process.exitcode == 0
    return {name: value for name, value in json.loads((output / "figures.json").read_bytes()).items() if name != "seconds"}


def log_of(output: Path) -> list[dict[str, Any]]:
    lines = (json.loads(line) for line in (output / "log.jsonl").read_text("utf-8").splitlines())
    return [{name: value for name, value in line.items() if name not in ("seconds", "num_tokens")} for line in lines]


def torn(output: Path) -> list[Path]:
    return [path for path in (output / "checkpoints").glob("checkpoint-*") if not (path / "complete.json").exists()]


def killed(process: Any) -> None:
    process.kill()
    process.join()


def killed_while_it_writes_a_checkpoint(start: Start, output: Path) -> None:
    # A busy machine may finish a checkpoint, or all of them, before the signal is there.
    for _ in range(25):
        if (output / "figures.json").exists():
            shutil.rmtree(output)
        process = start(output)
        while process.is_alive() and not torn(output):
            time.sleep(0.0005)
        killed(process)
        if torn(output):
            return
    pytest.fail("no checkpoint was cut off")


@pytest.mark.parametrize("name", ["rsft", "hsdpo"])
def test_the_end_of_a_killed_training_is_that_of_one_left_alone(starts: dict[str, Start], tmp_path: Path, name: str) -> None:
    start = starts[name]
    began = time.monotonic()
    wanted = finished(start, tmp_path / "whole")
    seconds = time.monotonic() - began
    output = tmp_path / "killed"
    moments = random.Random(name)  # whenever it is
    for moment in (moments.random(), moments.random()):
        process = start(output)
        process.join(seconds * moment)
        killed(process)
    if not (output / "figures.json").exists():
        killed_while_it_writes_a_checkpoint(start, output)
    assert finished(start, output) == wanted
    assert (output / "model.safetensors").read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()
    assert log_of(output) == log_of(tmp_path / "whole")
    assert len(log_of(output)) == wanted["steps"] == 15
    assert not torn(output)
