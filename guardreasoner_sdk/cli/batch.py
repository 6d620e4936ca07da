"""``guardreasoner check --file``: every row of a file, each exactly once, in order, however often the run is cut off."""

from __future__ import annotations

import dataclasses
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from guardreasoner_sdk.cli.options import GuardOptions
from guardreasoner_sdk.cli.outcome import Tally
from guardreasoner_sdk.cli.progress import progress
from guardreasoner_sdk.cli.terminal import ExitCode, note
from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.files.interrupts import Interrupts
from guardreasoner_sdk.files.journal import Entry, Journal
from guardreasoner_sdk.files.output import Output
from guardreasoner_sdk.files.rows import Columns, Row, Source, reading, rows_of
from guardreasoner_sdk.files.sources import open_source
from guardreasoner_sdk.files.state import fingerprint
from guardreasoner_sdk.guard import Guard
from guardreasoner_sdk.verdict import Judgement, Verdict

__all__ = ["Job", "run_job"]


@dataclass(frozen=True, slots=True)
class Job:
    """A file to check.

    Args:
        file: the rows.
        output: where the verdicts go.
        file_format: of the rows; None: by the ending of the name.
        output_format: of the verdicts; None: by the ending of the name, else JSON lines.
        columns: where the texts stand.
        overwrite: start anew, whatever is in the output.
        strict: judge nothing if a row cannot be read.
        quiet: no progress and no summary.
    """

    file: Path
    output: Path
    file_format: str | None
    output_format: str | None
    columns: Columns
    overwrite: bool
    strict: bool
    quiet: bool


def run_job(options: GuardOptions, job: Job) -> ExitCode:
    """Check a file, or go on with it.

    Args:
        options: what makes the guard.
        job: the file.

    Raises:
        InputError: the file, the output or a setting is not as it must be; what was judged by then is written.
        ConfigurationError: the guard cannot work.
        MissingExtraError: Parquet, and pyarrow is not installed.
    """
    source = open_source(job.file, job.file_format, job.columns)
    output = Output.at(job.output, job.output_format, job.file)
    if next(source.records(), source) is source:
        raise InputError("--file", f"{job.file} has no rows", "write one row per line into it")
    if job.strict:
        _check_all(source)
    settings = options.settings()
    with options.guard() as guard:
        with reading(job.file):
            whole = fingerprint(job.file)
        identity = {
            "input": whole,
            "format": source.format,
            "columns": dataclasses.asdict(job.columns),
            "model": guard.judge.model,
            "backend": guard.judge.backend,
            "reasoning": settings.reasoning,
            "calibration": None if settings.calibration is None else fingerprint(Path(settings.calibration).expanduser()),
            "policy": guard.policy.model_dump(mode="json", exclude={"on_block", "message"})
            | {"block": sorted(guard.policy.block)},
            "output format": output.format,
        }
        tally = Tally(source.unit)
        with output.opened(identity, overwrite=job.overwrite) as journal:
            if output.finished is not None:
                note(f"already complete: {job.output}")
                tally.restore(output.finished)
            else:
                _go_on(guard, source, journal, tally, job)
                output.finish(journal, tally.counts())
    if not job.quiet:
        _sum_up(tally, job.output)
    return tally.exit_code


def _check_all(source: Source) -> None:
    for row in rows_of(source):
        if row.cause is not None:
            place, _, problem = row.cause.partition(": ")
            raise InputError(place, problem, "nothing was judged (--strict)")


def _go_on(guard: Guard, source: Source, journal: Journal, tally: Tally, job: Job) -> None:
    for entry in journal.entries():
        tally.add(entry.row, entry.verdict)
    rows = rows_of(source, after=tally.rows)
    first = next(rows, None)
    if first is None:
        _check_no_more(source, journal, tally)
        if journal.path == job.output.resolve():
            note(f"already complete: {job.output}")
        return
    if tally.rows and not job.quiet:
        note(f"going on at {source.unit} {first.number:,}; {tally.rows:,} are done")
    total = 0 if job.quiet else sum(1 for _ in source.records())
    with progress(total, tally.rows) as shown:
        try:
            _judge_all(guard, itertools.chain([first], rows), journal, tally, shown)
        except KeyboardInterrupt:
            note(
                f"interrupted: {tally.rows:,} rows are in {journal.path.name}; "
                "run the same command again (without --overwrite) to go on"
            )
            raise


def _check_no_more(source: Source, journal: Journal, tally: Tally) -> None:
    if sum(1 for _ in source.records()) < tally.rows:
        raise InputError("--output", f"{journal.path} has more rows than the input", "say --overwrite to start anew")


def _judge_all(guard: Guard, rows: Iterable[Row], journal: Journal, tally: Tally, shown: Callable[[int], None]) -> None:
    """Judge the rows and write the verdicts, an engine batch at a time, and at Ctrl-C those at hand."""
    waiting: list[Entry] = []
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
            for row, verdict in _judged(guard, _until_failure(rows, failed)):
                waiting.append(Entry(row.number, row.identity, verdict))
                if len(waiting) >= guard.judge.batch_size:
                    save()
        except KeyboardInterrupt:
            save()
            raise
        save()
    if failed:
        raise failed[0]


def _until_failure(rows: Iterable[Row], failed: list[InputError]) -> Iterator[Row]:
    """The rows up to where the file cannot be read on: those before it shall be judged and written all the same."""
    try:
        yield from rows
    except InputError as error:
        failed.append(error)


def _judged(guard: Guard, rows: Iterable[Row]) -> Iterator[tuple[Row, Verdict]]:
    waiting: deque[Row] = deque()

    def exchanges() -> Iterator[Exchange | tuple[()]]:
        for row in rows:
            waiting.append(row)
            # An empty tuple is no row to the guard: it keeps the place, bounded in memory as every other row.
            yield () if row.exchange is None else row.exchange

    for verdict in guard.iter_many(exchanges()):
        row = waiting.popleft()
        yield row, verdict if row.cause is None else _unreadable(guard, row, row.cause)


def _unreadable(guard: Guard, row: Row, cause: str) -> Verdict:
    judgement = Judgement.unable(cause, response=row.response)
    return guard.policy.verdict(judgement, response=row.response, model=guard.judge.model, backend=guard.judge.backend)


def _sum_up(tally: Tally, output: Path) -> None:
    note(
        f"{tally.rows:,} rows: {tally.allowed:,} allowed, {tally.blocked:,} blocked, "
        f"{tally.undetermined:,} undetermined; verdicts in {output}"
    )
    if tally.unreadable:
        note(f"{tally.unreadable:,} of them could not be read:")
        for example in tally.examples:
            note(f"  {example}")
        if tally.unreadable > len(tally.examples):
            note(f"  and {tally.unreadable - len(tally.examples):,} more; their causes are in the output")
