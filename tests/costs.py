"""What a piece of work costs in processor time: a busy machine makes no test fail."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

__all__ = ["assert_in_proportion", "seconds"]


def seconds(work: Callable[[], object], tries: int = 3) -> float:
    """Processor time, the least of some tries.

    Only this thread's, as other tests may have left threads that are at work, and without the collection of garbage, which is theirs too.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        taken = []
        for _ in range(tries):
            began = time.thread_time()
            work()
            taken.append(time.thread_time() - began)
        return min(taken)
    finally:
        if collecting:
            gc.enable()


def assert_in_proportion(work: Callable[[int], object], size: int, floor: float = 0.005) -> None:
    """Four times the size takes four times as long, and sixteen times in a way that is quadratic.

    Args:
        work: what is done for a size.
        size: the smaller one.
        floor: seconds; where the smaller one takes less, noise would decide.
    """
    once, fourfold = seconds(lambda: work(size)), seconds(lambda: work(4 * size))
    assert fourfold < 8 * max(once, floor), f"{size}: {once:.4f} s, {4 * size}: {fourfold:.4f} s"
