"""``guardreasoner train``: the stages of a training, one by one or all of them. Needs the extra ``train``."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from guardreasoner_sdk.cli.terminal import ExitCode, note, report_errors, write, write_json
from guardreasoner_sdk.errors import InputError

if TYPE_CHECKING:
    from guardreasoner_sdk.data.columns import Columns
    from guardreasoner_training.recipe import Recipe

__all__ = ["changes_of", "columns_of", "interruptible", "prepare_training", "recipe_of", "tell", "train", "with_teacher"]

train = typer.Typer(
    help="Train a guard: check the data, write reasoning, R-SFT, find hard samples, HS-DPO; or all of it by a recipe.",
    no_args_is_help=True,
)

Output = Annotated[Path, typer.Option("--output", "-o", help="Folder of the stage. Run again to go on.")]
RecipeName = Annotated[str, typer.Option("--recipe", "-r", help="A recipe's name ('train recipes' lists them), or a file.")]
Changes = Annotated[
    list[str] | None, typer.Option("--set", help="Change a setting of the recipe: rsft.epochs=1.", metavar="NAME=VALUE")
]
Columned = Annotated[
    list[str] | None, typer.Option("--column", help="Which column holds what: prompt=question, prompt_harmfulness=toxic.")
]
Restart = Annotated[bool, typer.Option("--restart", help="Throw away what an earlier run left in the folder.")]
_DEFAULT = "lora-1gpu"


def _check(
    rows: Annotated[list[Path], typer.Argument(help="Files or folders of rows: .jsonl, .csv, .parquet (also .gz).")],
    recipe: RecipeName = _DEFAULT,
    changes: Changes = None,
    column: Columned = None,
    benchmarks: Annotated[
        list[str] | None, typer.Option("--benchmarks", help="Benchmarks or files that training must not have seen.")
    ] = None,
    tokenizer: Annotated[str | None, typer.Option(help="A base model, to count its tokens.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Check training data as a whole: labels, duplicates, contradictions, leakage, lengths. Nothing is written.

    Exit codes: 0 usable, 2 not usable as it is.
    """
    if tokenizer is not None:
        prepare_training()
    from guardreasoner_training.checks import check_rows, prepare
    from guardreasoner_training.pipeline.measure import benchmark_files

    given = recipe_of(recipe, changes)
    if benchmarks:
        seen = tuple(benchmark_files(benchmarks))
        given = given.model_copy(update={"data": given.data.model_copy(update={"benchmarks": seen})})
    report = check_rows(rows, given, columns=columns_of(column))
    if tokenizer is not None and not report.errors:
        report = prepare(rows, given, columns=columns_of(column), tokenizer=_tokenizer(tokenizer, given)).report
    if as_json:
        write_json(report.to_json(), indent=2)
    else:
        for line in str(report).splitlines():
            write(_shown(line))
    if report.errors:
        raise typer.Exit(ExitCode.USAGE)


def _synthesize(
    rows: Annotated[Path, typer.Argument(help="Labelled rows.")],
    output: Output,
    teacher: Annotated[
        str | None,
        typer.Option(
            help="Address of an OpenAI-compatible server; its key: the variable named by --set synthesize.api_key_env."
        ),
    ] = None,
    teacher_model: Annotated[str | None, typer.Option(help="The teacher's name there.")] = None,
    recipe: RecipeName = _DEFAULT,
    changes: Changes = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Rebuild everything from the answers that were paid for; they stay.")
    ] = False,
) -> None:
    """Have a teacher write the reasoning of labelled rows. What was paid for is kept, whatever happens.

    Writes rows.jsonl, rejected.jsonl (with the reasons) and quality.json into the folder.
    """
    from guardreasoner_training.synthesis import synthesize

    given = with_teacher(recipe_of(recipe, changes), teacher, teacher_model)
    if given.synthesize is None:
        raise InputError("--teacher", "is missing", "name a server, --teacher http://localhost:8000/v1 --teacher-model NAME")
    figures = synthesize(rows, output, given.synthesize, format=given.format, restart=restart, report=tell)
    write_json(figures, indent=2)


