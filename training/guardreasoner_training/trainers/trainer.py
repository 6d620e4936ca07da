"""What both trainers do alike: checkpoints that are known to be complete, a log that is the same after an interruption."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.data import Sampler
from transformers import TrainerCallback

from guardreasoner_sdk._text import json_text
from guardreasoner_sdk.data.atomic import errors_while_writing, write_atomic
from guardreasoner_sdk.errors import ConfigurationError
from guardreasoner_training.trainers.advice import errors_while_saving
from guardreasoner_training.trainers.checkpoints import Setup, keep_newest, mark_complete, newest_complete
from guardreasoner_training.trainers.curves import loss_curve
from guardreasoner_training.trainers.head import MOST, scored_whole

__all__ = ["LengthGrouped", "LogCallback", "ProgressCallback", "Resumable", "losses_of"]


class Resumable:
    """A mixin for TRL's trainers: its checkpoints are marked once they are complete, older ones deleted then.

    Attributes:
        keep_checkpoints: how many complete ones stay.
        lengths: of the rows in tokens, where those of a step are to be about equally long; None: any.
        logits_at_once: the most that are held where the answers of a batch are scored as a whole.
    """

    keep_checkpoints: int = 2
    lengths: Sequence[int] | None = None
    logits_at_once: int = MOST
    args: Any
    state: Any
    accelerator: Any
    model: Any
    is_deepspeed_enabled: bool
    _last_step_at: float = 0.0

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train; see the trainer of transformers.

        What is trained is kept in 32 bits, where DeepSpeed does not keep a copy of its own. Of adapters on 4 bits TRL makes 16:
        fp16 fails with them at the first step, whose gradients are scaled, and small steps are lost in them.
        """
        if not self.is_deepspeed_enabled:
            for weights in self.model.parameters():
                if weights.requires_grad and weights.dtype in (torch.bfloat16, torch.float16):
                    weights.data = weights.data.float()
        self._last_step_at = time.perf_counter()
        return super().train(*args, **kwargs)  # type: ignore[misc]

    def scores_whole(self, labels: torch.Tensor) -> bool:
        """Whether the answers of a batch are scored as a whole, and not by the head of TRL."""
        return scored_whole(self.model, labels, processes=self.accelerator.num_processes, most=self.logits_at_once)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        if self.lengths is None:
            return super()._get_train_sampler(train_dataset)  # type: ignore[misc]
        args = self.args
        step = args.per_device_train_batch_size * args.gradient_accumulation_steps * self.accelerator.num_processes
        return LengthGrouped(self.lengths, step, seed=args.data_seed, epoch=lambda: int(self.state.epoch or 0))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = Path(self.args.output_dir)
        fresh = folder / f"checkpoint-{self.state.global_step}"
        main = self.state.is_world_process_zero
        if main:
            keep_newest(folder, max(1, self.keep_checkpoints - 1))  # room first; one always stays
        with errors_while_saving(fresh, newest_complete(folder)):
            super()._save_checkpoint(model, trial)  # type: ignore[misc]
            self.accelerator.wait_for_everyone()
            if main:
                mark_complete(fresh, Setup(self.accelerator.num_processes, self.is_deepspeed_enabled))
        if main:
            keep_newest(folder, self.keep_checkpoints)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """No card with each checkpoint: the export writes one, with the data and the figures."""

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add to the log of a step how many seconds it took.

        Raises:
            ConfigurationError: the loss is no number any more.
        """
        if "loss" in logs:
            if not math.isfinite(logs["loss"]):
                raise ConfigurationError(
                    f"the loss is {logs['loss']} at step {self.state.global_step}: lower the learning rate, or use bf16 or fp32"
                )
            now = time.perf_counter()
            logs["seconds"] = round(now - self._last_step_at, 4)
            self._last_step_at = now
        # Half precision skips steps whose gradient overflows; JSON has no infinity.
        super().log({name: value for name, value in logs.items() if math.isfinite(value)}, start_time)  # type: ignore[misc]


def losses_of(state: Any) -> list[dict[str, Any]]:
    """The log's entries of single steps."""
    return [entry for entry in state.log_history if "loss" in entry]


