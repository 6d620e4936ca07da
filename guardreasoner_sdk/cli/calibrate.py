"""``guardreasoner calibrate``: what a guard's scores are worth on your own data."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Annotated, NoReturn

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
    Timeout,
)
from guardreasoner_sdk.cli.terminal import ExitCode, console, note
from guardreasoner_sdk.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from guardreasoner_sdk.calibration import Calibration
    from guardreasoner_sdk.evaluation.calibration import LabelCount
    from guardreasoner_sdk.evaluation.rows import LabelledRow
    from guardreasoner_sdk.verdict import Verdict

__all__ = ["calibrate"]


class CurveKind(StrEnum):
    """As in :data:`guardreasoner_sdk.evaluation.calibration.Method`."""

    AUTO = "auto"
    ISOTONIC = "isotonic"
    TEMPERATURE = "temperature"


def calibrate(
    rows: Annotated[Path, typer.Argument(help="Labelled rows: .jsonl, .csv (also .gz), .json, .parquet.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the calibration goes, e.g. calibration.json.")],
    recall: Annotated[float | None, typer.Option(help="Thresholds that find this share of what is harmful, e.g. 0.95.")] = None,
    false_alarm_rate: Annotated[
        float | None, typer.Option(help="Or thresholds with at most this share of false alarms, e.g. 0.05.")
    ] = None,
    no_guarantee: Annotated[
        bool,
        typer.Option("--no-guarantee", help="The threshold that does so on the rows at hand, with no promise about others."),
    ] = False,
    method: Annotated[CurveKind, typer.Option(help="Kind of curve; auto: the better one for each task.")] = CurveKind.AUTO,
    verdicts: Annotated[
        Path | None, typer.Option(help="What check --file or evaluate wrote for these rows: nothing is judged again.")
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="Which column holds what: prompt=question, prompt_harmfulness=toxic.")
    ] = None,
    unseen: Annotated[float, typer.Option(help="Share of the prompts kept apart to measure on.")] = 0.4,
    seed: Annotated[int, typer.Option(help="Of that split.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no table.")] = False,
    model: Model = None,
    backend: Backend = None,
    dialect: Dialect = None,
    policy_text: PolicyText = None,
    request: Request = None,
    base_url: BaseUrl = None,
    reasoning: ReasoningMode = None,
    timeout: Timeout = None,
) -> None:
    """Fit a guard's scores to your own labelled rows, with thresholds and the band of a cascade.

    Figures are measured on prompts that nothing was fitted on. Guard(calibration=...) applies the file.
    Exit codes: 0 done, 2 cannot be run as given, 4 the recall or false-alarm rate asked for is not reached for every labelled
    task.
    """
    from guardreasoner_sdk.data.columns import Columns
    from guardreasoner_sdk.evaluation.benchmarks import read_file
    from guardreasoner_sdk.evaluation.calibration import Plan, count_labels
    from guardreasoner_sdk.evaluation.calibration import calibrate as calibrated

    if find_spec("sklearn") is None:
        raise MissingExtraError("eval", "Calibrations")
    if no_guarantee and recall is None and false_alarm_rate is None:
        raise InputError("--no-guarantee", "goes with --recall or --false-alarm-rate", "name one of them, or leave it out")
    plan = Plan(str(method), recall, false_alarm_rate, unseen, seed, not no_guarantee)  # type: ignore[arg-type]  # the same words
    _check_output(output)
    if output.exists() and any(path is not None and path.exists() and output.samefile(path) for path in (rows, verdicts)):
        raise InputError("--output", f"{output} holds the rows or their verdicts", "name another file")
    labelled = list(read_file(rows, Columns.parse(column) if column else None))
    counts = count_labels(labelled, plan)
    short = [count for count in counts if not count.enough]
    if len(short) == len(counts):
        _refuse(short)
    if not quiet:
        for count in short:
            note(f"{count}; the other tasks go on")
    options = GuardOptions(
        *(model, backend, dialect, None, base_url, reasoning, timeout), policy_text=policy_text, request=request
    )
    if verdicts is not None:
        judged: Iterable[tuple[LabelledRow, Verdict]] = _stored(labelled, verdicts)
    else:
        judged = _judged(labelled, options, quiet=quiet)
    found = calibrated(judged, plan)
    try:
        found.save(output)
    except OSError as error:
        raise InputError("--output", f"{output} cannot be written ({error.strerror})", "check the folder") from None
    if not quiet:
        _show(found)
        note(f"written to {output}; apply it with Guard(calibration={str(output)!r}), or set GUARDREASONER_CALIBRATION")
    if found.shortfalls:
        for task, shortfall in found.shortfalls.items():
            note(f"not reached: {task}: {shortfall}")
        raise typer.Exit(ExitCode.NOT_REACHED)


def _check_output(output: Path) -> None:
    """Find out whether it can be written before hours of judging, and not behind them."""
    if not output.parent.is_dir() or output.is_dir():
        raise InputError("--output", f"{output} cannot be made", "name a file in a folder that is there")
    if output.exists() and not output.is_file():
        raise InputError("--output", f"{output} is not a plain file", "name one: it is replaced as a whole")
    try:
        with TemporaryFile(dir=output.resolve().parent):
            pass
    except OSError as error:
        problem = f"{output} cannot be written ({error.strerror})"
        raise InputError("--output", problem, "check the folder and its permissions") from None


def _refuse(short: list[LabelCount]) -> NoReturn:
    """Stop before anything is judged: what was asked for cannot be promised of these rows."""
    for count in short:
        note(f"not reached: {count}")
    note(
        "nothing was judged; label more rows, ask for less, "
        "or take a threshold that does so on these rows, without a promise: --no-guarantee"
    )
    raise typer.Exit(ExitCode.NOT_REACHED)


def _judged(rows: list[LabelledRow], options: GuardOptions, *, quiet: bool) -> Iterator[tuple[LabelledRow, Verdict]]:
    from guardreasoner_sdk.cli.progress import progress

    settings = options.settings()
    for name, given in (("SCREEN", settings.screen), ("CALIBRATION", settings.calibration)):
        if given is not None:
            raise InputError(f"GUARDREASONER_{name}", "is set", "a guard is calibrated as it is, and alone: unset it")
    with options.guard() as guard:
        if guard.judge.backend == "embedded" and settings.reasoning == "auto":
            # Its scores are the same in every mode; the reasons, which nobody reads here, take many times as long.
            guard = dataclasses.replace(options, reasoning=Reasoning.OFF).guard()
        with guard, progress(0 if quiet else len(rows), 0) as shown:
            verdicts = guard.iter_many(row.exchange for row in rows)
            for number, (row, verdict) in enumerate(zip(rows, verdicts, strict=True), 1):
                yield row, verdict
                shown(number)


def _stored(rows: list[LabelledRow], path: Path) -> Iterator[tuple[LabelledRow, Verdict]]:
    """The rows with the verdicts of a file."""
    from pydantic import ValidationError

    from guardreasoner_sdk.evaluation.calibration.joined import match_verdicts
    from guardreasoner_sdk.verdict import Verdict

    left = {row.id: row for row in rows}
    for place, row, values in match_verdicts(path, rows):
        try:
            verdict = Verdict.model_validate(values.get("verdict"))
        except ValidationError:
            raise InputError(place, "is not a verdict", "name a file that check --file or evaluate wrote") from None
        del left[row.id]
        yield row, verdict.model_copy(update={"reasoning": (), "raw": None})
    if left:
        raise InputError(
            str(path), f"has no verdict of row {next(iter(left))}", "judge the same rows: guardreasoner check --file"
        )


def _show(calibration: Calibration) -> None:
    from rich import box
    from rich.table import Table

    from guardreasoner_sdk.evaluation.rows import task_name

    out = console()
    scores = Table(box=box.SIMPLE_HEAD, title="On prompts that nothing was fitted on", title_justify="left")
    for heading in ("task", "fitted on", "measured on", "ECE", "F1", "recall", "false alarms", "threshold"):
        scores.add_column(heading, overflow="fold")
    bands = Table(box=box.SIMPLE_HEAD, title="As the screen of a cascade, its second judge assumed right", title_justify="left")
    if calibration.made_of is not None:
        bands.caption = f"A promise holds in {calibration.made_of.confidence:g} of 100 draws of as many rows."
        bands.caption_justify = "left"
    for heading in ("task", "band", "escalated", "recall", "promised", "false alarms", "promised"):
        bands.add_column(heading, overflow="fold")
    notes = list(calibration.notes)
    for task, own in calibration.tasks.items():
        name, report = task_name(task), own.report
        if report is None:
            continue
        before, after = report.before, report.after
        scores.add_row(
            *(name, f"{report.fitted:,}", f"{report.rows:,}"),
            *(_change(before.ece, after.ece), _change(before.f1, after.f1), _change(before.recall, after.recall)),
            _change(before.false_alarm_rate, after.false_alarm_rate),
            "the guard's own" if own.threshold is None else f"{own.threshold:.3f}{' (empirical)' * (own.basis == 'empirical')}",
        )
        if own.band is not None and (band := report.band) is not None:
            bands.add_row(
                *(name, f"{own.band[0]:.4f} to {own.band[1]:.4f}", f"{band.escalated:.1f} %"),
                *(f"{band.recall:.1f} %", f"{band.promised_recall:g} %"),
                *(f"{band.false_alarm_rate:.1f} %", f"{band.promised_false_alarm_rate:g} %"),
            )
        notes += [f"{name}: {line}" for line in report.notes]
    out.print(scores)
    out.print(bands)
    for line in notes:
        note(line)


def _change(before: float | None, after: float | None) -> str:
    """A figure in percent, before and after."""
    if before is None or after is None:
        return "-"
    return f"{before:.1f} → {after:.1f} %"
