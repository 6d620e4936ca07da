"""Reading rows: every format, and everything that can be wrong with a row."""

from __future__ import annotations

import csv
import gzip
import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardreasoner_sdk import InputError, MissingExtraError
from guardreasoner_sdk.data import readers, records
from guardreasoner_sdk.data.check_rows import rows_of
from guardreasoner_sdk.data.columns import Columns
from guardreasoner_sdk.data.readers import open_source
from guardreasoner_sdk.data.records import Reading


def _rows(path, asked=None, **columns):
    return list(rows_of(open_source(path, Reading(asked, Columns(**columns)))))


@pytest.fixture
def file(tmp_path):
    def write(name, data):
        path = tmp_path / name
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return path

    return write


_GOOD = '{"prompt": "a"}'


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"prompt": ', "line 2: is not JSON (expecting value at character 13); write one JSON object"),
        (b"kill", "line 2: is not JSON"),
        (b"NaN", "line 2: is not JSON (NaN is not a JSON number)"),
        (b'{"prompt": "a", "id": -Infinity}', "line 2: is not JSON (-Infinity is not a JSON number)"),
        (b'{"prompt": "a", "id": ' + b"9" * 5000 + b"}", "line 2: is not JSON ("),
        (b'["a"]', "line 2: is a JSON list, not an object"),
        (b'"a"', "line 2: is a JSON string"),
        (b"null", "line 2: is a JSON null"),
        (b"7", "line 2: is a JSON number"),
        (b'{"prompt": "a", "x": 1e999}', "line 2: is not JSON (a number is too large); write one JSON object"),
        (b"\x00\x00\x00", "line 2: holds a NUL byte"),
        (b'{"prompt": "a\x00b"}', "line 2: holds a NUL byte"),
        (b'{"prompt": "\xff"}', "line 2: is not UTF-8 at byte 13"),
        (b"[" * 100_000, "line 2: is nested too deeply"),
        (b'{"text": "a"}', "line 2: prompt: is missing; pass --prompt-column text"),
        (b'{"q": "a"}', "line 2: prompt: is missing; give every row a prompt, or pass --prompt-column with one of 'q'"),
        (b'{"how to kill": "a"}', "line 2: prompt: is missing; give every row a prompt, or pass --prompt-column"),
        (b'{"prompt": 7}', "line 2: prompt: must be a str, not int"),
        (b'{"prompt": null}', "line 2: prompt: must be a str, not NoneType"),
        (b'{"prompt": " \\u200b"}', "line 2: prompt: has no visible character"),
        (b'{"prompt": "a", "response": ["b"]}', "line 2: response: must be a str, not list"),
        (b'{"prompt": "a", "response": ""}', "line 2: response: is empty"),
        (b'{"prompt": "a", "history": 0}', "line 2: history: must be a list"),
        (b'{"prompt": "a", "history": [{"role": "x"}]}', "line 2: history[0]"),
    ],
)
def test_a_broken_line_names_itself_and_the_fix(file, line, said):
    path = file("rows.jsonl", _GOOD.encode() + b"\n" + line + b"\n" + _GOOD.encode())
    before, broken, after = _rows(path)
    assert before.exchange == after.exchange
    assert after.number == 3
    assert broken.exchange is None
    assert broken.cause.startswith(said)
    assert "; " in broken.cause


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_json_lines_as_they_come(file, ending, pack):
    rows = [
        {"prompt": "a\u2028b\x85c\x0bd", "id": "x"},
        {"prompt": "b", "response": None, "id": 0},
        {"prompt": "c\nd", "response": "e", "id": {"$oid": "f"}, "history": [{"role": "user", "content": "g"}]},
        {"prompt": "d\x00", "history": None, "id": None},
    ]
    text = ending.join(json.dumps(row, ensure_ascii=False) for row in rows)
    read = _rows(file("rows.jsonl.gz", pack(("\ufeff" + text + ending + ending).encode())))
    assert [row.number for row in read] == [1, 2, 3, 4]
    assert [row.cause for row in read] == [None] * 4
    assert [row.exchange.prompt for row in read] == [row["prompt"] for row in rows]
    assert [row.identity for row in read] == ["x", 0, '{"$oid": "f"}', None]
    assert read[2].exchange.response == "e"
    assert read[2].exchange.history[0].content == "g"


def test_an_id_nested_too_deeply(file):
    # Somewhere below the limit of recursion there is a depth that can be read and not be written again.
    # Where that is differs: Python 3.12 and later count the interpreter's own frames apart.
    depths = (*range(50, sys.getrecursionlimit() + 50), 5_000, 20_000, 200_000)
    rows = _rows(file("rows.jsonl", "\n".join('{"prompt": "a", "id": ' + "[" * n + "]" * n + "}" for n in depths)))
    causes = [(row.cause or "fine: ").split(": ", 1)[1].split(";")[0] for row in rows]
    assert len(causes) == len(depths)
    assert set(causes) <= {"", "id: is no plain value", "is nested too deeply"}
    assert (causes[0], causes[-1]) == ("", "is nested too deeply")


