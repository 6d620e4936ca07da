"""A bulk job: files in, a folder of verdicts out, each row once however often it is killed.

The output folder is one like those of every other long run (:mod:`guardreasoner_sdk.data.run_folder`): it belongs to one input
and one guard, is locked, and is complete when ``figures.json`` is there. What is in it:

- ``part-000000.jsonl``, ...: the verdicts of a block each, written whole or not at all, by the process that has the lock alone;
- ``blocks.jsonl``: a line for each block that is finished, written behind its part.

Workers judge and write nothing: one that dies, or one that is left over from a job that was killed, harms nothing, and a block
that was under way is judged again.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import pickle
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guardreasoner_sdk._arguments import check_count
from guardreasoner_sdk.bulk.blocks import Block, BlockReader, cut_file, find_files
from guardreasoner_sdk.bulk.workers import Attempts, BlockJudge, Result, complete_arguments, import_ray
from guardreasoner_sdk.data.atomic import write_atomic
from guardreasoner_sdk.data.columns import Columns
from guardreasoner_sdk.data.identity import content_hash, without_secrets
from guardreasoner_sdk.data.journal import Lines
from guardreasoner_sdk.data.run_folder import open_stage
from guardreasoner_sdk.errors import BackendError, ConfigurationError, InputError
from guardreasoner_sdk.guard import Guard

__all__ = ["BulkOptions", "run_bulk"]

_LOOKED_AT = 100
_STARTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkOptions:
    """How a bulk job is run. None of it changes a verdict.

    Args:
        address: of an existing cluster (``auto``, ``ray://host:10001``); None: one is started on this machine for the job.
        actors: how many guards judge at a time; None: as many as there are cores for.
        cpus_per_actor: cores that each of them takes.
        gpus_per_actor: GPUs that each of them takes, for an engine in the process such as vLLM.
        block_rows: rows of a block. A kill costs no more than the blocks under way.
        output_format: ``jsonl`` or ``parquet``.

    Raises:
        ConfigurationError: one of them cannot work, named.

    Example:
        >>> from guardreasoner_sdk.bulk import BulkOptions
        >>> BulkOptions(actors=4).block_rows
        1000
    """

    address: str | None = None
    actors: int | None = None
    cpus_per_actor: int = 1
    gpus_per_actor: float = 0
    block_rows: int = 1000
    output_format: str = "jsonl"

    def __post_init__(self) -> None:
        for name in ("cpus_per_actor", "block_rows", *(() if self.actors is None else ("actors",))):
            check_count(name, getattr(self, name))
        if isinstance(self.gpus_per_actor, bool) or not 0 <= self.gpus_per_actor < math.inf:
            raise ConfigurationError(f"gpus_per_actor: must be a number from 0, not {self.gpus_per_actor!r}")
        if self.output_format not in ("jsonl", "parquet"):
            raise ConfigurationError(f"output_format: must be 'jsonl' or 'parquet', not {self.output_format!r}")


def run_bulk(
    source: str | Path,
    output: str | Path,
    *,
    guard: Mapping[str, Any] | None = None,
    prompt_column: str = "prompt",
    response_column: str | None = None,
    options: BulkOptions | None = None,
    restart: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Judge a file, or a folder of files, on Ray; begin where an earlier run of the same job was cut off.

    Args:
        source: JSON lines or Parquet, or a folder of such files. All workers must see it under this name.
        output: the folder of the verdicts; only this process writes in it.
        guard: arguments of :class:`guardreasoner_sdk.Guard`, which each worker makes for itself: they are pickled. What is not
            said comes from this process's environment.
        prompt_column: where the prompt, or the list of messages, stands.
        response_column: where the response stands; None: in ``response``, if there is one.
        options: how it is run.
        restart: throw away what an earlier job left in the folder.
        progress: called with the rows done and all rows, after every block.

    Returns:
        the figures: ``rows``, and how many of them are ``allowed``, ``blocked``, ``undetermined`` and ``unreadable``.

    Raises:
        InputError: the input cannot be read, or the folder belongs to another job or another process.
        ConfigurationError: the guard cannot work.
        MissingExtraError: Ray, or pyarrow for Parquet, is not installed.
        BackendError: Ray gave up; what is finished stays, and the same call goes on.

    Example:
        >>> from guardreasoner_sdk.bulk import run_bulk  # doctest: +SKIP
        >>> run_bulk("rows.jsonl", "verdicts")  # doctest: +SKIP
        {'rows': 200000, 'allowed': 181225, 'blocked': 18775, 'undetermined': 0, 'unreadable': 0, 'blocks': 200}
    """
    options = options or BulkOptions()
    source, output = Path(source), Path(output)
    files = find_files(source)
    if source.is_dir() and output.resolve().is_relative_to(source.resolve()):
        raise InputError("OUTPUT", f"{output} lies inside the input", "name a folder beside it")
    columns = Columns(prompt_column, response_column)
    arguments = complete_arguments(guard)
    root = source if source.is_dir() else None
    names = {str(file if root is None else file.relative_to(root)): file for file in files}
    # Before the folder is anybody's: an input that is corrected is another one.
    _check_readable(_cut(files, columns, options.block_rows), columns, source)
    with open_stage(
        "bulk", output, inputs=dict(names), settings=_identify(arguments, columns, options), restart=restart
    ) as stage:
        if stage.figures is not None:
            return stage.figures
        blocks = list(_cut(files, columns, options.block_rows))
        with Lines(output / "blocks.jsonl", durable=True) as journal:
            done = {line["block"]: line for line in journal if _part(output, line["block"], options).exists()}
            total, finished = sum(block.count for block in blocks), sum(blocks[number].count for number in done)
            todo = [block for block in blocks if block.number not in done]
            if progress is not None:
                progress(finished, total)
            worker = (arguments, columns, options.cpus_per_actor, options.output_format, None if root is None else str(root))
            for result in _judge_blocks(todo, worker, options):
                write_atomic(_part(output, result.number, options), result.content)
                line = {"block": result.number, **(result.counts or {})}
                journal.add([line])
                done[result.number] = line
                finished += blocks[result.number].count
                if progress is not None:
                    progress(finished, total)
        counts: Counter[str] = Counter()
        for line in done.values():
            counts.update({name: count for name, count in line.items() if name != "block"})
        kinds = {name: counts[name] for name in ("allowed", "blocked", "undetermined", "unreadable")}
        rows = sum(counts[name] for name in ("allowed", "blocked", "undetermined"))
        return stage.finish({"rows": rows, **kinds, "blocks": len(blocks)})


def _identify(arguments: Mapping[str, Any], columns: Columns, options: BulkOptions) -> dict[str, Any]:
    """What makes the job this one and no other: all that changes a verdict, or where one stands."""
    with Guard(**arguments) as guard:
        found: dict[str, Any] = {
            "model": guard.judge.model,
            "backend": guard.judge.backend,
            "policy": guard.policy.model_dump(mode="json") | {"block": sorted(guard.policy.block)},
        }
    for name in ("reasoning", "dialect", "policy_text", "screen", "band", "timeout", "options"):
        if arguments.get(name) is not None:
            found[name] = _write(arguments[name])
    if arguments.get("base_url") is not None:
        found["base_url"] = without_secrets(arguments["base_url"])
    if (model := arguments.get("model")) is not None and Path(model).exists():
        found["weights"] = content_hash("model", Path(model))
    if isinstance(calibration := arguments.get("calibration"), str | Path):
        found["calibration"] = content_hash("calibration", Path(calibration).expanduser())
    return found | {
        "prompt_column": columns.prompt,
        "response_column": columns.response,
        "block_rows": options.block_rows,
        "output_format": options.output_format,
    }


def _write(value: Any) -> Any:
    """An argument as JSON can hold it; what it cannot, by its class: how it prints may change from run to run."""
    if isinstance(value, Mapping):
        return {str(key): _write(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_write(each) for each in value]
    return value if value is None or isinstance(value, str | int | float | bool) else type(value).__name__


def _cut(files: Sequence[Path], columns: Columns, size: int) -> Iterator[Block]:
    first = 0
    for file in files:
        for block in cut_file(file, columns, size, first=first):
            yield block
            first = block.number + 1


def _check_readable(blocks: Iterable[Block], columns: Columns, source: Path) -> None:
    """Look at the first rows before anything is begun: a column of another name is no reason for a million verdicts."""
    reader = BlockReader(columns)
    rows = itertools.chain.from_iterable(map(reader.rows, blocks))
    first = list(itertools.islice(rows, _LOOKED_AT))
    if not first:
        raise InputError("INPUT", f"{source} has no rows", "write rows into it")
    if all(row.cause is not None for row in first):
        (problem, fix), _ = Counter((row.problem, row.fix) for row in first).most_common(1)[0]
        raise InputError("INPUT", f"{source}: none of its first {len(first)} rows can be read ({problem})", fix)


def _part(output: Path, number: int, options: BulkOptions) -> Path:
    return output / f"part-{number:06}.{options.output_format}"


def _judge_blocks(blocks: Sequence[Block], worker: tuple[Any, ...], options: BulkOptions) -> Iterator[Result]:
    """The results of blocks, as they come.

    Raises:
        GuardError: what kept a block from being judged.
    """
    if not blocks:
        return
    with _ray_session(options.address) as ray:
        cores = int(ray.cluster_resources().get("CPU", 1))
        actors = options.actors or max(1, cores // options.cpus_per_actor)
        attempts = ray.remote(Attempts).options(num_cpus=0, max_restarts=-1).remote()
        dataset = ray.data.from_items(
            [{"block": pickle.dumps(block)} for block in blocks], override_num_blocks=len(blocks)
        ).map_batches(
            BlockJudge,
            fn_constructor_args=(*worker, attempts),
            batch_size=1,
            # A worker holds the next block while it judges one.
            compute=ray.data.ActorPoolStrategy(size=min(actors, len(blocks)), max_tasks_in_flight_per_actor=2),
            num_cpus=options.cpus_per_actor,
            num_gpus=options.gpus_per_actor or None,
        )
        dataset.context.enable_progress_bars = False
        try:
            for row in dataset.iter_rows():
                result: Result = pickle.loads(row["result"])  # noqa: S301 - what a worker of ours wrote
                if result.error is not None:
                    raise result.error
                yield result
        except ray.exceptions.RayError as error:
            fix = "what is finished stays, and the same command goes on from there"
            raise BackendError(f"the job stopped: {_find_cause(error)}; {fix}") from error


def _find_cause(error: BaseException) -> str:
    """The class of what stopped a job, and of ours the words: a foreign message may quote what was judged."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, ConfigurationError):
        raise cause
    return type(cause if isinstance(cause, BaseException) else error).__name__


@contextlib.contextmanager
def _ray_session(address: str | None) -> Iterator[Any]:
    """Ray, as the application has started it, or started for the job."""
    ray = import_ray()
    if ray.is_initialized():
        yield ray
        return
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    if address is None:
        _start_ray(ray)
    else:
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ConfigurationError(f"address: no Ray cluster answers there ({type(error).__name__}); check it") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _start_ray(ray: Any) -> None:
    """Start it on this machine. It gives up after half a minute, by a bare ``Exception``: a busy machine may need longer."""
    for left in reversed(range(_STARTS)):
        try:
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
            return
        except Exception as error:
            ray.shutdown()
            if not left:
                fix = "run the same command again when the machine is less busy"
                raise BackendError(f"Ray cannot be started on this machine ({type(error).__name__}); {fix}") from error
