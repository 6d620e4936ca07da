"""Verdicts as columns of a Ray dataset of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from guardreasoner_sdk._arguments import check_count
from guardreasoner_sdk.bulk.workers import JudgeBatches, complete_arguments, import_ray
from guardreasoner_sdk.data.columns import Columns

if TYPE_CHECKING:
    from ray.data import Dataset

__all__ = ["add_verdicts"]


def add_verdicts(
    dataset: Dataset,
    *,
    guard: Mapping[str, Any] | None = None,
    prompt_column: str = "prompt",
    response_column: str | None = None,
    actors: int = 1,
    cpus_per_actor: int = 1,
    gpus_per_actor: float = 0,
    batch_rows: int = 256,
    prefix: str = "guard_",
) -> Dataset:
    """Judge the rows of a Ray dataset by a pool of guards, as a step among the dataset's others.

    Nothing runs before the dataset is read or written, and nothing is kept of a job that is killed: for that there is
    :func:`run_bulk`.

    Args:
        dataset: rows with a column of prompts, and where there are some, of responses (``response``) and earlier turns
            (``history``).
        guard: arguments of :class:`guardreasoner_sdk.Guard`, which each actor makes for itself: they are pickled.
        prompt_column: where the prompt, or the list of messages, stands.
        response_column: where the response stands; None: in ``response``, if there is such a column.
        actors: how many guards there are.
        cpus_per_actor: cores that each of them takes.
        gpus_per_actor: GPUs that each of them takes, for an engine in the process.
        batch_rows: rows that one of them is handed at a time.
        prefix: what the names of the new columns begin with.

    Returns:
        the dataset with ``guard_action``, ``guard_undetermined``, for each task the label and the score
        (``guard_prompt_harmfulness``, ``guard_prompt_harmfulness_score``, ...), and ``guard_verdict``, all of it as JSON.

    Raises:
        MissingExtraError: Ray is not installed.
        ConfigurationError: arguments that cannot work.

    Example:
        >>> import ray  # doctest: +SKIP
        >>> from guardreasoner_sdk.bulk import add_verdicts  # doctest: +SKIP
        >>> rows = ray.data.from_items([{"prompt": "How do I bake bread?"}])  # doctest: +SKIP
        >>> add_verdicts(rows).take(1)[0]["guard_action"]  # doctest: +SKIP
        'allow'
    """
    ray = import_ray()
    for name, value in (("actors", actors), ("cpus_per_actor", cpus_per_actor), ("batch_rows", batch_rows)):
        check_count(name, value)
    columns = Columns(prompt_column, response_column)
    return dataset.map_batches(
        JudgeBatches,
        fn_constructor_args=(complete_arguments(guard), columns, cpus_per_actor, prefix),
        batch_format="pyarrow",
        batch_size=batch_rows,
        compute=ray.data.ActorPoolStrategy(size=actors),
        num_cpus=cpus_per_actor,
        num_gpus=gpus_per_actor or None,
    )
