"""How a trainer trains: gone on with after an interruption, ended with a guard and its figures."""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from guardreasoner_sdk.data.identity import content_hash
from guardreasoner_sdk.errors import ConfigurationError
from guardreasoner_training.recipe import Recipe, TrainerSettings
from guardreasoner_training.trainers.advice import REDO, is_out_of_memory, memory_advice
from guardreasoner_training.trainers.arguments import Layout
from guardreasoner_training.trainers.checkpoints import Setup, discard_incomplete, newest_complete, setup_of
from guardreasoner_training.trainers.curves import loss_curve
from guardreasoner_training.trainers.threads import cpu_threads

Settings = TypeVar("Settings", bound=TrainerSettings)

__all__ = ["figures_of", "from_main", "on_this_machine", "processes", "quiet", "run_training", "spread_note"]


def processes() -> int:
    """How many processes train together: ``accelerate launch`` and ``torchrun`` say it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def from_main(state: Any, value: Any) -> Any:
    """The first process's value, in every process.

    Args:
        value: counts in the first one only.
    """
    from accelerate.utils import broadcast_object_list

    return broadcast_object_list([value], from_process=0)[0] if state.num_processes > 1 else value


def on_this_machine(settings: Settings) -> Settings:
    """The settings for the processes that are there: DeepSpeed only where it can be.

    One process alone has nobody to spread its weights over, and weights of 4 bits cannot be spread: with them, every process
    has all of the base.
    """
    spread = processes() > 1 and settings.tuning != "qlora"
    return settings if spread else settings.model_copy(update={"deepspeed": None})


def spread_note(settings: TrainerSettings, spread: Layout) -> str | None:
    """What to say where the recipe is made for other devices than are there."""
    if spread == Layout(settings.devices, settings.batch, settings.accumulation):
        return None
    return (
        f"the recipe is made for {settings.devices} devices, here are {spread.processes}: batches of {spread.batch}, "
        f"{spread.accumulation} of them to a step, so that a step still has {spread.effective_batch} rows"
    )


def run_training(
    make: Callable[[], Any],
    save: Callable[[Any], None],
    args: Any,
    name: str,
    recipe: Recipe,
    settings: TrainerSettings,
    report: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Train, from the newest complete checkpoint on where there is one, and save the model.

    Nothing of the trainer is left in memory then: what comes next, perhaps an engine in a process of its own, has the device
    to itself.

    Args:
        report: is told where it goes on, where it was interrupted, and what is done otherwise than the recipe says.

    Returns:
        the log's entries of all steps, those before an interruption among them.

    Raises:
        ConfigurationError: out of memory; with what needs less. Or the checkpoint is one that only other processes can read.
        InputError: the disk is full.
    """
    import torch

    cuda: Any = torch.cuda
    folder = Path(args.output_dir)
    state = args.distributed_state
    report = report if state.is_main_process else lambda _: None
    if cuda.is_initialized():
        cuda.reset_peak_memory_stats()  # the peak is to be this training's, and not that of what came before
    asked: TrainerSettings = getattr(recipe, name)
    if state.num_processes > 1 and asked.deepspeed != settings.deepspeed:
        report(f"{name}.deepspeed is not used: weights of 4 bits cannot be spread, and each device has all of them")
    checkpoint, written = from_main(state, _checkpoint(folder) if state.is_main_process else None)
    if checkpoint is not None:
        here = Setup(state.num_processes, args.deepspeed_plugin is not None)
        if not here.reads(written):
            raise ConfigurationError(
                f"{name}: {checkpoint} was written by {written}, and {here} cannot go on from it; let as many devices go on "
                f"as then (CUDA_VISIBLE_DEVICES shows a process some of them), or redo it ({REDO})"
            )
        report(f"goes on from {checkpoint}")
    try:
        trainer = make()
        log = _train(trainer, folder, name, settings, report, checkpoint)
    except KeyboardInterrupt:
        last = newest_complete(folder)
        report(f"interrupted; the same command goes on from {'the beginning' if last is None else last}")
        raise
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise memory_advice(
            name,
            settings,
            max_tokens=recipe.max_tokens,
            processes=state.num_processes,
            where=str(args.device),
            checkpoint=newest_complete(folder),
        ) from error
    save(trainer)
    trainer.accelerator.free_memory()
    del trainer
    gc.collect()  # trainers and models refer to themselves
    if cuda.is_initialized():
        cuda.empty_cache()
    return log


def _checkpoint(folder: Path) -> tuple[Path | None, Setup | None]:
    """The one to go on from, and what wrote it."""
    discard_incomplete(folder)
    found = newest_complete(folder)
    return found, None if found is None else setup_of(found)


def _train(
    trainer: Any, folder: Path, name: str, settings: TrainerSettings, report: Callable[[str], None], found: Path | None
) -> list[dict[str, Any]]:
    from transformers import PrinterCallback

    from guardreasoner_training.trainers.trainer import LogCallback, ProgressCallback, losses_of

    shown = ProgressCallback(report, settings.logging_steps)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(LogCallback(folder.parent, name))
    trainer.add_callback(shown)
    try:
        trainer.train(resume_from_checkpoint=None if found is None else str(found))
    finally:
        shown.close()
    return losses_of(trainer.state)


def figures_of(log: list[dict[str, Any]], output: Path, title: str, names: tuple[str, ...] = ()) -> dict[str, Any]:
    """What every training reports, once its model is saved. The loss is drawn a last time.

    Args:
        names: of other values in the log; as of the loss, the mean of the last tenth of the steps is given.
    """
    import torch

    loss_curve(log, output / "loss.png", title)
    last = log[-max(1, len(log) // 10) :]
    weights = sorted(output.glob("*.safetensors"))
    figures: dict[str, Any] = {
        "steps": log[-1]["step"],
        "first_loss": log[0]["loss"],
        **{name: sum(entry[name] for entry in last) / len(last) for name in ("loss", *names)},
        "seconds": round(sum(entry.get("seconds", 0.0) for entry in log), 1),
        "weights": {file.name: content_hash("weights", file) for file in weights},
    }
    if torch.cuda.is_available():
        figures["peak_memory_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
    return figures


@contextmanager
def quiet(threads: int | None) -> Iterator[None]:
    """A number of threads, and no progress bar for each file that is read or written; both are restored at the end.

    Args:
        threads: processor threads; None: as they are.
    """
    from transformers.utils import logging

    bars: Any = logging
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        with cpu_threads(threads), warnings.catch_warnings():
            # DeepSpeed uses names that PyTorch has given new ones.
            warnings.filterwarnings("ignore", "`torch.distributed", FutureWarning)
            yield
    finally:
        if shown:
            bars.enable_progress_bar()
