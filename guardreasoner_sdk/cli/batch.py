"""``guardreasoner check --file``: every row of a file, each exactly once, in order, however often the run is cut off."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guardreasoner_sdk.bulk.judging import judge_rows
from guardreasoner_sdk.cli.options import GuardOptions
from guardreasoner_sdk.cli.outcome import Tally
from guardreasoner_sdk.cli.pipes import STANDARD_INPUT, Pipes, replace_pipes
from guardreasoner_sdk.cli.progress import progress
from guardreasoner_sdk.cli.terminal import ExitCode, note
from guardreasoner_sdk.data.check_rows import CheckRow, rows_of
from guardreasoner_sdk.data.identity import fingerprint, without_secrets
from guardreasoner_sdk.data.interrupts import Interrupts
from guardreasoner_sdk.data.journal import Journal, JournalEntry
from guardreasoner_sdk.data.output import Output
from guardreasoner_sdk.data.readers import open_source
from guardreasoner_sdk.data.records import Reading, RowSource, errors_while_reading
from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.guard import Guard

__all__ = ["CheckJob", "run_job"]


_LOOKED_AT = 100
"""Where none of so many rows can be read, the file is read in the wrong way, and nothing is judged."""


@dataclass(frozen=True, slots=True)
class CheckJob:
    """A file to check.

    Args:
        file: the rows; ``-`` for standard input.
        output: where the verdicts go; ``-`` for standard output.
        reading: how the rows are read.
        output_format: of the verdicts; None: by the ending of the name, else JSON lines.
        overwrite: start over, whatever is in the output.
        strict: judge nothing if a row cannot be read.
        with_text: write what was judged beside its verdict.
        quiet: no progress and no summary.
    """

    file: Path
    output: Path
    reading: Reading
    output_format: str | None
    overwrite: bool
    strict: bool
    with_text: bool
    quiet: bool


def run_job(options: GuardOptions, job: CheckJob) -> ExitCode:
    """Check a file, or go on with it.

    Raises:
        InputError: the file, the output or a setting is not as it must be; what was judged by then is written.
        ConfigurationError: the guard cannot work.
        MissingExtraError: Parquet, and pyarrow is not installed.
    """
    with replace_pipes(job.file, job.output, job.reading, job.output_format) as pipes:
        return _run(options, dataclasses.replace(job, file=pipes.file, output=pipes.output, reading=pipes.reading), pipes)


def _run(options: GuardOptions, job: CheckJob, pipes: Pipes) -> ExitCode:
    source = open_source(job.file, job.reading)
    output = Output.at(job.output, job.output_format, job.file)
    _check_readable(source, pipes.name)
    if job.strict:
        _check_all(source)
    settings = options.settings()
    with options.guard() as guard:
        with errors_while_reading(job.file, "--file"):
            whole = fingerprint(job.file)
        identity = {
            "input": whole,
            "format": source.format,
            "columns": {"prompt": job.reading.columns.prompt, "asked_response": job.reading.columns.response},
            "model": guard.judge.model,
            "backend": guard.judge.backend,
            "reasoning": settings.reasoning,
            "calibration": None if settings.calibration is None else fingerprint(Path(settings.calibration).expanduser()),
            "policy": guard.policy.model_dump(mode="json", exclude={"on_block", "message", "on_unmeasured"})
            | {"block": sorted(guard.policy.block)},
            "output format": output.format,
            "dialect": settings.dialect,
            "screen": settings.screen,
            "base_url": None if settings.base_url is None else without_secrets(settings.base_url),
            "config.json": fingerprint(config) if (config := Path(settings.model) / "config.json").is_file() else None,
        }
        # Only where they are given: runs that were begun before there were such options go on.
        given: dict[str, Any] = {
            "encoding": job.reading.encoding,
            "delimiter": job.reading.delimiter,
            "text": job.with_text or None,
            "policy_text": settings.policy_text,
            "on_unmeasured": None if guard.policy.on_unmeasured == "judge" else guard.policy.on_unmeasured,
        }
        identity |= {name: value for name, value in given.items() if value is not None}
        total, blank = _counted(source)
        tally = Tally(source.unit, blank=blank)
        with output.opened(identity, overwrite=job.overwrite, blank=blank) as journal:
            if output.finished is not None:
                note(f"already complete: {job.output}")
                tally.restore(output.finished)
            else:
                pipes.start(journal, output)
                _go_on(guard, source, journal, tally, job, total)
                output.finish(journal, tally.counts(), with_text=job.with_text)
                pipes.finish(output)
    if not job.quiet:
        _sum_up(tally, pipes.output_name)
    return tally.exit_code


def _check_readable(source: RowSource, name: str) -> None:
    """Look at the first rows before anything is loaded or written: a column of another name is no reason for 400 verdicts.

    Raises:
        InputError: there is no row, or none of the first ones can be read.
    """
    failed: list[InputError] = []
    first = list(itertools.islice(_until_failure(rows_of(source), failed), _LOOKED_AT))
    if failed and not first:
        raise failed[0]
    if not first:
        if name == STANDARD_INPUT:
            raise InputError(name, "has no rows", "write rows into it")
        raise InputError("--file", f"{name} has no rows", "write rows into it")
    if any(row.cause is None for row in first):
        return
    causes = Counter((row.problem, row.fix) for row in first)
    (problem, fix), _ = causes.most_common(1)[0]
    those = f"none of its first {len(first)} rows can" if len(first) > 1 else "its only row cannot"
    raise InputError("--file", f"{name}: {those} be read ({problem})", f"{fix}; nothing was judged")


def _counted(source: RowSource) -> tuple[int, frozenset[int]]:
    """How many rows there are, as far as the file can be read, and the numbers of the blank lines between them."""
    blank: set[int] = set()
    rows, due = 0, 1
    with suppress(InputError):
        for number, _ in source.records():
            blank.update(range(due, number))
            rows, due = rows + 1, number + 1
    return rows, frozenset(blank)


def _check_all(source: RowSource) -> None:
    for row in rows_of(source):
        if row.cause is not None:
            place, _, problem = row.cause.partition(": ")
            raise InputError(place, problem, "nothing was judged (--strict)")


def _go_on(guard: Guard, source: RowSource, journal: Journal, tally: Tally, job: CheckJob, total: int) -> None:
    last = 0
    for entry in journal.entries():
        tally.add(entry.row, entry.verdict)
        last = entry.row
    rows = rows_of(source, after=last)
    first = next(rows, None)
    if first is None:
        _check_no_more(source, journal, last)
        if journal.path == job.output.resolve():
            note(f"already complete: {job.output}")
        return
    if tally.rows and not job.quiet:
        note(f"going on at {source.unit} {first.number:,}; {tally.rows:,} are done")
    with progress(0 if job.quiet else total, tally.rows) as shown:
        try:
            _judge_all(guard, itertools.chain([first], rows), journal, tally, shown, with_text=job.with_text)
        except KeyboardInterrupt:
            if journal.copy is None:
                note(
                    f"interrupted: {tally.rows:,} rows are in {journal.path.name}; "
                    "run the same command again (without --overwrite) to go on"
                )
            raise


def _check_no_more(source: RowSource, journal: Journal, last: int) -> None:
    end = 0
    for number, _ in source.records():
        end = number
    if end < last:
        raise InputError("--output", f"{journal.path} has more rows than the input", "pass --overwrite to start over")


def _judge_all(
    guard: Guard, rows: Iterable[CheckRow], journal: Journal, tally: Tally, shown: Callable[[int], None], *, with_text: bool
) -> None:
    """Judge the rows and write the verdicts, an engine batch at a time, and at Ctrl-C those at hand."""
    waiting: list[JournalEntry] = []
    failed: list[InputError] = []
    with Interrupts() as interrupts:

        def save() -> None:
            with interrupts.held():
                journal.append(waiting)
                for entry in waiting:
                    tally.add(entry.row, entry.verdict)
                waiting.clear()
            shown(tally.rows)

        try:
            for row, verdict in judge_rows(guard, _until_failure(rows, failed)):
                waiting.append(JournalEntry(row.number, row.identity, verdict, _text_of(row) if with_text else None))
                if len(waiting) >= guard.judge.batch_size:
                    save()
        except KeyboardInterrupt:
            save()
            raise
        save()
    if failed:
        raise failed[0]


def _until_failure(rows: Iterable[CheckRow], failed: list[InputError]) -> Iterator[CheckRow]:
    """The rows up to where the file cannot be read on: those before it shall be judged and written all the same."""
    try:
        yield from rows
    except InputError as error:
        failed.append(error)


def _text_of(row: CheckRow) -> dict[str, Any] | None:
    return None if row.exchange is None else row.exchange.model_dump(mode="json", exclude_defaults=True)


def _sum_up(tally: Tally, output: str) -> None:
    note(
        f"{tally.rows:,} row{'s' * (tally.rows != 1)}: {tally.allowed:,} allowed, {tally.blocked:,} blocked, "
        f"{tally.undetermined:,} undetermined; verdicts written to {output}"
    )
    if tally.blank:
        note("1 blank line was passed over" if len(tally.blank) == 1 else f"{len(tally.blank):,} blank lines were passed over")
    if tally.unreadable:
        note(f"{tally.unreadable:,} of them could not be read:")
        for example in tally.examples:
            note(f"  {example}")
        if tally.unreadable > len(tally.examples):
            note(f"  and {tally.unreadable - len(tally.examples):,} more; their causes are in the output")
