"""Measuring guards: benchmarks, figures, stored answers, and the tables of the paper (arXiv:2501.18492).

What is named here is loaded when it is used: an application that only loads a calibration pays for nothing else.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from guardreasoner_sdk.data.columns import Columns
    from guardreasoner_sdk.evaluation import paper
    from guardreasoner_sdk.evaluation.benchmarks import (
        BENCHMARKS,
        Benchmark,
        find_benchmark,
        read_benchmark,
        read_file,
        read_rows,
    )
    from guardreasoner_sdk.evaluation.clear_cut import clear_cut_rows
    from guardreasoner_sdk.evaluation.comparison import Comparison, GuardRun, compare_guards, compare_runs, write_comparison
    from guardreasoner_sdk.evaluation.metrics import Interval, Measures, averages, measure
    from guardreasoner_sdk.evaluation.robustness import Robustness, RobustnessRow, measure_robustness, robustness_rows
    from guardreasoner_sdk.evaluation.rows import LabelledRow, PaperReading, Prediction
    from guardreasoner_sdk.evaluation.scoring import Score, score
    from guardreasoner_sdk.evaluation.stored import StoredSet, predictions_of, stored_sets

__all__ = [
    "BENCHMARKS",
    "Benchmark",
    "Columns",
    "Comparison",
    "GuardRun",
    "Interval",
    "LabelledRow",
    "Measures",
    "PaperReading",
    "Prediction",
    "Robustness",
    "RobustnessRow",
    "Score",
    "StoredSet",
    "averages",
    "clear_cut_rows",
    "compare_guards",
    "compare_runs",
    "find_benchmark",
    "measure",
    "measure_robustness",
    "paper",
    "predictions_of",
    "read_benchmark",
    "read_file",
    "read_rows",
    "robustness_rows",
    "score",
    "stored_sets",
    "write_comparison",
]

_MODULES = {
    "benchmarks": ("BENCHMARKS", "Benchmark", "find_benchmark", "read_benchmark", "read_file", "read_rows"),
    "clear_cut": ("clear_cut_rows",),
    "comparison": ("Comparison", "GuardRun", "compare_guards", "compare_runs", "write_comparison"),
    "metrics": ("Interval", "Measures", "averages", "measure"),
    "robustness": ("Robustness", "RobustnessRow", "measure_robustness", "robustness_rows"),
    "rows": ("LabelledRow", "PaperReading", "Prediction"),
    "scoring": ("Score", "score"),
    "stored": ("StoredSet", "predictions_of", "stored_sets"),
}
_PLACES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "paper":
        return import_module(f"{__name__}.paper")
    if name == "Columns":
        return import_module("guardreasoner_sdk.data.columns").Columns
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
