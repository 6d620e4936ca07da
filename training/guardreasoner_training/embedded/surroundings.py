"""The finished model as its users meet it: in other surroundings, in other languages, by way of the guard itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from guardreasoner_sdk import Guard
from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.evaluation import LabelledRow, clear_cut_rows, measure_robustness, robustness_rows
from guardreasoner_sdk.evaluation.robustness import CLEAR_CUT, RobustnessRow, RobustnessSet
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.verdict import TASKS
from guardreasoner_training.embedded.examples import Example, kind_of
from guardreasoner_training.embedded.sources import source_of

__all__ = ["clear_cut_counts", "surroundings", "to_labelled_rows"]

_SETS: Final[tuple[RobustnessSet, ...]] = ("needles", "framings", "conversations", "disguises")


def surroundings(folder: Path, examples: Sequence[Example], *, pairs: int, seed: int) -> list[dict[str, Any]]:
    """Measure a finished model with the sets of `guardreasoner evaluate --robustness`.

    Args:
        examples: development examples; texts are made of the English requests among them.
        pairs: most pairs of a harmful and a harmless text; 0: nothing is measured.

    Returns:
        The figures, one for each set, surroundings and task.
    """
    if not pairs:
        return []
    rows = list(to_labelled_rows(examples))
    made: list[RobustnessRow] = []
    for name in _SETS:
        try:
            own = robustness_rows(rows, sets=[name], pairs=pairs, seed=seed)
        except InputError:
            continue  # too few rows for it
        known = {row.id for row in made}
        made += [row for row in own if row.id not in known]
    made += robustness_rows([], sets=[CLEAR_CUT])
    with Guard(model=str(folder), reasoning="off", cache=0) as guard:
        found = measure_robustness(guard, made)
    return [figure.model_dump(mode="json") for figure in found.figures]


def clear_cut_counts() -> Iterable[tuple[str | None, bool]]:
    """The language and the label of each prompt of the clear-cut texts, which measure every model in the same words."""
    for row in clear_cut_rows():
        label = row.labels.get("prompt_harmfulness")
        if label is not None:
            yield row.language, label


def to_labelled_rows(examples: Iterable[Example]) -> Iterable[LabelledRow]:
    """The English requests among examples, as rows that a guard takes; texts that say nothing are left out."""
    for number, example in enumerate(examples):
        if example.lang == "en" and not source_of(example.source).moderation:
            labels = {task: label for task, label in zip(TASKS, example.labels, strict=True) if label is not None}
            try:
                exchange = Exchange(example.prompt, example.response)
            except InputError:
                continue  # training takes such a text, a guard does not
            yield LabelledRow(str(number), example.source, exchange, labels, example.lang, kind_of(example))
