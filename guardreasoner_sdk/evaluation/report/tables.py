"""What a run shows: tables on the terminal beside the paper's rows, and one self-contained page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from guardreasoner_sdk import __version__
from guardreasoner_sdk._text import escape_unsafe
from guardreasoner_sdk.data.atomic import write_atomic, write_json
from guardreasoner_sdk.evaluation.paper import PaperRow, sample_count
from guardreasoner_sdk.evaluation.rows import task_name
from guardreasoner_sdk.evaluation.summary import Collected, Summary
from guardreasoner_sdk.verdict import TASKS, Task

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from guardreasoner_sdk.evaluation.robustness.figures import RobustnessFigure, Share

__all__ = ["Standing", "TableLine", "print_report", "standings", "write_page", "write_summary"]


class TableLine(BaseModel):
    """A system in a table of F1.

    Args:
        system: its name.
        own: whether it is the guard that was run.
        values: F1 in percent, by benchmark; None where there is no figure.
        mean: their mean, weighted by rows; None where one is missing.
    """

    model_config = ConfigDict(frozen=True)

    system: str
    own: bool
    values: dict[str, float | None]
    mean: float | None


class Standing(BaseModel):
    """A table of the F1 of one task.

    Args:
        task: the task.
        benchmarks: its columns.
        lines: the guard by both rules, then the systems of the paper.
    """

    model_config = ConfigDict(frozen=True)

    task: Task
    benchmarks: tuple[str, ...]
    lines: tuple[TableLine, ...]


def standings(summary: Summary, systems: Sequence[PaperRow]) -> list[Standing]:
    """The guard among systems of the paper: a table for each task that was measured.

    The mean of a system goes over the benchmarks that were measured, so that it can be compared; where those are all that the
    paper has, it is the paper's own.

    Args:
        summary: the run.
        systems: what the paper prints of others, in the order wanted.
    """
    tables = []
    for task in TASKS:
        own = {benchmark.benchmark: of for benchmark, of in summary.measured() if of.task == task}
        if own:
            lines = [
                TableLine(
                    system=f"{summary.guard['model']}, {scoring}",
                    own=True,
                    values={name: getattr(of, scoring).f1 for name, of in own.items()},
                    mean=summary.averages[scoring].get(task),
                )
                for scoring in ("strict", "paper")
            ]
            lines += [line for system in systems if any((line := _line(system, task, list(own))).values.values())]
            tables.append(Standing(task=task, benchmarks=tuple(own), lines=tuple(lines)))
    return tables


def _line(system: PaperRow, task: Task, benchmarks: Sequence[str]) -> TableLine:
    values = {name: system.value(task, name) for name in benchmarks}
    counts = {name: sample_count(task, name) for name in benchmarks}
    if any(values[name] is None or counts[name] is None for name in benchmarks):
        mean = None
    else:
        mean = sum((values[name] or 0) * (counts[name] or 0) for name in benchmarks) / sum(filter(None, counts.values()))
    return TableLine(system=f"{system.name} (paper)", own=False, values=values, mean=mean)


def write_summary(summary: Summary, tables: Sequence[Standing], path: Path) -> None:
    """Write ``summary.json``.

    Args:
        summary: the run.
        tables: the guard among the paper's systems.
        path: the file; one that is there is replaced.

    Raises:
        InputError: it cannot be written.
    """
    value = {"version": __version__, **summary.model_dump(mode="json")}
    value["standings"] = [table.model_dump(mode="json") for table in tables]
    write_json(path, value)


def print_report(out: Console, summary: Summary, tables: Sequence[Standing]) -> None:
    """Print the figures.

    Args:
        out: where to.
        summary: the run.
        tables: the guard among the paper's systems.
    """
    out.print(_figures(summary))
    out.print(_costs(summary))
    for table in tables:
        out.print(_standing(table))
    if summary.robustness is not None:
        for name, figures in summary.robustness.sets():
            out.print(_robustness(name, figures))
    for note in summary.notes():
        out.print(escape_unsafe(f"- {note}"))


def _figures(summary: Summary) -> Table:
    heads = ("rows", "F1", "95 %", "precision", "recall", "AUPRC", "ECE", "false alarms", "undetermined")
    table = _table("Percent; strict: an undetermined answer is wrong", ("benchmark", "task"), heads)
    for benchmark, of in summary.measured():
        if (strict := of.strict) is not None:
            interval = "-" if (found := strict.f1_interval) is None else f"{found.low:.1f}-{found.high:.1f}"
            rates = (strict.precision, strict.recall, strict.auprc, strict.ece, strict.false_alarm_rate)
            table.add_row(
                *(escape_unsafe(benchmark.benchmark), task_name(of.task), f"{strict.rows:,}", _number(strict.f1, 2), interval),
                *(_number(rate) for rate in rates),
                f"{strict.undetermined:,}",
            )
    return table


def _costs(summary: Summary) -> Table:
    heads = ("rows", "median ms", "p99 ms", "tokens read", "tokens written")
    table = _table("A check", ("benchmark",), heads)
    for name, rows, cost in summary.costs():
        figures = (cost.latency_median, cost.latency_p99, cost.input_tokens, cost.output_tokens)
        table.add_row(escape_unsafe(name), f"{rows:,}", *(_number(figure) for figure in figures))
    return table


def _standing(standing: Standing) -> Table:
    several = len(standing.benchmarks) > 1
    heads = (*map(escape_unsafe, standing.benchmarks), *(("mean",) if several else ()))
    table = _table(f"F1 of {task_name(standing.task)}, beside the paper", ("system",), heads)
    for line in standing.lines:
        values = [*(line.values[name] for name in standing.benchmarks), *((line.mean,) if several else ())]
        table.add_row(escape_unsafe(line.system), *(_number(value, 2) for value in values), style="bold" if line.own else "")
    return table


def _robustness(name: str, figures: Sequence[RobustnessFigure]) -> Table:
    """The harmful texts of a set, and beside them their harmless twins."""
    paired = any(figure.found_alone is not None for figure in figures)
    heads = ["found", "%", "95 %", *(["lost"] if paired else []), "flagged", "%", "95 %", *(["more"] if paired else [])]
    title = f"Robustness, {name.replace('_', ' ')}"
    if paired:
        title += ": found of what is found alone, and flagged; lost and more: points against the same texts alone"
    table = _table(title, ("what", "task"), (*heads, "undetermined"))
    for figure in figures:
        found = [*_share(figure.found), *([_number(figure.lost)] if paired else [])]
        flagged = [*_share(figure.flagged), *([_number(figure.more_flagged)] if paired else [])]
        undetermined = f"{figure.undetermined:,}"
        table.add_row(escape_unsafe(figure.variant), task_name(figure.task), *found, *flagged, undetermined)
    return table


def _share(share: Share) -> tuple[str, str, str]:
    interval = "-" if share.interval is None else f"{share.interval.low:.1f}-{share.interval.high:.1f}"
    return f"{share.count:,}/{share.rows:,}" if share.rows else "-", _number(share.percent), interval


def _table(title: str, words: Sequence[str], figures: Sequence[str]) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for head in words:
        table.add_column(head, no_wrap=True)
    for head in figures:
        table.add_column(head, justify="right")
    return table


def write_page(
    summary: Summary, tables: Sequence[Standing], run: Collected, path: Path, *, journal: str, batched: bool
) -> None:
    """Write the report as one page that needs nothing else.

    Args:
        summary: the run.
        tables: the guard among the paper's systems.
        run: what was collected of it: predictions for the plots, and errors.
        path: the file; one that is there is replaced.
        journal: name of the file that has every verdict.
        batched: whether latencies are those of batches.

    Raises:
        InputError: it cannot be written.
        MissingExtraError: jinja2, matplotlib or scikit-learn is not installed.
    """
    from guardreasoner_sdk.evaluation.report.page import render

    write_atomic(path, render(summary, tables, run, journal=journal, batched=batched))


def _number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
