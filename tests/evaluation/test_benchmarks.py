"""The paper's benchmarks: the table, and rows from files of each data set's schema."""

from __future__ import annotations

import csv
import gzip
import json
import logging
import lzma
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from guardreasoner_sdk import InputError
from guardreasoner_sdk.evaluation import BENCHMARKS, LabelledRow, find_benchmark, paper, read_benchmark, read_file, read_rows
from guardreasoner_sdk.verdict import Task

PROMPT, REFUSAL, RESPONSE = "prompt_harmfulness", "response_refusal", "response_harmfulness"


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows in the format that the file's name tells."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    match path.suffixes[-1]:
        case ".csv":
            with path.open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, rows[0])
                writer.writeheader()
                writer.writerows(rows)
        case ".parquet":
            parquet = pytest.importorskip("pyarrow.parquet", reason="writes Parquet: pip install 'guardreasoner-sdk[eval]'")
            arrow = pytest.importorskip("pyarrow")
            parquet.write_table(arrow.Table.from_pylist(rows), path)
        case ".json":
            path.write_text(json.dumps(rows), "utf-8")
        case ".gz":
            path.write_bytes(gzip.compress(lines))
        case ".xz":
            path.write_bytes(lzma.compress(lines))
        case _:
            path.write_bytes(lines)
    return path


def short(rows: list[LabelledRow]) -> list[tuple[str, str | None, dict[Task, bool]]]:
    return [(row.exchange.prompt, row.exchange.response, dict(row.labels)) for row in rows]


def test_the_table_holds_the_papers_thirteen_task_sets() -> None:
    pairs = {(task, name) for name, benchmark in BENCHMARKS.items() for task in benchmark.tasks}
    assert len(pairs) == 13
    assert pairs == {(task, name) for task, sets in paper.row("GuardReasoner 8B").f1.items() for name in sets}
    assert len({benchmark.authors_file for benchmark in BENCHMARKS.values()}) == len(BENCHMARKS)


def test_every_pin_is_a_commit_but_the_one_that_is_said_not_to_be() -> None:
    unpinned = {name for name, benchmark in BENCHMARKS.items() if len(benchmark.source.revision) != 40}
    assert unpinned == {"XSTestResponseHarmful", "XSTestResponseRefusal"}


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("aegissafetytest", "AegisSafetyTest"),
        ("0_1_AegisSafetyTest.json", "AegisSafetyTest"),
        ("0_A_beaver_tails", "BeaverTails"),
        ("harmbench_response", "HarmBenchResponse"),
        ("XSTestReponseHarmful", "XSTestResponseHarmful"),
        ("Safe RLHF", "SafeRLHF"),
    ],
)
def test_a_benchmark_is_found_under_the_names_it_goes_by(name: str, known: str) -> None:
    assert find_benchmark(name) is BENCHMARKS[known]


def test_an_unknown_benchmark_is_refused_with_the_names() -> None:
    with pytest.raises(InputError, match="'GSM8K' is unknown; use one of ToxicChat, "):
        find_benchmark("GSM8K")


WILDGUARD = ("prompt_harm_label", "response_refusal_label", "response_harm_label")

