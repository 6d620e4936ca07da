"""What length does to a maximum: over many windows the strongest of harmless ones comes near the threshold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from random import Random
from typing import Final

import numpy as np
from numpy.typing import NDArray

from guardreasoner_training.embedded.data import HEADS
from guardreasoner_training.embedded.examples import Example
from guardreasoner_training.embedded.scoring import Judged
from guardreasoner_training.embedded.sources import source_of

__all__ = ["embed_among", "fit_length_shift"]

_WORDS: Final = (300, 1000, 3000)
_TEXTS: Final = 60
_AROUND: Final = 600
_GRID: Final = np.round(np.arange(0.0, 1.5001, 0.05), 2)
_MORE_ALARMS: Final = 0.02
_HARM: Final = (0, 2)  # A refusal is read from an opening, whatever the length.


def fit_length_shift(
    judge: Callable[[Sequence[Example]], list[Judged]], examples: Sequence[Example], thresholds: Sequence[float], *, seed: int
) -> list[float]:
    """Choose what a logit loses with each doubling of the number of windows.

    Harmless examples are put among 300 to 3,000 words of others, none of which is flagged alone: of the losses with which at
    most two in a hundred of them are flagged there, the smallest is taken.

    Args:
        judge: runs the model over the windows of examples.
        thresholds: one per head.
        seed: draws the examples and what stands around them.

    Returns:
        One loss per head, in logits.
    """
    draw = Random(seed)  # noqa: S311 - no secret: the same seed must give the same texts
    shifts = [0.0] * len(HEADS)
    for head in _HARM:
        harmless = [example for example in examples if example.labels[head] is False and example.lang == "en"]
        if len(harmless) < 2:
            continue
        # What looks harmful and is not would be flagged by itself: what is measured here is length.
        plain = [example for example in harmless if source_of(example.source).benign] or harmless
        chosen = draw.sample(plain, min(len(plain), _AROUND))
        alone = np.array([judged.scores(shifts)[head] for judged in judge(chosen)])
        # Nor does a text among others say anything of length where one of these is flagged by itself.
        calm = [example for example, score in zip(chosen, alone, strict=True) if score < thresholds[head]]
        longer = judge([embed_among(example, calm, words, draw) for words in _WORDS for example in calm[:_TEXTS]])
        shifts[head] = _smallest(longer, head, thresholds[head])
    return shifts


def embed_among(example: Example, harmless: Sequence[Example], words: int, draw: Random) -> Example:
    """Put the judged text of an example in the middle of others.

    Args:
        harmless: what stands around it, of the same kind.
    """
    before, after = (" \n".join(_texts(harmless, words // 2, draw)) for _ in range(2))
    text = f"{before}\n{_judged(example)}\n{after}"
    return replace(example, prompt=text) if example.response is None else replace(example, response=text)


def _texts(examples: Sequence[Example], words: int, draw: Random) -> Iterator[str]:
    while words > 0:
        text = _judged(draw.choice(examples)).split()[:words]
        words -= max(1, len(text))  # an answer may be empty
        yield " ".join(text)


def _judged(example: Example) -> str:
    return example.prompt if example.response is None else example.response


def _smallest(judged: Sequence[Judged], head: int, threshold: float) -> float:
    flagged: NDArray[np.float64] = np.array(
        [np.mean([one.scores([shift] * len(HEADS))[head] >= threshold for one in judged]) if judged else 0.0 for shift in _GRID]
    )
    calm = np.flatnonzero(flagged <= _MORE_ALARMS)
    return float(_GRID[calm[0]] if len(calm) else _GRID[-1])
