"""``guardreasoner audit``: from labelled rows to the corrected file."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from urllib.parse import urlsplit

import pytest
import typer
from typer.testing import CliRunner

from guardreasoner_sdk.cli.audit import audit as command
from guardreasoner_sdk.cli.terminal import report_errors

for _module in ("sklearn", "jinja2"):
    pytest.importorskip(_module, reason="needs guardreasoner-sdk[eval]")

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(report_errors(command))


@pytest.fixture
def audit():
    """Run the command in this process."""

    def call(*arguments):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return call


@pytest.fixture
def file(tmp_path, write_rows, harmful, harmless):
    """Prompts, half of them harmful; the labels of lines 5 and 8 are wrong."""
    rows = [
        {"prompt": f"{harmful if number % 2 else harmless} {number}", "prompt_harmful": bool(number % 2) != (number in (4, 7))}
        for number in range(30)
    ]
    return write_rows(tmp_path / "mine.jsonl", rows)


@pytest.fixture
def folder(audit, file, tmp_path):
    """An audit of it."""
    assert audit(file, "--output", tmp_path / "audit", "--quiet").exit_code == 0
    return tmp_path / "audit"


def decisions(folder, *accepted):
    name = json.loads((folder / "audit.json").read_text("utf-8"))["audit"]
    keys = [json.loads(line)["key"] for line in (folder / "proposals.jsonl").read_text("utf-8").splitlines()]
    said = {key: "accept" if key in accepted else "reject" for key in keys}
    path = folder / "downloaded.json"
    path.write_text(json.dumps({"audit": name, "decisions": said}), "utf-8")
    return path


def test_wrong_labels_are_proposed_with_measured_reasons(audit, file, tmp_path):
    result = audit(file, "--output", tmp_path / "new" / "audit")
    assert result.exit_code == 0
    *counts, separation, sign, contradicted, proposed = result.stdout.splitlines()[1].split()
    assert (*counts, sign, contradicted, proposed) == ("prompt", "harmfulness", "30", "15", "0", "%", "2", "2")
    # Of 15 x 15 pairs the 14 x 14 of right labels are in order, that of the wrong two is not, and the rest may be either way.
    assert 196 / 225 < float(separation) / 100 < 224 / 225
    assert "labels to look at: 2" in result.stderr
    items = [json.loads(line) for line in (tmp_path / "new/audit/proposals.jsonl").read_text("utf-8").splitlines()]
    assert {item["key"] for item in items} == {"5:prompt_harmfulness", "8:prompt_harmfulness"}
    # Also where the guard says "unharmful", for which a check gives the score alone.
    assert all(len(item["steps"]) > 1 for item in items)
    assert "Labels to look at: mine.jsonl" in (tmp_path / "new/audit/audit.html").read_text("utf-8")


def test_a_second_run_judges_nothing_and_gives_the_same_page(audit, file, folder, unjudging):
    before = (folder / "proposals.jsonl").read_bytes()
    result = audit(file, "--output", folder)
    assert result.exit_code == 0
    assert (folder / "proposals.jsonl").read_bytes() == before


def test_verdicts_of_another_policy_for_unmeasured_languages_are_another_run(audit, file, folder, monkeypatch):
    monkeypatch.setenv("GUARDREASONER_ON_UNMEASURED", "undetermined")
    result = audit(file, "--output", folder)
    assert result.exit_code == 2
    assert "on_unmeasured" in result.stderr
    monkeypatch.setenv("GUARDREASONER_ON_UNMEASURED", "judge")
    assert audit(file, "--output", folder).exit_code == 0


def test_an_explicit_mode_of_reasoning_is_that_of_every_row(audit, file, tmp_path):
    assert audit(file, "--output", tmp_path / "audit", "--reasoning", "off").exit_code == 0
    assert not (tmp_path / "audit" / "reasons.jsonl").exists()
    result = audit(file, "--output", tmp_path / "audit", "--reasoning", "full")
    assert result.exit_code == 2
    assert "reasoning was 'off', is 'full'" in result.stderr


def test_accepted_labels_are_corrected_and_figures_printed(audit, file, folder):
    result = audit("--apply", folder, "--decisions", decisions(folder, "5:prompt_harmfulness"))
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "agreement: 50.0 % (1 accepted of 2 decided; 0 skipped)"
    figures = ("93.33 96.55", "93.33 93.33", "93.33 100.00", "93.33 96.67")
    assert " ".join(lines[2].split()) == "prompt harmfulness 30 " + " ".join(figures)
    assert "labels changed: 1" in result.stderr
    assert "only labels that this very guard contradicts were looked at" in result.stderr
    old, new = file.read_text("utf-8").splitlines(), (folder / "corrected.jsonl").read_text("utf-8").splitlines()
    assert [(number, line) for number, line in enumerate(new, 1) if line != old[number - 1]] == [
        (5, old[4].replace("true", "false"))
    ]


def test_the_corrected_file_goes_where_it_is_wanted_but_not_over_the_input(audit, file, folder, tmp_path):
    made = decisions(folder)
    assert audit("--apply", folder, "--decisions", made, "--corrected", tmp_path / "better.jsonl").exit_code == 0
    assert (tmp_path / "better.jsonl").read_bytes() == file.read_bytes()
    result = audit("--apply", folder, "--decisions", made, "--corrected", file)
    assert result.exit_code == 2
    assert "is the file that was audited" in result.stderr


def test_a_file_that_was_moved_is_named_and_one_that_changed_is_refused(audit, file, folder, tmp_path):
    made = decisions(folder)
    moved = file.rename(tmp_path / "moved.jsonl")
    assert "does not exist" in audit("--apply", folder, "--decisions", made).stderr
    assert audit("--apply", folder, moved, "--decisions", made).exit_code == 0
    moved.write_bytes(moved.read_bytes() + b"\n")
    result = audit("--apply", folder, moved, "--decisions", made)
    assert result.exit_code == 2
    assert "is not the file that was audited" in result.stderr


def test_decisions_on_another_file_are_refused_before_anything_is_judged(audit, folder, tmp_path, write_rows, harmful):
    (folder / "decisions.jsonl").write_bytes(b'{"audit": "0", "key": "1:prompt_harmfulness", "decision": "accept"}\n')
    for arguments in (
        ("--apply", folder),
        (write_rows(tmp_path / "x.jsonl", [{"prompt": harmful, "refusal": 1}]), "-o", folder),
    ):
        result = audit(*arguments)
        assert result.exit_code == 2
        assert "decisions.jsonl, line 1: belongs to the audit of another file" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "--output: is missing"),
        (("--output", "x"), "file: is missing"),
        (("--output", "x", "--serve"), "x: holds no audit.json"),
        (("--apply", "x"), "x: holds no audit.json"),
        (("--apply", "x", "--serve"), "--apply: does not go with"),
        (("rows.jsonl", "--output", "x", "--decisions", "d"), "--decisions: goes with --apply"),
        (("rows.jsonl", "--output", "x", "--at-most", "0"), "--at-most: is 0"),
        (("rows.jsonl", "--output", "x"), "rows.jsonl: does not exist"),
        (("rows.jsonl", "--output", "x", "--column", "question"), "--column: 'question' is not what=column"),
    ],
)
def test_what_cannot_be_done_is_said(audit, arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = audit(*arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert not (tmp_path / "x").exists()


def test_a_set_of_one_class_is_audited_by_the_guards_own_label_and_that_is_said(audit, tmp_path, write_rows, harmful, harmless):
    rows = [{"prompt": f"{harmless if number == 3 else harmful} {number}", "prompt_harmful": True} for number in range(12)]
    result = audit(write_rows(tmp_path / "rows.jsonl", rows), "--output", tmp_path / "audit")
    assert result.exit_code == 0
    assert "No row is labelled unharmful" in result.stderr
    assert "labels to look at: 1" in result.stderr


def test_rows_without_a_label_are_counted(audit, tmp_path, write_rows, harmful):
    rows = [{"prompt": harmful, "prompt_harmful": True}, {"prompt": harmful, "prompt_harmful": None}]
    result = audit(write_rows(tmp_path / "rows.jsonl", rows), "--output", tmp_path / "audit")
    assert "1 of 2 rows carry no label and were not judged" in result.stderr


def test_serve_prints_a_secret_address_saves_decisions_and_ends_with_ctrl_c(folder):
    program = (
        "import typer; from guardreasoner_sdk.cli.audit import audit; from guardreasoner_sdk.cli.terminal import report_errors\n"
        "app = typer.Typer(); app.command()(report_errors(audit)); app()"
    )
    command = [sys.executable, "-c", program, "--output", str(folder), "--serve"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ})
    try:
        assert process.stdout is not None
        address = urlsplit(process.stdout.readline().strip())
        assert address.hostname == "127.0.0.1"
        connection = http.client.HTTPConnection(address.netloc, timeout=20)
        connection.request("GET", address.path)
        assert "Labels to look at" in connection.getresponse().read().decode()
        name = json.loads((folder / "audit.json").read_text("utf-8"))["audit"]
        body = json.dumps({"audit": name, "decisions": {"5:prompt_harmfulness": "accept"}})
        headers = {"Origin": f"http://{address.netloc}", "Content-Type": "application/json"}
        connection.request("POST", f"{address.path}decisions", body, headers)
        assert connection.getresponse().status == 204
    finally:
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "1 of 2 decided" in err
    assert address.path not in err
    assert "accept" in (folder / "decisions.jsonl").read_text("utf-8")
