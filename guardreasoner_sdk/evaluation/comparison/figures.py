"""From the verdicts of several guards on the same rows to figures that may stand side by side.

They may where rows, truth, the mapping of labels and the rule of the threshold are the same; anything else is refused. What a
guard leaves undetermined counts in one way, for every guard and in every figure: as a wrong answer, and as an answer of its own
where it is counted who agrees with whom. So all figures of a task rest on the same rows.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from pydantic import BaseModel, ConfigDict

from guardreasoner_sdk.errors import InputError, MissingExtraError
from guardreasoner_sdk.evaluation.metrics import Measures, measure
from guardreasoner_sdk.evaluation.rows import LabelledRow, Prediction, says_positive, task_name
from guardreasoner_sdk.evaluation.runs import fingerprints
from guardreasoner_sdk.guard import Guard
from guardreasoner_sdk.judges.base import is_direct
from guardreasoner_sdk.verdict import TASKS, Finding, Task, Verdict

__all__ = [
    "ComparedGuard",
    "ComparedTask",
    "Comparison",
    "GuardRun",
    "Pair",
    "agreement_of",
    "compare_guards",
    "compare_runs",
    "mcnemar",
]

_OWN, _CALIBRATED = "each guard's own label", "each guard's label after its calibration"


@dataclass(frozen=True, slots=True)
class GuardRun:
    """What one guard said to labelled rows.

    Args:
        name: what it is called in the comparison.
        rows: what it was asked, with the truth.
        verdicts: what it said, one for each row, in order.
        batched: whether a verdict's latency is that of the batch it stood in.

    Example:
        >>> from guardreasoner_sdk import Exchange, Guard
        >>> from guardreasoner_sdk.evaluation import GuardRun, LabelledRow
        >>> rows = [LabelledRow("1", "mine", Exchange("How do I bake bread?"), {"prompt_harmfulness": False})]
        >>> run = GuardRun("embedded", rows, Guard().check_many([row.exchange for row in rows]))
        >>> run.verdicts[0].action
        'allow'
    """

    name: str
    rows: Sequence[LabelledRow]
    verdicts: Sequence[Verdict]
    batched: bool = False


class ComparedGuard(BaseModel):
    """One guard among those compared.

    Args:
        name: what it is called.
        model: its model.
        backend: what ran it.
        measures: its figures by benchmark and task, strict: an undetermined answer is wrong.
        pooled: the same by task, all benchmarks in one.
        latency_median: half of the checks took less, in milliseconds on this machine; None where nothing was asked.
        latency_p95: 95 of 100 took less, in milliseconds on this machine.
        batched: whether a latency is that of the batch that the check stood in.
        input_tokens: read by the model, mean of a check; None where no token was counted.
        output_tokens: written by it, mean of a check; None where no token was counted.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    model: str
    backend: str
    measures: tuple[Measures, ...]
    pooled: tuple[Measures, ...]
    latency_median: float | None
    latency_p95: float | None
    batched: bool
    input_tokens: float | None
    output_tokens: float | None


class Pair(BaseModel):
    """Two guards on one task.

    Args:
        first: a guard.
        second: another one.
        agreement: share of the rows to which both say the same (positive, negative or undetermined), in percent.
        kappa: Cohen's kappa of these answers: 1 for the same answers throughout, 0 for no more agreement than by chance; None
            where both give one answer only.
        both_right: rows that both get right.
        first_right: rows that the first alone gets right.
        second_right: rows that the second alone gets right.
        both_wrong: rows that both get wrong.
        p: McNemar's exact test, two-sided: how probable a split of the rows that one alone gets right is, as uneven as this one
            or more, if both were equally often right.
        p_adjusted: the same for all pairs of the task together (Holm's method).
    """

    model_config = ConfigDict(frozen=True)

    first: str
    second: str
    agreement: float
    kappa: float | None
    both_right: int
    first_right: int
    second_right: int
    both_wrong: int
    p: float
    p_adjusted: float


class ComparedTask(BaseModel):
    """One task, and the guards that judge it.

    Args:
        task: the task.
        rows: how many rows are labelled for it.
        guards: who judges it, in the order given.
        pairs: each two of them.
    """

    model_config = ConfigDict(frozen=True)

    task: Task
    rows: int
    guards: tuple[str, ...]
    pairs: tuple[Pair, ...]

    def pair(self, one: str, other: str) -> Pair | None:
        """The figures of two guards, whichever comes first; None for a guard with itself."""
        return next((pair for pair in self.pairs if {pair.first, pair.second} == {one, other}), None)


