"""A user's own rows: formats, column mappings, words for labels, and errors that name the line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from guardreasoner_sdk import InputError
from guardreasoner_sdk.evaluation import Columns, read_file
from guardreasoner_sdk.verdict import Task

PROMPT, REFUSAL, RESPONSE = "prompt_harmfulness", "response_refusal", "response_harmfulness"


def test_the_usual_names_need_no_mapping(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    rows = [
        {"prompt": "a", "response": "b", "prompt_harmful": True, "refusal": False, "response_harmful": None},
        {"prompt": "c", "response": None, "prompt_harmful": False, "refusal": None, "response_harmful": None},
        {"prompt": "d", "prompt_harmful": None, "refusal": None, "response_harmful": None},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    read = list(read_file(path))
    assert [(row.id, row.benchmark, row.exchange.prompt, row.exchange.response, row.labels) for row in read] == [
        ("1", "mine", "a", "b", {PROMPT: True, REFUSAL: False}),
        ("2", "mine", "c", None, {PROMPT: False}),
    ]


def test_language_and_kind_are_read_where_there_are_columns_of_them(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("prompt,prompt_harmful,lang,kind,code\na,no,pt-BR,Over_Refusal,zh_Hant\nb,yes,,,EN\n", "utf-8")
    assert [(row.language, row.kind) for row in read_file(path)] == [("pt", "over_refusal"), (None, None)]
    columns = Columns.parse(["language=code", "kind=code"])
    assert [(row.language, row.kind) for row in read_file(path, columns)] == [("zh", "zh_hant"), ("en", "en")]
    with pytest.raises(InputError, match="has no column 'tongue'"):
        list(read_file(path, Columns(language="tongue")))


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".csv", ".csv.gz", ".json", ".parquet"])
def test_every_format_is_read_with_a_mapping(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"own.set{ending}"
    rows = [
        {"name": "x1", "question": 'one, "two"\nthree', "answer": "b", "toxic": "BAD"},
        {"name": "x2", "question": "c", "answer": "d", "toxic": "fine"},
        {"name": "x3", "question": "e", "answer": "", "toxic": ""},
    ]
    if ending == ".parquet":
        parquet = pytest.importorskip("pyarrow.parquet", reason="writes Parquet: pip install 'guardreasoner-sdk[eval]'")
        arrow = pytest.importorskip("pyarrow")
        parquet.write_table(arrow.Table.from_pylist(rows), path)
    else:
        if ".csv" in ending:
            cells = [['"' + cell.replace('"', '""') + '"' for cell in row.values()] for row in rows]
            text = "\ufeffname,question,answer,toxic\r\n" + "".join(",".join(row) + "\r\n" for row in cells)
        elif ending == ".json":
            text = json.dumps(rows)
        else:
            text = "".join(json.dumps(row) + "\n\n" for row in rows)
        data = text.encode()
        path.write_bytes(gzip.compress(data) if ending.endswith(".gz") else data)
    columns = Columns.parse(
        ["prompt=question", "response=answer", "id=name", "response_harmfulness=toxic", "positive=bad,worse", "negative=fine"]
    )
    read = list(read_file(path, columns))
    assert [(row.id, row.exchange.prompt, row.exchange.response, row.labels) for row in read] == [
        ("x1", 'one, "two"\nthree', "b", {RESPONSE: True}),
        ("x2", "c", "d", {RESPONSE: False}),
    ]


@pytest.mark.parametrize(
    ("task", "word", "label"),
    [
        (PROMPT, "harmful", True),
        (PROMPT, "Unsafe", True),
        (PROMPT, 1, True),
        (PROMPT, True, True),
        (PROMPT, "yes", True),
        (PROMPT, "safe", False),
        (PROMPT, 0.0, False),
        (PROMPT, "unharmful", False),
        (REFUSAL, "refusal", True),
        (REFUSAL, "Compliance", False),
        (REFUSAL, "none", None),
        (RESPONSE, "", None),
        (RESPONSE, None, None),
        (RESPONSE, float("nan"), None),
    ],
)
def test_words_for_labels(tmp_path: Path, task: Task, word: object, label: bool | None) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"prompt": "a", "response": "b", task: word}), "utf-8")
    assert [row.labels for row in read_file(path)] == ([] if label is None else [{task: label}])


@pytest.mark.parametrize(
    ("ending", "text", "place", "problem"),
    [
        (".jsonl", '{"prompt": "a", "prompt_harmful": "no"}\n{"prompt": ', "line 2", "is not JSON"),
        (".jsonl", '{"prompt": "a", "prompt_harmful": "no"}\n\n[1]', "line 3", "is a JSON list, not an object"),
        (".jsonl", '{"prompt": "a", "prompt_harmful": "no"}\n{"prompt_harmful": true}', "line 2", "has no column 'prompt'"),
        (".jsonl", '{"prompt": "a", "refusal": "harmful"}', "line 1", "refusal: 'harmful' is not a label"),
        (
            ".jsonl",
            '{"prompt": "a", "response": "", "refusal": "no"}',
            "line 1",
            "refusal: is labelled, but there is no response",
        ),
        (".json", "[" * 100_000, "", "is nested too deeply"),
        (".jsonl", '{"prompt": "a", "label": "harmful"}', "line 1", "has no column of labels"),
        (".jsonl", '{"prompt": "  ", "prompt_harmful": "no"}', "line 1, prompt", "has no visible character"),
        (".jsonl", '{"prompt": 7, "prompt_harmful": "no"}', "line 1, prompt", "must be a str, not int"),
        (".csv", "prompt,prompt_harmful\na,no\nb\n", r"row 2 \(line 3\)", "has 1 cells, the header has 2"),
        (".csv", "prompt,prompt_harmful\na,no,yes\n", r"row 1 \(line 2\)", "has 3 cells, the header has 2"),
        (".csv", 'prompt,prompt_harmful\na,no\n"b" c,no\n', r"row 2 \(line 3\)", "is not CSV"),
        (".csv", "prompt,prompt_harmful,prompt\na,no,b\n", "the header", "has two columns of the same name"),
        (".json", '[{"prompt": "a"', "", r"is not JSON \(.* at character 16\)"),
        (".json", '["a"]', "row 1", "is a JSON string, not an object"),
        (".json", "7", "", "is a JSON int, not a list"),
        (".parquet", "no Parquet", "", "is not whole Parquet"),
        (".jsonl", "", "", "has no rows"),
        (".txt", "a", "", "has none of the endings"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(tmp_path: Path, ending: str, text: str, place: str, problem: str) -> None:
    if ending == ".parquet":
        pytest.importorskip("pyarrow", reason="reads Parquet: pip install 'guardreasoner-sdk[eval]'")
    path = tmp_path / f"rows{ending}"
    path.write_text(text, "utf-8")
    with pytest.raises(InputError, match=f"rows{ending}.*{place}.*: .*{problem}"):
        list(read_file(path))


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".json"])
def test_bytes_that_are_not_utf8_are_named(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"rows{ending}"
    path.write_bytes(b'prompt,prompt_harmful\n"\xff",no\n' if ending == ".csv" else b'[{"prompt": "\xff"}]')
    with pytest.raises(InputError, match="is not UTF-8"):
        list(read_file(path))


def test_a_torn_file_and_a_missing_one_are_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"prompt": "a", "prompt_harmful": "no"}\n' * 99)[:-20])
    with pytest.raises(InputError, match="cannot be read"):
        list(read_file(path))
    with pytest.raises(InputError, match="does not exist"):
        list(read_file(tmp_path / "other.jsonl"))


@pytest.mark.parametrize(
    ("setting", "problem"), [("prompt", "is not what=column"), ("label=x", "'label' is unknown"), ("id=", "is not what=column")]
)
def test_a_mapping_that_says_nothing_is_refused(setting: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        Columns.parse([setting])


def test_an_own_word_goes_before_the_usual_meaning(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("prompt,flag\na,no\nb,yes\nc,none\n", "utf-8")
    columns = Columns.parse(["prompt_harmfulness=flag", "positive=no", "negative=yes,none"])
    assert [row.labels[PROMPT] for row in read_file(path, columns)] == [True, False, False]


def test_the_case_of_an_own_word_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("prompt,prompt_harmful\na,ABUSE\nb,Fine\n", "utf-8")
    columns = Columns(positive=frozenset({"Abuse"}), negative=frozenset({" FINE"}))
    assert [row.labels[PROMPT] for row in read_file(path, columns)] == [True, False]


def test_words_and_tasks_that_cannot_be_meant_are_refused() -> None:
    with pytest.raises(InputError, match="'bad' is a positive and a negative word"):
        Columns.parse(["positive=bad,worse", "negative=fine,BAD"])
    with pytest.raises(InputError, match="'toxicity' is not a task"):
        Columns(labels={"toxicity": "toxic"})  # type: ignore[dict-item]


def test_every_row_gets_a_name_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    names = ["a", "a", "a#2", "a", None, "5"]
    path.write_text("".join(json.dumps({"prompt": "x", "prompt_harmful": 1, "id": name}) + "\n" for name in names), "utf-8")
    read = [row.id for row in read_file(path)]
    assert read == ["a", "a#2", "a#2#2", "a#3", "5", "5#2"]
