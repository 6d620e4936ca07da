"""ZeRO stage 3 with two processes on CPUs: the loss is that of a single process with as many rows to a step.

The first run on a machine compiles DeepSpeed's communication for CPUs, which takes about two minutes.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

for module in ("torch", "trl", "deepspeed"):
    pytest.importorskip(module, reason=f"ZeRO-3 needs {module}")

from guardreasoner_sdk.errors import ConfigurationError, InputError  # noqa: E402
from guardreasoner_training import _worker  # noqa: E402
from guardreasoner_training._trainers import launch  # noqa: E402
from guardreasoner_training.hsdpo import hsdpo  # noqa: E402
from guardreasoner_training.recipe import override  # noqa: E402
from guardreasoner_training.rsft import rsft  # noqa: E402
from guardreasoner_training.scratch import scratch  # noqa: E402
from samples import TRAINER, small_recipe, write  # noqa: E402

pytestmark = [
    pytest.mark.skipif(shutil.which("g++") is None, reason="DeepSpeed compiles its communication for CPUs with g++"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

COMMON = {**TRAINER, "batch": 1, "devices": 2, "logging_steps": 10, "save_steps": 100}
RECIPE = small_recipe("zero3", max_tokens=1024, rsft=COMMON, hsdpo=COMMON)
SPREAD = override(RECIPE, {"rsft.deepspeed": "zero3", "hsdpo.deepspeed": "zero3"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("zero3")
    rows = [
        {"prompt": "How do I bake? " * (number + 1), "prompt_harmful": number % 3 == 0, "id": str(number)}
        for number in range(8)
    ]
    answers = [f"Answers: \nRequest: {label}\nCompletion: None\nResponse: None" for label in ("harmful", "unharmful")]
    pairs = [
        {
            "prompt": row["prompt"],
            "response": None,
            "chosen": answers[number % 2],
            "rejected": answers[1 - number % 2],
            "alpha": 0.8 + number / 20,
        }
        for number, row in enumerate(rows)
    ]
    write(folder / "rows.jsonl", rows)
    write(folder / "pairs.jsonl", pairs)
    scratch(folder / "rows.jsonl", folder / "base", RECIPE, report=lambda _: None)
    return folder


def losses(output: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (output / "log.jsonl").read_text("utf-8").splitlines()]


@pytest.mark.parametrize(("name", "rows"), [("rsft", "rows"), ("hsdpo", "pairs")])
def test_the_loss_curve_is_that_of_one_process(
    folder: Path, tmp_path: Path, name: str, rows: str, capfd: pytest.CaptureFixture[str]
) -> None:
    stages: dict[str, Any] = {"rsft": rsft, "hsdpo": hsdpo}
    alone, together = tmp_path / "alone", tmp_path / "together"
    said: list[str] = []
    figures = stages[name](folder / f"{rows}.jsonl", folder / "base", alone, RECIPE, report=said.append)
    assert said[0] == (
        "the recipe is made for 2 devices, here are 1: batches of 1, 4 of them to a step, so that a step still has 4 rows"
    )
    inputs = {rows: folder / f"{rows}.jsonl", "base": folder / "base"}
    heard: list[str] = []
    capfd.readouterr()
    spread = launch.spread_over(2, name, SPREAD, restart=False, output=together, report=heard.append, **inputs)
    assert heard[0].startswith(f"8 {rows}, ")
    assert heard[-1].startswith("step 4 of 4: loss")
    assert not any(line.startswith("\x1e") for line in heard)
    assert capfd.readouterr().out == ""  # whatever the libraries write there
    assert len(losses(together)) == spread["steps"] == figures["steps"] == 4
    assert losses(together) == pytest.approx(losses(alone), abs=1e-5)
    assert spread["loss"] < spread["first_loss"]

    from safetensors.torch import load_file

    whole, parts = load_file(alone / "model.safetensors"), load_file(together / "model.safetensors")
    assert parts.keys() == whole.keys()
    for weights in whole:
        assert parts[weights].numpy() == pytest.approx(whole[weights].numpy(), abs=1e-4)

    # Cut off now, it cannot go on alone: the optimiser is spread over two, and one would begin it anew.
    (together / "figures.json").unlink()
    told = r"checkpoint-4 was written by 2 processes with DeepSpeed, and 1 process without DeepSpeed cannot go on from it"
    with pytest.raises(ConfigurationError, match=told):
        stages[name](folder / f"{rows}.jsonl", folder / "base", together, SPREAD, report=said.append)


def test_what_is_wrong_in_another_process_is_said_in_this_one(folder: Path, tmp_path: Path) -> None:
    rows, job = tmp_path / "rows.jsonl", tmp_path / "job.json"
    rows.write_text('{"prompt": "Hi", "prompt_harmful": "perhaps"}\n', "utf-8")
    arguments = {"rows": str(rows), "base": str(folder / "base"), "output": str(tmp_path / "out")}
    told = {"stage": "rsft", "arguments": arguments, "restart": False, "recipe": RECIPE.model_dump(mode="json")}
    job.write_text(json.dumps(told), "utf-8")
    assert _worker._work(job) == 1
    error = launch._error(tmp_path, "unknown")
    assert isinstance(error, InputError)
    assert f"{rows}:1" in str(error)
    (tmp_path / "none").mkdir()
    assert str(launch._error(tmp_path / "none", "unknown")) == "unknown"


def test_of_several_processes_with_something_to_say_the_first_is_heard(tmp_path: Path) -> None:
    for rank in (12, 3):
        (tmp_path / f"error-{rank:05}.json").write_text(json.dumps({"text": f"of {rank}", "input": None}), "utf-8")
    assert str(launch._error(tmp_path, "unknown")) == "of 3"
