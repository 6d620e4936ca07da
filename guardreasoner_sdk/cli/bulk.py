"""``guardreasoner bulk``: files by the million rows, on Ray."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Annotated, Self

import typer

from guardreasoner_sdk.bulk.run import BulkOptions, run_bulk
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
from guardreasoner_sdk.cli.progress import progress
from guardreasoner_sdk.cli.terminal import ExitCode, note

__all__ = ["bulk"]

_POLICY, _POOL = "Policy", "Pool"


def bulk(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="Rows: .jsonl, .parquet, or a folder of such files.")],
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="Folder of the verdicts. Run again to go on.")],
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
    prompt_column: Annotated[str, typer.Option(help="Where the prompt, or the list of messages, stands.")] = "prompt",
    response_column: Annotated[str | None, typer.Option(help="Where the response stands; default: response, if there.")] = None,
    output_format: Annotated[str, typer.Option(help="Of the verdicts: jsonl, parquet.")] = "jsonl",
    address: Annotated[
        str | None,
        typer.Option(help="Of a cluster: auto, ray://host:10001; default: one on this machine.", rich_help_panel=_POOL),
    ] = None,
    actors: Annotated[int | None, typer.Option(help="Guards at a time; default: one a core.", rich_help_panel=_POOL)] = None,
    cpus_per_actor: Annotated[int, typer.Option(help="Cores that each takes.", rich_help_panel=_POOL)] = 1,
    gpus_per_actor: Annotated[float, typer.Option(help="GPUs that each takes.", rich_help_panel=_POOL)] = 0,
    block_rows: Annotated[int, typer.Option(help="Rows that are finished together.", rich_help_panel=_POOL)] = 1000,
    restart: Annotated[bool, typer.Option("--restart", help="Throw away what is in OUTPUT.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary.")] = False,
) -> None:
    """Judge files of any size on Ray: a pool of guards, and each row once however often it is killed.

    Exit codes: 0 done, 2 cannot be run as given or Ray gave up, 130 interrupted.
    """
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
    pool = BulkOptions(
        address=address,
        actors=actors,
        cpus_per_actor=cpus_per_actor,
        gpus_per_actor=gpus_per_actor,
        block_rows=block_rows,
        output_format=output_format,
    )
    with _Progress(quiet=quiet) as shown:
        try:
            figures = run_bulk(
                source,
                output,
                guard=options.arguments(),
                prompt_column=prompt_column,
                response_column=response_column,
                options=pool,
                restart=restart,
                progress=shown,
            )
        except KeyboardInterrupt:
            note("interrupted: finished blocks stay; run the same command again to go on")
            raise typer.Exit(ExitCode.INTERRUPTED) from None
    if not quiet:
        note(
            f"{figures['rows']:,} rows: {figures['allowed']:,} allowed, {figures['blocked']:,} blocked, "
            f"{figures['undetermined']:,} undetermined; verdicts written to {output}"
        )
        if figures["unreadable"]:
            note(f"{figures['unreadable']:,} of them could not be read; their causes are in the output")


class _Progress:
    """Begins to show how far it is when the job says how much there is to do."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._stack = ExitStack()
        self._show: Callable[[int], None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def __call__(self, done: int, total: int) -> None:
        if self._show is None:
            self._show = self._stack.enter_context(progress(0 if self._quiet else total, done))
            if done and not self._quiet:
                note(f"going on; {done:,} of {total:,} rows are done")
        self._show(done)
