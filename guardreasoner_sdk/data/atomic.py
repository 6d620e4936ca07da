"""Files that are written whole or not at all, and what is said where one cannot be written."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from guardreasoner_sdk._text import json_text, parse_json
from guardreasoner_sdk.errors import InputError

__all__ = ["errors_while_writing", "read_json", "replacing", "write_atomic", "write_json"]

_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


@contextmanager
def errors_while_writing(path: Path) -> Iterator[None]:
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


@contextmanager
def replacing(path: Path, *, ending: str = ".new") -> Iterator[Path]:
    """A file to write in place of another: that is replaced when the block ends, and stays as it is where it fails.

    Raises:
        OSError: it cannot be written.
    """
    fresh = path.with_name(f"{path.name}{ending}")
    try:
        yield fresh
        # Its bytes before its name: a power failure must not leave a file that is empty.
        with fresh.open("rb+") as file:
            os.fsync(file.fileno())
        fresh.replace(path)
    finally:
        with suppress(OSError):
            fresh.unlink()


def write_atomic(path: Path, content: bytes | str | Iterable[str]) -> None:
    """Write a file, whole or not at all.

    Args:
        path: the file; one that is there is replaced.
        content: all of it; text also in pieces.

    Raises:
        InputError: it cannot be written.
    """
    with errors_while_writing(path), replacing(path) as fresh, fresh.open("wb") as file:
        pieces = [content] if isinstance(content, bytes | str) else content
        file.writelines(piece if isinstance(piece, bytes) else piece.encode() for piece in pieces)


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, whole or not at all.

    Args:
        path: the file; one that is there is replaced.

    Raises:
        InputError: it cannot be written.
    """
    write_atomic(path, f"{json_text(value, indent=2)}\n".encode())


def read_json(path: Path) -> dict[str, Any]:
    """What a file written by :func:`write_json` holds.

    Raises:
        InputError: it is missing or damaged.
    """
    try:
        return dict(parse_json(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        raise InputError("--output", f"{path} is damaged", "pass --restart to start over") from None
