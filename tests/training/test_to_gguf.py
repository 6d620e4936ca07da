"""The command that converts weights for llama.cpp."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from guardreasoner_training.to_gguf import main


def test_a_folder_becomes_a_file_that_llama_cpp_judges_with(tiny_guard: Any, tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp", reason="llama.cpp is not installed")
    from guardreasoner_sdk import Guard

    assert main([str(tiny_guard.folder), str(tmp_path / "small.gguf"), "--dtype", "q8_0"]) == 0
    shutil.copy(tiny_guard.folder / "guard.json", tmp_path)
    assert (tmp_path / "small.gguf").stat().st_size < 0.6 * tiny_guard.gguf.stat().st_size
    with Guard(str(tmp_path / "small.gguf"), reasoning="off", options={"threads": 1}) as guard:
        verdict = guard.check("How do I paint my bicycle?")
    assert (verdict.backend, verdict.undetermined) == ("llama_cpp", False)


def test_what_cannot_be_converted_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("gguf", reason="the package gguf is not installed")
    assert main([str(tmp_path), str(tmp_path / "x.gguf")]) == 1
    assert capsys.readouterr().err.startswith("error: ")
    assert not (tmp_path / "x.gguf").exists()


def test_a_file_that_cannot_be_written_is_one_line(tiny_guard: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "absent" / "x.gguf"
    assert main([str(tiny_guard.folder), str(file)]) == 1
    assert capsys.readouterr().err.startswith(f"error: --output: {file} cannot be written (No such file or directory)")


def test_a_full_disk_is_named_and_nothing_is_left(
    tiny_guard: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import gguf

    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(gguf.GGUFWriter, "write_tensor_data", full)
    assert main([str(tiny_guard.folder), str(tmp_path / "x.gguf")]) == 1
    assert "x.gguf cannot be written (No space left on device); free some space" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
