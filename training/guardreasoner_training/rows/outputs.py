"""What an output says: its labels and its steps, as the dialect reads them."""

from __future__ import annotations

import re

from guardreasoner_sdk.dialects.guardreasoner import GuardReasonerDialect
from guardreasoner_sdk.dialects.labels import read_statements
from guardreasoner_sdk.dialects.steps import split_steps
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.generation import Completion
from guardreasoner_sdk.verdict import LABELS, TASKS, Task

__all__ = ["is_whole", "read_labels", "steps_in"]

_ASSESSED = re.compile(r"\s*(?:- Safety Assessment:\s*)?(?:un)?safe\b[ \t.]*(?:\n|\Z)", re.IGNORECASE)
"""How an output begins that gives the label first."""


def is_whole(text: str) -> bool:
    """Whether a text is a whole output, with its label or its answers, and not steps alone."""
    return _ASSESSED.match(text) is not None or any(read_statements(text).values())


def read_labels(output: str, exchange: Exchange) -> dict[Task, bool]:
    """The labels that an output gives, as the dialect reads them. One that gives its label first does not say whose it is."""
    if _ASSESSED.match(output):
        return {}
    findings = GuardReasonerDialect().read(Completion(text=output), exchange).findings
    return {task: finding.label == LABELS[task][0] for task, finding in findings.items() if finding.determined}


def steps_in(text: str) -> dict[Task, tuple[str, ...]]:
    """The steps of each task in a text with headings; nothing where it has none."""
    steps = [step for step in split_steps(text) if step.task is not None]
    return {
        task: own
        for task in TASKS
        if (own := tuple(step.text for step in steps if step.task == task and step.kind == "thought"))
    }
