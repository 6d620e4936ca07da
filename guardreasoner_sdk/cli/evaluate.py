"""``guardreasoner evaluate``: how good a guard is on benchmarks, beside the systems of the paper."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from guardreasoner_sdk.cli.options import (
    Backend,
    BaseUrl,
    CalibrationFile,
    Dialect,
    GuardOptions,
    Model,
    PolicyText,
    ReasoningMode,
    Request,
    Screen,
    Timeout,
)
from guardreasoner_sdk.cli.terminal import console, note
from guardreasoner_sdk.errors import InputError, MissingExtraError
from guardreasoner_sdk.guard import Guard
from guardreasoner_sdk.verdict import Verdict

if TYPE_CHECKING:
    from guardreasoner_sdk.evaluation.robustness import RobustnessRow, RobustnessSet
    from guardreasoner_sdk.evaluation.rows import LabelledRow
    from guardreasoner_sdk.settings import Settings

__all__ = [
    "ROWS",
    "Bootstrap",
    "Overwrite",
    "Quiet",
    "RowColumns",
    "RowLimit",
    "RowSample",
    "check_draw",
    "chosen_rows",
    "evaluate",
    "run_guard",
]

R = TypeVar("R", bound="LabelledRow")

ROWS, REPORT = "Rows", "Report"
"""Where the help of commands that ask guards labelled rows lists the options below."""
_ROBUSTNESS = "Robustness"
_COMPARED = ("LLaMA Guard 3 8B", "WildGuard 7B", "GuardReasoner 1B", "GuardReasoner 8B")

RowColumns = Annotated[
    list[str] | None,
    typer.Option(help="Of your own files: prompt=question, prompt_harmfulness=toxic, positive=bad.", rich_help_panel=ROWS),
]
RowLimit = Annotated[
    int | None, typer.Option(min=1, help="Only the first so many rows of each benchmark.", rich_help_panel=ROWS)
]
RowSample = Annotated[
    int | None, typer.Option(min=1, help="Only so many rows of each benchmark, drawn at random.", rich_help_panel=ROWS)
]
Bootstrap = Annotated[int, typer.Option(min=0, help="Draws that the intervals of F1 rest on; 0: none.", rich_help_panel=REPORT)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Start over.", rich_help_panel=REPORT)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no tables.", rich_help_panel=REPORT)]


def evaluate(
    benchmarks: Annotated[
        list[str] | None,
        typer.Argument(
            help="Benchmarks of the paper, or labelled files (JSON lines, CSV, Parquet, the authors' JSON). "
            "Default: all that are in --data.",
            metavar="[BENCHMARK|PATH]...",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for verdicts.jsonl, summary.json and report.html. Run again to go on."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder with the benchmarks' files; without it they are downloaded.", rich_help_panel=ROWS),
    ] = None,
    column: RowColumns = None,
    limit: RowLimit = None,
    sample: RowSample = None,
    seed: Annotated[int, typer.Option(help="Of every draw, and of the bootstrap.", rich_help_panel=ROWS)] = 0,
    robustness: Annotated[
        list[str] | None,
        typer.Option(
            help="Put the rows into other surroundings, too: 'all', or any of languages, over_refusal, needles, framings, "
            "conversations, disguises. clear_cut, which 'all' leaves out, needs no rows: its texts come with the package.",
            metavar="SETS",
            rich_help_panel=_ROBUSTNESS,
        ),
    ] = None,
    pairs: Annotated[
        int, typer.Option(min=1, help="Most pairs of prompts, and of answers, in each set.", rich_help_panel=_ROBUSTNESS)
    ] = 40,
    model: Model = None,
    backend: Backend = None,
    dialect: Dialect = None,
    policy_text: PolicyText = None,
    request: Request = None,
    screen: Screen = None,
    base_url: BaseUrl = None,
    reasoning: ReasoningMode = None,
    timeout: Timeout = None,
    calibration: CalibrationFile = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(help=f"A system of the paper, or 'all'. Default: {', '.join(_COMPARED)}.", rich_help_panel=REPORT),
    ] = None,
    bootstrap: Bootstrap = 1000,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Measure a guard on benchmarks, beside the systems of the paper.

    Every verdict is written at once: a run that was cut off goes on where it stopped when it is started again.
    Exit codes: 0 measured, 2 cannot be run as given.
    """
    if output is None:
        raise InputError("--output", "is missing", "name a folder for the verdicts and the report, e.g. --output report")
    check_draw(limit, sample)
    _check_extra()
    from guardreasoner_sdk.evaluation import clear_cut_rows, paper
    from guardreasoner_sdk.evaluation.report import print_report, standings, write_page, write_summary
    from guardreasoner_sdk.evaluation.robustness import CLEAR_CUT, RobustnessTally, given_rows
    from guardreasoner_sdk.evaluation.runs import JOURNAL, ROBUSTNESS_JOURNAL, choose
    from guardreasoner_sdk.evaluation.summary import Collected
    from guardreasoner_sdk.judges.base import is_direct

    systems = paper.rows(compare or _COMPARED)
    sets, asked = _sets(robustness or [])
    if CLEAR_CUT in sets and not benchmarks and data is None:
        rows = choose(clear_cut_rows(), limit=limit, sample=sample, seed=seed)
    else:
        rows = chosen_rows(benchmarks or [], data, column or [], limit=limit, sample=sample, seed=seed)
    made = _made(rows, sets, asked, pairs=pairs, seed=seed)
    run, tally = Collected(), RobustnessTally()

    def add(row: LabelledRow, verdict: Verdict) -> None:
        run.add(row, verdict)
        for given in given_rows([row], sets):
            tally.add(given, verdict)

    options = GuardOptions(
        *(model, backend, dialect, screen, base_url, reasoning, timeout),
        calibration=calibration,
        policy_text=policy_text,
        request=request,
    )
    settings = options.settings()
    # Every row is really asked, and its latency is that of the asking.
    with options.guard(cache=0) as guard:
        run_guard(guard, settings, rows, add, output / JOURNAL, "benchmarks", overwrite=overwrite, quiet=quiet)
        if made:
            journal = output / ROBUSTNESS_JOURNAL
            run_guard(guard, settings, made, tally.add, journal, "robustness", overwrite=overwrite, quiet=quiet)
        summary = run.summary(
            _described(guard, settings),
            part=_part(limit, sample, seed),
            bootstrap=bootstrap,
            seed=seed,
            robustness=tally.robustness() if sets else None,
        )
        batched = not is_direct(guard.judge)
    tables = standings(summary, systems)
    write_summary(summary, tables, output / "summary.json")
    write_page(summary, tables, run, output / "report.html", journal=JOURNAL, batched=batched)
    if not quiet:
        print_report(console(), summary, tables)
        note(f"{summary.rows:,} rows; {output / 'report.html'} shows the errors, {output / 'summary.json'} has every figure")


