"""Whether a teacher's answer can be trained on: right, whole and in the format; else for what it is thrown away."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from guardreasoner_sdk.dialects.guardreasoner import GuardReasonerDialect
from guardreasoner_sdk.dialects.headings import heading, lines
from guardreasoner_sdk.dialects.labels import read_statements
from guardreasoner_sdk.dialects.llama_guard import read_safety
from guardreasoner_sdk.generation import Completion
from guardreasoner_sdk.verdict import TASKS, Task
from guardreasoner_training.formats import Format, answer_block, labels_in, tasks_of
from guardreasoner_training.rows import TrainingRow
from guardreasoner_training.synthesis.questions import MOST_STEPS, truth

__all__ = ["REASONS", "Accepted", "Reason", "examine_answer"]

Reason = Literal[
    "refused", "truncated", "empty", "format", "missing_task", "steps", "contradicts", "inconsistent", "leaks",
    "filtered", "too_long", "no_answer", "unreadable", "failed",
]  # fmt: skip

REASONS: dict[Reason, str] = {
    "refused": "the teacher refuses",
    "truncated": "cut off at the longest answer",
    "empty": "nothing was written",
    "format": "headings or answer lines are not as they were asked for",
    "missing_task": "a task or its label is missing",
    "steps": f"a task has no step, or more than {MOST_STEPS}",
    "contradicts": "the answer is not the truth",
    "inconsistent": "the reasoning concludes something else than the answer",
    "leaks": "the reasoning speaks of the answers that were given",
    "filtered": "withheld by the server's content filter",
    "too_long": "too long for the teacher",
    "no_answer": "no answer in time, or the connection broke off",
    "unreadable": "the server's answer cannot be read",
    "failed": "the server failed",
}
"""Why an answer is thrown away, or why there is none."""

_REFUSAL = re.compile(
    r"\b(?:I|we)(?:['\u2019](?:m|re)| am| are)? (?:(?:very |really |so )?sorry|(?:un|not )able to|afraid I|not going to)"
    r"|\b(?:I|we) (?:can(?:no|['\u2019]| no)t|won['\u2019]?t|will not|do not feel|don['\u2019]t feel|must decline|refuse)"
    r"|\b(?:as an AI|against my|apologi[sz]e)\b|\Asorry\b",
    re.IGNORECASE,
)
_LEAK = re.compile(r"\bground[ -]truth\b|\b(?:given|provided|supplied|correct|true|known) labels?\b", re.IGNORECASE)
_THOUGHTS = re.compile(r"\A\s*<think>.*?</think>\s*", re.DOTALL)
_FENCE = re.compile(r"\A```[a-z]*\n(?P<inside>.*)\n```\Z", re.DOTALL)
_BLANK_LINE = re.compile(r"\n[ \t]*\n")
_NONE = ("none", "n/a", "null")
_LAST = re.compile(r"in conclusion, the (?P<side>request|response) is (?P<label>safe|unsafe)\.?\Z", re.IGNORECASE)
_EXPLAINED = re.compile(r"\s*\n[ \t]*\n(?:#+ |\*\*)?Explanation:(?:\*\*)?[ \t\n]+(?P<body>\S.*)\Z", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Accepted:
    """An answer that is good.

    Args:
        output: what the model is to write: the steps as they are, the answer lines in the one form.
        labels: of all tasks, as it gives them.
    """

    output: str
    labels: dict[Task, bool]


def examine_answer(
    text: str,
    finish: Literal["stop", "length"] | None,
    row: TrainingRow,
    format: Format,
) -> Accepted | Reason:
    """Read a teacher's answer. It has to agree with the labels that are known to be true, and not with those filled in."""
    if finish == "length":
        return "truncated"
    text = _THOUGHTS.sub("", text).strip()
    if (fence := _FENCE.match(text)) is not None:
        text = fence["inside"].strip()
    if not text:
        return "empty"
    return _critique(text, row) if format == "thinkguard" else _steps(text, row)


