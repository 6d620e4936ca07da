"""Stored answers scored by both rules, beside what the paper prints, and why the three figures differ."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.evaluation import paper
from guardreasoner_sdk.evaluation.metrics import Measures, measure
from guardreasoner_sdk.evaluation.rows import LabelledRow, PaperReading, Prediction
from guardreasoner_sdk.evaluation.stored import StoredSet, stored_sets, workers_pool
from guardreasoner_sdk.verdict import Task

__all__ = ["Published", "Score", "score"]

_WORTH_A_POOL = 8_000_000
"""Bytes from which more processes are faster: starting them takes a second."""

_EQUAL = 0.005
"""Figures that are printed with two decimals are the same below this."""


_Kinds = Counter[tuple[bool, bool | None, PaperReading]]
"""How often truth, label and the paper's reading stand together."""


class Published(BaseModel):
    """What the paper prints.

    Args:
        system: of which system.
        f1: in percent; None where the paper leaves it blank.
    """

    model_config = ConfigDict(frozen=True)

    system: str
    f1: float | None


class Score(BaseModel):
    """One task of one benchmark, scored.

    Args:
        file: where the answers stand.
        guard: who answered.
        benchmark: the benchmark.
        task: the task.
        paper: the figures by the authors' rule.
        strict: the figures where an undetermined answer is wrong.
        wrong_twice: rows that the authors' rule counts as wrong two times.
        system: what the guard is called in the paper's tables; None if it is not there.
        printed: the F1 that the paper prints of it, in percent.
        compared: what the paper prints of other systems that were asked for.
        differences: why these figures are not the same, in sentences.

    Example:
        >>> import json
        >>> from pathlib import Path
        >>> from guardreasoner_sdk.evaluation import score
        >>> verdict = {"model": "mine", "prompt_harmfulness": {"label": "harmful"}}
        >>> _ = Path("verdicts.jsonl").write_text(json.dumps({"labels": {"prompt_harmfulness": True}, "verdict": verdict}))
        >>> [found] = score(["verdicts.jsonl"])
        >>> found.task, found.strict.f1
        ('prompt_harmfulness', 100.0)
    """

    model_config = ConfigDict(frozen=True)

    file: str
    guard: str
    benchmark: str
    task: Task
    paper: Measures
    strict: Measures
    wrong_twice: int
    system: str | None
    printed: float | None
    compared: tuple[Published, ...]
    differences: tuple[str, ...]


def score(
    paths: Sequence[str | Path],
    *,
    compare: Sequence[str] = (),
    labels: Iterable[LabelledRow] | None = None,
    task: Task | None = None,
    workers: int = 1,
) -> list[Score]:
    """Score stored answers.

    Args:
        paths: files, or folders of files.
        compare: systems of the paper to set beside each, by name.
        labels: the rows that verdicts without labels are about.
        task: the task, where neither the benchmark nor the label tells.
        workers: processes to read in. With more than one, call it from a script that is safe to import (``if __name__ ==
            "__main__"``): each process imports it.

    Returns:
        one entry for each file, benchmark and task, in the order found. A file that is named twice is read once.

    Raises:
        InputError: there are no stored answers, nothing says what is true, or a line cannot be read.
        MissingExtraError: there are scores, and scikit-learn is not installed.

    Example:
        >>> import json
        >>> from pathlib import Path
        >>> from guardreasoner_sdk.evaluation import score
        >>> verdict = {"model": "mine", "prompt_harmfulness": {"label": "harmful"}}
        >>> _ = Path("verdicts.jsonl").write_text(json.dumps({"labels": {"prompt_harmfulness": True}, "verdict": verdict}))
        >>> [found] = score(["verdicts.jsonl"])
        >>> found.guard, found.strict.recall
        ('mine', 100.0)
    """
    beside = paper.rows(compare)
    sets = {stored.path.resolve(): stored for path in paths for stored in stored_sets(path, task=task)}.values()
    rows = None if labels is None else list(labels)
    found: list[Score] = []
    with _pool(sum(stored.path.stat().st_size for stored in sets), workers) as pool:
        for stored in sets:
            tallies: dict[tuple[str, Task], _Tally] = {}
            for prediction in stored.predictions(rows, pool=pool):
                place = (prediction.benchmark, prediction.task)
                if place not in tallies:
                    tallies[place] = _Tally(*place)
                tallies[place].add(prediction)
            if not tallies:
                fix = "check its labels, or say with --task what they are for"
                raise InputError(str(stored.path), f"has no label of {' or '.join(stored.tasks)}", fix)
            given = _labels(rows) if stored.kind == "verdicts" else Counter()
            found += [_scored(stored, tally, given[place], beside) for place, tally in tallies.items()]
    return found


def _labels(rows: Iterable[LabelledRow] | None) -> Counter[tuple[str, Task]]:
    """How many labels there are for each task of each benchmark."""
    return Counter((row.benchmark, task) for row in rows or () for task in row.labels)


def _pool(size: int, workers: int) -> AbstractContextManager[Executor | None]:
    return workers_pool(workers) if workers > 1 and size > _WORTH_A_POOL else nullcontext()


_READINGS: tuple[PaperReading, ...] = ("positive", "negative", "dropped", "wrong_twice")
_LABELS = (None, False, True)
_NO_SCORE = -1.0


