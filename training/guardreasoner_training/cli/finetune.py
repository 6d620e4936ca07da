"""``guardreasoner finetune``: a guard of your own, from your own rows, with one command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from guardreasoner_sdk.cli.terminal import note, write
from guardreasoner_training.cli.train import changes_of, columns_of, interruptible, prepare_training, tell, with_teacher

__all__ = ["finetune"]

_DATA, _TRAINING = "Rows", "Training"


def finetune(
    rows: Annotated[list[Path], typer.Argument(help="Labelled rows: .jsonl, .csv, .parquet (also .gz), or folders of them.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the finished guard. Run again to go on.")],
    base: Annotated[
        str | None,
        typer.Option(help="What is trained: a model of the catalogue, a folder, a model of the hub, or 'scratch'."),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            help="An OpenAI-compatible server that writes the reasoning of rows without; "
            "its key: the variable named by --set synthesize.api_key_env."
        ),
    ] = None,
    teacher_model: Annotated[str | None, typer.Option(help="The teacher's name there.")] = None,
    mine: Annotated[bool, typer.Option("--mine", help="Find hard rows after R-SFT, and train on them by HS-DPO.")] = False,
    lora: Annotated[
        bool | None, typer.Option("--lora/--full", help="Adapters, or all weights.", rich_help_panel=_TRAINING)
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe", "-r", help="Default: lora-1gpu; laptop without a GPU or from scratch.", rich_help_panel=_TRAINING
        ),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a setting: rsft.epochs=1.", metavar="NAME=VALUE", rich_help_panel=_TRAINING),
    ] = None,
    restart: Annotated[
        str | None,
        typer.Option(help="A stage: it and those after it are redone.", metavar="STAGE", rich_help_panel=_TRAINING),
    ] = None,
    benchmarks: Annotated[
        list[str] | None,
        typer.Option("--benchmarks", help="Measure on these, too: names, files, or folders.", rich_help_panel=_DATA),
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option("--column", help="Which column holds what: prompt=question.", rich_help_panel=_DATA)
    ] = None,
) -> None:
    """Fine-tune a guard on your own rows: checked, trained, measured before and after on rows held out, exported.

    Rows have prompt, response (or none), and labels: prompt_harmful, refusal, response_harmful. Where they have no reasoning
    and there is no teacher, short steps are derived from the labels.
    """
    prepare_training()
    import torch

    from guardreasoner_training.finetune import finetune as finetuned
    from guardreasoner_training.finetune import finetune_recipe

    gpu = torch.cuda.is_available()
    tuning = None if lora is None else "lora" if lora else "full"
    given = finetune_recipe(base, recipe=recipe, changes=changes_of(changes), tuning=tuning, gpu=gpu)
    given = with_teacher(given, teacher, teacher_model)
    if not gpu and isinstance(given.base, str) and not Path(given.base).exists() and given.base.count("/") < 2:
        note(f"there is no GPU here: training {given.base} will take very long; name a small folder, or --base scratch")
    with interruptible(output):
        made = finetuned(
            rows,
            output,
            given,
            columns=columns_of(column),
            benchmarks=benchmarks or [],
            mine=mine,
            restart=restart,
            report=tell,
        )
    if made["table"]:
        write(made["table"])
    write(f"from guardreasoner_sdk import Guard; guard = Guard({made['guard']!r})")
