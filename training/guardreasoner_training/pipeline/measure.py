"""How good a trained guard is on labelled rows: asked through the SDK as an application would, every answer kept."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from guardreasoner_sdk.data.atomic import errors_while_writing
from guardreasoner_sdk.data.journal import Journal
from guardreasoner_sdk.data.run_folder import open_stage
from guardreasoner_sdk.errors import ConfigurationError, InputError
from guardreasoner_sdk.evaluation.benchmarks import read_rows as read_labelled
from guardreasoner_sdk.evaluation.metrics import Measures, averages
from guardreasoner_sdk.evaluation.rows import LabelledRow
from guardreasoner_sdk.evaluation.runs import JOURNAL, fingerprints, go_on, verdicts
from guardreasoner_sdk.evaluation.summary import Collected, Summary
from guardreasoner_training.export import guard_dialect
from guardreasoner_training.gguf import check_llama
from guardreasoner_training.mining.generate import engine_for
from guardreasoner_training.recipe.settings import EvaluateSettings
from guardreasoner_training.rows import TrainingRow
from guardreasoner_training.rows.files import files_in
from guardreasoner_training.trainers.threads import cpu_threads, release_threads
from guardreasoner_training.weights import model_json

if TYPE_CHECKING:
    from guardreasoner_sdk.backends.base import Backend
    from guardreasoner_sdk.dialects.base import Dialect
    from guardreasoner_sdk.guard import Guard

__all__ = ["DEV", "benchmark_files", "benchmark_rows", "dev_rows", "measure_guard"]

DEV = "dev"
"""The name of the rows that were held out."""


def dev_rows(rows: Iterable[TrainingRow], *, most: int | None = None, seed: int = 0) -> list[LabelledRow]:
    """Held-out rows, as an evaluation takes them. A label that a guard filled in is no truth and is left out.

    Args:
        most: only so many, drawn at random; None: all.
    """
    found = [
        LabelledRow(row.id, DEV, row.exchange, labels)
        for row in rows
        if (labels := {task: label for task, label in row.labels.items() if task not in row.filled})
    ]
    if most is None or most >= len(found):
        return found
    # Not for secrets: the same seed has to give the same rows.
    places = random.Random(seed).sample(range(len(found)), most)  # noqa: S311
    return [found[place] for place in sorted(places)]


def benchmark_files(names: Sequence[str]) -> list[str]:
    """Benchmarks as they were named, a folder as the files in it.

    Raises:
        InputError: a folder has no file of a benchmark.
    """
    found: list[str] = []
    for name in names:
        folder = Path(name)
        if not folder.is_dir():
            found.append(name)
            continue
        files = files_in(folder)
        if not files:
            raise InputError("--benchmarks", f"{name} has no file of a benchmark", "check the folder, or name files")
        found += map(str, files)
    return found


def benchmark_rows(names: Sequence[str], *, data: str | Path | None = None, limit: int | None = None) -> list[LabelledRow]:
    """The rows of benchmarks.

    Args:
        names: as in :func:`benchmark_files`.
        data: folder with the benchmarks' files; None: they are downloaded.
        limit: only the first so many of each; None: all.

    Raises:
        InputError: there is no such benchmark or file, it cannot be read, or has no labelled row.
    """
    rows: list[LabelledRow] = []
    seen: set[str] = set()
    for name in benchmark_files(names):
        own = list(itertools.islice(read_labelled(name, source=data), limit))
        if not own:
            raise InputError(str(name), "has no labelled row", "label some, or leave it out")
        if own[0].benchmark in seen:
            raise InputError(str(name), f"is a second benchmark {own[0].benchmark!r}", "leave it out, or rename the file")
        seen.add(own[0].benchmark)
        rows += own
    return rows


def measure_guard(
    model: Path | str,
    rows: Sequence[LabelledRow],
    output: Path,
    settings: EvaluateSettings,
    *,
    dialect: Dialect | None = None,
    threads: int | None = None,
    shown: Callable[[int], None] = lambda _: None,
    restart: bool = False,
) -> dict[str, Any]:
    """Ask a trained guard all rows, and say how good its answers are. Cut off, it goes on where it stopped.

    Args:
        model: the trained guard's folder, or another guard of the hub.
        rows: labelled rows of one or several sets; at least one.
        output: a folder for ``verdicts.jsonl`` and ``figures.json``.
        dialect: how it is asked and read; None: as ``guard.json`` in its folder says.
        threads: of the CPU; None: all cores.
        shown: called with the number of rows done.

    Returns:
        the figures: ``sets``, one entry a set and task with ``f1`` (an undetermined answer is wrong) and ``f1_paper`` (it is
        left out) in percent, ``undetermined`` and ``rows``; ``averages`` of the benchmarks' F1 by task and over all, weighted
        by rows as in the paper; ``undetermined`` over all; ``tokens``, the mean length of an answer.

    Raises:
        ConfigurationError: the guard cannot be run.
        InputError: ``output`` holds something else, or cannot be written.
    """
    # Neighbours of like length share a batch, which takes as long as its longest row.
    ordered = sorted(rows, key=lambda row: (len(row.exchange.prompt) + len(row.exchange.response or ""), row.benchmark, row.id))
    spoken = guard_dialect(Path(model)) if dialect is None else dialect
    identity = {
        "rows": fingerprints(ordered),
        "dialect": [spoken.name, getattr(spoken, "rendering", None)],
        "reasoning": settings.reasoning,
        "engine": settings.engine,
    }
    with open_stage("evaluate", output, inputs={"model": model}, settings=identity, restart=restart) as stage:
        if stage.figures is not None:
            return stage.figures
        collected = Collected(most=0)
        with _guard(str(model), spoken, output, settings, threads) as guard, Journal(output / JOURNAL) as journal:
            done = sum(1 for _ in journal.entries())
            go_on(guard, ordered, journal, done=done, shown=shown)
            tokens = 0
            for row, verdict in verdicts(ordered, journal):
                collected.add(row, verdict)
                tokens += verdict.usage.output_tokens
        return stage.finish(_figures(collected.summary({}), [row.benchmark for row in rows]) | {"tokens": tokens / len(rows)})


@contextmanager
def _guard(model: str, dialect: Dialect, output: Path, settings: EvaluateSettings, threads: int | None) -> Iterator[Guard]:
    from guardreasoner_sdk.guard import Guard
    from guardreasoner_sdk.judges.reasoner import ReasonerJudge

    converted = output / "guard.f32.gguf"
    try:
        with cpu_threads(threads):
            judge = ReasonerJudge(dialect, _backend(model, converted, settings, threads), reasoning=settings.reasoning)
            with Guard(judge=judge, cache=0, timeout=30 * 86_400.0) as guard:
                yield guard
    finally:
        with errors_while_writing(converted):
            converted.unlink(missing_ok=True)


def _backend(model: str, converted: Path, settings: EvaluateSettings, threads: int | None) -> Backend:
    engine = _engine(Path(model), settings)
    if engine == "llama_cpp":
        from guardreasoner_sdk.backends.llama_cpp import LlamaCppBackend
        from guardreasoner_training.gguf import export_gguf

        export_gguf(Path(model), converted)
        release_threads()
        return LlamaCppBackend(str(converted), threads=threads)
    if engine == "vllm":
        from guardreasoner_sdk.backends.vllm import VLLMBackend

        return VLLMBackend(model)
    from guardreasoner_sdk.backends.transformers import TransformersBackend

    return TransformersBackend(model, batch_size=settings.batch)


def _engine(folder: Path, settings: EvaluateSettings) -> Literal["vllm", "transformers", "llama_cpp"]:
    if settings.engine == "llama_cpp":
        return settings.engine
    found = engine_for(settings.engine)
    if settings.engine == "auto" and found == "transformers" and _suits_llama_cpp(folder):
        return "llama_cpp"
    return found


def _suits_llama_cpp(folder: Path) -> bool:
    """Whether llama.cpp can run it, and is the faster one since there is no GPU."""
    if not (find_spec("llama_cpp") and find_spec("gguf") and find_spec("torch")):
        return False
    import torch

    if torch.cuda.is_available() or (folder / "adapter_config.json").exists():
        return False
    try:
        check_llama(model_json(folder / "config.json"), model_json(folder / "tokenizer.json"))
    except ConfigurationError:
        return False
    return True


def _figures(summary: Summary, order: Sequence[str]) -> dict[str, Any]:
    sets: list[dict[str, Any]] = []
    strict: list[Measures] = []
    paper: list[Measures] = []
    known = {one.benchmark: one for one in summary.benchmarks}
    for name in dict.fromkeys(order):
        for task in known[name].tasks:
            if task.strict is None or task.paper is None:
                continue  # a guard that does not judge this task
            own = task.strict
            sets.append(
                {
                    "set": name,
                    **own.model_dump(include={"task", "rows", "positives", "f1", "precision", "recall", "accuracy"}),
                    "f1_paper": task.paper.f1,
                    "undetermined": own.undetermined,
                }
            )
            if name != DEV:
                strict.append(own)
                paper.append(task.paper)
    return {
        "sets": sets,
        "averages": {"strict": _averages(strict), "paper": _averages(paper)},
        "undetermined": sum(one["undetermined"] for one in sets),
        "asked": sum(one["rows"] for one in sets),
        "rows": summary.rows,
    }


def _averages(measures: Sequence[Measures]) -> dict[str, float | None]:
    """Mean F1 of each task and over all sets, weighted by rows."""
    found: dict[str, float | None] = {str(task): mean for task, mean in averages(measures).items()}
    known = [(one.f1, one.rows) for one in measures if one.f1 is not None]
    whole = measures and len(known) == len(measures)
    found["all"] = sum(f1 * rows for f1, rows in known) / sum(rows for _, rows in known) if whole else None
    return found
