"""The authors' benchmark files, for measuring only: nothing here feeds training, thresholds or any other choice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from guardreasoner_sdk.data.columns import RawRow
from guardreasoner_sdk.data.readers import records_of
from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.evaluation.benchmarks.schemas import authors
from guardreasoner_sdk.verdict import TASKS
from guardreasoner_training.embedded.data import DataError
from guardreasoner_training.embedded.examples import Example


@dataclass(frozen=True, slots=True)
class BenchmarkExamples:
    """One benchmark: its name, the head it measures, and its rows."""

    name: str
    head: int
    examples: tuple[Example, ...]


# The benchmark's name and its head, by the file's name.
_FILES: Final = {
    "0_0_SimpleSafetyTests.json": ("SimpleSafetyTests", 0),
    "0_1_AegisSafetyTest.json": ("AegisSafetyTest", 0),
    "0_5_harmbench_response.json": ("HarmBenchResponse", 2),
    "0_7_xstest_response_refusal.json": ("XSTestResponseRefusal", 1),
}


def load_benchmarks(folder: Path) -> list[BenchmarkExamples]:
    """Read the known benchmark files of a folder, in the paper's order; files that are absent are left out.

    Raises:
        DataError: if none is there, or one is not in the authors' format; the message names file and row.
    """
    found = []
    for name, (title, head) in _FILES.items():
        path = folder / name
        if path.is_file():
            try:
                records = list(records_of(path))
                rows = list(authors(records, (TASKS[head],)))
            except InputError as error:
                raise DataError(str(error)) from error
            if len(rows) < len(records):
                raise DataError(f"{path}: a row has no label of {TASKS[head]}; use the authors' file as it is")
            found.append(BenchmarkExamples(title, head, tuple(_example(row, head) for row in rows)))
    if not found:
        raise DataError(f"{folder}: none of {', '.join(_FILES)} is here; leave --benchmarks out to skip them")
    return found


def _example(row: RawRow, head: int) -> Example:
    prompt, refusal, response = (row.labels[task] if number == head else None for number, task in enumerate(TASKS))
    return Example(row.prompt, row.response if head else None, (prompt, refusal, response), 1.0, "benchmark")
