"""A clock under a test's hand."""

from __future__ import annotations

__all__ = ["Clock"]


class Clock:
    """Time, in seconds, that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now
