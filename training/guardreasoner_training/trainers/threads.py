"""How many threads of the CPU torch takes, and that it lets go of them."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress

__all__ = ["cpu_threads", "release_threads"]

_PAUSE_HARD = 2  # omp_pause_hard, OpenMP 5.0, section 3.2.44


@contextmanager
def cpu_threads(count: int | None) -> Iterator[None]:
    """Use a number of threads inside the block, and restore the old number after it.

    Args:
        count: of torch's operators; None: as many as it takes by itself.
    """
    import torch

    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def release_threads() -> None:
    """End the idle threads that torch's work in this thread has left behind; its next work starts new ones.

    GNU's OpenMP counts them as busy. Where they and another engine's threads are more than the cores, those of the engine sleep
    at every barrier instead of waiting: llama.cpp took three times as long with a model of a few million parameters.
    """
    with suppress(OSError, AttributeError):  # another OpenMP has no such rule
        ctypes.CDLL("libgomp.so.1").omp_pause_resource_all(_PAUSE_HARD)
