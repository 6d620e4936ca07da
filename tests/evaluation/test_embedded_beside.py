"""The table of the embedded guard beside other filters: what is counted, what is said of those that are not there, and one real run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark_scripts import BENCHMARKS, load_benchmark
from guardreasoner_sdk import Exchange
from guardreasoner_sdk.evaluation.clear_cut import clear_cut_rows
from guardreasoner_sdk.evaluation.rows import EVERYDAY, OVER_REFUSAL, LabelledRow

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def beside():
    """The script."""
    return load_benchmark("embedded_beside")


def row(number: int, *, harmful: bool, language: str | None = "en", kind: str | None = None) -> LabelledRow:
    return LabelledRow(str(number), "b", Exchange(f"text {number}"), {"prompt_harmfulness": harmful}, language, kind)


def test_english_and_other_languages_look_alikes_and_everyday_prompts_are_counted_apart(beside):
    rows = [
        row(1, harmful=True),
        row(2, harmful=True, language=None),
        row(3, harmful=True),
        row(4, harmful=False),
        row(5, harmful=False, kind=EVERYDAY),
        row(6, harmful=False, kind=OVER_REFUSAL),
        row(7, harmful=True, language="de"),
        row(8, harmful=False, language="tr", kind=OVER_REFUSAL),
    ]
    found = beside.figures(rows, [True, True, False, False, True, True, True, False])
    english, others = (found[group] for group in beside.GROUPS)
    assert english == {"harmful found": 66.7, "everyday flagged": 50.0, "look-alikes flagged": 100.0, "F1": 57.1}
    assert others == {"harmful found": 100.0, "everyday flagged": None, "look-alikes flagged": 0.0, "F1": 100.0}


def test_a_guard_that_cannot_decide_is_wrong(beside):
    found = beside.figures([row(1, harmful=True), row(2, harmful=False)], [None, None])["English"]
    assert found == {"harmful found": 0.0, "everyday flagged": 100.0, "look-alikes flagged": None, "F1": 0.0}


def test_where_nothing_is_harmful_there_is_no_f1(beside):
    found = beside.figures([row(1, harmful=False)], [False])
    assert found["English"]["F1"] is None
    assert set(found["other languages"].values()) == {None}


def test_a_filter_is_asked_one_text_at_a_time_and_loaded_once(beside):
    asked = []

    def load():
        return lambda text: bool(asked.append(text)) or "bomb" in text

    found = beside.judged(load, ["a cake", "a pipe bomb"])
    assert found["said"] == [False, True]
    assert asked == ["a cake", "a pipe bomb"] * 2  # once to warm up
    assert found["rate"] > 0
    assert found["memory"] >= 0


def test_the_table_names_what_is_not_installed_and_what_does_not_run(beside):
    measured = {"version": "1.0", "rows a second": 120.0, "relative": 1.0, "memory, MiB": 30}
    measured |= beside.figures([row(1, harmful=True), row(2, harmful=False)], [True, False])
    lines = beside.table(
        {
            "first": measured,
            "quick": measured | {"rows a second": 1200.4, "relative": 9.96},
            "absent": {"version": None},
            "online": {"version": "2.1", "failed": "URLError: no connection | `offline`"},
        }
    ).splitlines()
    assert lines[0] == "| | harmful found | everyday flagged | look-alikes flagged | F1 | rows a second | MiB |"
    assert lines[2] == "| first 1.0 | 100.0 / - | 0.0 / - | - / - | 100.0 / - | 120 | 30 |"
    assert lines[3].endswith("| 1200 (10 times) | 30 |")
    assert lines[4].startswith("| absent | not installed: `pip install absent` |")
    assert lines[5].startswith("| online 2.1 | does not run offline: `URLError: no connection / 'offline'` |")
    assert len({line.count("|") for line in lines}) == 1


def test_no_filter_connects_to_anything():
    code = (
        "import runpy, sys, urllib.request\n"
        "runpy.run_path(sys.argv[1])['disconnect']()\n"
        "try: urllib.request.urlopen('http://127.0.0.1:1')\n"
        "except OSError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, BENCHMARKS / "embedded_beside.py"], capture_output=True, text=True, check=True
    )
    assert "this is measured offline" in done.stdout


def test_what_goes_wrong_in_a_filter_is_told_by_its_last_line(beside, tmp_path):
    texts = tmp_path / "texts.json"
    texts.write_text("[")
    assert beside.run(beside.OURS, texts)["failed"].startswith("json.decoder.JSONDecodeError: ")


def test_the_filters_that_are_here_judge_clear_cut_prompts(beside):
    rows = [one for one in clear_cut_rows(["en"]) if "prompt_harmfulness" in one.labels]
    rows = [*[one for one in rows if one.labels["prompt_harmfulness"]][:8], *[one for one in rows if one.kind == EVERYDAY][:8]]
    found = beside.measure(rows, 1)
    assert list(found) == [one.package for one in beside.FILTERS]
    for package, of in found.items():
        assert (of["version"] is None) == (beside.installed(package) is None)
        assert "failed" not in of or of["failed"]
    ours = found[beside.OURS]
    assert ours["relative"] == 1.0
    assert ours["English"]["harmful found"] >= 75
    assert ours["English"]["everyday flagged"] <= 13
    assert beside.table(found).count("\n") == len(beside.FILTERS) + 1


def test_without_files_the_prompts_are_the_clear_cut_ones_and_answers_stay_out(beside, tmp_path):
    assert beside.prompts([]) == [one for one in clear_cut_rows() if "prompt_harmfulness" in one.labels]
    file = tmp_path / "mine.jsonl"
    answer = {"prompt": "Hello", "response": "Hi", "response_harmful": False}
    file.write_text("\n".join(json.dumps(one) for one in ({"prompt": "Hello", "prompt_harmful": False}, answer)))
    assert [one.exchange.prompt for one in beside.prompts([file])] == ["Hello"]


def test_the_pages_table_is_the_measured_one(beside):
    record = json.loads((BENCHMARKS / "results" / "embedded-beside-cpu.json").read_text("utf-8"))
    assert beside.table(record["guards"]) in (ROOT / "docs" / "embedded.md").read_text("utf-8")