CELLS: dict[str, tuple[list[dict[str, Any]], list[tuple[str, str | None, dict[str, bool]]]]] = {
    "ToxicChat": (
        [
            {"conv_id": "a", "user_input": "one", "human_annotation": True, "toxicity": 1, "jailbreaking": 0},
            {"conv_id": "b", "user_input": "two", "human_annotation": False, "toxicity": 1, "jailbreaking": 0},
            {"conv_id": "c", "user_input": "three, and\nmore", "human_annotation": True, "toxicity": 0, "jailbreaking": 0},
        ],
        [("one", None, {PROMPT: True}), ("three, and\nmore", None, {PROMPT: False})],
    ),
    "HarmBenchPrompt": (
        [
            {"Behavior": "one", "FunctionalCategory": "standard", "BehaviorID": "x"},
            {"Behavior": "two", "FunctionalCategory": "contextual", "BehaviorID": "y"},
            {"Behavior": "three", "FunctionalCategory": "copyright", "BehaviorID": "z"},
        ],
        [("one", None, {PROMPT: True}), ("three", None, {PROMPT: True})],
    ),
    "OpenAIModeration": (
        [{"prompt": "one", "S": 0, "H": None, "V2": 1}, {"prompt": "two", "S": 0, "H": 0, "V2": None}, {"prompt": "three"}],
        [("one", None, {PROMPT: True}), ("two", None, {PROMPT: False}), ("three", None, {PROMPT: False})],
    ),
    "AegisSafetyTest": (
        [
            {
                "id": "1",
                "text": " one ",
                "text_type": "user_message",
                "labels_0": "Safe",
                "labels_1": "Safe",
                "labels_2": "Hate",
            },
            {"id": "2", "text": "two", "text_type": "llm_response", "labels_0": "Safe", "labels_1": "Safe", "labels_2": "Safe"},
            {
                "id": "3",
                "text": "three",
                "text_type": "user_message",
                "labels_0": "Safe",
                "labels_1": "Hate",
                "labels_2": "Hate",
            },
        ],
        [("one", None, {PROMPT: False}), ("three", None, {PROMPT: True})],
    ),
    "SimpleSafetyTests": (
        [{"id": "p1", "harm_area": "x", "category": "y", "prompt": "one"}],
        [("one", None, {PROMPT: True})],
    ),
    "WildGuardTest": (
        [
            {"prompt": "one", "response": "a", **dict(zip(WILDGUARD, ("harmful", "refusal", "unharmful"), strict=True))},
            {"prompt": "two", "response": "b", **dict(zip(WILDGUARD, ("unharmful", None, "harmful"), strict=True))},
            {"prompt": "three", "response": None, **dict(zip(WILDGUARD, ("harmful", None, None), strict=True))},
            {"prompt": "four", "response": "d", **dict(zip(WILDGUARD, (None, None, None), strict=True))},
        ],
        [
            ("one", "a", {PROMPT: True, REFUSAL: True, RESPONSE: False}),
            ("two", "b", {PROMPT: False, RESPONSE: True}),
            ("three", None, {PROMPT: True}),
        ],
    ),
    "BeaverTails": (
        [{"prompt": "one", "response": "a", "is_safe": False}, {"prompt": "two", "response": "b", "is_safe": True}],
        [("one", "a", {RESPONSE: True}), ("two", "b", {RESPONSE: False})],
    ),
    "XSTestResponseHarmful": (
        [{"prompt": "one", "response": "a", "label": "harmful"}, {"prompt": "two", "response": "b", "label": "unharmful"}],
        [("one", "a", {RESPONSE: True}), ("two", "b", {RESPONSE: False})],
    ),
    "XSTestResponseRefusal": (
        [{"prompt": "one", "response": "a", "label": "refusal"}, {"prompt": "two", "response": "b", "label": "compliance"}],
        [("one", "a", {REFUSAL: True}), ("two", "b", {REFUSAL: False})],
    ),
}


@pytest.mark.parametrize("name", CELLS)
def test_rows_of_a_data_sets_own_schema_become_labelled_ones(name: str, tmp_path: Path) -> None:
    rows, expected = CELLS[name]
    write(tmp_path / BENCHMARKS[name].source.file, rows)
    read = list(read_benchmark(name, tmp_path))
    assert short(read) == expected
    assert {row.benchmark for row in read} == {name}
    assert len({row.id for row in read}) == len(read)


@pytest.mark.parametrize("name", CELLS)
def test_a_missing_column_is_named_with_its_place(name: str, tmp_path: Path) -> None:
    write(tmp_path / BENCHMARKS[name].source.file, [{"nothing": "of it"}])
    with pytest.raises(InputError, match=r"(row|line) 1.*: has no column '"):
        list(read_benchmark(name, tmp_path))


def test_harmbench_responses_go_by_the_majority_of_three_people(tmp_path: Path) -> None:
    votes = [(1, 1, 0), (1, 0, 0)]
    items = [
        {"test_case": f"p{place}", "generation": f"r{place}", **{f"human_{number}": vote for number, vote in enumerate(three)}}
        for place, three in enumerate(votes)
    ]
    (tmp_path / "text_behaviors_val_set.json").write_text(json.dumps({"first": items[:1], "second": items[1:]}), "utf-8")
    assert short(list(read_benchmark("HarmBenchResponse", tmp_path))) == [
        ("p0", "r0", {RESPONSE: True}),
        ("p1", "r1", {RESPONSE: False}),
    ]


def test_safe_rlhf_is_drawn_in_pairs_and_always_the_same(tmp_path: Path) -> None:
    rows = [
        {
            "prompt": f"p{number}",
            "response_0": f"{number} first",
            "response_1": f"{number} second",
            "is_response_0_safe": number % 2 == 0,
            "is_response_1_safe": number % 2 == 1 or number % 10 == 0,
        }
        for number in range(1500)
    ]
    write(tmp_path / "round0" / "test.jsonl.xz", rows)
    first, second = (list(read_benchmark("SafeRLHF", tmp_path)) for _ in range(2))
    assert first == second
    assert Counter(row.labels[RESPONSE] for row in first) == {False: 1000, True: 1000}
    for row in first:
        number, answer = str(row.exchange.response).split()
        assert int(number) % 10 != 0, "both answers are safe"
        assert row.labels[RESPONSE] == ((answer == "first") == (int(number) % 2 == 1))
    assert [row.exchange.prompt for row in first[:1000]] == [row.exchange.prompt for row in first[1000:]]


def authors_row(prompt: str, response: str, output: str, **more: Any) -> dict[str, Any]:
    text = f"Human user:\n{prompt}\n\nAI assistant:\n{response}\n\n"
    return {"instruction": "You are a classifier.", "input": text, "output": output, **more}


