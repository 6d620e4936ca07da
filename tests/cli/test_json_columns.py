"""Columns of Parquet that hold JSON text, as ``datasets`` writes them for values of mixed types."""

from __future__ import annotations

import json

import pytest

from guardreasoner_sdk.data.check_rows import rows_of
from guardreasoner_sdk.data.readers import open_source, records_of
from guardreasoner_sdk.data.records import Reading
from guardreasoner_sdk.evaluation.audit.correct import write_corrected

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

PROMPT = 'How do I bake\n"bread" at 200°?'
ROWS = [
    {"id": "a", "prompt": PROMPT, "prompt_harmfulness": "unharmful", "reasoning": "It is a recipe."},
    {"id": "b", "prompt": "how to kill", "prompt_harmfulness": "harmful", "reasoning": {"prompt_harmfulness": ["One."]}},
    {"id": "c", "prompt": PROMPT, "prompt_harmfulness": None, "reasoning": None},
]


def _json_field(name):
    """A column as the extension type is stored, which every pyarrow can write; from 19 on it is read back as the type."""
    return pa.field(name, pa.string(), metadata={"ARROW:extension:name": "arrow.json", "ARROW:extension:metadata": ""})


@pytest.fixture
def columns_of_json(tmp_path):
    """A file whose columns are all of the extension type, but for the ids."""
    path = tmp_path / "rows.parquet"
    names = ("prompt", "prompt_harmfulness", "reasoning")
    texts = [[None if row[name] is None else json.dumps(row[name], ensure_ascii=False) for row in ROWS] for name in names]
    schema = pa.schema([pa.field("id", pa.string()), *map(_json_field, names)])
    pq.write_table(pa.table([[row["id"] for row in ROWS], *texts], schema=schema), path)
    return path


def test_check_reads_the_values(columns_of_json):
    rows = list(rows_of(open_source(columns_of_json, Reading())))
    assert [row.exchange.prompt for row in rows] == [PROMPT, "how to kill", PROMPT]


def test_evaluations_read_the_values(columns_of_json):
    assert [dict(record.values) for record in records_of(columns_of_json)] == ROWS


def test_training_reads_the_values(columns_of_json):
    rows = pytest.importorskip("guardreasoner_training.rows")
    first, second = rows.read_rows(columns_of_json)
    assert (first.exchange.prompt, first.labels) == (PROMPT, {"prompt_harmfulness": False})
    assert (second.exchange.prompt, second.labels) == ("how to kill", {"prompt_harmfulness": True})
    assert second.reasoning == {"prompt_harmfulness": ("One.",)}


def test_what_an_audit_corrects_stays_json(columns_of_json, tmp_path):
    target = tmp_path / "corrected.parquet"
    write_corrected(columns_of_json, target, {1: {"prompt_harmfulness": "harmful"}})
    assert pq.ParquetFile(target).schema_arrow == pq.ParquetFile(columns_of_json).schema_arrow
    corrected = [dict(record.values) for record in records_of(target)]
    assert corrected == [{**ROWS[0], "prompt_harmfulness": "harmful"}, *ROWS[1:]]


def test_json_within_lists_and_structs_is_read(tmp_path):
    path = tmp_path / "rows.parquet"
    given = [[{"role": "user", "content": json.dumps(PROMPT)}, {"role": "assistant", "content": '"Flour."'}]]
    kind = pa.list_(pa.struct([pa.field("role", pa.string()), _json_field("content")]))
    pq.write_table(pa.table([given], schema=pa.schema([pa.field("messages", kind)])), path)
    (row,) = rows_of(open_source(path, Reading()))
    assert (row.exchange.prompt, row.exchange.response) == (PROMPT, "Flour.")


def test_what_datasets_writes_for_mixed_types(tmp_path):
    if not hasattr(pa, "json_"):
        pytest.skip("datasets keeps mixed types with pyarrow 19 and newer")
    datasets = pytest.importorskip("datasets")
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, ROWS)), "utf-8")
    table = datasets.load_dataset("json", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
    if "arrow.json" not in str(table.data.schema):
        pytest.skip("this version of datasets keeps no column of mixed types as JSON")
    parquet = tmp_path / "rows.parquet"
    table.to_parquet(parquet)
    assert [record.values["reasoning"] for record in records_of(parquet)] == [row["reasoning"] for row in ROWS]
    assert [row.exchange.prompt for row in rows_of(open_source(parquet, Reading()))] == [row["prompt"] for row in ROWS]
