"""Labels of the embedded guard's development split, turned over on purpose, are found by it."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from benchmark_scripts import BENCHMARKS, load_benchmark
from guardreasoner_sdk.evaluation.audit import AT_MOST
from public_data import public_data

for _module in ("sklearn", "jinja2"):
    pytest.importorskip(_module, reason="needs guardreasoner-sdk[eval]")

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def benchmark():
    """The script that measures it."""
    return load_benchmark("audit")


def test_four_of_five_flipped_labels_are_found_and_few_right_ones_proposed(benchmark, tmp_path):
    rows = random.Random(0).sample(benchmark.development_rows(public_data("train"), public_data("unlabelled")), 1500)
    figures, given = benchmark.whole_way(rows, 200, tmp_path)
    print(figures)
    assert figures["found"] >= 80
    assert figures["right_proposed"] <= 10
    # What was found and accepted is right again in the corrected file, and nothing else was touched.
    assert figures["wrong_left_after"] == 200 - round(2 * figures["found"])
    for before, after in figures["f1_before_after"].values():
        assert after > before
    drawn = benchmark.draws(given, 200, 5, benchmark.AT_MOST)
    assert drawn["found_least"] >= 80
    assert drawn["right_proposed_most"] <= 10


def test_the_guides_figures_are_the_measured_ones():
    record = json.loads((BENCHMARKS / "results" / "audit-embedded-dev.json").read_text("utf-8"))
    page = (ROOT / "docs" / "audit.md").read_text("utf-8")
    assert record["at_most"] == AT_MOST
    own = record["draws"]["as they are"]
    for name, of in own.items():
        found = (
            f"{of['found']:.1f} % ({of['found_least']:.1f}) | {of['right_proposed']:.1f} % ({of['right_proposed_most']:.1f})"
        )
        start = f"| {'all' if name == 'all' else name.replace('_', ' ') + ','} {of['labels']:,} | {of['flips']} | "
        assert f"{start}{found} |" in page
    bent = [of["all"] for of in record["draws"].values()]
    found, proposed = [of["found"] for of in bent], [of["right_proposed"] for of in bent]
    text = " ".join(page.split())
    assert f"between {min(found):.1f} % and {max(found):.1f} % were found" in text
    assert f"with {min(proposed):.1f} % to {max(proposed):.1f} % of the right ones" in text
    parts = [of for bend in record["draws"].values() for name, of in bend.items() if name != "all"]
    least, most = min(of["found"] for of in parts), max(of["right_proposed"] for of in parts)
    assert f"worst is {least:.1f} % found, and {most:.1f} % of the right ones" in text
