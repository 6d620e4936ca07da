"""Where a training stands, on disk: what was cut off goes on, and ends with the weights it would have had."""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import torch

from guardreasoner_sdk.data.atomic import replacing
from guardreasoner_sdk.data.journal import each_line
from guardreasoner_training.embedded.config import TrainConfig
from guardreasoner_training.embedded.data import DataError
from guardreasoner_training.embedded.examples import Example

__all__ = [
    "STATE_NAME",
    "WEIGHTS_NAME",
    "Progress",
    "Stateful",
    "digest",
    "fingerprint",
    "minutes",
    "read_finished",
    "read_log",
    "read_weights",
    "write_weights",
]

STATE_NAME: Final = "state.pt"
"""Name of the file, beside the log; gone when the training has ended."""

WEIGHTS_NAME: Final = "checkpoint.pt"
"""Name of the file with the trained weights."""

# Settings that change nothing of the weights but the last bits of their sums, or only what is measured of them.
_FREE: Final = (
    *("checkpoint_steps", "threads"),
    *("encodings", "limits", "dev_cap", "unseen_cap", "disguised_examples", "measured_pairs"),
)
# What torch and its unpickler raise for bytes that are none of theirs, or for the state of something else.
_UNREADABLE: Final = (
    pickle.UnpicklingError, struct.error, EOFError, OSError, LookupError, TypeError, ValueError, AttributeError, RuntimeError,
)  # fmt: skip


class Stateful(Protocol):
    """What torch saves: a network, an optimiser and the like."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any: ...


@dataclass(slots=True)
class Progress:
    """How far a training is.

    Attributes:
        step: steps done.
        rows: examples seen.
        seconds: time spent.
    """

    step: int = 0
    rows: int = 0
    seconds: float = 0.0

    def write(self, path: Path, identity: str, parts: dict[str, Stateful]) -> None:
        """Keep it, with the state of all parts.

        Args:
            parts: network, optimiser and the like, by name.
        """
        counts = {"step": self.step, "rows": self.rows, "seconds": self.seconds}
        states = {name: part.state_dict() for name, part in parts.items()}
        _save({"identity": identity, "random": torch.get_rng_state(), **counts, "parts": states}, path)

    @classmethod
    def read(cls, path: Path, identity: str, parts: dict[str, Stateful]) -> Progress:
        """Go on from where a training stopped; from the start where there is nothing, or the rest of another training.

        Raises:
            DataError: the file is damaged.
        """
        if not path.is_file():
            return cls()
        try:
            kept = torch.load(path, weights_only=True)
            if kept["identity"] != identity:
                return cls()
            for name, part in parts.items():
                part.load_state_dict(kept["parts"][name])
            torch.set_rng_state(kept["random"])
            return cls(kept["step"], kept["rows"], kept["seconds"])
        except _UNREADABLE as error:
            raise _damaged(path) from error


def digest(net: Stateful) -> str:
    """The SHA-256 of a network's weights."""
    found = hashlib.sha256()
    for name, value in net.state_dict().items():
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.detach().contiguous().numpy().tobytes())
    return found.hexdigest()


def fingerprint(examples: Sequence[Example], config: TrainConfig, origin: Sequence[str] = ()) -> str:
    """What makes a training this one and no other.

    Args:
        examples: what is learnt.
        config: the settings.
        origin: what it begins with and learns from, beside the examples: digests of a base model, of a teacher.
    """
    settings = {name: value for name, value in config.to_json().items() if name not in _FREE}
    found = hashlib.sha256(json.dumps([settings, *origin], sort_keys=True).encode())
    for example in examples:
        found.update(repr(example).encode("utf-8", "replace"))
    return found.hexdigest()


def write_weights(net: Stateful, folder: Path, identity: str, log: str) -> None:
    """Keep what a training ended with.

    Args:
        folder: gets `checkpoint.pt`.
        log: of the training, which another one in the same folder writes over.
    """
    _save({"net": net.state_dict(), "identity": identity, "log": log, "random": torch.get_rng_state()}, folder / WEIGHTS_NAME)


def read_finished(net: Stateful, folder: Path, identity: str) -> str | None:
    """Take over what a training ended with, where it is this one: it is not done again.

    Args:
        net: gets the weights; what is drawn after them is what would have been drawn then.

    Returns:
        The training's log; None, and nothing is changed, where it has not ended, or another one has.

    Raises:
        DataError: the file is damaged.
    """
    path = folder / WEIGHTS_NAME
    if not path.is_file():
        return None
    try:
        kept = torch.load(path, weights_only=True)
        if kept.get("identity") != identity:
            return None
        net.load_state_dict(kept["net"])
        torch.set_rng_state(kept["random"])
        return str(kept["log"])
    except _UNREADABLE as error:
        raise _damaged(path) from error


def read_weights(net: Stateful, path: Path) -> None:
    """Take over what a training ended with.

    Args:
        path: its `checkpoint.pt`.

    Raises:
        DataError: the file is absent, is none of a training, or is one of another network.
    """
    try:
        net.load_state_dict(torch.load(path, weights_only=True)["net"])
    except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError) as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except _UNREADABLE as error:
        message = f"{path}: is no {WEIGHTS_NAME} of this training; give the file that --work of an earlier run holds"
        raise DataError(message) from error


def read_log(path: Path) -> list[dict[str, Any]]:
    """What a training's log holds; a line that the end of a process left unfinished is none."""
    if not path.is_file():
        return []
    # A line without its end is one that is being written, or never will be: a kill left it.
    return [line for line in each_line(path) if line is not None]


def minutes(logs: Sequence[Path]) -> float | None:
    """How long training took, from its logs; None without one."""
    ends = [lines[-1] for log in logs if (lines := read_log(log))]
    return round(sum(end["seconds"] for end in ends) / 60, 1) if ends else None


def _damaged(path: Path) -> DataError:
    return DataError(f"{path}: is damaged, or was not written by this training; delete it to start over")


def _save(value: object, path: Path) -> None:
    """Write a file of torch, never leaving half of one behind."""
    with replacing(path) as fresh:
        torch.save(value, fresh)
