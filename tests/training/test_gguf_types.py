"""Types of GGUF file: those written here, and those that llama.cpp's own quantiser writes."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

gguf = pytest.importorskip("gguf", reason="needs guardreasoner-sdk[train]")

from guardreasoner_sdk.errors import ConfigurationError  # noqa: E402
from guardreasoner_training.export import quantize as module  # noqa: E402
from guardreasoner_training.export.quantize import kept_weights, quantize_gguf  # noqa: E402
from guardreasoner_training.gguf import export_gguf  # noqa: E402
from guardreasoner_training.weights import stored_tensors  # noqa: E402


def tensors(path: Path) -> dict[str, Any]:
    return {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}


@pytest.mark.parametrize(("kind", "step"), [("f16", 2**-11), ("bf16", 2**-8), ("q8_0", None)])
def test_each_type_keeps_the_weights_to_its_own_precision(
    tiny_guard: Any, tmp_path: Path, kind: Any, step: float | None
) -> None:
    path = tmp_path / f"x.{kind}.gguf"
    export_gguf(tiny_guard.folder, path, dtype=kind)
    whole, found = tensors(tiny_guard.gguf), tensors(path)
    assert whole.keys() == found.keys()
    for name, tensor in whole.items():
        own = gguf.quants.dequantize(found[name].data, found[name].tensor_type).reshape(-1)
        expected = np.asarray(tensor.data, dtype=np.float32).reshape(-1)
        if "norm" in name:
            assert found[name].tensor_type == gguf.GGMLQuantizationType.F32
            assert np.array_equal(own, expected)
        elif step is not None:
            assert np.abs(own - expected).max() <= step * np.abs(expected).max()
        else:
            blocks = np.abs(expected.reshape(-1, 32)).max(axis=1)
            assert (np.abs(own - expected).reshape(-1, 32).max(axis=1) <= blocks / 127).all()


def test_weights_stored_in_bf16_are_exact_in_a_bf16_file(tiny_guard: Any, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs guardreasoner-sdk[train]")
    transformers = pytest.importorskip("transformers", reason="needs guardreasoner-sdk[train]")
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny_guard.folder, dtype=torch.bfloat16)
    folder = tmp_path / "half"
    model.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(tiny_guard.folder).save_pretrained(folder, save_jinja_files=False)
    export_gguf(folder, tmp_path / "half.gguf", dtype="bf16")
    stored = stored_tensors(folder)["model.embed_tokens.weight"].load()
    found = tensors(tmp_path / "half.gguf")["token_embd.weight"]
    assert np.array_equal(gguf.quants.dequantize(found.data, found.tensor_type), stored)


def test_llama_cpp_quantises_to_further_types(tiny_guard: Any, tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp", reason="llama.cpp is not installed")
    quantize_gguf(tiny_guard.gguf, tmp_path / "x.gguf", "q4_0")
    found = gguf.GGUFReader(tmp_path / "x.gguf")
    assert any(tensor.tensor_type == gguf.GGMLQuantizationType.Q4_0 for tensor in found.tensors)
    assert found.get_field("guardreasoner.dialect").contents() == "guardreasoner"
    assert found.get_field("tokenizer.chat_template").contents()
    assert (tmp_path / "x.gguf").stat().st_size < 0.25 * tiny_guard.gguf.stat().st_size


def test_rows_that_a_type_does_not_fit_are_told_by_what_they_became(tiny_guard: Any, tmp_path: Path) -> None:
    """Most of the tiny guard's rows are no multiples of 256, the block of the K types: llama.cpp takes larger ones for them."""
    pytest.importorskip("llama_cpp", reason="llama.cpp is not installed")
    quantize_gguf(tiny_guard.gguf, tmp_path / "x.q4_k_m.gguf", "q4_k_m")
    found = kept_weights(tmp_path / "x.q4_k_m.gguf")
    assert found["bits"] == pytest.approx(
        8 * sum(t.n_bytes for t in tensors(tmp_path / "x.q4_k_m.gguf").values()) / weights_of(tiny_guard), abs=0.01
    )
    assert found["bits"] > 5.5  # where Q4_K itself has 4.5
    assert next(iter(found["types"])) == "Q5_0"
    assert sum(found["types"].values()) == pytest.approx(1)
    assert kept_weights(tiny_guard.gguf) == {"bits": 32.0, "types": {"F32": 1.0}}


def weights_of(guard: Any) -> int:
    return sum(int(tensor.n_elements) for tensor in tensors(guard.gguf).values())


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program called llama-quantize, and no llama-cpp-python."""
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    path = tmp_path / "bin" / "llama-quantize"
    path.parent.mkdir()
    path.write_text(
        f"#!{sys.executable}\nimport sys, shutil\nsource, output, kind = sys.argv[1:]\n"
        "if kind == 'Q4_0': shutil.copy(source, output)\n"
        "else: sys.exit('unknown quantisation type ' + kind)\n",
        encoding="utf-8",
    )
    path.chmod(path.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}{os.environ['PATH']}")
    return path


def test_the_program_of_llama_cpp_does_where_its_library_is_not_installed(program: Path, tmp_path: Path) -> None:
    source = tmp_path / "source.gguf"
    source.write_bytes(b"GGUF")
    quantize_gguf(source, tmp_path / "x.gguf", "q4_0")
    assert (tmp_path / "x.gguf").read_bytes() == b"GGUF"
    with pytest.raises(ConfigurationError, match="could not quantise to 'q9': unknown quantisation type Q9"):
        quantize_gguf(source, tmp_path / "y.gguf", "q9")
    assert not list(tmp_path.glob("y.gguf*"))


def test_without_llama_cpp_a_further_type_names_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match=r"which is not installed; pip install llama-cpp-python, .* or use f32"):
        quantize_gguf(tmp_path / "source.gguf", tmp_path / "x.gguf", "q4_k_m")
