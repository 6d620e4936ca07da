"""What to do about a training that ran out of memory or disk."""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

from guardreasoner_sdk.errors import ConfigurationError, InputError
from guardreasoner_training.recipe import HSDPOSettings, TrainerSettings

__all__ = ["REDO", "disk_full", "errors_while_saving", "is_out_of_memory", "memory_advice"]

_NO_MEMORY = re.compile(
    r"out of memory|can't allocate memory|cannot allocate memory|ALLOC_FAILED|not enough memory", re.IGNORECASE
)
# What Python, safetensors and torch say of a disk that takes no more; torch's writer names no cause at all.
_NO_SPACE = re.compile(
    r"No space left|File too large|quota exceeded|os error (?:28|27|122)\b|PytorchStreamWriter failed|unexpected pos",
    re.IGNORECASE,
)
_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


REDO: Final = "--restart, or another --output; with pipeline and finetune, --restart STAGE"
"""How a stage is redone, in the words of the command line."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the memory of the device or of the machine is used up."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and bool(_NO_MEMORY.search(str(error))))


def memory_advice(
    stage: str, settings: TrainerSettings, *, max_tokens: int, processes: int, where: str, checkpoint: Path | None
) -> ConfigurationError:
    """The error to raise: what was tried, and what needs less memory, the mildest first.

    Args:
        stage: ``rsft`` or ``hsdpo``, as settings are named.
        checkpoint: the newest complete one.
    """
    same = [f"--set {stage}.gradient_checkpointing=true"] if not settings.gradient_checkpointing else []
    if (factor := _smallest_factor(settings.batch)) is not None:
        smaller = f"--set {stage}.batch={settings.batch // factor} --set {stage}.accumulation={settings.accumulation * factor}"
        same.insert(0, f"{smaller} (the same {settings.effective_batch} rows to a step)")
    other = []
    if isinstance(settings, HSDPOSettings) and settings.tuning == "full" and not settings.precompute_reference:
        other.append(f"--set {stage}.precompute_reference=true (one model in memory instead of two)")
    if processes > 1 and settings.deepspeed is None and settings.tuning != "qlora":
        other.append(f"--set {stage}.deepspeed=zero3 (weights and optimiser spread over the {processes} devices)")
    if settings.tuning == "full":
        other.append(f"--set {stage}.tuning=lora")
    elif settings.tuning == "lora" and where != "cpu":
        other.append(f"--set {stage}.tuning=qlora (with bitsandbytes)")
    other.append(f"--set max_tokens={max_tokens // 2} (rows that are longer are left out)")
    lines = [
        f"{stage}: out of memory on {where} with batches of {settings.batch} rows of up to {max_tokens:,} tokens. Use less:",
        *(f"  {line}" for line in same),
        f"{'or, ' if same else ''}redone ({REDO}):",
        *(f"  {line}" for line in other),
    ]
    if checkpoint is not None and same:
        lines.append(f"With the first kind, the same command goes on from {checkpoint}.")
    return ConfigurationError("\n".join(lines))


def disk_full(error: BaseException) -> bool:
    """Whether an error says that a disk takes no more."""
    return (isinstance(error, OSError) and error.errno in _FULL) or bool(_NO_SPACE.search(str(error)))


@contextmanager
def errors_while_saving(
    fresh: Path, earlier: Path | None, what: Literal["checkpoint", "model"] = "checkpoint"
) -> Iterator[None]:
    """Say of a folder that cannot be written why, and which checkpoint is still there.

    Args:
        fresh: the folder; of a checkpoint, what was written is deleted.
        earlier: the newest complete checkpoint.

    Raises:
        InputError: it cannot be written.
    """
    try:
        yield
    except Exception as error:
        if not (isinstance(error, OSError) or disk_full(error)):
            raise
        free = shutil.disk_usage(fresh.parent).free / 2**30
        if what == "checkpoint":
            shutil.rmtree(fresh, ignore_errors=True)
        kept = "there is none before it" if earlier is None else f"{earlier} is untouched"
        problem = f"the disk is full ({free:.1f} GiB were free)" if disk_full(error) else f"it cannot be written ({error})"
        raise InputError(
            "--output",
            f"{what} {fresh}: {problem}; {kept}",
            "free some space (or keep fewer checkpoints) and run the same command again: it goes on from there",
        ) from error


def _smallest_factor(number: int) -> int | None:
    return next((factor for factor in range(2, number + 1) if number % factor == 0), None)
