"""``guardreasoner compare``: several guards on the same labelled rows, and whether their difference is more than chance."""

from __future__ import annotations

import hashlib
import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from guardreasoner_sdk._text import quote_value
from guardreasoner_sdk.catalog import ELSEWHERE, MODELS
from guardreasoner_sdk.cli.evaluate import (
    ROWS,
    Bootstrap,
    Overwrite,
    Quiet,
    RowColumns,
    RowLimit,
    RowSample,
    check_draw,
    chosen_rows,
    run_guard,
)
from guardreasoner_sdk.cli.options import GUARD, GuardOptions, ReasoningMode, Timeout
from guardreasoner_sdk.cli.terminal import console, note
from guardreasoner_sdk.errors import ConfigurationError, InputError, MissingExtraError

if TYPE_CHECKING:
    from guardreasoner_sdk.evaluation.comparison import GuardRun
    from guardreasoner_sdk.evaluation.rows import LabelledRow
    from guardreasoner_sdk.verdict import Verdict

__all__ = ["compare"]

_UNUSUAL = re.compile(r"[^A-Za-z0-9._-]+")
_SERVED = re.compile(r"(?P<model>.+?)@(?P<url>https?://.+)")


def compare(
    guards: Annotated[
        list[str] | None,
        typer.Argument(
            help="Models of the catalogue, folders or GGUF files; NAME@URL: on a server there.", metavar="GUARD GUARD..."
        ),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(help="Labelled file, or a benchmark of the paper; may be given again.", rich_help_panel=ROWS),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for verdicts, comparison.json and comparison.html. Run again to go on."),
    ] = None,
    column: RowColumns = None,
    limit: RowLimit = None,
    sample: RowSample = None,
    seed: Annotated[int, typer.Option(help="Of the draw, and of the bootstrap.", rich_help_panel=ROWS)] = 0,
    threshold: Annotated[
        float | None,
        typer.Option(help="Score from which an answer is positive, for all alike. Default: each guard's own label."),
    ] = None,
    reasoning: ReasoningMode = None,
    timeout: Timeout = None,
    backend: Annotated[str | None, typer.Option(help="What runs language models on no server.", rich_help_panel=GUARD)] = None,
    bootstrap: Bootstrap = 1000,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Compare guards on the same labelled rows: quality, agreement, cost, and McNemar's test of each two.

    Every verdict is written at once: a run that was cut off goes on where it stopped when it is started again.
    Exit codes: 0 compared, 2 cannot be run as given.
    """
    named = list(guards or ())
    if len(named) < 2:
        raise InputError("guards", f"are {len(named)}", "name two at least, such as: embedded guardreasoner-8b@URL")
    if twice := next((name for name in named if named.count(name) > 1), None):
        raise InputError("guards", f"name {twice!r} twice", "leave one out")
    if not data:
        raise InputError("--data", "is missing", "name labelled rows, e.g. --data mine.jsonl, or a benchmark")
    if output is None:
        raise InputError("--output", "is missing", "name a folder for the verdicts and the report, e.g. --output comparison")
    check_draw(limit, sample)
    if threshold is not None and not 0 < threshold <= 1:
        raise InputError("--threshold", f"is {threshold:g}", "pass a score above 0 and up to 1, or leave it out")
    if any(find_spec(module) is None for module in ("jinja2", "sklearn")):
        raise MissingExtraError("eval", "Comparisons")
    from guardreasoner_sdk.evaluation.comparison import compare_runs, print_comparison, write_comparison

    made = {name: _options(name, backend, reasoning, timeout) for name in named}
    _check(made)
    rows = chosen_rows(data, None, column or [], limit=limit, sample=sample, seed=seed)
    runs = []
    for name, options in made.items():
        if not quiet:
            note(f"{name}:")
        runs.append(_asked(name, options, rows, output / _file_name(name), overwrite=overwrite, quiet=quiet))
    comparison = compare_runs(runs, threshold=threshold, bootstrap=bootstrap, seed=seed)
    write_comparison(comparison, output)
    if not quiet:
        print_comparison(console(), comparison)
        note(f"{comparison.rows:,} rows; {output / 'comparison.html'} shows the figures, {output / 'comparison.json'} has them")


def _options(name: str, backend: str | None, reasoning: ReasoningMode, timeout: float | None) -> GuardOptions:
    served = _SERVED.fullmatch(name)
    if served is None:
        info = MODELS.get(name.partition(":")[0])
        written = info is None or info.dialect is not None  # else it is a classifier or a service, and runs in its own way
        return GuardOptions(name, backend if written else None, reasoning=reasoning, timeout=timeout)
    return GuardOptions(served["model"], base_url=served["url"], reasoning=reasoning, timeout=timeout)


def _check(made: dict[str, GuardOptions]) -> None:
    """Make each guard once, before hours of the first one; nothing is loaded."""
    elsewhere = []
    for name, options in made.items():
        settings = options.settings()
        if settings.base_url is not None and options.base_url is None:
            raise ConfigurationError("GUARDREASONER_BASE_URL: is set, for all guards alike; unset it, and write NAME@URL")
        if settings.calibration is not None:
            raise ConfigurationError("GUARDREASONER_CALIBRATION: belongs to one guard; unset it, or compare in Python")
        try:
            with options.guard(cache=0) as guard:
                if guard.judge.backend in ELSEWHERE:
                    elsewhere.append(name)
        except ConfigurationError as error:
            error.add_note(f"guard {quote_value(name)}")
            raise
        if len(elsewhere) > 1 and settings.api_key is not None:
            fix = "unset it, and set the vendors' own variables"
            raise ConfigurationError(f"GUARDREASONER_API_KEY: would go to {' and to '.join(elsewhere)}; {fix}")


def _asked(
    name: str, options: GuardOptions, rows: list[LabelledRow], journal: Path, *, overwrite: bool, quiet: bool
) -> GuardRun:
    from guardreasoner_sdk.evaluation.comparison import GuardRun
    from guardreasoner_sdk.judges.base import is_direct

    verdicts: list[Verdict] = []
    # Every row is really asked, and its latency is that of the asking.
    with options.guard(cache=0) as guard:
        guard.load()

        def take(_: LabelledRow, verdict: Verdict) -> None:
            verdicts.append(verdict)

        run_guard(guard, options.settings(), rows, take, journal, "benchmarks", overwrite=overwrite, quiet=quiet)
        return GuardRun(name, rows, verdicts, batched=not is_direct(guard.judge))


def _file_name(name: str) -> str:
    """A file for a guard's verdicts, by its name whatever stands in it."""
    plain = _UNUSUAL.sub("-", name).strip("-.")[:60]
    return f"{plain}.jsonl" if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}.jsonl"