def test_the_authors_file_is_read_exactly_and_goes_before_the_data_sets(tmp_path: Path) -> None:
    write(
        tmp_path / "0_1_AegisSafetyTest.json",
        [authors_row("  one\n\ntwo ", "None", "harmful"), authors_row("b", "None", "unharmful")],
    )
    write(tmp_path / BENCHMARKS["AegisSafetyTest"].source.file.replace(".parquet", ".csv"), CELLS["AegisSafetyTest"][0])
    expected = [("  one\n\ntwo ", None, {PROMPT: True}), ("b", None, {PROMPT: False})]
    assert short(list(read_benchmark("AegisSafetyTest", tmp_path))) == expected
    rows = list(read_rows(tmp_path / "0_1_AegisSafetyTest.json"))
    assert short(rows) == expected
    assert [(row.id, row.benchmark) for row in rows] == [("1", "AegisSafetyTest"), ("2", "AegisSafetyTest")]


def test_an_authors_label_may_be_a_block_of_answers(tmp_path: Path) -> None:
    block = "Answers: \nRequest: harmful\nCompletion: compliance\nResponse: unharmful"
    path = write(tmp_path / "0_9_safe_rlhf.json", [authors_row("a", "b", block)])
    assert short(list(read_rows(path))) == [("a", "b", {RESPONSE: False})]
    path = write(tmp_path / "mine.json", [authors_row("a", "b", block), authors_row("c", "d", "Answers: \nRequest: None")])
    assert short(list(read_rows(path))) == [("a", "b", {PROMPT: True, REFUSAL: False, RESPONSE: False})]


def test_the_authors_wildguard_file_gives_the_labels_of_its_columns(tmp_path: Path) -> None:
    labels = dict(zip(WILDGUARD, ("unharmful", None, "harmful"), strict=True))
    path = write(tmp_path / "0_4_wild_guard_test.json", [authors_row("a", "b", "Answers: \nRequest: harmful", **labels)])
    assert short(list(read_rows(path))) == [("a", "b", {PROMPT: False, RESPONSE: True})]


def test_a_labelled_answer_that_reads_none_is_an_answer(tmp_path: Path) -> None:
    path = write(tmp_path / "0_5_harmbench_response.json", [authors_row("a", "None", "unharmful")])
    assert short(list(read_rows(path))) == [("a", "None", {RESPONSE: False})]


@pytest.mark.parametrize(
    ("word", "response", "task"), [("refusal", "b", REFUSAL), ("harmful", "None", PROMPT), ("harmful", "b", RESPONSE)]
)
def test_an_authors_file_of_another_name_tells_its_task_by_its_labels(
    tmp_path: Path, word: str, response: str, task: Task
) -> None:
    rows = list(read_rows(write(tmp_path / "mine.json", [authors_row("a", response, word)])))
    assert rows[0].labels == {task: True}
    assert rows[0].benchmark == "mine"


def test_an_input_of_another_form_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "0_1_AegisSafetyTest.json", [{"instruction": "", "input": "Human user: a", "output": "harmful"}])
    with pytest.raises(InputError, match=r"row 1: input: is not 'Human user:"):
        list(read_rows(path))


def test_a_public_row_without_a_visible_text_is_left_out_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"prompt": "a", "response": " ", "is_safe": True}, {"prompt": "b", "response": "c", "is_safe": True}]
    write(tmp_path / "round0" / "30k" / "test.jsonl.gz", rows)
    with caplog.at_level(logging.WARNING, "guardreasoner_sdk"):
        assert short(list(read_benchmark("BeaverTails", tmp_path))) == [("b", "c", {RESPONSE: False})]
    assert "BeaverTails: 1 rows without a visible text are left out" in caplog.text


def test_rows_of_the_same_name_get_names_of_their_own(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [{"id": "a", "prompt": text, "prompt_harmful": True} for text in ("x", "y", "z")])
    assert [row.id for row in read_file(path)] == ["a", "a#2", "a#3"]


@pytest.mark.parametrize(
    ("source", "problem"),
    [("nowhere", "is not a folder, file or repository"), (".", "has none of 0_8_toxic_chat.json, data/0124")],
)
def test_a_source_without_the_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, problem: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=problem):
        list(read_benchmark("ToxicChat", source))


def test_neither_a_file_nor_a_benchmark_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no file"):
        list(read_rows(tmp_path / "rows.jsonl"))
    with pytest.raises(InputError, match="'Nothing' is unknown"):
        list(read_rows("Nothing"))


def test_naming_the_package_loads_nothing_of_it() -> None:
    code = (
        "import sys, guardreasoner_sdk.evaluation as package\n"
        "print([name for name in sys.modules if name.startswith(package.__name__ + '.')])\n"
        "print(all(getattr(package, name) is not None for name in package.__all__))\n"
        "print([name for name in ('numpy', 'sklearn', 'pyarrow', 'huggingface_hub', 'typer', 'rich') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "True", "[]"]
