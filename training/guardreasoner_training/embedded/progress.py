"""Where a training stands, on disk: what was cut off goes on, and ends with the weights it would have had."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import torch

from guardreasoner_training.embedded.config import TrainConfig
from guardreasoner_training.embedded.examples import Example

__all__ = ["STATE_NAME", "Progress", "Stateful", "fingerprint", "save"]

STATE_NAME: Final = "state.pt"
"""Name of the file, beside the log; gone when the training has ended."""

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
        save({"identity": identity, "random": torch.get_rng_state(), **counts, "parts": states}, path)

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


def save(value: object, path: Path) -> None:
    """Write a file of torch, never leaving half of one behind.

    Args:
        value: its content.
        path: the file.
    """
    unfinished = path.with_name(f"{path.name}.part")
    torch.save(value, unfinished)
    unfinished.replace(path)
