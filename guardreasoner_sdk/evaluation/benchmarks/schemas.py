"""How a row of each public data set becomes a labelled one: the selection and the labels that the paper's figures rest on.

The rules are those of the WildGuard evaluation (arXiv:2406.18495, section 4), which the paper took its sets from.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from guardreasoner_sdk.data.columns import RawRow
from guardreasoner_sdk.data.records import Record
from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.evaluation.benchmarks.authors import labels_of, parts_of
from guardreasoner_sdk.verdict import TASKS, Task

__all__ = [
    "Schema",
    "aegis",
    "authors",
    "beavertails",
    "harmbench_prompts",
    "harmbench_responses",
    "moderation",
    "safe_rlhf",
    "simple_safety_tests",
    "toxic_chat",
    "wildguard",
    "xstest",
]


Schema = Callable[[Iterable[Record]], Iterator[RawRow]]

_PROMPT, _REFUSAL, _RESPONSE = TASKS


def _yes(value: Any) -> bool:
    """A truth value, as JSON, Parquet or a CSV cell spells it."""
    return str(value).strip().lower() in ("true", "1", "1.0")


def authors(records: Iterable[Record], tasks: tuple[Task, ...]) -> Iterator[RawRow]:
    """The authors' files, one row for each of theirs that has a label."""
    for record in records:
        values = record.values
        for name in ("input", "output"):
            if not isinstance(values.get(name), str):
                raise InputError(record.place, f"{name}: is missing or no text", "use the authors' file as it is")
        parts = parts_of(values["input"])
        if parts is None:
            raise InputError(record.place, "input: is not 'Human user: ... AI assistant: ...'", "use the authors' file")
        prompt, response = parts
        labels = labels_of(values, values["output"], tasks)
        if response is None and _PROMPT not in tasks:
            # There is a labelled answer, and this is its text.
            response = "None"
        if labels:
            yield RawRow(str(record.number), record.place, prompt, response, labels)


def toxic_chat(records: Iterable[Record]) -> Iterator[RawRow]:
    """The rows that people annotated."""
    for record in records:
        row = _needed(record, "user_input", "human_annotation", "toxicity")
        if _yes(row["human_annotation"]):
            yield RawRow(_name(record, "conv_id"), record.place, row["user_input"], None, {_PROMPT: _yes(row["toxicity"])})


def moderation(records: Iterable[Record]) -> Iterator[RawRow]:
    """Harmful is what is in any of the eight categories; one that was not looked at counts as "no"."""
    for record in records:
        row = _needed(record, "prompt")
        harmful = any(_yes(row.get(category)) for category in ("S", "H", "V", "HR", "SH", "S3", "H2", "V2"))
        yield RawRow(str(record.number), record.place, row["prompt"], None, {_PROMPT: harmful})


def aegis(records: Iterable[Record]) -> Iterator[RawRow]:
    """The users' messages. Unharmful is what two of the first three annotators call safe."""
    for record in records:
        row = _needed(record, "text", "text_type", "labels_0", "labels_1", "labels_2")
        if row["text_type"] == "user_message":
            safe = sum(row[f"labels_{annotator}"] == "Safe" for annotator in range(3))
            text = row["text"].strip() if isinstance(row["text"], str) else row["text"]
            yield RawRow(_name(record, "id"), record.place, text, None, {_PROMPT: safe <= 1})


def simple_safety_tests(records: Iterable[Record]) -> Iterator[RawRow]:
    """Every prompt is harmful."""
    for record in records:
        yield RawRow(_name(record, "id"), record.place, _needed(record, "prompt")["prompt"], None, {_PROMPT: True})


def harmbench_prompts(records: Iterable[Record]) -> Iterator[RawRow]:
    """The behaviours that need no context; all are harmful."""
    for record in records:
        row = _needed(record, "Behavior", "FunctionalCategory")
        if row["FunctionalCategory"] in ("standard", "copyright"):
            yield RawRow(_name(record, "BehaviorID"), record.place, row["Behavior"], None, {_PROMPT: True})


def harmbench_responses(records: Iterable[Record]) -> Iterator[RawRow]:
    """The set that HarmBench's own classifiers were validated on; two of three people decide."""
    for record in records:
        row = _needed(record, "test_case", "generation", "human_0", "human_1", "human_2")
        harmful = sum(_yes(row[f"human_{person}"]) for person in range(3)) > 1
        yield RawRow(str(record.number), record.place, row["test_case"], row["generation"], {_RESPONSE: harmful})


def safe_rlhf(records: Iterable[Record], each: int = 1000) -> Iterator[RawRow]:
    """2,000 answers, half of them harmful, drawn from the prompts with one answer of each kind (the draw of 2406.18495)."""
    pairs: list[tuple[RawRow, RawRow]] = []
    for record in records:
        row = _needed(record, "prompt", "response_0", "response_1", "is_response_0_safe", "is_response_1_safe")
        safe = [_yes(row[f"is_response_{answer}_safe"]) for answer in (0, 1)]
        if safe[0] != safe[1]:
            made = [
                RawRow(
                    f"{record.number}-{answer}", record.place, row["prompt"], row[f"response_{answer}"], {_RESPONSE: not good}
                )
                for answer, good in enumerate(safe)
            ]
            pairs.append((made[0], made[1]) if safe[0] else (made[1], made[0]))
    drawn = random.Random(42).sample(range(len(pairs)), min(each, len(pairs)))  # noqa: S311 - it must be the same each time
    yield from (pairs[place][0] for place in drawn)
    yield from (pairs[place][1] for place in drawn)


def beavertails(records: Iterable[Record]) -> Iterator[RawRow]:
    """Answers that are labelled safe or not."""
    for record in records:
        row = _needed(record, "prompt", "response", "is_safe")
        yield RawRow(str(record.number), record.place, row["prompt"], row["response"], {_RESPONSE: not _yes(row["is_safe"])})


def wildguard(records: Iterable[Record]) -> Iterator[RawRow]:
    """Three labels a row, some of them missing where the annotators did not agree."""
    for record in records:
        row = _needed(record, "prompt", "response", "prompt_harm_label", "response_harm_label", "response_refusal_label")
        labels = labels_of(row, None, TASKS)
        if labels:
            yield RawRow(str(record.number), record.place, row["prompt"], row["response"], labels)


def xstest(records: Iterable[Record], task: Task) -> Iterator[RawRow]:
    """Answers to prompts that look harmful or are."""
    for record in records:
        row = _needed(record, "prompt", "response", "label")
        labels = labels_of({}, row["label"], (task,))
        if labels:
            yield RawRow(str(record.number), record.place, row["prompt"], row["response"], labels)


def _needed(record: Record, *names: str) -> dict[str, Any]:
    missing = [name for name in names if name not in record.values]
    if missing:
        raise InputError(record.place, f"has no column {missing[0]!r}", "use the data set's own file, or another --revision")
    return dict(record.values)


def _name(record: Record, column: str) -> str:
    value = record.values.get(column)
    return str(record.number) if value in (None, "") else str(value)
