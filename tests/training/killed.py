"""A process that ends without a word: where its training tells a line, or in the middle of the next large file it writes."""

from __future__ import annotations

import os
import resource
import signal
from dataclasses import dataclass


@dataclass(frozen=True)
class Killed:
    """Listens to a training in a process of its own, and kills it.

    Args:
        line: the beginning of the line at which that happens.
        size: how large a file may grow from then on; the system ends the process, and cuts off the file, at the first byte more.
            None: it ends at once.
    """

    line: str
    size: int | None = None

    @property
    def exitcode(self) -> int:
        """Of the process, as multiprocessing tells it."""
        return -(signal.SIGKILL if self.size is None else signal.SIGXFSZ)

    def __call__(self, told: str) -> None:
        """Hear a line."""
        if not told.startswith(self.line):
            return
        if self.size is None:
            os.kill(os.getpid(), signal.SIGKILL)
        else:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, self.size))
