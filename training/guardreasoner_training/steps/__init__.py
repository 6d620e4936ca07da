"""Rows that lack something get it: short reasoning steps from labels, category and evidence, and labels from a guard."""

from guardreasoner_training.steps.spell import (
    Evidence,
    complete_labels,
    derive_steps,
)

__all__ = [
    "Evidence",
    "complete_labels",
    "derive_steps",
]
