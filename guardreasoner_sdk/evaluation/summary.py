"""What a run comes to: figures by benchmark and task under both rules, what it cost, and the errors worth looking at."""

from __future__ import annotations

import hashlib
import heapq
from array import array
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from guardreasoner_sdk.evaluation.benchmarks.authors import reading_of
from guardreasoner_sdk.evaluation.metrics import Measures, averages, measure
from guardreasoner_sdk.evaluation.paper import sample_count
from guardreasoner_sdk.evaluation.robustness.figures import Robustness
from guardreasoner_sdk.evaluation.rows import LabelledRow, Prediction, says_positive, task_name
from guardreasoner_sdk.verdict import TASKS, Task, Verdict

__all__ = [
    "MOST_ERRORS",
    "BenchmarkSummary",
    "Ceiling",
    "Collected",
    "Cost",
    "Error",
    "ErrorKind",
    "Summary",
    "TaskSummary",
]

MOST_ERRORS = 100
"""How many errors of one kind, task and benchmark are kept: those that the guard was surest of."""

ErrorKind = Literal["false alarm", "miss", "undetermined"]

_MOST_CAUSES = 5


class Cost(BaseModel):
    """What a check cost.

    Args:
        latency_median: half of the checks took less, in milliseconds; None where every verdict came from the cache.
        latency_p99: 99 of 100 took less, in milliseconds.
        input_tokens: read by the model, mean of a check.
        output_tokens: written by it, mean of a check.
    """

    model_config = ConfigDict(frozen=True)

    latency_median: float | None
    latency_p99: float | None
    input_tokens: float
    output_tokens: float


class Ceiling(BaseModel):
    """What a benchmark itself forbids: the same exchange is in it with both labels, and a guard gives one answer to it.

    Args:
        exchanges: how many are labelled both ways.
        rows: the rows that they stand in.
        accuracy: the highest accuracy that any guard could reach on the task, in percent.
        f1: the highest F1, in percent.
    """

    model_config = ConfigDict(frozen=True)

    exchanges: int
    rows: int
    accuracy: float
    f1: float

    @classmethod
    def of(cls, counts: Collection[tuple[int, int]]) -> Ceiling | None:
        """The ceiling of a task; None where no exchange contradicts another.

        Args:
            counts: of each exchange, how many rows say negative and positive.
        """
        contradicted = [(negative, positive) for negative, positive in counts if negative and positive]
        if not contradicted:
            return None
        rows, positives = (sum(map(sum, counts)), sum(positive for _, positive in counts))
        lost = sum(map(min, contradicted))
        # All others right; the contradicted ones are best called positive from the most positive on, down to some place.
        found, alarms = positives - sum(positive for _, positive in contradicted), 0
        best = 2 * found / (found + positives)
        for negative, positive in sorted(contradicted, key=lambda pair: pair[1] / pair[0], reverse=True):
            found, alarms = found + positive, alarms + negative
            best = max(best, 2 * found / (found + positives + alarms))
        return cls(
            exchanges=len(contradicted),
            rows=sum(map(sum, contradicted)),
            accuracy=100 * (rows - lost) / rows,
            f1=100 * best,
        )


class TaskSummary(BaseModel):
    """One task of one benchmark.

    Args:
        task: the task.
        judged: whether the guard judges this task at all; if not, there is nothing to measure.
        paper: the figures by the authors' rule.
        strict: the figures where an undetermined answer is wrong.
        ceiling: how good a guard could be at most; None where no row contradicts another.
    """

    model_config = ConfigDict(frozen=True)

    task: Task
    judged: bool
    paper: Measures | None
    strict: Measures | None
    ceiling: Ceiling | None = None


class BenchmarkSummary(BaseModel):
    """One benchmark.

    Args:
        benchmark: its name.
        rows: how many of its rows were asked.
        cost: what they cost.
        tasks: its tasks, in the paper's order.
        causes: why findings are undetermined, the commonest first, with their numbers.
    """

    model_config = ConfigDict(frozen=True)

    benchmark: str
    rows: int
    cost: Cost
    tasks: tuple[TaskSummary, ...]
    causes: dict[str, int]


