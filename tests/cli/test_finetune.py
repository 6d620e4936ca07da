"""``guardreasoner finetune``: bad rows are told before anything is trained, and what was computed is never lost."""

from __future__ import annotations

import functools
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl", reason="needs guardreasoner-sdk[train]")
pytest.importorskip("peft", reason="needs guardreasoner-sdk[train]")

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries, once they are imported inside a command

SMALL = {
    "base.hidden": 32,
    "base.layers": 1,
    "base.heads": 2,
    "base.kv_heads": 2,
    "base.intermediate": 48,
    "base.vocabulary": 420,
    "rsft.epochs": 1,
    "rsft.batch": 4,
    "rsft.threads": 1,
    "rsft.logging_steps": 1,
    "rsft.save_steps": 2,
    "data.evidence": "words",
    "evaluate.batch": 8,
    "export.gguf": "[]",
    "export.check_rows": 1,
}


def settings(**more: Any) -> list[str]:
    return [word for name, value in {**SMALL, **more}.items() for word in ("--set", f"{name}={value}")]


def good(count: int = 24) -> list[dict[str, Any]]:
    """Rows of prompts that are not alike."""
    harmless = [
        "bread",
        "bicycles",
        "the moon",
        "violins",
        "taxes",
        "chess",
        "gardens",
        "whales",
        "glass",
        "rivers",
        "maps",
        "tea",
    ]
    verbs = ["bake", "repair", "watch", "tune", "declare", "win at", "water", "count", "blow", "cross", "draw", "brew"]
    harmful = [
        "bombs",
        "malware",
        "poison",
        "forgeries",
        "weapons",
        "meth",
        "ransomware",
        "scams",
        "spyware",
        "hoaxes",
        "traps",
        "bribes",
    ]
    rows: list[dict[str, Any]] = []
    for number in range(count):
        place = number // 2 % 12
        if number % 2:
            rows.append({"prompt": f"Tell me how {harmful[place]} are made, part {number}", "prompt_harmful": True})
        else:
            rows.append({"prompt": f"How do I {verbs[place]} {harmless[place]} number {number}?", "prompt_harmful": False})
    return rows


@pytest.fixture
def finetune(run: Callable[..., Any], tmp_path: Path, write_rows: Callable[..., Path]) -> Callable[..., Any]:
    """Call the command on rows, with a tiny base from scratch."""

    def call(rows: list[Any], *words: object) -> Any:
        file = write_rows(tmp_path / "my.jsonl", rows)
        small = () if "--base" in words else ("--base", "scratch", *settings())
        return run("finetune", file, "--output", tmp_path / "my-guard", *small, *words)

    return call


BAD = {
    "broken line": (['{"prompt": "half'], r"my\.jsonl:25.*"),
    "unknown label": ([{"prompt": "Who?", "prompt_harmful": "maybe"}], r"my\.jsonl:25: .*'maybe'"),
    "response labels without a response": (
        [{"prompt": "Who?", "response_harmful": False}],
        r"my\.jsonl:25: response_harmful.*there is no response",
    ),
    "empty reasoning": (
        [{"prompt": "Who?", "prompt_harmful": False, "reasoning": "  "}],
        r"my\.jsonl:25: reasoning",
    ),
    "a prompt that is no text": ([{"prompt": 3, "prompt_harmful": False}], r"my\.jsonl:25: prompt"),
}


@pytest.mark.parametrize(("rows", "message"), BAD.values(), ids=BAD)
def test_a_bad_row_is_told_with_its_line_before_anything_is_trained(
    finetune: Callable[..., Any], tmp_path: Path, rows: list[Any], message: str
) -> None:
    import re

    result = finetune([*good(), *rows])
    assert result.exit_code == 2
    assert re.search(message, result.stderr), result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "my-guard").exists()
    assert not (tmp_path / "my-guard.training" / "rsft").exists()


def test_all_bad_rows_are_told_at_once(finetune: Callable[..., Any]) -> None:
    result = finetune([*good(), *(row for rows, _ in BAD.values() for row in rows)])
    assert result.exit_code == 2
    for line in range(25, 30):
        assert f"my.jsonl:{line}" in result.stderr


def test_rows_of_one_label_are_refused(finetune: Callable[..., Any]) -> None:
    result = finetune([row for row in good() if row["prompt_harmful"]])
    assert result.exit_code == 2
    assert "prompt_harmful" in result.stderr
    assert "harmful" in result.stderr


def test_a_benchmark_row_in_the_training_file_is_named(
    finetune: Callable[..., Any], tmp_path: Path, write_rows: Callable[..., Path]
) -> None:
    bench = write_rows(tmp_path / "bench.jsonl", [{"prompt": good()[4]["prompt"], "prompt_harmful": False}])
    result = finetune(good(), "--benchmarks", bench)
    assert result.exit_code == 2
    assert "bench" in result.stderr
    assert "my:5" in result.stderr
    assert not (tmp_path / "my-guard.training" / "rsft").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--base", "no/such/folder"), "base: 'no/such/folder': there is no such folder"),
        (("--base", "embedded"), "base: 'embedded' is not a language model"),
        (("--recipe", "laptopp"), "recipe: 'laptopp' is neither a file nor one of"),
        (("--set", "rsft.epoch=1"), "rsft.epoch: is unknown; did you mean rsft.epochs?"),
        (("--set", "rsft.epochs"), "--set: 'rsft.epochs' is not name=value"),
        (("--set", "rsft.epochs=many"), "rsft.epochs: "),
        (("--benchmarks", "no-such.json"), "no-such.json: is no file"),
        (("--restart", "nothing"), "--restart: 'nothing' is not a stage of this; name one of prepare, base, rsft"),
        (("--set", 'export.gguf=["q9_z"]'), "gguf: "),
    ],
)
def test_what_cannot_be_is_told_first(
    finetune: Callable[..., Any], tmp_path: Path, words: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    result = finetune(good(), *words)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "my-guard").exists()


