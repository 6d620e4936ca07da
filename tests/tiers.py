"""Which tests are default, which of them run one after another in one process, and what may be skipped: all in one place.

A test without a marker is a default one: ``scripts/test`` runs it, and ``scripts/test --all`` runs every test. The default tests hold
one real proof of each kind; a marker says why another one waits for ``--all``.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable
from typing import Final, Literal, TypeVar

import pytest

__all__ = ["ALLOWED_SKIPS", "GROUPS", "TIERS", "Tier", "group_of", "is_allowed", "tier_of", "unused"]

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)
Tier = Literal["engine", "train", "slow", "default"]

TIERS: Final[dict[str, Tier]] = {
    # Engines. The transformers engine is in the default environment; one case of its conformance is a default test.
    "tests/backends/test_conformance.py": "engine",
    "tests/backends/test_conformance.py::test_greedy_answers_are_the_references_token_for_token[transformers]": "default",
    "tests/backends/test_llama_cpp.py": "engine",
    "tests/backends/test_llama_vocabulary.py": "engine",
    "tests/backends/test_remote_servers.py": "engine",
    "tests/backends/test_vllm.py": "engine",
    "tests/cli/test_export.py::test_a_trained_folder": "engine",
    "tests/test_docs.py::test_python_blocks_run_in_order_and_print_what_they_say[engines.md-llama.cpp]": "engine",
    "tests/training/test_export.py": "engine",
    "tests/training/test_gguf.py": "engine",
    "tests/training/test_mining.py::test_vllm": "engine",
    "tests/training/test_pipeline_faults.py::test_weights_converted": "engine",
    # Trainings.
    "tests/cli/test_finetune.py::test_a_disk_that_is_full": "train",
    "tests/cli/test_finetune.py::test_interrupted": "train",
    "tests/cli/test_train.py::test_the_stages_one_by_one": "train",
    "tests/training/test_finetune.py": "train",
    "tests/training/test_hsdpo.py": "train",
    "tests/training/test_hsdpo_loss.py": "train",
    "tests/training/test_pipeline.py": "train",
    "tests/training/test_pipeline_faults.py": "train",
    "tests/training/test_resume_training.py": "train",
    "tests/training/test_rsft.py": "train",
    "tests/training/test_rsft.py::test_the_folder_is_a_guard": "default",
    "tests/training/test_rsft_faults.py": "train",
    "tests/training/test_zero3.py": "train",
}
"""How the names of tests begin, as pytest prints them; the longest beginning that fits says where a test belongs."""

GROUPS: Final[dict[str, str | None]] = {}
"""The same for tests that share something costly: those of one group run in one process. None: they share nothing, and each may
run anywhere. What has no entry is in the group of its file."""

ALLOWED_SKIPS: Final[dict[str, str]] = {
    "pip install 'litellm[proxy]'": "scripts/test-versions runs these tests, with the newest LiteLLM",
    "GUARDREASONER_DATA is not set": "the public data are not part of the project",
}
"""How reasons to skip begin, and why nothing is lost by them. Where ``GUARDREASONER_SKIPS=fail``, every other skip is a failure."""

_LONGEST_FIRST: Final[tuple[Tier, ...]] = ("engine", "train", "slow", "default")


def _longest(name: str, table: Iterable[str]) -> str | None:
    # The beginning of a folder's, file's or test's whole name, or of its parameters.
    fitting = (start for start in table if name.startswith(start) and ("[" in start or name[len(start) :][:1] in "/:["))
    return max(fitting, key=len, default=None)


def tier_of(name: str) -> Tier:
    """The tier of a test."""
    found = _longest(name, TIERS)
    return "default" if found is None else TIERS[found]


def group_of(name: str) -> str | None:
    """The group of a test, or None where it may run anywhere."""
    found = _longest(name, GROUPS)
    return name.partition("::")[0].removeprefix("tests/").removesuffix(".py") if found is None else GROUPS[found]


def is_allowed(reason: str) -> bool:
    """Whether nothing is lost where a test is skipped for a reason."""
    return any(reason.removeprefix("Skipped: ").startswith(start) for start in ALLOWED_SKIPS)


def unused(names: Iterable[str]) -> list[str]:
    """The entries of the tables that no test has."""
    names = list(names)
    return [start for start in {**TIERS, **GROUPS} if not any(_longest(name, [start]) for name in names)]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests, before ``-m`` chooses among them."""
    if config.args == config.getini("testpaths") and (lost := unused(item.nodeid for item in items)):
        raise pytest.UsageError(f"tests/tiers.py names what is no test: {', '.join(lost)}")
    for item in items:
        if (tier := tier_of(item.nodeid)) != "default":
            item.add_marker(tier)
            item.add_marker(pytest.mark.timeout(900))
        if group := group_of(item.nodeid):
            item.add_marker(pytest.mark.xdist_group(group))
    # Where there are several processes, files of what takes long begin first: none of them works on alone at the end.
    items.sort(key=lambda item: _LONGEST_FIRST.index(tier_of(item.nodeid.partition("::")[0])))


def _without_lost_proof(report: Report) -> Report:
    reason = str(report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr)
    if (
        report.skipped
        and not hasattr(report, "wasxfail")
        and os.environ.get("GUARDREASONER_SKIPS") == "fail"
        and not is_allowed(reason)
    ):
        report.outcome, report.longrepr = "failed", f"{reason} (tests/tiers.py allows no such skip)"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A skip that the list does not allow is a failure where ``GUARDREASONER_SKIPS=fail``."""
    return _without_lost_proof((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a file that is skipped as a whole."""
    return _without_lost_proof((yield))
