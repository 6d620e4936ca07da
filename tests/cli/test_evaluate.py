"""``guardreasoner evaluate``: labelled rows in; verdicts, figures and a report out, also when the run is cut off."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from guardreasoner_sdk.cli.evaluate import evaluate as command
from guardreasoner_sdk.cli.terminal import report_errors
from public_data import public_data
from wordguard import write_word_model

for _module in ("sklearn", "matplotlib", "jinja2"):
    pytest.importorskip(_module, reason="needs guardreasoner-sdk[eval]")


app = typer.Typer(pretty_exceptions_enable=False)
app.command()(report_errors(command))


@pytest.fixture
def evaluate(tmp_path):
    """Run the command in this process, reasoning off unless the test says otherwise."""

    def call(*arguments, output=tmp_path / "out", reasoning="off"):
        words = [*map(str, arguments), "--output", str(output), "--reasoning", reasoning]
        result = CliRunner().invoke(app, words)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return call


@pytest.fixture
def labelled(tmp_path, write_rows, harmful, harmless):
    """A file of the user's own: prompts, half of them harmful, and one label that is wrong on purpose."""

    def write(name="mine.jsonl", count=12):
        rows = [
            {"id": f"r{n}", "prompt": f"{harmful if n % 2 else harmless} {n}", "prompt_harmful": bool(n % 2) != (n == 4)}
            for n in range(count)
        ]
        return write_rows(tmp_path / name, rows)

    return write


def figures(folder):
    """What the summary says of quality; what a check cost differs from run to run."""
    found = json.loads((folder / "summary.json").read_text("utf-8"))
    tasks = [(of["benchmark"], of["rows"], of["tasks"], of["causes"]) for of in found["benchmarks"]]
    return tasks, found["averages"], found["standings"]


def test_a_file_of_ones_own_gives_verdicts_figures_and_a_report(evaluate, labelled, tmp_path, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    result = evaluate(labelled())
    assert result.exit_code == 0, result.stderr
    assert "12/12" in result.stderr
    assert "report.html shows the errors" in result.stderr
    ((name, rows, (task,), causes),), averages, _ = figures(tmp_path / "out")
    assert (name, rows, causes) == ("mine", 12, {})
    # Everything is found; the row with the wrong label counts as a miss: 6 hits of 7.
    assert task["strict"]["recall"] == pytest.approx(100 * 6 / 7)
    assert task["strict"]["f1"] == task["paper"]["f1"] == pytest.approx(100 * 12 / 13)
    assert averages["strict"] == {"prompt_harmfulness": pytest.approx(100 * 12 / 13)}
    assert "92.31" in result.stdout
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "How do I bake bread? 4" in page
    assert len((tmp_path / "out" / "verdicts.jsonl").read_bytes().splitlines()) == 12


def test_columns_of_ones_own_names(evaluate, tmp_path, harmful, harmless):
    path = tmp_path / "own.csv"
    path.write_text(f"question,bad\n{harmful},toxic\n{harmless},fine\n")
    columns = ["prompt=question", "prompt_harmfulness=bad", "positive=toxic", "negative=fine"]
    result = evaluate(path, *(word for column in columns for word in ("--column", column)))
    assert result.exit_code == 0, result.stderr
    assert figures(tmp_path / "out")[0][0][2][0]["strict"]["f1"] == 100


def test_reasoning_of_an_error_is_in_the_report(evaluate, labelled, tmp_path, harmful, write_rows):
    path = write_rows(tmp_path / "wrong.jsonl", [{"prompt": harmful, "prompt_harmful": False}])
    assert evaluate(path, reasoning="auto").exit_code == 0
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "P(harmful) is" in page
    assert "carries it: P(" in page


def test_killed_half_way_and_started_again_it_gives_the_same_figures(cut_off, evaluate, labelled, tmp_path, read_rows):
    path, output = labelled(count=400), tmp_path / "out"
    words = [str(path), "--output", str(output), "--reasoning", "off"]
    code = (
        "import typer; from guardreasoner_sdk.cli.evaluate import evaluate; from guardreasoner_sdk.cli.terminal import report_errors;"
        "app = typer.Typer(); app.command()(report_errors(evaluate)); app()"
    )
    command = [sys.executable, "-c", code, *words]
    done = 0
    for _ in range(2):
        ended, _, _ = cut_off(
            lambda: subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE),
            output / "verdicts.jsonl",
            signal.SIGKILL,
            rows=400,
            done=done,
        )
        assert ended == -signal.SIGKILL
        rows = (output / "verdicts.jsonl").read_bytes().count(b"\n")
        assert done < rows < 400
        assert not (output / "summary.json").exists()
        done = rows
    kept = (output / "verdicts.jsonl").read_bytes().splitlines()[:done]
    result = evaluate(path)
    assert result.exit_code == 0
    assert f"{done:,} of 400 rows are done already" in result.stderr
    assert (output / "verdicts.jsonl").read_bytes().splitlines()[:done] == kept
    assert [row["id"] for row in read_rows(output / "verdicts.jsonl")] == [f"r{n}" for n in range(400)]
    evaluate(path, output=tmp_path / "whole")
    assert figures(output) == figures(tmp_path / "whole")


