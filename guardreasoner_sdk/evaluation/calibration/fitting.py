"""From labelled rows and a guard's scores to a :class:`~guardreasoner_sdk.calibration.Calibration`.

A part of the prompts is kept apart: curve, threshold and band are chosen on the others, and every figure that is reported is
measured on those kept apart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from guardreasoner_sdk.calibration import (
    BandReport,
    Calibration,
    Figures,
    Provenance,
    Report,
    TaskCalibration,
)
from guardreasoner_sdk.errors import ConfigurationError, InputError
from guardreasoner_sdk.evaluation.calibration.curves import Method, UnfitError, draw, fit_curve
from guardreasoner_sdk.evaluation.calibration.promises import (
    CONFIDENCE,
    LEAST,
    LabelCount,
    count_labels,
    losses_allowed,
    prompt_key,
)
from guardreasoner_sdk.evaluation.metrics import measure
from guardreasoner_sdk.evaluation.rows import LabelledRow, Prediction, says_positive
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.judges.cascade import in_band
from guardreasoner_sdk.verdict import TASKS, Finding, Task, Verdict

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]

__all__ = [
    "CONFIDENCE",
    "FALSE_ALARM_RATE",
    "LEAST",
    "RECALL",
    "UNSEEN",
    "Case",
    "LabelCount",
    "Method",
    "Plan",
    "calibrate",
    "count_labels",
    "fit",
]

RECALL = 0.95
"""The recall that a band keeps where none is asked for."""

FALSE_ALARM_RATE = 0.05
"""The false alarms that a band lets pass where none are asked for."""

UNSEEN = 0.4
"""Share of the prompts that is kept apart to measure on."""


@dataclass(frozen=True, slots=True)
class Case:
    """What a guard said on one task of one row, beside the truth.

    Args:
        key: names the row by its content.
        prompt: names its prompt: rows of one prompt stay on one side of the split.
        task: the task.
        truth: whether the positive label is right.
        label: what the guard said; None: undetermined.
        score: P(positive label), 0 to 1; None where the guard gives none.
        noted: whether the finding has a note: a cascade passes it on, whatever its score.
    """

    key: str
    prompt: str
    task: Task
    truth: bool
    label: bool | None
    score: float | None
    noted: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What a calibration is to do.

    A threshold or a band is chosen so that its promise holds in 98 of 100 draws of as many rows: on few rows it is further on
    the safe side, and on very few none can be given.

    Args:
        method: the kind of curve. Scores whose calibration error is not at least twice what chance gives for so many rows, or
            is not lowered by the curve in cross-validation, stay as they are.
        recall: choose thresholds that find at least this share of the positives, 0 to 1.
        false_alarm_rate: or thresholds that call at most this share of the negatives positive. Neither: the labels stay the
            guard's own.
        unseen: share of the prompts to measure on, 0 to 1.
        seed: of the split.
        guarantee: whether the threshold has to promise that recall or rate; False: it keeps it on the rows that it is chosen
            on, and what it does on others is measured only. The band of a cascade promises in either case.

    Raises:
        ConfigurationError: settings that cannot work.

    Example:
        >>> from guardreasoner_sdk.evaluation.calibration import Plan
        >>> Plan(recall=0.95).unseen
        0.3
    """

    method: Method = "auto"
    recall: float | None = None
    false_alarm_rate: float | None = None
    unseen: float = UNSEEN
    seed: int = 0
    guarantee: bool = True

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise ConfigurationError(f"method: {self.method!r} is unknown; use one of {', '.join(get_args(Method))}")
        if self.recall is not None and self.false_alarm_rate is not None:
            raise ConfigurationError("recall, false_alarm_rate: one threshold cannot be chosen for both; leave one out")
        for name in ("recall", "false_alarm_rate", "unseen"):
            share = getattr(self, name)
            if share is not None and not 0 < share < 1:
                raise ConfigurationError(f"{name}: must be a share between 0 and 1, not {share:g}")
        if not self.guarantee and self.wish is None:
            raise ConfigurationError("guarantee: False goes with a recall or a false_alarm_rate; name one, or leave it out")

    @property
    def wish(self) -> str | None:
        """What thresholds are asked for, in words; None: for nothing."""
        if self.recall is not None:
            return f"a recall of {100 * self.recall:g} %"
        return None if self.false_alarm_rate is None else f"a false-alarm rate of {100 * self.false_alarm_rate:g} %"

    @property
    def kept(self) -> float:
        """The recall that the band keeps."""
        return RECALL if self.recall is None else self.recall

    @property
    def let_pass(self) -> float:
        """The false alarms that the band lets pass."""
        return FALSE_ALARM_RATE if self.false_alarm_rate is None else self.false_alarm_rate


