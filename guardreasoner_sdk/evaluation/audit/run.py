"""An audit's folder: what the guard said, what is proposed, and what a person decided."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from guardreasoner_sdk._text import json_text
from guardreasoner_sdk.data.atomic import errors_while_writing, write_atomic, write_json
from guardreasoner_sdk.data.interrupts import Interrupts
from guardreasoner_sdk.data.journal import Journal, JournalEntry
from guardreasoner_sdk.data.output import Output, RunState
from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.evaluation.audit import Proposal, TaskAudit, propose
from guardreasoner_sdk.evaluation.audit.labelled_set import AuditedRow, LabelledSet, digest_of
from guardreasoner_sdk.evaluation.rows import Prediction, says_positive
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.guard import Guard
from guardreasoner_sdk.verdict import LABELS, Task, Verdict

__all__ = ["Audit", "AuditItem", "key_of", "load", "load_items", "predictions", "run"]

VERDICTS, REASONS, AUDIT, ITEMS = "verdicts.jsonl", "reasons.jsonl", "audit.json", "proposals.jsonl"

Shown = Callable[[int, int], AbstractContextManager[Callable[[int], None]]]
"""Shows how far it is: called with all rows and those already done, gives what to call with the number of rows done."""


class Audit(BaseModel):
    """What an audit was made of, and what it found: ``audit.json``.

    Args:
        audit: name of the audited labels: a hash of the file and of the columns. Decisions carry it.
        file: the file.
        sha256: its hash.
        columns: which column holds what, as ``--column`` takes it.
        guard: who judged: model, backend, reasoning.
        rows: all rows of the file.
        labelled: those with a label.
        at_most: largest share of a task's labels that was proposed.
        tasks: what was found for each task.
    """

    model_config = ConfigDict(frozen=True)

    audit: str
    file: str
    sha256: str
    columns: tuple[str, ...]
    guard: dict[str, str]
    rows: int
    labelled: int
    at_most: float
    tasks: tuple[TaskAudit, ...]

    def labels(self, path: Path | None = None) -> LabelledSet:
        """The audited file.

        Args:
            path: where it lies now; None: where it lay.

        Raises:
            InputError: there is no such file, or another one.
        """
        found = Path(self.file) if path is None else path
        if digest_of(found) != self.sha256:
            raise InputError(
                str(found), "is not the file that was audited, or has changed", "name that file, or run the audit again"
            )
        return LabelledSet(found, self.columns)


class Step(BaseModel):
    """A step of the guard's reasoning.

    Args:
        kind: ``thought``, ``conclusion`` or ``evidence``.
        text: the step.
    """

    kind: Literal["thought", "conclusion", "evidence"]
    text: str


class AuditItem(BaseModel):
    """A proposal with all that a person needs to decide: a line of ``proposals.jsonl``.

    Args:
        key: its name: the row's number and the task.
        row: the row's number in the file.
        id: the row's name in the file.
        task: what is labelled.
        given: the label as given, in words.
        other: what it would become.
        said: the guard's own label, in words.
        score: P(positive label), 0 to 1, or None.
        margin: see :class:`~guardreasoner_sdk.evaluation.audit.Proposal`.
        why: why it is proposed, in a sentence.
        prompt: the row's.
        response: the row's.
        steps: the guard's reasoning on this task.
    """

    model_config = ConfigDict(frozen=True)

    key: str
    row: int
    id: str
    task: Task
    given: str
    other: str
    said: str
    score: float | None
    margin: float | None
    why: str
    prompt: str
    response: str | None
    steps: tuple[Step, ...]


def key_of(row: int, task: Task) -> str:
    """The name of a label: the number of its row, and the task."""
    return f"{row}:{task}"


def run(
    guard: Guard,
    labels: LabelledSet,
    folder: Path,
    *,
    at_most: float,
    explainer: Guard | None,
    settings: Mapping[str, Any],
    overwrite: bool,
    shown: Shown,
) -> tuple[Audit, list[AuditItem]]:
    """Judge all labelled rows of a file, or go on with it, and find the labels to look at.

    Args:
        folder: where everything goes; made if it is not there.
        at_most: largest share of a task's labels to propose.
        explainer: who gives the reasons for the proposals; None: the guard did already.
        settings: what the verdicts depend on, by name; with another value in any of them it is another run.

    Raises:
        InputError: the file or the folder is not as it must be; what was judged by then is written.
    """
    sha256 = digest_of(labels.path)
    rows, labelled = labels.check()
    with errors_while_writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    who = {"model": guard.judge.model, "backend": guard.judge.backend, "reasoning": settings["reasoning"]}
    identity: dict[str, Any] = {"input": sha256, "columns": list(labels.settings), **settings}
    with _opened(folder / VERDICTS, identity, overwrite=overwrite) as journal:
        _judge(guard, (row.exchange for row in labels.rows()), labelled, journal, shown)
        proposals, tasks = propose(_predictions(labels, journal), at_most=at_most)
    audit = Audit(
        audit=labels.name(),
        file=str(labels.path.resolve()),
        sha256=sha256,
        columns=tuple(labels.settings),
        guard=who,
        rows=rows,
        labelled=labelled,
        at_most=at_most,
        tasks=tuple(tasks),
    )
    items = _items(identity, audit, labels, proposals, folder, explainer, shown)
    write_atomic(folder / ITEMS, (f"{json_text(item.model_dump(mode='json'))}\n" for item in items))
    write_json(folder / AUDIT, audit.model_dump(mode="json"))
    return audit, items


def _opened(path: Path, identity: dict[str, Any], *, overwrite: bool) -> AbstractContextManager[Journal]:
    return Output(path.resolve(), "jsonl").opened(identity, overwrite=overwrite)


def _judge(guard: Guard, exchanges: Iterable[Exchange], total: int, journal: Journal, shown: Shown) -> None:
    """Judge what is not in the journal yet; an engine's batch of verdicts is written at a time, and at Ctrl-C those at hand."""
    done = sum(1 for _ in journal.entries())
    if done >= total:
        return
    left = iter(exchanges)
    deque(zip(range(done), left, strict=False), maxlen=0)
    waiting: list[JournalEntry] = []
    with shown(total, done) as show, Interrupts() as interrupts:

        def save() -> None:
            nonlocal done
            with interrupts.held():
                journal.append(waiting)
                done += len(waiting)
                waiting.clear()
            show(done)

        try:
            for verdict in guard.iter_many(left):
                waiting.append(JournalEntry(done + len(waiting) + 1, None, verdict))
                if len(waiting) >= guard.judge.batch_size:
                    save()
        finally:
            save()


