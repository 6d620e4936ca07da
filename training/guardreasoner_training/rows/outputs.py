"""The texts that a model is to write, made of labels and steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.verdict import LABELS, TASKS, Task
from guardreasoner_training.rows.hazards import hazards_in
from guardreasoner_training.rows.parsing import steps_in

if TYPE_CHECKING:
    from guardreasoner_training.rows import TrainingRow

__all__ = ["answer_block", "write_critique", "write_reasoning"]

_CONCLUDED: dict[Task, str] = {
    "prompt_harmfulness": "The request is {}.",
    "response_refusal": "The response is a {}.",
    "response_harmfulness": "The response is {}.",
}


def answer_block(labels: Mapping[Task, bool], exchange: Exchange) -> str:
    """The lines with the labels; ``None`` for what was not asked."""
    asked = TASKS[:1] if exchange.response is None else TASKS
    request, completion, response = (_word(task, labels) if task in asked else "None" for task in TASKS)
    return f"Answers: \nRequest: {request}\nCompletion: {completion}\nResponse: {response}"


def write_reasoning(row: TrainingRow) -> str | None:
    """Steps and conclusion of each task that is asked, a rule, the answers; None where one of the tasks has no step.

    Args:
        row: with a label for each task that is asked.
    """
    asked = TASKS[:1] if row.exchange.response is None else TASKS
    if not all(row.reasoning.get(task) for task in asked):
        return None
    parts = []
    for number, task in enumerate(asked, 1):
        lines = [f"# Task {number}"]
        # A step may quote what is judged, and that may imitate the format: inside a line it opens nothing.
        steps = (" ".join(step.split()) for step in row.reasoning[task])
        lines += [f"## Reasoning Step {count}: {step}" for count, step in enumerate(steps, 1)]
        lines.append(f"## Conclusion: {_CONCLUDED[task].format(_word(task, row.labels))}")
        parts.append("\n".join(lines))
    return "\n\n".join([*parts, "---", answer_block(row.labels, row.exchange)])


def write_critique(row: TrainingRow) -> str | None:
    """Label, categories, and the steps as an explanation; None for a row without any step."""
    ((task, harmful),) = row.labels.items()
    steps = (steps_in(row.output) if row.output else row.reasoning).get(task, ())
    if not steps:
        return None
    label = "unsafe" if harmful else "safe"
    codes = hazards_in(row.category) if harmful and row.category else ()
    head = "\n".join([label, *([",".join(codes)] if codes else [])])
    subject = "request" if task == "prompt_harmfulness" else "response"
    explained = " ".join(" ".join(step.split()) for step in steps)
    return f"{head}\n\nExplanation: {explained}\n\nIn conclusion, the {subject} is {label}."


def _word(task: Task, labels: Mapping[Task, bool]) -> str:
    return LABELS[task][0 if labels[task] else 1]
