"""Input cut into blocks: stretches of rows that a worker reads by itself, the same ones whenever the job is run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from guardreasoner_sdk.data.check_rows import CheckRow, make_row
from guardreasoner_sdk.data.columns import Columns
from guardreasoner_sdk.data.parquet import ParquetRows
from guardreasoner_sdk.data.readers import JsonLines, open_source
from guardreasoner_sdk.data.records import Reading, errors_while_reading, numbered_lines
from guardreasoner_sdk.errors import InputError

__all__ = ["Block", "BlockReader", "cut_file", "find_files"]

_ENDINGS = (".jsonl", ".ndjson", ".parquet")
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Block:
    """A stretch of a file.

    Args:
        number: of the block, from 0, through all files.
        path: the file, as every worker sees it.
        after: how many rows (lines, in JSON lines) stand before it.
        count: how many rows, or lines, it has.
        place: where it begins: a byte of the file, or the number of the group of a Parquet file.
        start: the row of that group with which it begins; 0 for JSON lines.
    """

    number: int
    path: str
    after: int
    count: int
    place: int
    start: int = 0


def find_files(given: Path) -> list[Path]:
    """The files of an input, in the order of their names.

    Args:
        given: a file, or a folder of them; what is in folders inside it counts, too.

    Raises:
        InputError: there is none, or one of them can be read only from its beginning.
    """
    fix = f"name a file that ends in {', '.join(_ENDINGS)}, or a folder of such"
    if given.is_dir():
        found = sorted(path for path in given.rglob("*") if path.suffix.lower() in _ENDINGS and path.is_file())
        if not found:
            raise InputError("INPUT", f"{given} holds no file of rows", fix)
        return found
    if not given.exists():
        raise InputError("INPUT", f"{given} does not exist", fix)
    if given.suffix.lower() not in _ENDINGS:
        raise InputError("INPUT", f"{given} cannot be read in parts", f"{fix}; 'check --file' reads other formats")
    return [given]


def cut_file(path: Path, columns: Columns, size: int, *, first: int = 0) -> Iterator[Block]:
    """Cut a file into blocks.

    Args:
        size: most rows in one.
        first: number of the first block.

    Raises:
        InputError: it cannot be read, or has no such column.
        MissingExtraError: Parquet, and pyarrow is not installed.
    """
    with errors_while_reading(path, "INPUT"):
        if path.stat().st_size == 0:
            return  # a job that wrote a folder of files leaves such among them
    source = open_source(path, Reading(columns=columns, named="INPUT"))
    if isinstance(source, ParquetRows):
        yield from _cut_groups(source, path, size, first)
    elif isinstance(source, JsonLines):
        yield from _cut_lines(path, size, first)
    else:
        raise InputError("INPUT", f"{path} cannot be read in parts", "write one JSON object on each line, or Parquet")


def _cut_groups(source: ParquetRows, path: Path, size: int, first: int) -> Iterator[Block]:
    after = 0
    for group, rows in enumerate(source.groups()):
        for start in range(0, rows, size):
            count = min(size, rows - start)
            yield Block(first, str(path), after, count, group, start)
            first, after = first + 1, after + count


def _cut_lines(path: Path, size: int, first: int) -> Iterator[Block]:
    """Blocks of so many lines each, blank ones counted: their numbers are those that an editor shows."""
    with errors_while_reading(path, "INPUT"), path.open("rb") as file:
        if file.read(2) == b"\x1f\x8b":
            raise InputError("INPUT", f"{path} is packed, and cannot be read in parts", "unpack it: gzip -d")
        file.seek(0)
        place = after = count = 0
        torn = False  # in the middle of a line: one that is too long for memory is read in pieces
        while line := file.readline(_CHUNK):
            torn = not line.endswith(b"\n")
            count += not torn
            if count == size:
                yield Block(first, str(path), after, count, place)
                first, after, count, place = first + 1, after + count, 0, file.tell()
        if count or torn:
            yield Block(first, str(path), after, count + torn, place)


class BlockReader:
    """Reads blocks as rows to judge. The file read last stays open in the sense that a group of it is kept.

    Args:
        columns: where the texts stand.
    """

    def __init__(self, columns: Columns) -> None:
        self._how = Reading(columns=columns, named="INPUT")
        self._source: tuple[str, Any] = ("", None)

    def rows(self, block: Block) -> Iterator[CheckRow]:
        """The rows of a block.

        Raises:
            InputError: its file cannot be read.
        """
        path = Path(block.path)
        if self._source[0] != block.path:
            self._source = block.path, open_source(path, self._how)
        source = self._source[1]
        for number, record in self._records(source, path, block):
            found = source.read(number, record)
            yield make_row(found, self._how.columns, source.how.folder)

    @staticmethod
    def _records(source: Any, path: Path, block: Block) -> Iterator[tuple[int, Any]]:
        if isinstance(source, ParquetRows):
            yield from enumerate(source.group_rows(block.place, block.start, block.count), block.after + 1)
            return
        with errors_while_reading(path, "INPUT"), path.open("rb") as file:
            file.seek(block.place)
            last = block.after + block.count
            yield from takewhile(lambda found: found[0] <= last, numbered_lines(file, after=block.after))