class Summary(BaseModel):
    """A whole run; ``summary.json`` holds it.

    Args:
        guard: what judged, and how: model, backend, reasoning and the like.
        rows: all rows asked.
        part: how rows were chosen, in words; None where all of each benchmark were asked.
        benchmarks: the benchmarks, in the order asked.
        averages: by rule and task the mean F1, weighted by rows as the paper does; None where a benchmark has no F1.
        cost: of all rows together.
        robustness: what the guard says of the same texts in other surroundings; None where that was not asked.
    """

    model_config = ConfigDict(frozen=True)

    guard: dict[str, Any]
    rows: int
    part: str | None
    benchmarks: tuple[BenchmarkSummary, ...]
    averages: dict[Literal["paper", "strict"], dict[Task, float | None]]
    cost: Cost
    robustness: Robustness | None = None

    def measured(self) -> Iterator[tuple[BenchmarkSummary, TaskSummary]]:
        """Every task of every benchmark that could be measured."""
        for benchmark in self.benchmarks:
            yield from ((benchmark, task) for task in benchmark.tasks if task.judged)

    def costs(self) -> list[tuple[str, int, Cost]]:
        """Name, rows and cost of each benchmark, and of all."""
        return [*((of.benchmark, of.rows, of.cost) for of in self.benchmarks), ("all", self.rows, self.cost)]

    def notes(self) -> Iterator[str]:
        """What one has to know to read the figures, in sentences."""
        for benchmark in self.benchmarks:
            for task in benchmark.tasks:
                place = f"{benchmark.benchmark}, {task_name(task.task)}"
                if (ceiling := task.ceiling) is not None:
                    many = f"{ceiling.exchanges:,} exchange{'s' if ceiling.exchanges > 1 else ''} ({ceiling.rows:,} rows)"
                    yield (
                        f"{place}: {many} with both labels; no guard can reach more than {ceiling.accuracy:.1f} % accuracy "
                        f"and F1 {ceiling.f1:.1f}."
                    )
                if task.strict is None or task.paper is None:
                    yield f"{place}: the guard does not judge this task."
                    continue
                count = sample_count(task.task, benchmark.benchmark)
                if self.part is None and count not in (None, task.strict.rows):
                    yield f"{place}: {task.strict.rows:,} rows here; the paper counts {count:,}."
                yield from (f"{place}: {note}" for note in task.strict.notes)
                yield from (f"{place}, paper: {note}" for note in task.paper.notes if note not in task.strict.notes)
            yield from (f"{benchmark.benchmark}: {count:,} undetermined: {cause}" for cause, count in benchmark.causes.items())


@dataclass(frozen=True, slots=True)
class Error:
    """A finding that is wrong, or missing.

    Args:
        kind: in what way.
        task: the task.
        row: the row, with its texts.
        verdict: all that the guard said.
    """

    kind: ErrorKind
    task: Task
    row: LabelledRow
    verdict: Verdict


@dataclass(slots=True)
class _Spent:
    rows: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    latencies: array[float] = field(default_factory=lambda: array("d"))

    def add(self, verdict: Verdict) -> None:
        self.rows += 1
        self.input_tokens += verdict.usage.input_tokens
        self.output_tokens += verdict.usage.output_tokens
        if not verdict.cached:
            self.latencies.append(verdict.latency_ms)

    def cost(self) -> Cost:
        import numpy as np

        median, p99 = np.percentile(self.latencies, [50, 99]) if self.latencies else (None, None)
        return Cost(
            latency_median=None if median is None else float(median),
            latency_p99=None if p99 is None else float(p99),
            input_tokens=self.input_tokens / max(self.rows, 1),
            output_tokens=self.output_tokens / max(self.rows, 1),
        )


