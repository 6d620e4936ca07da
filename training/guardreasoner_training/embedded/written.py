"""The examples that no source has, made for this project out of patterns and of the sources' own requests and answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from guardreasoner_training.embedded.answers import make_answers
from guardreasoner_training.embedded.blunt import make_blunt, make_everyday_answers
from guardreasoner_training.embedded.chats import chats
from guardreasoner_training.embedded.coded import make_coded
from guardreasoner_training.embedded.config import TrainConfig
from guardreasoner_training.embedded.conversations import make_conversations
from guardreasoner_training.embedded.documents import documents
from guardreasoner_training.embedded.examples import Example
from guardreasoner_training.embedded.framings import make_framed
from guardreasoner_training.embedded.lookalikes import lookalikes
from guardreasoner_training.embedded.needles import make_needles
from guardreasoner_training.embedded.tasks import tasks
from guardreasoner_training.embedded.translated import make_declined
from guardreasoner_training.embedded.wrappings import make_wrapped

__all__ = ["WRITTEN", "written_examples"]

WRITTEN: Final = "written"
"""Their source."""

_SURE: Final = 0.6
"""Least weight of what others are made of: a doubtful label would be multiplied."""


def written_examples(
    examples: Sequence[Example],
    config: TrainConfig,
    *,
    blunt_per_language: int = 300,
    tasks_per_language: int = 160,
    framed_examples: int = 4000,
    needled_examples: int = 8000,
    conversed_examples: int = 9000,
    declined_examples: int = 2400,
    coded_examples: int = 2500,
    documents_made: int = 3000,
) -> list[Example]:
    """Make short requests and everyday ones, put them and the others into disguises, bags and conversations, and answer them.

    Args:
        examples: the training examples, of which requests and answers are drawn.
        blunt_per_language: short requests in each language, half of them harmful (`blunt`).
        tasks_per_language: longer harmless requests in each language, and three harmful ones for eight of them (`tasks`).
        framed_examples: requests with reassurance or markup around them, half of them harmful (`framings`).
        needled_examples: requests and answers among harmless lines, half of them harmful (`needles`).
        conversed_examples: last turns of conversations, half of them harmful (`conversations`).
        coded_examples: text in code, which says nothing as it stands (`coded`).
        documents_made: pages of plain prose (`documents`).
        declined_examples: refusals and helpful openings in other languages than English (`translated`).
    """
    seed = config.seed
    plain = [*chats(most=config.chats_per_pattern, seed=seed), *lookalikes()]
    made = [Example(prompt, None, (False, None, None), 1.0, WRITTEN) for prompt in plain]
    made += make_blunt(blunt_per_language, seed=seed)
    made += tasks(tasks_per_language, seed=seed)
    answered = make_everyday_answers()
    sources = [example for example in (*examples, *made, *answered) if example.weight >= _SURE]
    return [
        *made,
        *answered,
        *make_wrapped(sources, config.wrapped_examples, seed=seed),
        *make_framed(sources, framed_examples, seed=seed),
        *make_needles(sources, needled_examples, seed=seed),
        *make_conversations(sources, conversed_examples, seed=seed),
        *make_declined(sources, declined_examples, seed=seed),
        *documents(sources, documents_made, seed=seed),
        *make_coded(sources, coded_examples, seed=seed),
        *make_answers(examples, config.paired_examples, seed=seed),
    ]
