"""What every stage of a training does alike: it goes on where it was cut off, and is not done twice.

A stage's folder holds ``stage.json``, written first: what it was made from. ``figures.json`` is written last: a folder that
has it is complete.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from guardreasoner_sdk._text import parse_json
from guardreasoner_sdk.data.atomic import errors_while_writing, read_json, write_json
from guardreasoner_sdk.data.identity import changes, content_hash
from guardreasoner_sdk.data.journal import lock, open_to_append
from guardreasoner_sdk.errors import InputError

__all__ = ["FIGURES", "RECORD", "Stage", "figures_of", "identity_of", "is_complete", "open_stage"]

RECORD: Final = "stage.json"
FIGURES: Final = "figures.json"
_LOCK: Final = ".lock"


class Stage:
    """A stage's folder while the stage runs.

    Args:
        output: the folder.
        figures: what an earlier run found, where it is complete; else None.

    Attributes:
        output: the folder.
        figures: what was found; None as long as the stage is not complete.
    """

    def __init__(self, output: Path, figures: dict[str, Any] | None) -> None:
        self.output = output
        self.figures = figures

    def finish(self, figures: Mapping[str, Any]) -> dict[str, Any]:
        """Write the figures, the last thing that a stage does.

        Returns:
            the figures, as a later run reads them.

        Raises:
            InputError: they cannot be written.
        """
        write_json(self.output / FIGURES, dict(figures))
        self.figures = read_json(self.output / FIGURES)
        return self.figures

    def undo(self) -> None:
        """Take the figures away: the folder is not complete until they are written again.

        Raises:
            InputError: they cannot be deleted.
        """
        with errors_while_writing(self.output):
            (self.output / FIGURES).unlink(missing_ok=True)
        self.figures = None


@contextmanager
def open_stage(
    name: str,
    output: Path,
    *,
    inputs: Mapping[str, Path | str | None],
    settings: Mapping[str, Any],
    restart: bool = False,
    keep: Collection[str] = (),
) -> Iterator[Stage]:
    """Open a stage's folder, locked against a second process. ``stage.figures`` is set where nothing is left to do.

    Args:
        name: of the stage: ``rsft``.
        output: its folder; made if it is not there.
        inputs: what it reads, by the name of the argument. Files and folders of models count by their contents (a folder by
            its weights, config and tokenizer), other texts (a model of the hub) as they are.
        settings: all that changes what comes out, as JSON knows it; settings may be nested.
        restart: throw away what an earlier run of a stage left here.
        keep: names of files that stay all the same: what was paid for.

    Raises:
        InputError: the folder holds something else, or the same with other inputs or settings; another process works in it;
            it cannot be written; an input is missing.
    """
    identity = {
        "stage": name,
        "inputs": {key: content_hash(key, value) for key, value in inputs.items()},
        "settings": json.loads(json.dumps(dict(settings))),
    }
    with errors_while_writing(output):
        output.mkdir(parents=True, exist_ok=True)
    with _locked(output):
        if restart and (output / RECORD).exists():
            _clear(output, keep)
            write_json(output / RECORD, identity)
        kept = identity_of(output)
        if kept is None:
            # A kill while the record was written leaves its beginning.
            if others := [path.name for path in output.iterdir() if path.name not in (_LOCK, f"{RECORD}.new")]:
                raise InputError(
                    "--output", f"{output} is not a folder of this stage: it holds {min(others)}", "name another --output"
                )
            write_json(output / RECORD, identity)
        elif differences := _differences(kept, identity):
            raise InputError(
                "--output",
                f"{output} was made with other settings: {'; '.join(differences)}",
                f"name another --output, or pass --restart to throw away what is there{_but(keep)}",
            )
        yield Stage(output, figures_of(output))


def is_complete(folder: Path) -> bool:
    """Whether a stage has done all that it does in a folder.

    Args:
        folder: the stage's; it need not be there.
    """
    return (folder / FIGURES).exists()


def figures_of(folder: Path) -> dict[str, Any] | None:
    """What a stage found, where it is complete; else None.

    Args:
        folder: the stage's; it need not be there.

    Raises:
        InputError: the record is damaged.
    """
    return read_json(folder / FIGURES) if is_complete(folder) else None


def identity_of(folder: Path) -> dict[str, Any] | None:
    """What a stage was made from: its name (``stage``), ``inputs`` and ``settings``; None where no stage was begun.

    Args:
        folder: the stage's; it need not be there.

    Raises:
        InputError: the record is damaged.
    """
    try:
        kept = parse_json((folder / RECORD).read_bytes())
        return {"stage": kept["stage"], "inputs": dict(kept["inputs"]), "settings": dict(kept["settings"])}
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, TypeError, LookupError):
        raise InputError("--output", f"{folder / RECORD} is damaged", "name another --output") from None


@contextmanager
def _locked(output: Path) -> Iterator[None]:
    descriptor = open_to_append(output / _LOCK)
    try:
        lock(descriptor, f"another process works in {output}")
        yield
    finally:
        os.close(descriptor)


def _clear(output: Path, keep: Collection[str]) -> None:
    """Delete an earlier run's files. The record stays until another one replaces it: a kill leaves the folder a stage's."""
    with errors_while_writing(output):
        # The figures first: a folder that has them is complete.
        for path in sorted(output.iterdir(), key=lambda path: path.name != FIGURES):
            if path.name in (_LOCK, RECORD, *keep):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def _but(keep: Collection[str]) -> str:
    return f" but for {', '.join(keep)}" if keep else ""


def _differences(kept: dict[str, Any], identity: dict[str, Any]) -> list[str]:
    if kept["stage"] != identity["stage"]:
        return [f"it is of the stage {kept['stage']!r}, not {identity['stage']!r}"]
    inputs = [f"{name} is another, or has changed" for name in changes(kept["inputs"], identity["inputs"])]
    return [*inputs, *changes(_flat(kept["settings"]), _flat(identity["settings"])).values()]


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under dotted names, as the command line writes them."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
