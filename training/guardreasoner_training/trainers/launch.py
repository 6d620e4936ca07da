"""A training on all devices of a machine, from one process: torchrun starts one process for each, as a user would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from guardreasoner_sdk.data.atomic import read_json, write_json
from guardreasoner_sdk.data.run_folder import FIGURES
from guardreasoner_sdk.errors import ConfigurationError, GuardError, InputError
from guardreasoner_training.recipe import Recipe

__all__ = ["idle_devices", "spread_over"]

STAGES: Final = {"rsft": "guardreasoner_training.rsft", "hsdpo": "guardreasoner_training.hsdpo"}
"""The stages that train, and the modules whose functions of that name they are: imported in the process that does one."""

_MARK = "\x1e"
"""Stands before what a process reports, among all else that libraries write to standard output."""


def idle_devices() -> int:
    """How many GPUs this process sees that nobody has spread a training over yet; 0 without one."""
    if "WORLD_SIZE" in os.environ:
        return 0
    import torch

    return int(torch.cuda.device_count())


def spread_over(
    count: int,
    stage: str,
    recipe: Recipe,
    *,
    restart: bool,
    output: Path,
    report: Callable[[str], None] = print,
    **inputs: Path | str,
) -> dict[str, Any]:
    """Run a stage in several processes, and return its figures.

    Args:
        stage: ``rsft`` or ``hsdpo``.
        report: is told what the first process reports. What libraries print there goes to standard error: a command's standard
            output holds its result and nothing else.
        inputs: the stage's other arguments, by name.

    Raises:
        GuardError: as the stage raised it.
        ConfigurationError: a process ended without saying why.
        KeyboardInterrupt: Ctrl-C.
    """
    with tempfile.TemporaryDirectory() as name:
        job = Path(name) / "job.json"
        arguments = {key: str(value) for key, value in {**inputs, "output": output}.items()}
        write_json(job, {"stage": stage, "arguments": arguments, "restart": restart, "recipe": recipe.model_dump(mode="json")})
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
        # The modules are found where this process found them, however it was started.
        paths = os.pathsep.join(path for path in sys.path if path)
        with subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [*command, "-m", "guardreasoner_training.trainers.launch", str(job)],
            env={**os.environ, "PYTHONPATH": paths, "PYTHONIOENCODING": "utf-8:backslashreplace"},
            stdout=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
        ) as process:
            try:
                code = _followed(process, report)
            except KeyboardInterrupt:
                _followed(process, report)  # Ctrl-C reached them all; they end by themselves
                raise
            except BaseException:
                process.terminate()  # nobody hears of them any more
                raise
        if code:
            raise _error(job.parent, f"{stage}: the {count} processes ended with code {code}; see what they wrote above")
        return read_json(output / FIGURES)


def _followed(process: subprocess.Popen[str], report: Callable[[str], None]) -> int:
    """Hand on what the processes write until they have ended; their exit code."""
    for line in process.stdout or ():
        if line.startswith(_MARK):
            report(line.removeprefix(_MARK).rstrip("\n"))
        else:
            sys.stderr.write(line)
    return process.wait()


def _error(folder: Path, otherwise: str) -> GuardError:
    """What a process said to be wrong; of several, the first one, whom the others may have followed."""
    found = min(folder.glob("error-*.json"), default=None)
    if found is None:
        return ConfigurationError(otherwise)
    told = json.loads(found.read_bytes())
    return InputError(*told["input"]) if told["input"] else ConfigurationError(told["text"])


def _work(job: Path) -> int:
    """What each process does."""
    told: Mapping[str, Any] = json.loads(job.read_bytes())
    arguments: dict[str, Any] = {name: value if name == "base" else Path(value) for name, value in told["arguments"].items()}
    recipe = Recipe.model_validate(told["recipe"])
    rank = int(os.environ.get("RANK", "0"))

    def report(message: str) -> None:
        if not rank:
            for line in message.splitlines():
                print(f"{_MARK}{line}", flush=True)  # noqa: T201 - it is how the process that started this one hears of it

    try:
        getattr(import_module(STAGES[told["stage"]]), told["stage"])(
            **arguments, recipe=recipe, restart=told["restart"], report=report
        )
    except GuardError as error:
        parts = [error.field, error.problem, error.fix] if isinstance(error, InputError) else None
        # A file for each: they may all fail at the same moment.
        write_json(job.with_name(f"error-{rank:05}.json"), {"text": str(error), "input": parts})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_work(Path(sys.argv[1])))
