"""``guardreasoner audit``: labels that a guard contradicts, for a person to decide on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from guardreasoner_sdk.cli.options import (
    Backend,
    BaseUrl,
    Dialect,
    GuardOptions,
    Model,
    PolicyText,
    Reasoning,
    ReasoningMode,
    Request,
    Screen,
    Timeout,
)
from guardreasoner_sdk.cli.terminal import console, note, write
from guardreasoner_sdk.errors import InputError, MissingExtraError
from guardreasoner_sdk.evaluation.audit import AT_MOST
from guardreasoner_sdk.verdict import TASKS

if TYPE_CHECKING:
    from guardreasoner_sdk.evaluation.audit.decisions import Correction
    from guardreasoner_sdk.evaluation.audit.run import Audit, AuditItem

__all__ = ["audit"]

_DECIDE, _APPLY = "Decide", "Correct"
_PAGE = "audit.html"


def audit(
    file: Annotated[Path | None, typer.Argument(help="Labelled rows: .jsonl, .csv (also .gz), .json, .parquet.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for verdicts, proposals and page. Run again to go on.")
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(help="Which column holds what: prompt=question, prompt_harmfulness=toxic, positive=bad."),
    ] = None,
    at_most: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Propose at most this share of the labels of a task.")
    ] = AT_MOST,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Judge again; decisions stay.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary.")] = False,
    serve: Annotated[
        bool,
        typer.Option("--serve", help="Serve the page on 127.0.0.1; each decision is written at once.", rich_help_panel=_DECIDE),
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="For --serve; 0: any.", rich_help_panel=_DECIDE)] = 0,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.", rich_help_panel=_DECIDE)] = False,
    apply: Annotated[
        Path | None,
        typer.Option(help="The folder of an audit: write the corrected file, with figures.", rich_help_panel=_APPLY),
    ] = None,
    decisions: Annotated[
        Path | None,
        typer.Option(help="Decisions downloaded from the page; default: those that --serve wrote.", rich_help_panel=_APPLY),
    ] = None,
    corrected: Annotated[
        Path | None, typer.Option(help="Where it goes; default: corrected.* in the folder.", rich_help_panel=_APPLY)
    ] = None,
    model: Model = None,
    backend: Backend = None,
    dialect: Dialect = None,
    policy_text: PolicyText = None,
    request: Request = None,
    screen: Screen = None,
    base_url: BaseUrl = None,
    reasoning: ReasoningMode = None,
    timeout: Timeout = None,
) -> None:
    """Find labels that a guard contradicts, decide on each on a page, and write the corrected set.

    First FILE --output DIR [--serve], then --apply DIR. Without FILE, --output DIR --serve goes on with what is in DIR.
    Exit codes: 0 done, 2 cannot be run as given.
    """
    if any(find_spec(module) is None for module in ("jinja2", "sklearn")):
        raise MissingExtraError("eval", "Audits")
    if apply is not None:
        if output is not None or serve:
            raise InputError("--apply", "does not go with --output or --serve", "leave them out")
        _apply(apply, file, decisions, corrected)
        return
    for name, given in (("--decisions", decisions), ("--corrected", corrected)):
        if given is not None:
            raise InputError(name, "goes with --apply", "name the folder of the audit, or leave it out")
    if output is None:
        raise InputError("--output", "is missing", "name a folder for the verdicts and the page, e.g. --output audit")
    if at_most == 0:
        raise InputError("--at-most", "is 0", "give a share above 0, such as 0.1")
    from guardreasoner_sdk.evaluation.audit.run import load, load_items

    if file is None:
        if not serve:
            raise InputError("file", "is missing", "name the labelled rows, or pass --serve to go on deciding")
        found, items = load(output), load_items(output)
    else:
        options = GuardOptions(
            *(model, backend, dialect, screen, base_url, reasoning, timeout), policy_text=policy_text, request=request
        )
        found, items = _run(options, file, output, column or (), at_most, overwrite=overwrite, quiet=quiet)
    if serve:
        _serve(output, found, items, port=port, open_page=open_page)
    elif open_page:
        typer.launch(str(output / _PAGE))


def _run(
    options: GuardOptions, file: Path, output: Path, columns: Sequence[str], at_most: float, *, overwrite: bool, quiet: bool
) -> tuple[Audit, list[AuditItem]]:
    from guardreasoner_sdk.cli.progress import progress
    from guardreasoner_sdk.data.atomic import write_atomic
    from guardreasoner_sdk.evaluation.audit.decisions import DECISIONS, read_decisions
    from guardreasoner_sdk.evaluation.audit.labelled_set import LabelledSet
    from guardreasoner_sdk.evaluation.audit.page import render
    from guardreasoner_sdk.evaluation.audit.run import run
    from guardreasoner_sdk.evaluation.runs import settings_of

    labels = LabelledSet(file, tuple(columns))
    # Before anything is judged: decisions on other labels do not belong into this folder.
    made = read_decisions(output / DECISIONS, labels.name()) if (output / DECISIONS).exists() else {}
    settings = options.settings()
    with ExitStack() as stack:
        guard, explainer = stack.enter_context(options.guard()), None
        if guard.judge.backend == "embedded" and settings.reasoning == "auto":
            # Its scores are the same in every mode, and measuring reasons takes many times as long as the score does: it is
            # done for what is proposed only, and there for whatever label the guard gave.
            guard = stack.enter_context(dataclasses.replace(options, reasoning=Reasoning.OFF).guard())
            explainer = stack.enter_context(dataclasses.replace(options, reasoning=Reasoning.FULL).guard())
        found, items = run(
            *(guard, labels, output),
            at_most=at_most,
            explainer=explainer,
            settings=settings_of(guard, settings),
            overwrite=overwrite,
            shown=lambda total, done: progress(0 if quiet else total, done),
        )
    write_atomic(output / _PAGE, render(found, items, made))
    if not quiet:
        _sum_up(found, items, output)
    return found, items


def _sum_up(found: Audit, items: Sequence[AuditItem], output: Path) -> None:
    from rich.table import Table

    from guardreasoner_sdk.evaluation.rows import task_name

    table = Table("task", "labels", "positive", "undetermined", "separation", "contradicted", "proposed", box=None)
    for task in found.tasks:
        separation = "" if task.separation is None else f"{100 * task.separation:.1f} %"
        counts = (task.labels, task.positives, task.undetermined)
        table.add_row(
            *(task_name(task.task), *(f"{count:,}" for count in counts), separation),
            *(f"{task.contradicted:,}", f"{task.proposed:,}"),
        )
    console().print(table)
    for task in found.tasks:
        for line in task.notes:
            note(f"{task_name(task.task)}: {line}")
    if found.rows > found.labelled:
        note(f"{found.rows - found.labelled:,} of {found.rows:,} rows carry no label and were not judged")
    note(f"labels to look at: {len(items):,}; open {output / _PAGE}, or run: guardreasoner audit --output {output} --serve")


def _serve(folder: Path, found: Audit, items: Sequence[AuditItem], *, port: int, open_page: bool) -> None:
    from guardreasoner_sdk.evaluation.audit.server import AuditServer

    with AuditServer(folder, found, items, port=port) as server:
        write(server.url)
        note("the address above is secret; decisions are written at once; Ctrl-C ends")
        if open_page:
            typer.launch(server.url)
        try:
            server.serve_forever(poll_interval=0.1)
        except KeyboardInterrupt:
            done = sum(decision != "open" for decision in server.decisions.values())
            note(f"{done:,} of {len(items):,} decided; next: guardreasoner audit --apply {folder}")


def _apply(folder: Path, file: Path | None, decisions: Path | None, corrected: Path | None) -> None:
    from guardreasoner_sdk.evaluation.audit.decisions import DECISIONS, apply, read_decisions
    from guardreasoner_sdk.evaluation.audit.run import load

    found = load(folder)
    labels = found.labels(file)
    made = read_decisions(folder / DECISIONS if decisions is None else decisions, found.audit)
    correction, path = apply(labels, folder, made, corrected)
    _print_correction(correction)
    note(f"labels changed: {correction.accepted:,}; the corrected file is {path}")


def _print_correction(correction: Correction) -> None:
    from rich.table import Table

    from guardreasoner_sdk.evaluation.rows import task_name

    decided = correction.accepted + correction.rejected
    rate = "nothing was decided" if correction.agreement is None else f"{correction.agreement:.1f} %"
    write(f"agreement: {rate} ({correction.accepted:,} accepted of {decided:,} decided; {correction.skipped:,} skipped)")
    names = ("f1", "precision", "recall", "accuracy")
    table = Table("task", "labels", *(f"{name} before, after" for name in ("F1", *names[1:])), box=None)
    for before, after in sorted(
        zip(correction.before, correction.after, strict=True), key=lambda pair: TASKS.index(pair[0].task)
    ):
        figures = (f"{_figure(getattr(before, name))}  {_figure(getattr(after, name))}" for name in names)
        table.add_row(task_name(before.task), f"{before.rows:,}", *figures)
    console().print(table)
    for after in correction.after:
        for line in after.notes:
            note(f"{task_name(after.task)}, after: {line}")
    note("figures rise by the way rows were chosen: only labels that this very guard contradicts were looked at")


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
