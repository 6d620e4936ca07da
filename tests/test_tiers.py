"""No test is skipped unnoticed, and each is where the table says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import tiers

SKIPPING = {
    "in a test": "import pytest\ndef test_a(): pytest.skip('no such engine')\n",
    "by a mark": "import pytest\n@pytest.mark.skip(reason='no such engine')\ndef test_a(): pass\n",
    "as a whole": "import pytest\nneeded = pytest.importorskip('no_such_engine', reason='no such engine')\ndef test_a(): pass\n",
    "in a fixture": ("import pytest\n@pytest.fixture\ndef engine(): pytest.skip('no such engine')\ndef test_a(engine): pass\n"),
}


def run(folder: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    """Run pytest on a folder with nothing of ours but the table's hooks."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            *([] if (folder / "conftest.py").exists() else ["-p", "tiers"]),
            "-p",
            "no:cacheprovider",
            *arguments,
        ],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(tiers.__file__).parent),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            **environment,
        },
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("workers", [[], ["-p", "xdist", "-n", "1"]], ids=["alone", "workers"])
@pytest.mark.parametrize("how", SKIPPING)
def test_a_skip_that_is_not_allowed_is_red(tmp_path: Path, how: str, workers: list[str]) -> None:
    (tmp_path / "test_engines.py").write_text(SKIPPING[how])
    (tmp_path / "test_others.py").write_text("def test_b(): pass\n")
    assert run(tmp_path, *workers)[0] == 0
    code, said = run(tmp_path, *workers, GUARDREASONER_SKIPS="fail")
    assert code != 0
    assert "no such engine" in said
    assert "tests/tiers.py allows no such skip" in said


PROJECT = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("project_conftest", {path!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
globals().update({{name: value for name, value in vars(module).items() if not name.startswith("__")}})
"""


@pytest.mark.parametrize("how", ["in a test", "in a fixture"])
def test_a_skip_while_a_test_runs_is_red_with_all_that_the_project_does_then(tmp_path: Path, how: str) -> None:
    path = Path(tiers.__file__).with_name("conftest.py")
    (tmp_path / "conftest.py").write_text(PROJECT.format(path=str(path)))
    (tmp_path / "test_engines.py").write_text(SKIPPING[how])
    (tmp_path / "test_others.py").write_text("def test_b(): pass\n")
    code, said = run(tmp_path, GUARDREASONER_SKIPS="fail")
    assert code == 1, said
    assert "tests/tiers.py allows no such skip" in said


def test_a_skip_that_is_allowed_and_an_expected_failure_are_not_red(tmp_path: Path) -> None:
    allowed = next(iter(tiers.ALLOWED_SKIPS))
    (tmp_path / "test_a.py").write_text(
        f"import pytest\ndef test_a(): pytest.skip({allowed + ' here'!r})\n"
        "@pytest.mark.xfail\ndef test_b(): assert False\ndef test_c(): pass\n"
    )
    code, said = run(tmp_path, GUARDREASONER_SKIPS="fail")
    assert code == 0, said
    assert "1 passed, 1 skipped, 1 xfailed" in said


def test_the_longest_beginning_says_where_a_test_belongs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    table = {
        "tests/a": "slow",
        "tests/a/test_b.py": "train",
        "tests/a/test_b.py::test_one": "default",
        "tests/a/test_b.py::test_two[vllm": "engine",
        "tests/d/test_e.py::*[vllm": "engine",
        "tests/d/test_e.py::test_in_a_browser*": "slow",
    }
    monkeypatch.setattr(tiers, "TIERS", table)
    monkeypatch.setattr(tiers, "GROUPS", {"tests/a/test_b.py::test_one": None, "tests/a/test_c.py": "server"})
    tier = {
        "tests/a/test_c.py::test_one": "slow",
        "tests/ab/test_c.py::test_one": "default",
        "tests/a/test_b.py::test_three": "train",
        "tests/a/test_b.py::test_one": "default",
        "tests/a/test_b.py::test_one[x]": "default",
        "tests/a/test_b.py::test_one_more": "train",
        "tests/a/test_b.py::test_two[vllm-1]": "engine",
        "tests/a/test_b.py::test_two[remote]": "train",
        "tests/d/test_e.py::test_whatever[vllm-1]": "engine",
        "tests/d/test_e.py::test_whatever[llama]": "default",
        "tests/d/test_e.py::test_in_a_browser_it_runs": "slow",
    }
    assert {name: tiers.tier_of(name) for name in tier} == tier
    assert tiers.group_of("tests/a/test_b.py::test_one[x]") is None
    assert tiers.group_of("tests/a/test_c.py::test_one") == "server"
    assert tiers.group_of("tests/a/test_b.py::test_two[remote]") == "a/test_b"
    (tmp_path / "tests/d").mkdir(parents=True)
    (tmp_path / "tests/d/test_e.py").touch()
    assert tiers.unused(["tests/a/test_b.py::test_one"], tmp_path) == ["tests/a/test_b.py::test_two[vllm", "tests/a/test_c.py"]


def test_a_file_that_is_skipped_as_a_whole_is_no_lost_proof_where_its_tests_are_not_to_run(tmp_path: Path) -> None:
    engine = next(name for name, tier in tiers.TIERS.items() if tier != "default" and name.endswith(".py"))
    (tmp_path / engine).parent.mkdir(parents=True)
    (tmp_path / engine).write_text(SKIPPING["as a whole"])
    (tmp_path / "tests/test_others.py").write_text("def test_b(): pass\n")
    assert run(tmp_path, "-m", "not engine and not train and not slow", GUARDREASONER_SKIPS="fail")[0] == 0
    assert run(tmp_path, "-m", "", GUARDREASONER_SKIPS="fail")[0] != 0
