"""The paper's benchmarks (arXiv:2501.18492, section 4.1) as a table, and labelled rows from wherever they lie."""

from guardreasoner_sdk.evaluation.benchmarks.catalogue import (
    BENCHMARKS,
    Benchmark,
    find_benchmark,
    read_benchmark,
    read_file,
    read_rows,
)

__all__ = [
    "BENCHMARKS",
    "Benchmark",
    "find_benchmark",
    "read_benchmark",
    "read_file",
    "read_rows",
]
