"""Steps of about equally long rows."""

import random

import pytest

pytest.importorskip("torch", reason="training needs torch")

from guardreasoner_training.trainers.trainer import LengthGrouped

LENGTHS = [random.Random(number).randrange(20, 500) for number in range(1003)]


def order(epoch: int, seed: int = 3) -> list[int]:
    return list(LengthGrouped(LENGTHS, 8, seed=seed, epoch=lambda: epoch))


def test_every_row_comes_once_in_another_order_each_epoch() -> None:
    assert sorted(order(0)) == sorted(order(1)) == list(range(1003))
    assert order(0) == order(0)
    assert len({tuple(order(0)), tuple(order(1)), tuple(order(0, seed=4))}) == 3


def test_steps_are_padded_little_and_mixed_in_length() -> None:
    steps = [[LENGTHS[row] for row in order(0)[start : start + 8]] for start in range(0, 1003, 8)]
    assert len(steps[-1]) == 1003 % 8
    padded = sum(max(step) * len(step) for step in steps)
    assert padded < 1.05 * sum(LENGTHS)
    longest = [max(step) for step in steps]
    assert longest != sorted(longest)
