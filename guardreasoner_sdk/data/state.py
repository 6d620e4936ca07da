"""Which run an output belongs to: a small file beside it, so that no run goes on in another one's rows."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from guardreasoner_sdk._text import JsonError, json_text, parse_json
from guardreasoner_sdk.errors import InputError

__all__ = ["Fingerprint", "RunState", "fingerprint", "without_secrets"]

_BLOCK = 1 << 20


class Fingerprint(str):
    """What tells a file from every other: its size and a hash of all of its bytes.

    Attributes:
        ends: what states written before whole files were hashed hold for this file: its size and a hash of its first and
            last MiB, which are all of it up to 2 MiB.
    """

    __slots__ = ("ends",)

    ends: str

    def matches(self, kept: object) -> bool:
        """Whether a state that holds ``kept`` is provably of this very file.

        Args:
            kept: the fingerprint that the state holds.
        """
        size = int(self.partition(":")[0])
        return kept == str(self) or (kept == self.ends and size <= 2 * _BLOCK)

    def may_match(self, kept: object) -> bool:
        """Whether ``kept`` is of both ends of a longer file, and these are the same: its middle is not known.

        Args:
            kept: the fingerprint that a state holds.
        """
        return kept == self.ends and not self.matches(kept)


def fingerprint(path: Path) -> Fingerprint:
    """Read a file once, from its first byte to its last. BLAKE2b: more than 1 GB a second on any processor of today.

    Args:
        path: the file.

    Raises:
        OSError: it cannot be read.
    """
    whole, ends = hashlib.blake2b(digest_size=32), hashlib.sha256()
    with path.open("rb") as file:
        first = file.read(_BLOCK)
        whole.update(first)
        size, before, last = len(first), b"", b""
        while block := file.read(_BLOCK):
            whole.update(block)
            size += len(block)
            before, last = last, block
    ends.update(first)
    ends.update((before + last)[-_BLOCK:])
    found = Fingerprint(f"{size}:blake2b:{whole.hexdigest()}")
    found.ends = f"{size}:{ends.hexdigest()}"
    return found


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
            value = parse_json(path.read_bytes())
            finished = value["finished"]
            if finished is not None:
                finished = {"output": str(finished["output"]), "counts": dict(finished["counts"])}
            return cls(dict(value["identity"]), finished)
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, LookupError) as error:
            why = f" ({error})" if isinstance(error, JsonError) else ""
            raise InputError("--output", f"{path} is damaged{why}", "say --overwrite to start anew") from None

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
        names = [name for name in {**self.identity, **identity} if not _same(self.identity.get(name), identity.get(name))]
        names = [name for name in names if name in self.identity or name not in _LATER]
        if not names:
            return None
        for name in ("input", "calibration"):
            now = identity.get(name)
            if isinstance(now, Fingerprint) and now.may_match(self.identity.get(name)):
                return f"{_EARLIER}: whether the middle of its {name} has changed since cannot be known"
        if "input" in names:
            return "its input was different or has changed since"
        if "calibration" in names and None not in (self.identity.get("calibration"), identity.get("calibration")):
            names = [name for name in names if name != "calibration"]
            others = [f"{name} was {self.identity.get(name)!r}, is {identity.get(name)!r}" for name in names]
            return ", ".join(["its calibration was different or has changed since", *others])
        return ", ".join(f"{name} was {self.identity.get(name)!r}, is {identity.get(name)!r}" for name in names)


_LATER = frozenset({"dialect", "screen", "base_url", "config.json"})
"""What earlier versions did not write down. Where a state lacks it, the run goes on, as it always did."""

_EARLIER = "it was begun by an earlier version, which looked at both ends of a file only"


def _same(kept: object, now: object) -> bool:
    return now.matches(kept) if isinstance(now, Fingerprint) else kept == now


def without_secrets(base_url: str) -> str:
    """An address without the user name and the password in it, which are in no file.

    Args:
        base_url: of a server.
    """
    parts = urlsplit(base_url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
