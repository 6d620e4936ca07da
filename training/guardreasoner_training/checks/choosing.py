"""Which rows are trained on: complete ones, and no more of a kind than the recipe says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.verdict import TASKS
from guardreasoner_training.embedded.split import normalise
from guardreasoner_training.formats import Format, examples_of, tasks_of
from guardreasoner_training.recipe.settings import DataSettings
from guardreasoner_training.rows import TrainingRow
from guardreasoner_training.rows.drawing import stable_random

__all__ = ["cap_rows", "complete", "prompt_alone"]


def complete(row: TrainingRow, format: Format) -> bool:
    """Whether a row has its output, or a label for each task that an output speaks of."""
    if format == "thinkguard":
        return any(examples_of(row, format))
    if format == "guardreasoner" and row.output is not None:
        return True
    return all(task in row.labels for task in tasks_of(row.exchange, format))


def prompt_alone(row: TrainingRow) -> TrainingRow | None:
    """The row without its response, where the prompt is labelled; None where it is not."""
    task = TASKS[0]
    if task not in row.labels:
        return None
    steps = {task: row.reasoning[task]} if task in row.reasoning else {}
    exchange = Exchange(row.exchange.prompt, None, row.exchange.history)
    filled = tuple(one for one in row.filled if one == task)
    return replace(row, exchange=exchange, labels={task: row.labels[task]}, output=None, reasoning=steps, filled=filled)


def cap_rows(rows: Sequence[TrainingRow], settings: DataSettings, seed: int) -> list[TrainingRow]:
    """Rows within the recipe's limits, in their own order.

    Args:
        settings: ``per_prompt``, ``per_source``, ``per_labels`` and ``max_rows``.
        seed: of the draw; a row's luck depends on the seed and its name alone.
    """
    counts: Counter[object] = Counter()
    chosen: list[int] = []
    for number in sorted(range(len(rows)), key=lambda number: stable_random(seed, rows[number].id)):
        limits = _limits(rows[number], settings)
        if all(counts[kind] < most for kind, most in limits):
            counts.update(kind for kind, _ in limits)
            chosen.append(number)
    return [rows[number] for number in sorted(chosen)]


def _limits(row: TrainingRow, settings: DataSettings) -> list[tuple[object, int]]:
    """The kinds that a row is of, and how many of each there may be."""
    found: list[tuple[object, int]] = []
    if settings.per_prompt is not None:
        found.append((("prompt", normalise(row.exchange.prompt)), settings.per_prompt))
    if settings.per_source is not None:
        found.append((("source", row.source), settings.per_source))
    if settings.per_labels is not None:
        found.append((("labels", row.exchange.response is None, frozenset(row.labels.items())), settings.per_labels))
    if settings.max_rows is not None:
        found.append(("all", settings.max_rows))
    return found
