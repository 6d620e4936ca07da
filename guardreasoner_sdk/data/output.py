"""Where the verdicts of a file go: the output, the journal behind it and the file that says whose they are."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from guardreasoner_sdk._text import JsonError, json_text, parse_json
from guardreasoner_sdk.data.atomic import errors_while_writing, replacing, write_json
from guardreasoner_sdk.data.identity import Fingerprint, changes, fingerprint
from guardreasoner_sdk.data.journal import TEXT, Journal, JournalEntry
from guardreasoner_sdk.data.parquet import import_pyarrow
from guardreasoner_sdk.data.readers import escape_formula
from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.verdict import TASKS

__all__ = ["Output", "RunState", "write_table"]

_FIX = "use --overwrite to replace it, or name another --output"
_FORMATS = {".csv": "csv", ".parquet": "parquet"}
_LATER = frozenset({"dialect", "screen", "base_url", "config.json"})
_EARLIER = "it was begun by an earlier version, which looked at both ends of a file only"


@dataclass(slots=True)
class RunState:
    """What is known of a run.

    Args:
        identity: input and settings, by name; another value in any of them is another run.
        finished: fingerprint of the output and counts, once a CSV or Parquet output is whole; else None.
    """

    identity: dict[str, Any]
    finished: dict[str, Any] | None = None

    @classmethod
    def load(cls, path: Path) -> RunState | None:
        """Read it; None where there is none.

        Raises:
            InputError: it is damaged.
        """
        try:
            value = parse_json(path.read_bytes())
            finished = value["finished"]
            if finished is not None:
                finished = {"output": str(finished["output"]), "counts": dict(finished["counts"])}
            return cls(dict(value["identity"]), finished)
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, LookupError) as error:
            why = f" ({error})" if isinstance(error, JsonError) else ""
            raise InputError("--output", f"{path} is damaged{why}", "pass --overwrite to start over") from None

    def save(self, path: Path) -> None:
        """Write it, whole or not at all.

        Raises:
            InputError: it cannot be written.
        """
        write_json(path, {"identity": self.identity, "finished": self.finished})

    def difference(self, identity: dict[str, Any]) -> str | None:
        """What tells another run from this one, in words; None if it is the same."""
        # What earlier versions did not write down: where a state lacks it, the run goes on, as it always did.
        now = {name: value for name, value in identity.items() if name in self.identity or name not in _LATER}
        told = changes(self.identity, now)
        if not told:
            return None
        for name in ("input", "calibration"):
            own = identity.get(name)
            if isinstance(own, Fingerprint) and own.may_match(self.identity.get(name)):
                return f"{_EARLIER}: whether the middle of its {name} has changed since cannot be known"
        if "input" in told:
            return "its input was different or has changed since"
        if "calibration" in told and None not in (self.identity.get("calibration"), identity.get("calibration")):
            del told["calibration"]
            return ", ".join(["its calibration was different or has changed since", *told.values()])
        return ", ".join(told.values())


@dataclass(slots=True)
class Output:
    """An output file.

    JSON lines are their own journal. A CSV or Parquet file is made of a journal beside it (``<name>.part.jsonl``) when that
    is complete. In both cases ``<name>.state.json`` says which input and settings the rows belong to.

    Args:
        path: the file.
        format: ``jsonl``, ``csv`` or ``parquet``.
        finished: the counts of a run that has made this very CSV or Parquet file; None otherwise.
    """

    path: Path
    format: str
    finished: dict[str, Any] | None = None
    _identity: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def at(cls, path: Path, asked: str | None, source: Path) -> Output:
        """Check that a file can be the output.

        Args:
            asked: its format, or None to go by the ending of its name.

        Raises:
            InputError: it cannot.
            MissingExtraError: Parquet, and pyarrow is not installed.
        """
        if asked not in (None, "jsonl", "csv", "parquet"):
            raise InputError("--output-format", f"{asked!r} is unknown", "use jsonl, csv or parquet")
        if path.suffix.lower() == ".gz":
            raise InputError("--output", f"{path} would not be gzipped", "leave .gz out and pack it afterwards")
        output = cls(path, asked or _FORMATS.get(path.suffix.lower(), "jsonl"))
        with errors_while_writing(path):
            if path.is_dir():
                raise InputError("--output", f"{path} is a folder", "name a file in it")
            if not path.parent.is_dir():
                raise InputError("--output", f"{path.parent} is not a folder", f"make it first: mkdir -p {path.parent}")
            if path.exists() and not path.is_file():
                raise InputError("--output", f"{path} is not a plain file", "name one: a run can only go on in such")
            # A link stays a link: what it points to is written, and what belongs to the run lies beside that.
            output.path = path.resolve()
            own = (output.path, output._journal, output._state)
            if source.resolve() in own or (path.exists() and path.samefile(source)):
                raise InputError("--output", f"{path} is, or would replace, the input", "name another file")
        if output.format == "parquet":
            from guardreasoner_sdk.data.parquet import import_pyarrow

            import_pyarrow()
        return output

    @property
    def _journal(self) -> Path:
        return self.path if self.format == "jsonl" else self.path.with_name(f"{self.path.name}.part.jsonl")

    @property
    def _state(self) -> Path:
        return self.path.with_name(f"{self.path.name}.state.json")

    @contextmanager
    def opened(self, identity: dict[str, Any], *, overwrite: bool, blank: Collection[int] = frozenset()) -> Iterator[Journal]:
        """The journal to go on with.

        Args:
            blank: numbers of the input's blank lines, which have no verdict.

        Raises:
            InputError: what is there belongs to another run, or cannot be written.
        """
        self._identity = identity
        with Journal(self._journal, blank=blank) as journal:
            try:
                if overwrite:
                    # In this order: the rows of the run before must never stand beside the state of this one.
                    journal.clear()
                    self._save(None)
                else:
                    self._go_on(journal)
                yield journal
            finally:
                if self.format != "jsonl" and journal.empty:
                    journal.remove()

    def finish(self, journal: Journal, counts: dict[str, Any], *, with_text: bool = False) -> None:
        """Make the table of a complete journal. JSON lines are finished as they are.

        Args:
            counts: what to know of the rows when the command is run once more.
            with_text: whether the table has columns for what was judged, too.

        Raises:
            InputError: it cannot be written.
        """
        if self.format == "jsonl":
            return
        from guardreasoner_sdk.data.output import write_table

        write_table(journal.entries(), self.path, self.format, with_text=with_text)
        with errors_while_writing(self.path):
            self._save({"output": fingerprint(self.path), "counts": counts})
        journal.remove()

    def _go_on(self, journal: Journal) -> None:
        with errors_while_writing(self._state):
            state = RunState.load(self._state)
            there = not journal.empty or (self.format != "jsonl" and self.path.exists() and self.path.stat().st_size > 0)
        if not there:
            self._save(None)
            return
        if state is None:
            raise InputError("--output", f"{self.path} is there already, and no run can go on in it", _FIX)
        if (difference := state.difference(self._identity)) is not None:
            raise InputError("--output", f"{self.path} holds verdicts of a different run ({difference})", _FIX)
        if state.finished is not None:
            with errors_while_writing(self.path):
                now = fingerprint(self.path)
            if now.may_match(state.finished["output"]):
                problem = f"{self.path} was finished by an earlier version, and whether its middle has changed cannot be known"
                raise InputError("--output", problem, f"{_FIX}; what is there stays till then")
            if not now.matches(state.finished["output"]):
                raise InputError("--output", f"{self.path} was changed since", _FIX)
            self.finished = state.finished["counts"]
        elif journal.empty:
            raise InputError("--output", f"{self.path} is there already, and was not made by this run", _FIX)

    def _save(self, finished: dict[str, Any] | None) -> None:
        RunState(self._identity, finished).save(self._state)


_COLUMNS = (
    *("row", "id", "action", "allowed", "undetermined"),
    *(name for task in TASKS for name in (task, f"{task}_score")),
    "reasons",
)
_GROUP = 10_000


def write_table(
    entries: Iterable[JournalEntry], path: Path, output_format: str, *, with_text: bool = False, with_file: bool = False
) -> None:
    """Write verdicts as a table, whole or not at all.

    Args:
        path: the file; one that is there is replaced. In CSV, a text that a spreadsheet would take for a formula has an
            apostrophe in front, which reading the file as rows takes away again.
        output_format: ``csv`` or ``parquet``.
        with_text: whether it has columns for what was judged, too.
        with_file: whether it has a column for the input's file.

    Raises:
        InputError: it cannot be written.
    """
    write = _write_csv if output_format == "csv" else _write_parquet
    columns = (*(("file",) if with_file else ()), *_COLUMNS, *(TEXT if with_text else ()))
    with errors_while_writing(path), replacing(path) as fresh:
        write(map(_flat, entries), fresh, columns)


def _flat(entry: JournalEntry) -> dict[str, Any]:
    verdict = entry.verdict
    cells: dict[str, Any] = {} if entry.file is None else {"file": _text(entry.file)}
    cells |= {
        "row": entry.row,
        "id": None if entry.identity is None else _text(str(entry.identity)),
        "action": verdict.action,
        "allowed": verdict.allowed,
        "undetermined": verdict.undetermined,
        "reasons": _text("; ".join(verdict.reasons)),
    }
    for task in TASKS:
        finding = verdict.findings.get(task)
        cells[task] = None if finding is None else finding.label
        cells[f"{task}_score"] = None if finding is None else finding.score
    for name, text in (entry.text or {}).items():
        cells[name] = _text(text if isinstance(text, str) else json_text(text)) if text else None
    return cells


def _text(text: str) -> str:
    """Text that UTF-8 can hold: JSON can spell half a character."""
    return text.encode("utf-8", "backslashreplace").decode()


def _write_csv(rows: Iterator[dict[str, Any]], path: Path, columns: Sequence[str]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return escape_formula(value)
    return str(value).lower() if isinstance(value, bool) else value


def _write_parquet(rows: Iterator[dict[str, Any]], path: Path, columns: Sequence[str]) -> None:
    arrow = import_pyarrow()
    kinds = {"row": arrow.int64(), "allowed": arrow.bool_(), "undetermined": arrow.bool_()}
    schema = arrow.schema(
        [(name, arrow.float64() if name.endswith("_score") else kinds.get(name, arrow.string())) for name in columns]
    )
    with arrow.parquet.ParquetWriter(path, schema) as writer:
        while group := list(islice(rows, _GROUP)):
            writer.write_table(arrow.Table.from_pylist(group, schema=schema))
