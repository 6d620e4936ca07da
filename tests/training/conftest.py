"""What the tests of the training share beside the helpers of ``samples``."""

from __future__ import annotations

import gc

import pytest


@pytest.fixture(autouse=True, scope="module")
def _what_is_there_already_is_not_searched_for_garbage() -> None:
    """A training collects its garbage three times: over all that torch and transformers are made of, half the time of a small one."""
    gc.collect()
    gc.freeze()
