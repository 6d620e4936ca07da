"""What is to be done, told apart from who waits for it: one description for callers with a thread and for coroutines."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeAlias, TypeVar

__all__ = ["Steps", "arun", "run"]

Q = TypeVar("Q")
T = TypeVar("T")

Steps: TypeAlias = Generator[Q | Callable[[], Any], Any, T]
"""Yields what is to be judged and is sent what the judge says, or yields a function and is sent what it returns (what it awaits
to, where it is asynchronous)."""


def run(steps: Steps[Q, T], judge: Callable[[Q], Any]) -> T:
    """Do what the steps say; returns what they return."""
    done = None
    while True:
        try:
            step = steps.send(done)
        except StopIteration as end:
            result: T = end.value
            return result
        done = step() if callable(step) else judge(step)


async def arun(steps: Steps[Q, T], judge: Callable[[Q], Awaitable[Any]]) -> T:
    """:func:`run` for asyncio."""
    done = None
    while True:
        try:
            step = steps.send(done)
        except StopIteration as end:
            result: T = end.value
            return result
        done = step() if callable(step) else await judge(step)
        if inspect.isawaitable(done):
            done = await done
