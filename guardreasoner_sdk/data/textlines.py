"""Prompts as lines of text, plain or gzipped: one prompt on each line that holds anything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from guardreasoner_sdk.data.encodings import remedy
from guardreasoner_sdk.data.jsonl import lines_in
from guardreasoner_sdk.data.rows import Columns, Row, broken, make_row

__all__ = ["TextLines"]


class TextLines:
    """A :class:`~guardreasoner_sdk.data.rows.Source`; a record is the bytes of a line, None for one too long to hold.

    Args:
        path: the file.
        encoding: of the file; None: UTF-8.
    """

    format = "lines"
    unit = "line"

    def __init__(self, path: Path, encoding: str | None = None) -> None:
        self._path = path
        self._encoding = encoding

    def records(self) -> Iterator[tuple[int, bytes | None]]:
        """The lines that hold anything."""
        return lines_in(self._path, self._encoding)

    def row(self, number: int, record: bytes | None) -> Row:
        """Take a line for a prompt."""
        place = f"line {number}"
        if record is None:
            return broken(number, place, "is too long", "split it and check the parts")
        try:
            text = record.decode("utf-8")
        except UnicodeDecodeError as error:
            return broken(number, place, f"is not UTF-8 at byte {error.start + 1:,}", remedy(record))
        return make_row(number, place, {"prompt": text.removesuffix("\n").removesuffix("\r")}, Columns())
