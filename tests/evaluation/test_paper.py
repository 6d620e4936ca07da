"""The paper's tables as data."""

from __future__ import annotations

import pytest

from guardreasoner_sdk import InputError
from guardreasoner_sdk.evaluation import BENCHMARKS, paper
from guardreasoner_sdk.verdict import TASKS


def test_all_systems_are_there_with_their_sizes() -> None:
    assert len(paper.systems()) == 25
    assert {f"GuardReasoner {size}" for size in ("1B", "3B", "8B")} <= set(paper.systems())
    assert {paper.row(name).group for name in paper.systems()} == {"Closed-Source Guard API", "Open-Source Guard Model"}


@pytest.mark.parametrize(
    ("system", "task", "benchmark", "f1"),
    [
        ("GuardReasoner 1B", "prompt_harmfulness", "AegisSafetyTest", 89.34),
        ("guardreasoner-8b", "response_refusal", "XSTestResponseRefusal", 93.68),
        ("LLaMA Guard 3 8B", "response_harmfulness", "HarmBenchResponse", 85.07),
        ("GPT-4o+CoT", "prompt_harmfulness", None, 78.0),
        ("GPT-4o", "prompt_harmfulness", None, 70.0),
        ("Aegis Guard 2.0 8B", "prompt_harmfulness", "ToxicChat", None),
        ("HarmBench LLaMA 13B", "prompt_harmfulness", None, None),
    ],
)
def test_a_figure_is_the_printed_one(system: str, task: str, benchmark: str | None, f1: float | None) -> None:
    assert paper.row(system).value(task, benchmark) == f1  # type: ignore[arg-type]


def test_every_figure_belongs_to_a_benchmark_and_is_a_percentage() -> None:
    for system in paper.systems():
        row = paper.row(system)
        assert set(row.f1) | set(row.average) <= set(TASKS)
        for task, sets in row.f1.items():
            assert all(task in BENCHMARKS[name].tasks for name in sets)
            assert all(0 <= value <= 100 for value in (*sets.values(), row.average.get(task, 0)))


@pytest.mark.parametrize("task", TASKS)
def test_the_printed_means_are_those_of_the_figures_weighted_by_rows(task: str) -> None:
    """So the numbers were copied right. The paper rounds its figures, and a few of its means are of other weights."""
    apart = []
    for system in paper.systems():
        row = paper.row(system)
        sets, mean = row.f1.get(task, {}), row.average.get(task)  # type: ignore[call-overload]
        if mean is not None:
            weights = {name: paper.sample_count(task, name) or 0 for name in sets}  # type: ignore[arg-type]
            own = sum(value * weights[name] for name, value in sets.items()) / sum(weights.values())
            apart.append(abs(own - mean))
    assert sorted(apart)[len(apart) * 3 // 4] < 0.1, apart


def test_the_paper_counts_the_rows_of_each_task_set() -> None:
    counts = [paper.sample_count(task, name) for name, benchmark in BENCHMARKS.items() for task in benchmark.tasks]
    assert all(count is not None and count >= 100 for count in counts)
    assert paper.sample_count("prompt_harmfulness", "mine") is None


def test_an_unknown_system_is_refused_with_those_that_are_near() -> None:
    with pytest.raises(
        InputError, match="no system 'LLaMA Guard'; use one of LLaMA Guard 7B, LLaMA Guard 2 8B, LLaMA Guard 3 8B"
    ):
        paper.row("LLaMA Guard")
    assert len(paper.rows(["ALL"])) == 25
    assert [row.name for row in paper.rows(["wildguard 7b", "GPT-4"])] == ["WildGuard 7B", "GPT-4"]
