"""``guardreasoner export``: one command from a trained folder to files that a guard runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl", reason="needs guardreasoner-sdk[train]")
pytest.importorskip("gguf", reason="needs guardreasoner-sdk[train]")
pytest.importorskip("peft", reason="needs guardreasoner-sdk[train]")

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries, once they are imported inside a command


def test_a_trained_folder_becomes_files_and_lines_that_use_them(
    run: Callable[..., Any], tiny_guard: Any, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    words = ("--gguf", "q8_0", "--rows", tiny_guard.examples, "--check", "1")
    result = run("export", tiny_guard.folder, "--output", output, *words)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == [
        f"from guardreasoner_sdk import Guard; guard = Guard({str(output)!r})",
        f"guard = Guard({str(output / 'out.q8_0.gguf')!r})",
    ]
    assert "safetensors: 1 of 1 answers equal to the letter; 1 with equal labels" in result.stderr
    assert "# out\n" in (output / "README.md").read_text("utf-8")


def test_none_writes_no_gguf_file(run: Callable[..., Any], tiny_guard: Any, tmp_path: Path) -> None:
    result = run("export", tiny_guard.folder, "--output", tmp_path / "out", "--gguf", "none", "--check", "0")
    assert result.exit_code == 0, result.stderr
    assert not list((tmp_path / "out").glob("*.gguf"))
    assert "were not compared" in (tmp_path / "out" / "README.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("absent",), "model: there is no folder 'absent'"),
        (("{tiny}", "--rows", "absent.jsonl"), "absent.jsonl: does not exist"),
        (("{tiny}", "--gguf", "f16", "--gguf", "f16"), "gguf: 'f16' is named twice"),
    ],
)
def test_what_cannot_be_exported_is_told(
    run: Callable[..., Any],
    tiny_guard: Any,
    tmp_path: Path,
    words: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [word.format(tiny=tiny_guard.folder) for word in words]
    result = run("export", *given, "--output", tmp_path / "out")
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "out").exists()
