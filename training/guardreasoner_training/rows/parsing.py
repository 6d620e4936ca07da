"""What one line of a training file says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast

from guardreasoner_sdk._text import JsonError, parse_json
from guardreasoner_sdk.data.columns import Columns, near_prompt
from guardreasoner_sdk.data.records import Record
from guardreasoner_sdk.dialects.guardreasoner import GuardReasonerDialect
from guardreasoner_sdk.dialects.labels import read_statements
from guardreasoner_sdk.dialects.steps import split_steps
from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.evaluation.benchmarks.authors import parts_of
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.generation import Completion
from guardreasoner_sdk.verdict import LABELS, TASKS, Task

__all__ = ["Parsed", "parse_row", "read_labels", "steps_in"]

_RESERVED = frozenset({"output", "reasoning", "category", "source", "id", "history", "filled"})
"""What is read without being named."""

_NAME = re.compile(r"\w+")
_ASSESSED = re.compile(r"\s*(?:- Safety Assessment:\s*)?(?:un)?safe\b[ \t.]*(?:\n|\Z)", re.IGNORECASE)
"""How an output begins that gives the label first."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """A line, checked. The fields are those of a ``TrainingRow``; ``id`` and ``source`` are None where it has none."""

    exchange: Exchange
    labels: Mapping[Task, bool]
    id: str | None = None
    source: str | None = None
    category: str | None = None
    output: str | None = None
    reasoning: Mapping[Task, tuple[str, ...]] = field(default_factory=dict)
    filled: tuple[Task, ...] = ()


def parse_row(record: Record, columns: Columns) -> Parsed:
    """Check one line.

    Raises:
        InputError: it cannot be used; place, field and fix.
    """
    record = _read(record) if record.cells else record
    values = record.values
    if columns == Columns() and {"instruction", "input", "output"} <= values.keys():
        return _authors(record)
    prompt = _needed(record, columns.prompt)
    response = values.get(columns.response_name)
    rest = _rest(record, columns)
    exchange = _exchange(rest, prompt, None if response == "" else response, columns)
    labels = _labels(record, columns)
    output, reasoning = _reasoning(rest, labels)
    if output is not None:
        said = read_labels(output, exchange)
        _agrees(record, labels, said)
        known = {**said, **labels}
        labels = {task: known[task] for task in TASKS if task in known}
    identity = (rest.values if columns.id == "id" else values).get(columns.id)
    return Parsed(
        exchange,
        labels,
        id=None if identity in (None, "") else str(identity),
        source=_text(rest, "source"),
        category=_text(rest, "category"),
        output=output,
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


def _authors(record: Record) -> Parsed:
    """A row of the paper's training data: the input holds prompt and response, the output the steps and the labels."""
    given, output = record.values["input"], record.values["output"]
    parts = parts_of(given) if isinstance(given, str) else None
    if parts is None:
        raise InputError(f"{record.place}: input", "has another form than the authors'", "use their file as it is")
    if not isinstance(output, str) or not output.strip():
        raise InputError(f"{record.place}: output", "is empty", "use the authors' file as it is")
    exchange = _exchange(record, *parts, Columns())
    return Parsed(exchange, read_labels(output, exchange), output=output)


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


def _labels(record: Record, columns: Columns) -> Mapping[Task, bool]:
    try:
        row = columns.row(record)
    except InputError as error:
        if error.problem == "has no column of labels":
            return {}
        # The place is the line's; the field stands at the beginning of the problem.
        raise InputError(error.field, error.problem, error.fix) from None
    return {} if row is None else row.labels


def read_labels(output: str, exchange: Exchange) -> dict[Task, bool]:
    """The labels that an output gives, as the dialect reads them. One that gives its label first does not say whose it is."""
    if _ASSESSED.match(output):
        return {}
    findings = GuardReasonerDialect().read(Completion(text=output), exchange).findings
    return {task: finding.label == LABELS[task][0] for task, finding in findings.items() if finding.determined}


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
    if output is None and (_ASSESSED.match(value) or any(read_statements(value).values())):
        return value, {}
    return output, steps_in(value) or {side: (value.strip(),)}


def steps_in(text: str) -> dict[Task, tuple[str, ...]]:
    """The steps of each task in a text with headings; nothing where it has none."""
    steps = [step for step in split_steps(text) if step.task is not None]
    return {
        task: own
        for task in TASKS
        if (own := tuple(step.text for step in steps if step.task == task and step.kind == "thought"))
    }


def _by_task(place: str, value: Mapping[Any, Any]) -> dict[Task, tuple[str, ...]]:
    found: dict[Task, tuple[str, ...]] = {}
    for task, steps in value.items():
        if task not in TASKS:
            raise InputError(place, f"{str(task)[:40]!r} is no task", f"use {', '.join(TASKS)}")
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