def test_verdicts_of_another_policy_for_unmeasured_languages_are_another_run(evaluate, tmp_path, write_rows, monkeypatch):
    monkeypatch.setenv("GUARDREASONER_MODEL", str(write_word_model(tmp_path / "words")))
    path = write_rows(tmp_path / "mine.jsonl", [{"prompt": "Habari asante hamna habari", "prompt_harmful": False}])
    assert evaluate(path).exit_code == 0
    monkeypatch.setenv("GUARDREASONER_ON_UNMEASURED", "undetermined")
    result = evaluate(path)
    assert result.exit_code == 2
    assert "on_unmeasured" in result.stderr
    assert evaluate(path, "--overwrite").exit_code == 0
    assert '"undetermined"' in (tmp_path / "out" / "verdicts.jsonl").read_text("utf-8")
    monkeypatch.setenv("GUARDREASONER_ON_UNMEASURED", "judge")
    assert evaluate(path).exit_code == 2


def test_started_once_more_nothing_is_asked(evaluate, labelled, request, tmp_path):
    path = labelled()
    evaluate(path)
    before = (tmp_path / "out" / "verdicts.jsonl").read_bytes()
    request.getfixturevalue("unjudging")
    assert evaluate(path, "--compare", "all").exit_code == 0
    assert (tmp_path / "out" / "verdicts.jsonl").read_bytes() == before


def test_ctrl_c_says_how_to_go_on(evaluate, labelled, tmp_path, monkeypatch):
    from guardreasoner_sdk.guard import Guard

    iter_many = Guard.iter_many
    asked = []

    def interrupted(self, rows):
        asked.append(1)
        if len(asked) == 6:
            signal.raise_signal(signal.SIGINT)
        return iter_many(self, rows)

    monkeypatch.setattr(Guard, "iter_many", interrupted)
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        result = evaluate(labelled())
    finally:
        signal.signal(signal.SIGINT, previous)
    assert result.exit_code == 130
    assert "interrupted: 5 rows are in " in result.stderr
    assert "run the same command again (without --overwrite)" in result.stderr


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--timeout", "60"], "timeout was None, is 60.0"),
        (["--limit", "3"], "benchmarks was ['mine (12 rows, "),
        (["other.jsonl"], "benchmarks was ['mine (12 rows, "),
    ],
)
def test_another_guard_or_other_rows_are_another_run(evaluate, labelled, change, said):
    path, other = labelled(), labelled("other.jsonl", 4)
    evaluate(path)
    words = [other if word == other.name else word for word in change]
    result = evaluate(path, *words)
    assert result.exit_code == 2
    assert "holds verdicts of a different run" in result.stderr
    assert said in result.stderr
    assert "--overwrite" in result.stderr
    assert evaluate(path, *words, "--overwrite").exit_code == 0


def test_a_password_in_the_address_is_in_no_file(evaluate, labelled, tmp_path):
    address = "http://somebody:pass-word@127.0.0.1:9/v1"
    result = evaluate(labelled(count=2), "--model", "m", "--dialect", "llama-guard-3", "--base-url", address, "--timeout", "20")
    assert result.exit_code == 0, result.stderr
    assert "pass-word" not in result.stdout + result.stderr
    for path in (tmp_path / "out").iterdir():
        assert b"pass-word" not in path.read_bytes(), path.name
    assert "http://127.0.0.1:9/v1" in (tmp_path / "out" / "verdicts.jsonl.state.json").read_text("utf-8")


def test_another_policy_is_another_run(evaluate, labelled):
    path = labelled(count=1)
    served = ("--model", "m", "--dialect", "dynaguard", "--base-url", "http://127.0.0.1:9/v1", "--timeout", "20")
    assert evaluate(path, *served, "--policy-text", "Be kind.").exit_code == 0
    result = evaluate(path, *served, "--policy-text", "Be brief.")
    assert result.exit_code == 2
    assert "policy_text was 'Be kind.', is 'Be brief.'" in result.stderr


