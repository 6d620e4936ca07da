"""Where a training stands, on disk: what was cut off goes on, and ends with the weights it would have had."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import torch

from guardreasoner_training.embedded.config import TrainConfig
from guardreasoner_training.embedded.data import DataError
from guardreasoner_training.embedded.examples import Example

__all__ = ["STATE_NAME", "WEIGHTS_NAME", "Progress", "Stateful", "fingerprint", "read_weights", "write_weights"]

STATE_NAME: Final = "state.pt"
"""Name of the file, beside the log; gone when the training has ended."""

WEIGHTS_NAME: Final = "checkpoint.pt"
"""Name of the file with the trained weights."""

# Settings that change nothing of the weights, but the last bits of their sums.
_FREE: Final = ("checkpoint_steps", "threads")


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
            path: the file.
            identity: of the training.
            parts: network, optimiser and the like, by name.
        """
        counts = {"step": self.step, "rows": self.rows, "seconds": self.seconds}
        states = {name: part.state_dict() for name, part in parts.items()}
        _save({"identity": identity, "random": torch.get_rng_state(), **counts, "parts": states}, path)

    @classmethod
    def read(cls, path: Path, identity: str, parts: dict[str, Stateful]) -> Progress:
        """Go on from where a training stopped; from the start where there is nothing, or the rest of another training.

        Args:
            path: the file.
            identity: of the training.
            parts: what gets back its state.
        """
        if not path.is_file():
            return cls()
        kept = torch.load(path, weights_only=True)
        if kept["identity"] != identity:
            return cls()
        for name, part in parts.items():
            part.load_state_dict(kept["parts"][name])
        torch.set_rng_state(kept["random"])
        return cls(kept["step"], kept["rows"], kept["seconds"])


def fingerprint(examples: Sequence[Example], config: TrainConfig) -> str:
    """What makes a training this one and no other.

    Args:
        examples: what is learnt.
        config: the settings.
    """
    settings = {name: value for name, value in config.to_json().items() if name not in _FREE}
    found = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for example in examples:
        found.update(repr(example).encode("utf-8", "replace"))
    return found.hexdigest()


def write_weights(net: Stateful, folder: Path) -> None:
    """Keep what a training ended with.

    Args:
        net: the network.
        folder: gets `checkpoint.pt`.
    """
    # A further stage draws on where this one left off; with the random state it gives the same weights in a run of its own.
    _save({"net": net.state_dict(), "random": torch.get_rng_state()}, folder / WEIGHTS_NAME)


def read_weights(net: Stateful, path: Path) -> None:
    """Go on from what a training ended with: its weights and its random state.

    Args:
        net: gets the weights.
        path: its `checkpoint.pt`.

    Raises:
        DataError: the file is absent, is none of a training, or is one of another network.
    """
    try:
        kept = torch.load(path, weights_only=True)
        net.load_state_dict(kept["net"])
        torch.set_rng_state(kept["random"])
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, RuntimeError) as error:
        message = f"{path}: is no {WEIGHTS_NAME} of this training; give the file that --work of an earlier run holds"
        raise DataError(message) from error


def _save(value: object, path: Path) -> None:
    """Write a file of torch, never leaving half of one behind."""
    unfinished = path.with_name(f"{path.name}.part")
    torch.save(value, unfinished)
    unfinished.replace(path)
