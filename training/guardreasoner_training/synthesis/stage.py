"""Reasoning data synthesis (arXiv:2501.18492, section 3.1): a teacher writes the steps that lead to labels known to be true."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from guardreasoner_sdk._text import json_text
from guardreasoner_sdk.data.atomic import write_atomic, write_json
from guardreasoner_sdk.data.identity import content_hash
from guardreasoner_sdk.data.journal import Lines
from guardreasoner_sdk.data.run_folder import Stage, open_stage
from guardreasoner_sdk.errors import ConfigurationError, InputError
from guardreasoner_sdk.verdict import TASKS
from guardreasoner_training.formats import Format, output_of, read_examples, tasks_of, tasks_without_steps
from guardreasoner_training.recipe import SynthesisSettings
from guardreasoner_training.rows import TrainingRow, write_rows
from guardreasoner_training.rows.outputs import steps_in
from guardreasoner_training.synthesis.asking import StoppedError, ask_all
from guardreasoner_training.synthesis.budget import Prices
from guardreasoner_training.synthesis.examined import Accepted, examine_answer
from guardreasoner_training.synthesis.ledger import Ledger
from guardreasoner_training.synthesis.quality import quality_of, quality_text
from guardreasoner_training.synthesis.questions import truth, wording
from guardreasoner_training.synthesis.teacher import Patience

__all__ = ["ANSWERS", "QUALITY", "REJECTED", "ROWS", "Patience", "quality_text", "synthesize"]

ROWS = "rows.jsonl"
"""The rows with their outputs, in the order of the input."""

REJECTED = "rejected.jsonl"
"""The rows that have none, with the reasons."""

QUALITY = "quality.json"

ANSWERS = "answers.jsonl"
"""The journal: every answer that came, good or not, by its question. Nothing here deletes it: it was paid for."""


def synthesize(
    rows: Path,
    output: Path,
    teacher: SynthesisSettings,
    *,
    format: Format = "guardreasoner",
    restart: bool = False,
    report: Callable[[str], None] = print,
    patience: Patience | None = None,
) -> dict[str, Any]:
    """Have a teacher write the reasoning of rows that have none.

    Every answer is kept as it comes, under what was asked, so that a run that was killed, or stopped by its budget, goes on
    without asking again what was answered; only requests under way at that moment are lost, at most ``teacher.concurrency`` of
    them. A run with other rows, more ``attempts``, longer answers or a larger budget goes on in the same folder.

    Args:
        rows: labelled rows, in any form that :func:`guardreasoner_training.rows.read_rows` reads. Labels that are missing, or
            were filled in by a guard, are the teacher's to decide, and are marked as filled in. Rows with reasoning stay as
            they are; where they have steps for some tasks only, those stay.
        output: the stage's folder: ``rows.jsonl``, ``rejected.jsonl``, ``quality.json``, ``answers.jsonl`` and, last,
            ``figures.json``.
        teacher: which one, how it is asked and what it may cost.
        format: what it writes: steps and answers, or a label and its critique.
        restart: rebuild everything from the answers that were paid for; they stay.
        report: is told the progress, a line at a time.
        patience: with a teacher that is out or too busy: how often it is asked again, and the pauses; None: the usual one.

    Returns:
        the quality report, as in ``quality.json``.

    Raises:
        ConfigurationError: the teacher cannot be asked like this: address, key, model, prices.
        InputError: rows that cannot be read; an output folder of another teacher or format; a budget that does not last, or a
            teacher that answers no more: what is missing, and how to go on; fewer good answers than
            ``teacher.least_accepted``.
        KeyboardInterrupt: Ctrl-C; what was answered is kept.

    Example:
        >>> from pathlib import Path
        >>> from guardreasoner_training.recipe import SynthesisSettings
        >>> from guardreasoner_training.synthesis import synthesize
        >>> teacher = SynthesisSettings(base_url="http://localhost:8000/v1", model="my-teacher")
        >>> quality = synthesize(Path("mine.jsonl"), Path("reasoning"), teacher)  # doctest: +SKIP
    """
    if format == "labels":
        raise ConfigurationError("format: 'labels' has no reasoning to write; use 'guardreasoner' or 'thinkguard'")
    with open_stage(
        "synthesize",
        output,
        # Not the rows: an answer is known by its question. Another teacher or wording asks, and pays for, everything again.
        inputs={},
        settings={
            "format": format,
            "teacher": {"model": teacher.model},
            "wording": sha256(wording(format).encode()).hexdigest()[:16],
        },
        restart=restart,
        keep=(ANSWERS,),
    ) as stage:
        made_from = {"rows_hash": content_hash("rows", rows), "attempts": teacher.attempts, "max_tokens": teacher.max_tokens}
        if stage.figures is not None and _is_done(stage.figures, made_from):
            _check_enough(stage.figures, teacher, output)
            return stage.figures
        stage.undo()  # what is there is of other rows, or of fewer tries
        examples = list(read_examples(rows, format))
        if not examples:
            raise InputError(str(rows), "has no labelled row that this format has an answer for", "label some rows")
        asked = [row for row in examples if tasks_without_steps(row, format)]
        with Lines(output / ANSWERS, durable=True) as lines:
            ledger = Ledger(lines, teacher, format)
            if ledger.spent.damaged:
                report(f"{output / ANSWERS}: damaged lines, left out: {ledger.spent.damaged:,}; their rows are asked again")
            try:
                asyncio.run(ask_all(_differing(asked, ledger), ledger, teacher, format, report, patience=patience))
            except StoppedError as stopped:
                _write(stage, examples, ledger, teacher, format, report)
                problem = f"{stopped.problem}; {_left(asked, ledger, teacher)}, {output / ROWS} holds the others"
                fix = f"{stopped.fix} and run the same command again: nothing is asked twice"
                raise InputError(stopped.field, problem, fix) from None
            except KeyboardInterrupt:
                report(f"stopped: {_left(asked, ledger, teacher)}; run the same command again to go on")
                raise
            quality = _write(stage, examples, ledger, teacher, format, report)
        _check_enough(quality, teacher, output)
        return stage.finish(quality | made_from)


def _is_done(figures: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether an earlier run leaves nothing to do: the same rows, and none rejected that may be asked again."""
    settled = not figures["rejected"] or (
        figures["attempts"] >= wanted["attempts"] and figures["max_tokens"] == wanted["max_tokens"]
    )
    return settled and bool(figures["rows_hash"] == wanted["rows_hash"])


