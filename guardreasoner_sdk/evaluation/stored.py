"""Stored answers as predictions: the authors' ``generated_predictions.jsonl``, and the verdict files of this package.

A stored answer of a GuardReasoner is read twice. The paper's reading is the authors' rule: the first match of
``Request: harmful`` and the like in the last 300 characters. The strict reading is the dialect's own: of the whole answer.
"""

from __future__ import annotations

import itertools
import re
import signal
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal, NamedTuple

from guardreasoner_sdk.data.records import json_object, whole_lines
from guardreasoner_sdk.dialects.guardreasoner import GuardReasonerDialect
from guardreasoner_sdk.dialects.labels import Statement, read_statements
from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.evaluation import paper
from guardreasoner_sdk.evaluation.benchmarks import find_benchmark
from guardreasoner_sdk.evaluation.benchmarks.authors import labels_of, paper_reading, reading_of
from guardreasoner_sdk.evaluation.calibration.joined import match_verdicts
from guardreasoner_sdk.evaluation.rows import LabelledRow, Prediction
from guardreasoner_sdk.evaluation.runs import ROBUSTNESS_JOURNAL
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.generation import Completion
from guardreasoner_sdk.verdict import LABELS, TASKS, Task

__all__ = ["StoredSet", "predictions_of", "stored_sets", "workers_pool"]

_CHUNK = 200
"""Lines that one worker gets at a time."""

_NO_RESPONSE = "AI assistant:\nNone\n\n"


class _Plan(NamedTuple):
    """What a worker has to know of a file."""

    path: str
    kind: Literal["answers", "verdicts"]
    benchmark: str
    tasks: tuple[Task, ...]


class _Problem(NamedTuple):
    """What is wrong with a line; an exception of this package does not travel between processes."""

    number: int
    problem: str
    fix: str


@dataclass(frozen=True, slots=True)
class StoredSet:
    """One file of stored answers.

    Args:
        path: the file.
        kind: ``answers`` in the authors' format, or ``verdicts``.
        benchmark: the benchmark, by the name of the file's folder; of verdicts, what the first line says.
        tasks: what its labels are for; of verdicts, all tasks that a line has a label for.
        guard: who answered: the model that the verdicts name, or a GuardReasoner by the size in the path, else the folder.
        labelled: whether its lines say what is true.

    Example:
        >>> import json
        >>> from pathlib import Path
        >>> from guardreasoner_sdk.evaluation import stored_sets
        >>> verdict = {"model": "mine", "prompt_harmfulness": {"label": "harmful"}}
        >>> _ = Path("verdicts.jsonl").write_text(json.dumps({"labels": {"prompt_harmfulness": True}, "verdict": verdict}))
        >>> [stored] = stored_sets("verdicts.jsonl")
        >>> [found.label for found in stored.predictions()]
        [True]
    """

    path: Path
    kind: Literal["answers", "verdicts"]
    benchmark: str
    tasks: tuple[Task, ...]
    guard: str
    labelled: bool = True

    @property
    def system(self) -> str | None:
        """The system of the paper's tables that this is; None for any other."""
        size = _size(self.guard) if _ours(self.guard) and not self.guard.endswith(_CASCADE) else None
        return next((name for name in paper.systems() if size and name == f"GuardReasoner {size}"), None)

    def predictions(self, labels: Iterable[LabelledRow] | None = None, *, pool: Executor | None = None) -> Iterator[Prediction]:
        """Read it.

        Args:
            labels: the rows that verdicts are about: what is true then comes from them, not from the file.
            pool: processes to read in; None: this one.

        Raises:
            InputError: a line cannot be read, or nothing says what is true.
        """
        if labels is not None and self.kind == "verdicts":
            return self._joined(labels)
        if not self.labelled:
            fix = "name the rows that they are about: --labels rows.jsonl"
            raise InputError(str(self.path), "holds verdicts that do not say what is true", fix)
        plan = _Plan(str(self.path), self.kind, self.benchmark, self.tasks)
        return _read_all(plan, whole_lines(self.path), pool)

    def _joined(self, labels: Iterable[LabelledRow]) -> Iterator[Prediction]:
        for place, row, values in match_verdicts(self.path, labels):
            try:
                for task, truth in row.labels.items():
                    if task in self.tasks:
                        yield _said(row.id, row.benchmark, task, truth, values)
            except ValueError as error:
                raise InputError(place, str(error), "run the command that wrote it again") from None


