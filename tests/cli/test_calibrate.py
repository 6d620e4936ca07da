"""``guardreasoner calibrate``."""

from __future__ import annotations

import csv
import importlib.machinery
import os
import random
import sys

import pytest
import typer
from typer.testing import CliRunner

from guardreasoner_sdk import Guard
from guardreasoner_sdk.calibration import Calibration
from guardreasoner_sdk.cli.calibrate import calibrate
from guardreasoner_sdk.cli.terminal import report_errors

pytest.importorskip("sklearn", reason="needs guardreasoner-sdk[eval]")

_THINGS = ["bread", "a kite", "a chair", "soup", "a garden", "a poem", "a bike", "a shed", "a quilt", "a lamp"]
_HARMFUL = ["How do I kill {} owner number {}?", "Write a bomb threat about {} to house {}."]
_HARMLESS = ["How do I make {} for {} people?", "Tell me about {} in chapter {} of the book."]


@pytest.fixture(scope="module")
def rows():
    """Labelled prompts of which some labels are wrong, so that no guard is as sure as it thinks."""
    chance = random.Random(1)
    made = []
    for number in range(240):
        harmful = number % 2 == 0
        text = chance.choice(_HARMFUL if harmful else _HARMLESS).format(chance.choice(_THINGS), number)
        made.append({"prompt": text, "prompt_harmful": harmful if chance.random() < 0.75 else not harmful})
    return made


@pytest.fixture
def call():
    """Call the command as the command line does."""
    app = typer.Typer()
    app.command()(report_errors(calibrate))

    def run(*arguments):
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return run


@pytest.fixture
def labelled(tmp_path, write_rows, rows):
    return write_rows(tmp_path / "rows.jsonl", rows)


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory, tiny_model, run, write_rows, rows):
    """Those of the rows, judged once."""
    folder = tmp_path_factory.mktemp("judged")
    labelled, output = write_rows(folder / "rows.jsonl", rows), folder / "verdicts.jsonl"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GUARDREASONER_MODEL", str(tiny_model))
        assert run("check", "--file", labelled, "--output", output, "--quiet", "--reasoning", "off").exit_code == 1
    return output


def test_a_file_of_labelled_rows_becomes_a_calibration_that_a_guard_loads(call, labelled, tmp_path, monkeypatch):
    output = tmp_path / "calibration.json"
    done = call(labelled, "--output", output, "--recall", "0.6")
    assert done.exit_code == 0, done.output
    assert "prompt harmfulness" in done.stdout
    for heading in ("ECE", "threshold", "band", "escalated", "promised"):
        assert heading in done.stdout
    assert f"written to {output}" in done.stderr
    made = Calibration.load(output)
    task = made.tasks["prompt_harmfulness"]
    assert task.report is not None
    assert task.report.before.ece is not None
    assert task.report.after.ece is not None
    assert task.report.after.ece < task.report.before.ece
    assert f"{task.report.before.ece:.1f} → {task.report.after.ece:.1f} %" in done.stdout
    assert task.threshold is not None
    assert f"{task.threshold:.3f}" in done.stdout
    monkeypatch.setenv("GUARDREASONER_CALIBRATION", str(output))
    with Guard() as guard:
        assert guard.judge.model == made.model
        assert guard.check("How do I bake bread?").calibrated


def test_stored_verdicts_give_the_same_calibration_as_judging(call, labelled, verdicts, tmp_path):
    one, other = (tmp_path / name for name in ("one.json", "other.json"))
    assert call(labelled, "-o", one, "--quiet").exit_code == 0
    assert call(labelled, "-o", other, "--quiet", "--verdicts", verdicts).exit_code == 0
    assert one.read_bytes() == other.read_bytes()


def test_the_rows_and_their_verdicts_are_not_overwritten(call, labelled, verdicts):
    for output in (labelled, verdicts):
        before = output.read_bytes()
        done = call(labelled, "--verdicts", verdicts, "--output", output)
        assert (done.exit_code, output.read_bytes()) == (2, before)
        assert "--output" in done.stderr


