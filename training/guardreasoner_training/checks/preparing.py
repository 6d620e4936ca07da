"""Training data: checked as a whole, cleaned, cut into parts, and made ready for training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from guardreasoner_sdk.data.columns import Columns
from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.verdict import LABELS, TASKS, Task
from guardreasoner_training.checks.duplicates import deduplicate
from guardreasoner_training.checks.leaks import Leak, find_leaks
from guardreasoner_training.checks.lengths import Lengths, measure_lengths
from guardreasoner_training.checks.report import SHOWN, DataReport
from guardreasoner_training.formats import Format, examples_of, output_of, tasks_of, tasks_without_steps
from guardreasoner_training.recipe.settings import DataSettings, Recipe
from guardreasoner_training.rows import TrainingRow, hub_rows, read_each, stable_random
from guardreasoner_training.rows.files import files_of
from guardreasoner_training.rows.hub import has_split
from guardreasoner_training.rows.near_duplicates import group_prompts, hold_out_groups, normalise
from guardreasoner_training.steps import complete_labels, derive_steps

if TYPE_CHECKING:
    from guardreasoner_sdk.guard import Guard

__all__ = [
    "DataReport",
    "Leak",
    "Lengths",
    "Prepared",
    "cap_rows",
    "check_rows",
    "complete",
    "find_leaks",
    "measure_lengths",
    "prepare",
    "prompt_alone",
]

Rows = str | Path | Sequence[str | Path] | Iterable[TrainingRow] | None
"""Files, folders, or rows at hand; None: the recipe's own ``data.source``."""


class Prepared(NamedTuple):
    """What a training starts from.

    Args:
        train: rows to train on, with their ``output``, unless a teacher is still to write it.
        dev: rows of other prompts, to measure on; as they were read.
        report: what was found, and what became of it.
    """

    train: list[TrainingRow]
    dev: list[TrainingRow]
    report: DataReport


def check_rows(rows: Rows, recipe: Recipe, *, columns: Columns | None = None) -> DataReport:
    """Look at training data as a whole: what :func:`prepare` would stop at is in the report's ``errors``.

    Args:
        rows: files, folders, or rows at hand; None: the recipe's own.
        recipe: what they are for.
        columns: where a file of other columns has texts and labels.

    Raises:
        InputError: a file cannot be read at all.
        MissingExtraError: Parquet, and pyarrow is not installed.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("mine.jsonl").write_text('{"prompt": "How do I bake a cake?", "prompt_harmful": false}\\n')
        >>> from guardreasoner_training.checks import check_rows
        >>> from guardreasoner_training.recipe import load_recipe
        >>> [error] = check_rows(Path("mine.jsonl"), load_recipe("laptop")).errors
        >>> error.split(";")[-1]
        ' add rows that are harmful'
    """
    found, report = _checked(rows, recipe, columns)
    prompts = [row.exchange.prompt for row in found]
    report.near_duplicates = len({normalise(prompt) for prompt in prompts}) - len(set(group_prompts(prompts)))
    return report


