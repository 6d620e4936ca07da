"""Every exit code: documented in one place, and given by a real process."""

from __future__ import annotations

import json
import re
import signal
import sys
import time
from pathlib import Path

import pytest

import guardreasoner_sdk
from guardreasoner_sdk.cli.terminal import ExitCode

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
        (4, ("calibrate", "{rows}", "--output", "c.json", "--recall", "0.95")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_a_process_ends_with_the_code_that_is_documented_and_without_a_traceback(start, tmp_path, labelled, code, words):
    assert code in _DOCUMENTED
    process = start(*(word.format(rows=labelled) for word in words), cwd=tmp_path)
    out, err = process.communicate()
    assert process.returncode == code, err.decode()
    assert b"Traceback" not in out + err
    assert bool(err) == (code in (2, 4))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl"]


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_an_interrupted_file_is_130_and_goes_on(start, tmp_path, write_rows, run):
    rows = write_rows(tmp_path / "rows.jsonl", [{"prompt": f"How do I bake bread for {number}?"} for number in range(3000)])
    arguments = ("check", "--file", rows, "--output", tmp_path / "out.jsonl")
    process = start(*arguments)
    output = tmp_path / "out.jsonl"
    while not output.exists() or not output.read_bytes().count(b"\n"):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert (process.returncode, out) == (130, b"")
    assert b"interrupted: " in err
    assert b"Traceback" not in err
    assert run(*arguments, "--quiet").exit_code == 0
    assert len([json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]) == 3000
