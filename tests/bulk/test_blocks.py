"""Input cut into blocks: every row in one of them, as if the file had been read from its beginning."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardreasoner_sdk import ConfigurationError, InputError
from guardreasoner_sdk.bulk import BulkOptions
from guardreasoner_sdk.bulk.blocks import BlockReader, cut_file, find_files
from guardreasoner_sdk.bulk.workers import complete_arguments
from guardreasoner_sdk.data import records
from guardreasoner_sdk.data.check_rows import CheckRow, rows_of
from guardreasoner_sdk.data.columns import Columns
from guardreasoner_sdk.data.readers import open_source
from guardreasoner_sdk.data.records import Reading
from guardreasoner_sdk.testing import ScriptedJudge


def at_once(path: Path) -> list[CheckRow]:
    return list(rows_of(open_source(path, Reading(named="INPUT"))))


def in_blocks(path: Path, size: int) -> list[CheckRow]:
    blocks = list(cut_file(path, Columns(), size))
    assert [block.number for block in blocks] == list(range(len(blocks)))
    reader = BlockReader(Columns())
    # Backwards: a worker is handed blocks in no order.
    found = {block.number: list(reader.rows(block)) for block in reversed(blocks)}
    return [row for number in sorted(found) for row in found[number]]


LINES = st.sampled_from(
    [b'{"prompt": "Hi"}', b'{"prompt": "\xc3\xa9", "id": 3}', b"", b"  ", b"{", b"\xff", b'{"x": 1}', b'{"prompt": 4}']
)


@given(st.lists(st.tuples(LINES, st.sampled_from([b"\n", b"\r\n"]))), st.booleans(), st.booleans(), st.integers(1, 5))
def test_json_lines_are_the_same_rows_in_blocks_of_any_size(
    tmp_path_factory: pytest.TempPathFactory, lines: list[tuple[bytes, bytes]], mark: bool, torn: bool, size: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "rows.jsonl"
    text = b"".join(line + end for line, end in lines)
    path.write_bytes((b"\xef\xbb\xbf" if mark else b"") + (text + b'{"prompt": "last"}' if torn else text))
    assert in_blocks(path, size) == (at_once(path) if path.stat().st_size else [])


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_line_too_long_to_hold_is_one_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(records, "_MOST_BYTES", 64)
    monkeypatch.setattr("guardreasoner_sdk.bulk.blocks._CHUNK", 7)
    path = tmp_path / "rows.jsonl"
    long = json.dumps({"prompt": "x" * 200})
    path.write_text(f'{{"prompt": "a"}}\n{long}\n{{"prompt": "b"}}\n{long}')
    rows = in_blocks(path, size)
    assert rows == at_once(path)
    assert [row.cause is None for row in rows] == [True, False, True, False]


@pytest.mark.parametrize("size", [1, 4, 7, 100])
def test_parquet_is_the_same_rows_in_blocks_of_any_size(tmp_path: Path, size: int) -> None:
    arrow = pytest.importorskip("pyarrow", reason="pip install 'guardreasoner-sdk[parquet]'")
    import pyarrow.parquet

    path = tmp_path / "rows.parquet"
    table = arrow.table({"prompt": [f"prompt {n}" for n in range(23)], "id": list(range(23)), "other": [0] * 23})
    pyarrow.parquet.write_table(table, path, row_group_size=5)
    rows = in_blocks(path, size)
    assert rows == at_once(path)
    assert [row.identity for row in rows] == list(range(23))


def test_a_folder_is_its_files_in_the_order_of_their_names(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name in ("b/two.jsonl", "one.parquet", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in find_files(tmp_path)] == ["two.jsonl", "one.parquet"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (None, b"", "INPUT: .* does not exist"),
        ("rows.csv", b"prompt\nHi\n", "INPUT: .*rows.csv cannot be read in parts"),
        (
            "rows.jsonl",
            gzip.compress(b"{}\n", mtime=0),
            "INPUT: .*rows.jsonl is packed, and cannot be read in parts; unpack it",
        ),
        ("rows.jsonl", "\ufeff{}\n".encode("utf-16"), "INPUT: .*is UTF-16"),
        ("rows.parquet", b"PAR1", "INPUT: .*is not whole Parquet"),
    ],
)
def test_what_cannot_be_read_in_parts_is_told_with_the_fix(
    tmp_path: Path, name: str | None, content: bytes, words: str
) -> None:
    path = tmp_path / (name or "none.jsonl")
    if name is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=words):
        list(cut_file(find_files(path)[0], Columns(), 10))


def test_an_empty_folder_is_no_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no file of rows"):
        find_files(tmp_path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"actors": 0}, "actors: must be a whole number from 1"),
        ({"block_rows": True}, "block_rows: must be a whole number"),
        ({"gpus_per_actor": -1}, "gpus_per_actor: must be a number from 0"),
        ({"output_format": "csv"}, "output_format: must be 'jsonl' or 'parquet'"),
    ],
)
def test_options_that_cannot_work_are_named(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        BulkOptions(**options)


def test_a_worker_is_told_what_this_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GUARDREASONER_API_KEY", "k-1")
    monkeypatch.setenv("GUARDREASONER_TIMEOUT", "2.5")
    monkeypatch.setenv("GUARDREASONER_ON_UNDETERMINED", "allow")
    found = complete_arguments({"model": "mine", "base_url": "http://localhost:1/v1"})
    assert (found["model"], found["api_key"], found["timeout"]) == ("mine", "k-1", 2.5)
    assert found["policy"].on_undetermined == "allow"
    judge = ScriptedJudge({})
    assert set(complete_arguments({"judge": judge})) == {"judge", "policy"}