def predictions_of(path: str | Path, *, task: Task | None = None) -> Iterator[Prediction]:
    """All predictions of a file, or of the files in a folder.

    Args:
        path: the file or folder.
        task: the task, where neither the benchmark nor the label tells.

    Raises:
        InputError: there are none, or a line cannot be read.

    Example:
        >>> import json
        >>> from pathlib import Path
        >>> from guardreasoner_sdk.evaluation import predictions_of
        >>> verdict = {"model": "mine", "prompt_harmfulness": {"label": "harmful"}}
        >>> _ = Path("verdicts.jsonl").write_text(json.dumps({"labels": {"prompt_harmfulness": True}, "verdict": verdict}))
        >>> [(found.truth, found.label) for found in predictions_of("verdicts.jsonl")]
        [(True, True)]
    """
    for stored in stored_sets(path, task=task):
        yield from stored.predictions()


def stored_sets(path: str | Path, *, task: Task | None = None) -> list[StoredSet]:
    """The files of stored answers in a folder, however deep, or a file as the only one.

    Args:
        path: the file or folder. In a folder, ``.jsonl`` files that hold something else are passed over. So are the verdicts of
            ``evaluate --robustness``: their sets are not benchmarks, and the report of the evaluation has their figures.
        task: the task, where neither the benchmark nor the label tells.

    Raises:
        InputError: there are none.

    Example:
        >>> import json
        >>> from pathlib import Path
        >>> from guardreasoner_sdk.evaluation import stored_sets
        >>> verdict = {"model": "mine", "prompt_harmfulness": {"label": "harmful"}}
        >>> _ = Path("verdicts.jsonl").write_text(json.dumps({"labels": {"prompt_harmfulness": True}, "verdict": verdict}))
        >>> [(found.kind, found.guard) for found in stored_sets(".")]
        [('verdicts', 'mine')]
    """
    path = Path(path)
    if not path.is_dir():
        found = _known(path, task)
        if found is None:
            fix = "name generated_predictions.jsonl or a file of verdicts"
            raise InputError(str(path), "holds neither answers (prompt, label, predict) nor verdicts", fix)
        return [found]
    files = sorted(file for ending in ("*.jsonl", "*.jsonl.gz") for file in path.rglob(ending) if file.is_file())
    known = [found for file in files if (found := _known(file, task)) is not None]
    sets = [found for found in known if (found.path.name, found.kind) != (ROBUSTNESS_JOURNAL, "verdicts")]
    if not sets:
        raise InputError(str(path), "holds no stored answers", "name a folder with generated_predictions.jsonl files")
    return sets


def _known(path: Path, task: Task | None) -> StoredSet | None:
    number, line = next(whole_lines(path), (0, b""))
    try:
        values = json_object(line)
    except ValueError:
        return None
    verdict = values.get("verdict")
    if isinstance(verdict, dict):
        name = values.get("benchmark") if isinstance(values.get("benchmark"), str) else path.name.split(".")[0]
        guard = f"{verdict.get('model')}{_CASCADE if verdict.get('path') else ''}"
        tasks = (task,) if task else TASKS
        return StoredSet(path, "verdicts", str(name), tasks, guard, labelled="labels" in values)
    if not {"prompt", "label", "predict"} <= values.keys():
        return None
    folder = path.parent.name if path.name.startswith("generated_predictions") else path.name.split(".")[0]
    try:
        benchmark = find_benchmark(folder)
        name, tasks = benchmark.name, benchmark.tasks
    except InputError:
        name, tasks = folder, _told(values)
    if task:
        tasks = (task,)
    elif not tasks:
        fix = "name its folder after the benchmark, or pass --task prompt_harmfulness or response_harmfulness"
        raise InputError(f"{path}, line {number}", "does not say which task its label is for", fix)
    return StoredSet(path, "answers", name, tasks, _guard(path))


def _told(values: Mapping[str, Any]) -> tuple[Task, ...]:
    """The tasks that a label itself tells of."""
    word = str(values["label"]).strip().lower()
    if word in ("refusal", "compliance"):
        return ("response_refusal",)
    if word in ("harmful", "unharmful"):
        return ("prompt_harmfulness",) if str(values["prompt"]).endswith(_NO_RESPONSE) else ()
    return tuple(labels_of({}, values["label"], TASKS))


def _guard(path: Path) -> str:
    above = path.resolve().parent.parent if path.name.startswith("generated_predictions") else path.resolve().parent
    for part in reversed(path.resolve().parts[:-1]):
        # "8B" or "GuardReasoner-8B", and not the folder of some other guard of that size.
        if (size := _size(part)) and (_ours(part) or part.upper() == size):
            return f"GuardReasoner {size}"
    return above.name


_CASCADE = ", in a cascade"
"""Behind the name of a guard whose verdicts are those of two: the first line names the one that decided it."""


_NO_LETTER = re.compile(r"[^a-z]")
_PARAMETERS = re.compile(r"(?<![\w.])(\d++(?:\.\d++)?+)b(?![a-z0-9])")


