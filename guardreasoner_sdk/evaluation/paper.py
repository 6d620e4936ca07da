"""The tables of the GuardReasoner paper (arXiv:2501.18492) as data: what every system scored on every benchmark."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.verdict import Task

__all__ = ["PaperRow", "row", "rows", "sample_count", "systems"]


@dataclass(frozen=True, slots=True)
class PaperRow:
    """One system in the paper's tables of F1.

    Args:
        name: with its size: ``GuardReasoner 8B``, ``GPT-4o+CoT``.
        group: ``Closed-Source Guard API`` or ``Open-Source Guard Model``.
        f1: F1 in percent, by task and benchmark; what the paper leaves blank is not there.
        average: the mean F1 of a task in percent, weighted by rows, as printed.
    """

    name: str
    group: str
    f1: Mapping[Task, Mapping[str, float]]
    average: Mapping[Task, float]

    def value(self, task: Task, benchmark: str | None) -> float | None:
        """The F1 that the paper prints, in percent; None where it prints none.

        Args:
            benchmark: the benchmark; None: the weighted mean over all of them.
        """
        if benchmark is None:
            return self.average.get(task)
        return self.f1.get(task, {}).get(benchmark)


@cache
def _tables() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(files("guardreasoner_sdk.evaluation").joinpath("paper_tables.json").read_text("utf-8"))
    return loaded


@cache
def _rows() -> dict[str, PaperRow]:
    return {entry["name"]: PaperRow(**entry) for entry in _tables()["systems"]}


def systems() -> tuple[str, ...]:
    """The names of the paper's systems, in its order."""
    return tuple(_rows())


def row(name: str) -> PaperRow:
    """What the paper prints of one system.

    Args:
        name: of the system; capitals, spaces and punctuation do not matter.

    Raises:
        InputError: the paper has no such system.
    """
    plain = _plain(name)
    for known, found in _rows().items():
        if _plain(known) == plain:
            return found
    near = [known for known in _rows() if plain and plain in _plain(known)]
    raise InputError("--compare", f"the paper has no system {name!r}", f"use one of {', '.join(near or systems())}")


def rows(names: Iterable[str]) -> list[PaperRow]:
    """What the paper prints of some systems.

    Args:
        names: of systems, or ``all``.

    Raises:
        InputError: the paper has no such system.
    """
    names = list(names)
    if any(name.strip().lower() == "all" for name in names):
        return list(_rows().values())
    return [row(name) for name in names]


def sample_count(task: Task, benchmark: str) -> int | None:
    """How many rows the paper says that a benchmark has; None for one that is not the paper's."""
    count: int | None = _tables()["sample_counts"].get(task, {}).get(benchmark)
    return count


_DECORATION = re.compile(r"[^a-z0-9+.]")


def _plain(name: str) -> str:
    return _DECORATION.sub("", name.lower())