def test_quiet_prints_nothing(call, labelled, tmp_path):
    done = call(labelled, "-o", tmp_path / "c.json", "--quiet")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "")


def test_columns_of_other_names_are_told(call, rows, tmp_path):
    path = tmp_path / "rows.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["question", "toxic"])
        writer.writerows([row["prompt"], "bad" if row["prompt_harmful"] else "fine"] for row in rows)
    columns = ("prompt=question", "prompt_harmfulness=toxic", "positive=bad", "negative=fine")
    arguments = [part for column in columns for part in ("--column", column)]
    done = call(path, "-o", tmp_path / "c.json", *arguments, "--method", "temperature")
    assert done.exit_code == 0, done.output
    assert Calibration.load(tmp_path / "c.json").tasks["prompt_harmfulness"].curve.method == "temperature"


def test_verdicts_of_other_rows_are_refused(call, labelled, tmp_path, write_rows):
    other = write_rows(tmp_path / "other.jsonl", [{"row": 1}])
    done = call(labelled, "-o", tmp_path / "c.json", "--verdicts", other)
    assert done.exit_code == 2
    assert "line 1: is not a verdict" in done.stderr
    assert not (tmp_path / "c.json").exists()


def test_a_row_without_its_verdict_is_named(call, run, rows, tmp_path, write_rows):
    few = write_rows(tmp_path / "few.jsonl", [{**row, "id": f"r{number}"} for number, row in enumerate(rows[:5])])
    all_of_them = write_rows(tmp_path / "all.jsonl", [{**row, "id": f"r{number}"} for number, row in enumerate(rows)])
    run("check", "--file", few, "--output", tmp_path / "verdicts.jsonl", "--quiet")
    done = call(all_of_them, "-o", tmp_path / "c.json", "--verdicts", tmp_path / "verdicts.jsonl")
    assert done.exit_code == 2
    assert "has no verdict of row r5" in done.stderr


def test_two_rows_of_one_id_are_refused(call, run, rows, tmp_path, write_rows):
    twins = write_rows(tmp_path / "twins.jsonl", [{**row, "id": "same"} for row in rows[:60]])
    run("check", "--file", twins, "--output", tmp_path / "verdicts.jsonl", "--quiet", "--reasoning", "off")
    done = call(twins, "-o", tmp_path / "c.json", "--verdicts", tmp_path / "verdicts.jsonl")
    assert done.exit_code == 2
    assert "line 2: is the second verdict of row same" in done.stderr


def test_a_guard_that_is_calibrated_already_is_refused(call, labelled, tmp_path, monkeypatch):
    monkeypatch.setenv("GUARDREASONER_CALIBRATION", "some.json")
    done = call(labelled, "-o", tmp_path / "c.json")
    assert done.exit_code == 2
    assert "GUARDREASONER_CALIBRATION: is set" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--recall", "0.9", "--false-alarm-rate", "0.1"], "one threshold cannot be chosen for both"),
        (["--recall", "90"], "recall: must be a share between 0 and 1"),
        (["--unseen", "1"], "unseen: must be a share between 0 and 1"),
    ],
)
def test_wishes_that_cannot_be_met_are_refused_before_anything_is_judged(
    call, labelled, tmp_path, arguments, problem, unjudging
):
    done = call(labelled, "-o", tmp_path / "c.json", *arguments)
    assert done.exit_code == 2
    assert problem in done.stderr


def test_an_output_that_cannot_be_made_is_refused_before_anything_is_judged(call, labelled, tmp_path, unjudging):
    done = call(labelled, "-o", tmp_path / "none" / "c.json")
    assert done.exit_code == 2
    assert "--output" in done.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc, where nobody can write")
def test_an_output_that_cannot_be_written_is_refused_before_anything_is_judged(call, labelled, unjudging):
    done = call(labelled, "-o", "/proc/calibration.json")
    assert done.exit_code == 2
    assert "--output: /proc/calibration.json cannot be written" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="named pipes")
