"""Tensors of a model's folder, read one at a time and without torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardreasoner_sdk.data.atomic import read_json
from guardreasoner_sdk.errors import ConfigurationError, InputError

__all__ = ["Stored", "model_json", "stored_tensors"]


@dataclass(frozen=True, slots=True)
class Stored:
    """Where a tensor is in a safetensors file (https://huggingface.co/docs/safetensors).

    Args:
        path: the file.
        dtype: as the file calls it: ``F32``, ``F16`` or ``BF16``.
        shape: rows first.
        offset: of its first byte.
    """

    path: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int

    def load(self) -> NDArray[np.float32]:
        """The tensor in f32."""
        read = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}[self.dtype]
        raw = np.memmap(self.path, dtype=read, mode="r", offset=self.offset, shape=self.shape)
        if self.dtype == "BF16":  # the upper half of an f32; numpy has no such type
            wide = raw.astype(np.uint32)
            wide <<= 16
            return wide.view(np.float32)
        return raw.astype(np.float32)


def stored_tensors(folder: Path) -> dict[str, Stored]:
    """Every tensor of the folder's safetensors files, by name.

    Raises:
        ConfigurationError: a file is missing, or weights are of another type.
    """
    index = folder / "model.safetensors.index.json"
    files = sorted(set(model_json(index)["weight_map"].values())) if index.exists() else ["model.safetensors"]
    found: dict[str, Stored] = {}
    for path in (folder / name for name in files):
        if not path.is_file():
            raise ConfigurationError(f"{path.name}: is not in the folder; weights are read from safetensors only")
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size))
        header.pop("__metadata__", None)
        for name, entry in header.items():
            if entry["dtype"] not in ("F32", "F16", "BF16"):
                raise ConfigurationError(f"{name}: is {entry['dtype']}, only F32, F16 and BF16 weights can be exported")
            found[name] = Stored(path, entry["dtype"], tuple(entry["shape"]), 8 + size + entry["data_offsets"][0])
    return found


def model_json(path: Path) -> dict[str, Any]:
    """A file of a model's folder that holds a JSON object.

    Raises:
        ConfigurationError: it is missing, or holds something else.
    """
    if not path.is_file():
        raise ConfigurationError(f"{path.name}: is not in {path.parent}; name the folder of a model")
    try:
        return read_json(path)
    except InputError:
        raise ConfigurationError(f"{path.name}: is no JSON object; fetch the folder again") from None
