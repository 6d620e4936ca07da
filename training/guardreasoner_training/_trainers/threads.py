"""How many threads of the CPU torch takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["cpu_threads"]


@contextmanager
def cpu_threads(count: int | None) -> Iterator[None]:
    """So many threads inside, and as many as before in the end.

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
