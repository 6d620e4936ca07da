"""How many tokens rows have, and which are longer than a model takes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from guardreasoner_training.formats import Format, Rendering, encode, output_of
from guardreasoner_training.rows import TrainingRow

__all__ = ["Lengths", "measure_lengths"]


@dataclass(frozen=True, slots=True)
class Lengths:
    """Statistics of the tokens of rows, prompt and output together.

    Args:
        rows: how many were measured.
        median: tokens of the middle row.
        p95: 95 of 100 rows have no more.
        p99: 99 of 100 rows have no more.
        longest: tokens of the longest row.
        output_median: tokens of the middle output alone.
        limit: most tokens of a row.
        too_long: names of the rows over the limit; the end of their output would be cut off, with the answers in it.
    """

    rows: int
    median: int
    p95: int
    p99: int
    longest: int
    output_median: int
    limit: int
    too_long: tuple[str, ...]


def measure_lengths(
    rows: Iterable[TrainingRow],
    tokenizer: Any,
    *,
    format: Format,
    rendering: Rendering,
    limit: int,
) -> Lengths | None:
    """Encode rows as training does, and count.

    Args:
        rows: with everything that an output needs.
        tokenizer: of the base model, with a chat template where the rendering is ``chat``.
        format: what the model writes.
        rendering: how it is asked.
        limit: most tokens of a row.

    Returns:
        the figures; None where there are no rows.

    Raises:
        InputError: a row has no output.
    """
    totals: list[int] = []
    outputs: list[int] = []
    too_long: list[str] = []
    for row in rows:
        prompt, output = encode(row.exchange, output_of(row, format), tokenizer, format=format, rendering=rendering)
        totals.append(len(prompt) + len(output))
        outputs.append(len(output))
        if totals[-1] > limit:
            too_long.append(row.id)
    if not totals:
        return None
    totals.sort()
    outputs.sort()
    return Lengths(
        rows=len(totals),
        median=_quantile(totals, 0.5),
        p95=_quantile(totals, 0.95),
        p99=_quantile(totals, 0.99),
        longest=totals[-1],
        output_median=_quantile(outputs, 0.5),
        limit=limit,
        too_long=tuple(too_long),
    )


def _quantile(ascending: list[int], share: float) -> int:
    return ascending[min(len(ascending) - 1, int(share * len(ascending)))]
