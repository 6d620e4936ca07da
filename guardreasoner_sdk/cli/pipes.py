"""``--file -`` and ``--output -``: rows from standard input, verdicts on standard output."""

from __future__ import annotations

import dataclasses
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from guardreasoner_sdk.data.journal import Journal
from guardreasoner_sdk.data.output import Output
from guardreasoner_sdk.data.records import Reading, open_unpacked
from guardreasoner_sdk.errors import InputError

__all__ = ["PIPE", "STANDARD_INPUT", "Pipes", "replace_pipes"]

PIPE = Path("-")
"""In place of a file: standard input, or standard output."""
STANDARD_INPUT = "standard input"
"""What it is called in messages."""


@dataclass(frozen=True, slots=True)
class Pipes:
    """What takes the place of a pipe.

    Args:
        file: the rows, in a file that can be read again.
        output: where the run writes.
        reading: how the rows are read.
        name: what the input is called in messages.
        to_output: whether verdicts go to standard output.
    """

    file: Path
    output: Path
    reading: Reading
    name: str
    to_output: bool

    @property
    def output_name(self) -> str:
        """What the output is called in messages."""
        return "standard output" if self.to_output else str(self.output)

    def start(self, journal: Journal, output: Output) -> None:
        """Have JSON lines appear on standard output as they are judged, where they go there."""
        if self.to_output and output.format == "jsonl":
            journal.copy = sys.stdout.buffer

    def finish(self, output: Output) -> None:
        """Hand a whole table to standard output."""
        if self.to_output and output.format != "jsonl":
            with output.path.open("rb") as table:
                shutil.copyfileobj(table, sys.stdout.buffer)
            sys.stdout.buffer.flush()


@contextmanager
def replace_pipes(file: Path, output: Path, reading: Reading, output_format: str | None) -> Iterator[Pipes]:
    """Put files in place of pipes: a run rereads its rows, and writes more than verdicts.

    Args:
        file: the rows, or :data:`PIPE`.
        output: the verdicts, or :data:`PIPE`.
        reading: how the rows are read; what comes in from a pipe has no ending that could say so.
        output_format: of the verdicts; None: by the ending of the name, else JSON lines.

    Raises:
        InputError: standard input is empty, or does not say what it holds.
    """
    if PIPE not in (file, output):
        yield Pipes(file, output, reading, str(file), to_output=False)
        return
    with tempfile.TemporaryDirectory(prefix="guardreasoner-") as name:
        folder = Path(name)
        shown = str(file)
        if file == PIPE:
            file, shown = folder / "rows", STANDARD_INPUT
            with file.open("wb") as spooled:
                if sys.stdin is not None:
                    shutil.copyfileobj(sys.stdin.buffer, spooled)
            if not file.stat().st_size:
                raise InputError(STANDARD_INPUT, "is empty", "write rows into it")
            reading = dataclasses.replace(reading, folder=Path.cwd())
            if reading.format is None:
                reading = dataclasses.replace(reading, format=_format(file, reading))
        to_output = output == PIPE
        ending = {"csv": ".csv", "parquet": ".parquet"}.get(output_format or "", ".jsonl")
        try:
            yield Pipes(file, folder / f"verdicts{ending}" if to_output else output, reading, shown, to_output=to_output)
        except InputError as error:
            # Nobody knows the file that stands for the pipe.
            problem, fix = (text.replace(str(folder / "rows"), shown) for text in (error.problem, error.fix))
            raise InputError(error.field, problem, fix) from None


def _format(file: Path, reading: Reading) -> str:
    """What rows without a name are written in."""
    from guardreasoner_sdk.data.jsonfile import holds_lines

    with open_unpacked(file, reading.encoding) as raw:
        start = raw.read(1 << 12).removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith(b"PAR1"):
        return "parquet"
    if start.startswith(b"{"):
        return "jsonl" if b"\n" not in start.rstrip() or b"\n{" in start or holds_lines(file, reading) else "json"
    if start.startswith(b"["):
        return "json"
    raise InputError(
        "--file", "standard input does not say how its rows are written", "pass --lines for a prompt on each line, or --format"
    )
