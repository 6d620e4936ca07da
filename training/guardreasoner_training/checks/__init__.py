"""Training data: checked as a whole, cleaned, cut into parts, and made ready for training."""

from guardreasoner_training.checks.preparing import (
    DataReport,
    Leak,
    Lengths,
    Prepared,
    check_rows,
    find_leaks,
    measure_lengths,
    prepare,
)

__all__ = [
    "DataReport",
    "Leak",
    "Lengths",
    "Prepared",
    "check_rows",
    "find_leaks",
    "measure_lengths",
    "prepare",
]
