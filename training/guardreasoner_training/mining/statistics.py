"""What mining found, as figures and as a table: for each model and set, by source and task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from guardreasoner_sdk.verdict import TASKS, Task
from guardreasoner_training.mining.pairs import Choice, Mark, PreferencePair, hard_task
from guardreasoner_training.rows import TrainingRow

__all__ = ["ModelStatistics", "set_statistics", "statistics_text"]


class ModelStatistics:
    """Counts of one model's generations.

    Args:
        k: generations of each row.
        choice: how pairs are chosen.
    """

    def __init__(self, k: int, choice: Choice) -> None:
        self._k = k
        self._choice = choice
        self._rows = self._generations = self._cut_off = 0
        self._tasks: dict[str, dict[Task, dict[str, Any]]] = {}

    def add(self, row: TrainingRow, marks: Mapping[Task, Sequence[Mark]], pair: PreferencePair | None, cut_off: int) -> None:
        """Count a row."""
        self._rows += 1
        self._generations += self._k
        self._cut_off += cut_off
        for task, listed in marks.items():
            counts = self._tasks.setdefault(row.source, {}).setdefault(
                task, {"rows": 0, "hard": 0, "pairs": 0, "unreadable": 0, "right": [0] * (self._k + 1)}
            )
            counts["rows"] += 1
            counts["hard"] += hard_task({task: listed}, self._choice) is not None
            counts["pairs"] += pair is not None and pair.task == task
            counts["unreadable"] += listed.count("unreadable")
            counts["right"][listed.count("right")] += 1

    def figures(self, left_out: int) -> dict[str, Any]:
        """The counts.

        Args:
            left_out: rows that were too long to be asked about.
        """
        return {
            "rows": self._rows,
            "too_long": left_out,
            "generations": self._generations,
            "cut_off": self._cut_off,
            "sources": {
                source: {task: tasks[task] for task in TASKS if task in tasks} for source, tasks in sorted(self._tasks.items())
            },
        }


def set_statistics(pairs: Sequence[PreferencePair]) -> dict[str, Any]:
    """Counts of a set of pairs."""
    differences: dict[int, list[float]] = {}
    for pair in pairs:
        differences.setdefault(pair.wrong - pair.correct, []).append(pair.alpha)
    return {
        "pairs": len(pairs),
        "by_source": _counted(pair.row.source for pair in pairs),
        "by_task": {task: count for task in TASKS if (count := sum(pair.task == task for pair in pairs))},
        "by_model": _counted(pair.model for pair in pairs),
        "by_difference": {
            str(difference): {"pairs": len(alphas), "alpha": alphas[0]} for difference, alphas in sorted(differences.items())
        },
    }


def _counted(names: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items()))


def statistics_text(statistics: Mapping[str, Any]) -> str:
    """The statistics as tables for a terminal.

    Args:
        statistics: what mining wrote.
    """
    lines: list[str] = []
    for name, model in statistics["models"].items():
        cut = f", {model['cut_off']:,} cut off" if model["cut_off"] else ""
        long = f", {model['too_long']:,} rows too long" if model["too_long"] else ""
        lines.append(f"{name}: {model['rows']:,} rows, {model['generations']:,} generations{cut}{long}")
        table = [("source", "task", "rows", "hard", "pairs", "unreadable", "rows by right generations")]
        for source, tasks in model["sources"].items():
            for task, counts in tasks.items():
                right = "  ".join(f"{number}: {count:,}" for number, count in enumerate(counts["right"]))
                numbers = (f"{counts[field]:,}" for field in ("rows", "hard", "pairs", "unreadable"))
                table.append((source, task, *numbers, right))
        lines += _table(table)
    for name, found in statistics["sets"].items():
        weights = ", ".join(f"{entry['alpha']:.2f} x {entry['pairs']:,}" for entry in found["by_difference"].values())
        lines.append(f"H_{name}: {found['pairs']:,} pairs" + (f"; weights {weights}" if weights else ""))
    return "\n".join(lines)


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  " + "  ".join(cell.rjust(width) if 1 < column < 6 else cell.ljust(width) for column, (cell, width) in
                         enumerate(zip(row, widths, strict=True))).rstrip()
        for row in rows
    ]  # fmt: skip
