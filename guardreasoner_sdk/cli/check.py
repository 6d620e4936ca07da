"""``guardreasoner check``: one prompt, or a file of them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from guardreasoner_sdk.catalog import ELSEWHERE
from guardreasoner_sdk.cli.options import (
    Backend,
    BaseUrl,
    CalibrationFile,
    Dialect,
    GuardOptions,
    MinScore,
    Model,
    OnUndetermined,
    OnUnmeasured,
    PolicyText,
    ReasoningMode,
    Request,
    Screen,
    Timeout,
)
from guardreasoner_sdk.cli.pipes import PIPE
from guardreasoner_sdk.cli.terminal import ExitCode, decode_argument, write_json
from guardreasoner_sdk.errors import InputError, UndeterminedError
from guardreasoner_sdk.exchange import MAX_CHARACTERS, Exchange

__all__ = ["check"]

_POLICY, _FILES = "Policy", "Files"
_MOST_BYTES = 4 * MAX_CHARACTERS
"""No text of ``MAX_CHARACTERS`` takes more in UTF-8; a stream without an end must not fill the memory."""


def check(
    context: typer.Context,
    prompt: Annotated[str | None, typer.Argument(help="Text to judge; '-' or nothing: standard input.")] = None,
    response: Annotated[str | None, typer.Option(help="The assistant's answer, to judge it too.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdict as one line of JSON.")] = False,
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
    on_undetermined: Annotated[
        OnUndetermined | None, typer.Option(help="What an undecided finding means.", rich_help_panel=_POLICY)
    ] = None,
    on_unmeasured: Annotated[
        OnUnmeasured | None,
        typer.Option(help="What a finding is worth in a language never measured.", rich_help_panel=_POLICY),
    ] = None,
    block: Annotated[
        list[str] | None,
        typer.Option(help="What blocks: harmful_prompt, harmful_response, refusal.", rich_help_panel=_POLICY),
    ] = None,
    min_score: MinScore = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            "-f",
            help="Rows: .jsonl, .json, .csv, .tsv (also .gz), .parquet; '-': standard input.",
            rich_help_panel=_FILES,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Verdicts: JSON lines, or .csv, .parquet; '-': standard output. Run again to go on.",
            rich_help_panel=_FILES,
        ),
    ] = None,
    lines: Annotated[
        bool, typer.Option("--lines", help="Each line of the file, or of standard input, is a prompt.", rich_help_panel=_FILES)
    ] = False,
    file_format: Annotated[
        str | None, typer.Option("--format", help="Of the rows: jsonl, json, csv, parquet, lines.", rich_help_panel=_FILES)
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(help="Of the rows, where it is not UTF-8: gb18030, utf-16, ...", rich_help_panel=_FILES)
    ] = None,
    delimiter: Annotated[
        str | None, typer.Option(help="What separates the cells of CSV: ';', tab, ...", rich_help_panel=_FILES)
    ] = None,
    output_format: Annotated[
        str | None, typer.Option(help="Of the verdicts: jsonl, csv, parquet.", rich_help_panel=_FILES)
    ] = None,
    prompt_column: Annotated[
        str, typer.Option(help="Where the prompt, or the list of messages, stands.", rich_help_panel=_FILES)
    ] = "prompt",
    response_column: Annotated[
        str | None, typer.Option(help="Where the response stands; default: response, if there.", rich_help_panel=_FILES)
    ] = None,
    with_text: Annotated[
        bool, typer.Option("--with-text", help="Write what was judged beside its verdict.", rich_help_panel=_FILES)
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start over.", rich_help_panel=_FILES)] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Judge nothing if a row cannot be read.", rich_help_panel=_FILES)
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary.", rich_help_panel=_FILES)] = False,
) -> None:
    """Judge a prompt, a response to it, or a file of them.

    Exit codes: 0 allowed, 1 blocked, 2 cannot be run as given, 3 undetermined.
    """
    if context.args:
        # They may be text to judge: they are counted, and not shown.
        more = "1 more argument" if len(context.args) == 1 else f"{len(context.args)} more arguments"
        raise InputError("prompt", f"is followed by {more}", "put it in quotes as a whole; an answer goes with --response")
    options = GuardOptions(
        model,
        backend,
        dialect,
        screen,
        base_url,
        reasoning,
        timeout=timeout,
        on_undetermined=on_undetermined,
        on_unmeasured=on_unmeasured,
        block=tuple(block or ()),
        min_score=tuple(min_score or ()),
        calibration=calibration,
        policy_text=policy_text,
        request=request,
    )
    if lines:
        if file_format not in (None, "lines"):
            raise InputError("--format", "does not go with --lines", "leave one of them out")
        # As a filter: a prompt on each line in, a verdict on each line out.
        file, file_format = file or PIPE, "lines"
        output, quiet = output or PIPE, quiet or output is None
        as_json = False
    if file is None:
        for name, given in (
            ("--output", output),
            ("--format", file_format),
            ("--encoding", encoding),
            ("--delimiter", delimiter),
            ("--output-format", output_format),
            ("--response-column", response_column),
            ("--with-text", with_text or None),
        ):
            if given is not None:
                raise InputError(name, "goes with --file", "name the file of rows, or leave it out")
        raise typer.Exit(_check_one(options, prompt, response, as_json))
    for name, wrong in (("prompt", prompt is not None), ("--response", response is not None), ("--json", as_json)):
        if wrong:
            raise InputError(name, "does not go with --file", "leave it out; the verdicts are written to --output")
    if output is None:
        fix = "name the file to write the verdicts to, e.g. --output verdicts.jsonl, or - for standard output"
        raise InputError("--output", "is missing", fix)

    from guardreasoner_sdk.cli.batch import CheckJob, run_job
    from guardreasoner_sdk.data.columns import Columns
    from guardreasoner_sdk.data.records import Reading

    job = CheckJob(
        file=file,
        output=output,
        reading=Reading(file_format, Columns(prompt_column, response_column), encoding, delimiter),
        output_format=output_format,
        overwrite=overwrite,
        strict=strict,
        with_text=with_text,
        quiet=quiet,
    )
    raise typer.Exit(run_job(options, job))


def _check_one(options: GuardOptions, prompt: str | None, response: str | None, as_json: bool) -> ExitCode:
    from guardreasoner_sdk.cli.outcome import outcome
    from guardreasoner_sdk.cli.show import load, show

    text = _from_stdin(asked=prompt == "-") if prompt is None or prompt == "-" else decode_argument(prompt)
    response = None if response is None else decode_argument(response)
    Exchange(text, response)  # what cannot be judged needs no model to be loaded
    with options.guard() as guard:
        # A server has its model loaded, and whether it answers is a matter of the check's timeout.
        loading = None if guard.judge.backend in ELSEWHERE else load(guard)
        try:
            verdict = guard.check(text, response)
        except UndeterminedError as error:
            # The exit code is how a command raises.
            verdict = error.verdict
        result = outcome(verdict)
    if as_json:
        write_json(verdict.model_dump(mode="json"))
    else:
        show(verdict, result, loading=loading)
    return result


def _from_stdin(*, asked: bool) -> str:
    if sys.stdin is None or (not asked and sys.stdin.isatty()):
        raise InputError("prompt", "is missing", 'pass it (guardreasoner check "..."), pipe it in, or name a --file')
    data = sys.stdin.buffer.read(_MOST_BYTES + 3)
    if len(data) > _MOST_BYTES + 2:
        raise InputError(
            "prompt", f"has more than {MAX_CHARACTERS:,} characters on standard input", "split it and check the parts"
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            "prompt", f"on standard input is not UTF-8 at byte {error.start + 1:,}", "convert it, e.g. with iconv -t utf-8"
        ) from None
    # The line break that echo and editors put at the end is no part of the prompt.
    return text.removesuffix("\n").removesuffix("\r")
