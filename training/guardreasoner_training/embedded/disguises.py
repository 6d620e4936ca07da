"""Disguised copies of examples, to measure whether a disguise flips a finding. Nothing is trained on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from guardreasoner_sdk.evaluation.disguises import DISGUISES
from guardreasoner_training.embedded.examples import Example

__all__ = ["DISGUISES", "disguise"]


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
