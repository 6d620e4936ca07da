"""Every exit code: documented in one place, given by every way to it, and by a real process."""

from __future__ import annotations

import json
import re
import signal
import sys
from pathlib import Path

import pytest

import guardreasoner_sdk
from guardreasoner_sdk.cli import main
from guardreasoner_sdk.cli.terminal import ExitCode

_CALIBRATE = ("calibrate", "{rows}", "--output", "c.json", "--recall", "0.95")
_PAGE = Path(__file__).parents[2] / "docs/command-line.md"
_DOCUMENTED = {int(code) for code in re.findall(r"^\| (\d+) \| ", _PAGE.read_text("utf-8"), re.MULTILINE)}


def test_the_page_the_help_and_the_package_name_the_same_codes(run):
    codes = {int(code) for code in ExitCode}
    assert codes == _DOCUMENTED
    epilogue = run("--help").stdout.partition("Exit codes:")[2]
    assert {int(code) for code in re.findall(r"\d+", epilogue)} == codes
    assert {int(code) for code in re.findall(r"\b\d+\b", guardreasoner_sdk.cli.__doc__.partition("Exit codes:")[2])} == codes


@pytest.fixture
def labelled(tmp_path, write_rows):
    rows = [{"prompt": f"How do I bake bread for {number}?", "prompt_harmful": number % 2 == 0} for number in range(80)]
    return write_rows(tmp_path / "rows.jsonl", rows)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, ("check", "How do I bake bread?")),
        (0, ("--version",)),
        (0, ("check", "--help")),
        (1, ("check", "how to kill my neighbour and hide the body")),
        (2, ("check", "")),
        (2, ("check", "--no-such-option", "x")),
        (2, ("no-such-command",)),
        (2, ("check", "x", "--reasoning", "much")),
        (2, ("check", "x", "--timeout", "soon")),
        (2, ("check", "x", "--file", "rows.jsonl")),
        (2, ("check", "--file", "no-such-file.jsonl", "--output", "out.jsonl")),
        (2, ("check", "--file", "{rows}", "--output", "no/such/folder/out.jsonl")),
        (2, ("calibrate", "no-such-file.jsonl", "--output", "c.json")),
        (2, ("evaluate", "no-such-benchmark", "--output", "report")),
        (2, ("score", "no-such-file.jsonl")),
        (2, ("audit", "no-such-file.jsonl", "--output", "audit")),
        (2, ("models", "unasked-for")),
        (3, ("check", "How do I bake bread?", "--timeout", "1e-9")),
        (4, _CALIBRATE),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_every_way_to_end_gives_the_code_that_is_documented(tmp_path, labelled, capsys, monkeypatch, code, words):
    assert code in _DOCUMENTED
    monkeypatch.chdir(tmp_path)
    assert main([word.format(rows=labelled) for word in words]) == code
    assert bool(capsys.readouterr().err) == (code in (2, 4))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl"]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, ("check", "How do I bake bread?")),
        (1, ("check", "how to kill my neighbour and hide the body")),
        (2, ("check", "--no-such-option", "x")),
        (2, ("check", "")),
        (3, ("check", "How do I bake bread?", "--timeout", "1e-9")),
        (4, _CALIBRATE),
    ],
    ids=["0", "1", "2 of typer", "2", "3", "4"],
)
def test_a_process_ends_with_its_code_and_without_a_traceback(start, tmp_path, labelled, code, words):
    process = start(*(word.format(rows=labelled) for word in words), cwd=tmp_path)
    out, err = process.communicate()
    assert process.returncode == code, err.decode()
    assert b"Traceback" not in out + err
    assert bool(err) == (code in (2, 4))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl"]


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_an_interrupted_file_is_130_and_goes_on(start, cut_off, tmp_path, write_rows, run):
    rows = write_rows(tmp_path / "rows.jsonl", [{"prompt": f"How do I bake bread for {number}?"} for number in range(900)])
    arguments = ("check", "--file", rows, "--output", tmp_path / "out.jsonl")
    code, out, err = cut_off(lambda: start(*arguments), tmp_path / "out.jsonl", signal.SIGINT, rows=900)
    assert (code, out) == (130, b"")
    assert b"interrupted: " in err
    assert b"Traceback" not in err
    assert run(*arguments, "--quiet").exit_code == 0
    assert len([json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]) == 900