class Comparison(BaseModel):
    """Several guards on the same rows; ``comparison.json`` holds it.

    Args:
        rows: how many rows each guard was asked.
        benchmarks: name, size and a hash of the rows of each benchmark: the same for every guard.
        rule: how an answer becomes a label, the same for every guard.
        guards: the guards, in the order given.
        tasks: the tasks that rows are labelled for.
        seed: of the bootstrap.
    """

    model_config = ConfigDict(frozen=True)

    rows: int
    benchmarks: tuple[str, ...]
    rule: str
    guards: tuple[ComparedGuard, ...]
    tasks: tuple[ComparedTask, ...]
    seed: int

    def notes(self) -> list[str]:
        """What one has to know to read the figures, in sentences."""
        notes = [
            f"Every guard was asked the same {self.rows:,} rows, with the same truth; the label is {self.rule}.",
            "What a guard leaves undetermined is wrong in every figure, and an answer of its own where agreement is counted.",
            "Latencies are those of this machine, at the time of the run, and with the network where a guard is elsewhere.",
        ]
        if batched := [guard.name for guard in self.guards if guard.batched]:
            notes.append(f"Of {', '.join(batched)} a latency is that of the batch that a check stood in.")
        absent = {task.task: [guard.name for guard in self.guards if guard.name not in task.guards] for task in self.tasks}
        notes += [
            f"{task_name(task).capitalize()}: not judged by {', '.join(names)}." for task, names in absent.items() if names
        ]
        return notes


