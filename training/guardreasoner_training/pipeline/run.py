"""The stages of a training in one folder, each with its inputs, its place in the manifest, and its turn to be redone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from guardreasoner_sdk.data.atomic import errors_while_writing, write_atomic, write_json
from guardreasoner_sdk.data.columns import Columns
from guardreasoner_sdk.data.identity import content_hash
from guardreasoner_sdk.data.run_folder import is_complete, open_stage
from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.evaluation.rows import LabelledRow
from guardreasoner_sdk.evaluation.runs import fingerprints
from guardreasoner_training.export import SAMPLES, check_kinds, export, is_outdated
from guardreasoner_training.manifest import MANIFEST, Manifest
from guardreasoner_training.pipeline.measure import benchmark_files, benchmark_rows, dev_rows, measure_guard
from guardreasoner_training.pipeline.start import (
    base_of,
    check_base,
    check_export,
    check_machines,
    check_members,
    describe_base,
)
from guardreasoner_training.pipeline.table import as_markdown, as_text, tables
from guardreasoner_training.recipe import EnsembleMember, Recipe, ScratchSettings
from guardreasoner_training.rows import from_source, read_rows, write_rows
from guardreasoner_training.rows.files import files_of, names_of

if TYPE_CHECKING:
    from guardreasoner_sdk.dialects.base import Dialect

__all__ = ["Run", "Stopped", "base_of", "describe_base"]

Figures = dict[str, Any]

_FEW = 200
"""Rows that are asked so soon that nobody wants to be told of every tenth."""


class Stopped(Exception):  # noqa: N818 - nothing went wrong
    """The last stage that was wanted is done."""


class Run:
    """A training in a folder.

    Args:
        output: the folder; each stage has one of its own in it.
        recipe: all settings.
        data: files and folders with the rows; empty: what the recipe names.
        columns: where files of other columns have texts and labels.
        benchmarks: what is measured on, beside the rows held out; training rows that it has are dealt with as the recipe says.
        stages: names of all stages, in order.
        restart: the first stage to redo; those after it follow. None: none.
        report: is told how far it is.
        until: the last stage to do: one after it raises :class:`Stopped`. None: all.

    Raises:
        InputError: data or benchmarks cannot be read; ``restart`` or ``until`` is not a stage.
        ConfigurationError: the base cannot be trained like this, or cannot become what is to be exported.
    """

    def __init__(
        self,
        output: Path,
        recipe: Recipe,
        *,
        data: Sequence[Path],
        columns: Columns | None,
        benchmarks: Sequence[str],
        stages: Sequence[str],
        restart: str | None,
        report: Callable[[str], None],
        until: str | None = None,
    ) -> None:
        for option, stage in (("--restart", restart), ("--until", until)):
            if stage is not None and stage not in stages:
                raise InputError(option, f"{stage!r} is not a stage of this", f"name one of {', '.join(stages)}")
        check_base(recipe)
        measured = tuple(benchmarks) or recipe.evaluate.benchmarks
        # What is measured on must not have been trained on.
        leaks = tuple(dict.fromkeys([*recipe.data.benchmarks, *benchmark_files(measured)]))
        self.recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"benchmarks": leaks})})
        self.output = output
        self.report = report
        self.stages = list(stages)
        self._data = list(data)
        self._columns = columns
        self._again = set(stages[stages.index(restart) :] if restart is not None else ())
        self._wanted = stages if until is None else stages[: stages.index(until) + 1]
        check_kinds(recipe.export.gguf)
        self._tokenizer = self._base_tokenizer()
        check_export(recipe, self._tokenizer)
        self._benchmarks = benchmark_rows(measured, data=recipe.evaluate.data, limit=recipe.evaluate.limit)
        self.manifest: Manifest = self._manifest()

    def prepare(self) -> tuple[Path, list[LabelledRow]]:
        """Check and clean the rows and hold some of them out; the file to train on, and all that is measured on."""
        folder = self.output / "data"

        def run() -> Figures:
            files = files_of(self._data)
            inputs: dict[str, Path | str | None] = dict(zip(names_of(files, endings=True), files, strict=True))
            recipe = self.recipe
            settings = {
                **recipe.model_dump(mode="json", include={"data", "format", "rendering", "max_tokens", "seed"}),
                "dev_rows": recipe.evaluate.dev_rows,
                "teacher": recipe.synthesize is not None,
                "columns": None if self._columns is None else _plain(self._columns),
                "benchmarks": fingerprints(self._benchmarks),
            }
            # What was cut off here, or stopped at errors in the data, holds nothing that would be lost.
            again = "prepare" in self._again or not is_complete(folder)
            with open_stage("prepare", folder, inputs=inputs, settings=settings, restart=again) as stage:
                return stage.figures or stage.finish(self._prepared(folder))

        self._stage("prepare", folder, run)
        held_out = dev_rows(read_rows(folder / "dev.jsonl"))
        return folder / "train.jsonl", held_out + self._benchmarks

    def _prepared(self, folder: Path) -> Figures:
        from guardreasoner_training.checks import prepare

        prepared = prepare(self._data or None, self.recipe, columns=self._columns, tokenizer=self._tokenizer)
        self.report(str(prepared.report))
        write_json(folder / "report.json", prepared.report.to_json())
        write_rows(folder / "train.jsonl", prepared.train)
        write_rows(folder / "dev.jsonl", prepared.dev)
        hashes = {name: content_hash(name, folder / name) for name in ("train.jsonl", "dev.jsonl")}
        told = prepared.report.to_json()
        kept = ("lines", "sources", "duplicates", "left_out", "derived", "filled", "train", "train_labels", "train_sources")
        return {key: told[key] for key in (*kept, "dev", "dev_labels")} | {"leaks": told["leaks"]["count"], "hashes": hashes}

    def synthesize(self, rows: Path) -> Path:
        """Have the recipe's teacher write the steps of the rows. Redone, it asks nothing again that was paid for."""
        settings = self.recipe.synthesize
        if settings is None:
            return rows
        from guardreasoner_training.synthesis import synthesize

        folder = self.output / "reasoning"
        self._stage(
            "synthesize",
            folder,
            lambda: synthesize(
                rows, folder, settings, format=self.recipe.format, restart="synthesize" in self._again, report=self.report
            ),
        )
        return folder / "rows.jsonl"

    def base(self, rows: Path) -> str | Path:
        """The base model: made here where the recipe gives its sizes."""
        if not isinstance(self.recipe.base, ScratchSettings):
            return base_of(self.recipe.base)
        from guardreasoner_training.scratch import scratch

        folder = self.output / "base"
        again = "base" in self._again
        self._stage("base", folder, lambda: scratch(rows, folder, self.recipe, restart=again, report=self.report))
        return folder

    def rsft(self, name: str, rows: Path, base: str | Path, *, labels_only: bool = False) -> Path:
        """Train by R-SFT."""
        recipe = self.recipe.model_copy(update={"format": "labels"}) if labels_only else self.recipe
        return self._trained("rsft", name, rows, base, recipe)

    def hsdpo(self, name: str, pairs: Path, base: Path) -> Path | None:
        """Train by HS-DPO; None where no row was hard, so that there is nothing to learn."""
        if not pairs.stat().st_size:
            self.report(f"{name}: left out, {pairs.name} has no pair")
            return None
        return self._trained("hsdpo", name, pairs, base, self.recipe)

    def check(self, rows: Path) -> None:
        """Find out now what would stop the training later: this machine, and sources that the rows have not."""
        left = [name for name in self._wanted if name in self._again or not is_complete(self.output / name)]
        members = any(name.startswith("member-") for name in left)
        kinds: list[Literal["rsft", "hsdpo"]] = []
        if members or {"baseline", "rsft"} & set(left):
            kinds.append("rsft")
        if any(name.startswith("hsdpo") for name in left):
            kinds.append("hsdpo")
        check_machines(self.recipe, kinds)
        if members:
            check_members(self.recipe, rows)

    def member_rows(self, rows: Path) -> None:
        """Write the rows of each further model of the ensemble: those of its sources."""
        for member in self.recipe.mine.ensemble:
            chosen = (row for row in read_rows(rows) if from_source(row.source, member.sources))
            write_rows(self._member_file(member), chosen)

    def member(self, member: EnsembleMember, base: str | Path) -> Path:
        """Train a further model of the ensemble, on its rows."""
        return self._trained("rsft", f"member-{member.name}", self._member_file(member), base, self.recipe)

    def _member_file(self, member: EnsembleMember) -> Path:
        return self.output / "members" / f"{member.name}.jsonl"

    def mine(self, rows: Path, models: Mapping[str, Path]) -> Path:
        """Find the hard rows; the folder with the pairs."""
        from guardreasoner_training.mining import mine

        folder = self.output / "mine"
        again = "mine" in self._again
        self._stage("mine", folder, lambda: mine(rows, models, folder, self.recipe, restart=again, report=self.report))
        return folder

    def evaluate(
        self, title: str, name: str, guard: Path | str, rows: Sequence[LabelledRow], *, dialect: Dialect | None = None
    ) -> Figures:
        """Measure a guard.

        Args:
            name: of the guard; the stage's is ``evaluate-<name>``.
            guard: its folder, or a model of the hub.
            dialect: how; None: as its folder says.
        """
        stage = f"evaluate-{name}"
        output = self.output / "evaluate" / name
        return self._stage(
            stage,
            output,
            lambda: measure_guard(
                guard,
                rows,
                output,
                self.recipe.evaluate,
                dialect=dialect,
                threads=self.recipe.rsft.threads,
                shown=_tenths(f"{title}:", len(rows), self.report),
                restart=stage in self._again,
            ),
        )

    def table(self, systems: Mapping[str, Figures]) -> str:
        """Write the figures side by side: ``table.txt``, ``table.md``, and into the manifest; the text."""
        made = tables(systems)
        write_atomic(self.output / "table.txt", as_text(made).encode())
        write_atomic(self.output / "table.md", as_markdown(made).encode())
        self.manifest.table(systems)
        return as_text(made)

    def export(self, folder: Path, output: Path, rows: Sequence[LabelledRow], card: Mapping[str, Any]) -> Figures:
        """Export the guard, compared on some of the rows that were held out.

        What an earlier run exported of another guard, or in another way, is redone: it holds nothing that is not elsewhere.
        """
        settings = self.recipe.export
        held_out = [row.exchange for row in rows[: settings.check_rows]]
        asked = held_out or (SAMPLES if settings.check_rows else ())
        if is_outdated(folder, output, gguf=settings.gguf, rows=asked):
            self._again.add("export")
        told = {
            "recipe": self.recipe.model_dump(mode="json"),
            "versions": self.manifest.versions,
            "data": self._described(),
            "figures": (self.output / "table.md").read_text("utf-8"),
            **card,
        }
        return self._stage(
            "export",
            output,
            lambda: export(
                folder,
                output,
                gguf=settings.gguf,
                rows=asked,
                card=told,
                restart="export" in self._again,
                threads=self.recipe.rsft.threads,
                report=self.report,
            ),
        )

    def _trained(self, kind: Literal["rsft", "hsdpo"], name: str, rows: Path, base: str | Path, recipe: Recipe) -> Path:
        folder = self.output / name
        again = name in self._again

        def run() -> Figures:
            if kind == "rsft":
                from guardreasoner_training.rsft import rsft

                return rsft(rows, base, folder, recipe, restart=again, report=self.report)
            from guardreasoner_training.hsdpo import hsdpo

            return hsdpo(rows, Path(base), folder, recipe, restart=again, report=self.report)

        self._stage(name, folder, run)
        return folder

    def _stage(self, name: str, folder: Path, run: Callable[[], Figures]) -> Figures:
        if name not in self._wanted:
            raise Stopped
        complete = is_complete(folder) and name not in self._again
        self.report(f"[{self.stages.index(name) + 1}/{len(self.stages)}] {name}{': is there already' if complete else ''}")
        try:
            return self.manifest.stage(name, folder, run, again=name in self._again)
        except InputError as error:
            # A stage by itself is redone by --restart; here that wants to know which one.
            if "--restart" not in error.fix or f"--restart {name}" in error.fix:
                raise
            raise InputError(error.field, error.problem, error.fix.replace("--restart", f"--restart {name}")) from error

    def _base_tokenizer(self) -> Any:
        """That of the base model, loaded first of all: a base that is missing is no news after an hour of data."""
        if isinstance(self.recipe.base, ScratchSettings):
            return None
        from guardreasoner_training.trainers.model import load_tokenizer

        return load_tokenizer(base_of(self.recipe.base), self.recipe)

    def _manifest(self) -> Manifest:
        data = {
            "files": {str(path): content_hash("--data", path) for path in (files_of(self._data) if self._data else [])},
            "source": None if self._data else self.recipe.data.source,
            "benchmarks": fingerprints(self._benchmarks),
        }
        with errors_while_writing(self.output):
            self.output.mkdir(parents=True, exist_ok=True)
            there = [path.name for path in self.output.iterdir()]
        if there and MANIFEST not in there:
            raise InputError(
                "--output", f"{self.output} is not a folder of a training: it holds {min(there)}", "name another --output"
            )
        manifest = Manifest(self.output, self.recipe.model_dump(mode="json"), data)
        manifest.keep_only(self.stages)
        return manifest

    def _described(self) -> dict[str, Any]:
        """The data, for the model card: counts, and no paths."""
        figures = self.manifest.stages["prepare"]["figures"]
        told = {"rows to train on": figures["train"], "rows held out": figures["dev"]}
        for task, labels in figures["train_labels"].items():
            told[f"labels, {task.replace('_', ' ')}"] = labels
        told["rows to train on, by source"] = figures["train_sources"]
        told["labels filled in by the embedded guard"] = figures["filled"] or None
        told["rows whose steps were derived from labels"] = figures["derived"] or None
        told["sha-256 of the training rows"] = figures["hashes"]["train.jsonl"]
        return {key: value for key, value in told.items() if value is not None}


def _plain(columns: Columns) -> dict[str, Any]:
    values = dataclasses.asdict(columns)
    return {key: sorted(value) if isinstance(value, frozenset) else value for key, value in values.items()}


def _tenths(title: str, total: int, report: Callable[[str], None]) -> Callable[[int], None]:
    """Reports every tenth of a count, and of a small one the end."""
    last = 9 if total < _FEW else 0

    def shown(done: int) -> None:
        nonlocal last
        tenth = done * 10 // max(total, 1)
        if tenth > last:
            last = tenth
            report(f"{title} {done:,} of {total:,} rows")

    return shown
