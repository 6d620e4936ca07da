"""How far a file is: a bar on a terminal, elsewhere a line at every tenth, and at most one in a few seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from guardreasoner_sdk.cli.terminal import console, note

__all__ = ["progress"]

_WARM_UP = 1.0
"""Seconds before which a rate is none: the first rows are counted faster, or slower, than any that follow."""
_APART = 5.0
"""Seconds between two lines at the least: a log is read later, and a run shorter than that speaks for itself."""


@contextmanager
def progress(total: int, done: int, *, clock: Callable[[], float] = time.monotonic) -> Iterator[Callable[[int], None]]:
    """Show how far it is, on standard error.

    Args:
        total: all rows; 0: show nothing.
        clock: what tells the time, in seconds.

    Yields:
        a function to call with the number of rows done, the earlier ones among them.
    """
    if not total:
        yield lambda _: None
        return
    err = console(error=True)
    if not err.is_terminal:
        yield _Lines(total, done, clock)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            early = task.speed is None or (task.elapsed or 0.0) < _WARM_UP
            return Text("" if early else f"{task.speed:,.0f} rows/s")

    with Progress(BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn(), console=err, get_time=clock) as bar:
        task = bar.add_task("", total=total, completed=done)
        yield lambda now: bar.update(task, completed=now)


class _Lines:
    def __init__(self, total: int, done: int, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._total = total
        self._first = done
        self._tenth = done * 10 // total
        self._started = self._said = clock()

    def __call__(self, done: int) -> None:
        tenth, now = done * 10 // self._total, self._clock()
        if tenth <= self._tenth or now - self._said < _APART:
            return
        self._tenth, self._said = tenth, now
        rate = (done - self._first) / max(now - self._started, 1e-6)
        left = timedelta(seconds=round((self._total - done) / rate))
        note(f"{done:,} of {self._total:,} rows ({done * 100 // self._total} %), {rate:,.0f} rows/s, {left} left")