class LogCallback(TrainerCallback):
    """Keeps ``log.jsonl`` and ``loss.png`` up to date.

    Args:
        output: the stage's folder.
        title: of the picture.
    """

    def __init__(self, output: Path, title: str) -> None:
        self._log = output / "log.jsonl"
        self._picture = output / "loss.png"
        self._title = title

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Drop what was logged after the checkpoint that the training goes on from."""
        if state.is_world_process_zero:
            write_atomic(self._log, b"".join(_line(entry) for entry in losses_of(state)))

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Write the entry of a step."""
        if state.is_world_process_zero and logs and "loss" in logs:
            with errors_while_writing(self._log), self._log.open("ab") as file:
                file.write(_line(state.log_history[-1]))

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Draw the loss as far as it is known."""
        if state.is_world_process_zero and (log := losses_of(state)):
            loss_curve(log, self._picture, self._title)


class ProgressCallback(TrainerCallback):
    """Shows how far the training is: a bar on a terminal, else a line every few steps.

    Args:
        report: is told lines.
        every: steps between two lines.
    """

    def __init__(self, report: Callable[[str], None], every: int) -> None:
        self._report = report
        self._every = every
        self._bar: Progress | None = None
        self._begun = (0, 0.0)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begin where the training begins, or goes on."""
        self._begun = (state.global_step, time.monotonic())
        console = Console(stderr=True)
        if state.is_world_process_zero and console.is_terminal:
            columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
            self._bar = Progress(*columns, console=console)
            self._bar.start()
            self._bar.add_task("", total=state.max_steps, completed=state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Show a step."""
        if not state.is_world_process_zero or not logs or "loss" not in logs:
            return
        step, loss = state.global_step, f"loss {logs['loss']:.4f}"
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=step, description=loss)
        elif step % self._every == 0 or step == state.max_steps:
            first, since = self._begun
            left = (time.monotonic() - since) / max(1, step - first) * (state.max_steps - step)
            self._report(f"step {step:,} of {state.max_steps:,}: {loss}, {timedelta(seconds=round(left))} left")

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take the bar away."""
        self.close()

    def close(self) -> None:
        """Take the bar away, whatever happened."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _line(entry: dict[str, Any]) -> bytes:
    return f"{json_text(entry)}\n".encode()


_SORTED_STEPS = 50
"""Rows are sorted by length within stretches of so many steps: little padding, and still a mixed order."""


class LengthGrouped(Sampler[int]):
    """Every row once an epoch, in steps of like length and in random order.

    The order depends on the seed and the epoch alone, so that a resumed run skips exactly what was trained on.

    Args:
        lengths: of the rows, in tokens.
        step: rows to a step, over all devices.
        seed: of the order.
        epoch: tells which one begins, from 0.
    """

    def __init__(self, lengths: Sequence[int], step: int, *, seed: int, epoch: Callable[[], int]) -> None:
        self._lengths = lengths
        self._step = step
        self._seed = seed
        self._epoch = epoch

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        """Yield the numbers of the rows."""
        draw = random.Random(f"{self._seed} {self._epoch()}")  # noqa: S311 - no secret: the same seed must give the same order
        order = list(range(len(self._lengths)))
        draw.shuffle(order)
        stretch = self._step * _SORTED_STEPS
        parts = [
            sorted(order[start : start + stretch], key=self._lengths.__getitem__) for start in range(0, len(order), stretch)
        ]
        ordered = [row for part in parts for row in part]
        steps = [ordered[start : start + self._step] for start in range(0, len(ordered), self._step)]
        # A smaller step stays at the end: in the middle it would shift all that follow.
        rest = steps.pop() if len(ordered) % self._step else []
        draw.shuffle(steps)
        return iter([row for step in [*steps, rest] for row in step])
