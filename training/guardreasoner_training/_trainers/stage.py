"""A stage that trains, from its data to its figures: R-SFT and HS-DPO pass what is their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from guardreasoner_sdk.data.atomic import read_json
from guardreasoner_training._trainers.arguments import Layout, identity, layout
from guardreasoner_training._trainers.model import load_tokenizer, save_guard
from guardreasoner_training._trainers.training import (
    Settings,
    begun,
    figures_of,
    from_main,
    on_this_machine,
    processes,
    spread_note,
    trained,
)
from guardreasoner_training.formats import end_id
from guardreasoner_training.recipe import Recipe

__all__ = ["train_stage"]


def train_stage(
    name: str,
    asked: Settings,
    inputs: Mapping[str, Path | str],
    output: Path,
    recipe: Recipe,
    *,
    unit: str,
    title: str,
    values: tuple[str, ...] = (),
    made_of: Mapping[str, Any],
    arguments: Callable[[Settings, Layout], Any],
    encode: Callable[[Path, Any], None],
    trainer: Callable[[Any, Path, Any, Settings], Any],
    restart: bool,
    report: Callable[[str], None],
) -> dict[str, Any]:
    """Encode the data once, train on it, and save the guard and its figures; in one process or in many.

    Args:
        name: of the stage.
        asked: the recipe's settings of the stage.
        inputs: what it reads, by the name of the argument; ``base`` is the model it starts from.
        output: the stage's folder.
        recipe: every setting.
        unit: what the data is counted in, as people are told it.
        title: of the picture of the loss.
        values: names in the log that are reported beside the loss.
        made_of: what changes the outcome beside the settings that every stage has.
        arguments: makes the trainer's arguments, for the settings and the spread on this machine.
        encode: writes the data to a folder as token ids, with a tokenizer.
        trainer: makes the trainer, from its arguments, the file of the encoded data, a tokenizer and the settings.
        restart: throw away what an earlier run left.
        report: is told lines about the progress.

    Raises:
        InputError: the data cannot be used, or the folder cannot.
        ConfigurationError: the model or the machine cannot do what the recipe says, or memory ran out.
    """
    settings = on_this_machine(asked)
    spread = layout(name, settings, processes())
    with begun(
        name,
        output,
        recipe,
        settings,
        inputs=inputs,
        identity={
            **recipe.model_dump(include={"format", "rendering", "max_tokens", "seed"}),
            **made_of,
            name: identity(asked),
        },
        restart=restart,
        arguments=lambda: arguments(settings, spread),
        report=report,
    ) as (stage, args):
        if stage.figures is not None:
            return stage.figures
        state, base = args.distributed_state, inputs["base"]
        if state.is_main_process and (note := spread_note(settings, spread)):
            report(note)
        tokenizer = load_tokenizer(base, recipe)
        folder = output / "encoded"
        data = folder / "rows.arrow"
        with state.main_process_first():
            if not data.exists():
                encode(folder, tokenizer)
        counts = read_json(folder / "counts.json")
        if state.is_main_process:
            report(f"{counts['rows']:,} {unit}, {counts['tokens']:,} tokens; {counts['too_long']:,} {unit} too long")
        ends = [end_id(tokenizer, recipe.rendering)]
        log = trained(
            lambda: trainer(args, data, tokenizer, settings),
            lambda done: save_guard(done, output, base=base, recipe=recipe, settings=settings, ends=ends),
            *(args, name, recipe, settings, report),
        )
        figures = None
        if state.is_main_process:
            figures = stage.finish({**counts, "epochs": settings.epochs, **figures_of(log, output, title, values)})
        return dict(from_main(state, figures))