def compare_guards(
    guards: Mapping[str, Guard],
    rows: Sequence[LabelledRow],
    *,
    threshold: float | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Ask several guards the same labelled rows, and compare what they say.

    Args:
        guards: by the name that each has in the comparison; two at least. Their models are loaded before the clock runs.
        rows: what is asked; see :func:`guardreasoner_sdk.evaluation.read_rows`.
        threshold: score (0 to 1) from which an answer is positive, for all guards alike; an answer without a score is then
            undetermined. None: each guard's own label.
        bootstrap: draws that the intervals of F1 rest on; 0: none.
        seed: of the draws.

    Raises:
        InputError: fewer than two guards, no rows, or figures that may not stand side by side.
        MissingExtraError: scikit-learn is not installed.

    Example:
        >>> from guardreasoner_sdk import Exchange, Guard
        >>> from guardreasoner_sdk.evaluation import LabelledRow, compare_guards
        >>> from guardreasoner_sdk.testing import ScriptedJudge, judgement
        >>> rows = [LabelledRow("1", "mine", Exchange("How do I bake bread?"), {"prompt_harmfulness": False})]
        >>> strict = Guard(judge=ScriptedJudge({}, otherwise=judgement("harmful")))
        >>> found = compare_guards({"embedded": Guard(), "strict": strict}, rows, bootstrap=0)
        >>> found.tasks[0].pairs[0].first_right
        1
    """
    if find_spec("sklearn") is None:
        raise MissingExtraError("eval", "Comparisons")  # before every guard is asked every row
    runs = []
    for name, guard in guards.items():
        guard.load()
        if is_direct(guard.judge):
            # One at a time: the latency is that of a check.
            verdicts = [verdict for row in rows for verdict in guard.iter_many([row.exchange])]
        else:
            verdicts = guard.check_many([row.exchange for row in rows])
        runs.append(GuardRun(name, rows, verdicts, batched=not is_direct(guard.judge)))
    return compare_runs(runs, threshold=threshold, bootstrap=bootstrap, seed=seed)


def compare_runs(
    runs: Sequence[GuardRun], *, threshold: float | None = None, bootstrap: int = 1000, seed: int = 0
) -> Comparison:
    """Compare what several guards said to the same rows.

    Args:
        runs: two at least.
        threshold: as of :func:`compare_guards`.
        bootstrap: as of :func:`compare_guards`.
        seed: of the draws.

    Raises:
        InputError: the runs have other rows or another truth, or one is calibrated and another is not.
        MissingExtraError: there are scores, and scikit-learn is not installed.

    Example:
        >>> from guardreasoner_sdk import Exchange, Guard
        >>> from guardreasoner_sdk.evaluation import GuardRun, LabelledRow, compare_runs
        >>> from guardreasoner_sdk.testing import ScriptedJudge, judgement
        >>> rows = [LabelledRow("1", "mine", Exchange("How do I bake bread?"), {"prompt_harmfulness": False})]
        >>> strict = Guard(judge=ScriptedJudge({}, otherwise=judgement("harmful")))
        >>> guards = {"embedded": Guard(), "strict": strict}
        >>> runs = [GuardRun(name, rows, guard.check_many([row.exchange for row in rows])) for name, guard in guards.items()]
        >>> compare_runs(runs, bootstrap=0).tasks[0].pairs[0].agreement
        0.0
    """
    if len(runs) < 2:
        raise InputError("guards", f"are {len(runs)}", "name two at least")
    names = [run.name for run in runs]
    if twice := next((name for name, count in Counter(names).items() if count > 1), None):
        raise InputError("guards", f"name {twice!r} twice", "leave one out, or give it another name")
    if threshold is not None and not 0 < threshold <= 1:
        raise InputError("threshold", f"is {threshold}", "pass a score above 0 and up to 1, or leave it out")
    benchmarks = _same_rows(runs)
    rule = _same_rule(runs) if threshold is None else f"positive from a score of {threshold:g} on, for every guard"
    answers = {run.name: _predictions(run, threshold) for run in runs}
    return Comparison(
        rows=len(runs[0].rows),
        benchmarks=benchmarks,
        rule=rule,
        guards=tuple(_guard(run, answers[run.name], bootstrap, seed) for run in runs),
        tasks=tuple(_task(task, answers) for task in TASKS if any(task in row.labels for row in runs[0].rows)),
        seed=seed,
    )


def _same_rows(runs: Sequence[GuardRun]) -> tuple[str, ...]:
    first, *others = runs
    if not first.rows or not any(row.labels for row in first.rows):
        raise InputError("rows", "have no label", "label some, or name others")
    wanted = fingerprints(first.rows)
    for run in runs:
        if len(run.verdicts) != len(run.rows):
            raise InputError(run.name, f"has {len(run.verdicts):,} verdicts for {len(run.rows):,} rows", "run it to its end")
    for run in others:
        if fingerprints(run.rows) != wanted:
            fix = "figures of other rows, or of another truth, do not stand side by side: run both on the same"
            raise InputError(run.name, f"was asked other rows than {first.name}", fix)
        # The hashes are those of each benchmark; a row of one is compared with the same row of the other.
        if [(row.benchmark, row.id) for row in run.rows] != [(row.benchmark, row.id) for row in first.rows]:
            raise InputError(run.name, f"was asked the rows of {first.name} in another order", "bring both into one order")
    return tuple(wanted)


def _same_rule(runs: Sequence[GuardRun]) -> str:
    # What was not decided was not calibrated either, whatever the guard has.
    rules = {run.name: {verdict.calibrated for verdict in run.verdicts if _decided(verdict)} for run in runs}
    found = {rule for own in rules.values() for rule in own}
    if len(found) > 1:
        calibrated = [name for name, own in rules.items() if True in own]
        fix = "compare all of them with a calibration or none, or set one threshold for all"
        raise InputError(calibrated[0], "is calibrated, and others are not", fix)
    return _CALIBRATED if True in found else _OWN


def _decided(verdict: Verdict) -> bool:
    return any(finding is not None and finding.determined for finding in verdict.findings.values())


def _predictions(run: GuardRun, threshold: float | None) -> dict[Task, list[Prediction]]:
    """By task what a guard said to each labelled row; a task that it does not judge at all is not there."""
    found: dict[Task, list[Prediction]] = {}
    for task in TASKS:
        labelled = [(row, verdict) for row, verdict in zip(run.rows, run.verdicts, strict=True) if task in row.labels]
        if any(verdict.findings.get(task) is not None for _, verdict in labelled):
            found[task] = [
                Prediction(
                    *(row.id, row.benchmark, task, row.labels[task]),
                    _said(verdict.findings.get(task), task, threshold),
                    None if (finding := verdict.findings.get(task)) is None else finding.score,
                )
                for row, verdict in labelled
            ]
    return found


def _said(finding: Finding | None, task: Task, threshold: float | None) -> bool | None:
    label = says_positive(finding, task)
    if threshold is None or label is None or finding is None:
        return label
    return None if finding.score is None else finding.score >= threshold


def _guard(run: GuardRun, answers: Mapping[Task, Sequence[Prediction]], bootstrap: int, seed: int) -> ComparedGuard:
    import numpy as np

    every = [prediction for predictions in answers.values() for prediction in predictions]
    latencies = [verdict.latency_ms for verdict in run.verdicts if not verdict.cached]
    median, p95 = np.percentile(latencies, [50, 95]) if latencies else (None, None)
    read, written = (
        sum(getattr(verdict.usage, kind) for verdict in run.verdicts) / len(run.verdicts)
        for kind in ("input_tokens", "output_tokens")
    )
    return ComparedGuard(
        name=run.name,
        model=run.verdicts[0].model,
        backend=run.verdicts[0].backend,
        measures=tuple(measure(every, bootstrap=bootstrap, seed=seed)),
        pooled=tuple(measure(every, bootstrap=bootstrap, seed=seed, pooled=True)),
        latency_median=None if median is None else float(median),
        latency_p95=None if p95 is None else float(p95),
        batched=run.batched,
        input_tokens=read if read or written else None,
        output_tokens=written if read or written else None,
    )


def _task(task: Task, answers: Mapping[str, Mapping[Task, Sequence[Prediction]]]) -> ComparedTask:
    judged = {name: predictions[task] for name, predictions in answers.items() if task in predictions}
    pairs = [_pair(one, judged[one], other, judged[other]) for one, other in itertools.combinations(judged, 2)]
    # Holm: the smallest p counts as often as there are pairs, the next one time less, and none comes out below one before it.
    adjusted: dict[int, float] = {}
    least = 0.0
    for place, number in enumerate(sorted(range(len(pairs)), key=lambda number: pairs[number].p)):
        least = max(least, min(1.0, pairs[number].p * (len(pairs) - place)))
        adjusted[number] = least
    rows = max((len(predictions) for predictions in judged.values()), default=0)
    done = tuple(pair.model_copy(update={"p_adjusted": adjusted[number]}) for number, pair in enumerate(pairs))
    return ComparedTask(task=task, rows=rows, guards=tuple(judged), pairs=done)


def _pair(one: str, first: Sequence[Prediction], other: str, second: Sequence[Prediction]) -> Pair:
    counts = Counter((a.label == a.truth, b.label == b.truth) for a, b in zip(first, second, strict=True))
    agreement, kappa = agreement_of([a.label for a in first], [b.label for b in second])
    p = mcnemar(counts[True, False], counts[False, True])
    return Pair(
        first=one,
        second=other,
        agreement=agreement,
        kappa=kappa,
        both_right=counts[True, True],
        first_right=counts[True, False],
        second_right=counts[False, True],
        both_wrong=counts[False, False],
        p=p,
        p_adjusted=p,
    )


def agreement_of(first: Sequence[bool | None], second: Sequence[bool | None]) -> tuple[float, float | None]:
    """How often two say the same, in percent, and Cohen's kappa; None stands for undetermined, an answer like the others.

    Example:
        >>> from guardreasoner_sdk.evaluation.comparison.figures import agreement_of
        >>> agreement_of([True, True, False, False], [True, False, False, False])
        (75.0, 0.5)
    """
    rows = len(first)
    observed = sum(a == b for a, b in zip(first, second, strict=True)) / rows
    one, other = Counter(first), Counter(second)
    chance = sum(one[answer] * other[answer] for answer in one) / rows**2
    return 100 * observed, None if chance == 1 else (observed - chance) / (1 - chance)


def mcnemar(first: int, second: int) -> float:
    """McNemar's exact test, two-sided: a binomial test of the rows that one of two guards alone gets right.

    Args:
        first: rows that the first alone gets right.
        second: rows that the second alone gets right.

    Example:
        >>> from guardreasoner_sdk.evaluation.comparison.figures import mcnemar
        >>> mcnemar(0, 5)
        0.0625
    """
    rows, fewer = first + second, min(first, second)
    if rows < 1000:
        tail: int = sum(math.comb(rows, count) for count in range(fewer + 1))
        return min(1.0, 2 * tail / (1 << rows))
    # In logarithms: the numbers themselves have thousands of digits.
    logs = [math.lgamma(rows + 1) - math.lgamma(n + 1) - math.lgamma(rows - n + 1) for n in range(fewer + 1)]
    most = max(logs)
    total = math.fsum(math.exp(log - most) for log in logs)
    return min(1.0, 2 * total * math.exp(most - rows * math.log(2)))