def _check_enough(quality: dict[str, Any], teacher: SynthesisSettings, output: Path) -> None:
    """See that a teacher that has refused most of the rows does not go unnoticed.

    Raises:
        InputError: fewer rows than wanted have a good answer.
    """
    accepted, asked = quality["accepted"], quality["accepted"] + quality["rejected"]
    reasons = output / REJECTED
    if not accepted and not quality["kept"]:
        raise InputError(str(output), "no answer could be used", f"see the reasons in {reasons}; try another teacher")
    if accepted < teacher.least_accepted * asked:
        raise InputError(
            "synthesize.least_accepted",
            f"only {accepted:,} of {asked:,} rows ({accepted / asked:.1%}) have an answer that can be used, fewer than "
            f"{teacher.least_accepted:.1%}",
            f"see the reasons in {reasons}; try another teacher, or set it lower to train on these rows alone",
        )


def _differing(rows: Sequence[TrainingRow], ledger: Ledger) -> list[TrainingRow]:
    """One row of each question."""
    found: dict[str, TrainingRow] = {}
    for row in rows:
        found.setdefault(ledger.key(row), row)
    return list(found.values())


def _write(
    stage: Stage,
    examples: Sequence[TrainingRow],
    ledger: Ledger,
    teacher: SynthesisSettings,
    format: Format,
    report: Callable[[str], None],
) -> dict[str, Any]:
    """Write what there is, complete or not."""
    made: list[TrainingRow] = []
    written: list[TrainingRow] = []
    rejected: dict[str, str] = {}
    tries: dict[str, int] = {}
    lines = []
    for row in examples:
        if not tasks_without_steps(row, format):
            written.append(row)
            continue
        tried = ledger.of(row)
        tries[ledger.key(row)] = tried.tries
        good = None if tried.accepted is None else examine_answer(tried.accepted, "stop", row, format)
        if isinstance(good, Accepted):
            made.append(_completed(row, good, format))
            written.append(made[-1])
        elif good or (tried.reasons and not tried.open(teacher.attempts)):
            rejected[row.id] = good or tried.reasons[-1]
            lines.append({"id": row.id, "tries": tried.tries, "reasons": tried.reasons, "answer": tried.last})
    quality = quality_of(
        made,
        len(written) - len(made),
        rejected,
        ledger.spent,
        [count for count in tries.values() if count],
        Prices(teacher.price_input, teacher.price_output),
        format,
    )
    write_rows(stage.output / ROWS, written)
    write_atomic(stage.output / REJECTED, "".join(f"{json_text(line)}\n" for line in lines).encode())
    write_json(stage.output / QUALITY, quality)
    report(quality_text(quality))
    return quality


def _completed(row: TrainingRow, good: Accepted, format: Format) -> TrainingRow:
    """The row with its answer; of the tasks that have steps already, those stay."""
    known = truth(row)
    labels = {**row.labels, **good.labels}
    filled = tuple(task for task in TASKS if task in labels and task not in known)
    whole = replace(row, labels=labels, filled=filled, output=good.output)
    own = {task: row.reasoning[task] for task in tasks_of(row.exchange, format) if row.reasoning.get(task)}
    if own:
        merged = replace(whole, output=None, reasoning={**steps_in(good.output), **own})
        whole = replace(whole, output=output_of(merged, format))
    return whole


def _left(asked: Sequence[TrainingRow], ledger: Ledger, teacher: SynthesisSettings) -> str:
    left = sum(ledger.of(row).open(teacher.attempts) for row in asked)
    return f"{left:,} of {len(asked):,} rows are not answered yet"
