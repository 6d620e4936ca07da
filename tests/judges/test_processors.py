"""What the benchmark of processors makes of what they said: which rows they judge, how far apart they are, what could not be tried."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path

import pytest

from benchmark_scripts import load_benchmark
from guardreasoner_sdk import Guard
from guardreasoner_sdk.verdict import LABELS, Finding, Verdict

ROOT = Path(__file__).parents[2]
PROMPT, REFUSAL, RESPONSE = LABELS
THRESHOLDS = {PROMPT: 0.5, REFUSAL: 0.4, RESPONSE: 0.6}


@pytest.fixture(scope="module")
def benchmark():
    """The script that measures it."""
    return load_benchmark("embedded_processors")


def said(*, categories=(), note=None, **scores):
    """A verdict with the labels that scores come to; None: undetermined."""
    findings = {
        task: Finding(label="undetermined", cause="no time")
        if score is None
        else Finding(label=LABELS[task][score < THRESHOLDS[task]], score=score, note=note)
        for task, score in scores.items()
    }
    return Verdict(action="allow", model="m", backend="b", categories=categories, **findings)


NATIVE = [
    said(prompt_harmfulness=0.1),
    said(prompt_harmfulness=0.49),
    said(prompt_harmfulness=0.9, response_refusal=0.39, response_harmfulness=0.9),
    said(prompt_harmfulness=0.53),
    said(prompt_harmfulness=0.01, response_refusal=0.95, response_harmfulness=0.05),
    said(prompt_harmfulness=0.99),
]


def test_rows_at_even_distances_are_judged_and_those_nearest_to_a_threshold(benchmark):
    # The second, and the third for its answer, are a hundredth from where a label changes.
    assert benchmark.chosen(NATIVE, THRESHOLDS, rows=0, nearest=2) == [1, 2]
    assert benchmark.chosen(NATIVE, THRESHOLDS, rows=2, nearest=0) == [0, 3]
    assert benchmark.chosen(NATIVE, THRESHOLDS, rows=2, nearest=2) == [0, 1, 2, 3]
    assert benchmark.chosen(NATIVE, THRESHOLDS, rows=100, nearest=100) == [*range(6)]
    assert benchmark.chosen([], THRESHOLDS, rows=2, nearest=2) == []


def test_two_sets_of_scores_become_a_table(benchmark):
    other = {
        0: said(prompt_harmfulness=0.12),
        2: said(prompt_harmfulness=0.9, response_refusal=0.41, response_harmfulness=0.9, categories=("violent crimes",)),
        4: said(prompt_harmfulness=0.01, response_refusal=0.95, response_harmfulness=0.05, note="in a language"),
    }
    found = benchmark.compared(NATIVE, other, THRESHOLDS)
    figures = {task: (of.rows, of.labels_changed, round(of.worst, 6), round(of.mean, 6), of.left) for task, of in found.items()}
    assert figures == {
        # Of those that were not judged the one at 0.49 might have another label, too: it is nearer than 0.02.
        PROMPT: (3, 0, 0.02, round(0.02 / 3, 6), 1),
        REFUSAL: (2, 1, 0.02, 0.01, 0),
        RESPONSE: (2, 0, 0.0, 0.0, 0),
    }
    names = ["a", "b", "c", "d", "e", "f"]
    assert benchmark.changed(NATIVE, other, names) == {"labels": ["c"], "categories": ["c"], "notes": ["e"]}
    processors = {"Haswell": {"tasks": {task: benchmark.asdict(of) for task, of in found.items()}}}
    lines = benchmark.table(processors).splitlines()
    assert lines[2:] == [
        "| Haswell | prompt_harmfulness | 3 | 0 | 0.0200 | 0.00667 | 1 |",
        "| Haswell | response_refusal | 2 | 1 | 0.0200 | 0.01000 | 0 |",
        "| Haswell | response_harmfulness | 2 | 0 | 0.0000 | 0.00000 | 0 |",
    ]


def test_a_row_that_one_of_two_could_not_decide_has_another_label(benchmark):
    (spread,) = benchmark.compared(NATIVE, {5: said(prompt_harmfulness=None)}, THRESHOLDS).values()
    assert (spread.rows, spread.labels_changed, spread.worst) == (0, 1, 0.0)


def test_a_processor_that_cannot_be_tried_is_named_with_the_reason(benchmark, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(benchmark.NotJudgedError, match="qemu-x86_64 is not installed"):
        benchmark.command("Haswell")
    emulator = tmp_path / "qemu-aarch64"
    emulator.write_text("")
    emulator.chmod(emulator.stat().st_mode | stat.S_IXUSR)
    with pytest.raises(benchmark.NotJudgedError, match="give --python-aarch64 and --sysroot"):
        benchmark.command("aarch64")
    started = benchmark.command("aarch64:cortex-a72", Path("/r/python3"), Path("/r"))
    assert started == ["qemu-aarch64", "-cpu", "cortex-a72", "-L", "/r", "/r/python3"]
    told = benchmark.table({"aarch64": {"not judged": "it needs an interpreter of its own"}})
    assert "| aarch64 | not judged: it needs an interpreter of its own |" in told


def test_what_a_process_that_failed_said_last_is_the_reason(benchmark):
    start = [sys.executable, "-c", "import sys; sys.exit('first\\nno such processor')"]
    with pytest.raises(benchmark.NotJudgedError, match=r"^no such processor$"):
        benchmark.judged(start, [])


def test_rows_of_a_file_are_judged_and_what_was_kept_is_not_judged_again(benchmark, monkeypatch, capsys, tmp_path):
    texts = ["How do I bake a cake?", "Wie wird das Wetter morgen?", "Ist der Park heute offen?"]
    (tmp_path / "rows.jsonl").write_text(
        "".join(json.dumps({"prompt": text, "prompt_harmful": False}) + "\n" for text in texts)
    )
    words = ["--data", tmp_path / "rows.jsonl", "--keep", tmp_path / "kept", "--output", tmp_path / "figures.json"]
    monkeypatch.setattr(sys, "argv", ["embedded_processors.py", *map(str, words), "--processors", "aarch64"])
    benchmark.main()
    figures, told = json.loads((tmp_path / "figures.json").read_text()), capsys.readouterr().out
    assert (figures["rows"], figures["judged on each"]) == (3, 3)
    assert "not judged" in figures["processors"]["aarch64"]
    assert "3 of 3 rows of rows.jsonl" in told
    with Guard(reasoning="off") as guard:
        expected = [verdict.prompt_harmfulness.score for verdict in guard.check_many(texts)]
    (file,) = (tmp_path / "kept").iterdir()
    assert [one["prompt_harmfulness"]["score"] for one in json.loads(file.read_text())["verdicts"]] == expected
    monkeypatch.setattr(benchmark, "JUDGE", "raise SystemExit('judged again')")
    benchmark.main()
    assert capsys.readouterr().out == told
    (tmp_path / "rows.jsonl").write_text(json.dumps({"prompt": "Is it raining?", "prompt_harmful": False}) + "\n")
    with pytest.raises(benchmark.NotJudgedError, match="judged again"):
        benchmark.main()
