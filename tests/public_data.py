"""The public data sets that larger tests read; they lie outside the repository, and only GUARDREASONER_DATA says where."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

FOLDER = Path(os.environ["GUARDREASONER_DATA"]).absolute() if os.environ.get("GUARDREASONER_DATA") else None


def public_data(*parts: str) -> Path:
    """A file or folder of the public data; the test is skipped where the variable is not set, and fails where they lack it."""
    if FOLDER is None:
        pytest.skip("GUARDREASONER_DATA is not set: it names the folder of the public data sets")
    path = FOLDER.joinpath(*parts)
    assert path.exists(), f"GUARDREASONER_DATA: there is no {path}"
    return path
