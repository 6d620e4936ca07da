"""The files of training rows, and what they are called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from guardreasoner_sdk.data.records import ENDINGS, PACKED, ending_of
from guardreasoner_sdk.errors import InputError

__all__ = ["files_in", "files_of", "names_of", "stem_of"]


def files_of(paths: Iterable[Path | str]) -> list[Path]:
    """The files of training rows, those of a folder in the order of their names.

    Raises:
        InputError: a path does not exist, or a folder has no such file.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.is_dir():
            if not path.exists():
                raise InputError(str(path), "does not exist", "check the path")
            found.append(path)
            continue
        inside = files_in(path)
        if not inside:
            raise InputError(str(path), f"has no file that ends in {', '.join(ENDINGS)}", "name a folder of rows, or a file")
        found += inside
    return found


def files_in(folder: Path) -> list[Path]:
    """The files of rows in a folder, in the order of their names; hidden ones and folders in it are passed over."""
    return sorted(
        file for file in folder.iterdir() if ending_of(file) in ENDINGS and file.is_file() and not file.name.startswith(".")
    )


def stem_of(file: Path) -> str:
    """The name of a file of rows without the endings that tell its format: ``data.v1`` of ``data.v1.jsonl.gz``."""
    if file.suffix.lower() in PACKED:
        file = file.with_suffix("")
    return file.with_suffix("").name if file.suffix.lower() in ENDINGS else file.name


def names_of(files: Sequence[Path], *, endings: bool = False) -> list[str]:
    """A name for each file that no other one has: its stem, and where that does not do, endings and folders, too.

    ``a.jsonl`` and ``a.csv`` keep their endings, ``v1/data.jsonl`` and ``v2/data.jsonl`` become ``v1/data`` and ``v2/data``.

    Args:
        files: all that are read together. One that is there twice has the same name twice.
    """
    # Even levels are without endings, odd ones with them, and every second one has a folder more.
    levels = [int(endings)] * len(files)
    while True:
        names = [_name(file, level) for file, level in zip(files, levels, strict=True)]
        counts = Counter(names)
        clashing = [
            place for place, name in enumerate(names) if counts[name] > 1 and levels[place] <= 2 * len(files[place].parts)
        ]
        if not clashing:
            return names
        for place in clashing:
            levels[place] += 2 if endings else 1


def _name(file: Path, level: int) -> str:
    folders = file.parent.parts[-(level // 2) :] if level > 1 else ()
    return "/".join([*folders, file.name if level % 2 else stem_of(file)])
