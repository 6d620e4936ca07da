"""The figures of several guards side by side, like the paper's Table 7 (arXiv:2501.18492): as text and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from guardreasoner_sdk.verdict import TASKS
from guardreasoner_training.pipeline.measure import DEV

__all__ = ["as_markdown", "as_text", "tables"]

_WORDS: Final = {"prompt_harmfulness": "prompt", "response_refusal": "refusal", "response_harmfulness": "response"}
_NOTE: Final = (
    "F1 in percent, harmful and refusal being positive; an answer without a label counts as wrong. Means are weighted by rows."
)

Table = list[list[str]]


def tables(systems: Mapping[str, Mapping[str, Any]]) -> list[Table]:
    """Two tables: means by task for each guard, and each set for itself, with the undetermined answers in brackets.

    Args:
        systems: the figures of :func:`~guardreasoner_training.pipeline.measure.measure_guard` by the guard's name.

    Returns:
        each with its headings as the first row; none where nothing was measured.
    """
    places = [(one["set"], one["task"]) for figures in systems.values() for one in figures["sets"]]
    places = list(dict.fromkeys(places))
    if not places:
        return []
    own = {name: {(one["set"], one["task"]): one for one in figures["sets"]} for name, figures in systems.items()}
    groups = [(title, chosen) for title, chosen in _groups(places) if chosen]
    columns = [
        (f"{title} {words}", [place for place in chosen if task in (None, place[1])])
        for title, chosen in groups
        for task, words in (*_WORDS.items(), (None, "mean"))
    ]
    columns = [(heading, chosen) for heading, chosen in columns if chosen]
    means = [["", *(heading for heading, _ in columns), "undetermined", "of"]]
    for name, found in own.items():
        undetermined, asked = (sum(one[key] for one in found.values()) for key in ("undetermined", "rows"))
        cells = [_mean([found.get(place) for place in chosen]) for _, chosen in columns]
        means.append([name, *cells, f"{undetermined:,}", f"{asked:,}"])
    each = [["set", "task", "rows", *own]]
    for place in places:
        entries = [found.get(place) for found in own.values()]
        rows = next(entry["rows"] for entry in entries if entry is not None)
        each.append([place[0], _WORDS[place[1]], f"{rows:,}", *(_cell(entry) for entry in entries)])
    return [means, each]


def _groups(places: Sequence[tuple[str, Any]]) -> list[tuple[str, list[tuple[str, Any]]]]:
    order = sorted(places, key=lambda place: TASKS.index(place[1]))
    return [(DEV, [one for one in order if one[0] == DEV]), ("benchmarks", [one for one in order if one[0] != DEV])]


def _mean(entries: Sequence[Mapping[str, Any] | None]) -> str:
    """A mean without one of the sets would be compared with means that have it."""
    known = [entry for entry in entries if entry is not None and entry["f1"] is not None]
    if len(known) < len(entries):
        return "-"
    return f"{sum(entry['f1'] * entry['rows'] for entry in known) / sum(entry['rows'] for entry in known):.2f}"


def _cell(entry: Mapping[str, Any] | None) -> str:
    if entry is None:
        return "-"
    f1 = "-" if entry["f1"] is None else f"{entry['f1']:.2f}"
    return f"{f1} ({entry['undetermined']:,})"


def as_text(made: Sequence[Table]) -> str:
    """Tables for a terminal.

    Args:
        made: by :func:`tables`.
    """
    parts = []
    for table in made:
        widths = [max(len(row[place]) for row in table) for place in range(len(table[0]))]
        lines = [_line(row, widths) for row in table]
        parts.append("\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]]))
    return "\n\n".join([*parts, _NOTE]) + "\n" if parts else ""


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = (
        cell.rjust(width) if place else cell.ljust(width) for place, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return "  ".join([first, *others]).rstrip()


def as_markdown(made: Sequence[Table]) -> str:
    """Tables for a page.

    Args:
        made: by :func:`tables`.
    """
    parts = []
    for table in made:
        lines = ["| " + " | ".join(row) + " |" for row in table]
        parts.append("\n".join([lines[0], "|---" * len(table[0]) + "|", *lines[1:]]))
    return "\n\n".join([*parts, _NOTE]) + "\n" if parts else ""