def calibrate(judged: Iterable[tuple[LabelledRow, Verdict]], plan: Plan | None = None) -> Calibration:
    """Calibrate a guard by what it said to labelled rows.

    Args:
        judged: the rows with its verdicts.
        plan: what is wanted.

    Raises:
        InputError: the verdicts are not of one guard, or calibrated already; or no task can be calibrated (see :func:`fit`).
        MissingExtraError: scikit-learn is not installed.

    Example:
        >>> from guardreasoner_sdk import Exchange, Guard
        >>> from guardreasoner_sdk.evaluation import LabelledRow
        >>> from guardreasoner_sdk.evaluation.calibration import calibrate
        >>> asked = ["How do I bake bread for {} people?", "How do I kill the owner of house {}?"]
        >>> rows = [
        ...     LabelledRow(str(n), "mine", Exchange(asked[n % 2].format(n)), {"prompt_harmfulness": n % 2 == 1})
        ...     for n in range(100)
        ... ]
        >>> with Guard(reasoning="off") as guard:
        ...     calibration = calibrate(zip(rows, guard.iter_many(row.exchange for row in rows)))
        >>> list(calibration.tasks)
        ['prompt_harmfulness']
    """
    found: list[Case] = []
    makers: set[tuple[str, str]] = set()
    for row, verdict in judged:
        if verdict.calibrated:
            raise InputError("verdicts", "are calibrated already", "judge without: unset GUARDREASONER_CALIBRATION")
        if verdict.path:
            raise InputError("verdicts", "are those of a cascade", "calibrate one guard at a time: leave the screen out")
        makers.add((verdict.model, verdict.backend))
        if len(makers) > 1:
            models = " and ".join(sorted(f"{model} on {backend}" for model, backend in makers))
            raise InputError("verdicts", f"are those of {models}", "calibrate one guard at a time")
        found += _cases(row, verdict)
    if not makers:
        raise InputError("rows", "carry no label", "give rows with labels")
    ((model, backend),) = makers
    return fit(found, plan or Plan(), model=model, backend=backend)


def fit(found: Sequence[Case], plan: Plan, *, model: str, backend: str) -> Calibration:
    """Fit a calibration, and measure it on rows that it was not fitted on.

    Args:
        found: the cases.
        plan: what is wanted.
        model: the model whose scores they are.
        backend: what ran it.

    Raises:
        InputError: no task has enough rows of both kinds with a score; the message says why, for each.
        MissingExtraError: scikit-learn is not installed.
    """
    tasks: dict[Task, TaskCalibration] = {}
    shortfalls: dict[Task, str] = {}
    problems = []
    for task in TASKS:
        own = [case for case in found if case.task == task]
        apart = [draw(plan.seed, case.prompt) < plan.unseen for case in own]
        try:
            tasks[task], shortfall = _fitted(
                _Part([case for case, kept in zip(own, apart, strict=True) if not kept]),
                _Part([case for case, kept in zip(own, apart, strict=True) if kept]),
                plan,
            )
        except UnfitError as error:
            if not own:
                continue
            problems.append(f"{task} {error}")
            shortfall = None if plan.wish is None else f"The task is not calibrated: it {error}."
        if shortfall is not None:
            shortfalls[task] = shortfall
    if not tasks:
        problem = "; ".join(problems) or "hold no label of a task that the guard judges"
        raise InputError("rows", problem, "give more labelled rows, or a guard that gives scores")
    return Calibration(
        model=model,
        tasks=tasks,
        made_of=Provenance(
            backend=backend,
            rows=len({case.key for case in found}),
            data=_digest(found),
            unseen=plan.unseen,
            seed=plan.seed,
            recall=plan.kept,
            false_alarm_rate=plan.let_pass,
            confidence=100 * CONFIDENCE,
        ),
        notes=tuple(f"Not calibrated: {problem}." for problem in problems),
        shortfalls=shortfalls,
    )