def _check_extra() -> None:
    """Say what is missing before the run, and not behind hours of it."""
    if any(find_spec(module) is None for module in ("jinja2", "matplotlib", "sklearn")):
        raise MissingExtraError("eval", "Evaluations")


def check_draw(limit: int | None, sample: int | None) -> None:
    if limit is not None and sample is not None:
        raise InputError("--sample", "does not go with --limit", "leave one of them out")


def chosen_rows(
    names: Sequence[str], data: Path | None, column: Sequence[str], *, limit: int | None, sample: int | None, seed: int
) -> list[LabelledRow]:
    from guardreasoner_sdk.data.columns import Columns
    from guardreasoner_sdk.evaluation.benchmarks import read_rows
    from guardreasoner_sdk.evaluation.runs import choose

    columns = Columns.parse(column) if column else None
    rows: list[LabelledRow] = []
    for name in names or _found_in(data):
        chosen = choose(read_rows(name, source=data, columns=columns), limit=limit, sample=sample, seed=seed)
        if not chosen:
            raise InputError(name, "has no labelled row", "label some, or leave it out")
        if any(row.benchmark == chosen[0].benchmark for row in rows):
            raise InputError(name, f"is a second benchmark {chosen[0].benchmark!r}", "leave it out, or rename the file")
        rows += chosen
    return rows


