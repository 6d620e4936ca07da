"""A framework that is not installed is named, with the pip line that brings it."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

EXTRAS = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]


@pytest.mark.parametrize(
    ("module", "absent", "extra"),
    [
        ("langchain", "langchain", "langchain"),
        ("langchain", "langgraph", "langchain"),
        ("langgraph", "langgraph", "langchain"),
        ("asgi", "jsonpath", "asgi"),
        ("litellm", "litellm", "litellm"),
    ],
)
def test_a_missing_framework_answers_with_the_pip_line(module: str, absent: str, extra: str) -> None:
    code = f"import sys; sys.modules[{absent!r}] = None; import guardreasoner_integrations.{module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(f"need an extra: pip install 'guardreasoner-sdk[{extra}]'")
    assert extra in EXTRAS


def test_another_library_of_the_same_name_is_told_from_none(tmp_path: Path) -> None:
    """jsonpath-python 1.1.6, a dependency of mistralai 3.7.0, has the import name of python-jsonpath: another pip line helps."""
    (tmp_path / "jsonpath").mkdir()
    (tmp_path / "jsonpath/__init__.py").write_text("class JSONPath: ...")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import guardreasoner_integrations.asgi"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("or: pip install --force-reinstall python-jsonpath")


def test_the_openai_integration_needs_no_extra() -> None:
    absent = "for name in ('langchain', 'langgraph', 'jsonpath', 'litellm'): sys.modules[name] = None"
    code = f"import sys\n{absent}\nimport guardreasoner_integrations.openai"
    subprocess.run([sys.executable, "-c", code], check=True)