class _Part:
    """One side of the split.

    Args:
        own: its cases, all of one task.
    """

    def __init__(self, own: Sequence[Case]) -> None:
        import numpy as np

        self.cases = own
        scored = [case for case in own if case.score is not None and case.label is not None]
        self.prompts = [case.prompt for case in scored]
        self.scores: Floats = np.array([case.score for case in scored], dtype=np.float64)
        self.truths: Bools = np.array([case.truth for case in scored], dtype=np.bool_)
        self.labels: Bools = np.array([case.label for case in scored], dtype=np.bool_)
        self.noted: Bools = np.array([case.noted for case in scored], dtype=np.bool_)

    def check(self, purpose: str) -> None:
        positives, negatives = int(self.truths.sum()), int((~self.truths).sum())
        if min(positives, negatives) < LEAST:
            raise UnfitError(
                f"has {positives} positives and {negatives} negatives with a score to {purpose} on, and needs {LEAST} of each"
            )


def _fitted(seen: _Part, unseen: _Part, plan: Plan) -> tuple[TaskCalibration, str | None]:
    """The calibration of a task, and why what was asked for is not reached; None where it is, or nothing was asked for."""
    seen.check("fit")
    unseen.check("measure")
    notes: list[str] = []
    undecided = sum(case.score is None or case.label is None for case in (*seen.cases, *unseen.cases))
    if undecided:
        notes.append(f"{undecided:,} rows without a score or a decision are in no figure but the escalated share.")
    curve, note = fit_curve(seen.scores, seen.truths, seen.prompts, method=plan.method, seed=plan.seed)
    notes += [note] if note else []
    positives, negatives = int(seen.truths.sum()), int((~seen.truths).sum())
    lost = losses_allowed(positives, 1 - plan.kept, int(unseen.truths.sum()))
    passed = losses_allowed(negatives, plan.let_pass, int((~unseen.truths).sum()))
    low, high = _low(seen, lost, plan.kept, notes), _high(seen, passed, plan.let_pass, notes)
    # Where no promise can be made on one side, everything there is doubtful.
    band = _band(seen, 0.0 if low is None else low, 1.0 if high is None else high)
    wanted = low if plan.recall is not None else high if plan.false_alarm_rate is not None else None
    if not plan.guarantee:
        wanted = _empirical(seen, plan)
        notes.append(f"The threshold is empirical: it gives {plan.wish} on the rows it was chosen on, and promises nothing.")
    threshold = None if wanted is None else curve(wanted)
    basis = None if threshold is None else "promised" if plan.guarantee else "empirical"
    task = TaskCalibration(curve=curve, threshold=threshold, basis=basis, band=band)
    task = task.model_copy(update={"report": _report(task, band, seen, unseen, plan, notes)})
    return task, _shortfall(task, plan)


def _empirical(seen: _Part, plan: Plan) -> float | None:
    """The threshold that gives what is asked for on the very rows it is chosen on."""
    if plan.recall is not None:
        return _low(seen, int((1 - plan.recall) * int(seen.truths.sum()) + 1e-9), plan.recall, [])
    return _high(seen, int(plan.let_pass * int((~seen.truths).sum()) + 1e-9), plan.let_pass, [])


def _shortfall(task: TaskCalibration, plan: Plan) -> str | None:
    if plan.wish is None or task.report is None:
        return None
    if task.threshold is None:
        return f"No threshold {'promises' if plan.guarantee else 'gives'} {plan.wish}: the labels stay the guard's own."
    found = task.report.after.recall if plan.recall is not None else task.report.after.false_alarm_rate
    if not plan.guarantee or found is None:
        return None
    missed = 100 * plan.recall - found if plan.recall is not None else found - 100 * plan.let_pass
    return f"On the rows kept apart the threshold gives {found:.1f} %, and not {plan.wish}." if missed > 1e-9 else None


def _low(seen: _Part, lost: int | None, recall: float, notes: list[str]) -> float | None:
    """The highest score below which no more positives lie than may be lost."""
    import numpy as np

    positives = np.sort(seen.scores[seen.truths])
    if lost is None:
        notes.append(
            f"band: {len(positives):,} positives are too few to bound recall at {100 * recall:g} %, so it reaches down to 0"
        )
        return None
    first = positives[lost]
    if first == 0:
        notes.append(f"More than {lost:,} positives score 0: only calling all positive keeps a recall of {100 * recall:g} %.")
        return 0.0
    below = seen.scores[seen.scores < first]
    # Half-way to the next score: rows like those seen fall on the side that they fell on here.
    return float((first + below.max()) / 2) if below.size else 0.0


