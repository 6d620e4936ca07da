"""A whole training from one recipe: data, reasoning, R-SFT, hard samples, HS-DPO, figures and export.

Every stage has a folder of its own. One that is complete is not done again; one that was cut off goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from guardreasoner_sdk.data.columns import Columns
from guardreasoner_training.mining import PAIRS, SELF_PAIRS
from guardreasoner_training.pipeline.run import Run, Stopped, describe_base
from guardreasoner_training.recipe import Recipe, ScratchSettings

__all__ = ["SYSTEMS", "pipeline", "stages_of"]

SYSTEMS: Final = {
    "baseline": "label-only baseline",
    "rsft": "R-SFT",
    "hsdpo-self": "R-SFT + HS-DPO self",
    "hsdpo-ensemble": "R-SFT + HS-DPO ensemble",
}
"""The guards that a pipeline makes, by the name of their stage, as the table calls them."""


def stages_of(recipe: Recipe) -> list[str]:
    """The stages of a recipe, in order.

    Args:
        recipe: whether it has a teacher, makes its base, and mines with an ensemble; and what it writes: the answers of the
            label-only baseline are a GuardReasoner's, so that a ThinkGuard has none.

    Example:
        >>> from guardreasoner_training.pipeline import stages_of
        >>> from guardreasoner_training.recipe import load_recipe
        >>> "rsft" in stages_of(load_recipe("laptop"))
        True
    """
    members = recipe.mine.ensemble
    left_out = {*(["baseline"] if recipe.format == "thinkguard" else []), *([] if members else ["hsdpo-ensemble"])}
    systems = [name for name in SYSTEMS if name not in left_out]
    return [
        "prepare",
        *(["synthesize"] if recipe.synthesize is not None else []),
        *(["base"] if isinstance(recipe.base, ScratchSettings) else []),
        *(name for name in systems if not name.startswith("hsdpo")),
        *(f"member-{member.name}" for member in members),
        "mine",
        *(name for name in systems if name.startswith("hsdpo")),
        *(f"evaluate-{name}" for name in systems),
        "export",
    ]


def pipeline(
    recipe: Recipe,
    output: Path,
    *,
    data: Sequence[Path] = (),
    columns: Columns | None = None,
    benchmarks: Sequence[str] = (),
    restart: str | None = None,
    until: str | None = None,
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train a guard by a recipe, and the models that it is compared with.

    Started again, it goes on where it was cut off, wherever that was. No benchmark has a say in it: the guard that is exported
    is the last one that the recipe makes.

    Args:
        recipe: all settings.
        output: a folder; each stage has one of its own in it. ``manifest.json`` says all that the training was made of,
            ``table.txt`` and ``table.md`` how good the guards are, ``export`` holds the last one.
        data: files and folders with the rows; empty: what the recipe names.
        columns: where files of other columns have texts and labels.
        benchmarks: names of the paper's benchmarks, files, or folders of them; empty: those of the recipe.
        restart: a stage; it and those after it are redone. None: none.
        until: the last stage to do. The same call without it goes on, and finds complete what was done by hand meanwhile. None:
            all.
        report: is told how far it is.

    Returns:
        ``systems``: figures by name, ``table`` as text, ``guard``: the folder of the exported guard; after a stop at ``until``
        they are empty, and None.

    Raises:
        InputError: data, benchmarks or folders cannot be used as they are; a stage was made with other settings.
        ConfigurationError: the recipe, the base or the machine cannot do it.
        MissingExtraError: the extra ``train`` is not installed.

    Example:
        >>> from pathlib import Path
        >>> from guardreasoner_training.pipeline import pipeline
        >>> from guardreasoner_training.recipe import load_recipe
        >>> recipe = load_recipe("lora-1gpu")
        >>> made = pipeline(recipe, Path("run"), data=[Path("mine.jsonl")])  # doctest: +SKIP
    """
    run = Run(
        output,
        recipe,
        data=data,
        columns=columns,
        benchmarks=benchmarks,
        stages=stages_of(recipe),
        restart=restart,
        until=until,
        report=report,
    )
    try:
        return _done(run)
    except Stopped:
        report(f"stopped after {until}; the same command without --until goes on")
        return {"systems": {}, "table": "", "guard": None}


def _done(run: Run) -> dict[str, Any]:
    recipe, stages, report = run.recipe, run.stages, run.report
    rows, measured = run.prepare()
    run.check(rows)
    rows = run.synthesize(rows)
    run.member_rows(rows)
    base = run.base(rows)
    guards: dict[str, Path] = {}
    if "baseline" in stages:
        guards["baseline"] = run.rsft("baseline", rows, base, labels_only=True)
    guards["rsft"] = run.rsft("rsft", rows, base)
    members = {member.name: run.member(member, base) for member in recipe.mine.ensemble}
    mined = run.mine(rows, {"self": guards["rsft"], **members})
    for name, file in (("hsdpo-self", SELF_PAIRS), ("hsdpo-ensemble", PAIRS)):
        if name not in stages:
            continue
        if (trained := run.hsdpo(name, mined / file, guards["rsft"])) is not None:
            guards[name] = trained
    if not measured:
        report("no row was held out, and no benchmark is named: nothing is measured")
    systems = {
        SYSTEMS[name]: run.evaluate(SYSTEMS[name], name, folder, measured) for name, folder in guards.items() if measured
    }
    table = run.table(systems)
    last = list(guards)[-1]
    done = ["R-SFT"] if last == "rsft" else ["R-SFT", "HS-DPO"]
    output = run.output / "export"
    run.export(guards[last], output, measured, {"base": describe_base(recipe), "stages": done})
    return {"systems": systems, "table": table, "guard": str(output)}
