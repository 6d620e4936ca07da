"""``doctor``, ``models``, ``schema`` and ``--version``."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import subprocess
import sys

import jsonschema
import pytest

from guardreasoner_sdk import Verdict, __version__
from guardreasoner_sdk.catalog import BACKENDS, MODELS, BackendInfo
from guardreasoner_sdk.cli import doctor as doctor_module
from guardreasoner_sdk.cli import models as models_module


def test_version(run):
    assert run("--version").stdout == f"guardreasoner-sdk {__version__}\n"


def test_schema_fits_a_verdict(run, harmful):
    schema = json.loads(run("schema").stdout)
    assert schema == Verdict.model_json_schema(mode="serialization")
    jsonschema.validate(json.loads(run("check", harmful, "--json").stdout), schema)


def test_models(run):
    shown = run("models").stdout
    listed = json.loads(run("models", "--json").stdout)
    assert [row["name"] for row in listed] == list(MODELS)
    for row in listed:
        assert row["name"] in shown
        assert row["runs_here"] is (row["why_not"] is None)
    assert listed[0]["runs_here"]


def test_models_can_be_asked_for_by_what_they_do(run):
    options = ("--task", "response", "--language", "de", "--licence", "apache-2.0", "--parameters", "1")
    listed = json.loads(run("models", *options, "--json").stdout)
    assert [row["name"] for row in listed] == ["embedded", "qwen3guard-0.6b", "duoguard-0.5b"]
    assert listed[1]["facts"]["licence"].startswith("huggingface.co/Qwen/Qwen3Guard-Gen-0.6B ")
    [smol] = json.loads(run("models", "--licence", "cc-by", "--parameters", "1", "--json").stdout)
    assert smol["wire_format"].startswith("hf.co/ToxicityPrompts/PolyGuard-Qwen-Smol: README.md; github.com/kpriyanshu256/")
    assert smol["tasks"] == ["prompt_harmfulness", "response_refusal", "response_harmfulness"]
    assert {row["reasons"] for row in json.loads(run("models", "--reasons", "--json").stdout)} == {True}
    assert {row["takes_policy"] for row in json.loads(run("models", "--own-policy", "--json").stdout)} == {True}
    assert {row["runs_here"] for row in json.loads(run("models", "--runs-here", "--json").stdout)} == {True}
    nothing = run("models", "--licence", "proprietary")
    assert "no model of the catalogue is all of that" in nothing.stderr
    assert run("models", "--task", "toxicity").exit_code == 2


def test_a_model_whose_engine_is_not_installed(run, monkeypatch):
    absent = BackendInfo("embedded", "", None, ("no_such_module",))
    monkeypatch.setattr(models_module, "BACKENDS", {**BACKENDS, "embedded": absent})
    assert json.loads(run("models", "--json").stdout)[0]["why_not"] == "embedded needs no_such_module"
    assert "no: embedded needs no_such_module" in run("models").stdout


@pytest.fixture
def no_local_engine(monkeypatch):
    """As with the core alone."""
    absent = {
        name: dataclasses.replace(info, modules=("no_such_module",)) if info.extra else info for name, info in BACKENDS.items()
    }
    monkeypatch.setattr(models_module, "BACKENDS", absent)


def test_a_model_that_a_server_can_run_is_no_model_that_cannot_run(run, no_local_engine):
    listed = {row["name"]: row for row in json.loads(run("models", "--json").stdout)}
    assert listed["guardreasoner-8b"]["ready"] == ["remote"]
    assert listed["guardreasoner-8b"]["why_not"] == "vllm needs no_such_module; a server can run it: --base-url"
    assert listed["embedded"]["ready"] == ["embedded"]
    unable = {line.partition("\t")[0] for line in run("models").stdout.splitlines() if "\tno: " in line}
    assert unable == {name for name, info in MODELS.items() if info.is_classifier}  # which no server runs


def test_models_in_a_pipe_are_lines_with_tabs(run):
    heading, *lines = (line.split("\t") for line in run("models").stdout.splitlines())
    assert [line[0] for line in lines] == list(MODELS)
    assert heading[:4] == ["model", "context", "licence", "runs here by"]
    assert {len(line) for line in (heading, *lines)} == {13}
    assert all(cell == cell.strip() for line in lines for cell in line)


@pytest.mark.skipif(sys.platform == "win32", reason="a pseudo-terminal")
@pytest.mark.parametrize("width", [80, 40])
def test_models_fit_a_terminal(width):
    import fcntl
    import pty
    import struct
    import termios

    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    command = [sys.executable, "-m", "guardreasoner_sdk", "models"]
    process = subprocess.Popen(command, stdout=slave, env={**environment, "TERM": "xterm", "NO_COLOR": "1"})
    os.close(slave)
    shown = b""
    with contextlib.suppress(OSError):  # what Linux says when the other side has closed
        while part := os.read(master, 4096):
            shown += part
    os.close(master)
    assert process.wait() == 0
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown.decode()).splitlines()
    assert max(map(len, lines)) <= width
    assert all(any(line.startswith(name) for line in lines) for name in MODELS)


def test_doctor(run):
    result = run("doctor")
    assert result.exit_code == 0
    report = json.loads(run("doctor", "--json").stdout)
    assert report["default_guard"]["works"]
    assert "judged one prompt in" in report["default_guard"]["detail"]
    assert [row["name"] for row in report["backends"]] == list(BACKENDS)
    for row in report["backends"]:
        assert row["name"] in result.stdout
        if row["missing"] and BACKENDS[row["name"]].extra:
            assert row["install"] == f"pip install 'guardreasoner-sdk[{BACKENDS[row['name']].extra}]'"
            assert row["install"] in result.stdout
    assert report["cpus"] >= 1
    assert report["packages"]["pydantic"]


@pytest.mark.parametrize(("address", "detail"), [("", "ready; needs --base-url"), ("http://localhost:8000/v1", "ready")])
def test_doctor_says_that_the_remote_engine_needs_a_server(run, monkeypatch, address, detail):
    monkeypatch.setenv("GUARDREASONER_BASE_URL", address)
    (remote,) = [row for row in json.loads(run("doctor", "--json").stdout)["backends"] if row["name"] == "remote"]
    assert (remote["works"], remote["detail"]) == (True, detail)


def test_doctor_masks_secrets_and_spots_slips(run, monkeypatch):
    monkeypatch.setenv("GUARDREASONER_API_KEY", "sk-very-secret")
    monkeypatch.setenv("GUARDREASONER_BASE_ULR", "https://me:very-secret@host/v1")
    result = run("doctor")
    assert "very-secret" not in result.output
    assert "GUARDREASONER_API_KEY=********" in result.stdout
    assert "GUARDREASONER_BASE_ULR=https://********@host/v1  (no such setting)" in result.stdout


def test_doctor_says_what_is_wrong(run, monkeypatch, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.onnx").touch()
    monkeypatch.setenv("GUARDREASONER_MODEL", str(tmp_path))
    result = run("doctor")
    assert result.exit_code == 3
    assert "does not work" in result.stdout
    assert "tokenizer.model is missing" in result.stdout


def test_doctor_when_the_guard_does_not_decide(run, monkeypatch):
    monkeypatch.setenv("GUARDREASONER_TIMEOUT", "1e-9")
    result = run("doctor", "--json")
    assert result.exit_code == 3
    assert "does not decide" in json.loads(result.stdout)["default_guard"]["detail"]


def test_doctor_when_an_engine_cannot_be_loaded(run, monkeypatch):
    class Broken:
        batch_size, backend = 1, "embedded"

        @property
        def model(self):
            raise OSError("libgomp.so.1 is missing")

        async def judge(self, exchanges, *, deadline):
            raise NotImplementedError

        async def aclose(self):
            pass

    monkeypatch.setattr(doctor_module, "EmbeddedJudge", Broken)
    embedded = json.loads(run("doctor", "--json").stdout)["backends"][0]
    assert not embedded["works"]
    assert embedded["detail"] == "fails with OSError: libgomp.so.1 is missing"


def test_doctor_and_engines_that_are_not_installed(run, monkeypatch):
    backends = {
        "a": BackendInfo("a", "", "extra-a", ("no_such_module",)),
        "b": BackendInfo("b", "", None, ("json",)),
        "c": BackendInfo("c", "", None, ("no_such_module",)),
    }
    monkeypatch.setattr(doctor_module, "BACKENDS", backends)
    a, b, c = json.loads(run("doctor", "--json").stdout)["backends"]
    assert (a["works"], a["detail"]) == (False, "needs no_such_module")
    assert a["install"] == "pip install 'guardreasoner-sdk[extra-a]'"
    assert (b["works"], b["install"]) == (True, None)
    assert (c["works"], c["install"]) == (False, "pip install 'guardreasoner-sdk'")


@pytest.mark.parametrize(
    ("script", "seen"),
    [
        ("#!/bin/sh\necho 'NVIDIA H100, 81559 MiB'\n", ["NVIDIA H100, 81559 MiB"]),
        ("#!/bin/sh\nexit 9\n", ["nvidia-smi is there and fails (CalledProcessError)"]),
        (None, []),
    ],
)
def test_gpus(run, monkeypatch, tmp_path, script, seen):
    if script is not None:
        tool = tmp_path / "nvidia-smi"
        tool.write_text(script)
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/no/such/folder")
    assert json.loads(run("doctor", "--json").stdout)["gpus"] == seen


def test_a_gpu_tool_that_hangs(run, monkeypatch):
    monkeypatch.setattr(doctor_module.shutil, "which", lambda _: "/bin/nvidia-smi")

    def hang(*_, **options):
        raise subprocess.TimeoutExpired("nvidia-smi", options["timeout"])

    monkeypatch.setattr(doctor_module.subprocess, "run", hang)
    assert json.loads(run("doctor", "--json").stdout)["gpus"] == ["nvidia-smi is there and fails (TimeoutExpired)"]
