"""Several guards on the same rows: figures side by side, how far they agree, and whether a difference is more than chance."""

from guardreasoner_sdk.evaluation.comparison.figures import (
    ComparedGuard,
    ComparedTask,
    Comparison,
    GuardRun,
    Pair,
    compare_guards,
    compare_runs,
)
from guardreasoner_sdk.evaluation.comparison.page import print_comparison, write_comparison

__all__ = [
    "ComparedGuard",
    "ComparedTask",
    "Comparison",
    "GuardRun",
    "Pair",
    "compare_guards",
    "compare_runs",
    "print_comparison",
    "write_comparison",
]