def prepare(
    rows: Rows,
    recipe: Recipe,
    *,
    columns: Columns | None = None,
    tokenizer: Any = None,
    guard: Guard | None = None,
) -> Prepared:
    """Make training data ready: check all of it, clean it, keep some prompts back to measure on, complete the others.

    Args:
        rows: files, folders, or rows at hand; None: the recipe's own.
        recipe: says what becomes of duplicates, contradictions, leaks and incomplete rows, and how many rows there are to be.
        columns: where a file of other columns has texts and labels.
        tokenizer: of the base model, for the lengths; None: they are not measured.
        guard: fills in missing labels and finds evidence, where the recipe asks for that; None: the embedded one.

    Raises:
        InputError: the data has errors; the first of them are named, with file and line.
        MissingExtraError: Parquet, and pyarrow is not installed.

    Example:
        >>> from guardreasoner_training.checks import prepare
        >>> from guardreasoner_training.recipe import load_recipe, override
        >>> from guardreasoner_sdk import Exchange
        >>> from guardreasoner_training.rows import TrainingRow
        >>> row = TrainingRow("1", Exchange("How do I poison a well?"), {"prompt_harmfulness": True})
        >>> other = TrainingRow("2", Exchange("How do I bake a cake?"), {"prompt_harmfulness": False})
        >>> recipe = override(load_recipe("laptop"), {"data.dev_share": 0, "data.evidence": "words"})
        >>> train, dev, report = prepare([row, other], recipe)
        >>> train[1].output.splitlines()[0]
        '# Task 1'
    """
    found, report = _checked(rows, recipe, columns)
    _stop_at_errors(report)
    leaked = set() if recipe.data.leaks == "keep" else {leak.number for leak in report.leaks}
    _leave_out(report, "in a benchmark", len(leaked))
    train, dev = _cut([row for number, row in enumerate(found) if number not in leaked], recipe, report)
    train = _written(_trainable(train, recipe, report, guard), recipe, report, guard)
    report.train_labels = _labels(train)
    if not report.errors:
        # Cleaning may have left out one side of a task, or all of it.
        report.errors += _one_sided(report.train_labels, _decided(train, recipe), left_out=report.left_out)
    _stop_at_errors(report)
    if not train:
        raise InputError("rows", "none is left to train on", f"see what became of them:\n{report}")
    if tokenizer is not None:
        known = [row for row in train if row.output is not None]
        report.lengths = measure_lengths(
            known, tokenizer, format=recipe.format, rendering=recipe.rendering, limit=recipe.max_tokens
        )
    report.train, report.dev = len(train), len(dev)
    report.dev_labels = _labels(dev)
    report.train_sources = dict(Counter(row.source for row in train))
    return Prepared(train, dev, report)


def _checked(rows: Rows, recipe: Recipe, columns: Columns | None) -> tuple[list[TrainingRow], DataReport]:
    """The rows without repetitions, and all that is wrong with them. Leaks are still among them."""
    report, settings = DataReport(), recipe.data
    found = list(_labelled(_each(rows, recipe, columns, report), report, keep_on=settings.broken == "drop"))
    report.labels = _labels(found)
    report.sources = dict(Counter(row.source for row in found))
    report.without_reasoning = sum(_unexplained(row, recipe) for row in found)
    if not found and not report.errors:
        report.errors.append("rows: not one has a label; add prompt_harmful, refusal or response_harmful, or name the columns")
    report.errors += _one_sided(report.labels, _judged(recipe))
    kept = _unique(found, recipe, report)
    if settings.steps == "require" and recipe.synthesize is None:
        report.errors += _without_steps((shape for row in kept for shape in _shapes(row, recipe)), recipe)
    if settings.contradictions == "error":
        report.errors += [
            f"rows {', '.join(names[:6])}: {task}: the same exchange has both labels; correct one"
            for task, names in report.contradictions
        ]
    report.leaks = find_leaks(kept, settings.benchmarks, data=recipe.evaluate.data) if settings.benchmarks else []
    if settings.leaks == "error":
        report.errors += [
            f"row {leak.id}: prompt: {leak.benchmark} {leak.row} has {'it' if leak.kind == 'same' else 'nearly it'}, too; "
            'remove the row, or set data.leaks = "drop"'
            for leak in report.leaks
        ]
    return kept, report


def _each(rows: Rows, recipe: Recipe, columns: Columns | None, report: DataReport) -> Iterator[TrainingRow | InputError]:
    settings = recipe.data
    if rows is None:
        if settings.source is None:
            raise InputError("data.source", "is missing", "name a file, a folder or a repository of the hub")
        folder = Path(settings.source)
        # A folder of your own may stand in for the recipe's data set, or hold a copy of it.
        if settings.splits and (not folder.exists() or (folder.is_dir() and has_split(folder, settings.splits))):
            report.files = (settings.source,)
            yield from _hub(recipe, report)
            return
        rows = folder
    given: list[str | Path | TrainingRow] = [rows] if isinstance(rows, str | Path) else list(rows)
    at_hand = [row for row in given if isinstance(row, TrainingRow)]
    if at_hand and len(at_hand) == len(given):
        yield from at_hand
        return
    paths = [path for path in given if isinstance(path, str | Path)]
    if len(paths) < len(given):
        strange = next(one for one in given if not isinstance(one, str | Path))
        raise InputError("rows", f"hold a {type(strange).__name__}", "give files and folders alone, or rows alone")
    files = files_of(paths)
    report.files = tuple(map(str, files))
    yield from read_each(files, columns=columns, source_from_file=settings.source_from_file)