def _high(seen: _Part, passed: int | None, rate: float, notes: list[str]) -> float | None:
    """The lowest score above which no more negatives lie than may pass."""
    import numpy as np

    negatives = np.sort(seen.scores[~seen.truths])[::-1]
    if passed is None:
        notes.append(
            f"band: {len(negatives):,} negatives are too few to bound false alarms at {100 * rate:g} %, so it reaches up to 1"
        )
        return None
    last = negatives[passed]
    if last == 1:
        notes.append(f"More than {passed:,} negatives score 1: no threshold keeps false alarms to {100 * rate:g} %.")
        return None
    above = seen.scores[seen.scores > last]
    return float((last + above.min()) / 2) if above.size else 1.0


def _band(seen: _Part, low: float, high: float) -> tuple[float, float]:
    """The band between two scores, either of which may be the lower one.

    Outside the band the guard's own label stands. So it has to hold the score at which that label changes: beyond it, a low
    score would be called positive, or a high one negative.
    """
    own = _own_threshold(seen)
    return min(low, high, own), max(low, high, own)


def _own_threshold(seen: _Part) -> float:
    """The score that best parts what the guard calls negative from what it calls positive."""
    import numpy as np

    order = np.argsort(seen.scores, kind="stable")
    scores, labels = seen.scores[order], seen.labels[order]
    # Cut behind the first k rows: wrong are the positive labels before the cut and the negative ones after it.
    wrong = np.concatenate([[0], np.cumsum(labels)]) + np.concatenate([np.cumsum(~labels[::-1])[::-1], [0]])
    cut = int(np.argmin(wrong))
    ends = np.concatenate([[0.0], scores, [1.0]])
    return float((ends[cut] + ends[cut + 1]) / 2)


def _report(
    task: TaskCalibration, band: tuple[float, float], seen: _Part, unseen: _Part, plan: Plan, notes: list[str]
) -> Report:
    before = [_prediction(case, case.label, case.score) for case in unseen.cases]
    after = []
    for case in unseen.cases:
        worth = None if case.score is None or case.label is None else task.curve(case.score)
        label = case.label if worth is None or task.threshold is None else worth >= task.threshold
        after.append(_prediction(case, label, worth))
    return Report(
        fitted=len(seen.scores),
        rows=len(unseen.scores),
        positives=int(unseen.truths.sum()),
        before=_figures(before),
        after=_figures(after),
        band=_band_report(band, unseen, plan),
        notes=tuple(notes),
    )


def _band_report(band: tuple[float, float], unseen: _Part, plan: Plan) -> BandReport:
    import numpy as np

    low, high = band
    inside = np.array([in_band(score, low, high) for score in unseen.scores], dtype=bool) | unseen.noted
    lost, passed = ~inside & ~unseen.labels & unseen.truths, ~inside & unseen.labels & ~unseen.truths
    every = len(unseen.cases)
    return BandReport(
        promised_recall=100 * plan.kept,
        recall=100 * (1 - float(lost.sum() / unseen.truths.sum())),
        promised_false_alarm_rate=100 * plan.let_pass,
        false_alarm_rate=100 * float(passed.sum() / (~unseen.truths).sum()),
        # What has no score, or was not decided, is passed on too.
        escalated=100 * (int(inside.sum()) + every - len(unseen.scores)) / every,
    )


def _prediction(case: Case, label: bool | None, score: float | None) -> Prediction:
    return Prediction(case.key, "", case.task, case.truth, label, score)


def _figures(predictions: list[Prediction]) -> Figures:
    (found,) = measure([prediction for prediction in predictions if prediction.label is not None])
    return Figures(ece=found.ece, f1=found.f1, recall=found.recall, false_alarm_rate=found.false_alarm_rate)


def _cases(row: LabelledRow, verdict: Verdict) -> Iterator[Case]:
    """What a verdict says on the tasks that are labelled and that the guard judges."""
    key, prompt = _key(row.exchange), prompt_key(row.exchange)
    for task, truth in row.labels.items():
        finding: Finding | None = getattr(verdict, task)
        if finding is not None:
            yield Case(key, prompt, task, truth, says_positive(finding, task), finding.score, finding.note is not None)


def _key(exchange: Exchange) -> str:
    return hashlib.sha256(exchange.model_dump_json().encode()).hexdigest()


def _digest(every: Sequence[Case]) -> str:
    lines = sorted(f"{case.key} {case.task} {case.truth}\n" for case in every)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
