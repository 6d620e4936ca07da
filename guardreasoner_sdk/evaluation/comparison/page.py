"""What a comparison shows: tables on the terminal, ``comparison.json``, and one page that asks the network for nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from guardreasoner_sdk import __version__
from guardreasoner_sdk._text import escape_unsafe
from guardreasoner_sdk.data.atomic import write_atomic, write_json
from guardreasoner_sdk.errors import MissingExtraError
from guardreasoner_sdk.evaluation.comparison.figures import Comparison
from guardreasoner_sdk.evaluation.metrics import Measures
from guardreasoner_sdk.evaluation.rows import task_name
from guardreasoner_sdk.verdict import Task

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["print_comparison", "write_comparison"]


def write_comparison(comparison: Comparison, folder: Path) -> None:
    """Write ``comparison.json`` and ``comparison.html``.

    Args:
        comparison: what was found.
        folder: where to; files of these names are replaced.

    Raises:
        InputError: they cannot be written.
        MissingExtraError: jinja2 is not installed.

    Example:
        >>> from pathlib import Path
        >>> from guardreasoner_sdk import Exchange, Guard
        >>> from guardreasoner_sdk.evaluation import LabelledRow, compare_guards, write_comparison
        >>> from guardreasoner_sdk.testing import ScriptedJudge, judgement
        >>> rows = [LabelledRow("1", "mine", Exchange("How do I bake bread?"), {"prompt_harmfulness": False})]
        >>> strict = Guard(judge=ScriptedJudge({}, otherwise=judgement("harmful")))
        >>> write_comparison(compare_guards({"embedded": Guard(), "strict": strict}, rows, bootstrap=0), Path("comparison"))
        >>> Path("comparison/comparison.html").exists()
        True
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError:
        raise MissingExtraError("eval", "Reports of a comparison") from None
    page = Environment(autoescape=True, undefined=StrictUndefined)
    filters: dict[str, Any] = {"line": lambda value: escape_unsafe(str(value)), "task": task_name, "p": _p}
    page.filters |= filters
    source = (Path(__file__).parent / "comparison.html.j2").read_text("utf-8")
    rendered: str = page.from_string(source).render(
        comparison=comparison, notes=comparison.notes(), tables=_tables(comparison), version=__version__
    )
    write_json(folder / "comparison.json", {"version": __version__, **comparison.model_dump(mode="json")})
    write_atomic(folder / "comparison.html", rendered)


def print_comparison(out: Console, comparison: Comparison) -> None:
    """Print the figures.

    Args:
        out: where to.
        comparison: what was found.
    """
    from rich.table import Table

    for heading, lines in _tables(comparison):
        table = Table(title=escape_unsafe(heading), title_justify="left")
        table.add_column("guard", no_wrap=True)
        for head in ("rows", "F1", "95 %", "precision", "recall", "false alarms", "undetermined"):
            table.add_column(head, justify="right")
        for name, of in lines:
            interval = "-" if of.f1_interval is None else f"{of.f1_interval.low:.1f}-{of.f1_interval.high:.1f}"
            figures = [_number(figure) for figure in (of.precision, of.recall, of.false_alarm_rate)]
            table.add_row(escape_unsafe(name), f"{of.rows:,}", _number(of.f1), interval, *figures, f"{of.undetermined:,}")
        out.print(table)
    for task in comparison.tasks:
        if not task.pairs:
            continue
        table = Table(title=f"{task_name(task.task).capitalize()}: who agrees with whom", title_justify="left")
        table.add_column("guards", no_wrap=True)
        for head in ("agree %", "kappa", "first right", "second right", "p", "p, adjusted"):
            table.add_column(head, justify="right")
        for pair in task.pairs:
            names = escape_unsafe(f"{pair.first} / {pair.second}")
            counts = (f"{pair.first_right:,}", f"{pair.second_right:,}", _p(pair.p), _p(pair.p_adjusted))
            table.add_row(names, _number(pair.agreement), _number(pair.kappa, 2), *counts)
        out.print(table)
    table = Table(title="A check, on this machine", title_justify="left")
    table.add_column("guard", no_wrap=True)
    for head in ("median ms", "p95 ms", "tokens read", "tokens written"):
        table.add_column(head, justify="right")
    for guard in comparison.guards:
        costs = (guard.latency_median, guard.latency_p95, guard.input_tokens, guard.output_tokens)
        table.add_row(escape_unsafe(guard.name), *(_number(cost) for cost in costs))
    out.print(table)
    for note in comparison.notes():
        out.print(escape_unsafe(f"- {note}"))


def _tables(comparison: Comparison) -> list[tuple[str, list[tuple[str, Measures]]]]:
    """A table for each task, and for each benchmark where there are several: heading, and a line for each guard."""
    found: dict[tuple[Task, str | None], list[tuple[str, Measures]]] = {}
    several = len(comparison.benchmarks) > 1
    for guard in comparison.guards:
        for measures in (*guard.pooled, *(guard.measures if several else ())):
            found.setdefault((measures.task, measures.benchmark), []).append((guard.name, measures))
    order = [task.task for task in comparison.tasks]
    whole = ", all rows" if several else ""
    return [
        (f"{task_name(task).capitalize()}{whole if name is None else f', {name}'}", found[task, name])
        for task, name in sorted(found, key=lambda place: order.index(place[0]))
    ]


def _number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"
