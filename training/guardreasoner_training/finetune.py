"""Fine-tune a guard on your own rows: checked, trained, measured before and after, exported, with one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from guardreasoner_sdk.catalog import MODELS
from guardreasoner_sdk.data.atomic import write_json
from guardreasoner_sdk.data.columns import Columns
from guardreasoner_sdk.dialects.base import Dialect
from guardreasoner_sdk.dialects.families import find_dialect
from guardreasoner_sdk.errors import InputError
from guardreasoner_training.export import guard_dialect, is_export
from guardreasoner_training.manifest import MANIFEST
from guardreasoner_training.mining import SELF_PAIRS
from guardreasoner_training.pipeline.run import Run, base_of, describe_base
from guardreasoner_training.pipeline.start import check_base
from guardreasoner_training.recipe import Recipe, ScratchSettings, load_recipe, override

__all__ = ["SCRATCH", "finetune", "finetune_recipe"]

SCRATCH: Final = "scratch"
"""The base that is made here: a few million random weights, to try things out."""

# One's own rows: all of them, under the names that they have, and none that is also measured on.
_OWN_ROWS: Final[Mapping[str, Any]] = {
    "data.source": None,
    "data.source_from_file": False,
    "data.max_characters": None,
    "data.max_rows": None,
    "data.per_source": None,
    "data.per_prompt": None,
    "data.per_labels": None,
    "data.dev_share": 0.1,
    "data.response_dev_share": None,
    "data.broken": "error",
    "data.leaks": "error",
    "data.incomplete": "fill",
    "data.steps": "derive",
    "mine.ensemble": [],
}
# A model that was trained before takes smaller steps than random weights do.
_TRAINED_BASE: Final[Mapping[str, Any]] = {"rsft.learning_rate": 2e-4, "hsdpo.learning_rate": 2e-5}
# And all weights at once take smaller ones than adapters do: the paper's.
_ALL_WEIGHTS: Final[Mapping[Literal["rsft", "hsdpo"], float]] = {"rsft": 5e-5, "hsdpo": 5e-6}


def finetune_recipe(
    base: str | None = None,
    *,
    recipe: str | Path | None = None,
    changes: Mapping[str, Any] | None = None,
    tuning: str | None = None,
    gpu: bool,
) -> Recipe:
    """The settings of a fine-tuning.

    Args:
        base: what is trained: a name of the SDK's catalogue, a folder, a model of the hub, or ``scratch``. None: the recipe's
            own; without a recipe ``guardreasoner-1b`` on a GPU, and ``scratch`` without one.
        recipe: a recipe's name or file, taken as it is but for ``base``. None: adapters on one GPU (``lora-1gpu``), or without
            a GPU, and for a base from scratch, full weights of a small model (``laptop``), on all rows given.
        changes: settings by dotted name, which have the last word.
        tuning: ``lora`` or ``full``; None: the recipe's. Where all weights are trained by a recipe for adapters, its learning
            rates are lowered to the paper's.
        gpu: whether there is one.

    Raises:
        ConfigurationError: a recipe or a setting is unknown or wrong; or adapters are to be trained on random weights.

    Example:
        >>> from guardreasoner_training.finetune import finetune_recipe
        >>> recipe = finetune_recipe("my-small-guard", changes={"rsft.epochs": 1}, gpu=False)
        >>> recipe.name, recipe.rsft.epochs
        ('laptop', 1.0)
    """
    adapters = gpu and base != SCRATCH
    given = load_recipe(recipe if recipe is not None else "lora-1gpu" if adapters else "laptop")
    values: dict[str, Any] = {}
    if recipe is None:
        values |= _OWN_ROWS
        base = base or ("guardreasoner-1b" if gpu else SCRATCH)
        if not gpu and base != SCRATCH:
            values |= _TRAINED_BASE
    if base == SCRATCH:
        if not isinstance(given.base, ScratchSettings):
            values["base"] = ScratchSettings(positions=given.max_tokens).model_dump()
    elif base is not None:
        values["base"] = base
    if tuning is not None:
        values |= {"rsft.tuning": tuning, "hsdpo.tuning": tuning}
    # What the user says comes last: a value of the defaults above never hides it.
    said = dict(changes or {})
    made = override(given, values | said)
    check_base(made)
    return override(made, _lowered(given, made) | said)


def _lowered(given: Recipe, made: Recipe) -> dict[str, Any]:
    """The learning rates of stages that were meant for adapters, and train all weights of a trained base now."""
    if isinstance(made.base, ScratchSettings):
        return {}
    return {
        f"{stage}.learning_rate": min(rate, getattr(made, stage).learning_rate)
        for stage, rate in _ALL_WEIGHTS.items()
        if getattr(given, stage).tuning != "full" and getattr(made, stage).tuning == "full"
    }


def finetune(
    rows: Sequence[Path],
    output: Path,
    recipe: Recipe,
    *,
    columns: Columns | None = None,
    benchmarks: Sequence[str] = (),
    mine: bool = False,
    restart: str | None = None,
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Fine-tune a guard.

    All rows are checked before anything is trained. Some are held out, and the guard is measured on them before and after.
    Started again, it goes on where it was cut off.

    Args:
        rows: files and folders of labelled rows.
        output: the folder of the finished guard; the training itself is kept beside it, in ``<output>.training``.
        recipe: all settings; :func:`finetune_recipe` has sensible ones. With a teacher in it (``synthesize``), that writes the
            reasoning of rows without; else it is derived from their labels.
        columns: where files of other columns have texts and labels.
        benchmarks: what to measure on beside the rows held out: names of the paper's benchmarks, files, or folders of them.
        mine: find hard rows after R-SFT, and train on them by HS-DPO.
        restart: a stage; it and those after it are redone. None: none.
        report: is told how far it is.

    Returns:
        ``systems``: figures by name (``before``, where the base is a guard, then after each training), ``table`` as text,
        ``guard``: the folder of the finished guard.

    Raises:
        InputError: the rows have errors, each with its line; a folder holds something else.
        ConfigurationError: the recipe, the base or the machine cannot do it.
        MissingExtraError: the extra ``train`` is not installed.

    Example:
        >>> from pathlib import Path
        >>> from guardreasoner_training.finetune import finetune, finetune_recipe
        >>> recipe = finetune_recipe("guardreasoner-1b", gpu=True)
        >>> made = finetune([Path("mine.jsonl")], Path("my-guard"), recipe)  # doctest: +SKIP
    """
    _check_output(output)
    dialect = _spoken(recipe)
    stages = [
        "prepare",
        *(["synthesize"] if recipe.synthesize is not None else []),
        *(["base"] if isinstance(recipe.base, ScratchSettings) else []),
        *(["evaluate-before"] if dialect is not None else []),
        *("rsft", "evaluate-rsft"),
        *(["mine", "hsdpo", "evaluate-hsdpo"] if mine else []),
        "export",
    ]
    run = Run(
        _beside(output),
        recipe,
        data=rows,
        columns=columns,
        benchmarks=benchmarks,
        stages=stages,
        restart=restart,
        report=report,
    )
    file, measured = run.prepare()
    run.check(file)
    if not measured:
        report("no row was held out: nothing is measured; raise data.dev_share, or name --benchmarks")
    file = run.synthesize(file)
    base = run.base(file)
    systems: dict[str, Any] = {}
    if dialect is not None and measured:
        systems["before"] = run.evaluate("before", "before", base, measured, dialect=dialect)
    guard = run.rsft("rsft", file, base)
    done = ["R-SFT"]
    if measured:
        systems["after R-SFT"] = run.evaluate("after R-SFT", "rsft", guard, measured)
    if mine and (preferred := run.hsdpo("hsdpo", run.mine(file, {"self": guard}) / SELF_PAIRS, guard)) is not None:
        guard = preferred
        done.append("HS-DPO")
        if measured:
            systems["after HS-DPO"] = run.evaluate("after HS-DPO", "hsdpo", guard, measured)
    table = run.table(systems)
    run.export(guard, output, measured, {"base": describe_base(recipe), "stages": done})
    write_json(output / MANIFEST, run.manifest.published())
    return {"systems": systems, "table": table, "guard": str(output)}


def _check_output(output: Path) -> None:
    """Now, and not behind hours of training."""
    if output.is_file():
        raise InputError("--output", f"{output} is a file", "name a folder")
    if output.is_dir() and any(output.iterdir()) and not is_export(output):
        raise InputError("--output", f"{output} holds something else", "name another folder")


def _beside(output: Path) -> Path:
    """The folder of the training itself, whatever way the guard's is named: ``.`` has no name to put something behind."""
    named = output if output.name not in ("", "..") else output.resolve()
    if not named.name:
        raise InputError("--output", f"{output} can be no folder of a guard", "name another folder")
    return named.with_name(f"{named.name}.training")


def _spoken(recipe: Recipe) -> Dialect | None:
    """How the base is asked, where it is a guard already; None where it is none, so that there is nothing to measure."""
    if isinstance(recipe.base, ScratchSettings):
        return None
    folder = Path(recipe.base)
    if (folder / "guard.json").is_file():
        return guard_dialect(folder)
    info = next((info for info in MODELS.values() if base_of(recipe.base) == info.weights.get("transformers")), None)
    return find_dialect(info.dialect) if info is not None and info.dialect is not None else None