def _found_in(data: Path | None) -> list[str]:
    """The benchmarks that a folder has."""
    from guardreasoner_sdk.evaluation.benchmarks import BENCHMARKS
    from guardreasoner_sdk.evaluation.benchmarks.fetch import local_file

    if data is None:
        fix = f"name some of {', '.join(BENCHMARKS)}, or files of your own, or a folder of benchmarks with --data"
        raise InputError("benchmarks", "are missing", fix)
    found = []
    for name, benchmark in BENCHMARKS.items():
        try:
            local_file(data, [benchmark.authors_file, benchmark.source.file])
        except InputError:
            continue
        found.append(name)
    if not found:
        raise InputError("--data", f"{data} has no file of a benchmark", "check the folder, or name files of your own")
    return found


def _sets(names: Sequence[str]) -> tuple[list[RobustnessSet], list[str]]:
    """The sets that are asked for, and those of them that are named and so have to be made; 'all' makes what can be made."""
    from guardreasoner_sdk.evaluation.robustness import checked_sets

    if not names:
        return [], []
    named = [name.strip() for part in names for name in part.split(",") if name.strip()]
    asked = [name for name in named if name != "all"]
    return checked_sets([*(checked_sets(None) if "all" in named else []), *asked]), asked


def _made(
    rows: Sequence[LabelledRow], sets: Sequence[RobustnessSet], asked: Sequence[str], *, pairs: int, seed: int
) -> list[RobustnessRow]:
    """The rows of the sets but for those that are in the run as they are."""
    from guardreasoner_sdk.evaluation.robustness import check_made, given_rows, made_rows

    if not sets:
        return []
    made = made_rows(rows, sets, pairs=pairs, seed=seed)
    check_made(itertools.chain(given_rows(rows, sets), made), asked or None)
    return made


def run_guard(
    guard: Guard,
    settings: Settings,
    rows: Sequence[R],
    add: Callable[[R, Verdict], None],
    path: Path,
    what: str,
    *,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Ask what was not asked yet, and hand over the whole."""
    from guardreasoner_sdk.cli.progress import progress
    from guardreasoner_sdk.evaluation.runs import fingerprints, go_on, open_run, settings_of, verdicts

    identity = settings_of(guard, settings) | {what: fingerprints(rows)}
    with open_run(path.parent, identity, overwrite=overwrite, name=path.name) as journal:
        done = at_hand = sum(1 for _ in journal.entries())
        if done and not quiet:
            note(f"{done:,} of {len(rows):,} rows are done already")

        def shown(now: int) -> None:
            nonlocal at_hand
            at_hand = now
            show(now)

        with progress(0 if quiet else len(rows), done) as show:
            try:
                go_on(guard, rows, journal, done=done, shown=shown)
            except KeyboardInterrupt:
                note(f"interrupted: {at_hand:,} rows are in {path}; run the same command again (without --overwrite) to go on")
                raise
        for row, verdict in verdicts(rows, journal):
            add(row, verdict)


def _described(guard: Guard, settings: Settings) -> dict[str, Any]:
    """What judged, and how, for those who read the report; not where it runs."""
    more = settings.model_dump(mode="json", include={"reasoning", "dialect", "policy_text", "screen", "timeout", "calibration"})
    return {
        "model": guard.judge.model,
        "backend": guard.judge.backend,
        **{name: value for name, value in more.items() if value is not None},
    }


def _part(limit: int | None, sample: int | None, seed: int) -> str | None:
    if limit is not None:
        return f"the first {limit:,} rows of each"
    return None if sample is None else f"{sample:,} rows of each, drawn with seed {seed}"
