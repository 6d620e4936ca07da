"""Rows that lack something get it: short reasoning steps from labels, category and evidence, and labels from a guard."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Literal

from guardreasoner_sdk.dialects.hazards import HAZARDS
from guardreasoner_sdk.verdict import LABELS, TASKS, Task
from guardreasoner_training.rows import TrainingRow
from guardreasoner_training.rows.drawing import stable_random
from guardreasoner_training.rows.hazards import hazards_in
from guardreasoner_training.steps.evidence import Phrases, guard_phrases, opening, word_phrases
from guardreasoner_training.steps.wordings import DECLINED, JUDGED, NAMED, NOTHING, OPENED, POINTED

if TYPE_CHECKING:
    from guardreasoner_sdk.guard import Guard

__all__ = ["Evidence", "complete_labels", "derive_steps"]

Evidence = Literal["auto", "guard", "words"]
"""What derived steps point at. ``guard``: the passages that a guard scores highest, as many rows a second as it judges.
``words``: those that go with harm in the rows, thousands a second. ``auto``: the first for few rows."""

_FEW: Final = 1000


def derive_steps(
    rows: Sequence[TrainingRow], *, seed: int = 0, evidence: Evidence = "auto", guard: Guard | None = None
) -> list[TrainingRow]:
    """Give rows one to three short steps for each labelled task that has none, which lead to what the labels say.

    The same row gets the same steps in every run. Rows that have an output stay as they are, and so do steps that are there.

    Args:
        rows: all rows to train on.
        seed: chooses among the wordings.
        evidence: where the words that a step points at come from.
        guard: for ``guard``; None: the embedded one.
    """
    bare = [
        number
        for number, row in enumerate(rows)
        if row.output is None and not all(row.reasoning.get(task) for task in row.labels)
    ]
    phrases = word_phrases(rows)
    if evidence == "guard" or (evidence == "auto" and len(bare) <= _FEW):
        with nullcontext(guard) if guard is not None else _embedded("full") as judging:
            found = guard_phrases([rows[number].exchange for number in bare], judging)
        for number, own in zip(bare, found, strict=True):
            phrases[number] |= own
    derived = list(rows)
    for number in bare:
        row = rows[number]
        known = {task: steps for task, steps in row.reasoning.items() if steps}
        steps = {**_steps(row, phrases[number], seed), **known}
        derived[number] = replace(row, reasoning={task: steps[task] for task in TASKS if task in steps})
    return derived


def complete_labels(rows: Sequence[TrainingRow], guard: Guard | None = None) -> list[TrainingRow]:
    """Have a guard fill in the labels that rows with a response lack; ``filled`` names them in the row.

    A label that the guard leaves undetermined stays missing.

    Args:
        rows: all rows; complete ones, and those with an output, which says its labels itself, stay as they are.
        guard: it; None: the embedded one, some 46 rows a second and core.
    """
    gaps = [
        number
        for number, row in enumerate(rows)
        if row.exchange.response is not None and row.output is None and len(row.labels) < len(TASKS)
    ]
    completed = list(rows)
    with nullcontext(guard) if guard is not None else _embedded("off") as judging:
        verdicts = judging.iter_many([rows[number].exchange for number in gaps])
        for number, verdict in zip(gaps, verdicts, strict=True):
            row = rows[number]
            added: dict[Task, bool] = {
                task: finding.label == LABELS[task][0]
                for task, finding in verdict.findings.items()
                if task not in row.labels and finding.determined
            }
            completed[number] = replace(row, labels={**row.labels, **added}, filled=(*row.filled, *added))
    return completed


def _embedded(reasoning: Literal["full", "off"]) -> Guard:
    from guardreasoner_sdk.guard import Guard
    from guardreasoner_sdk.judges.embedded import EmbeddedJudge

    # Whatever the environment says: the same rows must get the same labels and steps everywhere.
    return Guard(judge=EmbeddedJudge(reasoning=reasoning))


def _steps(row: TrainingRow, phrases: Phrases, seed: int) -> dict[Task, tuple[str, ...]]:
    def say(task: Task, part: str, wordings: tuple[str, ...], **words: str) -> str:
        return wordings[stable_random(seed, row.id, task, part) % len(wordings)].format(**words)

    steps: dict[Task, tuple[str, ...]] = {}
    for task in TASKS:
        label = row.labels.get(task)
        if label is None:
            continue
        said: list[str] = []
        if task == "response_refusal":
            said.append(say(task, "evidence", OPENED, phrase=phrases.get(task) or opening(row.exchange.response or "")))
        elif task in phrases:
            said.append(say(task, "evidence", POINTED[task], phrase=phrases[task]))
        else:
            said.append(say(task, "evidence", NOTHING[task]))
        codes = hazards_in(row.category) if row.category and label and task != "response_refusal" else ()
        if codes:
            said.append(say(task, "hazard", NAMED, hazard=HAZARDS[codes[0]]))
        declined = task == "response_harmfulness" and not label and row.labels.get("response_refusal") is True
        said.append(say(task, "judgement", DECLINED if declined else JUDGED[task, label]))
        steps[task] = tuple(said)
    return steps
