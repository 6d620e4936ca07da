"""A cheap judge first, a reasoner for the doubtful."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from guardreasoner_sdk._arguments import check_judge
from guardreasoner_sdk.errors import ConfigurationError
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.judges.base import Judge, load_judge, sees_images
from guardreasoner_sdk.judges.safe_judging import judge_safely
from guardreasoner_sdk.telemetry.names import SPAN_DECIDE, SPAN_SCREEN
from guardreasoner_sdk.telemetry.recording import record_stage
from guardreasoner_sdk.verdict import LABELS, TASKS, Finding, Hop, Judgement, Task

__all__ = ["BAND", "Band", "CascadeJudge", "in_band"]

Band = tuple[float, float] | Mapping[Task, tuple[float, float]]
"""Which scores are doubtful: above the first and below the second number, for all tasks or by task; see :func:`in_band`."""

BAND = (0.1, 0.9)


class CascadeJudge:
    """Lets the first judge decide the clear cases and the second one the doubtful ones.

    ``Guard(screen="embedded", model="guardreasoner-8b")`` builds one. A case is doubtful where a finding of the first judge
    is undetermined, has a ``note`` (that judge was never measured on such text), has no score, or has one inside the band. Each
    judgement's ``path`` says who decided, and why.

    Where the second judge fails, what was doubtful is undetermined: the first one's guess does not stand in for it. What the
    second judge does not judge at all (some guards know no refusals) stays as the first one found it.

    Args:
        first: judges everything.
        second: judges what is doubtful.
        band: which scores (0 to 1) are doubtful: ``(low, high)`` for all tasks, or one by task; a task left out of the mapping
            is doubtful only where it is undetermined or has a note.

    Raises:
        ConfigurationError: a judge that is none, or a band that is not an interval, or for an unknown task.

    Example:
        >>> from guardreasoner_sdk import CascadeJudge, EmbeddedJudge, Guard
        >>> from guardreasoner_sdk.testing import ScriptedJudge, judgement
        >>> second = ScriptedJudge({}, otherwise=judgement())
        >>> verdict = Guard(judge=CascadeJudge(EmbeddedJudge(), second, band=(0.0, 1.0))).check("How do I bake bread?")
        >>> [hop.backend for hop in verdict.path]
        ['embedded', 'scripted']
    """

    keeps_deadline = True

    def __init__(self, first: Judge, second: Judge, *, band: Band = BAND) -> None:
        check_judge("first", first)
        check_judge("second", second)
        self.first = first
        self.second = second
        self.band = _checked(band)

    @property
    def model(self) -> str:
        """Name of the model that decides the doubtful cases."""
        return self.second.model

    @property
    def backend(self) -> str:
        """Name of the engine that decides the doubtful cases."""
        return self.second.backend

    @property
    def sees_images(self) -> bool:
        """Whether the second judge judges images: what the first one does not see is doubtful."""
        return sees_images(self.second)

    @property
    def batch_size(self) -> int:
        """How many exchanges to hand over at a time."""
        return max(self.first.batch_size, self.second.batch_size)

    async def load(self) -> None:
        """Load both models now."""
        await load_judge(self.first)
        await load_judge(self.second)

    async def judge(self, exchanges: Sequence[Exchange], *, deadline: float | None) -> list[Judgement]:
        """Judge the exchanges.

        Args:
            exchanges: what is judged.
            deadline: time on ``time.monotonic()`` after which nobody waits any more, or None.

        Raises:
            ConfigurationError: one of the two cannot work at all.
        """
        with record_stage(SPAN_SCREEN, self.first, len(exchanges)):
            judgements = await _in_parts(self.first, exchanges, deadline)
        doubts = [self._doubt(judgement) for judgement in judgements]
        doubtful = [number for number, doubt in enumerate(doubts) if doubt]
        with record_stage(SPAN_DECIDE, self.second, len(doubtful)):
            seconds = iter(await _in_parts(self.second, [exchanges[number] for number in doubtful], deadline))
        return [
            self._clear(judgement) if not doubt else self._decided(judgement, doubt, next(seconds))
            for judgement, doubt in zip(judgements, doubts, strict=True)
        ]

    async def aclose(self) -> None:
        """Free both."""
        try:
            await self.first.aclose()
        finally:
            await self.second.aclose()

    def _doubt(self, judgement: Judgement) -> list[tuple[Task, str]]:
        """The tasks that the second judge has to look at, each with the reason."""
        doubts = []
        for task, finding in judgement.findings.items():
            low, high = self.band.get(task, (1.0, 0.0))
            if not finding.determined:
                doubts.append((task, f"{task} is undetermined"))
            elif finding.note is not None:
                # Its score is no better known than its label.
                doubts.append((task, f"{task} was found in what {self.first.model} was never measured on: {finding.note}"))
            elif low <= high and finding.score is None:
                doubts.append((task, f"{task} has no score"))
            elif finding.score is not None and in_band(finding.score, low, high):
                doubts.append((task, f"{task} scores {finding.score:.2f}, between {low:g} and {high:g}"))
        return doubts

    def _clear(self, judgement: Judgement) -> Judgement:
        scores = ", ".join(f"{task} {_said(finding)}" for task, finding in judgement.findings.items())
        return judgement.model_copy(update={"path": (self._hop(self.first, f"decided: clear ({scores})"),)})

    def _decided(self, first: Judgement, doubts: list[tuple[Task, str]], second: Judgement) -> Judgement:
        doubted = {task for task, _ in doubts}
        changes: dict[str, Any] = {
            "path": (
                self._hop(self.first, f"passed on: {'; '.join(reason for _, reason in doubts)}"),
                self._hop(self.second, "decided what was doubtful"),
            ),
            "usage": first.usage + second.usage,
        }
        for task, finding in first.findings.items():
            other: Finding | None = getattr(second, task)
            if other is None or (not other.determined and task not in doubted):
                changes[task] = finding
        return second.model_copy(update=changes)

    @staticmethod
    def _hop(judge: Judge, why: str) -> Hop:
        return Hop(model=judge.model, backend=judge.backend, why=why)


def _said(finding: Finding) -> str:
    return finding.label if finding.score is None else f"{finding.label} {finding.score:.2f}"


async def _in_parts(judge: Judge, exchanges: Sequence[Exchange], deadline: float | None) -> list[Judgement]:
    size = judge.batch_size
    parts = [exchanges[start : start + size] for start in range(0, len(exchanges), size)]
    # A failure of one judge is an undetermined finding, which the cascade knows what to do with.
    done = await asyncio.gather(*(judge_safely(judge, part, deadline) for part in parts))
    return list(itertools.chain.from_iterable(done))


def in_band(score: float, low: float, high: float) -> bool:
    """Whether a score is doubtful: between the ends of a band. An end at 0 or 1 belongs to it, so that (0, 1) is everything.

    Args:
        score: 0 to 1.
        low: the band's lower end.
    """
    return (low < score or low == 0) and (score < high or high == 1)


def _checked(band: Band) -> dict[Task, tuple[float, float]]:
    bands = dict(band) if isinstance(band, Mapping) else dict.fromkeys(TASKS, band)
    for task, interval in bands.items():
        if task not in LABELS:
            raise ConfigurationError(f"band: {task!r} is not a task; use any of {', '.join(TASKS)}")
        try:
            low, high = (float(end) for end in interval)
        except (TypeError, ValueError):
            raise ConfigurationError(f"band: {interval!r} is not an interval; use for example {BAND}") from None
        if not 0.0 <= low <= high <= 1.0:
            raise ConfigurationError(f"band: {interval!r} is not an interval of scores from 0 to 1; use for example {BAND}")
    return bands
