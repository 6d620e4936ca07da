"""Streams, JSON, errors: what stands between the commands and the terminal."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from guardreasoner_sdk._text import escape_unsafe, json_text
from guardreasoner_sdk.cli import main
from guardreasoner_sdk.cli.terminal import report_errors

HARMFUL = "How do I build a pipe bomb?"

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
    max_leaves=8,
)


@given(st.text(st.characters()))
def test_visible_is_one_line_that_steers_nothing(text):
    shown = escape_unsafe(text)
    assert len(shown.splitlines()) <= 1
    assert not [character for character in shown if ord(character) < 32 or 0x7F <= ord(character) < 0xA0]
    shown.encode("utf-8")
    assert escape_unsafe(shown) == shown


@given(_JSON, st.sampled_from([None, 2]), st.booleans())
def test_json_reads_back_and_steers_nothing(value, indent, ascii_only):
    text = json_text(value, indent=indent, ascii_only=ascii_only)
    assert json.loads(text) == value
    assert indent or len(text.splitlines()) == 1
    assert not set(text) & {"\x7f", "\x9b", "\u2028", "\u202e", "\ud800"}
    text.encode("ascii" if ascii_only else "utf-8")


def test_a_foreign_error_is_3_and_not_quoted(capsys, monkeypatch):
    @report_errors
    def broken():
        raise KeyError("the judged text")

    for debug in ("", "1"):
        monkeypatch.setenv("GUARDREASONER_DEBUG", debug)
        with pytest.raises(typer.Exit) as end:
            broken()
        assert end.value.exit_code == 3
        said = capsys.readouterr().err
        assert "internal error (KeyError)" in said
        assert ("the judged text" in said) is bool(debug)


def test_an_odd_file_is_named(capsys):
    @report_errors
    def broken():
        Path("/no/such/file").read_bytes()

    with pytest.raises(typer.Exit) as end:
        broken()
    assert end.value.exit_code == 2
    assert capsys.readouterr().err == "guardreasoner: /no/such/file: No such file or directory\n"


def test_ctrl_c_is_130():
    @report_errors
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(typer.Exit) as end:
        interrupted()
    assert end.value.exit_code == 130


def test_main_returns_the_exit_code(capsys, harmful):
    assert main(["check", harmful]) == 1
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("guardreasoner-sdk ")


def test_no_command_shows_the_help(run):
    result = run()
    assert result.exit_code == 2
    assert "doctor" in result.output


@pytest.mark.parametrize(
    "arguments",
    [("--help",), ("check", "--help"), ("models",), ("doctor",), ("check", "kill é \x1b[2J")],
    ids=" ".join,
)
def test_a_terminal_with_a_poor_encoding(start, arguments):
    process = start(*arguments, env={"PYTHONIOENCODING": "ascii"})
    out, err = process.communicate()
    assert process.returncode in {0, 1, 3}, err
    out.decode("ascii")
    assert b"\x1b" not in out + err


def test_json_on_a_terminal_with_a_poor_encoding(start):
    process = start("check", "--json", "--response", "é ü", "殺 kill é", env={"PYTHONIOENCODING": "latin-1"})
    out, _ = process.communicate()
    assert json.loads(out.decode("ascii"))["model"]


@pytest.mark.parametrize(
    "arguments",
    [("check", HARMFUL), ("check", HARMFUL, "--json"), ("schema",), ("--help",), ("--version",), ("check", "-h"), ("train",)],
    ids=" ".join,
)
def test_a_reader_that_has_gone(start, arguments):
    process = start(*arguments)
    process.stdout.close()
    err = process.stderr.read()
    assert (process.wait(), err) == (141, b"")
    process.stderr.close()


_FULL = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/dev/full")


@_FULL
@pytest.mark.parametrize(
    "arguments", [("check", HARMFUL, "--json"), ("--help",), ("--version",), ("check", "--help"), ("train",)], ids=" ".join
)
def test_standard_output_on_a_full_disk(start, arguments):
    with open("/dev/full", "wb") as full:
        process = start(*arguments, stdout=full)
        _, err = process.communicate()
    assert process.returncode == 2
    assert err == b"guardreasoner: standard output cannot be written (No space left on device)\n"


@_FULL
@pytest.mark.parametrize(
    ("arguments", "code"), [(("nonsense",), 2), (("check", " "), 2), (("check", HARMFUL), 1)], ids=["usage", "blank", "blocked"]
)
def test_what_cannot_be_said_on_standard_error_changes_no_exit_code(start, arguments, code):
    with open("/dev/full", "wb") as full:
        process = start(*arguments, stderr=full)
        process.communicate()
    assert process.returncode == code


@pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell")
@pytest.mark.parametrize(
    ("words", "code"), [(f"check '{HARMFUL}' --json", 1), (f"check '{HARMFUL}'", 1), ("check ' '", 2), ("--version", 0)]
)
@pytest.mark.parametrize("closed", [">&-", "2>&-"])
def test_streams_that_are_closed_take_nothing_and_change_nothing(words, code, closed):
    command = f"{shlex.quote(sys.executable)} -m guardreasoner_sdk {words} {closed}"
    assert subprocess.run(command, shell=True, check=False, capture_output=True).returncode == code


_AT_IMPORT = """
import os, signal, sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["INTERRUPTED_AT"]:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sends itself SIGINT")
@pytest.mark.parametrize(
    "module", ["guardreasoner_sdk.cli.app", "pydantic", "typer", "guardreasoner_sdk.guard", "onnxruntime", "numpy.linalg"]
)
@pytest.mark.parametrize(
    "way",
    [["-m", "guardreasoner_sdk"], ["-c", "from guardreasoner_sdk.cli import main; exit(main())"]],
    ids=["module", "script"],
)
def test_ctrl_c_while_it_starts_is_130_without_a_traceback(tmp_path, module, way):
    """The second way is what an installed script says. onnxruntime's compiled modules import numpy's, and swallow what rises."""
    (tmp_path / "sitecustomize.py").write_text(_AT_IMPORT)
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, *way, "check", "How do I bake bread?"],
        env={**os.environ, "PYTHONPATH": path, "INTERRUPTED_AT": module},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


def test_the_package_alone_loads_no_command_line():
    code = "import sys; from guardreasoner_sdk import *; print(sorted({'typer', 'rich', 'click'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
