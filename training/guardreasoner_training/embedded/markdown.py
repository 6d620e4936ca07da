"""Tables of the model card."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

__all__ = ["number", "surroundings_section", "table"]

_TASKS: Final = {"prompt_harmfulness": "prompt", "response_harmfulness": "response"}
_CLEAR_CUT: Final = "clear_cut"


def table(titles: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def number(value: float | int | None) -> str:
    """A figure with one digit behind the point, a small one with two.

    Args:
        value: it; None is a dash.
    """
    return "-" if value is None else f"{value:.1f}" if abs(value) >= 1 else f"{value:.2f}"


def surroundings_section(figures: Sequence[Mapping[str, Any]]) -> str:
    """The section on texts in other surroundings and in other languages; empty where they were not measured.

    Args:
        figures: those of `surroundings.surroundings`.
    """
    if not figures:
        return ""
    sets = [
        (of["set"], of["variant"], _TASKS[of["task"]], _share(of["found"]), _share(of["flagged"]), _share(of["flagged_alone"]))
        for of in figures
        if of["set"] != _CLEAR_CUT
    ]
    clear = [
        (of["variant"], _TASKS[of["task"]], _share(of["found"]), _share(of["flagged"]))
        for of in figures
        if of["set"] == _CLEAR_CUT
    ]
    return f"""## In other surroundings

What `guardreasoner evaluate --robustness` measures, on English requests and answers of the development split: of the harmful
texts that are found alone, how many are found there; and how many of their harmless twins are flagged there, and alone. In
percent, with counts. The wordings are others than those of the training.

{table(("set", "surroundings", "judged", "found", "harmless flagged", "flagged alone"), sets)}

## Clear-cut texts by language

The set `clear_cut` of the same command: short requests and answers written for measuring, other ones than those of the
training. Harmful prompts that are found, and harmless ones that are flagged: everyday messages, look-alikes, and answers.

{table(("language", "judged", "harmful found", "harmless flagged"), clear)}"""


def _share(of: Mapping[str, Any] | None) -> str:
    if of is None or not of["rows"]:
        return "-"
    return f"{100 * of['count'] / of['rows']:.0f} ({of['count']} of {of['rows']})"
