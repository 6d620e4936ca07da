"""Which tests are default, which of them run one after another in one process, and what may be skipped: all in one place.

A test without a marker is a default one: ``scripts/test`` runs it, and ``scripts/test --all`` runs every test. The default tests hold
one real proof of each kind; a marker says why another one waits for ``--all``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Iterable
from functools import cache
from pathlib import Path
from typing import Final, Literal, TypeVar

import pytest

__all__ = ["ALLOWED_SKIPS", "GROUPS", "TIERS", "Tier", "group_of", "is_allowed", "tier_of", "unused"]

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)
Tier = Literal["engine", "train", "slow", "default"]

TIERS: Final[dict[str, Tier]] = {
    # Engines: llama.cpp and vLLM. The transformers engine is in the default environment, and so is its conformance.
    "tests/backends/test_conformance.py::*[llama_cpp": "engine",
    "tests/backends/test_conformance.py::*[remote ": "engine",
    "tests/backends/test_conformance.py::*[vllm": "engine",
    "tests/backends/test_families.py::*llama_cpp]": "engine",
    "tests/backends/test_families.py::test_special_tokens_that_carry_the_answer_are_read_on_vllm": "engine",
    "tests/backends/test_llama_cpp.py": "engine",
    "tests/backends/test_llama_vocabulary.py": "engine",
    "tests/backends/test_remote_servers.py": "engine",
    "tests/backends/test_vllm.py": "engine",
    "tests/backends/test_vision.py::test_vllm_is_handed_pictures_beside_the_ids_of_the_chat": "engine",
    "tests/cli/test_export.py::test_a_trained_folder_becomes_files_and_lines_that_use_them": "engine",
    "tests/test_docs.py::*[engines.md-llama.cpp": "engine",
    "tests/training/test_export.py": "engine",
    "tests/training/test_gguf.py": "engine",
    "tests/training/test_gguf_types.py::test_llama_cpp_quantises_to_further_types": "engine",
    "tests/training/test_gguf_types.py::test_rows_that_a_type_does_not_fit_are_told_by_what_they_became": "engine",
    "tests/training/test_mining.py::test_vllm_writes_what_the_guard_has_learnt": "engine",
    "tests/training/test_to_gguf.py::test_a_folder_becomes_a_file_that_llama_cpp_judges_with": "engine",
    # Trainings of more than some seconds. One R-SFT and one HS-DPO are default, with what stands on them, and an embedded build.
    "tests/cli/test_finetune.py::test_a_disk_that_is_full_at_a_checkpoint_is_told_and_the_same_command_goes_on": "train",
    "tests/cli/test_finetune.py::test_interrupted_it_says_how_to_go_on_and_goes_on_and_ends_in_a_guard": "train",
    "tests/cli/test_train.py::test_the_stages_one_by_one_make_a_guard": "train",
    "tests/training/test_finetune.py": "train",
    "tests/training/test_mining_resume.py::test_a_killed_mining_ends_up_with_the_same_files": "train",
    "tests/training/test_pipeline.py": "train",
    "tests/training/test_pipeline_faults.py": "train",
    "tests/training/test_resume_training.py": "train",
    "tests/training/test_rsft_faults.py": "train",
    "tests/training/test_tiny.py::test_the_committed_one_is_what_its_recipe_gives": "train",
    "tests/training/test_zero3.py": "train",
    # Doubles of default tests, and seconds of work whose kind a default test proves.
    "tests/backends/test_classifier.py::test_a_published_classifier_judges_as_its_authors_read_it": "slow",
    "tests/backends/test_classifier.py::test_a_published_classifier_judges_as_its_authors_read_it[duoguard": "default",
    "tests/backends/test_classifier.py::test_a_long_text_is_read_to_its_end_and_its_most_harmful_window_decides": "slow",
    "tests/backends/test_families.py": "slow",  # every family; one engine's conformance is default
    "tests/backends/test_faults.py::test_a_server_that_hangs_holds_up_no_other_row_longer_than_its_deadline": "slow",
    "tests/backends/test_vision.py::*[gemma": "slow",  # one architecture is default
    "tests/backends/test_vision.py::*[shieldgemma": "slow",
    "tests/bulk/test_run.py": "slow",
    "tests/cli/test_compare.py::test_a_language_model_beside_the_embedded_guard_counts_its_tokens": "slow",
    "tests/cli/test_evaluate.py::test_killed_half_way_and_started_again_it_gives_the_same_figures": "slow",
    "tests/cli/test_exit_codes.py::test_an_interrupted_file_is_130_and_goes_on": "slow",
    "tests/cli/test_resume.py::test_kill_9_twice_and_go_on[csv": "slow",
    "tests/cli/test_terminal.py": "slow",
    "tests/evaluation/test_audit_browser.py": "slow",
    "tests/evaluation/test_calibration.py::test_a_promise_is_kept_on_the_part_that_nothing_was_fitted_on": "slow",
    "tests/evaluation/test_calibration.py::test_a_threshold_for_a_false_alarm_rate_stays_below_it[0.2": "slow",
    "tests/evaluation/test_calibration.py::test_a_threshold_for_a_recall_keeps_it_and_no_more_than_chance_asks_for[0.8": "slow",
    "tests/evaluation/test_report.py::test_in_a_browser*": "slow",
    "tests/integrations/langchain/test_providers.py": "slow",
    "tests/integrations/litellm/test_router.py::test_the_failure_of_a_model_is_tried_again": "slow",
    "tests/integrations/openai/test_agents.py": "slow",
    "tests/integrations/openai/test_escapes.py": "slow",
    "tests/server/test_clients.py": "slow",
    "tests/server/test_playground.py": "slow",
    "tests/server/test_serve.py::test_a_worker_that_is_killed_is_replaced_and_nobody_else_notices": "slow",
    "tests/services/test_hosted.py::test_a_fault_is_undetermined_and_quotes_neither_key_nor_text": "slow",
    "tests/services/test_hosted.py::test_a_fault_is_undetermined_and_quotes_neither_key_nor_text*openai-moderation]": "default",
    "tests/services/test_hosted.py::test_long_text_goes_in_overlapping_pieces_and_the_strongest_counts": "slow",
    "tests/services/test_hosted.py::test_long_text_goes_in_overlapping_pieces_and_the_strongest_counts[middle*": "default",
    "tests/services/test_vendors.py": "slow",
    "tests/services/test_vendors.py::test_openai": "default",
    "tests/test_docs.py::test_examples_run[own_classifier.py": "slow",
    "tests/test_examples.py::test_the_examples_of_a_package_run_as_they_stand_there": "slow",
    "tests/test_forks.py::test_children_of_a_guard_in_use_by_four_threads_judge": "slow",
    "tests/test_forks.py::test_children_of_a_guard_in_use_by_four_threads_judge[os.fork-8-1000": "default",
    "tests/test_frames.py::*[polars": "slow",  # a double of pandas; 170 MB
    "tests/test_frames.py::test_a_lazy_frame_is_refused": "slow",
    "tests/test_patterns.py::test_every_pattern_takes_time_in_proportion_to_the_text": "slow",
    "tests/test_streaming.py::test_at_every_split_of_1000_random_texts_nothing_harmful_is_ever_released": "slow",
    "tests/training/test_embedded_multilingual.py::test_texts_mean_to_the_base_what_they_mean_to_the_packages_own_engine": "slow",
    "tests/training/test_merging.py": "slow",
    "tests/training/test_mining.py::test_every_model_writes_about_the_rows_of_its_sources": "slow",
    "tests/training/test_mining.py::test_the_ensembles_pairs_come_from_the_models_of_each_source": "slow",
    "tests/training/test_rsft.py::test_tensorboard_is_written_for_those_who_ask": "slow",
    "tests/training/test_synthesis_faults.py::test_more_tries_go_on_where_the_first_ones_ended": "slow",
    "tests/training/test_tiny.py::test_answers_*": "slow",
    "tests/training/test_tiny.py::test_whole_answers_give_the_labels_of_exchanges_never_seen": "slow",
}
"""How the names of tests begin, as pytest prints them; the longest beginning that fits says where a test belongs. ``*`` is anything."""

GROUPS: Final[dict[str, str | None]] = {
    # They share servers of the engines.
    "tests/backends/test_conformance.py": "engines",
    "tests/backends/test_remote_servers.py": "engines",
    "tests/test_tiers.py": None,
    "tests/training/test_resume_training.py": None,
    "tests/training/test_tiny.py::test_the_committed_one_is_what_its_recipe_gives": None,
    "tests/training/test_zero3.py": None,
}
"""The same for tests that share something costly: those of one group run in one process. None: they share nothing, and each may
run anywhere. What has no entry is in the group of its file."""

ALLOWED_SKIPS: Final[dict[str, str]] = {
    "pip install 'litellm[proxy]'": "scripts/test-versions runs these tests, with the newest LiteLLM",
    "a vendor's client is not installed": "scripts/test-versions vendors runs these tests",
    "npm install openai": "scripts/setup --all installs it where there is npm; test_openai_client.py asks the same in Python",
    "GUARDREASONER_DATA is not set": "the public data are not part of the project",
    "GUARDREASONER_DATA has no folder requests": "texts without a licence are with their authors; how they are read is tested",
}
"""How reasons to skip begin, and why nothing is lost by them. Where ``GUARDREASONER_SKIPS=fail``, every other skip is a failure."""

# Read now: while a test runs, the variables of the project are taken away.
_NO_SKIPS: Final = os.environ.get("GUARDREASONER_SKIPS") == "fail"
_LONGEST_FIRST: Final[tuple[Tier, ...]] = ("train", "engine", "slow", "default")


@cache
def _beginning(start: str) -> re.Pattern[str]:
    # Of a folder's, file's or test's whole name, or of its parameters.
    ends = r"" if start.endswith("*") or "[" in start else r"(?=$|[/:\[])"
    return re.compile(".*?".join(map(re.escape, start.split("*"))) + ends)


def _longest(name: str, table: Iterable[str]) -> str | None:
    # The part in front of a star is looked at first: there are thousands of names.
    return max(
        (start for start in table if name.startswith(start.partition("*")[0]) and _beginning(start).match(name)),
        key=len,
        default=None,
    )


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


def unused(names: Iterable[str], root: Path) -> list[str]:
    """The entries of the tables that no test has, but for files that are skipped as a whole.

    Args:
        names: of all tests.
        root: where the paths of the names begin.
    """
    names = list(names)
    files = {name.partition("::")[0] for name in names}
    lost = (start for start in {**TIERS, **GROUPS} if not any(_longest(name, [start]) for name in names))
    return [start for start in lost if (file := start.partition("::")[0]) in files or not (root / file).is_file()]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests, before ``-m`` chooses among them."""
    if config.args == config.getini("testpaths") and (lost := unused((item.nodeid for item in items), config.rootpath)):
        raise pytest.UsageError(f"tests/tiers.py names what is no test: {', '.join(lost)}")
    ranks: dict[str, int] = {}
    for item in items:
        if (tier := tier_of(item.nodeid)) != "default":
            item.add_marker(tier)
            item.add_marker(pytest.mark.timeout(900))
        if group := group_of(item.nodeid):
            item.add_marker(pytest.mark.xdist_group(group))
        key = group or item.nodeid
        ranks[key] = min(_LONGEST_FIRST.index(tier), ranks.get(key, len(_LONGEST_FIRST)))
    # Where there are several processes, groups with what takes long begin first: none of them works on alone at the end.
    items.sort(key=lambda item: ranks[group_of(item.nodeid) or item.nodeid])


def _without_lost_proof(report: Report) -> Report:
    reason = str(report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr)
    if report.skipped and not hasattr(report, "wasxfail") and _NO_SKIPS and not is_allowed(reason):
        report.outcome, report.longrepr = "failed", f"{reason} (tests/tiers.py allows no such skip)"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A skip that the list does not allow is a failure where ``GUARDREASONER_SKIPS=fail``."""
    return _without_lost_proof((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a file that is skipped as a whole, unless its tests are not to run."""
    report = yield
    chosen = not collector.config.option.markexpr or tier_of(collector.nodeid) == "default"
    return _without_lost_proof(report) if chosen else report
