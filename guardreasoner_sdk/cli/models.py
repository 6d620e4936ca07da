"""``guardreasoner models``: the catalogue."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer

from guardreasoner_sdk.catalog import BACKENDS, ELSEWHERE, ModelInfo, select_models
from guardreasoner_sdk.cli.terminal import console, note, write, write_json

__all__ = ["models"]

_COLUMNS = (
    *("model", "context", "licence", "runs here by", "dialect", "backends", "source", "parameters", "languages", "judges"),
    *("reasons", "own policy", "wire format"),
)
_SHOWN = 4
"""So many of the columns a terminal shows: they fit into 80 characters."""

_BLANK = "not stated"
_WORDS = {"prompt_harmfulness": "prompt", "response_refusal": "refusal", "response_harmfulness": "response"}


def models(
    task: Annotated[str | None, typer.Option(help="What it judges: prompt, refusal or response.")] = None,
    language: Annotated[str | None, typer.Option(help="A language that its authors name, such as de.")] = None,
    licence: Annotated[str | None, typer.Option(help="How its licence begins, such as apache-2.0.")] = None,
    parameters: Annotated[float | None, typer.Option(help="Most parameters, in billions.")] = None,
    reasons: Annotated[bool, typer.Option("--reasons", help="It can write down how it came to its verdict.")] = False,
    own_policy: Annotated[bool, typer.Option("--own-policy", help="It can be given a policy of yours.")] = False,
    runs_here: Annotated[bool, typer.Option("--runs-here", help="An engine that runs it is installed.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print a table for a page.")] = False,
) -> None:
    """List the models known by name that can do what is asked for, and what can run them here.

    In a pipe: one line each, with tabs between the columns, and more of them.
    """
    chosen = select_models(
        task=task,
        language=language,
        licence=licence,
        parameters=parameters,
        reasons=reasons or None,
        takes_policy=own_policy or None,
        runs_here=runs_here or None,
    )
    if as_markdown:
        write("\n".join(_markdown(chosen)))
        return
    rows = [_described(model) for model in chosen]
    if as_json:
        write_json(rows, indent=2)
        return
    if not rows:
        note("no model of the catalogue is all of that")
    out = console()
    lines = [_cells(row) for row in rows]
    if not out.is_terminal:
        for line in (_COLUMNS, *lines):
            write("\t".join(line))
        return
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in _COLUMNS[:_SHOWN]:
        table.add_column(column, overflow="fold", no_wrap=column == "model")
    for line in lines:
        table.add_row(*line[:_SHOWN])
    out.print(table)
    absent = [backend for backend in BACKENDS.values() if backend.missing]
    if any("remote" in row["ready"] for row in rows):
        out.print("remote: a server that runs the model, named by --base-url", style="dim")
    if absent:
        out.print(f"not installed: {', '.join(backend.name for backend in absent)}; see guardreasoner doctor", style="dim")


def _markdown(chosen: Sequence[ModelInfo]) -> Iterator[str]:
    """The table of the documentation: what does not depend on the machine."""
    yield "| model | billions | judges | reasons | own policy | languages | licence | context | dialect | runs on |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for model in chosen:
        many = {"mul": "over 50"}.get("".join(model.languages))
        languages = many or (" ".join(model.languages) if len(model.languages) < 10 else f"{len(model.languages)}")
        engines = ", ".join(name for name in model.weights if name != "remote") or "a server"
        cells = (
            *(f"`{model.name}`", _billions(model.parameters), ", ".join(_WORDS[task] for task in model.tasks)),
            *("yes" if model.reasons else "", "yes" if model.takes_policy else "", languages or _BLANK),
            *(model.licence or _BLANK, _BLANK if model.context is None else f"{model.context:,}"),
            *(f"`{model.dialect}`" if model.dialect else "", engines),
        )
        yield f"| {' | '.join(cells)} |"


def _billions(parameters: float | None) -> str:
    return _BLANK if parameters is None else f"{parameters:g}"


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    ready = ", ".join(row["ready"]) or f"no: {row['why_not']}"
    return (
        *(row["name"], f"{row['context'] or _BLANK}", row["licence"] or _BLANK, ready),
        *(row["dialect"] or "-", ", ".join(row["weights"]), row["source"], _billions(row["parameters"])),
        *(" ".join(row["languages"]) or "-", ", ".join(_WORDS[task] for task in row["tasks"])),
        *("yes" if row["reasons"] else "no", "yes" if row["takes_policy"] else "no", row["wire_format"] or "-"),
    )


def _described(model: ModelInfo) -> dict[str, Any]:
    ready = [backend for backend in model.weights if not BACKENDS[backend].missing]
    # A server may run any of them, wherever it is: that says nothing about this machine.
    here = [backend for backend in ready if backend not in ELSEWHERE]
    # The first backend is the one to install first.
    obstacle = _obstacle(next(iter(model.weights)))
    if "hosted" in ready:
        obstacle = "a service of its vendor's, which wants a key"
    if "remote" in ready:
        obstacle += "; a server can run it: --base-url"
    return {
        "name": model.name,
        "dialect": model.dialect,
        "context": model.context,
        "licence": model.licence,
        "source": model.source,
        "parameters": model.parameters,
        "languages": list(model.languages),
        "facts": dict(model.facts),
        "tasks": list(model.tasks),
        "reasons": model.reasons,
        "takes_policy": model.takes_policy,
        "wire_format": model.wire_format,
        "weights": dict(model.weights),
        "ready": ready,
        "runs_here": bool(here),
        "why_not": None if here else obstacle,
    }


def _obstacle(name: str) -> str:
    """Why a backend cannot run here. ``guardreasoner doctor`` says more."""
    return f"{name} needs {', '.join(BACKENDS[name].missing)}"
