"""The commands, put together."""

from __future__ import annotations

from typing import Annotated

import typer

from guardreasoner_sdk import __version__
from guardreasoner_sdk.cli.audit import audit
from guardreasoner_sdk.cli.bulk import bulk
from guardreasoner_sdk.cli.calibrate import calibrate
from guardreasoner_sdk.cli.check import check
from guardreasoner_sdk.cli.commands import WithOthers
from guardreasoner_sdk.cli.compare import compare
from guardreasoner_sdk.cli.doctor import doctor
from guardreasoner_sdk.cli.evaluate import evaluate
from guardreasoner_sdk.cli.models import models
from guardreasoner_sdk.cli.schema import schema
from guardreasoner_sdk.cli.score import score
from guardreasoner_sdk.cli.serve import serve
from guardreasoner_sdk.cli.terminal import ExitCode, prepare, report_errors, report_unwritable, write

__all__ = ["app", "run"]

app = typer.Typer(
    cls=WithOthers,
    help="Guardrails that say not only whether a prompt or an answer is harmful, but why.",
    epilog="Exit codes: 0 allowed or done, 1 blocked, 2 cannot be run as given, 3 undetermined, "
    "4 not reached (calibrate), 130 interrupted, 141 output closed.",
    no_args_is_help=True,
    # A traceback with local variables would print the judged text.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        write(f"guardreasoner-sdk {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


# What stands after the prompt is told by the command itself, which knows what may be meant.
app.command(context_settings={"allow_extra_args": True})(report_errors(check))
for _command in (doctor, models, schema, evaluate, compare, score, calibrate, audit, bulk, serve):
    app.command()(report_errors(_command))


def run(arguments: list[str] | None) -> int:
    """Run a command as a process does.

    Args:
        arguments: what follows the program's name; None: those of the process.
    """
    prepare()
    try:
        app(arguments, prog_name="guardreasoner")
    except SystemExit as end:
        # What happens outside a command, in --help for one, typer ends with 1 for whatever reason: that would be "blocked".
        cause = end.__context__
        if isinstance(cause, BrokenPipeError):
            return report_unwritable(cause)
        if isinstance(cause, typer.Abort | KeyboardInterrupt):
            return ExitCode.INTERRUPTED
        return end.code if isinstance(end.code, int) else ExitCode.ALLOWED
    except OSError as error:
        return report_unwritable(error)
    return ExitCode.ALLOWED  # pragma: no cover - typer always ends with SystemExit
