"""Hard-sample mining (arXiv:2501.18492, section 3.3): rows that a model answers now right, now wrong, as weighed pairs."""

from guardreasoner_training.mining.stage import (
    PAIRS,
    SELF_PAIRS,
    STATISTICS,
    mine,
    statistics_text,
)

__all__ = [
    "PAIRS",
    "SELF_PAIRS",
    "STATISTICS",
    "mine",
    "statistics_text",
]