def test_a_line_too_long_to_hold(file, monkeypatch):
    monkeypatch.setattr(records, "_MOST_BYTES", 20)
    for text in ('{"prompt": "' + "x" * 55 + '"}\n' + _GOOD, _GOOD + "\n" + "x" * 60, "x" * 20 + "\n" + _GOOD):
        rows = _rows(file("rows.jsonl", text))
        assert len(rows) == 2
        assert [row.cause for row in rows if row.exchange is None] in (
            ["line 1: has more than 20 bytes; split it and check the parts"],
            ["line 2: has more than 20 bytes; split it and check the parts"],
        )


def test_a_file_of_nothing_but_a_byte_order_mark(file):
    assert _rows(file("rows.jsonl", b"\xef\xbb\xbf")) == []


def test_columns_by_name(file):
    path = file("rows.jsonl", '{"q": "a", "a": "b", "prompt": 7}\n{"q": "a"}\n{"q": 1, "a": null}')
    first, second, third = _rows(path, prompt="q", response="a")
    assert (first.exchange.prompt, first.exchange.response) == ("a", "b")
    assert second.cause.startswith("line 2: a: is missing")
    assert third.cause.startswith("line 3: q: must be a str")
    assert third.response is False
    with pytest.raises(InputError, match="two columns"):
        Reading(columns=Columns("q", "q"))


@given(st.lists(st.one_of(st.binary(max_size=30), st.text(max_size=20).map(lambda t: json.dumps({"prompt": t}).encode()))))
def test_arbitrary_bytes_keep_their_place(tmp_path_factory, lines):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.write_bytes(b"\n".join(line.replace(b"\n", b"") for line in [_GOOD.encode(), *lines, _GOOD.encode()]))
    rows = _rows(path, "jsonl")
    there = [number for number, line in enumerate(lines, 2) if line.replace(b"\n", b"").strip()]
    assert [row.number for row in rows] == [1, *there, len(lines) + 2]
    assert all((row.cause is None) is (row.exchange is not None) for row in rows)
    assert all(row.cause.startswith(f"line {row.number}: ") for row in rows if row.cause)


@given(st.lists(st.tuples(st.text(), st.text(), st.text())))
def test_csv_reads_what_csv_writes(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    with path.open("w", encoding="utf-8-sig", newline="", errors="replace") as handle:
        writer = csv.writer(handle)
        writer.writerow(["prompt", "response", "id"])
        writer.writerows([("x" + prompt, response and "y" + response, key) for prompt, response, key in values])
    rows = _rows(path)
    assert [row.cause for row in rows] == [None] * len(values)
    assert [row.exchange.response is None for row in rows] == [not response for _, response, _ in values]
    assert [row.identity is None for row in rows] == [not key for *_, key in values]


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (b'"a"b,c', "row 2 (line 3): is not CSV ("),
        (b"a", "row 2 (line 3): has 1 cells, the header has 2; put texts with commas"),
        (b"a,b,c", "row 2 (line 3): has 3 cells"),
        (b"", "row 2 (line 3): is blank"),
        (b"\xff,b", "row 2 (line 3): is not UTF-8"),
        (b",b", "row 2 (line 3): prompt: is empty"),
        (b"a, ", "row 2 (line 3): response: has no visible character"),
        (b"x" * 60 + b",", "row 2 (line 3): is not CSV (field larger than field limit (50))"),
    ],
)
def test_a_broken_record_names_itself_and_the_fix(file, monkeypatch, record, said):
    monkeypatch.setattr(readers, "_MOST_CHARACTERS", 50)
    broken, after = _rows(file("rows.csv", b"prompt,response\na,b\n" + record + b"\na,\n\n\n"))[1:]
    assert broken.exchange is None
    assert broken.cause.startswith(said)
    assert (after.number, after.exchange.prompt, after.exchange.response) == (3, "a", None)


def test_a_quote_that_is_never_closed(file):
    rows = _rows(file("rows.csv", 'prompt\na\n"b\nc\n'))
    assert [row.exchange is None for row in rows] == [False, True]
    assert "unexpected end of data" in rows[1].cause


def test_csv_texts_over_several_lines(file):
    first, second = _rows(file("rows.csv.gz", gzip.compress(b'prompt\r\n"a\r\nb"\r\n"a"b\r\n')))
    assert first.exchange.prompt == "a\r\nb"
    assert second.cause.startswith("row 2 (line 4): ")