def _hub(recipe: Recipe, report: DataReport) -> Iterator[TrainingRow]:
    settings = recipe.data
    counts: Counter[str] = Counter()
    for row in hub_rows(tuple(settings.splits), repo=settings.source or "", revision=settings.revision):
        counts[row.source] += 1
        yield row
    report.errors += [
        f"{settings.source}: {name}: has {counts[name]:,} rows, not {wanted:,}; "
        "name the commit (data.revision), or correct data.splits"
        for name, wanted in settings.splits.items()
        if counts[name] != wanted
    ]


def _labelled(rows: Iterator[TrainingRow | InputError], report: DataReport, *, keep_on: bool) -> Iterator[TrainingRow]:
    """The rows with a label; what is wrong with others goes into the report."""
    names: set[str] = set()
    for row in rows:
        report.lines += 1
        if isinstance(row, InputError):
            report.broken += 1
            if not keep_on:
                report.errors.append(str(row))
        elif not row.labels:
            report.unlabelled += 1
        elif row.id in names:
            report.errors.append(f"row {row.id[:80]}: id: another row has it, too; give each row its own")
        else:
            names.add(row.id)
            yield row
    if keep_on:
        _leave_out(report, "broken", report.broken)
    _leave_out(report, "without a label", report.unlabelled)


def _judged(recipe: Recipe) -> tuple[Task, ...]:
    return TASKS[::2] if recipe.format == "thinkguard" else TASKS


def _decided(rows: Sequence[TrainingRow], recipe: Recipe) -> list[Task]:
    """The tasks of which all labels are known; a teacher may give the others any."""
    missing = {task for row in rows for task in tasks_of(row.exchange, recipe.format) if task not in row.labels}
    return [task for task in _judged(recipe) if task not in missing]


def _one_sided(
    labels: Mapping[str, Mapping[str, int]], tasks: Sequence[Task], *, left_out: Mapping[str, int] | None = None
) -> Iterator[str]:
    """The tasks that have one label only. With ``left_out``, the labels are those of the rows that are left."""
    for task in tasks:
        found = labels.get(task, {})
        if len(found) == 1:
            ((label, count),) = found.items()
            other = next(name for name in LABELS[task] if name != label)
            fix = f"add rows that are {other}" + ("" if task == TASKS[0] else ", or make the label null in all rows")
            which = "labels" if left_out is None else "labels to train on"
            if left_out:
                fix += f" (left out: {', '.join(f'{number:,} {reason}' for reason, number in left_out.items())})"
            yield f"rows: {task}: all {count:,} {which} are {label}, and a guard would learn to say nothing else; {fix}"


def _unexplained(row: TrainingRow, recipe: Recipe) -> bool:
    """Whether a row has a label that no steps lead to."""
    return any(
        task in one.labels for one in examples_of(row, recipe.format) for task in tasks_without_steps(one, recipe.format)
    )


def _without_steps(rows: Iterable[TrainingRow], recipe: Recipe) -> Iterator[str]:
    for row in rows:
        if tasks := tasks_without_steps(row, recipe.format):
            fix = 'write it, have a teacher write it, or set data.steps = "derive"'
            yield f"row {row.id}: reasoning: is missing for {', '.join(tasks)}; {fix}"


def _shapes(row: TrainingRow, recipe: Recipe) -> list[TrainingRow]:
    """What a row is trained as: itself or its parts, its prompt alone, or, with too few labels, nothing."""
    if complete(row, recipe.format):
        return list(examples_of(row, recipe.format))
    if recipe.data.incomplete == "fill" and any(task in row.labels for task in TASKS[1:]):
        return [row]
    alone = None if recipe.data.incomplete == "drop" else prompt_alone(row)
    return [] if alone is None else [alone]


