"""Files that grow as work is done, a line at a time: a kill at any moment leaves whole lines, and a torn one is dropped."""

from __future__ import annotations

import itertools
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, Self

from filelock import lock_descriptor
from pydantic import ValidationError

from guardreasoner_sdk._text import JsonError, json_text, parse_json
from guardreasoner_sdk.data.atomic import errors_while_writing
from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.verdict import Verdict

__all__ = ["TEXT", "Journal", "JournalEntry", "Lines", "each_line", "lock", "open_to_append"]


TEXT = ("prompt", "response", "history")
"""What is judged, in an output that is to hold it."""


class JournalEntry(NamedTuple):
    """A row of the output.

    Args:
        row: the input's row, from 1.
        identity: its ``id``, or None.
        verdict: what came of it.
        text: what was judged, by field, where the output is to hold it.
        file: the input's, where there are several.
    """

    row: int
    identity: str | int | float | bool | None
    verdict: Verdict
    text: Mapping[str, Any] | None = None
    file: str | None = None

    def line(self) -> bytes:
        """The row as a line of JSON."""
        value: dict[str, Any] = {"row": self.row} if self.file is None else {"file": self.file, "row": self.row}
        if self.identity is not None:
            value["id"] = self.identity
        value |= self.text or {}
        value["verdict"] = self.verdict.model_dump(mode="json")
        return f"{json_text(value)}\n".encode()

    @classmethod
    def read(cls, line: bytes) -> JournalEntry:
        """The row that a line holds.

        Raises:
            ValueError: none.
        """
        try:
            value = parse_json(line)
            text = {name: value[name] for name in TEXT if name in value}
            verdict = Verdict.model_validate(value["verdict"])
            return cls(int(value["row"]), value.get("id"), verdict, text or None, value.get("file"))
        except (LookupError, TypeError, AttributeError, OverflowError, RecursionError, ValidationError) as error:
            raise ValueError(f"no row of verdicts ({type(error).__name__})") from None


_BLOCK = 1 << 16