@pytest.mark.parametrize(
    ("header", "columns", "said"),
    [
        ("id,answer", {}, "--prompt-column: .* has no column 'prompt'; name one of those it has: 'id', 'answer'"),
        ("id,text,question", {}, "--prompt-column: .* has no column 'prompt'; pass --prompt-column text"),
        ("id;prompt", {}, "--delimiter: .* has its cells separated by ';'; pass --delimiter ';'"),
        ("id\tprompt", {}, "--delimiter: .* has its cells separated by 'tab'; pass --delimiter 'tab'"),
        ("prompt", {"response": "answer"}, "--response-column: .* has no column 'answer'"),
        ("prompt,prompt", {}, "--prompt-column: .* has 2 columns 'prompt'"),
        ("\n", {}, "it has: none"),
        (b"\xff", {}, "first line that is not CSV"),
        ('"a"b', {}, "first line that is not CSV"),
    ],
)
def test_a_header_that_does_not_do(file, header, columns, said):
    with pytest.raises(InputError, match=said):
        _rows(file("rows.csv", header), **columns)


@pytest.mark.parametrize(
    ("name", "data", "asked", "said"),
    [
        ("rows.txt", "x", None, "ending of .* pass --format"),
        ("rows", "x", None, "ending of "),
        ("rows.json", "x", None, r"rows.json is not JSON \(expecting value at character 1\); write a list of objects"),
        ("rows.txt", "x", None, "pass --lines if each line is a prompt"),
        ("rows.jsonl", "x", "xml", "--format: 'xml' is unknown"),
        ("rows.jsonl", "", None, "is empty"),
        ("rows.jsonl", b"\xff\xfea\x00", None, "UTF-16; convert it: iconv"),
        ("rows.parquet", "no parquet", None, "is not whole Parquet"),
    ],
)
def test_a_file_that_does_not_do(file, name, data, asked, said):
    with pytest.raises(InputError, match=said):
        _rows(file(name, data), asked)


def test_no_such_file_and_no_file(tmp_path):
    for path, said in ((tmp_path / "no.jsonl", "does not exist"), (tmp_path, "is a folder"), ("/dev/null", "not a plain")):
        with pytest.raises(InputError, match=said):
            _rows(type(tmp_path)(path), "jsonl")


def test_a_file_that_cannot_be_read(file, monkeypatch):
    path = file("rows.jsonl", _GOOD)

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "open", refuse)
    with pytest.raises(InputError, match=r"cannot be read \(Permission denied\)"):
        _rows(path)


def test_a_torn_gzip_file_gives_its_rows_first(file):
    packed = gzip.compress("".join(f'{{"prompt": "{n * 7919}"}}\n' for n in range(20_000)).encode())
    rows = rows_of(open_source(file("rows.jsonl", packed[:-2000]), Reading()))
    assert next(rows).exchange is not None
    with pytest.raises(InputError, match="cannot be read"):
        list(rows)


@pytest.fixture
def parquet(tmp_path):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")

    def write(**columns):
        path = tmp_path / "rows.parquet"
        pq.write_table(pa.table(columns), path)
        return path

    return write


def test_parquet(parquet):
    rows = _rows(
        parquet(
            prompt=["a", None, " "],
            response=["b", None, None],
            id=[1, 2, None],
            other=[0.5, 0.5, 0.5],
            history=[[{"role": "user", "content": "h"}], None, None],
        )
    )
    assert (rows[0].exchange.prompt, rows[0].exchange.response, rows[0].identity) == ("a", "b", 1)
    assert rows[0].exchange.history[0].content == "h"
    assert rows[1].cause.startswith("row 2: prompt: must be a str, not NoneType")
    assert rows[2].cause.startswith("row 3: prompt: has no visible character")


def test_parquet_that_is_not_utf8(parquet):
    pa = pytest.importorskip("pyarrow")
    offsets = pa.array([0, 1, 2, 3], pa.int32()).buffers()[1]
    column = pa.StringArray.from_buffers(3, offsets, pa.py_buffer(b"a\xffc"))
    rows = _rows(parquet(prompt=column))
    assert [row.cause for row in rows] == [None, "row 2: is not UTF-8; write the column as valid strings", None]


def test_parquet_with_other_columns(parquet):
    path = parquet(q=["a"])
    with pytest.raises(InputError, match="has no column 'prompt'; name one of those it has: 'q'"):
        _rows(path)
    assert _rows(path, prompt="q")[0].exchange.prompt == "a"


def test_parquet_without_pyarrow(parquet, monkeypatch):
    path = parquet(prompt=["a"])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'guardreasoner-sdk\[parquet\]'"):
        _rows(path)
