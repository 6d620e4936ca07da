"""The corrected file: what was accepted is turned over, and nothing else changes."""

from __future__ import annotations

import gzip
import json
import lzma
import os
import random
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardreasoner_sdk.data.readers import records_of
from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.evaluation.audit.correct import write_corrected
from guardreasoner_sdk.evaluation.audit.labelled_set import LabelledSet, other_word

LINES = (
    '\ufeff{"prompt": "a", "prompt_harmful":true , "n": 1.50}\r\n'
    "\n"
    '  { "prompt_harmful" : false,"prompt":"\\u0041 \\"prompt_harmful\\": true", "x": {"prompt_harmful": 3} }\n'
    '{"prompt": "c", "prompt_harmful": false, "prompt_harmful": true}'
)


def corrected(source, changes, name=None):
    target = source.with_name(name or f"corrected-{source.name}")
    write_corrected(source, target, changes)
    return target.read_bytes()


def test_json_lines_keep_every_other_byte(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(LINES.encode())
    changes = {1: {"prompt_harmful": False}, 3: {"prompt_harmful": True}, 4: {"prompt_harmful": False}}
    assert corrected(file, changes).decode() == (
        '\ufeff{"prompt": "a", "prompt_harmful":false , "n": 1.50}\r\n'
        "\n"
        '  { "prompt_harmful" : true,"prompt":"\\u0041 \\"prompt_harmful\\": true", "x": {"prompt_harmful": 3} }\n'
        '{"prompt": "c", "prompt_harmful": false, "prompt_harmful": false}'
    )
    assert corrected(file, {}) == file.read_bytes()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3), max_leaves=4
)


@given(st.lists(st.dictionaries(st.text(), JSON, max_size=4), min_size=1, max_size=5), st.data())
def test_any_json_object_keeps_its_other_members(tmp_path_factory, rows, data):
    file = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    rows = [{**row, "label": True} for row in rows]
    file.write_text("".join(json.dumps(row, ensure_ascii=data.draw(st.booleans())) + "\n" for row in rows), "utf-8", newline="")
    number = data.draw(st.integers(1, len(rows)))
    # A line separator is no end of a line.
    after = [json.loads(line) for line in corrected(file, {number: {"label": "é\u2028"}}).decode().split("\n")[:-1]]
    rows[number - 1]["label"] = "é\u2028"
    assert after == rows


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_csv_keeps_every_other_byte(tmp_path, ending):
    text = ending.join(
        [
            '\ufeff"id",prompt,label',
            '1,"a ""quoted"", text' + ending + 'on two lines",harmful',
            "",
            '2,plain,"harmful"',
            '"3","",unharmful',
            '4,"last",harmful',
        ]
    )
    file = tmp_path / "rows.csv"
    file.write_bytes(text.encode())
    changes = {1: {"label": "unharmful"}, 2: {"label": "un,harmful"}, 4: {"id": '"', "label": "x"}}
    expected = text.replace('lines",harmful', 'lines",unharmful').replace('plain,"harmful"', 'plain,"un,harmful"')
    expected = expected.replace('4,"last",harmful', '"""","last",x')
    assert corrected(file, changes).decode() == expected
    assert corrected(file, {}) == file.read_bytes()


@pytest.mark.parametrize(
    ("text", "number", "expected"),
    [
        (' [ {"a": 1, "y": 0 } ,{"y":0}]\n', 2, ' [ {"a": 1, "y": 0 } ,{"y":1}]\n'),
        (
            '{"one": [], "two": [{"y": 0}, {"y": [0]}], "three": [{"y": 0}]}',
            3,
            '{"one": [], "two": [{"y": 0}, {"y": [0]}], "three": [{"y": 1}]}',
        ),
    ],
)
def test_a_json_list_keeps_every_other_byte(tmp_path, text, number, expected):
    file = tmp_path / "rows.json"
    file.write_text(text, "utf-8")
    assert corrected(file, {number: {"y": 1}}).decode() == expected


@pytest.mark.parametrize(("pack", "ending"), [(gzip, "gz"), (lzma, "xz")])
def test_what_is_packed_stays_packed(tmp_path, pack, ending):
    file = tmp_path / f"rows.jsonl.{ending}"
    file.write_bytes(pack.compress(b'{"y": 0}\n{"y": 0}\n'))
    assert pack.decompress(corrected(file, {2: {"y": 1}})) == b'{"y": 0}\n{"y": 1}\n'


