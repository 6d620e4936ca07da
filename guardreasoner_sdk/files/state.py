"""Which run an output belongs to: a small file beside it, so that no run goes on in another one's rows."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guardreasoner_sdk._text import json_text
from guardreasoner_sdk.errors import InputError

__all__ = ["RunState", "fingerprint"]

_END = 1 << 20


def fingerprint(path: Path) -> str:
    """Size and hash of both ends of a file: enough to tell files apart, and quick for one of any size.

    Args:
        path: the file.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        digest = hashlib.sha256(file.read(_END))
        file.seek(max(_END, size - _END))
        digest.update(file.read(_END))
    return f"{size}:{digest.hexdigest()}"


@dataclass(slots=True)
class RunState:
    """What is known of a run.

    Args:
        identity: input and settings, by name; another value in any of them is another run.
        finished: fingerprint of the output and counts, once a CSV or Parquet output is whole; else None.
    """

    identity: dict[str, Any]
    finished: dict[str, Any] | None = None

    @classmethod
    def load(cls, path: Path) -> RunState | None:
        """Read it; None where there is none.

        Args:
            path: the file.

        Raises:
            InputError: it is damaged.
        """
        try:
            value = json.loads(path.read_bytes())
            return cls(dict(value["identity"]), None if value["finished"] is None else dict(value["finished"]))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, LookupError):
            raise InputError("--output", f"{path} is damaged", "say --overwrite to start anew") from None

    def save(self, path: Path) -> None:
        """Write it, whole or not at all.

        Args:
            path: the file.

        Raises:
            OSError: it cannot be written.
        """
        fresh = path.with_name(f"{path.name}.new")
        try:
            fresh.write_text(json_text({"identity": self.identity, "finished": self.finished}, indent=2) + "\n", "utf-8")
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)

    def difference(self, identity: dict[str, Any]) -> str | None:
        """What tells another run from this one, in words; None if it is the same.

        Args:
            identity: the other run's.
        """
        names = [name for name in {**self.identity, **identity} if self.identity.get(name) != identity.get(name)]
        if not names:
            return None
        if "input" in names:
            return "the input is another, or has changed"
        return ", ".join(f"{name} was {self.identity.get(name)!r}, is {identity.get(name)!r}" for name in names)