def _unique(rows: Sequence[TrainingRow], recipe: Recipe, report: DataReport) -> list[TrainingRow]:
    found = deduplicate(rows, duplicates=recipe.data.duplicates, contradictions=recipe.data.contradictions)
    report.duplicates += found.duplicates
    report.contradictions += found.contradictions
    contradicted = sum(len(names) for _, names in found.contradictions) if recipe.data.contradictions == "drop" else 0
    _leave_out(report, "contradictory", contradicted)
    _leave_out(report, "repeated", len(rows) - len(found.rows) - contradicted)
    return found.rows


def _cut(rows: list[TrainingRow], recipe: Recipe, report: DataReport) -> tuple[list[TrainingRow], list[TrainingRow]]:
    """Training rows and development rows: no near-duplicate prompts on both sides."""
    settings = recipe.data
    judged_share = settings.dev_share if settings.response_dev_share is None else settings.response_dev_share
    if not settings.dev_share and not judged_share:
        return rows, []
    prompts = [row.exchange.prompt for row in rows]
    judged = ["response_harmfulness" in row.labels for row in rows]
    groups, out = hold_out_groups(prompts, judged, share=settings.dev_share, judged_share=judged_share, seed=recipe.seed)
    report.near_duplicates = len(set(map(normalise, prompts))) - len(set(groups))
    train, dev = ([row for row, held in zip(rows, out, strict=True) if held == side] for side in (False, True))
    limits = settings.model_copy(update={"max_rows": recipe.evaluate.dev_rows})
    return train, cap_rows(dev, limits, recipe.seed)


def _trainable(rows: list[TrainingRow], recipe: Recipe, report: DataReport, guard: Guard | None) -> list[TrainingRow]:
    """Rows with a label for each task that their answer is about, and no more of them than wanted."""
    shaped: list[TrainingRow] = []
    for row in rows:
        own = _shapes(row, recipe)
        shaped += own
        if complete(row, recipe.format):
            continue
        report.incomplete += 1
        if not own:
            _leave_out(report, "with too few labels", 1)
        elif own[0] is not row:
            report.alone += 1
    if len(shaped) != len(rows) or report.alone:
        # Without their responses, or beside them, prompts may stand there more than once.
        shaped = _unique(shaped, recipe, report)
    if (most := recipe.data.max_characters) is not None:
        short = [row for row in shaped if len(row.exchange.prompt) + len(row.exchange.response or "") <= most]
        _leave_out(report, "with more characters than wanted", len(shaped) - len(short))
        shaped = short
    chosen = cap_rows(shaped, recipe.data, recipe.seed)
    _leave_out(report, "beyond the limits of the recipe", len(shaped) - len(chosen))
    return _filled(chosen, recipe, report, guard)


def _filled(rows: list[TrainingRow], recipe: Recipe, report: DataReport, guard: Guard | None) -> list[TrainingRow]:
    """Rows with the labels that they lacked, from a guard."""
    gaps = [place for place, row in enumerate(rows) if not complete(row, recipe.format)]
    if recipe.synthesize is not None and recipe.format != "thinkguard":
        # The teacher that writes about a row decides what is open. A ThinkGuard's row has a label before it has parts.
        gaps = [place for place in gaps if not tasks_without_steps(rows[place], recipe.format)]
    if not gaps:
        return rows
    found = [[row] for row in rows]
    for place, row in zip(gaps, complete_labels([rows[place] for place in gaps], guard), strict=True):
        found[place] = list(examples_of(row, recipe.format)) if complete(row, recipe.format) else []
    filled = [row for own in found for row in own]
    report.filled = dict(Counter(task for row in filled for task in row.filled))
    _leave_out(report, "with too few labels", found.count([]))
    return filled