def test_parquet_keeps_schema_metadata_row_groups_and_other_cells(tmp_path):
    arrow = pytest.importorskip("pyarrow", reason="Parquet files need pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet", reason="Parquet files need pyarrow")
    table = arrow.table(
        {
            "prompt": ["a", None, "c", "d"],
            "label": arrow.array(["yes", "no", None, "no"]).dictionary_encode(),
            "score": arrow.array([1, 0, 1, 0], arrow.int8()),
            "tags": [["x"], [], None, ["y", "z"]],
        }
    ).replace_schema_metadata({"made by": "hand"})
    file = tmp_path / "rows.parquet"
    parquet.write_table(table, file, row_group_size=3, compression="gzip")
    target = tmp_path / "out.parquet"
    write_corrected(file, target, {2: {"label": "yes"}, 4: {"score": 1, "label": "yes"}})
    after = parquet.ParquetFile(target)
    assert after.schema_arrow.equals(parquet.ParquetFile(file).schema_arrow, check_metadata=True)
    assert [after.metadata.row_group(group).num_rows for group in range(2)] == [3, 1]
    assert after.metadata.row_group(0).column(0).compression == "GZIP"
    rows = table.to_pylist()
    rows[1]["label"], rows[3]["label"], rows[3]["score"] = "yes", "yes", 1
    assert after.read().to_pylist() == rows


def test_the_audited_file_is_never_overwritten(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"y": 0}\n', "utf-8")
    (tmp_path / "link.jsonl").symlink_to(file)
    for target in (file, tmp_path / "link.jsonl"):
        with pytest.raises(InputError, match="--corrected"):
            write_corrected(file, target, {1: {"y": 1}})
    assert file.read_text("utf-8") == '{"y": 0}\n'


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"y": 0}\n', "utf-8")
    with pytest.raises(InputError, match="cannot be written"):
        write_corrected(file, tmp_path / "none" / "rows.jsonl", {1: {"y": 1}})


@pytest.mark.parametrize(
    ("value", "label", "words", "expected"),
    [
        (True, True, {}, False),
        (0, False, {}, 1),
        (1.0, True, {}, 0.0),
        # A column of the other polarity, "is_safe".
        (True, False, {("y", True): False}, False),
        (0, True, {}, 1),
        (2, True, {("y", False): 7}, 7),
        ("unsafe", True, {}, "safe"),
        ("TRUE", True, {("y", False): "FALSE"}, "FALSE"),
        ("fine", False, {("y", True): "toxic"}, "toxic"),
        ("fine", False, {}, "harmful"),
        ("odd", True, {}, "unharmful"),
    ],
)
def test_a_label_is_turned_over_in_the_files_own_words(value, label, words, expected):
    other = other_word("prompt_harmfulness", "y", value, label, words)
    assert (other, type(other)) == (expected, type(expected))


def test_the_commonest_word_is_the_files(tmp_path):
    draw = random.Random(1)
    words = ["Harmful"] * 3 + ["unsafe"] + ["Safe"] * 2 + ["no"]
    draw.shuffle(words)
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps({"prompt": "x", "prompt_harmful": word}) + "\n" for word in words), "utf-8")
    assert LabelledSet(file).words() == {("prompt_harmful", True): "Harmful", ("prompt_harmful", False): "Safe"}


def test_a_column_that_says_safe_is_turned_over_too(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"prompt": "x", "is_safe": 0}\n{"prompt": "y", "is_safe": true}\n', "utf-8")
    labels = LabelledSet(file, ("prompt_harmfulness=is_safe", "positive=0,false", "negative=1,true"))
    words, changes = labels.words(), {}
    for row in labels.rows():
        (task, label), (column, value) = *row.labels.items(), row.cells["prompt_harmfulness"]
        changes[row.number] = {column: other_word(task, column, value, label, words)}
    assert corrected(file, changes).decode() == '{"prompt": "x", "is_safe": 1}\n{"prompt": "y", "is_safe": false}\n'


@pytest.mark.skipif(sys.platform == "win32", reason="named pipes")
def test_what_is_no_plain_file_is_not_replaced_by_the_corrected_one(tmp_path):
    source, pipe = tmp_path / "rows.jsonl", tmp_path / "pipe"
    source.write_text('{"prompt": "a", "label": 1}\n')
    os.mkfifo(pipe)
    with pytest.raises(InputError, match="pipe is not a plain file"):
        write_corrected(source, pipe, {})
    assert pipe.is_fifo()


@pytest.mark.parametrize(
    "text",
    [
        '{"settings": {"seeds": [1, 2]}, "data": {"train": [{"prompt": "a", "x": "no"}],\n "test": [{"prompt": "b", "x": "no"}]}}',
        '[[{"prompt": "a", "x": "no"}], [ {"prompt": "b", "x": "no"} ]]',
        '{"prompt": "a", "x": "no"}\n{"prompt": "b", "x": "no"}\n',
    ],
)
def test_documents_of_nested_lists_and_lines_called_json_keep_every_other_byte(tmp_path, text):
    source, target = tmp_path / "rows.json", tmp_path / "corrected.json"
    source.write_text(text, "utf-8")
    numbers = [record.number for record in records_of(source)]
    write_corrected(source, target, {numbers[1]: {"x": "yes"}})
    head, _, tail = text.rpartition('"no"')
    assert target.read_text("utf-8") == f'{head}"yes"{tail}'