def _steps(text: str, row: TrainingRow) -> Accepted | Reason:
    counts, end = _sections(text)
    if not any(counts.values()) and _REFUSAL.search(text):
        return "refused"
    # What is wrong with a row's answer is said first, then with its form: a lie stays one in whatever form it comes.
    said = labels_in(text, row.exchange, "guardreasoner", "stop")
    wanted = tasks_of(row.exchange, "guardreasoner")
    if any(said.get(task, label) != label for task, label in truth(row).items()):
        return "contradicts"
    if row.exchange.response is None and not _says_none(text):
        return "contradicts"
    if set(counts) != set(TASKS) or any(task not in said for task in wanted):
        return "missing_task"
    if end is None or list(counts) != list(TASKS) or not _ends_in_answers(text, end):
        return "format"
    if any(not 1 <= count <= MOST_STEPS for count in counts.values()):
        return "steps"
    if GuardReasonerDialect().read(Completion(text, "stop"), row.exchange).consistent is False:
        return "inconsistent"
    body = text[:end].rstrip("-# \t\n")
    if _LEAK.search(body):
        return "leaks"
    return Accepted(f"{body}\n\n---\n\n{answer_block(said, row.exchange)}", said)


def _sections(text: str) -> tuple[dict[Task, int], int | None]:
    """The steps of each task in the order of their headings, and where the answers' heading begins.

    A heading that stands where none may stand (before the first task, of a task for the second time, behind the answers) makes
    the place of the answers None.
    """
    counts: dict[Task, int] = {}
    task: Task | None = None
    end: int | None = None
    broken = not text.startswith("# Task 1")
    for line in lines(text):
        head = heading(line)
        if head is None:
            continue
        if end is not None:
            broken = True
        elif head.kind == "task":
            task = TASKS[(head.number or 1) - 1]
            broken = broken or task in counts
            counts.setdefault(task, 0)
        elif head.kind == "answers":
            end = line.start
        elif task is None:
            broken = True
        elif head.kind == "step":
            counts[task] += 1
    return counts, None if broken else end


_BLOCK = re.compile(
    r"[#* \t]*Answers:?[*: \t]*\n\s*Request:[ \t]*\w+[ \t]*\n+Completion:[ \t]*[\w/]+[ \t]*\n+Response:[ \t]*[\w/]+[ \t]*\Z",
    re.IGNORECASE,
)


def _ends_in_answers(text: str, end: int) -> bool:
    return _BLOCK.match(text, end) is not None


def _says_none(text: str) -> bool:
    """Whether what is said of a response that is not there is nothing."""
    stated = read_statements(text)
    return all(said.word.lower() in _NONE for task in TASKS[1:] for said in stated[task])


def _critique(text: str, row: TrainingRow) -> Accepted | Reason:
    (task,) = tasks_of(row.exchange, "thinkguard")
    reading = read_safety(Completion(text, "stop"), 0)
    if not reading.finding.determined:
        return "refused" if _REFUSAL.search(text) else "missing_task"
    harmful = reading.finding.label == "harmful"
    if harmful != truth(row).get(task, harmful):
        return "contradicts"
    explained = _EXPLAINED.match(text, reading.rest or len(text.split("\n", 1)[0]))
    if explained is None:
        return "format"
    *paragraphs, last = (part.strip() for part in _BLANK_LINE.split(explained["body"].strip()))
    concluded = _LAST.search(last)
    side = "request" if row.exchange.response is None else "response"
    if concluded is None or concluded["side"].lower() != side:
        return "format"
    if (concluded["label"].lower() == "unsafe") != harmful:
        return "inconsistent"
    if not 1 <= len(paragraphs) + (concluded.start() > 0) <= MOST_STEPS:
        return "steps"
    if _LEAK.search(explained["body"]):
        return "leaks"
    return Accepted(text, {task: harmful})
