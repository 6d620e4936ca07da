"""Every public name has an example in its docstring, and it runs as it stands there."""

from __future__ import annotations

import doctest
import inspect
from collections.abc import Iterator
from importlib import import_module
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


@pytest.mark.parametrize("name", PUBLIC)
def test_the_example_runs_as_it_stands_there(name: str) -> None:
    value = PUBLIC[name]
    assert "Example:" in (inspect.getdoc(value) or ""), f"{name} has no example"
    finder = doctest.DocTestFinder(recurse=False)
    [example] = finder.find(value, name, globs={})
    assert example.examples
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    runner.run(example, out=report.append)
    assert not runner.failures, "".join(report)
