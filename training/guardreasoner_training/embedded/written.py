"""The examples that no source has, made for this project out of patterns and of the sources' own requests and answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from guardreasoner_training.embedded.answers import paired
from guardreasoner_training.embedded.chats import chats
from guardreasoner_training.embedded.config import TrainConfig
from guardreasoner_training.embedded.examples import Example
from guardreasoner_training.embedded.lookalikes import lookalikes
from guardreasoner_training.embedded.wrappings import wrapped

__all__ = ["WRITTEN", "written_examples"]

WRITTEN: Final = "written"
"""Their source."""


def written_examples(examples: Sequence[Example], config: TrainConfig) -> list[Example]:
    """Make everyday requests, harmless ones that look harmful, wrapped requests, and further answers.

    Args:
        examples: the training examples, of which requests and answers are drawn.
        config: how many of each.
    """
    plain = [*chats(most=config.chats_per_pattern, seed=config.seed), *lookalikes()]
    made = [Example(prompt, None, (False, None, None), 1.0, WRITTEN) for prompt in plain]
    made += wrapped([*examples, *made], config.wrapped_examples, seed=config.seed)
    return made + paired(examples, config.paired_examples, seed=config.seed)
