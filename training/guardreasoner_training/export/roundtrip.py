"""Whether an exported guard answers as the trained one does: both are asked, greedily, and their texts compared."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Final

from guardreasoner_sdk.errors import ConfigurationError
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_training.export.scored import Dtype, Recorded, Scored, ScoredAnswer, TooLargeError, release

if TYPE_CHECKING:
    from guardreasoner_sdk.backends.base import Backend
    from guardreasoner_sdk.dialects.base import Dialect
    from guardreasoner_sdk.verdict import Verdict

__all__ = ["HALF_TIE", "TIE", "Agreement", "GuardAnswer", "Reference", "ways_on"]

TIE: Final = 0.05
"""Where the trained model's two best tokens are closer than this (in nats), either is its greedy answer: the sums of another
engine come in another order, and llama.cpp keeps its cache in f16."""

HALF_TIE: Final = 0.5
"""The same where the trained model itself is computed in 16 bits, whose steps are as large as that."""


@dataclass(frozen=True, slots=True)
class GuardAnswer:
    """A guard's answer.

    Args:
        text: all that it wrote.
        labels: what was read from it, by task.
        written: the answers to the single queries that it is made of.
    """

    text: str
    labels: dict[str, str]
    written: tuple[ScoredAnswer, ...] = ()


@dataclass(slots=True)
class Agreement:
    """How an exported guard's answers compare with the trained one's.

    Args:
        rows: how many were asked.
        equal: answers that are the same to the last character.
        ties: those that part where the trained model itself is undecided, see :data:`TIE`.
        labels: rows with the same labels.
        differing: the others: number of the row and of the first character that differs.
    """

    rows: int = 0
    equal: int = 0
    ties: int = 0
    labels: int = 0
    differing: list[tuple[int, int]] = field(default_factory=list)

    def figures(self) -> dict[str, int]:
        """The counts."""
        return {"rows": self.rows, "equal": self.equal, "ties": self.ties, "labels": self.labels}


class Reference:
    """The trained guard's own answers: in float32, where that fits into the device's memory.

    Args:
        folder: the trained model: weights, or an adapter of peft's.
        dialect: how it is asked and read.
        exchanges: what it is asked.
        device: where it runs, such as ``cpu``; None: a GPU where there is one.
        ways: devices and types of number to try, the best first; None: those of :func:`ways_on` the device.
        report: is told where it runs in another way, because of the memory.

    Raises:
        ConfigurationError: it cannot be run, or gives no answer.

    Attributes:
        answers: to each exchange.
        device: where it ran.
        dtype: in which type of number it was computed.
    """

    def __init__(
        self,
        folder: Path,
        dialect: Dialect,
        exchanges: Sequence[Exchange],
        *,
        device: str | None = None,
        ways: Sequence[tuple[str, Dtype]] | None = None,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._dialect = dialect
        self._exchanges = list(exchanges)
        self.answers: list[GuardAnswer] = []
        self.device = "cpu"
        self.dtype: Dtype = "float32"
        ways = ways_on(device) if ways is None else ways
        for way, following in zip_longest(ways, ways[1:]):
            self.device, self.dtype = way
            try:
                self.answers = answers(Scored(folder, device=way[0], dtype=way[1]), dialect, exchanges)
                return
            except TooLargeError:
                if following is None:
                    raise
                report(f"{_words(*way)} it does not fit into memory; asking it {_words(*following)}")
            release()  # the error held what was loaded

    def compare(self, backend: Backend, *, tie: float | None = None) -> Agreement:
        """Ask an exported guard the same.

        Args:
            backend: runs it; closed afterwards.
            tie: how close the trained model's two best tokens are where it is undecided, in nats; None: :data:`TIE`, or
                :data:`HALF_TIE` where it was computed in 16 bits.

        Raises:
            ConfigurationError: it cannot be run, or gives no answer at all.
        """
        found = Agreement()
        undecided = tie if tie is not None else TIE if self.dtype == "float32" else HALF_TIE
        theirs = answers(Recorded(backend), self._dialect, self._exchanges)
        for number, (own, other) in enumerate(zip(self.answers, theirs, strict=True), 1):
            found.rows += 1
            found.labels += own.labels == other.labels
            if own.text == other.text:
                found.equal += 1
            elif _margin(own, other) < undecided:
                found.ties += 1
            else:
                found.differing.append((number, _first_difference(own.text, other.text)))
        return found


def ways_on(device: str | None) -> list[tuple[str, Dtype]]:
    """Devices and types of number to try, the best first.

    Args:
        device: such as ``cpu``; None: a GPU where there is one.
    """
    import torch

    if device is None:
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if device == "cpu":
        return [("cpu", "float32")]
    return [(device, "float32"), (device, "auto"), ("cpu", "float32")]


def _words(device: str, dtype: Dtype) -> str:
    return f"on {device} in {dtype if dtype == 'float32' else 'its own precision'}"


def _margin(own: GuardAnswer, other: GuardAnswer) -> float:
    """How sure the trained guard was where another answer parts from its own, in nats."""
    for mine, theirs in zip(own.written, other.written, strict=False):
        if mine.query != theirs.query:
            break
        if mine.text != theirs.text:
            return mine.margin(_first_difference(mine.text, theirs.text))
    return math.inf


def answers(backend: Recorded | Scored, dialect: Dialect, exchanges: Sequence[Exchange]) -> list[GuardAnswer]:
    """What a guard writes, reasoning in full, the way it will be asked.

    Args:
        backend: runs it; closed afterwards.

    Raises:
        ConfigurationError: it cannot be run, or an exchange gets no answer.
    """
    from guardreasoner_sdk.guard import Guard
    from guardreasoner_sdk.judges.reasoner import ReasonerJudge

    found = []
    with Guard(judge=ReasonerJudge(dialect, backend, reasoning="full"), cache=0, timeout=86_400.0) as guard:
        for exchange in exchanges:
            backend.written.clear()
            [verdict] = guard.check_many([exchange])
            found.append(_answer(verdict, backend.written))
    return found


def _answer(verdict: Verdict, written: Sequence[ScoredAnswer]) -> GuardAnswer:
    if verdict.raw is None:
        cause = next((finding.cause for finding in verdict.findings.values() if finding.cause), "no answer")
        raise ConfigurationError(f"export: {verdict.backend} gives no answer ({cause}); leave that row out, or the type")
    return GuardAnswer(verdict.raw, {task: finding.label for task, finding in verdict.findings.items()}, tuple(written))


def _first_difference(one: str, other: str) -> int:
    return next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