class _Tally:
    """The predictions of one task of one benchmark, at nine bytes each."""

    def __init__(self, benchmark: str, task: Task) -> None:
        self.benchmark = benchmark
        self.task = task
        self._codes = array("B")
        self._scores = array("d")

    def add(self, prediction: Prediction) -> None:
        """Take one in; its name is not kept."""
        code = _READINGS.index(prediction.reading) * 6 + _LABELS.index(prediction.label) * 2 + prediction.truth
        self._codes.append(code)
        self._scores.append(_NO_SCORE if prediction.score is None else prediction.score)

    def predictions(self) -> Iterator[Prediction]:
        """Give them back."""
        for code, known in zip(self._codes, self._scores, strict=True):
            truth, label, reading = _decoded(code)
            yield Prediction("", self.benchmark, self.task, truth, label, None if known == _NO_SCORE else known, reading)

    def kinds(self) -> _Kinds:
        """How often which truth, label and reading stand together."""
        return Counter({_decoded(code): count for code, count in Counter(self._codes).items()})


def _decoded(code: int) -> tuple[bool, bool | None, PaperReading]:
    return bool(code % 2), _LABELS[code // 2 % 3], _READINGS[code // 6]


def _scored(stored: StoredSet, tally: _Tally, labels: int, beside: Sequence[paper.PaperRow]) -> Score:
    [by_paper] = measure(tally.predictions(), scoring="paper")
    [strict] = measure(tally.predictions(), scoring="strict")
    printed = None if stored.system is None else paper.row(stored.system).value(tally.task, tally.benchmark)
    kinds = tally.kinds()
    differences = list(_differences(by_paper, strict, kinds, printed))
    if strict.rows < labels:
        differences.insert(0, f"{labels - strict.rows:,} of {labels:,} labelled rows have no verdict, and are in no figure.")
    return Score(
        file=str(stored.path),
        guard=stored.guard,
        benchmark=tally.benchmark,
        task=tally.task,
        paper=by_paper,
        strict=strict,
        wrong_twice=sum(count for (_, _, reading), count in kinds.items() if reading == "wrong_twice"),
        system=stored.system,
        printed=printed,
        compared=tuple(Published(system=row.name, f1=row.value(tally.task, tally.benchmark)) for row in beside),
        differences=tuple(differences),
    )


def _differences(by_paper: Measures, strict: Measures, kinds: _Kinds, printed: float | None) -> Iterator[str]:
    if by_paper.f1 is None or strict.f1 is None:
        yield from dict.fromkeys((*by_paper.notes, *strict.notes))
        return
    if printed is not None and abs(by_paper.f1 - printed) > _EQUAL:
        yield _from_the_paper(by_paper, printed)
    if (left_out := by_paper.dropped) and (negatives := _count(kinds, reading="dropped", truth=False)):
        hits = 2 * by_paper.true_positives
        other = 100 * hits / (hits + by_paper.false_positives + by_paper.false_negatives + 2 * negatives)
        yield (
            f"The paper's rule leaves out {left_out:,} of {by_paper.rows:,} rows. A published copy of the authors' script "
            f"counts those whose label is unharmful ({negatives:,}) as wrong two times: that gives {other:.2f}."
        )
    if abs(strict.f1 - by_paper.f1) > _EQUAL or strict.undetermined:
        yield _of_strict(by_paper, strict, kinds)


def _from_the_paper(by_paper: Measures, printed: float) -> str:
    difference = (by_paper.f1 or 0) - printed
    first = f"By the paper's rule the answers give {by_paper.f1:.2f}, {difference:+.2f} to the {printed:.2f} that it prints"
    count = paper.sample_count(by_paper.task, by_paper.benchmark or "")
    if count is not None and count != by_paper.rows:
        return f"{first}: here are {by_paper.rows:,} rows, and the paper counts {count:,}."
    return f"{first}, on as many rows: these are not the very answers, or not the very rule, behind its table."


def _of_strict(by_paper: Measures, strict: Measures, kinds: _Kinds) -> str:
    unread = ("dropped", "wrong_twice")
    reasons = []
    if strict.undetermined:
        reasons.append(f"{strict.undetermined:,} undetermined, which counts as wrong")
    found = {
        right: sum(
            count
            for (truth, label, reading), count in kinds.items()
            if reading in unread and label is not None and (label == truth) == right
        )
        for right in (True, False)
    }
    if any(found.values()):
        both = f"{found[True]:,} right, {found[False]:,} wrong"
        reasons.append(f"{sum(found.values()):,} read that the paper's rule cannot read ({both})")
    other = sum(
        count
        for (_, label, reading), count in kinds.items()
        if label is not None and reading not in unread and label != (reading == "positive")
    )
    if other:
        reasons.append(f"{other:,} read as the other label, from the whole answer and not its last 300 characters")
    why = f": {'; '.join(reasons)}" if reasons else ""
    difference = (strict.f1 or 0) - (by_paper.f1 or 0)
    return f"Strict scoring gives {strict.f1:.2f}, {difference:+.2f} to the paper's rule{why}."


def _count(kinds: _Kinds, *, reading: PaperReading, truth: bool) -> int:
    return sum(count for (true, _, read), count in kinds.items() if read == reading and true == truth)
