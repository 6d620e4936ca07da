"""Rows as tokens, once, in a file that every process reads and a resumed run finds again."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from guardreasoner_sdk.data.atomic import errors_while_writing, replacing, write_json
from guardreasoner_sdk.errors import InputError

__all__ = ["IGNORED", "label_output", "write_encoded"]

IGNORED: Final = -100
"""The label of a token that is not learnt."""

_GROUP = 2048


def label_output(prompt: list[int], output: list[int]) -> dict[str, list[int]]:
    """A row for supervised training: the loss is on the output, each of its tokens, and on nothing else.

    Args:
        output: ids of what it is to write, and of the token that ends it.
    """
    return {"input_ids": prompt + output, "labels": [IGNORED] * len(prompt) + output}


def write_encoded(folder: Path, rows: Iterator[dict[str, Any]], counts: Mapping[str, int], columns: Mapping[str, Any]) -> None:
    """Write encoded rows as an Arrow file, whole or not at all, and beside it what was counted on the way.

    Args:
        folder: gets ``rows.arrow`` and ``counts.json``.

    Raises:
        InputError: it cannot be written, or no row is left.
    """
    import pyarrow

    schema = pyarrow.schema(list(columns.items()))
    with errors_while_writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with errors_while_writing(folder / "rows.arrow"), replacing(folder / "rows.arrow") as fresh:
        with pyarrow.OSFile(str(fresh), "wb") as sink, pyarrow.ipc.new_stream(sink, schema) as stream:
            while group := list(itertools.islice(rows, _GROUP)):
                stream.write_batch(pyarrow.RecordBatch.from_pylist(group, schema=schema))
        if not counts["rows"]:
            raise InputError(
                "rows", f"none is left to train on ({counts['too_long']} are too long)", "raise max_tokens, or check the file"
            )
        write_json(folder / "counts.json", dict(counts))
