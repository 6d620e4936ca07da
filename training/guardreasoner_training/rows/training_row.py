"""Rows to train on: read from a user's files or from the hub, written in the one form that every stage reads."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, cast

from guardreasoner_sdk._text import JsonError, json_text, parse_json
from guardreasoner_sdk.data.atomic import errors_while_writing, write_atomic
from guardreasoner_sdk.data.columns import Columns, near_prompt
from guardreasoner_sdk.data.readers import each_record
from guardreasoner_sdk.data.records import Record
from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.evaluation.benchmarks.authors import parts_of
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.verdict import LABELS, TASKS, Task
from guardreasoner_training.rows.files import files_of, names_of, stem_of
from guardreasoner_training.rows.outputs import is_whole, read_labels, steps_in

__all__ = [
    "FIELDS",
    "HUB",
    "SPLITS",
    "TrainingRow",
    "from_source",
    "hub_rows",
    "read_each",
    "read_rows",
    "stable_random",
    "write_rows",
]

FIELDS: dict[Task, str] = {
    "prompt_harmfulness": "prompt_harmful",
    "response_refusal": "refusal",
    "response_harmfulness": "response_harmful",
}
"""The field of a written row that holds each task's label."""

HUB = "yueliu1999/GuardReasonerTrain"
"""The paper's training data."""

SPLITS = ("WildGuardTrainR", "AegisTrainR", "BeaverTailsTrainR", "ToxicChatTrainR")
"""Its splits."""

_RESERVED = frozenset({"output", "reasoning", "category", "source", "id", "history", "filled"})
"""What is read without being named."""

_NAME = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """One exchange to train on.

    Args:
        id: its name, the same in every run: the row's own ``id``, else ``<file>:<number>``; where two files have one name,
            with its ending or its folder.
        exchange: what is judged.
        labels: the truth for the tasks that are labelled; True is the positive label (harmful, refusal).
        output: what the model is to write, word for word, where that is known.
        category: of the harm, in whatever words the source has.
        source: the data set it comes from.
        reasoning: the steps of each task, where they are known and ``output`` is not.
        filled: tasks whose label was filled in by a guard.

    Example:
        >>> from guardreasoner_sdk import Exchange
        >>> from guardreasoner_training.rows import TrainingRow
        >>> row = TrainingRow("1", Exchange("How do I poison a well?"), {"prompt_harmfulness": True})
        >>> row.labels, row.output
        ({'prompt_harmfulness': True}, None)
    """

    id: str
    exchange: Exchange
    labels: Mapping[Task, bool]
    output: str | None = None
    category: str | None = None
    source: str = ""
    reasoning: Mapping[Task, tuple[str, ...]] = field(default_factory=dict)
    filled: tuple[Task, ...] = ()


def read_rows(
    path: str | Path | Sequence[str | Path], *, columns: Columns | None = None, source_from_file: bool = False
) -> Iterator[TrainingRow]:
    """The labelled rows of files.

    Fields: ``prompt``, ``response``; the labels ``prompt_harmful``, ``refusal``, ``response_harmful`` (true and false, the
    labels' own words, 1 and 0, or null); ``reasoning`` (the steps as text, a whole output, or steps by task), ``output``,
    ``category``, ``source``, ``id``. The authors' form (``instruction``, ``input``, ``output``) is read too.

    Args:
        path: files (``.jsonl``, ``.csv``, ``.tsv``, ``.json``, each also with ``.gz`` or ``.xz``, and ``.parquet``), or folders
            of them, in which hidden files are passed over.
        columns: where a file of other columns has texts and labels.
        source_from_file: whether a row's source is the name of its file, whatever ``source`` says.

    Yields:
        the rows that have a label.

    Raises:
        InputError: the first row that cannot be used, ``file:line: field: problem; fix``.
        MissingExtraError: Parquet, and pyarrow is not installed.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("mine.jsonl").write_text('{"prompt": "How do I bake a cake?", "prompt_harmful": false}\\n')
        >>> from guardreasoner_training.rows import read_rows
        >>> [(row.id, row.labels) for row in read_rows(Path("mine.jsonl"))]
        [('mine:1', {'prompt_harmfulness': False})]
    """
    for row in read_each(path, columns=columns, source_from_file=source_from_file):
        if isinstance(row, InputError):
            raise row
        if row.labels:
            yield row


def read_each(
    path: str | Path | Sequence[str | Path], *, columns: Columns | None = None, source_from_file: bool = False
) -> Iterator[TrainingRow | InputError]:
    """What each line of some files is: a row, with or without labels, or what is wrong with it. See :func:`read_rows`.

    Raises:
        InputError: there is no such file.
        MissingExtraError: Parquet, and pyarrow is not installed.
    """
    chosen = columns or Columns()
    files = files_of([path] if isinstance(path, str | Path) else path)
    for file, own in zip(files, names_of(files), strict=True):
        name = stem_of(file)
        for record in each_record(file):
            if isinstance(record, InputError):
                yield record
                continue
            try:
                row = _parsed(record, chosen, name=f"{own}:{record.line or record.number}", source=name)
            except InputError as error:
                yield error
            else:
                yield replace(row, source=name) if source_from_file else row


