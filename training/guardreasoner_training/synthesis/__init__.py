"""Reasoning data synthesis (arXiv:2501.18492, section 3.1): a teacher writes the steps that lead to labels known to be true."""

from guardreasoner_training.synthesis.stage import (
    ANSWERS,
    QUALITY,
    REJECTED,
    ROWS,
    Patience,
    quality_text,
    synthesize,
)

__all__ = [
    "ANSWERS",
    "QUALITY",
    "REJECTED",
    "ROWS",
    "Patience",
    "quality_text",
    "synthesize",
]