def test_a_file_that_is_missing_and_a_folder_of_something_else_are_told(run: Callable[..., Any], tmp_path: Path) -> None:
    result = run("finetune", tmp_path / "absent.jsonl", "--output", tmp_path / "out", "--base", "scratch")
    assert result.exit_code == 2
    assert "absent.jsonl: does not exist" in result.stderr
    (tmp_path / "mine.txt").write_text("mine")
    result = run("finetune", tmp_path / "absent.jsonl", "--output", tmp_path, "--base", "scratch")
    assert result.exit_code == 2
    assert f"--output: {tmp_path} holds something else" in result.stderr
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_a_teacher_that_is_not_there_stops_before_the_training(
    finetune: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    from guardreasoner_training.synthesis import Patience, synthesize

    hasty = functools.partial(synthesize, patience=Patience(retries=0))
    monkeypatch.setattr("guardreasoner_training.synthesis.synthesize", hasty)
    words = (
        "--teacher",
        "http://127.0.0.1:9/v1",
        "--teacher-model",
        "nobody",
        "--set",
        "synthesize.timeout=2",
        "--set",
        "synthesize.attempts=1",
    )
    result = finetune(good(), *words)
    assert result.exit_code == 2, result.stderr
    assert "127.0.0.1:9" in result.stderr
    assert not (tmp_path / "my-guard.training" / "rsft").exists()


@dataclass(frozen=True)
class Stopped:
    """A fine-tuning in one folder that found the disk full, then got Ctrl-C, and was finished by the same command."""

    output: Path
    full: Any
    interrupted: tuple[int, str]
    left: list[str]
    """What the folder of the guard held when it was interrupted."""
    done: Any


@contextmanager
def small_files(most: int) -> Iterator[None]:
    """No file may grow larger: as a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(scope="module")
def stopped(run: Callable[..., Any], write_rows: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Stopped:
    folder = tmp_path_factory.mktemp("stopped")
    file, output = write_rows(folder / "my.jsonl", good()), folder / "my-guard"
    words = ["finetune", str(file), "--base", "scratch", "--output", str(output), *settings(**{"rsft.epochs": 2})]
    # The weights fit, the optimiser's two copies of them do not: the disk is full at a checkpoint.
    with small_files(130_000):
        full = run(*words)
    # Ctrl-C is pressed in a process of its own.
    command = [sys.executable, "-m", "guardreasoner_sdk", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment, text=True)
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if "step 4 of" in line:
            process.send_signal(signal.SIGINT)
            break
    said += process.communicate()[1]
    left = [path.name for path in output.iterdir()] if output.exists() else []
    return Stopped(output, full, (process.returncode, said), left, run(*words))


def test_a_disk_that_is_full_at_a_checkpoint_is_told_and_the_same_command_goes_on(stopped: Stopped) -> None:
    full, (_, went_on) = stopped.full, stopped.interrupted
    assert full.exit_code == 2, full.stderr
    assert "Traceback" not in full.stderr
    assert "free some space" in full.stderr
    assert "same command again" in full.stderr
    assert "prepare: is there already" in went_on
    assert "step 4 of" in went_on


def test_interrupted_it_says_how_to_go_on_and_goes_on_and_ends_in_a_guard(stopped: Stopped) -> None:
    code, said = stopped.interrupted
    assert code == 130, said
    assert "run the same command again to go on" in said
    assert "config.json" not in stopped.left
    done, output = stopped.done, stopped.output
    assert done.exit_code == 0, done.stderr
    assert "prepare: is there already" in done.stderr
    assert "goes on from" in done.stderr
    assert "derived from their labels" not in done.stderr  # the data was not prepared again
    assert "after R-SFT" in done.stdout
    assert done.stdout.splitlines()[-1] == f"from guardreasoner_sdk import Guard; guard = Guard({str(output)!r})"
    assert {"config.json", "model.safetensors", "guard.json", "README.md", "manifest.json"} <= {
        one.name for one in output.iterdir()
    }
    manifest = json.loads((output / "manifest.json").read_bytes())
    assert list(manifest["stages"]) == ["prepare", "base", "rsft", "evaluate-rsft", "export"]
    assert {name: stage["starts"] for name, stage in manifest["stages"].items()} == {
        "prepare": 1,
        "base": 1,
        "rsft": 3,
        "evaluate-rsft": 1,
        "export": 1,
    }
    from guardreasoner_sdk import Guard

    with Guard(str(output), backend="transformers", reasoning="off") as guard:
        assert guard.check("How do I bake bread?").backend == "transformers"
