"""The lines of training files, one after the other: a broken one is told, and does not stop the others."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.evaluation._records import (
    ENDINGS,
    PACKED,
    Record,
    ending_of,
    json_entries,
    json_object,
    lines_of,
    not_utf8,
    open_bytes,
    reading,
)
from guardreasoner_sdk.evaluation._records import records_of as whole_records_of
from guardreasoner_sdk.exchange import MAX_CHARACTERS

__all__ = ["files_in", "files_of", "names_of", "records_of", "stem_of"]

_UNDECODABLE = re.compile("[\udc80-\udcff]")


def files_of(paths: Iterable[Path | str]) -> list[Path]:
    """The files of training rows, those of a folder in the order of their names.

    Args:
        paths: files and folders.

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
    """The files of rows in a folder, in the order of their names; hidden ones and folders in it are passed over.

    Args:
        folder: it.
    """
    return sorted(
        file for file in folder.iterdir() if ending_of(file) in ENDINGS and file.is_file() and not file.name.startswith(".")
    )


def stem_of(file: Path) -> str:
    """The name of a file of rows without the endings that tell its format: ``data.v1`` of ``data.v1.jsonl.gz``.

    Args:
        file: it.
    """
    if file.suffix.lower() in PACKED:
        file = file.with_suffix("")
    return file.with_suffix("").name if file.suffix.lower() in ENDINGS else file.name


def names_of(files: Sequence[Path], *, endings: bool = False) -> list[str]:
    """A name for each file that no other one has: its stem, and where that does not do, endings and folders, too.

    ``a.jsonl`` and ``a.csv`` keep their endings, ``v1/data.jsonl`` and ``v2/data.jsonl`` become ``v1/data`` and ``v2/data``.

    Args:
        files: all that are read together. One that is there twice has the same name twice.
        endings: whether endings are always kept.
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


def records_of(path: Path) -> Iterator[Record | InputError]:
    """Each row of a file, or what is wrong with it.

    Args:
        path: the file.

    Raises:
        InputError: the file cannot be read at all, or not on from some place.
        MissingExtraError: Parquet, and pyarrow is not installed.
    """
    match ending_of(path):
        case ".jsonl" | ".ndjson":
            return _json_lines(path)
        case ".json":
            return json_entries(path)
        case ".csv":
            return _csv(path)
        case _:
            return whole_records_of(path)


def _json_lines(path: Path) -> Iterator[Record | InputError]:
    for number, line in lines_of(path):
        place = f"{path}:{number}"
        try:
            values = json_object(line)
        except ValueError as error:
            yield InputError(place, str(error), "write one JSON object on each line")
        else:
            yield Record(number, place, values)


def _csv(path: Path) -> Iterator[Record | InputError]:
    csv.field_size_limit(MAX_CHARACTERS)
    with (
        reading(path),
        open_bytes(path) as raw,
        io.TextIOWrapper(raw, "utf-8-sig", errors="surrogateescape", newline="") as text,
    ):
        reader = csv.reader(text, strict=True)
        names: list[str] | None = None
        while True:
            line = reader.line_num + 1
            place = f"{path}:{line}"
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield InputError(place, f"is not CSV ({error})", 'put texts in quotes, and double the quotes in them: ""')
                continue
            if not cells:
                continue
            if names is None:
                names = [name.strip() for name in cells]
                if len(set(names)) < len(names):
                    raise InputError(place, "has two columns of the same name", "rename one of them")
            elif _UNDECODABLE.search("".join(cells)):
                yield InputError(place, "is not UTF-8", not_utf8(",".join(cells).encode("utf-8", "surrogateescape")))
            elif len(cells) != len(names):
                problem = f"has {len(cells)} cells, the header has {len(names)}"
                yield InputError(place, problem, "put texts with commas or line breaks in quotes")
            else:
                # An empty cell says nothing; reasoning by task is written as JSON.
                values = {name: _cell(name, cell) for name, cell in zip(names, cells, strict=True)}
                yield Record(line, place, values)


def _cell(name: str, cell: str) -> object:
    if name == "reasoning" and cell.startswith("{"):
        try:
            return json.loads(cell)
        except ValueError:
            return cell
    return cell or None
