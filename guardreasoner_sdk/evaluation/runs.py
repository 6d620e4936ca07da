"""A guard's verdicts on labelled rows: each asked once and written at once, however often the run is cut off."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from guardreasoner_sdk._text import json_text
from guardreasoner_sdk.data.atomic import errors_while_writing
from guardreasoner_sdk.data.identity import fingerprint, without_secrets
from guardreasoner_sdk.data.interrupts import Interrupts
from guardreasoner_sdk.data.journal import Journal, JournalEntry
from guardreasoner_sdk.data.output import Output
from guardreasoner_sdk.evaluation.rows import LabelledRow
from guardreasoner_sdk.guard import Guard
from guardreasoner_sdk.judges.base import is_direct
from guardreasoner_sdk.settings import Settings
from guardreasoner_sdk.verdict import Task, Verdict

__all__ = [
    "JOURNAL",
    "ROBUSTNESS_JOURNAL",
    "JudgedRow",
    "choose",
    "fingerprints",
    "go_on",
    "open_run",
    "settings_of",
    "verdicts",
]

JOURNAL = "verdicts.jsonl"
"""The file in a run's folder that its verdicts are written to."""
ROBUSTNESS_JOURNAL = "robustness.jsonl"
"""The one for the rows that robustness is measured on: they can be asked later, and of another choice of sets."""

R = TypeVar("R", bound=LabelledRow)


class JudgedRow(JournalEntry):
    """A line of the journal. Beside the verdict it says what is true, so that it can be scored without the benchmark.

    Args:
        number: the row's place in the run, from 1.
        row: the row.
        verdict: what the guard said.
    """

    benchmark: str
    labels: Mapping[Task, bool]

    def __new__(cls, number: int, row: LabelledRow, verdict: Verdict) -> JudgedRow:
        answer = super().__new__(cls, number, row.id, verdict)
        answer.benchmark, answer.labels = row.benchmark, row.labels
        return answer

    def line(self) -> bytes:
        """The answer as a line of JSON."""
        value = {"row": self.row, "benchmark": self.benchmark, "id": self.identity, "labels": dict(self.labels)}
        return f"{json_text({**value, 'verdict': self.verdict.model_dump(mode='json')})}\n".encode()


def choose(rows: Iterable[LabelledRow], *, limit: int | None, sample: int | None, seed: int) -> list[LabelledRow]:
    """The rows of a benchmark that are asked, in its order.

    Args:
        limit: only the first so many; None: all.
        sample: only so many, drawn at random; None: all.
    """
    if limit is not None:
        return list(itertools.islice(rows, limit))
    every = list(rows)
    if sample is None or sample >= len(every):
        return every
    # Not for secrets: the same seed has to give the same rows.
    places = random.Random(seed).sample(range(len(every)), sample)  # noqa: S311
    return [every[place] for place in sorted(places)]


def fingerprints(rows: Sequence[LabelledRow]) -> list[str]:
    """Name, size and a hash of the rows of each benchmark: other rows, or other labels, are another run."""
    digests: dict[str, Any] = {}
    counts: dict[str, int] = {}
    for row in rows:
        digest = digests.setdefault(row.benchmark, hashlib.sha256())
        digest.update(json.dumps([row.id, row.exchange.model_dump(mode="json"), sorted(row.labels.items())]).encode())
        counts[row.benchmark] = counts.get(row.benchmark, 0) + 1
    return [f"{name} ({counts[name]} rows, {digest.hexdigest()[:12]})" for name, digest in digests.items()]


def settings_of(guard: Guard, settings: Settings) -> dict[str, Any]:
    """What a guard's verdicts depend on, by name: with another value in any of them it is another run."""
    calibration = None if settings.calibration is None else Path(settings.calibration).expanduser()
    # Only where it is given: runs that were begun before there was such an option go on.
    unmeasured = guard.policy.on_unmeasured
    return {
        **({} if unmeasured == "judge" else {"on_unmeasured": unmeasured}),
        **({} if settings.policy_text is None else {"policy_text": settings.policy_text}),
        "weights": settings.model,
        **settings.model_dump(mode="json", include={"dialect", "screen", "timeout", "reasoning"}),
        "base_url": None if settings.base_url is None else without_secrets(settings.base_url),
        "calibration": None if calibration is None else fingerprint(calibration),
        "model": guard.judge.model,
        "backend": guard.judge.backend,
    }


@contextmanager
def open_run(folder: Path, identity: dict[str, Any], *, overwrite: bool, name: str = JOURNAL) -> Iterator[Journal]:
    """The journal of a run, locked against a second process.

    Args:
        folder: the run's; made if it is not there.
        identity: what makes it this run and no other, by name.

    Raises:
        InputError: the folder holds another run, or cannot be written.
    """
    with errors_while_writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with Output((folder / name).resolve(), "jsonl").opened(identity, overwrite=overwrite) as journal:
        yield journal


def go_on(guard: Guard, rows: Sequence[LabelledRow], journal: Journal, *, done: int, shown: Callable[[int], None]) -> None:
    """Have a guard judge the rows that are not in the journal yet; each verdict is written as soon as it is there.

    Args:
        shown: called with the number of rows done.
    """
    left = rows[done:]
    with Interrupts() as interrupts:
        for number, (row, verdict) in enumerate(zip(left, _judged(guard, left), strict=True), done + 1):
            with interrupts.held():
                journal.append([JudgedRow(number, row, verdict)])
            shown(number)


def _judged(guard: Guard, rows: Sequence[LabelledRow]) -> Iterator[Verdict]:
    exchanges = (row.exchange for row in rows)
    if not is_direct(guard.judge):
        return guard.iter_many(exchanges)
    # One at a time: the latency is that of a check, and not of a batch that the check stood in.
    return itertools.chain.from_iterable(guard.iter_many([exchange]) for exchange in exchanges)


def verdicts(rows: Sequence[R], journal: Journal) -> Iterator[tuple[R, Verdict]]:
    """The rows with what the guard said to them."""
    for row, entry in zip(rows, journal.entries(), strict=True):
        yield row, entry.verdict
