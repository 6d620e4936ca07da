"""Hard-sample mining (arXiv:2501.18492, section 3.3): rows that a model answers now right, now wrong, as weighed pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from guardreasoner_sdk._text import json_text
from guardreasoner_sdk.data.atomic import write_atomic, write_json
from guardreasoner_sdk.data.run_folder import open_stage
from guardreasoner_sdk.errors import ConfigurationError, InputError
from guardreasoner_sdk.verdict import TASKS, Task
from guardreasoner_training.formats import read_examples
from guardreasoner_training.mining.generate import Generating, engine_for, generate, generations_in
from guardreasoner_training.mining.pairs import (
    Choice,
    Mark,
    PreferencePair,
    hard_task,
    marks_of,
    merge_pairs,
    pair_of,
    weigh_pairs,
)
from guardreasoner_training.mining.sampling import Sampling
from guardreasoner_training.recipe import EnsembleMember, Recipe
from guardreasoner_training.rows import TrainingRow, from_source, stable_random

__all__ = ["PAIRS", "SELF_PAIRS", "STATISTICS", "ModelStatistics", "mine", "set_statistics", "statistics_text"]

PAIRS = "pairs.jsonl"
"""The pairs to train on: H_ensemble where there are further models, else H_self."""

SELF_PAIRS = "pairs-self.jsonl"
"""H_self, the R-SFT model's own pairs."""

STATISTICS = "statistics.json"