def _rsft(
    rows: Annotated[Path, typer.Argument(help="Rows with reasoning: what 'train synthesize' or a pipeline wrote, or yours.")],
    output: Output,
    base: Annotated[str | None, typer.Option(help="A folder or a model of the hub; default: the recipe's.")] = None,
    recipe: RecipeName = _DEFAULT,
    changes: Changes = None,
    restart: Restart = False,
) -> None:
    """Reasoning supervised fine-tuning, on all GPUs of this machine.

    On several machines: torchrun (or accelerate launch) ... -m guardreasoner_sdk train rsft ... on each of them.
    """
    prepare_training()
    from guardreasoner_training.pipeline.run import base_of
    from guardreasoner_training.rsft import rsft

    given = recipe_of(recipe, changes)
    named = base or given.base
    if not isinstance(named, str):
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            problem = f"is missing, and the recipe {given.name!r} makes its base model, which one process has to do"
            raise InputError("--base", problem, "run this command once without a launcher, or name a folder")
        from guardreasoner_training.scratch import scratch

        folder = output.with_name(f"{output.name}-base")
        scratch(rows, folder, given, restart=restart, report=tell)
        named = str(folder)
    figures = rsft(rows, base_of(named), output, given, restart=restart, report=tell)
    _finish(figures, output)


def _mine(
    rows: Annotated[Path, typer.Argument(help="The rows that the R-SFT model was trained on.")],
    output: Output,
    model: Annotated[
        list[str],
        typer.Option("--model", help="The R-SFT model's folder; then the ensemble's, each NAME=FOLDER as the recipe names it."),
    ],
    recipe: RecipeName = _DEFAULT,
    changes: Changes = None,
    restart: Restart = False,
) -> None:
    """Find the hard rows: those that a model now answers right and now wrong. Writes pairs.jsonl and statistics.json."""
    prepare_training()
    from guardreasoner_training.mining import mine

    named = [("self", "=", one) if Path(one).is_dir() or "=" not in one else one.partition("=") for one in model]
    models = {name: Path(folder) for name, _, folder in named}
    if len(models) < len(model):
        raise InputError("--model", "is given twice with the same name", "name the ensemble's models: --model NAME=FOLDER")
    for name, folder in models.items():
        if not folder.is_dir():
            raise InputError("--model", f"{name}: there is no folder {folder}", "check the path")
    mine(rows, models, output, recipe_of(recipe, changes), restart=restart, report=tell)
    note(f"pairs are in {output / 'pairs.jsonl'}")


def _hsdpo(
    pairs: Annotated[Path, typer.Argument(help="The pairs.jsonl of 'train mine'.")],
    output: Output,
    base: Annotated[Path, typer.Option(help="The R-SFT model's folder.")],
    recipe: RecipeName = _DEFAULT,
    changes: Changes = None,
    restart: Restart = False,
) -> None:
    """Hard-sample DPO, on all GPUs of this machine.

    On several machines: torchrun (or accelerate launch) ... -m guardreasoner_sdk train hsdpo ... on each of them.
    """
    prepare_training()
    from guardreasoner_training.hsdpo import hsdpo

    figures = hsdpo(pairs, base, output, recipe_of(recipe, changes), restart=restart, report=tell)
    _finish(figures, output)


def _pipeline(
    recipe: Annotated[str, typer.Argument(help="A recipe's name, or a TOML file.")],
    output: Output,
    data: Annotated[list[Path] | None, typer.Option("--data", help="Files or folders of rows; default: the recipe's.")] = None,
    benchmarks: Annotated[
        list[str] | None, typer.Option("--benchmarks", help="The paper's benchmarks by name, files, or folders of them.")
    ] = None,
    changes: Changes = None,
    column: Columned = None,
    restart: Annotated[str | None, typer.Option(help="A stage: it and those after it are redone.", metavar="STAGE")] = None,
    until: Annotated[str | None, typer.Option(help="A stage: the last one to do now.", metavar="STAGE")] = None,
) -> None:
    """A whole training by one recipe, with the models that it is compared with. Run again, it goes on where it was cut off.

    manifest.json says all that it was made of, table.md how good the guards are; the folder export holds the last of them.
    """
    prepare_training()
    from guardreasoner_training.pipeline import pipeline

    given = recipe_of(recipe, changes)
    with interruptible(output):
        made = pipeline(
            given,
            output,
            data=data or [],
            columns=columns_of(column),
            benchmarks=benchmarks or [],
            restart=restart,
            until=until,
            report=tell,
        )
    if made["guard"] is None:
        return
    write(made["table"].rstrip("\n"))
    write(f"\nfrom guardreasoner_sdk import Guard; guard = Guard({made['guard']!r})")