def _written(rows: list[TrainingRow], recipe: Recipe, report: DataReport, guard: Guard | None) -> list[TrainingRow]:
    """Rows with their output. Where a teacher is to write it, it stays away."""
    settings = recipe.data
    bare = {row.id for row in rows if tasks_without_steps(row, recipe.format)}
    waiting: set[str] = set()
    if bare and recipe.synthesize is not None:
        waiting = bare
        report.to_synthesize = len(bare)
    elif bare and settings.steps == "drop":
        rows = [row for row in rows if row.id not in bare]
        _leave_out(report, "without reasoning", len(bare))
    elif bare and settings.steps == "derive":
        rows = derive_steps(rows, seed=recipe.seed, evidence=settings.evidence, guard=guard)
        report.derived = len(bare)
    elif bare:
        # All had steps when they were read: a repetition or a guard has brought labels since.
        waiting = bare
        report.errors += _without_steps(rows, recipe)
    written = []
    for row in rows:
        if row.id in waiting:
            written.append(row)
            continue
        try:
            written.append(replace(row, output=output_of(row, recipe.format)))
        except InputError as error:
            if settings.broken == "error":
                report.errors.append(str(error))
            else:
                _leave_out(report, "whose output does not give their labels", 1)
    return written


def _labels(rows: Iterable[TrainingRow]) -> dict[str, dict[str, int]]:
    counts = Counter((task, LABELS[task][0 if label else 1]) for row in rows for task, label in row.labels.items())
    found: dict[str, dict[str, int]] = {}
    for task in TASKS:
        own: dict[str, int] = {label: counts[task, label] for label in LABELS[task] if counts[task, label]}
        if own:
            found[task] = own
    return found


def _leave_out(report: DataReport, reason: str, count: int) -> None:
    if count:
        report.left_out[reason] = report.left_out.get(reason, 0) + count


def _stop_at_errors(report: DataReport) -> None:
    """Raise for all errors together, the first of them shown."""
    if not report.errors:
        return
    shown = "\n".join(f"  {error}" for error in report.errors[:SHOWN])
    more = f"\n  ... and {len(report.errors) - SHOWN:,} more" if len(report.errors) > SHOWN else ""
    count = f"{len(report.errors):,} error{'s' if len(report.errors) > 1 else ''} in {report.lines:,} rows"
    drop = ' (data.broken = "drop" leaves broken lines out)' if report.broken else ""
    raise InputError("training data", count, f"correct them{drop}:\n{shown}{more}")


def complete(row: TrainingRow, format: Format) -> bool:
    """Whether a row has its output, or a label for each task that an output is about."""
    if format == "thinkguard":
        return any(examples_of(row, format))
    if format == "guardreasoner" and row.output is not None:
        return True
    return all(task in row.labels for task in tasks_of(row.exchange, format))


def prompt_alone(row: TrainingRow) -> TrainingRow | None:
    """The row without its response, where the prompt is labelled; None where it is not."""
    task = TASKS[0]
    if task not in row.labels:
        return None
    steps = {task: row.reasoning[task]} if task in row.reasoning else {}
    exchange = Exchange(row.exchange.prompt, None, row.exchange.history)
    filled = tuple(one for one in row.filled if one == task)
    return replace(row, exchange=exchange, labels={task: row.labels[task]}, output=None, reasoning=steps, filled=filled)


def cap_rows(rows: Sequence[TrainingRow], settings: DataSettings, seed: int) -> list[TrainingRow]:
    """Rows within the recipe's limits, in their own order.

    Args:
        settings: ``per_prompt``, ``per_source``, ``per_labels`` and ``max_rows``.
        seed: of the draw; a row's luck depends on the seed and its name alone.
    """
    counts: Counter[object] = Counter()
    chosen: list[int] = []
    for number in sorted(range(len(rows)), key=lambda number: stable_random(seed, rows[number].id)):
        limits = _limits(rows[number], settings)
        if all(counts[kind] < most for kind, most in limits):
            counts.update(kind for kind, _ in limits)
            chosen.append(number)
    return [rows[number] for number in sorted(chosen)]


def _limits(row: TrainingRow, settings: DataSettings) -> list[tuple[object, int]]:
    """The kinds that a row is of, and how many of each there may be."""
    found: list[tuple[object, int]] = []
    if settings.per_prompt is not None:
        found.append((("prompt", normalise(row.exchange.prompt)), settings.per_prompt))
    if settings.per_source is not None:
        found.append((("source", row.source), settings.per_source))
    if settings.per_labels is not None:
        found.append((("labels", row.exchange.response is None, frozenset(row.labels.items())), settings.per_labels))
    if settings.max_rows is not None:
        found.append(("all", settings.max_rows))
    return found