def mine(
    rows: Path,
    models: Mapping[str, Path],
    output: Path,
    recipe: Recipe,
    *,
    restart: bool = False,
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Find the hard rows, and make pairs of a right and a wrong generation of each.

    The first model is the R-SFT model itself: it writes about all rows. The others are named as in ``recipe.mine.ensemble``;
    each writes about the rows of its own sources, but for those that the R-SFT model's pairs are taken of
    (``recipe.mine.own_sources``). A killed run goes on where it was.

    Args:
        rows: JSON lines, as :func:`guardreasoner_training.rows.write_rows` writes them.
        models: folders of models by name, the R-SFT model first.
        output: the stage's folder: ``generations-<model>.jsonl``, ``pairs.jsonl``, ``pairs-self.jsonl``, ``statistics.json``
            and, last, ``figures.json``.
        recipe: ``mine``, ``format``, ``rendering`` and ``max_tokens`` of it count.
        restart: throw away what an earlier run left.
        report: is told the progress, a line at a time.

    Returns:
        the figures: how many rows and pairs, in all and by set, source and task.

    Raises:
        ConfigurationError: a model that the recipe does not know, or that cannot be loaded; not enough memory.
        InputError: rows that cannot be read, two rows of one name, or an output folder of another run.
        MissingExtraError: what the engine needs is not installed.

    Example:
        >>> from pathlib import Path
        >>> from guardreasoner_training.mining import mine
        >>> from guardreasoner_training.recipe import load_recipe
        >>> recipe = load_recipe("lora-1gpu")
        >>> made = mine(Path("rows.jsonl"), {"self": Path("rsft")}, Path("mine"), recipe)  # doctest: +SKIP
    """
    settings = recipe.mine
    members = _members(models, settings.ensemble)
    engine = engine_for(settings.engine)
    choice = Choice(settings.pair, settings.seed, settings.unreadable, settings.strict_chosen)
    with open_stage(
        "mine",
        output,
        inputs={"rows": rows, **{f"models.{name}": folder for name, folder in models.items()}},
        settings={
            # How many rows are asked at a time is no part of what is asked of each.
            "mine": settings.model_dump(mode="json", exclude={"batch"}) | {"engine": engine},
            **recipe.model_dump(mode="json", include={"format", "rendering", "max_tokens"}),
        },
        restart=restart,
    ) as stage:
        if stage.figures is not None:
            return stage.figures
        how = Generating(
            engine=engine,
            sampling=Sampling(settings.k, settings.temperature, settings.top_p, settings.max_new_tokens, settings.seed),
            format=recipe.format,
            rendering=recipe.rendering,
            batch=settings.batch,
            most_tokens=recipe.max_tokens,
        )
        known = _examples(rows, recipe)
        found: dict[str, list[PreferencePair]] = {}
        figures: dict[str, Any] = {}
        for name, folder in models.items():
            own = _rows_for(known, members.get(name), settings.own_sources)
            journal = output / f"generations-{name}.jsonl"
            generate(own, folder, journal, how, name=name, report=report)
            found[name], figures[name] = _pairs(own, journal, choice, how, name)
        sets = _sets(known, found, settings.own_sources, settings.gamma)
        write_atomic(output / SELF_PAIRS, _lines(sets["self"]))
        write_atomic(output / PAIRS, _lines(sets.get("ensemble", sets["self"])))
        statistics = {"models": figures, "sets": {name: set_statistics(pairs) for name, pairs in sets.items()}}
        write_json(output / STATISTICS, statistics)
        report(statistics_text(statistics))
        for problem in _problems(known, members.values(), sets, settings.own_sources):
            report(problem)
        return stage.finish({"rows": len(known), "engine": engine, "k": settings.k, **statistics})


def _members(models: Mapping[str, Path], ensemble: Sequence[EnsembleMember]) -> dict[str, EnsembleMember]:
    """The further models, by name."""
    if not models:
        raise ConfigurationError("models: there is none; name the R-SFT model, {'self': folder}")
    by_name = {member.name: member for member in ensemble}
    for name in list(models)[1:]:
        if name not in by_name:
            known = ", ".join(by_name) or "none"
            raise ConfigurationError(f"models: {name!r} is not in mine.ensemble ({known}); add it there with its sources")
    for name in models:
        if not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
            raise ConfigurationError(f"models: {name!r} cannot be part of a file's name; use letters, digits, - and _")
    return {name: by_name[name] for name in list(models)[1:]}


def _examples(path: Path, recipe: Recipe) -> list[TrainingRow]:
    """The rows to generate on, with the labels that are the truth: those that a guard has filled in are not.

    Their outputs are dropped: they are long, and what is judged are new ones.
    """
    known: dict[str, TrainingRow] = {}
    for example in read_examples(path, recipe.format):
        if labels := {task: label for task, label in example.labels.items() if task not in example.filled}:
            known[example.id] = replace(example, labels=labels, output=None, reasoning={})
    if not known:
        raise InputError(str(path), "has no labelled row", "check the rows that training wrote")
    most = recipe.mine.max_rows
    kept = known if most is None else set(sorted(known, key=lambda name: stable_random(recipe.mine.seed, name))[:most])
    return [row for name, row in known.items() if name in kept]


def _rows_for(rows: Sequence[TrainingRow], member: EnsembleMember | None, own_sources: Sequence[str]) -> list[TrainingRow]:
    if member is None:
        return list(rows)
    return [row for row in rows if from_source(row.source, member.sources) and not from_source(row.source, own_sources)]


def _pairs(
    rows: Sequence[TrainingRow], journal: Path, choice: Choice, how: Generating, name: str
) -> tuple[list[PreferencePair], dict[str, Any]]:
    """The pairs of a model's generations, in the order of the rows, and its figures."""
    by_id = {row.id: row for row in rows}
    statistics = ModelStatistics(how.sampling.k, choice)
    pairs: dict[str, PreferencePair] = {}
    seen = 0
    for identity, generations in generations_in(journal):
        seen += 1
        row = by_id[identity]
        marks = marks_of(row, generations, how.format)
        pair = pair_of(row, generations, marks, choice, model=name)
        statistics.add(row, marks, pair, sum(one.finish == "length" for one in generations))
        if pair is not None:
            pairs[identity] = pair
    return [pairs[row.id] for row in rows if row.id in pairs], statistics.figures(len(rows) - seen)


def _sets(
    rows: Sequence[TrainingRow], found: Mapping[str, list[PreferencePair]], own_sources: Sequence[str], gamma: float
) -> dict[str, list[PreferencePair]]:
    """H_self, and H_ensemble where there are further models; in the order of the rows."""
    own, *others = found.values()
    sets = {"self": weigh_pairs(own, gamma)}
    if others:
        places = {row.id: place for place, row in enumerate(rows)}
        mixed = sorted(merge_pairs(own, others, own_sources), key=lambda pair: places[pair.row.id])
        sets["ensemble"] = weigh_pairs(mixed, gamma)
    return sets


def _problems(
    rows: Sequence[TrainingRow], members: Any, sets: Mapping[str, Sequence[PreferencePair]], own_sources: Sequence[str]
) -> list[str]:
    """What a user should know of the outcome."""
    problems = [
        f"no row is hard for H_{name}: HS-DPO has nothing to learn from; raise mine.temperature or mine.k, or train less"
        for name, pairs in sets.items()
        if not pairs
    ]
    if "ensemble" in sets:
        patterns = [*own_sources, *(pattern for member in members for pattern in member.sources)]
        left = sorted({row.source for row in rows if not from_source(row.source, patterns)})
        if left:
            problems.append(f"no model of H_ensemble has the sources {', '.join(left)}; name them in mine.ensemble")
    return problems


def _lines(pairs: Sequence[PreferencePair]) -> bytes:
    return "".join(f"{json_text(pair.line())}\n" for pair in pairs).encode()


class ModelStatistics:
    """Counts of one model's generations.

    Args:
        k: generations of each row.
        choice: how pairs are chosen.
    """

    def __init__(self, k: int, choice: Choice) -> None:
        self._k = k
        self._choice = choice
        self._rows = self._generations = self._cut_off = 0
        self._tasks: dict[str, dict[Task, dict[str, Any]]] = {}

    def add(self, row: TrainingRow, marks: Mapping[Task, Sequence[Mark]], pair: PreferencePair | None, cut_off: int) -> None:
        """Count a row."""
        self._rows += 1
        self._generations += self._k
        self._cut_off += cut_off
        for task, listed in marks.items():
            counts = self._tasks.setdefault(row.source, {}).setdefault(
                task, {"rows": 0, "hard": 0, "pairs": 0, "unreadable": 0, "right": [0] * (self._k + 1)}
            )
            counts["rows"] += 1
            counts["hard"] += hard_task({task: listed}, self._choice) is not None
            counts["pairs"] += pair is not None and pair.task == task
            counts["unreadable"] += listed.count("unreadable")
            counts["right"][listed.count("right")] += 1

    def figures(self, left_out: int) -> dict[str, Any]:
        """The counts.

        Args:
            left_out: rows that were too long to be asked about.
        """
        return {
            "rows": self._rows,
            "too_long": left_out,
            "generations": self._generations,
            "cut_off": self._cut_off,
            "sources": {
                source: {task: tasks[task] for task in TASKS if task in tasks} for source, tasks in sorted(self._tasks.items())
            },
        }


def set_statistics(pairs: Sequence[PreferencePair]) -> dict[str, Any]:
    """Counts of a set of pairs."""
    differences: dict[int, list[float]] = {}
    for pair in pairs:
        differences.setdefault(pair.wrong - pair.correct, []).append(pair.alpha)
    return {
        "pairs": len(pairs),
        "by_source": _counted(pair.row.source for pair in pairs),
        "by_task": {task: count for task in TASKS if (count := sum(pair.task == task for pair in pairs))},
        "by_model": _counted(pair.model for pair in pairs),
        "by_difference": {
            str(difference): {"pairs": len(alphas), "alpha": alphas[0]} for difference, alphas in sorted(differences.items())
        },
    }


def _counted(names: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items()))


