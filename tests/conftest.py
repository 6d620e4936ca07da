"""What the tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from guardreasoner_sdk.judges.embedded import DEFAULT_FOLDER


@pytest.fixture(scope="session")
def tiny_model() -> Path:
    """Folder of a real embedded model."""
    return DEFAULT_FOLDER if (DEFAULT_FOLDER / "model.onnx").exists() else Path("/tmp/tiny")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The developer's own GUARDREASONER_* variables must not change what the tests see."""
    for name in list(os.environ):
        if name.startswith("GUARDREASONER_") and name != "GUARDREASONER_DATA":
            monkeypatch.delenv(name)