def _pairs(labels: LabelledSet, entries: Iterable[JournalEntry]) -> Iterator[tuple[AuditedRow, Verdict]]:
    for row, entry in zip(labels.rows(), entries, strict=True):
        yield row, entry.verdict


def _predictions(labels: LabelledSet, journal: Journal) -> Iterator[Prediction]:
    for row, verdict in _pairs(labels, journal.entries()):
        for task, label in row.labels.items():
            finding = verdict.findings.get(task)
            score = None if finding is None else finding.score
            yield Prediction(str(row.number), "", task, label, says_positive(finding, task), score)


def predictions(labels: LabelledSet, folder: Path) -> list[Prediction]:
    """The labels beside what the guard said, from a folder.

    Raises:
        InputError: the folder holds no whole audit.
    """
    try:
        if not (folder / VERDICTS).exists():
            raise ValueError(VERDICTS)
        with Journal(folder / VERDICTS) as journal:
            return list(_predictions(labels, journal))
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(str(folder), "does not hold the verdicts on all rows", "run the audit again: it goes on") from None


def _items(
    identity: dict[str, Any],
    audit: Audit,
    labels: LabelledSet,
    proposals: list[Proposal],
    folder: Path,
    explainer: Guard | None,
    shown: Shown,
) -> list[AuditItem]:
    wanted = {int(proposal.id) for proposal in proposals}
    tasks = {task.task: task for task in audit.tasks}
    rows = {row.number: row for row in labels.rows() if row.number in wanted}
    if explainer is None:
        with Journal(folder / VERDICTS) as journal:
            verdicts = {row.number: verdict for row, verdict in _pairs(labels, journal.entries()) if row.number in wanted}
    else:
        names = hashlib.sha256(repr(sorted(wanted)).encode()).hexdigest()
        identity = {**identity, "proposals": names}
        reasons = folder / REASONS
        # Other proposals than before, for example after another --at-most: their reasons are measured again.
        stale = not _belongs(reasons, identity)
        with _opened(reasons, identity, overwrite=stale) as journal:
            _judge(explainer, (row.exchange for row in rows.values()), len(rows), journal, shown)
            verdicts = dict(zip(rows, (entry.verdict for entry in journal.entries()), strict=True))
    return [_item(proposal, rows[number], verdicts[number], tasks) for proposal in proposals for number in [int(proposal.id)]]


def _belongs(path: Path, identity: dict[str, Any]) -> bool:
    state = RunState.load(path.with_name(f"{path.name}.state.json"))
    return state is not None and state.difference(identity) is None


def _item(proposal: Proposal, row: AuditedRow, verdict: Verdict, tasks: dict[Task, TaskAudit]) -> AuditItem:
    task = proposal.task
    given, other = LABELS[task] if proposal.label else LABELS[task][::-1]
    return AuditItem(
        key=key_of(row.number, task),
        row=row.number,
        id=row.id,
        task=task,
        given=given,
        other=other,
        said=LABELS[task][0 if proposal.said else 1],
        score=proposal.score,
        margin=proposal.margin,
        why=_why(proposal, tasks[task]),
        prompt=row.exchange.prompt,
        response=row.exchange.response,
        steps=tuple(
            Step(kind=step.kind, text=step.text)
            for step in verdict.reasoning
            if step.task in (task, None) and step.text.strip()
        ),
    )


def _why(proposal: Proposal, of: TaskAudit) -> str:
    positive, negative = LABELS[proposal.task]
    given, other = (positive, negative) if proposal.label else (negative, positive)
    if proposal.margin is None or of.positive_mean is None or of.negative_mean is None:
        return f"The guard says {other}; the label says {given}."
    own, others = (of.positive_mean, of.negative_mean) if proposal.label else (of.negative_mean, of.positive_mean)
    return (
        f"P({positive}) is {proposal.score:.2f}. Rows labelled {given} have {own:.2f} on average, "
        f"rows labelled {other} {others:.2f}."
    )


def load(folder: Path) -> Audit:
    """The audit of a folder.

    Raises:
        InputError: it holds none.
    """
    path = folder / AUDIT
    try:
        return Audit.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise InputError(str(folder), f"holds no {AUDIT}", "name the --output of an audit that ran to its end") from None
    except (OSError, ValidationError):
        raise InputError(str(path), "cannot be read", "run the audit again: its verdicts are kept") from None


def load_items(folder: Path) -> list[AuditItem]:
    """The proposals of a folder, most confident first.

    Raises:
        InputError: it holds none, or damaged ones.
    """
    path = folder / ITEMS
    try:
        with path.open("rb") as file:
            return [AuditItem.model_validate_json(line) for line in file]
    except (OSError, ValidationError):
        raise InputError(str(path), "cannot be read", "run the audit again: its verdicts are kept") from None
