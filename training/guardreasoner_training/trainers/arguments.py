"""A recipe's settings as the trainers' arguments, on the machine at hand."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from guardreasoner_sdk.errors import ConfigurationError, MissingExtraError
from guardreasoner_training.recipe import TrainerSettings

__all__ = [
    "CHECKPOINTS",
    "ZERO3",
    "Layout",
    "check_machine",
    "identity",
    "layout",
    "require_training",
    "trainer_arguments",
    "usable_devices",
]

CHECKPOINTS: Final = "checkpoints"
"""The folder, inside a stage's, with its checkpoints."""

ZERO3: Final = Path(__file__).parents[1] / "deepspeed" / "zero3.json"
"""DeepSpeed's configuration of ZeRO stage 3; what the recipe says is in it as ``auto``."""

_LIBRARIES: Final = ("accelerate", "datasets", "matplotlib", "peft", "torch", "transformers", "trl")

# What may change between two runs of one training, since the steps stay the same: how they are computed, saved and shown. The
# rows to a step stay, and their parts may change.
_FREE: Final = {
    *("batch", "accumulation", "devices"),
    *("gradient_checkpointing", "attention", "liger", "threads"),
    *("save_steps", "keep_checkpoints", "logging_steps", "report_to"),
}
_HOURS = 6


@dataclass(frozen=True, slots=True)
class Layout:
    """How a step's rows are spread.

    Args:
        processes: devices that train together.
        batch: rows of one device at a time.
        accumulation: such batches to a step.
    """

    processes: int
    batch: int
    accumulation: int

    @property
    def effective_batch(self) -> int:
        """Rows to a step, over all devices."""
        return self.processes * self.batch * self.accumulation


def require_training(purpose: str = "Trainings") -> None:
    """Say what to install where a library of the training is missing.

    Args:
        purpose: what needs them, as the start of the sentence.

    Raises:
        MissingExtraError: one is.
    """
    if any(importlib.util.find_spec(name) is None for name in _LIBRARIES):
        raise MissingExtraError("train", purpose)


def identity(settings: TrainerSettings) -> dict[str, Any]:
    """What of some settings makes a training this one and no other."""
    kept = {name: value for name, value in settings.model_dump(mode="json").items() if name not in _FREE}
    if settings.tuning == "full":
        del kept["lora"]
    return {**kept, "effective_batch": settings.effective_batch}


def layout(stage: str, settings: TrainerSettings, processes: int) -> Layout:
    """Spread the recipe's effective batch over the devices that are there.

    Raises:
        ConfigurationError: it cannot be spread evenly.
    """
    rows = settings.effective_batch
    for batch in range(settings.batch, 0, -1):
        if rows % (batch * processes) == 0:
            return Layout(processes, batch, rows // (batch * processes))
    raise ConfigurationError(
        f"{stage}: {rows} rows to a step cannot be spread evenly over {processes} devices; "
        f"use another number of devices, or set {stage}.accumulation and {stage}.devices={processes}"
    )


def usable_devices(settings: TrainerSettings, devices: int) -> int:
    """The most devices that a step's rows can be spread over evenly."""
    return next(count for count in range(devices, 0, -1) if settings.effective_batch % count == 0)


def check_machine(stage: str, settings: TrainerSettings) -> None:
    """Find out before any work what the machine cannot do.

    Raises:
        ConfigurationError: the precision does not work here, or a library that a setting asks for is missing.
    """
    import torch

    def missing(module: str) -> bool:
        return importlib.util.find_spec(module) is None

    cuda = torch.cuda.is_available()
    if settings.precision == "bf16" and cuda and not torch.cuda.is_bf16_supported():
        raise ConfigurationError(f"{stage}.precision: this GPU has no bf16; --set {stage}.precision=fp16, or fp32")
    if settings.precision == "fp16" and not cuda:
        raise ConfigurationError(f"{stage}.precision: fp16 needs a GPU; --set {stage}.precision=fp32")
    if settings.tuning == "qlora" and (missing("bitsandbytes") or not cuda):
        raise ConfigurationError(
            f"{stage}.tuning: qlora needs a GPU and bitsandbytes; pip install bitsandbytes, or --set {stage}.tuning=lora"
        )
    if settings.optimizer == "adamw_8bit" and missing("bitsandbytes"):
        raise ConfigurationError(
            f"{stage}.optimizer: adamw_8bit needs bitsandbytes; pip install bitsandbytes, or say adamw_torch"
        )
    if settings.liger and missing("liger_kernel"):
        raise ConfigurationError(
            f"{stage}.liger: liger-kernel is not installed; pip install liger-kernel, or --set {stage}.liger=false"
        )
    if settings.deepspeed and missing("deepspeed"):
        raise ConfigurationError(
            f"{stage}.deepspeed: DeepSpeed is not installed; pip install deepspeed (Linux), or leave the setting out"
        )
    for name in settings.report_to:
        if missing("tensorboard" if name == "tensorboard" else "wandb"):
            raise ConfigurationError(f"{stage}.report_to: {name} is not installed; pip install {name}, or leave it out")


def trainer_arguments(
    kind: Callable[..., Any], settings: TrainerSettings, *, output: Path, seed: int, spread: Layout, **more: Any
) -> Any:
    """Make a trainer's arguments. This starts the communication between processes."""
    import torch

    cuda = torch.cuda.is_available()
    optimizer = settings.optimizer
    if optimizer == "adamw_torch" and cuda and settings.deepspeed is None:
        optimizer = "adamw_torch_fused"  # the same steps, in one kernel
    made = kind(
        output_dir=str(output / CHECKPOINTS),
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.schedule,
        warmup_steps=_warm_up(settings.warmup_ratio),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=spread.batch,
        gradient_accumulation_steps=spread.accumulation,
        optim=optimizer,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.clip,
        bf16=settings.precision == "bf16",
        fp16=settings.precision == "fp16",
        gradient_checkpointing=settings.gradient_checkpointing,
        deepspeed=str(ZERO3) if settings.deepspeed else None,
        seed=seed,
        data_seed=seed,
        # Every step is logged, so that a run that was cut off between two entries has the same log as one that was not.
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=settings.save_steps if settings.save_steps < 1 else int(settings.save_steps),
        save_total_limit=None,
        report_to=list(settings.report_to) or "none",
        disable_tqdm=True,
        use_cpu=not cuda,
        dataloader_pin_memory=cuda,
        ddp_timeout=_HOURS * 3600,
        ddp_find_unused_parameters=False,
        **more,
    )
    if settings.deepspeed:
        from deepspeed import init_distributed

        init_distributed(auto_mpi_discovery=False)  # on CPUs, accelerate leaves it to later than the model is loaded
    return made


def _warm_up(ratio: float) -> float:
    """The share of steps, as the trainer takes it: from 1 on it would be a number of steps."""
    return min(ratio, 0.999999)
