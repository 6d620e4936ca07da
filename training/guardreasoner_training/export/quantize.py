"""Types of GGUF files that only llama.cpp can write, by its own quantiser where it is installed; and what came out."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from guardreasoner_sdk.data.atomic import replacing
from guardreasoner_sdk.errors import ConfigurationError

__all__ = ["check_kind", "kept_weights", "quantize_gguf"]

_PROGRAM: Final = "llama-quantize"
_TYPE: Final = "LLAMA_FTYPE_MOSTLY_"


def quantize_gguf(source: Path, output: Path, kind: str) -> None:
    """Quantise a GGUF file by llama.cpp: by llama-cpp-python, or by the program ``llama-quantize`` on the path.

    Args:
        source: a GGUF file in full precision (f32, f16 or bf16).
        output: the file; it appears only when it is complete.
        kind: as llama.cpp calls it, in small letters: ``q4_k_m``, ``q5_0``.

    Raises:
        ConfigurationError: llama.cpp is not installed, does not know the type, or fails.
    """
    check_kind(kind)
    with replacing(output) as fresh:
        if find_spec("llama_cpp") is not None:
            _by_library(source, fresh, kind)
        else:
            _by_program(source, fresh, kind)


def check_kind(kind: str) -> None:
    """Look whether llama.cpp is here and knows a type, as far as can be told without a model.

    Raises:
        ConfigurationError: it is not, or does not.
    """
    if find_spec("llama_cpp") is not None:
        import llama_cpp

        known = sorted(name.removeprefix(_TYPE).lower() for name in dir(llama_cpp) if name.startswith(_TYPE))
        if kind not in known:
            raise ConfigurationError(f"gguf: llama.cpp knows no type {kind!r}; known are {', '.join(known)}")
    elif shutil.which(_PROGRAM) is None:
        raise ConfigurationError(
            f"gguf: {kind!r} is written by llama.cpp's own quantiser, which is not installed; "
            "pip install llama-cpp-python, put llama-quantize on the path, or use f32, f16, bf16 or q8_0"
        )


def kept_weights(file: Path) -> dict[str, Any]:
    """What a GGUF file really holds.

    llama.cpp's names stand for mixtures, and where the blocks of a type do not fit into the rows of a matrix (256 numbers into
    576) it takes a larger type without a word.

    Returns:
        ``bits`` a weight, and the share of all weights by ``types``, the most frequent first.
    """
    from gguf import GGUFReader

    counts: Counter[str] = Counter()
    size = 0
    for tensor in GGUFReader(file).tensors:
        counts[tensor.tensor_type.name] += int(tensor.n_elements)
        size += int(tensor.n_bytes)
    whole = counts.total()
    return {"bits": round(8 * size / whole, 2), "types": {name: count / whole for name, count in counts.most_common()}}


def _by_library(source: Path, output: Path, kind: str) -> None:
    import ctypes

    import llama_cpp
    from llama_cpp._logger import logger

    library: Any = llama_cpp
    settings = library.llama_model_quantize_default_params()
    settings.ftype = getattr(library, f"{_TYPE}{kind.upper()}")
    loud, logger.level = logger.level, 100  # it tells of every tensor
    try:
        failed = library.llama_model_quantize(bytes(source), bytes(output), ctypes.byref(settings))
    finally:
        logger.level = loud
    if failed:
        raise ConfigurationError(f"gguf: llama.cpp could not quantise to {kind!r} (code {failed}); use another type")


def _by_program(source: Path, output: Path, kind: str) -> None:
    program = shutil.which(_PROGRAM) or _PROGRAM
    done = subprocess.run([program, str(source), str(output), kind.upper()], capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        said = " ".join(done.stderr.split()[-30:]) or f"code {done.returncode}"
        raise ConfigurationError(f"gguf: {_PROGRAM} could not quantise to {kind!r}: {said}")