class Lines:
    """A file of JSON objects, one on each line, that is appended to.

    A torn last line is cut off before anything is read or written. One process at a time writes it: who opens it sees to that.

    Args:
        path: the file; made where it is missing.
        durable: whether what is appended is to outlast a power failure too, and not only the process.

    Attributes:
        path: the file.

    Raises:
        InputError: it cannot be written.
    """

    def __init__(self, path: Path, *, durable: bool = False) -> None:
        self.path = path
        self._durable = durable
        self._mended = False
        self._descriptor = self._open()

    def _open(self) -> int:
        return open_to_append(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        os.close(self._descriptor)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The objects.

        Raises:
            InputError: a line is damaged.
        """
        for number, value in enumerate(self.each(), 1):
            if value is None:
                raise InputError(f"{self.path}:{number}", "is damaged", "pass --restart to start over")
            yield value

    def each(self) -> Iterator[dict[str, Any] | None]:
        """What each line holds: its object, or None where it is damaged."""
        self._mend()
        return each_line(self.path)

    def write(self, lines: bytes) -> None:
        """Write whole lines after the others. They are there when this returns.

        Raises:
            InputError: they cannot be written, for example because the disk is full.
        """
        self._mend()
        rest = memoryview(lines)
        with errors_while_writing(self.path):
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            if self._durable:
                os.fsync(self._descriptor)

    def add(self, values: Iterable[Mapping[str, Any]]) -> None:
        """Write objects behind the others, as :meth:`write` does."""
        self.write("".join(f"{json_text(dict(value))}\n" for value in values).encode())

    def keep(self, count: int) -> None:
        """Drop all lines but the first ones."""
        with errors_while_writing(self.path), self.path.open("rb") as file:
            self._cut(sum(len(line) for line in itertools.islice(file, count)))

    def _cut(self, length: int) -> None:
        with errors_while_writing(self.path):
            os.ftruncate(self._descriptor, length)

    def _mend(self) -> None:
        """A kill, or a full disk, can leave the last line half written. Not cut off at once: the file may be another."""
        if self._mended:
            return
        with errors_while_writing(self.path), self.path.open("rb") as file:
            end = whole = file.seek(0, os.SEEK_END)
            last = b""
            while whole and not last.startswith(b"\n"):
                whole = max(0, whole - _BLOCK)
                file.seek(whole)
                last = file.read(end - whole)
                if (found := last.rfind(b"\n")) >= 0:
                    whole, last = whole + found + 1, last[found:]
        if whole < end:
            # All of it but its end: nothing is lost. A line that somebody has corrected may lack that, too.
            if _object_in(last) is not None:
                os.write(self._descriptor, b"\n")
            else:
                self._cut(whole)
        self._mended = True


class Journal(Lines):
    """Verdicts as JSON lines, locked against a second process.

    Args:
        path: the file; made if it is not there.
        blank: numbers that may be missing between those of the rows: those of blank lines.

    Attributes:
        copy: where rows are written, too, once they are in the file; None: nowhere.

    Raises:
        InputError: it cannot be written, or another process writes it.
    """

    def __init__(self, path: Path, *, blank: Collection[int] = frozenset()) -> None:
        super().__init__(path)
        self.copy: IO[bytes] | None = None
        self._blank = blank

    def _open(self) -> int:
        while True:
            descriptor = open_to_append(self.path)
            try:
                # Windows lets nobody read a file that is locked.
                if os.name != "nt":
                    lock(descriptor, f"another process writes {self.path}")
                with errors_while_writing(self.path):
                    # The process that had the lock may have removed the file just now: then this is one that nobody sees.
                    if self.path.exists() and os.path.samestat(self.path.stat(), os.fstat(descriptor)):
                        return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    @property
    def empty(self) -> bool:
        """Whether nothing was written yet."""
        return os.fstat(self._descriptor).st_size == 0

    def clear(self) -> None:
        """Drop all rows."""
        self._cut(0)

    def entries(self) -> Iterator[JournalEntry]:
        """The rows, in order. A last line that is none is cut off.

        Raises:
            InputError: a line before the last one is no row, or not the next one.
        """
        self._mend()
        whole = last = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    entry = JournalEntry.read(line)
                    if not self._follows(entry.row, last):
                        raise ValueError("another row was due")
                except ValueError:
                    if file.read(1):
                        due = next(row for row in itertools.count(last + 1) if row not in self._blank)
                        raise InputError(
                            "--output",
                            f"line {number} of {self.path} is not the verdict of row {due}",
                            "pass --overwrite to start over, or name another --output",
                        ) from None
                    self._cut(whole)
                    return
                yield entry
                last = entry.row
                whole += len(line)

    def _follows(self, row: int, last: int) -> bool:
        return row > last and all(number in self._blank for number in range(last + 1, row))

    def append(self, entries: Sequence[JournalEntry]) -> None:
        """Write rows behind the others.

        Raises:
            InputError: they cannot be written, for example because the disk is full.
        """
        lines = b"".join(entry.line() for entry in entries)
        self.write(lines)
        if self.copy is not None:
            self.copy.write(lines)
            self.copy.flush()

    def remove(self) -> None:
        """Delete the file; the lock lasts until the journal is closed."""
        with suppress(OSError):  # a system that deletes no open file: what is left is found finished and ignored
            self.path.unlink()


def each_line(path: Path) -> Iterator[dict[str, Any] | None]:
    """What each line of a file of JSON lines holds: its object, or None where it is damaged."""
    with path.open("rb") as file:
        yield from map(_object_in, file)


def _object_in(line: bytes) -> dict[str, Any] | None:
    try:
        value = parse_json(line)
    except JsonError:
        return None
    return value if isinstance(value, dict) else None


def open_to_append(path: Path) -> int:
    """Open a file so that whatever is written to it is after what is there.

    Args:
        path: the file; made if it is not there.

    Raises:
        InputError: it cannot be written.
    """
    with errors_while_writing(path):
        return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)


def lock(descriptor: int, problem: str) -> None:
    """Lock a file against a second process until it is closed.

    Args:
        problem: what is said where another process has it.

    Raises:
        InputError: another process has it.
    """
    # A file system may know no locks: then the user has to see to it.
    with suppress(OSError):
        if not lock_descriptor(descriptor, blocking=False):
            raise InputError("--output", problem, "wait for it, or name another --output")
