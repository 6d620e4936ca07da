"""Every public name has an example in its docstring, and it runs as it stands there."""

from __future__ import annotations

import doctest
import inspect
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import guardreasoner_sdk

MODULES = ("exchange", "testing")
"""Modules whose public names are used from there."""


def public() -> Iterator[tuple[str, Any]]:
    for module in (guardreasoner_sdk, *(import_module(f"guardreasoner_sdk.{name}") for name in MODULES)):
        for name in module.__all__:
            value = getattr(module, name)
            if not inspect.isclass(value) and not inspect.isfunction(value):
                continue  # an alias, or a constant
            yield name, value
    for name, method in inspect.getmembers_static(guardreasoner_sdk.Guard, inspect.isfunction):
        if not name.startswith("_"):
            yield f"Guard.{name}", method


PUBLIC = dict(public())


PACKAGES = (
    "guardreasoner_integrations.asgi",
    "guardreasoner_integrations.langchain",
    "guardreasoner_integrations.langgraph",
    "guardreasoner_integrations.litellm",
    "guardreasoner_integrations.openai",
    "guardreasoner_sdk.dialects",
    "guardreasoner_sdk.evaluation",
    "guardreasoner_training.checks",
    "guardreasoner_training.export",
    "guardreasoner_training.finetune",
    "guardreasoner_training.hsdpo",
    "guardreasoner_training.mining",
    "guardreasoner_training.pipeline",
    "guardreasoner_training.recipe",
    "guardreasoner_training.rows",
    "guardreasoner_training.rsft",
    "guardreasoner_training.steps",
    "guardreasoner_training.synthesis",
)
"""What else users import from. Each of them is imported by its own test: some take seconds."""

HANDED_OUT = {
    "guardreasoner_integrations.langchain": {"Block", "ObservedRun"},
    "guardreasoner_integrations.langgraph": {"GuardState", "GuardVerdict"},
    "guardreasoner_sdk.evaluation": {"Comparison"},
    "guardreasoner_training.checks": {"DataReport", "Leak", "Lengths", "Prepared", "find_leaks", "measure_lengths"},
    "guardreasoner_training.export": {"check_kinds", "guard_dialect", "is_export", "is_outdated"},
    "guardreasoner_training.hsdpo": {"HSDPOStage"},
    "guardreasoner_training.mining": {"statistics_text"},
    "guardreasoner_training.rows": {"from_source", "hub_rows", "read_each", "stable_random"},
    "guardreasoner_training.rsft": {"RSFTStage"},
    "guardreasoner_training.synthesis": {"Patience", "quality_text"},
}
"""What users are handed, or what only the other stages call: its example is that of the function it comes from."""


def run(name: str, value: Any) -> None:
    assert "Example:" in (inspect.getdoc(value) or ""), f"{name} has no example"
    finder = doctest.DocTestFinder(recurse=False)
    [example] = finder.find(value, name, globs={})
    assert example.examples
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    runner.run(example, out=report.append)
    assert not runner.failures, "".join(report)


@pytest.mark.parametrize("name", PUBLIC)
def test_the_example_runs_as_it_stands_there(name: str) -> None:
    run(name, PUBLIC[name])


# litellm's types are built when they are first used, and pydantic warns of them.
@pytest.mark.filterwarnings("ignore:Items? .* on TypedDict class:UserWarning")
@pytest.mark.parametrize("package", PACKAGES)
def test_the_examples_of_a_package_run_as_they_stand_there(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if package.endswith(".litellm"):
        monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        monkeypatch.setattr("litellm.callbacks", [])
    module = import_module(package)
    for name in module.__all__:
        value = getattr(module, name)
        is_settings = package.endswith(".recipe") and inspect.isclass(value) and name != "Recipe"
        if is_settings or name in HANDED_OUT.get(package, ()):
            continue
        if inspect.isclass(value) or inspect.isfunction(value):
            run(name, value)
