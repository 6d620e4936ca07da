"""The page of a run: one file that asks the network for nothing, and shows texts of rows as text and nothing else."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from guardreasoner_sdk import __version__
from guardreasoner_sdk._text import escape_unsafe
from guardreasoner_sdk.errors import MissingExtraError
from guardreasoner_sdk.evaluation.metrics import RECALLS, Measures
from guardreasoner_sdk.evaluation.rows import Prediction, task_name
from guardreasoner_sdk.evaluation.summary import Collected, Error, Summary
from guardreasoner_sdk.verdict import LABELS, Finding, Task, Verdict

if TYPE_CHECKING:
    from guardreasoner_sdk.evaluation.report import Standing

__all__ = ["MOST_CHARACTERS", "render"]

MOST_CHARACTERS = 4_000
"""How much of a text of an error the page holds."""

_OPENING = 160


def render(summary: Summary, tables: Sequence[Standing], run: Collected, *, journal: str, batched: bool) -> str:
    """Make the page.

    Args:
        run: what was collected of it: predictions for the plots, and errors.
        journal: name of the file that has every verdict.

    Raises:
        MissingExtraError: jinja2, matplotlib or scikit-learn is not installed.
    """
    try:
        from jinja2 import Environment, StrictUndefined
        from markupsafe import Markup
    except ImportError:
        raise MissingExtraError("eval", "Reports of an evaluation") from None
    page = Environment(autoescape=True, undefined=StrictUndefined)
    page.filters |= {"shown": _shown, "line": lambda value: escape_unsafe(str(value)), "task": task_name}
    kept = run.errors()
    digest = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    errors = [_error(error) for error in kept]
    rendered: str = page.from_string(
        (Path(__file__).parent / "report.html.j2").read_text("utf-8")
    ).render(
        summary=summary,
        standings=tables,
        measured=list(summary.measured()),
        recalls=[f"{recall:.2f}" for recall in RECALLS],
        costs=summary.costs(),
        robustness=[] if summary.robustness is None else list(summary.robustness.sets()),
        batched=batched,
        notes=list(summary.notes()),
        sections=[
            section._replace(plots=[(caption, Markup(svg)) for caption, svg in section.plots])  # noqa: S704 - drawn here
            for section in _sections(summary, run.predictions)
        ],
        errors=errors,
        errors_in_all=sum(count for place, count in run.counts.items() if run.judged(*place[:2])),
        filters=_filters(kept),
        most=run.most,
        most_characters=MOST_CHARACTERS,
        cut=any(error.cut for error in errors),
        journal=journal,
        script=Markup(_SCRIPT),  # noqa: S704 - a constant
        script_hash=f"sha256-{digest}",
        version=__version__,
    )
    return rendered


class _Section(NamedTuple):
    benchmark: str
    task: Task
    labels: tuple[str, str]
    strict: Measures
    paper: Measures
    plots: list[tuple[str, str]]


class _Shown(NamedTuple):
    """An error as the page shows it."""

    benchmark: str
    task: Task
    kind: str
    id: str
    score: float | None
    opening: str
    truth: str
    said: str
    cause: str | None
    texts: list[tuple[str, str]]
    findings: Mapping[Task, Finding]
    steps: list[str]
    cut: bool


def _sections(summary: Summary, predictions: Sequence[Prediction]) -> Iterator[_Section]:
    from guardreasoner_sdk.evaluation.report.plots import precision_recall_plot, reliability_plot

    by_place: dict[tuple[str, Task], list[Prediction]] = {}
    for entry in predictions:
        by_place.setdefault((entry.benchmark, entry.task), []).append(entry)
    for number, (benchmark, of) in enumerate(summary.measured(), 1):
        if of.strict is None or of.paper is None:
            continue
        own, name = by_place[benchmark.benchmark, of.task], f"{escape_unsafe(benchmark.benchmark)}, {task_name(of.task)}"
        recall, precision = of.strict.recall, of.strict.precision
        at = None if recall is None or precision is None else (recall, precision)
        curve = precision_recall_plot(own, name=f"pr{number}", title=f"Precision and recall: {name}", at=at)
        promise = reliability_plot(own, name=f"rel{number}", title=f"Reliability: {name}")
        plots = [("Precision over recall", curve), ("Reliability: is a score what it promises?", promise)]
        positive, negative = LABELS[of.task]
        yield _Section(
            *(benchmark.benchmark, of.task, (positive, negative), of.strict, of.paper),
            plots=[(caption, svg) for caption, svg in plots if svg],
        )


def _error(error: Error) -> _Shown:
    row, verdict = error.row, error.verdict
    finding = verdict.findings.get(error.task)
    exchange = row.exchange
    whole = [(f"Earlier: {turn.role}", turn.content) for turn in exchange.history]
    whole.append(("Prompt", exchange.prompt))
    if exchange.response is not None:
        whole.append(("Response", exchange.response))
    steps = [step.text for step in verdict.reasoning if step.task in (error.task, None)] or _raw(verdict)
    return _Shown(
        benchmark=row.benchmark,
        task=error.task,
        kind=error.kind,
        id=row.id,
        score=None if finding is None else finding.score,
        opening=exchange.prompt[:_OPENING],
        truth=LABELS[error.task][0 if row.labels[error.task] else 1],
        said="nothing" if finding is None else finding.label,
        cause=None if finding is None else finding.cause,
        texts=whole,
        findings=verdict.findings,
        steps=steps,
        cut=any(len(content) > MOST_CHARACTERS for content in (*(text for _, text in whole), *steps)),
    )


def _raw(verdict: Verdict) -> list[str]:
    """What a model wrote, where no steps could be made out in it."""
    return [verdict.raw] if verdict.raw else []


def _filters(errors: Sequence[Error]) -> list[tuple[str, list[tuple[str, str]]]]:
    """The choices of each filter, in order of appearance: value and word."""
    benchmarks = dict.fromkeys(error.row.benchmark for error in errors)
    tasks = dict.fromkeys(error.task for error in errors)
    kinds = dict.fromkeys(error.kind for error in errors)
    return [
        ("benchmark", [(name, name) for name in benchmarks]),
        ("task", [(task, task_name(task)) for task in tasks]),
        ("kind", [(kind, kind) for kind in kinds]),
    ]


def _shown(text: str) -> str:
    """A text of a row: not too long, with what would be invisible, or turn the page around, spelled out."""
    lines = "\n".join(escape_unsafe(line) for line in text[:MOST_CHARACTERS].split("\n"))
    left = len(text) - MOST_CHARACTERS
    return f"{lines}\n[… {left:,} more characters]" if left > 0 else lines


_SCRIPT = """
"use strict";
const chosen = [...document.querySelectorAll("select[data-filter]")];
const errors = [...document.querySelectorAll("details.error")];
function apply() {
  let shown = 0;
  for (const error of errors) {
    error.hidden = chosen.some((select) => select.value && error.dataset[select.dataset.filter] !== select.value);
    shown += error.hidden ? 0 : 1;
  }
  document.getElementById("count").textContent = shown.toLocaleString("en") + " shown";
}
for (const select of chosen) select.addEventListener("change", apply);
if (chosen.length) apply();
"""
