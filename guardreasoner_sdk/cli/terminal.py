"""What stands between the commands and the terminal: streams, hostile text, JSON, and errors as one line."""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import os
import sys
import traceback
from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import typer

from guardreasoner_sdk._text import escape_unsafe, json_text
from guardreasoner_sdk.errors import GuardError

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "ExitCode",
    "console",
    "decode_argument",
    "note",
    "prepare",
    "report_errors",
    "report_unwritable",
    "write",
    "write_json",
]

P = ParamSpec("P")
R = TypeVar("R")

_TABLE_WIDTH = 160


class ExitCode(IntEnum):
    """What the process ends with; docs/command-line.md says so to users."""

    ALLOWED = 0
    BLOCKED = 1
    USAGE = 2
    UNDETERMINED = 3
    NOT_REACHED = 4
    INTERRUPTED = 130
    PIPE = 141


def prepare() -> None:
    """Make the standard streams print whatever comes, and keep the package's log off the terminal."""
    for name in ("stdout", "stderr"):
        # What was closed when the process began is None: as with print(), what is written there goes nowhere.
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115, PTH123 - lives as long as the process
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # The verdict says what the log would say; without a handler, warnings would run into the progress bar.
    logging.getLogger("guardreasoner_sdk").addHandler(logging.NullHandler())


def decode_argument(text: str) -> str:
    """The text of an argument as it was typed: where the locale is not UTF-8, Python has not decoded it."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text  # half a character of UTF-16, from Windows


def write(text: str) -> None:
    """Write a line to standard output, at once: a pipe that is closed must show here and not when Python ends."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def write_json(value: Any, *, indent: int | None = None) -> None:
    """Write JSON to standard output, in ASCII where that cannot take Unicode."""
    encoding = (sys.stdout.encoding or "ascii").lower().replace("-", "")
    write(json_text(value, indent=indent, ascii_only=not encoding.startswith("utf")))


def note(message: str) -> None:
    """Write a line to standard error. Where that cannot be written there is nobody to tell, and the exit code has to do."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"guardreasoner: {escape_unsafe(message)}\n")
        sys.stderr.flush()


def console(*, error: bool = False) -> Console:
    """A rich console that takes text as text: no markup, no emoji codes, no guessed colours.

    Args:
        error: write to standard error instead of standard output.
    """
    from rich.console import Console

    class Plain(Console):
        def on_broken_pipe(self) -> None:
            raise  # rich calls this while it handles the error, and would exit with 1: "blocked"

    made = Plain(file=sys.stderr if error else sys.stdout, markup=False, highlight=False, emoji=False)
    if not made.is_terminal:
        # Nobody looks at the edge of a file; columns squeezed into 80 characters are no use to grep either.
        made.width = _TABLE_WIDTH
    return made


def report_unwritable(error: OSError) -> ExitCode:
    """Say which file, or that standard output, cannot be used; nothing where its reader has just gone."""
    if error.filename is not None:
        note(f"{error.filename}: {error.strerror}")
        return ExitCode.USAGE
    if not isinstance(error, BrokenPipeError):
        note(f"standard output cannot be written ({error.strerror})")
    # Python would complain once more when it closes the stream.
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 - lives as long as the process
    return ExitCode.PIPE if isinstance(error, BrokenPipeError) else ExitCode.USAGE


def report_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Turn what a command raises into a message on standard error and an exit code."""

    @functools.wraps(command)
    def run(*args: P.args, **options: P.kwargs) -> R:
        try:
            return command(*args, **options)
        except GuardError as error:
            # Some list many mistakes, one on each line. Those behind the first are indented, so that no text that is quoted
            # can pass for a message of its own.
            first, *rest = str(error).splitlines() or [""]
            note(first)
            for line in rest:
                note(f"  {line.strip()}")
            raise typer.Exit(ExitCode.USAGE) from None
        except typer.Exit:
            raise
        except KeyboardInterrupt:
            raise typer.Exit(ExitCode.INTERRUPTED) from None
        except OSError as error:
            # What can go wrong with rows and verdicts is said where they are used. Left are odd files and standard output.
            raise typer.Exit(report_unwritable(error)) from None
        except Exception as error:
            if os.environ.get("GUARDREASONER_DEBUG"):
                traceback.print_exc()
            # The message of a foreign error may quote the judged text.
            note(f"internal error ({type(error).__name__}); GUARDREASONER_DEBUG=1 prints the traceback; please report it")
            raise typer.Exit(ExitCode.UNDETERMINED) from None

    return run