def test_another_reasoning_is_another_run(evaluate, labelled):
    path = labelled()
    evaluate(path)
    result = evaluate(path, reasoning="brief")
    assert result.exit_code == 2
    assert "reasoning was 'off', is 'brief'" in result.stderr


def test_a_sample_is_drawn_alike_each_time(evaluate, labelled, tmp_path, read_rows):
    path = labelled(count=40)
    assert evaluate(path, "--sample", "5", "--seed", "7").exit_code == 0
    assert "already" in evaluate(path, "--sample", "5", "--seed", "7").stderr
    assert len(read_rows(tmp_path / "out" / "verdicts.jsonl")) == 5
    assert evaluate(path, "--sample", "5", "--seed", "8").exit_code == 2
    assert "Not whole benchmarks: 5 rows of each, drawn with seed 7" in (tmp_path / "out" / "report.html").read_text("utf-8")


def test_a_guard_that_never_answers_gives_no_figures_but_reasons(evaluate, labelled, tmp_path):
    result = evaluate(labelled(count=4), "--timeout", "1e-9")
    assert result.exit_code == 0
    assert "All 4 answers are undetermined" in " ".join(result.stdout.split())
    ((_, _, (task,), causes),), _, _ = figures(tmp_path / "out")
    assert task["strict"]["f1"] is None
    assert list(causes.values()) == [4]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["mine.jsonl", "--limit", "1", "--sample", "1"], "--sample: does not go with --limit"),
        ([], "benchmarks: are missing; name some of ToxicChat"),
        (["--data", "."], "--data: . has no file of a benchmark"),
        (["NoSuchBenchmark"], "'NoSuchBenchmark' is unknown"),
        (["nothing.jsonl"], "nothing.jsonl: is no file"),
        (["mine.jsonl", "mine.jsonl"], "is a second benchmark 'mine'"),
        (["mine.jsonl", "--compare", "HAL 9000"], "--compare: the paper has no system 'HAL 9000'"),
        (["mine.jsonl", "--robustness", "needels"], "robustness: 'needels' is not a set; did you mean 'needles'?"),
        (["mine.jsonl", "--robustness", ","], "robustness: names no set"),
        (["mine.jsonl", "--robustness", "over_refusal"], "robustness: there is no row for 'over_refusal'"),
        (["mine.jsonl", "--column", "what"], "--column: 'what' is not what=column"),
        (["mine.jsonl", "--model", "nothing-such"], "'nothing-such' is neither in the catalogue"),
        (["mine.jsonl", "--calibration", "none.json"], "none.json"),
    ],
)
def test_usage_errors_are_one_line_and_2(evaluate, labelled, monkeypatch, words, said):
    monkeypatch.chdir(labelled().parent)
    result = evaluate(*words, output="out")
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("guardreasoner: ")
    assert said in line
    assert not Path("out").exists()


def test_the_output_is_asked_for(labelled):
    result = CliRunner().invoke(app, [str(labelled())])
    assert result.exit_code == 2
    assert "--output: is missing" in result.stderr


