"""The commands of training, in the order of the help. What they need is imported when they run."""

from __future__ import annotations

import typer

from guardreasoner_sdk.cli.terminal import report_errors
from guardreasoner_training.cli.export import export
from guardreasoner_training.cli.finetune import finetune
from guardreasoner_training.cli.train import train

__all__ = ["app"]

app = typer.Typer()
app.command()(report_errors(finetune))
app.command()(report_errors(export))
app.add_typer(train, name="train")
