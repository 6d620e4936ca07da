"""``guardreasoner export``: a trained guard as files for every engine, checked to answer as it does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from guardreasoner_sdk.cli.terminal import write
from guardreasoner_training.cli.train import columns_of, prepare_training, tell

if TYPE_CHECKING:
    from guardreasoner_sdk.exchange import Exchange

__all__ = ["export"]


def export(
    folder: Annotated[Path, typer.Argument(help="A trained guard's folder, or that of an adapter with a guard.json.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to make.")],
    gguf: Annotated[
        list[str] | None,
        typer.Option("--gguf", help="Type of a GGUF file: f32, f16, bf16, q8_0, or one of llama.cpp's own; 'none' for none."),
    ] = None,
    rows: Annotated[
        Path | None, typer.Option(help="Held-out rows to compare answers on; default: a few.", rich_help_panel="Check")
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option("--column", help="Of those rows: prompt=question.", rich_help_panel="Check")
    ] = None,
    check: Annotated[int, typer.Option(min=0, help="On how many of them; 0: not at all.", rich_help_panel="Check")] = 16,
    restart: Annotated[bool, typer.Option("--restart", help="Throw away what an earlier export left there.")] = False,
) -> None:
    """Export a trained guard: merged safetensors, GGUF files and a model card.

    The exported files are asked held-out rows, and must answer as the trained guard does.
    """
    prepare_training()
    from guardreasoner_training.export import export as exported

    kinds = [] if gguf == ["none"] else gguf or ["f16", "q8_0"]
    asked = _asked(rows, column, check)
    figures = exported(folder, output, gguf=kinds, rows=asked, card=_told(folder), restart=restart, report=tell)
    write(f"from guardreasoner_sdk import Guard; guard = Guard({str(output)!r})")
    for name in figures["files"]:
        if name.endswith(".gguf"):
            write(f"guard = Guard({str(output / name)!r})")


def _asked(rows: Path | None, column: list[str] | None, check: int) -> list[Exchange]:
    from guardreasoner_training.export import SAMPLES
    from guardreasoner_training.rows import read_rows

    if rows is None:
        return list(SAMPLES[:check])
    found: list[Exchange] = []
    for row in read_rows(rows, columns=columns_of(column)):
        if len(found) >= check:
            break
        found.append(row.exchange)
    return found


def _told(folder: Path) -> dict[str, Any]:
    """What the training noted beside the guard, for the model card."""
    from guardreasoner_sdk.data.run_folder import figures_of, identity_of

    made_from, figures = identity_of(folder), figures_of(folder)
    if made_from is None or figures is None:
        return {}
    settings = made_from["settings"]
    stages = {"rsft": "R-SFT", "hsdpo": "HS-DPO"}
    return {
        "recipe": settings,
        "stages": [title for name, title in stages.items() if name in settings],
        "data": {name: figures[name] for name in ("rows", "pairs", "tokens", "too_long") if name in figures},
    }