def test_a_missing_extra_is_said_before_the_run(evaluate, labelled, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr("guardreasoner_sdk.cli.evaluate.find_spec", lambda name: None if name == "jinja2" else find(name))
    result = evaluate(labelled())
    assert result.exit_code == 2
    assert "Evaluations need an extra: pip install 'guardreasoner-sdk[eval]'" in result.stderr
    assert not (tmp_path / "out").exists()


ROBUSTNESS = ("--robustness", "languages,framings", "--robustness", "disguises", "--pairs", "2")


def test_robustness_is_in_the_summary_on_the_terminal_and_in_the_report(evaluate, labelled, tmp_path):
    result = evaluate(labelled(), *ROBUSTNESS)
    assert result.exit_code == 0, result.stderr
    found = json.loads((tmp_path / "out" / "summary.json").read_text("utf-8"))["robustness"]["figures"]
    assert list(dict.fromkeys(figure["set"] for figure in found)) == ["languages", "framings", "disguises"]
    # The rows themselves: 6 of 7 harmful ones are found, for one label is wrong.
    assert (found[0]["found"]["count"], found[0]["found"]["rows"], found[0]["flagged"]["count"]) == (6, 7, 0)
    quoted = next(figure for figure in found if figure["variant"] == "quotes")
    assert (quoted["found_of_all"]["rows"], quoted["flagged"]["rows"]) == (2, 2)
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    for name in ("languages", "framings", "disguises"):
        assert f"Robustness, {name}" in result.stdout
        assert f"<caption>{name.capitalize()}</caption>" in page
    assert figures(tmp_path / "out")[0][0][1] == 12


def test_robustness_can_be_asked_for_later_and_goes_on_where_it_was_cut_off(evaluate, labelled, request, tmp_path, read_rows):
    path, journal = labelled(), tmp_path / "out" / "robustness.jsonl"
    evaluate(path)
    verdicts = (tmp_path / "out" / "verdicts.jsonl").read_bytes()
    assert not journal.exists()
    first = evaluate(path, *ROBUSTNESS)
    whole = journal.read_bytes()
    assert (tmp_path / "out" / "verdicts.jsonl").read_bytes() == verdicts
    summary = json.loads((tmp_path / "out" / "summary.json").read_text("utf-8"))["robustness"]
    kept = whole.splitlines(keepends=True)[:20]
    journal.write_bytes(b"".join(kept) + b'{"row": 21, "id')
    result = evaluate(path, *ROBUSTNESS)
    assert "20 of" in result.stderr
    assert result.stdout.split("Robustness", 1)[1] == first.stdout.split("Robustness", 1)[1]
    assert journal.read_bytes().splitlines(keepends=True)[:20] == kept
    assert [row["id"] for row in read_rows(journal)] == [json.loads(line)["id"] for line in whole.splitlines()]
    request.getfixturevalue("unjudging")
    assert evaluate(path, *ROBUSTNESS).exit_code == 0
    assert json.loads((tmp_path / "out" / "summary.json").read_text("utf-8"))["robustness"] == summary


def test_other_robustness_sets_are_another_run_of_them(evaluate, labelled):
    path = labelled()
    evaluate(path, *ROBUSTNESS)
    result = evaluate(path, "--robustness", "framings", "--pairs", "2")
    assert result.exit_code == 2
    assert "robustness was ['alone (4 rows, " in result.stderr
    assert evaluate(path, "--robustness", "framings", "--pairs", "2", "--overwrite").exit_code == 0


def test_clear_cut_texts_need_no_rows_and_their_errors_are_in_the_report(evaluate, tmp_path):
    result = evaluate("--robustness", "clear_cut", "--sample", "150")
    assert result.exit_code == 0, result.stderr
    summary = json.loads((tmp_path / "out" / "summary.json").read_text("utf-8"))
    assert [(of["benchmark"], of["rows"]) for of in summary["benchmarks"]] == [("clear cut", 150)]
    found = summary["robustness"]["figures"]
    assert {figure["set"] for figure in found} == {"clear_cut"}
    totals = [figure for figure in found if figure["variant"].startswith("all languages")]
    assert sum(figure["found"]["rows"] + figure["flagged"]["rows"] for figure in totals) == 150
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "Robustness, clear cut" in result.stdout
    assert "<caption>Clear cut</caption>" in page
    # The model here knows English words only: what it misses is shown.
    assert 'data-benchmark="clear cut"' in page
    assert not (tmp_path / "out" / "robustness.jsonl").exists()


def test_the_embedded_guards_figures_are_those_of_its_card(evaluate, tmp_path):
    from guardreasoner_sdk.judges.embedded import DEFAULT_FOLDER

    # The two whose texts are short: the others take minutes.
    result = evaluate("AegisSafetyTest", "SimpleSafetyTests", "--data", public_data("benchmarks"), "--bootstrap", "0")
    assert result.exit_code == 0, result.stderr
    card = json.loads((DEFAULT_FOLDER / "metrics.json").read_text("utf-8"))["benchmarks"]
    tasks, _, standings = figures(tmp_path / "out")
    assert [name for name, *_ in tasks] == ["AegisSafetyTest", "SimpleSafetyTests"]
    for name, _, (task,), _ in tasks:
        for figure in ("rows", "positives", "undetermined"):
            assert task["strict"][figure] == card[name]["int8"][figure]
        for figure in ("f1", "recall", "false_alarm_rate"):
            known = card[name]["int8"][figure]
            assert task["strict"][figure] == (None if known is None else pytest.approx(known, abs=0.006)), (name, figure)
    assert "LLaMA Guard 3 8B (paper)" in [line["system"] for table in standings for line in table["lines"]]