@dataclass(slots=True)
class Collected:
    """Takes in a run, row by row, and sums it up. Of the texts it keeps those of a bounded number of errors only.

    Args:
        most: errors kept of one kind, task and benchmark.
    """

    most: int = MOST_ERRORS
    predictions: list[Prediction] = field(default_factory=list)
    counts: Counter[tuple[str, Task, ErrorKind]] = field(default_factory=Counter)
    _spent: dict[str, _Spent] = field(default_factory=dict)
    _all: _Spent = field(default_factory=_Spent)
    _asked: Counter[tuple[str, Task]] = field(default_factory=Counter)
    _judged: set[tuple[str, Task]] = field(default_factory=set)
    _causes: dict[str, Counter[str]] = field(default_factory=dict)
    _labels: dict[tuple[str, Task], dict[bytes, tuple[int, int]]] = field(default_factory=dict)
    _errors: dict[tuple[str, Task, ErrorKind], list[tuple[float, int, Error]]] = field(default_factory=dict)

    def add(self, row: LabelledRow, verdict: Verdict) -> None:
        """Take in a row."""
        self._spent.setdefault(row.benchmark, _Spent()).add(verdict)
        self._all.add(verdict)
        same = hashlib.blake2b(row.exchange.model_dump_json().encode(), digest_size=16).digest()
        for task in TASKS:
            if task in row.labels:
                self._add_task(row, task, verdict)
                counts = self._labels.setdefault((row.benchmark, task), {})
                negative, positive = counts.get(same, (0, 0))
                counts[same] = (negative + (not row.labels[task]), positive + row.labels[task])

    def _add_task(self, row: LabelledRow, task: Task, verdict: Verdict) -> None:
        truth = row.labels[task]
        finding = verdict.findings.get(task)
        label = says_positive(finding, task)
        self._asked[row.benchmark, task] += 1
        if finding is not None:
            self._judged.add((row.benchmark, task))
        score = None if finding is None else finding.score
        # A calibration decides again: what the model wrote is no longer what the guard says.
        reading = None if verdict.calibrated else reading_of(verdict.raw, task)
        self.predictions.append(Prediction(row.id, row.benchmark, task, truth, label, score, reading))
        if finding is not None and finding.cause is not None:
            self._causes.setdefault(row.benchmark, Counter())[finding.cause] += 1
        if label != truth:
            self._keep(Error("undetermined" if label is None else "false alarm" if label else "miss", task, row, verdict))

    def _keep(self, error: Error) -> None:
        place = (error.row.benchmark, error.task, error.kind)
        self.counts[place] += 1
        finding = error.verdict.findings.get(error.task)
        score = 0.5 if finding is None or finding.score is None else finding.score
        # Of errors that are equally sure, the first ones stay.
        entry = (abs(score - 0.5), -self.counts[place], error)
        kept = self._errors.setdefault(place, [])
        if len(kept) < self.most:
            heapq.heappush(kept, entry)
        else:
            heapq.heappushpop(kept, entry)

    def errors(self) -> list[Error]:
        """The errors kept, by benchmark, task and kind, and the surest ones first."""
        return [error for place in self.counts if self.judged(*place[:2]) for *_, error in sorted(self._errors[place])[::-1]]

    def judged(self, benchmark: str, task: Task) -> bool:
        """Whether the guard gave a finding on a task at all."""
        return (benchmark, task) in self._judged

    def summary(
        self,
        guard: dict[str, Any],
        *,
        part: str | None = None,
        bootstrap: int = 0,
        seed: int = 0,
        robustness: Robustness | None = None,
    ) -> Summary:
        """Sum it up.

        Args:
            bootstrap: draws that the intervals of F1 rest on.

        Raises:
            MissingExtraError: there are scores, and scikit-learn is not installed.
        """
        own = [entry for entry in self.predictions if self.judged(entry.benchmark, entry.task)]
        paper, strict = (measure(own, scoring=scoring, bootstrap=bootstrap, seed=seed) for scoring in ("paper", "strict"))
        figures = {(one.benchmark, one.task): (one, two) for one, two in zip(paper, strict, strict=True)}
        return Summary(
            guard=guard,
            rows=self._all.rows,
            part=part,
            benchmarks=tuple(self._benchmark(name, spent, figures) for name, spent in self._spent.items()),
            averages={"paper": averages(paper), "strict": averages(strict)},
            cost=self._all.cost(),
            robustness=robustness,
        )

    def _benchmark(
        self, name: str, spent: _Spent, figures: dict[tuple[str | None, Task], tuple[Measures, Measures]]
    ) -> BenchmarkSummary:
        tasks = []
        for task in TASKS:
            if self._asked[name, task]:
                paper, strict = figures.get((name, task), (None, None))
                ceiling = Ceiling.of(self._labels[name, task].values())
                tasks.append(TaskSummary(task=task, judged=strict is not None, paper=paper, strict=strict, ceiling=ceiling))
        causes = dict(self._causes.get(name, Counter()).most_common(_MOST_CAUSES))
        return BenchmarkSummary(benchmark=name, rows=spent.rows, cost=spent.cost(), tasks=tuple(tasks), causes=causes)