def write_rows(path: Path, rows: Iterable[TrainingRow]) -> int:
    """Write rows as JSON lines, whole or not at all.

    Args:
        path: the file; its folder is made.
        rows: the rows.

    Returns:
        how many there were.

    Raises:
        InputError: the file cannot be written, for example because the disk is full.

    Example:
        >>> from guardreasoner_sdk import Exchange
        >>> from guardreasoner_training.rows import TrainingRow
        >>> row = TrainingRow("1", Exchange("How do I poison a well?"), {"prompt_harmfulness": True})
        >>> from pathlib import Path
        >>> from guardreasoner_training.rows import write_rows
        >>> write_rows(Path("rows.jsonl"), [row])
        1
    """
    with errors_while_writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    count = itertools.count()
    write_atomic(path, (_line(row) for row, _ in zip(rows, count, strict=False)))
    return next(count)


def hub_rows(splits: Sequence[str] = SPLITS, *, repo: str = HUB, revision: str = "main") -> Iterator[TrainingRow]:
    """The paper's training data, from the hub or a copy of it. A row's source is its split.

    Args:
        splits: which parts of it.
        repo: the repository, or a folder with its files.
        revision: commit, branch or tag.

    Raises:
        InputError: it cannot be downloaded or read.
        MissingExtraError: downloading needs an extra.
    """
    from guardreasoner_training.rows.hub import split_files

    for split, files in split_files(repo, splits, revision).items():
        for number, row in enumerate(read_rows(files), 1):
            yield replace(row, id=f"{split}:{number}", source=split)


def from_source(source: str, patterns: Iterable[str]) -> bool:
    """Whether a source is one of those meant.

    Args:
        source: the row's.
        patterns: names, ``*`` standing for anything; capitals do not matter.
    """
    return any(fnmatchcase(source.lower(), pattern.lower()) for pattern in patterns)


def stable_random(*what: object) -> int:
    """A random number of 64 bits that depends on the seed and the names given, and on nothing else."""
    data = "\x1f".join(map(str, what)).encode("utf-8", "replace")
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big")


def _line(row: TrainingRow) -> str:
    values: dict[str, Any] = {"id": row.id, "prompt": row.exchange.prompt, "response": row.exchange.response}
    if row.exchange.history:
        values["history"] = [turn.model_dump() for turn in row.exchange.history]
    values |= {FIELDS[task]: row.labels.get(task) for task in TASKS}
    values |= {"output": row.output, "category": row.category, "source": row.source}
    if row.reasoning:
        values["reasoning"] = {task: list(steps) for task, steps in row.reasoning.items()}
    if row.filled:
        values["filled"] = list(row.filled)
    return json_text(values) + "\n"


def _parsed(record: Record, columns: Columns, *, name: str, source: str) -> TrainingRow:
    """The row of a line; ``name`` and ``source`` are those of one that gives none.

    Raises:
        InputError: it cannot be used; place, field and fix.
    """
    record = _read(record) if record.cells else record
    values = record.values
    if columns == Columns() and {"instruction", "input", "output"} <= values.keys():
        return _authors(record, name=name, source=source)
    prompt = _needed(record, columns.prompt)
    response = values.get(columns.response_name)
    rest = _rest(record, columns)
    exchange = _exchange(rest, prompt, None if response == "" else response, columns)
    labels = columns.labels_of(record, needed=False)
    output, reasoning = _reasoning(rest, labels)
    if output is not None:
        said = read_labels(output, exchange)
        _agrees(record, labels, said)
        known = {**said, **labels}
        labels = {task: known[task] for task in TASKS if task in known}
    identity = (rest.values if columns.id == "id" else values).get(columns.id)
    return TrainingRow(
        id=name if identity in (None, "") else str(identity),
        exchange=exchange,
        labels=labels,
        output=output,
        category=_text(rest, "category"),
        source=_text(rest, "source") or source,
        reasoning=reasoning,
        filled=_filled(rest),
    )


def _read(record: Record) -> Record:
    """What the cells of a table of text say: an empty one nothing, and reasoning by task is written as JSON."""
    values: dict[str, Any] = {name: cell or None for name, cell in record.values.items()}
    reasoning = values.get("reasoning")
    if reasoning is not None and reasoning.startswith("{"):
        with suppress(JsonError):
            values["reasoning"] = parse_json(reasoning, finite=False)
    return record._replace(values=values)


