"""What the pool's processes do: each holds a guard, and is handed rows or blocks of a file."""

from __future__ import annotations

import os
import pickle
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guardreasoner_sdk.bulk.blocks import Block, BlockReader
from guardreasoner_sdk.bulk.judging import judge_rows
from guardreasoner_sdk.data.check_rows import make_row
from guardreasoner_sdk.data.columns import Columns
from guardreasoner_sdk.data.journal import JournalEntry
from guardreasoner_sdk.data.output import write_table
from guardreasoner_sdk.data.parquet import rows_in
from guardreasoner_sdk.data.records import Record
from guardreasoner_sdk.errors import BackendError, GuardError, MissingExtraError
from guardreasoner_sdk.guard import Guard
from guardreasoner_sdk.policy import Policy
from guardreasoner_sdk.settings import Settings
from guardreasoner_sdk.verdict import TASKS, Verdict

__all__ = ["Attempts", "BlockJudge", "JudgeBatches", "Result", "complete_arguments", "import_ray"]

MOST_ATTEMPTS = 5
_FROM_SETTINGS = ("backend", "dialect", "policy_text", "request", "screen", "base_url", "timeout", "calibration")


def import_ray() -> Any:
    """``ray``, with its ``data`` module loaded.

    Raises:
        MissingExtraError: it is not installed.
    """
    # Ray sends figures about its use to its makers unless it is told not to; this package sends nothing to anybody.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ImportError:
        raise MissingExtraError("ray", "Bulk jobs") from None
    return ray


def complete_arguments(guard: Mapping[str, Any] | None) -> dict[str, Any]:
    """The arguments of a guard, with all that this process's environment says: workers elsewhere have another one.

    Args:
        guard: what was given.

    Raises:
        ConfigurationError: the environment holds what cannot work.
    """
    settings = Settings()
    found: dict[str, Any] = {"model": settings.model, "reasoning": settings.reasoning}
    for name in _FROM_SETTINGS:
        if (value := getattr(settings, name)) is not None:
            found[name] = value
    if settings.api_key is not None:
        found["api_key"] = settings.api_key.get_secret_value()
    found["policy"] = Policy(on_undetermined=settings.on_undetermined, on_unmeasured=settings.on_unmeasured)
    given = dict(guard or {})
    if "judge" in given:  # a judge of one's own goes with neither a model nor its engine
        found = {"policy": found["policy"]}
    return found | given


class _Worker:
    """A process of the pool, with a guard of its own."""

    def __init__(self, arguments: Mapping[str, Any], columns: Columns, threads: int) -> None:
        # There are as many workers as there is room for: each takes its share of the machine, and no more.
        os.environ["GUARDREASONER_THREADS"] = str(threads)
        self.guard = Guard(**arguments)
        self.columns = columns


class JudgeBatches(_Worker):
    """Judges batches of a Ray dataset; what :func:`add_verdicts` hands to ``Dataset.map_batches``.

    Args:
        arguments: of the guard.
        columns: where the texts stand.
        threads: that the embedded guard uses.
        prefix: what the names of the new columns begin with.
    """

    def __init__(self, arguments: Mapping[str, Any], columns: Columns, threads: int = 1, prefix: str = "guard_") -> None:
        super().__init__(arguments, columns, threads)
        self._prefix = prefix

    def __call__(self, table: Any) -> Any:
        """Add the columns of verdicts to an Arrow table."""
        import pyarrow

        rows = [make_row(Record(place, f"row {place}", values), self.columns) for place, values in enumerate(rows_in(table), 1)]
        verdicts = [verdict for _, verdict in judge_rows(self.guard, rows)]
        for name, kind, values in _columns_of(verdicts):
            table = table.append_column(f"{self._prefix}{name}", pyarrow.array(values, type=getattr(pyarrow, kind)()))
        return table


def _columns_of(verdicts: Sequence[Verdict]) -> list[tuple[str, str, list[Any]]]:
    columns: list[tuple[str, str, list[Any]]] = [
        ("action", "string", [verdict.action for verdict in verdicts]),
        ("undetermined", "bool_", [verdict.undetermined for verdict in verdicts]),
    ]
    for task in TASKS:
        findings = [getattr(verdict, task) for verdict in verdicts]
        columns += [
            (task, "string", [None if finding is None else finding.label for finding in findings]),
            (f"{task}_score", "float64", [None if finding is None else finding.score for finding in findings]),
        ]
    return [*columns, ("verdict", "string", [verdict.model_dump_json() for verdict in verdicts])]


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a block.

    Args:
        number: the block's.
        content: the file of its verdicts, whole.
        counts: rows by what came of them.
        error: what kept it from being judged; None: nothing.
    """

    number: int
    content: bytes = b""
    counts: Mapping[str, int] | None = None
    error: GuardError | None = None


class Attempts:
    """Counts how often each block was begun. Ray begins one again as often as its worker dies, which may be for ever."""

    def __init__(self) -> None:
        self._begun: Counter[int] = Counter()

    def begin(self, block: int) -> int:
        """A block is begun.

        Returns:
            for which time.
        """
        self._begun[block] += 1
        return self._begun[block]


class BlockJudge(_Worker):
    """Judges blocks of files.

    Args:
        arguments: of the guard.
        columns: where the texts stand.
        threads: that the embedded guard uses.
        output_format: ``jsonl`` or ``parquet``.
        root: the folder that the names of files are said from; None: there is one file, and its name is not said.
        attempts: the actor of an :class:`Attempts`.
    """

    def __init__(
        self,
        arguments: Mapping[str, Any],
        columns: Columns,
        threads: int,
        output_format: str,
        root: str | None,
        attempts: Any,
    ) -> None:
        super().__init__(arguments, columns, threads)
        self._attempts = attempts
        self._reader = BlockReader(columns)
        self._format = output_format
        self._root = root

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[bytes]]:
        """Judge blocks: pickled ones in, pickled results out, so that no type of Arrow's stands between."""
        blocks = [pickle.loads(block) for block in batch["block"]]  # noqa: S301 - what the job itself wrote
        return {"result": [pickle.dumps(self._try(block)) for block in blocks]}

    def _try(self, block: Block) -> Result:
        if import_ray().get(self._attempts.begin.remote(block.number)) <= MOST_ATTEMPTS:
            return self._judge(block)
        rows = f"rows {block.after + 1} to {block.after + block.count} of {block.path}"
        error = BackendError(f"{MOST_ATTEMPTS} workers died over {rows}; a smaller block_rows tells which row it is")
        return Result(block.number, error=error)

    def _judge(self, block: Block) -> Result:
        counts: Counter[str] = Counter()
        file = None if self._root is None else str(Path(block.path).relative_to(self._root))
        entries = []
        try:
            for row, verdict in judge_rows(self.guard, self._reader.rows(block)):
                counts[_kind(verdict)] += 1
                counts["unreadable"] += row.cause is not None
                entries.append(JournalEntry(row.number, row.identity, verdict, file=file))
            return Result(block.number, self._written(entries), dict(counts))
        except GuardError as error:
            return Result(block.number, error=error)

    def _written(self, entries: list[JournalEntry]) -> bytes:
        if self._format == "jsonl":
            return b"".join(entry.line() for entry in entries)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "part.parquet"
            write_table(entries, path, "parquet", with_file=self._root is not None)
            return path.read_bytes()


def _kind(verdict: Verdict) -> str:
    """What a verdict counts as: as ``check --file`` counts, what is undecided is never allowed."""
    if verdict.blocked_by == "finding":
        return "blocked"
    return "undetermined" if verdict.undetermined or verdict.reasons or not verdict.allowed else "allowed"
