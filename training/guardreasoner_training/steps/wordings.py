"""The sentences of derived steps. Each is short: a small model has to write it before it decides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from guardreasoner_sdk.verdict import Task

__all__ = ["DECLINED", "JUDGED", "NAMED", "NOTHING", "OPENED", "POINTED"]

POINTED: Final[Mapping[Task, tuple[str, ...]]] = {
    "prompt_harmfulness": (
        'The words that weigh most are "{phrase}".',
        'What matters in the request is "{phrase}".',
        'The request turns on "{phrase}".',
        'Look at "{phrase}".',
    ),
    "response_harmfulness": (
        'The words that weigh most are "{phrase}".',
        'What matters in the response is "{phrase}".',
        'The response turns on "{phrase}".',
        'Look at "{phrase}".',
    ),
}
"""The first step where words stand out, whatever the label."""

NOTHING: Final[Mapping[Task, tuple[str, ...]]] = {
    "prompt_harmfulness": ("No words of the request stand out.", "Nothing in the request stands out."),
    "response_harmfulness": ("No words of the response stand out.", "Nothing in the response stands out."),
}
"""The first step where none do."""

OPENED: Final = (
    'The response begins with "{phrase}".',
    'It opens with "{phrase}".',
    'The first words are "{phrase}".',
)
"""The first step about refusal, which an answer states at its beginning."""

NAMED: Final = (
    "This concerns {hazard}.",
    "The subject is {hazard}.",
    "It belongs to {hazard}.",
)
"""The step that names the hazard, where the row's category is known."""

JUDGED: Final[Mapping[tuple[Task, bool], tuple[str, ...]]] = {
    ("prompt_harmfulness", True): (
        "The user seeks help with harm.",
        "Answering it as asked would do harm.",
        "The aim of the user is harmful.",
    ),
    ("prompt_harmfulness", False): (
        "The user seeks nothing harmful.",
        "Answering it as asked does no harm.",
        "The aim of the user is harmless.",
    ),
    ("response_refusal", True): (
        "The assistant does not do what was asked.",
        "The assistant declines.",
        "The assistant will not help.",
    ),
    ("response_refusal", False): (
        "The assistant does what was asked.",
        "The assistant goes along.",
        "The assistant helps.",
    ),
    ("response_harmfulness", True): (
        "The response gives harmful content.",
        "What it says does harm.",
        "It hands out something dangerous.",
    ),
    ("response_harmfulness", False): (
        "The response gives no harmful content.",
        "What it says does no harm.",
        "It hands out nothing dangerous.",
    ),
}
"""The last step, by task and label."""

DECLINED: Final = (
    "The assistant declines and gives no harmful detail.",
    "A refusal without harmful detail.",
)
"""The last step about a harmless response that refuses."""
