"""From the hazards that guards name to the categories of moderation APIs.

What a guard of ours does not tell apart stays false and 0.0; its own names stand in a result's extra field ``guardreasoner``.
The names on the left are those of the guards' own taxonomies, without their codes: MLCommons' (Llama Guard, ThinkGuard and the
embedded guard), Qwen3Guard's, ShieldGemma's, and those of classifiers (``dialects/label_maps.toml``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

__all__ = ["MISTRAL", "OPENAI", "categorised"]

OPENAI = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)
"""OpenAI's categories, of ``openai.types.Moderation``."""

MISTRAL = (
    "sexual",
    "hate_and_discrimination",
    "violence_and_threats",
    "dangerous_and_criminal_content",
    "selfharm",
    "health",
    "financial",
    "law",
    "pii",
)
"""Mistral's categories, of its guide to moderation. Its results have no ``flagged``: what is harmful and fits no other one is
``dangerous_and_criminal_content`` there."""

_MAPPED: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "violent crimes": (("illicit/violent", "violence"), ("violence_and_threats", "dangerous_and_criminal_content")),
    "non-violent crimes": (("illicit",), ("dangerous_and_criminal_content",)),
    "sex-related crimes": (("sexual",), ("sexual", "dangerous_and_criminal_content")),
    "child sexual exploitation": (("sexual", "sexual/minors"), ("sexual", "dangerous_and_criminal_content")),
    "defamation": (("harassment",), ("hate_and_discrimination",)),
    "privacy": ((), ("pii",)),
    "indiscriminate weapons": (("illicit/violent",), ("dangerous_and_criminal_content",)),
    "hate": (("hate",), ("hate_and_discrimination",)),
    "suicide & self-harm": (("self-harm",), ("selfharm",)),
    "sexual content": (("sexual",), ("sexual",)),
    "code interpreter abuse": (("illicit",), ("dangerous_and_criminal_content",)),
    # Qwen3Guard's.
    "violent": (("violence",), ("violence_and_threats",)),
    "non-violent illegal acts": (("illicit",), ("dangerous_and_criminal_content",)),
    "sexual content or sexual acts": (("sexual",), ("sexual",)),
    "pii": ((), ("pii",)),
    # ShieldGemma's.
    "dangerous content": (("illicit",), ("dangerous_and_criminal_content",)),
    "harassment": (("harassment",), ("hate_and_discrimination",)),
    "hate speech": (("hate",), ("hate_and_discrimination",)),
    "sexually explicit information": (("sexual",), ("sexual",)),
    # DuoGuard's that MLCommons' list has in other words, detoxify's and BeaverTails'.
    "suicide and self-harm": (("self-harm",), ("selfharm",)),
    "threat": (("harassment/threatening",), ("violence_and_threats",)),
    "insult": (("harassment",), ("hate_and_discrimination",)),
    "identity attack": (("hate",), ("hate_and_discrimination",)),
    "sexually explicit": (("sexual",), ("sexual",)),
    "discrimination, stereotype, injustice": (("hate",), ("hate_and_discrimination",)),
    "drug abuse, weapons, banned substance": (("illicit",), ("dangerous_and_criminal_content",)),
    "financial crime, property crime, theft": (("illicit",), ("dangerous_and_criminal_content",)),
    "hate speech, offensive language": (("hate",), ("hate_and_discrimination",)),
    "privacy violation": ((), ("pii",)),
    "self harm": (("self-harm",), ("selfharm",)),
    "sexually explicit, adult content": (("sexual",), ("sexual",)),
    "terrorism, organized crime": (("illicit/violent",), ("dangerous_and_criminal_content",)),
    "violence, aiding and abetting, incitement": (("violence",), ("violence_and_threats",)),
}

_CODE = re.compile(r"S\d+ ")


def categorised(names: Sequence[str], categories: tuple[str, ...]) -> set[str]:
    """The categories of an API in which the hazards are that a guard named.

    Args:
        names: as they are in ``Verdict.categories``.
        categories: :data:`OPENAI` or :data:`MISTRAL`.
    """
    side = 0 if categories is OPENAI else 1
    return {found for name in names for found in _MAPPED.get(_CODE.sub("", name, count=1).lower(), ((), ()))[side]}
