"""The command line: ``guardreasoner check | evaluate | score | calibrate | audit | finetune | train | export | ...``.

Exit codes: 0 allowed, 1 blocked for a finding, 2 the command cannot be run as given, 3 undetermined, 130 interrupted.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: what follows the program's name; default: those of the process.

    Returns:
        the exit code.
    """
    # Nobody who only imports the package pays for typer and rich.
    from guardreasoner_sdk.cli.app import app
    from guardreasoner_sdk.cli.terminal import prepare

    prepare()
    try:
        app(None if arguments is None else list(arguments), prog_name="guardreasoner")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0  # pragma: no cover - typer always ends with SystemExit
