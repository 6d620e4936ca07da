"""The threads of torch on the CPU."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs guardreasoner-sdk[train]")

from guardreasoner_training.trainers.threads import cpu_threads, release_threads  # noqa: E402


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core starts no further threads")
def test_idle_threads_end_and_work_starts_new_ones() -> None:
    def work() -> float:
        left = torch.arange(512 * 512, dtype=torch.float32).reshape(512, 512) / 512**2
        return float((left @ left).sum())

    def threads() -> int:
        return len(list(Path("/proc/self/task").iterdir()))

    with cpu_threads(2):
        first = work()
        before = threads()
        release_threads()
        ends = time.monotonic() + 10
        while threads() >= before and time.monotonic() < ends:
            time.sleep(0.01)
        assert threads() < before
        assert work() == first
        assert threads() == before


def test_the_number_of_threads_is_as_before() -> None:
    before = torch.get_num_threads()
    with cpu_threads(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
