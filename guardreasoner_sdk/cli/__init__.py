"""The command line: ``guardreasoner check | evaluate | score | calibrate | audit | finetune | train | export | ...``.

Exit codes: 0 allowed or done, 1 blocked for a finding, 2 the command cannot be run as given, 3 undetermined, 4 what was asked
for is not reached, 130 interrupted, 141 nobody reads the output any more.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

__all__ = ["main"]

_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: what follows the program's name; default: those of the process.

    Returns:
        the exit code.
    """
    try:
        with _leaving_at_once():
            # Nobody who only imports the package pays for typer and rich.
            from guardreasoner_sdk.cli.app import run

        return run(None if arguments is None else list(arguments))
    except KeyboardInterrupt:
        return _INTERRUPTED


@contextmanager
def _leaving_at_once() -> Iterator[None]:
    """End the process on Ctrl-C while there is nothing to leave behind in order.

    In the middle of an import a KeyboardInterrupt may end up in a callback or a compiled module, which print and forget it.
    """
    here = threading.current_thread() is threading.main_thread()
    if not here or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, lambda *_: os._exit(_INTERRUPTED))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
