"""Verdicts as JSON lines that a kill at any moment leaves readable: whole lines are appended, a torn last one is dropped."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, Self

from pydantic import ValidationError

from guardreasoner_sdk._text import json_text, parse_json
from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.verdict import Verdict

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["TEXT", "Entry", "Journal", "writing"]


TEXT = ("prompt", "response", "history")
"""What is judged, in an output that is to hold it."""


class Entry(NamedTuple):
    """A row of the output.

    Args:
        row: the input's row, from 1.
        identity: its ``id``, or None.
        verdict: what came of it.
        text: what was judged, by field, where the output is to hold it.
    """

    row: int
    identity: str | int | float | bool | None
    verdict: Verdict
    text: Mapping[str, Any] | None = None

    def line(self) -> bytes:
        """The row as a line of JSON."""
        value: dict[str, Any] = {"row": self.row}
        if self.identity is not None:
            value["id"] = self.identity
        value |= self.text or {}
        value["verdict"] = self.verdict.model_dump(mode="json")
        return f"{json_text(value)}\n".encode()

    @classmethod
    def read(cls, line: bytes) -> Entry:
        """The row that a line holds.

        Raises:
            ValueError: none.
        """
        try:
            value = parse_json(line)
            text = {name: value[name] for name in TEXT if name in value}
            return cls(int(value["row"]), value.get("id"), Verdict.model_validate(value["verdict"]), text or None)
        except (LookupError, TypeError, AttributeError, OverflowError, RecursionError, ValidationError) as error:
            raise ValueError(f"no row of verdicts ({type(error).__name__})") from None


class Journal:
    """The rows written so far, locked against a second process.

    Args:
        path: the file; made if it is not there.
        blank: numbers that may be missing between those of the rows: those of blank lines.

    Attributes:
        path: the file.
        copy: where rows are written, too, once they are in the file; None: nowhere.

    Raises:
        InputError: it cannot be written, or another process writes it.
    """

    def __init__(self, path: Path, *, blank: Collection[int] = frozenset()) -> None:
        self.path = path
        self.copy: IO[bytes] | None = None
        self._blank = blank
        self._descriptor = _open_locked(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        os.close(self._descriptor)

    @property
    def empty(self) -> bool:
        """Whether nothing was written yet."""
        return os.fstat(self._descriptor).st_size == 0

    def clear(self) -> None:
        """Drop all rows."""
        with writing(self.path):
            os.ftruncate(self._descriptor, 0)

    def entries(self) -> Iterator[Entry]:
        """The rows, in order. A torn last line is cut off.

        Raises:
            InputError: a line before the last one is no row, or not the next one.
        """
        whole = last = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    entry = Entry.read(line)
                    if not self._follows(entry.row, last) or not line.endswith(b"\n"):
                        raise ValueError("another row was due")
                except ValueError:
                    if file.read(1):
                        due = next(row for row in itertools.count(last + 1) if row not in self._blank)
                        raise InputError(
                            "--output",
                            f"line {number} of {self.path} is not the verdict of row {due}",
                            "say --overwrite to start anew, or name another --output",
                        ) from None
                    break
                yield entry
                last = entry.row
                whole += len(line)
        with writing(self.path):
            os.ftruncate(self._descriptor, whole)

    def _follows(self, row: int, last: int) -> bool:
        return row > last and all(number in self._blank for number in range(last + 1, row))

    def append(self, entries: Sequence[Entry]) -> None:
        """Write rows behind the others.

        Raises:
            InputError: they cannot be written, for instance because the disk is full.
        """
        lines = b"".join(entry.line() for entry in entries)
        rest = memoryview(lines)
        with writing(self.path):
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        if self.copy is not None:
            self.copy.write(lines)
            self.copy.flush()

    def remove(self) -> None:
        """Delete the file; the lock lasts until the journal is closed."""
        with suppress(OSError):  # a system that deletes no open file: what is left is found finished and ignored
            self.path.unlink()


def _open_locked(path: Path) -> int:
    while True:
        with writing(path):
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        try:
            _lock(descriptor, path)
            with writing(path):
                # The process that had the lock may have removed the file just now: then this is one that nobody sees.
                if path.exists() and os.path.samestat(path.stat(), os.fstat(descriptor)):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError("--output", f"another process writes {path}", "wait for it, or name another --output") from None
    except OSError:
        return  # a file system without locks: the user has to see to it


_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say of a failure to write which file it was, and what to do.

    Raises:
        InputError: for every ``OSError``.
    """
    try:
        yield
    except OSError as error:
        fix = "check the folder and its permissions"
        if error.errno in _FULL:
            fix = "free some space and run the same command again (without --overwrite): it goes on where it stopped"
        raise InputError("--output", f"{path} cannot be written ({error.strerror or error})", fix) from None
