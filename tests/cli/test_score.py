"""``guardreasoner score``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from guardreasoner_sdk.cli.score import score
from guardreasoner_sdk.cli.terminal import report_errors

ANSWER = "Answers: \nRequest: {}\nCompletion: None\nResponse: None"


@pytest.fixture
def call() -> Callable[..., Result]:
    """Call the command."""
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(report_errors(score))

    def run(*arguments: object) -> Result:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return run


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    """A folder of stored answers, as the authors' repository has it."""
    for size, says in (("1B", ("harmful", "harmful", "unharmful")), ("8B", ("harmful", "unharmful", "harmful"))):
        folder = tmp_path / "test" / size / "AegisSafetyTest"
        folder.mkdir(parents=True)
        rows = [
            {"prompt": "Human user:\nx\n\nAI assistant:\nNone\n\n", "label": label, "predict": ANSWER.format(said)}
            for label, said in zip(("harmful", "unharmful", "harmful"), says, strict=True)
        ]
        (folder / "generated_predictions.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    return tmp_path / "test"


def test_the_table_shows_both_rules_beside_what_the_paper_prints(call: Callable[..., Result], answers: Path) -> None:
    result = call(answers, "--compare", "LLaMA Guard 3 8B", "--compare", "gpt-4")
    assert result.exit_code == 0
    header, first, second, *sentences = result.stdout.splitlines()
    assert header.split("  ")[0] == "guard"
    for title in ("F1, paper's rule", "printed", "F1, strict", "LLaMA Guard 3 8B", "GPT-4", "undetermined", "left out"):
        assert title in header
    assert first.split()[:2] == ["GuardReasoner", "1B"]
    assert first.split()[-8:] == ["50.00", "89.34", "50.00", "71.39", "85.16", "0", "0", "0"]
    assert second.split()[-8:] == ["100.00", "90.18", "100.00", "71.39", "85.16", "0", "0", "0"]
    assert "here are 3 rows, and the paper counts 359." in "\n".join(sentences)


def test_json_and_the_output_file_hold_all_figures(call: Callable[..., Result], answers: Path, tmp_path: Path) -> None:
    output = tmp_path / "figures.json"
    result = call(answers / "8B", "--json", "--output", output)
    [found] = json.loads(result.stdout)
    assert json.loads(output.read_text("utf-8")) == [found]
    assert (found["guard"], found["benchmark"], found["task"]) == ("GuardReasoner 8B", "AegisSafetyTest", "prompt_harmfulness")
    assert (found["paper"]["f1"], found["strict"]["f1"], found["printed"]) == (100.0, 100.0, 90.18)
    assert found["paper"]["rows"] == 3


def test_verdicts_of_check_are_scored_with_the_rows_they_are_about(
    call: Callable[..., Result], run: Callable[..., Result], tmp_path: Path, harmful: str, harmless: str
) -> None:
    rows = tmp_path / "rows.jsonl"
    texts = [(harmful, "bad"), (harmless, "fine"), (harmless, "bad")]
    rows.write_text("".join(json.dumps({"prompt": text, "toxic": word}) + "\n" for text, word in texts), "utf-8")
    verdicts = tmp_path / "verdicts.jsonl"
    assert run("check", "--file", rows, "--output", verdicts, "--quiet").exit_code in (0, 1)
    mapping = ("--column", "prompt_harmfulness=toxic", "--column", "positive=bad", "--column", "negative=fine")
    result = call(verdicts, "--labels", rows, *mapping, "--json")
    assert result.exit_code == 0, result.stderr
    [found] = json.loads(result.stdout)
    assert found["benchmark"] == "rows"
    assert (found["strict"]["true_positives"], found["strict"]["false_negatives"], found["strict"]["true_negatives"]) == (
        1,
        1,
        1,
    )
    assert found["strict"]["f1"] == pytest.approx(66.67, abs=0.01)
    result = call(verdicts)
    assert result.exit_code == 2
    assert "name the rows that they are about: --labels" in result.stderr


def test_two_runs_of_one_guard_are_told_apart_by_their_files(call: Callable[..., Result], tmp_path: Path) -> None:
    row: dict[str, Any] = {"row": 1, "benchmark": "set", "labels": {"prompt_harmfulness": True}}
    row["verdict"] = {"model": "m", "prompt_harmfulness": {"label": "harmful"}}
    for name in ("off.jsonl", "full.jsonl"):
        (tmp_path / name).write_text(json.dumps(row), "utf-8")
    lines = call(tmp_path).stdout.splitlines()
    assert [line.split()[:2] for line in lines[1:3]] == [["m", "#1"], ["m", "#2"]]
    assert lines[4:6] == [f"#1: {tmp_path / 'full.jsonl'}", f"#2: {tmp_path / 'off.jsonl'}"]


def test_the_answers_are_not_overwritten(call: Callable[..., Result], answers: Path) -> None:
    path = answers / "8B" / "AegisSafetyTest" / "generated_predictions.jsonl"
    before = path.read_bytes()
    result = call(answers, "--output", path)
    assert (result.exit_code, path.read_bytes()) == (2, before)
    assert "--output" in result.stderr


def test_a_hostile_name_cannot_steer_the_terminal(call: Callable[..., Result], tmp_path: Path) -> None:
    row: dict[str, Any] = {"row": 1, "benchmark": "\x1b[2Jset", "labels": {"prompt_harmfulness": True}}
    row["verdict"] = {"model": "m\x1b]0;x", "prompt_harmfulness": {"label": "harmful"}}
    path = tmp_path / "verdicts.jsonl"
    path.write_text(json.dumps(row), "utf-8")
    result = call(path)
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["nowhere"], "does not exist"),
        ([".", "--compare", "GPT-9"], "the paper has no system 'GPT-9'"),
        ([".", "--task", "toxicity"], "'toxicity' is unknown"),
        ([".", "--column", "prompt=x"], "goes with --labels"),
        (["."], "holds no stored answers"),
        (["1B", "--output", "none/x.json"], "cannot be written"),
    ],
)
def test_a_usage_error_is_one_line(
    call: Callable[..., Result],
    answers: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    problem: str,
) -> None:
    monkeypatch.chdir(answers if arguments[0] == "1B" else tmp_path)
    if arguments == ["."]:
        empty = tmp_path / "empty"
        empty.mkdir()
        monkeypatch.chdir(empty)
    result = call(*arguments)
    assert result.exit_code == 2
    assert problem in result.stderr
    assert len(result.stderr.splitlines()) == 1
