"""Scores of an exported model, made the way the runtime makes them: windows, one session, the most harmful window."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from guardreasoner_sdk.judges.encoding import Encoder, Window, collate
from guardreasoner_training.embedded.data import HEADS
from guardreasoner_training.embedded.examples import Example

Scores = NDArray[np.float64]
"""Shape (examples, 3): the probability of each head's word, NaN where the head was not asked."""


def session(model: Path, *, threads: int) -> onnxruntime.InferenceSession:
    """Open an exported model on the CPU.

    Args:
        model: the ONNX file.
        threads: processor threads of one run.

    Returns:
        The session.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def logits(run: onnxruntime.InferenceSession, windows: Sequence[Window]) -> NDArray[np.float32]:
    """Return the logits of windows, of shape (windows, 3), in their order."""

    def alone(window: Window) -> NDArray[np.float32]:
        # As the runtime does it: eight-bit activations share one scale per run, and a window beside others would score
        # otherwise.
        logits_of_one: NDArray[np.float32] = run.run(["logits"], collate([window]))[0][0]
        return logits_of_one

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return np.array(list(pool.map(alone, windows)), dtype=np.float32).reshape(len(windows), len(HEADS))


def score(run: onnxruntime.InferenceSession, encoder: Encoder, examples: Sequence[Example]) -> Scores:
    """Score examples.

    A prompt gets the highest score of its windows. A pair gets the refusal score of its opening, since a refusal opens an
    answer, and the highest score of harm of all its windows.

    Args:
        run: the model.
        encoder: cuts the windows.
        examples: what to score; their labels are not read.

    Returns:
        The scores.
    """
    windows: list[Window] = []
    ends = []
    for example in examples:
        if example.response is None:
            windows += encoder.prompt(example.prompt)
        else:
            parts = encoder.pair(example.prompt, example.response)
            windows += [encoder.opening(parts[0]), *parts]
        ends.append(len(windows))
    chances = 1 / (1 + np.exp(-logits(run, windows).astype(np.float64)))
    scores = np.full((len(examples), len(HEADS)), np.nan)
    start = 0
    for i, (example, end) in enumerate(zip(examples, ends, strict=True)):
        if example.response is None:
            scores[i, 0] = chances[start:end, 0].max()
        else:
            scores[i, 1] = chances[start, 1]
            scores[i, 2] = chances[start + 1 : end, 2].max()
        start = end
    return scores


def latency(model: Path, sample: Window, lengths: Sequence[int], *, runs: int = 40) -> dict[str, float]:
    """Measure one window at a time on one thread.

    Args:
        model: the ONNX file.
        sample: a window whose tokens are repeated to each length.
        lengths: window lengths, in tokens.
        runs: runs per length.

    Returns:
        Median milliseconds by length.
    """
    run = session(model, threads=1)
    found = {}
    for length in lengths:
        ids = (sample.ids * length)[: length - 1] + sample.ids[-1:]
        inputs = collate([Window(ids, (0,) * length)])
        times = []
        for _ in range(runs):
            started = time.perf_counter()
            run.run(["logits"], inputs)
            times.append(1000 * (time.perf_counter() - started))
        found[str(length)] = round(statistics.median(times), 2)
    return found
