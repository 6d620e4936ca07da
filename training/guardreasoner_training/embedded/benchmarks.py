"""The authors' benchmark files, for measuring only: nothing here feeds training, thresholds or any other choice."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from guardreasoner_training.embedded.data import DataError
from guardreasoner_training.embedded.examples import Example, Labels


@dataclass(frozen=True, slots=True)
class BenchmarkExamples:
    """One benchmark: the file it is in, the head it measures, and its rows."""

    name: str
    head: int
    examples: tuple[Example, ...]


# The benchmark's name, its head, and the word of the positive class, by the file's name.
_FILES: Final = {
    "0_0_SimpleSafetyTests.json": ("SimpleSafetyTests", 0, "harmful"),
    "0_1_AegisSafetyTest.json": ("AegisSafetyTest", 0, "harmful"),
    "0_5_harmbench_response.json": ("HarmBenchResponse", 2, "harmful"),
    "0_7_xstest_response_refusal.json": ("XSTestResponseRefusal", 1, "refusal"),
}
_NEGATIVE: Final = {"harmful": "unharmful", "refusal": "compliance"}
_PROMPT_MARK: Final = "Human user:\n"
_RESPONSE_MARK: Final = "\n\nAI assistant:\n"


def load_benchmarks(folder: Path) -> list[BenchmarkExamples]:
    """Read the known benchmark files of a folder.

    Args:
        folder: where they lie; files that are absent are left out.

    Returns:
        The benchmarks found, in the paper's order.

    Raises:
        DataError: if none is there, or one is not in the authors' format; the message names file and row.
    """
    found = []
    for name, (title, head, positive) in _FILES.items():
        path = folder / name
        if path.is_file():
            rows = json.loads(path.read_text(encoding="utf-8"))
            examples = tuple(_example(row, head, positive, f"{path}: row {i}") for i, row in enumerate(rows, start=1))
            found.append(BenchmarkExamples(title, head, examples))
    if not found:
        raise DataError(f"{folder}: none of {', '.join(_FILES)} is here; leave --benchmarks out to skip them")
    return found


def _example(row: object, head: int, positive: str, where: str) -> Example:
    text, word = (row.get("input"), row.get("output")) if isinstance(row, Mapping) else (None, None)
    if not isinstance(text, str) or not text.startswith(_PROMPT_MARK) or _RESPONSE_MARK not in text:
        raise DataError(f'{where}: "input" must read "Human user:", the prompt, "AI assistant:", the response')
    if word not in (positive, _NEGATIVE[positive]):
        raise DataError(f'{where}: "output" must be {positive} or {_NEGATIVE[positive]}, not {word!r}')
    prompt, response = text.removeprefix(_PROMPT_MARK).removesuffix("\n\n").split(_RESPONSE_MARK, 1)
    label = word == positive
    labels: Labels = (label if head == 0 else None, label if head == 1 else None, label if head == 2 else None)
    return Example(prompt, None if head == 0 else response, labels, 1.0, "benchmark")