def _recipes(
    name: Annotated[str | None, typer.Argument(help="A recipe to print as TOML, with every setting that it has.")] = None,
) -> None:
    """List the recipes, or print one."""
    from guardreasoner_training.recipe import load_recipe, recipe_names, recipe_text

    if name is None:
        for one in recipe_names():
            recipe = load_recipe(one)
            base = recipe.base if isinstance(recipe.base, str) else "made from scratch"
            write(f"{one:<18} {recipe.rsft.tuning:<6} {recipe.rsft.devices} device{'s' * (recipe.rsft.devices > 1):<2} {base}")
        return
    write(recipe_text(load_recipe(name)).rstrip("\n"))


for _name, _command in (
    ("check", _check),
    ("synthesize", _synthesize),
    ("rsft", _rsft),
    ("mine", _mine),
    ("hsdpo", _hsdpo),
    ("pipeline", _pipeline),
    ("recipes", _recipes),
):
    train.command(_name)(report_errors(_command))


def prepare_training() -> None:
    """Say what is missing before anything is read, and keep the libraries' bars out of files.

    Raises:
        MissingExtraError: the extra ``train`` is not installed.
    """
    from guardreasoner_training.trainers.arguments import require_training

    require_training()
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def tell(message: str) -> None:
    """Report how far a training is, on standard error; of several processes, the first one does."""
    if not int(os.environ.get("RANK", "0")):
        for line in message.splitlines():
            note(line)


@contextmanager
def interruptible(output: Path) -> Iterator[None]:
    """Say on Ctrl-C that nothing is lost."""
    try:
        yield
    except KeyboardInterrupt:
        note(f"interrupted: what was done is kept for {output}; run the same command again to go on")
        raise


def recipe_of(name: str, changes: Iterable[str] | None) -> Recipe:
    """A recipe with the changes of the command line.

    Args:
        changes: each ``setting=value``.

    Raises:
        InputError: a change is none.
        ConfigurationError: the recipe or a setting is unknown or wrong.
    """
    from guardreasoner_training.recipe import load_recipe, override

    return override(load_recipe(name), changes_of(changes))


def changes_of(changes: Iterable[str] | None) -> dict[str, str]:
    """Settings of a recipe as the command line gives them.

    Args:
        changes: each ``setting=value``.

    Raises:
        InputError: one of them is none.
    """
    values: dict[str, str] = {}
    for change in changes or ():
        setting, separator, value = change.partition("=")
        if not separator or not setting:
            raise InputError("--set", f"{change!r} is not name=value", "use for example --set rsft.epochs=1")
        values[setting.strip()] = value.strip()
    return values


def columns_of(column: list[str] | None) -> Columns | None:
    """Which column of the rows holds what; None where the usual names are meant.

    Args:
        column: each ``what=column``.

    Raises:
        InputError: one of them says nothing that is known.
    """
    from guardreasoner_sdk.data.columns import Columns

    return Columns.parse(column) if column else None


def with_teacher(recipe: Recipe, address: str | None, model: str | None) -> Recipe:
    """A recipe with the teacher of the command line.

    Args:
        address: of an OpenAI-compatible server; None: the recipe's.
        model: the teacher's name there; None: the recipe's.

    Raises:
        ConfigurationError: they cannot be.
    """
    from guardreasoner_training.recipe import override

    given = {"synthesize.base_url": address, "synthesize.model": model}
    return override(recipe, {name: value for name, value in given.items() if value is not None})


def _tokenizer(base: str, recipe: Recipe) -> Any:
    from guardreasoner_training.pipeline.run import base_of
    from guardreasoner_training.trainers.model import load_tokenizer

    return load_tokenizer(base_of(base), recipe)


def _finish(figures: dict[str, Any], output: Path) -> None:
    if int(os.environ.get("RANK", "0")):
        return
    loss = figures.get("loss")
    note(f"done{'' if loss is None else f', loss {loss:.4f}'}; the guard is in {output}, with loss.png and figures.json")
    write(f"from guardreasoner_sdk import Guard; guard = Guard({str(output)!r})")


def _shown(line: str) -> str:
    from guardreasoner_sdk._text import escape_unsafe

    return escape_unsafe(line)
