"""Training rows whose prompt a benchmark holds too."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from guardreasoner_sdk.evaluation import benchmarks
from guardreasoner_training.rows import TrainingRow
from guardreasoner_training.rows.files import files_of
from guardreasoner_training.rows.near_duplicates import TEMPLATE_PROMPTS, normalise, phrases

__all__ = ["Leak", "find_leaks"]

_WHOLE: Final = 8
"""From so many words on a benchmark's prompt is looked for as a whole inside others; a phrase has as many."""


@dataclass(frozen=True, slots=True)
class Leak:
    """A training row that a benchmark's prompt stands in.

    Args:
        number: the row's place among those given.
        id: its name.
        benchmark: the benchmark.
        row: the name of the benchmark's row.
        kind: ``same`` for the same words, ``near`` for a near-duplicate.
    """

    number: int
    id: str
    benchmark: str
    row: str
    kind: Literal["same", "near"]


def find_leaks(rows: Sequence[TrainingRow], files: Iterable[str], *, data: str | None = None) -> list[Leak]:
    """Find the rows that a benchmark would find learnt by heart.

    Two prompts are near-duplicates as in the split: the same first 60 characters, or 8 words in a row shared, in lower case
    and without punctuation. What more than 40 prompts of the rows and several of the benchmarks share is a template, and tells
    nothing; but a benchmark's prompt of 8 words or more that is in a row's as a whole always leaks.

    Args:
        rows: the training rows.
        files: the benchmarks: files, folders of them, or names of the paper's.
        data: folder with the files of those that are named.

    Returns:
        the leaks, one for each row that leaks, in the rows' order.

    Raises:
        InputError: a benchmark cannot be read.
    """
    known: dict[str, tuple[str, str]] = {}
    for name, place, prompt in _prompts(files, data):
        known.setdefault(prompt, (name, place))
    holders: defaultdict[bytes, list[str]] = defaultdict(list)
    for prompt in known:
        for phrase in dict.fromkeys(phrases(prompt)):
            holders[phrase].append(prompt)
    rarest = _by_rarest_phrase(known, holders)
    shared: defaultdict[bytes, set[str]] = defaultdict(set)
    near: dict[str, str] = {}
    prompts = [normalise(row.exchange.prompt) for row in rows]
    for prompt in dict.fromkeys(prompts):
        for phrase in phrases(prompt):
            if phrase in holders:
                shared[phrase].add(prompt)
                whole = next((one for one in rarest.get(phrase, ()) if _holds(prompt, one)), None)
                if whole is not None:
                    near.setdefault(prompt, whole)
    for phrase, found in shared.items():
        if len(found) <= TEMPLATE_PROMPTS or len(holders[phrase]) == 1:
            near |= {prompt: holders[phrase][0] for prompt in found if prompt not in near}
    leaks = []
    for number, (row, prompt) in enumerate(zip(rows, prompts, strict=True)):
        if prompt in known:
            leaks.append(Leak(number, row.id, *known[prompt], "same"))
        elif prompt in near:
            leaks.append(Leak(number, row.id, *known[near[prompt]], "near"))
    return leaks


def _by_rarest_phrase(prompts: Iterable[str], holders: Mapping[bytes, Sequence[str]]) -> Mapping[bytes, list[str]]:
    """Prompts of 8 words and more by the phrase of theirs that the fewest have: who holds them whole holds that."""
    found: defaultdict[bytes, list[str]] = defaultdict(list)
    for prompt in prompts:
        inside = len(prompt.split()) - _WHOLE + 1
        if inside > 0:
            # The last phrases are those of words; how a prompt begins says nothing about where else it stands.
            found[min(list(phrases(prompt))[-inside:], key=lambda phrase: len(holders[phrase]))].append(prompt)
    return found


def _holds(prompt: str, other: str) -> bool:
    return f" {other} " in f" {prompt} "


def _prompts(files: Iterable[str], data: str | None) -> Iterator[tuple[str, str, str]]:
    """Name, row and normalised prompt of every benchmark row."""
    for file in files:
        path = Path(file)
        sources: list[str | Path] = list(files_of([path])) if path.exists() else [file]
        for source in sources:
            for row in benchmarks.read_rows(source, source=None if isinstance(source, Path) else data):
                prompt = normalise(row.exchange.prompt)
                if prompt:
                    yield row.benchmark, row.id, prompt