def statistics_text(statistics: Mapping[str, Any]) -> str:
    """The statistics as tables for a terminal.

    Args:
        statistics: what mining wrote.
    """
    lines: list[str] = []
    for name, model in statistics["models"].items():
        cut = f", {model['cut_off']:,} cut off" if model["cut_off"] else ""
        long = f", {model['too_long']:,} rows too long" if model["too_long"] else ""
        lines.append(f"{name}: {model['rows']:,} rows, {model['generations']:,} generations{cut}{long}")
        table = [("source", "task", "rows", "hard", "pairs", "unreadable", "rows by right generations")]
        for source, tasks in model["sources"].items():
            for task, counts in tasks.items():
                right = "  ".join(f"{number}: {count:,}" for number, count in enumerate(counts["right"]))
                numbers = (f"{counts[field]:,}" for field in ("rows", "hard", "pairs", "unreadable"))
                table.append((source, task, *numbers, right))
        lines += _table(table)
    for name, found in statistics["sets"].items():
        weights = ", ".join(f"{entry['alpha']:.2f} x {entry['pairs']:,}" for entry in found["by_difference"].values())
        lines.append(f"H_{name}: {found['pairs']:,} pairs" + (f"; weights {weights}" if weights else ""))
    return "\n".join(lines)


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  " + "  ".join(cell.rjust(width) if 1 < column < 6 else cell.ljust(width) for column, (cell, width) in
                         enumerate(zip(row, widths, strict=True))).rstrip()
        for row in rows
    ]  # fmt: skip
