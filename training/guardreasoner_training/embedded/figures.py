"""All that is measured of judges on examples that none of them was trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

import numpy as np

from guardreasoner_sdk.evaluation.disguises import DISGUISES
from guardreasoner_training.embedded import measures
from guardreasoner_training.embedded.benchmarks import BenchmarkExamples
from guardreasoner_training.embedded.config import Limits, TrainConfig
from guardreasoner_training.embedded.data import HEADS
from guardreasoner_training.embedded.examples import Example, sample_evenly
from guardreasoner_training.embedded.scoring import Scores

Scorer = Callable[[Sequence[Example]], Scores]

SHIPPED = "int8"
"""The judge that is in the package; what is measured of one judge alone is measured of this."""


@dataclass(frozen=True, slots=True)
class Classifier:
    """What scores examples, and from which score on each head's answer is positive.

    Attributes:
        score: scores examples.
        dev: scores of the development examples.
        unseen: scores of those of unseen sources.
        thresholds: one per head.
        shift: what length costs (`lengths`), one per head.
    """

    score: Scorer
    dev: Scores
    unseen: Scores
    thresholds: Sequence[float]
    shift: Sequence[float] = (0.0, 0.0, 0.0)


def judge(score: Scorer, dev: Sequence[Example], unseen: Sequence[Example], *, limits: Limits) -> Classifier:
    """Score both parts, and choose the thresholds on the first.

    Args:
        limits: of harmless text, how much may be flagged.
    """
    of_dev = score(dev)
    thresholds = measures.choose_thresholds(dev, of_dev, limits=limits)
    return Classifier(score, of_dev, score(unseen), thresholds)


def figures(
    judges: Mapping[str, Classifier],
    dev: Sequence[Example],
    unseen: Sequence[Example],
    benchmarks: Sequence[BenchmarkExamples],
    config: TrainConfig,
    *,
    disguises: object = None,
) -> dict[str, object]:
    """Measure judges.

    Args:
        judges: by name, `SHIPPED` among them.
        config: how many examples are disguise, and the seed.
        disguises: figures of disguises that were measured before; None: they are measured, which takes the longest.

    Returns:
        The parts of metrics.json that tell how good the judges are.
    """
    shipped = judges[SHIPPED]
    return {
        "thresholds": {name: dict(zip(HEADS, of.thresholds, strict=True)) for name, of in judges.items()},
        "dev": {name: measures.measure_heads(dev, of.dev, of.thresholds) for name, of in judges.items()},
        "unseen": {name: measures.measure_heads(unseen, of.unseen, of.thresholds) for name, of in judges.items()},
        "by_source": {
            "dev": measures.by_group(dev, shipped.dev, shipped.thresholds, lambda example: example.source),
            "unseen": measures.by_group(unseen, shipped.unseen, shipped.thresholds, lambda example: example.source),
        },
        "by_language": {
            "dev": measures.by_group(dev, shipped.dev, shipped.thresholds, lambda example: example.lang),
            "unseen": measures.by_group(unseen, shipped.unseen, shipped.thresholds, lambda example: example.lang),
        },
        "false_alarms": {
            "dev": measures.false_alarms(dev, shipped.dev, shipped.thresholds),
            "unseen": measures.false_alarms(unseen, shipped.unseen, shipped.thresholds),
        },
        "disguises": _disguises(shipped, dev, config) if disguises is None else disguises,
        "benchmarks": {of.name: _measure_benchmark(of, judges) for of in benchmarks},
    }


def _disguises(shipped: Classifier, dev: Sequence[Example], config: TrainConfig) -> dict[str, dict[str, float | None]]:
    """Balanced F1 of a draw of the development split as it is, and of the same examples in each disguise."""
    plain = sample_evenly([example for example in dev if example.english], config.disguised_examples, seed=config.seed)
    found = {"none": measures.balanced_heads(plain, shipped.score(plain), shipped.thresholds)}
    for name in DISGUISES:
        hidden = disguise(plain, name, seed=config.seed)
        found[name] = measures.balanced_heads(hidden, shipped.score(hidden), shipped.thresholds)
    return found


def _measure_benchmark(of: BenchmarkExamples, judges: Mapping[str, Classifier]) -> dict[str, object]:
    labels = np.array([bool(example.labels[of.head]) for example in of.examples], dtype=np.bool_)
    found: dict[str, object] = {"head": HEADS[of.head]}
    for name, one in judges.items():
        found[name] = measures.measure(one.score(of.examples)[:, of.head], labels, one.thresholds[of.head])
    return found


def disguise(examples: Sequence[Example], name: str, *, seed: int) -> list[Example]:
    """The examples with what is judged in disguise: the prompt, or the response where there is one."""
    change = DISGUISES[name]
    draw = Random(seed)  # noqa: S311
    return [
        replace(example, prompt=change(example.prompt, draw))
        if example.response is None
        else replace(example, response=change(example.response, draw))
        for example in examples
    ]
