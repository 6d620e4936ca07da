"""JSON lines that grow as work is done: what was written before a kill, at any moment, is there afterwards."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from guardreasoner_sdk._text import json_text
from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.files.journal import writing

__all__ = ["Lines", "each_line", "read_lines"]


class Lines:
    """A file of JSON objects, one on each line, that is appended to. One process at a time writes it: the stage sees to that.

    Args:
        path: the file; made where it is missing.
        durable: whether what is appended is to outlast a power failure too, and not only the process.

    Raises:
        InputError: it cannot be written.

    Attributes:
        path: the file.
    """

    def __init__(self, path: Path, *, durable: bool = False) -> None:
        self.path = path
        self._durable = durable
        with writing(path):
            self._descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        try:
            self._drop_torn_line()
        except BaseException:
            os.close(self._descriptor)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        os.close(self._descriptor)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return read_lines(self.path)

    def append(self, values: Iterable[Mapping[str, Any]]) -> None:
        """Write objects behind the others. They are there when this returns.

        Raises:
            InputError: they cannot be written, for instance because the disk is full.
        """
        rest = memoryview("".join(f"{json_text(dict(value))}\n" for value in values).encode())
        with writing(self.path):
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            if self._durable:
                os.fsync(self._descriptor)

    def keep(self, count: int) -> None:
        """Drop all lines but the first ones.

        Args:
            count: how many stay.
        """
        with writing(self.path):
            with self.path.open("rb") as file:
                length = sum(len(line) for _, line in zip(range(count), file, strict=False))
            os.ftruncate(self._descriptor, length)

    def _drop_torn_line(self) -> None:
        """A kill, or a full disk, can leave the last line half written."""
        whole = 0
        with writing(self.path), self.path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                whole += len(line)
            os.ftruncate(self._descriptor, whole)


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file of JSON lines.

    Args:
        path: the file.

    Raises:
        InputError: a line is damaged.
    """
    for number, value in enumerate(each_line(path), 1):
        if value is None:
            raise InputError(f"{path}:{number}", "is damaged", "say --restart to start anew")
        yield value


def each_line(path: Path) -> Iterator[dict[str, Any] | None]:
    """What each line of a file of JSON lines holds: its object, or None where it is damaged.

    Args:
        path: the file.
    """
    with path.open("rb") as file:
        for line in file:
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                value = None
            yield value if isinstance(value, dict) else None
