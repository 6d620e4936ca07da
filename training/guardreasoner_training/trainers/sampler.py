"""The order of rows in which those of one step are about equally long."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

from torch.utils.data import Sampler

__all__ = ["LengthGrouped"]

_SORTED_STEPS = 50
"""Rows are sorted by length within stretches of so many steps: little padding, and still a mixed order."""


class LengthGrouped(Sampler[int]):
    """Every row once an epoch, in steps of like length and in random order.

    The order depends on the seed and the epoch alone, so that a resumed run skips exactly what was trained on.

    Args:
        lengths: of the rows, in tokens.
        step: rows to a step, over all devices.
        seed: of the order.
        epoch: tells which one begins, from 0.
    """

    def __init__(self, lengths: Sequence[int], step: int, *, seed: int, epoch: Callable[[], int]) -> None:
        self._lengths = lengths
        self._step = step
        self._seed = seed
        self._epoch = epoch

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        """Yield the numbers of the rows."""
        draw = random.Random(f"{self._seed} {self._epoch()}")  # noqa: S311 - no secret: the same seed must give the same order
        order = list(range(len(self._lengths)))
        draw.shuffle(order)
        stretch = self._step * _SORTED_STEPS
        parts = [
            sorted(order[start : start + stretch], key=self._lengths.__getitem__) for start in range(0, len(order), stretch)
        ]
        ordered = [row for part in parts for row in part]
        steps = [ordered[start : start + self._step] for start in range(0, len(ordered), self._step)]
        # A smaller step stays at the end: in the middle it would shift all that follow.
        rest = steps.pop() if len(ordered) % self._step else []
        draw.shuffle(steps)
        return iter([row for step in [*steps, rest] for row in step])
