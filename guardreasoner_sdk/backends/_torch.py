"""What every engine on PyTorch does alike. PyTorch is imported when it is needed."""

from __future__ import annotations

import gc
import sys
from contextlib import AbstractContextManager
from pathlib import Path

from guardreasoner_sdk._failures import config_errors

__all__ = ["default_device", "loading_errors", "release_memory"]


def default_device() -> str:
    """The best device that there is: ``cuda``, ``mps`` or ``cpu``."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def loading_errors(model: str, folder: Path) -> AbstractContextManager[None]:
    """Make a ``ConfigurationError`` of what goes wrong while weights are loaded.

    Args:
        model: its name.
        folder: where its weights lie.
    """

    def told(error: Exception) -> str:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        return f"model: {model} cannot be loaded from {folder}: {reason}"

    return config_errors(told)


def release_memory() -> None:
    """Free what models that nobody holds any more took. PyTorch keeps the memory of a GPU for itself until it is told."""
    if "torch" in sys.modules:
        gc.collect()
        sys.modules["torch"].cuda.empty_cache()
