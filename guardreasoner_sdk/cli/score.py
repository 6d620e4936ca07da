"""``guardreasoner score``: stored answers scored, without a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from guardreasoner_sdk._cpus import usable_cpus
from guardreasoner_sdk._text import escape_unsafe, json_text
from guardreasoner_sdk.cli.terminal import console, note, write, write_json
from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.verdict import TASKS, Task

if TYPE_CHECKING:
    from guardreasoner_sdk.evaluation.scoring import Score

__all__ = ["score"]

_LABELS = "Labels"


def score(
    paths: Annotated[list[Path], typer.Argument(help="Files of stored answers or verdicts, or folders of them.")],
    compare: Annotated[
        list[str] | None, typer.Option(help="A system of the paper to set beside, such as 'LLaMA Guard 3 8B'; again for more.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the figures to a JSON file, too.")] = None,
    labels: Annotated[
        str | None,
        typer.Option(help="The rows that verdicts are about: a file, or a benchmark.", rich_help_panel=_LABELS),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(help="Which column of that file holds what: prompt_harmfulness=toxic.", rich_help_panel=_LABELS),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="The hub's commit to read a benchmark at.", rich_help_panel=_LABELS)
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="What the labels are for, where nothing else tells.", rich_help_panel=_LABELS)
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes to read in; default: one a core.")] = None,
) -> None:
    """Score stored answers by the paper's rule and strictly, beside the paper's figures.

    Reads the authors' generated_predictions.jsonl and the verdicts that check --file and evaluate write.
    """
    from guardreasoner_sdk.data.columns import Columns
    from guardreasoner_sdk.evaluation.benchmarks import read_rows
    from guardreasoner_sdk.evaluation.scoring import score as scored

    if labels is None and (column or revision):
        raise InputError("--column" if column else "--revision", "goes with --labels", "name the rows, or leave it out")
    columns = Columns.parse(column) if column else None
    found = scored(
        paths,
        compare=compare or (),
        labels=None if labels is None else read_rows(labels, revision=revision, columns=columns),
        task=_task(task),
        workers=workers or usable_cpus(),
    )
    value = [entry.model_dump(mode="json") for entry in found]
    if output is not None:
        if any(output.exists() and output.samefile(entry.file) for entry in found):
            raise InputError("--output", f"{output} holds the answers", "name another file")
        try:
            output.write_text(json_text(value, indent=2) + "\n", "utf-8")
        except OSError as error:
            raise InputError("--output", f"{output} cannot be written ({error.strerror})", "check the folder") from None
    if as_json:
        write_json(value, indent=2)
        return
    _show(found)
    if output is not None:
        note(f"figures in {output}")


def _task(name: str | None) -> Task | None:
    if name is None:
        return None
    found = next((task for task in TASKS if task == name), None)
    if found is None:
        raise InputError("--task", f"{name!r} is unknown", f"use one of {', '.join(TASKS)}")
    return found


def _show(scores: Sequence[Score]) -> None:
    from rich.table import Table

    from guardreasoner_sdk.evaluation.rows import task_name

    compared = [entry.system for entry in scores[0].compared]
    # Two runs of one guard are told apart by their files.
    files = list(dict.fromkeys(found.file for found in scores))
    counts = Counter((found.guard, found.benchmark, found.task) for found in scores)

    def name(found: Score) -> str:
        several = counts[found.guard, found.benchmark, found.task] > 1
        return escape_unsafe(f"{found.guard} #{files.index(found.file) + 1}" if several else found.guard)

    printed = any(found.system for found in scores)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in ("guard", "benchmark", "task"):
        table.add_column(head)
    for head in ("rows", "F1, paper's rule", *(["printed"] if printed else []), "F1, strict", *compared):
        table.add_column(head, justify="right")
    for head in ("undetermined", "left out", "wrong twice"):
        table.add_column(head, justify="right")
    for found in scores:
        table.add_row(
            *(name(found), escape_unsafe(found.benchmark), task_name(found.task)),
            *(f"{found.paper.rows:,}", _figure(found.paper.f1)),
            *([_figure(found.printed)] if printed else []),
            *(_figure(found.strict.f1), *(_figure(entry.f1) for entry in found.compared)),
            *(f"{found.strict.undetermined:,}", f"{found.paper.dropped:,}", f"{found.wrong_twice:,}"),
        )
    console().print(table)
    if max(counts.values()) > 1:
        write("")
        for number, file in enumerate(files, 1):
            write(escape_unsafe(f"#{number}: {file}"))
    for found in scores:
        if found.differences:
            write("")
            write(f"{name(found)}, {escape_unsafe(found.benchmark)}, {task_name(found.task)}:")
            for sentence in found.differences:
                write(escape_unsafe(f"  {sentence}"))


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
