"""Checkpoints: which of them are complete, and which can go."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from guardreasoner_sdk.data.atomic import write_json

__all__ = ["Setup", "discard_incomplete", "keep_newest", "mark_complete", "newest_complete", "setup_of"]

MARK: Final = "complete.json"
"""Written into a checkpoint last, with the size of every file: without it, or with other sizes, it is not complete."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What wrote a checkpoint, as far as another one may not be able to go on from it.

    Args:
        processes: that trained together.
        deepspeed: whether the state of the optimiser is spread over them.
    """

    processes: int
    deepspeed: bool

    def reads(self, written: Setup) -> bool:
        """Whether such a training can go on from what another one wrote.

        DeepSpeed keeps a part of the optimiser's state for each process, and no one else reads it: the trainer would take the
        weights alone, and restart the optimiser and the learning rate without a word.
        """
        return self == written or not (self.deepspeed or written.deepspeed)

    def __str__(self) -> str:
        """It in words."""
        count = "1 process" if self.processes == 1 else f"{self.processes} processes"
        return f"{count} {'with' if self.deepspeed else 'without'} DeepSpeed"


def newest_complete(folder: Path) -> Path | None:
    """The checkpoint to go on from; None where there is none."""
    return next((path for path in reversed(_checkpoints(folder)) if _complete(path)), None)


def mark_complete(checkpoint: Path, setup: Setup) -> None:
    """Say that a checkpoint is complete, once all of it is written.

    Raises:
        InputError: the mark cannot be written.
    """
    write_json(checkpoint / MARK, {**asdict(setup), "files": _sizes(checkpoint)})


def setup_of(checkpoint: Path) -> Setup:
    """What wrote a complete checkpoint."""
    mark = json.loads((checkpoint / MARK).read_bytes())
    return Setup(mark["processes"], mark["deepspeed"])


def discard_incomplete(folder: Path) -> None:
    """Delete checkpoints that were cut off while they were written."""
    for path in _checkpoints(folder):
        if not _complete(path):
            shutil.rmtree(path)


def keep_newest(folder: Path, count: int) -> None:
    """Delete all complete checkpoints but the newest."""
    complete = [path for path in _checkpoints(folder) if _complete(path)]
    for path in complete[: max(0, len(complete) - count)]:
        (path / MARK).unlink()  # first, so that one that is half deleted is not taken for a complete one
        shutil.rmtree(path)


def _checkpoints(folder: Path) -> list[Path]:
    """In the order of their steps."""
    found = [path for path in folder.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdecimal()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("checkpoint-")))


def _complete(checkpoint: Path) -> bool:
    try:
        mark = json.loads((checkpoint / MARK).read_bytes())
        return {"processes", "deepspeed"} <= mark.keys() and bool(mark["files"] == _sizes(checkpoint))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return False


def _sizes(checkpoint: Path) -> dict[str, int]:
    files = (path for path in checkpoint.rglob("*") if path.is_file())
    return {
        path.relative_to(checkpoint).as_posix(): path.stat().st_size
        for path in sorted(files)
        if path.name not in (MARK, f"{MARK}.new")
    }