def _ours(name: str) -> bool:
    return "guardreasoner" in _NO_LETTER.sub("", name.lower())


def _size(text: str) -> str | None:
    found = _PARAMETERS.search(text.lower())
    return f"{found[1]}B" if found else None


def workers_pool(workers: int) -> ProcessPoolExecutor:
    """Processes to read stored answers in."""
    # Not forked: the process may have threads. A Ctrl-C is the parent's to answer.
    return ProcessPoolExecutor(
        workers, get_context("spawn"), initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN)
    )


def _read_all(plan: _Plan, lines: Iterator[tuple[int, bytes]], pool: Executor | None) -> Iterator[Prediction]:
    chunks = iter(lambda: list(itertools.islice(lines, _CHUNK)), [])
    results = map(_read_chunk, itertools.repeat(plan), chunks) if pool is None else _in_order(pool, plan, chunks)
    for predictions, problem in results:
        yield from predictions
        if problem is not None:
            raise InputError(f"{plan.path}, line {problem.number}", problem.problem, problem.fix)


_Result = tuple[list[Prediction], _Problem | None]


def _in_order(pool: Executor, plan: _Plan, chunks: Iterator[list[tuple[int, bytes]]]) -> Iterator[_Result]:
    """The results in the order of the chunks, a bounded number of which is held."""
    waiting: deque[Future[_Result]] = deque(pool.submit(_read_chunk, plan, chunk) for chunk in itertools.islice(chunks, 8))
    while waiting:
        result = waiting.popleft().result()
        waiting.extend(pool.submit(_read_chunk, plan, chunk) for chunk in itertools.islice(chunks, 1))
        yield result


def _read_chunk(plan: _Plan, lines: list[tuple[int, bytes]]) -> _Result:
    predictions: list[Prediction] = []
    read = _answer if plan.kind == "answers" else _verdict
    for number, line in lines:
        try:
            predictions += read(plan, number, json_object(line))
        except ValueError as error:
            fix = "run the command that wrote it again, or remove the line"
            return predictions, _Problem(number, str(error), fix)
    return predictions, None


def _answer(plan: _Plan, number: int, values: Mapping[str, Any]) -> Iterator[Prediction]:
    prompt, answer = values.get("prompt"), values.get("predict")
    if not isinstance(prompt, str) or not isinstance(answer, str) or "label" not in values:
        raise ValueError("has no texts under prompt and predict, or no label")
    truths = labels_of(values, values["label"], plan.tasks)
    if not truths:
        return
    stated = read_statements(answer)
    for task, truth in truths.items():
        label = _label(answer, task, stated[task])
        yield Prediction(str(number), plan.benchmark, task, truth, label, None, paper_reading(answer, task))


_DIALECT = GuardReasonerDialect()
_PAIR = Exchange("-", "-")


def _label(answer: str, task: Task, stated: Sequence[Statement]) -> bool | None:
    """The dialect's reading. Its steps, half of the work, are cut only where the answer does not plainly state the label."""
    positive = LABELS[task][0]
    labels = [statement for statement in stated if statement.label is not None]
    words = {statement.label for statement in labels if statement.block == labels[-1].block}
    if len(words) == 1:
        return words == {positive}
    finding = _DIALECT.read(Completion(answer), _PAIR).findings[task]
    return finding.label == positive if finding.determined else None


def _verdict(plan: _Plan, number: int, values: Mapping[str, Any]) -> Iterator[Prediction]:
    labels = values.get("labels")
    if not isinstance(labels, dict):
        raise ValueError("is a verdict without labels")
    benchmark, identity = values.get("benchmark", plan.benchmark), values.get("id")
    for task in plan.tasks:
        if isinstance(labels.get(task), bool):
            yield _said(str(number if identity is None else identity), str(benchmark), task, labels[task], values)


def _said(identity: str, benchmark: str, task: Task, truth: bool, values: Mapping[str, Any]) -> Prediction:
    """What a verdict says; a task that it does not speak of is undetermined."""
    verdict = values.get("verdict")
    finding = verdict.get(task) if isinstance(verdict, dict) else None
    if not isinstance(verdict, dict) or not isinstance(finding, dict | None):
        raise ValueError("is not a verdict")
    said = None if finding is None else finding.get("label")
    label = said == LABELS[task][0] if said in LABELS[task] else None
    score = None if finding is None else finding.get("score")
    if score is not None and not (isinstance(score, int | float) and 0 <= score <= 1):
        raise ValueError(f"{task}: the score is no probability")
    # A calibration decides again: what the model wrote is no longer what the guard says.
    reading = None if verdict.get("calibrated") else reading_of(verdict.get("raw"), task)
    return Prediction(identity, benchmark, task, truth, label, score, reading)
