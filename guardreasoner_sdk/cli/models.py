"""``guardreasoner models``: the catalogue."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from guardreasoner_sdk.catalog import BACKENDS, MODELS, ModelInfo
from guardreasoner_sdk.cli.terminal import console, write, write_json

__all__ = ["models"]

_COLUMNS = ("model", "context", "licence", "runs here by", "dialect", "backends", "source")
_SHOWN = 4
"""So many of the columns a terminal shows: they fit into 80 characters."""


def models(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the models known by name, and what can run them here.

    In a pipe: one line each, with tabs between the columns, and more of them.
    """
    rows = [_described(model) for model in MODELS.values()]
    if as_json:
        write_json(rows, indent=2)
        return
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


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    ready = ", ".join(row["ready"]) or f"no: {row['why_not']}"
    return (
        *(row["name"], f"{row['context']}", row["licence"], ready),
        *(row["dialect"] or "-", ", ".join(row["weights"]), row["source"]),
    )


def _described(model: ModelInfo) -> dict[str, Any]:
    ready = [backend for backend in model.weights if not BACKENDS[backend].missing]
    # A server may run any of them, wherever it is: that says nothing about this machine.
    here = [backend for backend in ready if backend != "remote"]
    # The first backend is the one to install first.
    obstacle = _obstacle(next(iter(model.weights)))
    if "remote" in ready:
        obstacle += "; a server can run it: --base-url"
    return {
        "name": model.name,
        "dialect": model.dialect,
        "context": model.context,
        "licence": model.licence,
        "source": model.source,
        "weights": dict(model.weights),
        "ready": ready,
        "runs_here": bool(here),
        "why_not": None if here else obstacle,
    }


def _obstacle(name: str) -> str:
    """Why a backend cannot run here. ``guardreasoner doctor`` says more."""
    return f"{name} needs {', '.join(BACKENDS[name].missing)}"
