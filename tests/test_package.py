"""What the package as a whole promises."""

import ast
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import guardreasoner_sdk

ROOT = Path(__file__).parents[1]
HEAVY = ["torch", "transformers", "vllm", "langchain", "fastapi", "onnxruntime", "openai", "typer", "rich", "numpy"]


def test_importing_loads_nothing_heavy() -> None:
    code = f"import sys; from guardreasoner_sdk import *; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_public_names_exist_and_are_sorted() -> None:
    assert all(hasattr(guardreasoner_sdk, name) for name in guardreasoner_sdk.__all__)
    assert len(guardreasoner_sdk.__all__) == len(set(guardreasoner_sdk.__all__))


def test_the_public_names_are_those_a_type_checker_sees() -> None:
    tree = ast.parse((ROOT / "guardreasoner_sdk" / "__init__.py").read_text("utf-8"))
    [typed] = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {alias.name: node.module for node in ast.walk(typed) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert set(seen) == set(guardreasoner_sdk.__all__)
    for name, module in seen.items():
        assert getattr(import_module(str(module)), name) is getattr(guardreasoner_sdk, name)


def test_errors_have_one_root_and_are_drawn() -> None:
    from guardreasoner_sdk import errors

    for name in errors.__all__:
        assert issubclass(getattr(errors, name), errors.GuardError)
        assert f"{name}" in (errors.__doc__ or "")


def test_a_missing_extra_answers_with_the_pip_line() -> None:
    error = guardreasoner_sdk.MissingExtraError("parquet", "Parquet files")
    assert str(error) == "Parquet files need an extra: pip install 'guardreasoner-sdk[parquet]'"
    assert isinstance(error, ImportError)


def test_every_extra_that_an_error_or_the_doctor_names_exists() -> None:
    from guardreasoner_sdk.catalog import BACKENDS

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    assert {info.extra for info in BACKENDS.values() if info.extra} <= set(extras)


def test_the_modules_of_public_names_are_attributes_and_others_are_none() -> None:
    code = (
        "import guardreasoner_sdk as g; print(g.errors.InputError is g.InputError, g.guard.Guard is g.Guard, 'Guard' in dir(g))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True True True\n"
    with pytest.raises(AttributeError, match="has no attribute 'Gaurd'"):
        guardreasoner_sdk.Gaurd  # type: ignore[attr-defined]  # noqa: B018
