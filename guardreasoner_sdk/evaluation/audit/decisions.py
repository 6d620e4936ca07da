"""What a person decided on proposals, where it is kept, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict

from guardreasoner_sdk._text import parse_json
from guardreasoner_sdk.data.atomic import write_atomic
from guardreasoner_sdk.data.journal import Lines
from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.evaluation.audit.correct import endings_of, write_corrected
from guardreasoner_sdk.evaluation.audit.labelled_set import LabelledSet, other_word
from guardreasoner_sdk.evaluation.audit.run import key_of, predictions
from guardreasoner_sdk.evaluation.metrics import Measures, measure
from guardreasoner_sdk.evaluation.rows import Prediction

__all__ = ["DECISIONS", "Correction", "Decision", "append_decisions", "apply", "read_decisions"]

DECISIONS = "decisions.jsonl"
"""The file in an audit's folder that decisions are appended to, the last one on a label counts."""

Decision = Literal["accept", "reject", "skip", "open"]
"""``accept``: the label is wrong. ``reject``: it is right. ``skip``: the person cannot say. ``open``: taken back."""


class Correction(BaseModel):
    """What the decisions come to: ``correction.json``.

    Args:
        accepted: labels turned over.
        rejected: proposals that were wrong.
        skipped: proposals that the person could not decide.
        agreement: accepted of those decided, in percent; None where none was.
        before: the guard's figures on the labels as given.
        after: the same on the corrected ones.
    """

    model_config = ConfigDict(frozen=True)

    accepted: int
    rejected: int
    skipped: int
    agreement: float | None
    before: tuple[Measures, ...]
    after: tuple[Measures, ...]


def append_decisions(path: Path, audit: str, decisions: Mapping[str, str]) -> None:
    """Write decisions behind the others, and make sure that they are on the disk.

    Args:
        path: the file; made if it is not there.

    Raises:
        InputError: they cannot be written.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    with Lines(path, durable=True) as lines:
        lines.add({"audit": audit, "key": key, "decision": said, "at": now} for key, said in decisions.items())


def read_decisions(path: Path, audit: str) -> dict[str, Decision]:
    """Decisions, by the key of the label: those that the server wrote, or those downloaded from the page.

    Raises:
        InputError: there is no such file, it is damaged, or belongs to other labels.
    """
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise InputError(
            str(path), "does not exist", "decide first, or name the file that the page gave (--decisions)"
        ) from None
    except (OSError, UnicodeDecodeError):
        raise InputError(str(path), "cannot be read as UTF-8", "name the file that the page gave") from None
    found: dict[str, Decision] = {}
    for number, of, decisions in _parts(path, text):
        if of != audit:
            where = f"{path}, line {number}" if number else str(path)
            raise InputError(where, "belongs to the audit of another file", "name the decisions on this one")
        found |= decisions
    return {key: decision for key, decision in found.items() if decision != "open"}


def _parts(path: Path, text: str) -> list[tuple[int, Any, dict[str, Decision]]]:
    """What a file holds, with the line it stands in; 0: all of it."""
    try:
        whole = parse_json(text)
        if isinstance(whole, dict) and "decisions" in whole:
            return [(0, whole.get("audit"), _checked(whole["decisions"]))]
    except ValueError:
        pass
    parts = []
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value = parse_json(line)
            parts.append((number, value["audit"], _checked({value["key"]: value["decision"]})))
        except (ValueError, LookupError, TypeError):
            # What a crash tore: another line follows it only if the next server began a new one.
            if line.startswith("{") and not line.endswith("}"):
                continue
            fix = "name the decisions that the page or the server wrote"
            raise InputError(f"{path}, line {number}", "is not a decision", fix) from None
    return parts


def _checked(decisions: Any) -> dict[str, Decision]:
    if not isinstance(decisions, dict) or not all(
        isinstance(key, str) and decision in get_args(Decision) for key, decision in decisions.items()
    ):
        raise ValueError("no decisions")
    return decisions


def apply(
    labels: LabelledSet, folder: Path, decisions: Mapping[str, Decision], target: Path | None = None
) -> tuple[Correction, Path]:
    """Write the corrected file, and measure the guard on the labels before and after.

    Args:
        target: where the corrected file goes; None: ``corrected`` in the folder, with the endings of the file.

    Returns:
        what the decisions come to, and where the corrected file is.

    Raises:
        InputError: a decision names no label of the file, or something cannot be read or written.
        MissingExtraError: scikit-learn is not installed.
    """
    accepted = {key for key, decision in decisions.items() if decision == "accept"}
    words = labels.words()
    changes: dict[int, dict[str, Any]] = {}
    known = set()
    for row in labels.rows():
        for task, label in row.labels.items():
            key = key_of(row.number, task)
            if key in decisions:
                known.add(key)
            if key in accepted:
                column, value = row.cells[task]
                changes.setdefault(row.number, {})[column] = other_word(task, column, value, label, words)
    if unknown := sorted(decisions.keys() - known):
        raise InputError("--decisions", f"{unknown[0]!r} is not a label of {labels.path}", "name the decisions on this file")
    given = predictions(labels, folder)
    corrected = [replace(one, truth=one.truth != (f"{one.id}:{one.task}" in accepted)) for one in given]
    counts = {kind: sum(decision == kind for decision in decisions.values()) for kind in ("accept", "reject", "skip")}
    decided = counts["accept"] + counts["reject"]
    correction = Correction(
        accepted=counts["accept"],
        rejected=counts["reject"],
        skipped=counts["skip"],
        agreement=100 * counts["accept"] / decided if decided else None,
        before=_measured(given),
        after=_measured(corrected),
    )
    path = folder / f"corrected{endings_of(labels.path)}" if target is None else target
    write_corrected(labels.path, path, changes)
    write_atomic(folder / "correction.json", correction.model_dump_json(indent=2) + "\n")
    return correction, path


def _measured(given: Sequence[Prediction]) -> tuple[Measures, ...]:
    return tuple(measure(given, scoring="strict"))
