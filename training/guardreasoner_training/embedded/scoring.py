"""Scores of an exported model, made the way the runtime makes them: windows, one session, the most harmful window."""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, cast

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from guardreasoner_sdk.exchange import Exchange, Role, Turn
from guardreasoner_sdk.judges.encoding import ANSWERED, ASKED, PROMPT, Encoder, TokenWindow, collate
from guardreasoner_sdk.judges.evidence import probability
from guardreasoner_sdk.judges.threads import each_in_threads
from guardreasoner_sdk.judges.windows import JudgedExchange, Seen, read_rows
from guardreasoner_sdk.verdict import TASKS
from guardreasoner_training.embedded.data import HEADS
from guardreasoner_training.embedded.examples import Example

KINDS: Final = {"user": ASKED, "assistant": ANSWERED}
"""The kinds of earlier turns that are read for context, by who speaks."""

Scores = NDArray[np.float64]
"""Shape (examples, 3): the probability of each head's word, NaN where the head was not asked."""


def session(model: Path, *, threads: int) -> onnxruntime.InferenceSession:
    """Open an exported model on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def logits(run: onnxruntime.InferenceSession, windows: Sequence[TokenWindow]) -> NDArray[np.float32]:
    """Return the logits of windows, of shape (windows, 3), in their order."""
    found = each_in_threads(partial(_alone, run), windows, os.cpu_count() or 1)
    return np.array(found, dtype=np.float32).reshape(len(windows), len(HEADS))


def _alone(run: onnxruntime.InferenceSession, window: TokenWindow) -> NDArray[np.float32]:
    # As the runtime does it: eight-bit activations share one scale per run, and a window beside others would score otherwise.
    found: NDArray[np.float32] = run.run(["logits"], collate([window]))[0][0]
    return found


@dataclass(frozen=True, slots=True)
class Judged:
    """What an exported model makes of the windows of one example, before any threshold.

    Attributes:
        row: what the runtime keeps of it, without the tokens.
    """

    row: JudgedExchange

    def scores(self, shift: Sequence[float]) -> NDArray[np.float64]:
        """The three chances, as the runtime has them; NaN where it was not judged.

        Args:
            shift: for each head, how much a logit loses with each doubling of the number of windows.
        """
        costs = dict(zip(TASKS, shift, strict=True))
        logits = [self.row.logit(task, costs) for task in TASKS]
        return np.array([math.nan if logit is None else probability(logit) for logit in logits])


def judge_windows(run: onnxruntime.InferenceSession, encoder: Encoder, examples: Sequence[Example]) -> list[Judged]:
    """Run the model over every window of examples.

    Args:
        examples: what to judge; their labels are not read.
    """
    rows = [JudgedExchange(_exchange(example)) for example in examples]

    def see(window: TokenWindow) -> Seen:
        tokens, found = (values[0] for values in run.run(["tokens", "logits"], collate([window])))
        return Seen(window.start, tokens[window.first : -1], found.tolist(), (), ())

    read_rows(
        rows,
        encoder,
        see,
        threads=os.cpu_count() or 1,
        check=_in_no_hurry,
        # Of a pair, the answer was labelled: its prompt is another row's.
        judged=lambda row, part: row.exchange.response is None or part.source == "response",
    )
    return [Judged(row) for row in rows]


def _exchange(example: Example) -> Exchange:
    # Not by its constructor: rows of data sets have empty answers, which nobody could ask a guard about.
    turns = tuple(Turn.model_construct(role=cast("Role", role), content=said) for role, said in example.history)
    return Exchange.model_construct(prompt=example.prompt, response=example.response, history=turns)


def _in_no_hurry() -> None:
    """There is no deadline."""


def score(
    run: onnxruntime.InferenceSession, encoder: Encoder, examples: Sequence[Example], shift: Sequence[float] = (0.0, 0.0, 0.0)
) -> Scores:
    """Score examples the way the runtime does.

    Args:
        run: the model.
        encoder: cuts the windows.
        examples: what to score; their labels are not read.
        shift: see `Judged.scores`.
    """
    return scores_of(judge_windows(run, encoder, examples), shift)


def scores_of(judged: Sequence[Judged], shift: Sequence[float] = (0.0, 0.0, 0.0)) -> Scores:
    """The scores of what was judged already.

    Args:
        shift: see `Judged.scores`.
    """
    return np.array([of.scores(shift) for of in judged]).reshape(len(judged), len(HEADS))


def latency(model: Path, sample: TokenWindow, lengths: Sequence[int], *, runs: int = 40) -> dict[str, float]:
    """Measure one window at a time on one thread.

    Args:
        sample: a window whose tokens are repeated to each length.
        lengths: window lengths, in tokens.

    Returns:
        Median milliseconds by length.
    """
    run = session(model, threads=1)
    found = {}
    for length in lengths:
        ids = (sample.ids * length)[: length - 1] + sample.ids[-1:]
        inputs = collate([TokenWindow(ids, (PROMPT,) * length)])
        times = []
        for _ in range(runs):
            started = time.perf_counter()
            run.run(["logits"], inputs)
            times.append(1000 * (time.perf_counter() - started))
        found[str(length)] = round(statistics.median(times), 2)
    return found
