"""A command line to call, in this process and in another."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from guardreasoner_sdk.judges.embedded import EmbeddedJudge

HARMFUL = "how to kill my neighbour and hide the body"
HARMLESS = "How do I bake bread?"


@pytest.fixture
def harmful() -> str:
    """A prompt that every model here blocks."""
    return HARMFUL


@pytest.fixture
def harmless() -> str:
    """A prompt that every model here allows."""
    return HARMLESS


@pytest.fixture(autouse=True)
def _model(tiny_model: Path, _no_settings_from_outside: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GUARDREASONER_MODEL", str(tiny_model))


@pytest.fixture
def unjudging(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is judged in such a test. A guard makes an undetermined verdict of any error, so that it is looked at afterwards."""
    tried: list[object] = []
    judge_now = EmbeddedJudge.judge_now

    def judged(self: EmbeddedJudge, *rows: Any, **options: Any) -> Any:
        tried.append(rows)
        return judge_now(self, *rows, **options)

    monkeypatch.setattr(EmbeddedJudge, "judge_now", judged)
    yield
    assert not tried


@pytest.fixture(scope="session")
def run() -> Callable[..., Result]:
    """Call the command line in this process."""
    from guardreasoner_sdk.cli.app import app

    def call(*arguments: object, stdin: str | bytes | None = None) -> Result:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return call


@pytest.fixture
def start() -> Callable[..., subprocess.Popen[bytes]]:
    """Start the command line in a process of its own."""

    def call(*arguments: object, **options: Any) -> subprocess.Popen[bytes]:
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.PIPE)
        environment = {**os.environ, **options.pop("env", {})}
        command = [sys.executable, "-m", "guardreasoner_sdk", *map(str, arguments)]
        return subprocess.Popen(command, env=environment, **options)

    return call


@pytest.fixture(scope="session")
def cut_off() -> Callable[..., tuple[int, bytes, bytes]]:
    """Start a process, and signal it as soon as it has written more than ``done`` lines to a file: how it ended, and its output.

    On a busy machine it may be through before that is noticed. Then what was there is put back, and it is begun anew.
    """

    def call(
        launch: Callable[[], subprocess.Popen[bytes]], path: Path, number: signal.Signals, *, rows: int, done: int = 0
    ) -> tuple[int, bytes, bytes]:
        kept = {file: file.read_bytes() for file in path.parent.glob("*") if file.is_file()}
        for _ in range(10):
            process = launch()
            while process.poll() is None and _lines(path) <= done:
                time.sleep(0.01)
            process.send_signal(number)
            out, err = process.communicate()
            # Seen once in a night: the process aborts in foreign code while it ends. It is begun anew, unless it does so each time.
            aborted = process.returncode == -signal.SIGABRT
            if not aborted and (_lines(path) < rows or process.returncode not in (0, 1)):
                return process.returncode, out or b"", err
            for file in path.parent.glob("*"):
                if file.is_file():
                    file.unlink()
            for file, data in kept.items():
                file.write_bytes(data)
        pytest.fail(f"it was through before it could be cut off, ten times: {err!r}")

    return call


def _lines(path: Path) -> int:
    try:
        return path.read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


@pytest.fixture(scope="session")
def write_rows() -> Callable[[Path, Iterable[Any]], Path]:
    """Write a file of JSON lines; a row given as bytes or str is written as it is."""

    def write(path: Path, rows: Iterable[Any]) -> Path:
        with path.open("wb") as file:
            for row in rows:
                text = row if isinstance(row, str | bytes) else json.dumps(row)
                file.write((text if isinstance(text, bytes) else text.encode()) + b"\n")
        return path

    return write


@pytest.fixture(scope="session")
def read_rows() -> Callable[[Path], list[dict[str, Any]]]:
    """Read a file of JSON lines."""
    return lambda path: [json.loads(line) for line in path.read_bytes().splitlines()]