def _rest(record: Record, columns: Columns) -> Record:
    """A line without what a column of its was named for: a response in ``output`` is not what the guard is to write."""
    named = {columns.prompt, columns.response or "", *columns.labels.values(), *({columns.id} - {"id"})}
    if named.isdisjoint(_RESERVED):
        return record
    return record._replace(values={name: value for name, value in record.values.items() if name not in named})


def _authors(record: Record, *, name: str, source: str) -> TrainingRow:
    """A row of the paper's training data: the input holds prompt and response, the output the steps and the labels."""
    given, output = record.values["input"], record.values["output"]
    parts = parts_of(given) if isinstance(given, str) else None
    if parts is None:
        raise InputError(f"{record.place}: input", "has another form than the authors'", "use their file as it is")
    if not isinstance(output, str) or not output.strip():
        raise InputError(f"{record.place}: output", "is empty", "use the authors' file as it is")
    exchange = _exchange(record, *parts, Columns())
    return TrainingRow(name, exchange, read_labels(output, exchange), output, source=source)


def _needed(record: Record, name: str) -> Any:
    if name in record.values:
        return record.values[name]
    near = near_prompt(record.values)
    fix = f"name its column: prompt={near}" if near is not None else "give every row a prompt, or name its column: prompt=..."
    raise InputError(f"{record.place}: {name}", "is missing", fix)


def _exchange(record: Record, prompt: Any, response: Any, columns: Columns) -> Exchange:
    try:
        return Exchange(prompt, response, record.values.get("history") or ())
    except InputError as error:
        name = {"prompt": columns.prompt, "response": columns.response_name}.get(error.field, error.field)
        raise InputError(f"{record.place}: {name}", error.problem, error.fix) from None


def _agrees(record: Record, labels: Mapping[Task, bool], said: Mapping[Task, bool]) -> None:
    for task, label in labels.items():
        if said.get(task, label) != label:
            own, other = (LABELS[task][0 if value else 1] for value in (label, not label))
            problem = f"says that {task} is {other}, the row's label is {own}"
            raise InputError(f"{record.place}: output", problem, "correct one of them, or leave the output out")


def _reasoning(record: Record, labels: Mapping[Task, bool]) -> tuple[str | None, dict[Task, tuple[str, ...]]]:
    """The whole output, or the steps of each task. Steps that name no task are about what is labelled."""
    prompt, _, response = TASKS
    side = response if response in labels and prompt not in labels else prompt
    output = _text(record, "output")
    value = record.values.get("reasoning")
    if value is None:
        return output, {}
    place = f"{record.place}: reasoning"
    if isinstance(value, Mapping):
        return output, _by_task(place, value)
    if isinstance(value, list | tuple):
        return output, _by_task(place, {side: value})
    if not isinstance(value, str):
        raise InputError(place, f"is a {type(value).__name__}", 'write text, or {"prompt_harmfulness": ["a step", ...]}')
    if not value.strip():
        raise InputError(place, "is empty", "write the steps, or null")
    if output is None and is_whole(value):
        return value, {}
    return output, steps_in(value) or {side: (value.strip(),)}


def _by_task(place: str, value: Mapping[Any, Any]) -> dict[Task, tuple[str, ...]]:
    found: dict[Task, tuple[str, ...]] = {}
    for task, steps in value.items():
        if task not in TASKS:
            raise InputError(place, f"{str(task)[:40]!r} is not a task", f"use {', '.join(TASKS)}")
        if steps is None:  # a column of structs has all the names
            continue
        listed = [steps] if isinstance(steps, str) else steps
        if not isinstance(listed, list | tuple) or not all(isinstance(step, str) for step in listed):
            raise InputError(f"{place}.{task}", "is no list of texts", 'write ["a step", "another"]')
        if not listed or not all(step.strip() for step in listed):
            raise InputError(f"{place}.{task}", "is empty, or has an empty step", "write the steps, or leave the task out")
        found[cast("Task", task)] = tuple(step.strip() for step in listed)
    return found


def _filled(record: Record) -> tuple[Task, ...]:
    value = record.values.get("filled") or ()
    # A cell of a CSV file is text: ['response_refusal'].
    named = _NAME.findall(value) if isinstance(value, str) else value
    if not isinstance(named, list | tuple) or any(task not in TASKS for task in named):
        fix = f"write a list of the tasks whose label a guard filled in ({', '.join(TASKS)}), or leave it out"
        raise InputError(f"{record.place}: filled", "is no list of tasks", fix)
    return tuple(task for task in TASKS if task in named)


def _text(record: Record, name: str) -> str | None:
    value = record.values.get(name)
    if value is None or (name != "output" and value == ""):
        return None
    if not isinstance(value, str):
        if name != "output" and isinstance(value, int | float):
            return str(value)
        raise InputError(f"{record.place}: {name}", f"is a {type(value).__name__}", "write text, or null")
    if name == "output" and not value.strip():
        raise InputError(f"{record.place}: output", "is empty", "write the whole output, or null")
    return value