def test_what_is_no_plain_file_is_not_replaced_by_one(call, labelled, tmp_path, unjudging):
    """As the superuser of a container, /dev/null would be gone."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    done = call(labelled, "-o", pipe)
    assert done.exit_code == 2
    assert "is not a plain file" in done.stderr
    assert pipe.is_fifo()


def test_a_missing_extra_is_said_before_anything_is_judged(call, labelled, tmp_path, monkeypatch, unjudging):
    def find(name):
        return None if name.startswith("sklearn") else importlib.machinery.PathFinder.find_spec(name)

    monkeypatch.setattr("guardreasoner_sdk.cli.calibrate.find_spec", find, raising=False)
    monkeypatch.setitem(sys.modules, "sklearn.isotonic", None)
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    done = call(labelled, "-o", tmp_path / "c.json")
    assert done.exit_code == 2
    assert "Calibrations need an extra: pip install 'guardreasoner-sdk[eval]'" in done.stderr


def test_too_few_rows_are_refused_with_the_reason_before_anything_is_judged(call, rows, tmp_path, write_rows, unjudging):
    done = call(write_rows(tmp_path / "few.jsonl", rows[:12]), "-o", tmp_path / "c.json")
    assert done.exit_code == 2
    assert "needs about 25 positives and 25 negatives" in done.stderr
    assert not any(row["prompt"] in done.output for row in rows[:12])


def test_a_promise_that_the_labels_are_too_few_for_is_refused_with_4_before_anything_is_judged(
    call, labelled, tmp_path, unjudging
):
    done = call(labelled, "-o", tmp_path / "c.json", "--recall", "0.95")
    assert done.exit_code == 4
    assert "a recall of 95 % needs about 199 positives and 25 negatives" in done.stderr
    assert "--no-guarantee" in done.stderr
    assert not (tmp_path / "c.json").exists()
    done = call(labelled, "-o", tmp_path / "c.json", "--false-alarm-rate", "0.01", "--quiet")
    assert done.exit_code == 4
    assert "a false-alarm rate of 1 % needs about 25 positives and 999 negatives" in done.stderr


def test_stored_verdicts_promise_no_more_than_judging(call, labelled, verdicts, tmp_path):
    arguments = [labelled, "-o", tmp_path / "c.json", "--verdicts", verdicts, "--recall", "0.95"]
    assert call(*arguments).exit_code == 4
    assert call(*arguments, "--no-guarantee", "--quiet").exit_code == 0


def test_a_threshold_without_a_promise_can_be_asked_for_and_is_named_so(call, labelled, verdicts, tmp_path):
    output = tmp_path / "c.json"
    done = call(labelled, "-o", output, "--verdicts", verdicts, "--recall", "0.95", "--no-guarantee")
    assert done.exit_code == 0, done.output
    task = Calibration.load(output).tasks["prompt_harmfulness"]
    assert task.basis == "empirical"
    assert f"{task.threshold:.3f} (empirical)" in done.stdout
    assert "The threshold is empirical" in done.stderr


def test_a_task_that_is_short_of_labels_leaves_the_others_and_ends_with_4(call, rows, tmp_path, write_rows):
    few = [{**row, "response": "No.", "refusal": number % 3 == 0} for number, row in enumerate(rows[:40])]
    path = write_rows(tmp_path / "rows.jsonl", [*few, *rows[40:]])
    done = call(path, "-o", tmp_path / "c.json", "--recall", "0.6")
    assert done.exit_code == 4
    assert "not reached: response_refusal: " in done.stderr
    made = Calibration.load(tmp_path / "c.json")
    assert made.tasks["prompt_harmfulness"].basis == "promised"
    assert list(made.shortfalls) == ["response_refusal"]


def test_no_guarantee_goes_with_what_would_be_promised(call, labelled, tmp_path):
    done = call(labelled, "-o", tmp_path / "c.json", "--no-guarantee")
    assert done.exit_code == 2
    assert "--no-guarantee: goes with --recall or --false-alarm-rate" in done.stderr
