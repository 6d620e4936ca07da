"""Files of rows as they lie in the field: documents, conversations, other encodings, pipes, and what a spreadsheet makes of them."""

from __future__ import annotations

import csv
import functools
import gzip
import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardreasoner_sdk import InputError
from guardreasoner_sdk.data.check_rows import make_row, rows_of
from guardreasoner_sdk.data.columns import Columns
from guardreasoner_sdk.data.encodings import looks_like
from guardreasoner_sdk.data.readers import escape_formula, open_source, records_of, unescape_formula
from guardreasoner_sdk.data.records import Reading, Record


def _rows(path, **how):
    columns = Columns(how.pop("prompt", "prompt"), how.pop("response", None))
    return list(rows_of(open_source(path, Reading(columns=columns, **how))))


def _prompts(path, **how):
    rows = _rows(path, **how)
    assert [row.cause for row in rows] == [None] * len(rows)
    return [row.exchange.prompt for row in rows]


@pytest.fixture
def file(tmp_path):
    def write(name, data):
        path = tmp_path / name
        text = data if isinstance(data, str | bytes) else json.dumps(data)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


_KEYS = st.sampled_from(["prompt", "messages", "conversations", "response", "history", "id", "role", "content", "type", "text"])
AB = [{"prompt": "a", "id": 1}, {"prompt": "b", "id": 2}]


@pytest.mark.parametrize(
    "data",
    [
        AB,
        json.dumps(AB, indent=2),
        "\ufeff" + json.dumps(AB),
        gzip.compress(json.dumps(AB).encode(), mtime=0),
        {"data": AB},
        {"parameters": {"model": "m", "seeds": [1, 2, 3]}, "rows": AB},
        {"data": {"train": AB[:1], "test": AB[1:]}},
        [AB[:1], AB[1:]],
        {"prompt": ["a", "b"], "id": [1, 2]},
        ["a", "b"],
        {"prompts": ["a", "b"]},
        '{"prompt": "a"}\n{"prompt": "b"}\n',
        '\n{"prompt": "a"}\n\n{"prompt": "b"}',
        [[{"role": "user", "content": "a"}], [{"role": "user", "content": "b"}]],
        [{"messages": [{"role": "user", "content": "a"}]}, {"conversations": [{"from": "human", "value": "b"}]}],
    ],
)
def test_a_json_document_gives_the_rows_wherever_they_stand(file, data):
    name = "rows.json.gz" if isinstance(data, bytes) else "rows.json"
    assert _prompts(file(name, data)) == ["a", "b"]


def test_a_document_of_one_object_is_a_row(file):
    (row,) = _rows(file("rows.json", {"prompt": "a", "response": "b", "id": "x"}))
    assert (row.exchange.prompt, row.exchange.response, row.identity) == ("a", "b", "x")
    (row,) = _rows(file("rows.json", {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}))
    assert (row.exchange.prompt, row.exchange.response) == ("a", "b")


def test_what_is_no_row_of_a_document_is_told_by_its_place(file):
    rows = _rows(file("rows.json", [{"prompt": "a"}, 7, None, [1], {"prompt": 8}]))
    assert [row.number for row in rows] == [1, 2, 3, 4, 5]
    said = [(row.cause or "").partition(";")[0] for row in rows]
    assert said == [
        "",
        "row 2: is a JSON number or truth value, not an object",
        "row 3: is a JSON null, not an object",
        "row 4: is a JSON list, not an object",
        "row 5: prompt: must be a str, not int",
    ]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("[1, 2", "is not JSON"),
        ("{}", "holds no list of rows"),
        ("7", "holds no list of rows"),
        ("[" * 300 + "]" * 300, "holds no list of rows"),
        ('{"a":' * 300 + "1" + "}" * 300, "holds no list of rows"),
        ({"models": {"white_box": ["a"], "black_box": ["b"]}}, "holds no list of rows"),
        ("[" * 100_000 + "]" * 100_000, "is nested too deeply"),
        ('[{"prompt": 1e999}]', "a number is too large"),
    ],
)
def test_a_document_that_holds_no_rows_is_an_input_error(file, data, said):
    with pytest.raises(InputError, match=said):
        _rows(file("rows.json", data))


@pytest.mark.parametrize(
    "data",
    [
        [{"prompt": "a"}, {"prompt": "b"}],
        {"data": [{"prompt": "a"}, {"prompt": "b"}]},
        {"x": {"y": [{"prompt": "a"}], "z": [{"prompt": "b"}]}, "settings": {"seeds": [1]}},
        [[{"prompt": "a"}], [{"prompt": "b"}]],
        '{"prompt": "a", "score": NaN}\n{"prompt": "b"}\n',
    ],
)
def test_evaluations_read_the_same_documents(file, data):
    assert [record.values["prompt"] for record in records_of(file("rows.json", data))] == ["a", "b"]


def test_conversations_are_judged_with_their_history(file):
    turns = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    lines = [
        {"messages": turns},
        {"messages": [*turns, {"role": "assistant", "content": "d"}]},
        {"messages": turns, "response": "d"},
        {"prompt": "c", "messages": "not read", "history": turns[:3], "response": "d"},
        {"messages": [*turns, {"role": "assistant", "content": "d"}], "response": "e"},
        {"messages": turns, "history": turns},
        {"messages": "c"},
        {"messages": 7},
    ]
    rows = _rows(file("rows.jsonl", "\n".join(map(json.dumps, lines))))
    for row in rows[:4]:
        assert row.exchange.prompt == "c"
        assert [turn.content for turn in row.exchange.history] == ["Be kind.", "a", "b"]
    assert [row.exchange.response for row in rows[:4]] == [None, "d", "d", "d"]
    said = [row.cause.partition(";")[0] for row in rows[4:]]
    assert said[0] == "line 5: response: is given, and messages holds one, too"
    assert said[1] == "line 6: history: does not go with messages"
    assert said[2].startswith("line 7: messages: is not JSON")
    assert said[3].startswith("line 8: messages: must be a list of messages")
    by_name = _rows(file("rows.jsonl", json.dumps({"dialogue": turns})), prompt="dialogue")
    assert by_name[0].exchange == rows[0].exchange


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS | st.text(max_size=3), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(_KEYS, _JSON, max_size=4), st.integers(0, 3_000))
def test_a_row_of_whatever_shape_is_an_exchange_or_a_complaint(values, depth):
    # Deep enough to be read by the parser and not to be walked through.
    deep = functools.reduce(lambda inner, _: [inner], range(depth), values)
    for row in (
        values,
        {"messages": [{"role": "user", "content": "a", "tool_calls": deep, "function_call": {"arguments": deep}}]},
    ):
        made = make_row(Record(1, "line 1", row), Columns())
        assert (made.exchange is None) is (made.cause is not None)
        assert made.cause is None or made.cause.startswith("line 1: ")
        assert len(made.cause or "") < 1_000


def test_conversations_in_tables_are_json_in_a_cell(file):
    cell = json.dumps([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])
    text = io.StringIO()
    csv.writer(text).writerows([["id", "messages"], ["1", cell], ["2", "[broken"]])
    first, second = _rows(file("rows.csv", text.getvalue()))
    assert (first.exchange.prompt, first.exchange.response) == ("a", "b")
    assert second.cause.startswith("row 2 (line 3): messages: is not JSON")


def test_blank_lines_are_passed_over_and_counted(run, tmp_path, write_rows, read_rows, harmless):
    row = {"prompt": harmless}
    rows = write_rows(tmp_path / "rows.jsonl", ["", row, "", " \t", row, row, "", ""])
    output = tmp_path / "v.jsonl"
    arguments = ("check", "--file", rows, "--output", output)
    result = run(*arguments)
    assert result.exit_code == 0
    assert [row["row"] for row in read_rows(output)] == [2, 5, 6]
    assert "3 rows: 3 allowed" in result.stderr
    assert "3 blank lines were passed over" in result.stderr
    whole = output.read_bytes()
    for kept in range(4):
        output.write_bytes(b"".join(whole.splitlines(keepends=True)[:kept]))
        assert run(*arguments).exit_code == 0
        assert [row["row"] for row in read_rows(output)] == [2, 5, 6]
    output.write_bytes(b"".join([whole.splitlines(keepends=True)[0], *whole.splitlines(keepends=True)[2:]]) * 2)
    result = run(*arguments)
    assert result.exit_code == 2
    assert f"line 2 of {output} is not the verdict of row 5" in result.stderr


@pytest.mark.parametrize(("many", "said"), [(120, "none of its first 100 rows can"), (16, "none of its first 16 rows can")])
def test_a_file_whose_rows_cannot_be_read_stops_before_anything_is_written(run, tmp_path, write_rows, many, said):
    rows = write_rows(tmp_path / "rows.jsonl", [{"id": n, "question": "How do I bake bread?"} for n in range(many)])
    result = run("check", "--file", rows, "--output", tmp_path / "v.jsonl")
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("--prompt-column question") == 1
    assert len(result.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == [rows]
    assert run("check", "--file", rows, "--output", tmp_path / "v.jsonl", "--prompt-column", "question").exit_code == 0


def test_one_row_that_can_be_read_is_enough(run, tmp_path, write_rows, harmless):
    rows = write_rows(tmp_path / "rows.jsonl", [*[{"question": "a"}] * 99, {"prompt": harmless}])
    result = run("check", "--file", rows, "--output", tmp_path / "v.jsonl")
    assert result.exit_code == 3
    assert result.stderr.count("--prompt-column question") == 1
    assert "and 98 more" in result.stderr


CHINESE, JAPANESE, KOREAN = "如何烤面包？请告诉我。", "パンの焼き方を教えてください。", "빵을 어떻게 굽나요? 알려주세요"
WESTERN, CYRILLIC = "Größe, café à la crème, señor", "Как испечь хлеб? Расскажите"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (CHINESE, "gb18030"),
        ("如何烤麵包？請告訴我，謝謝您。", "big5"),
        (JAPANESE, "shift_jis"),
        (JAPANESE, "euc-jp"),
        (KOREAN, "euc-kr"),
        (CYRILLIC, "cp1251"),
        (WESTERN, "iso-8859-1"),
        ("“Größe” – l’été", "cp1252"),
        (WESTERN, "utf-16"),
        (CYRILLIC, "utf-32"),
    ],
)
def test_a_table_in_another_encoding_is_told_which_and_read_when_it_is_named(file, text, encoding):
    path = file("rows.csv", f'id,"{text}",prompt\n1,2,"{text}"\n'.encode(encoding))
    with pytest.raises(InputError) as caught:
        _rows(path)
    assert f"pass --encoding {encoding}" in str(caught.value)
    assert "iconv -f" in str(caught.value)
    # Under a header of plain letters it shows in the row.
    plain = _rows(file("plain.csv", f'id,prompt\n1,"{text}"\n'.encode(encoding))) if not encoding.startswith("utf") else []
    assert [f"--encoding {encoding}" in row.fix for row in plain] == [True] * len(plain)
    assert _prompts(path, encoding=encoding) == [text]


@pytest.mark.parametrize("text", [CHINESE, WESTERN, "plain", "", "\ufeffé"])
def test_utf8_looks_like_nothing_else(text):
    assert looks_like(text.encode()) is None


@pytest.mark.parametrize("cut", range(12))
def test_a_sample_may_end_within_a_character(cut):
    data = f"id,prompt\n1,{CHINESE * 3}".encode("gb18030")
    assert looks_like(data[: len(data) - cut]) == "gb18030"


def test_json_lines_in_another_encoding(file):
    lines = "\n".join(json.dumps({"prompt": text}, ensure_ascii=False) for text in (CHINESE, "plain", CHINESE))
    for name, encoding in (
        ("rows.jsonl", "gb18030"),
        ("rows.json", "gb18030"),
        ("rows.jsonl", "utf-16"),
        ("rows.jsonl", "utf-32-be"),
    ):
        path = file(name, lines.encode(encoding))
        assert _prompts(path, encoding=encoding) == [CHINESE, "plain", CHINESE]
    rows = _rows(file("rows.jsonl", lines.encode("gb18030")))
    assert [row.cause is None for row in rows] == [False, True, False]
    assert "--encoding gb18030" in rows[0].fix


def test_encodings_that_do_not_do(file):
    path = file("rows.jsonl", b'{"prompt": "a"}\n{"prompt": "\xff\xff"}')
    for name in ("klingon", "base64", "x" * 100_000):
        with pytest.raises(InputError, match="--encoding: .* is unknown") as caught:
            _rows(path, encoding=name)
        assert len(str(caught.value)) < 300
    first, second = _rows(path, encoding="ascii")
    assert first.cause is None
    assert "is not UTF-8" in second.cause


def test_delimiters(file):
    for name, mark, said in (
        ("rows.csv", ";", ";"),
        ("rows.csv", "\t", "tab"),
        ("rows.csv", "|", "|"),
        ("rows.tsv", "\t", None),
    ):
        path = file(name, f'id{mark}prompt\n1{mark}"a{mark}b"\n')
        assert _prompts(path, delimiter=said) == [f"a{mark}b"]
        if said is not None:
            with pytest.raises(InputError, match="pass --delimiter"):
                _rows(path)
    for mark in ("", ";;", '"', "\n"):
        with pytest.raises(InputError, match="is not one character"):
            _rows(path, delimiter=mark)
    with pytest.raises(InputError, match="is for CSV"):
        _rows(file("rows.jsonl", '{"prompt": "a"}'), delimiter=";")


def test_pipes_take_rows_and_give_verdicts(run, harmful, harmless):
    text = "".join(json.dumps({"prompt": prompt, "id": prompt[:3]}) + "\n" for prompt in (harmless, harmful))
    result = run("check", "--file", "-", "--output", "-", stdin=text)
    assert result.exit_code == 1
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(line["row"], line["id"], line["verdict"]["action"]) for line in lines] == [
        (1, "How", "allow"),
        (2, "how", "block"),
    ]
    assert "verdicts written to standard output" in result.stderr


@pytest.mark.parametrize(
    ("text", "more"),
    [
        ('[{"prompt": "bread"}]', []),
        ('{"data": [\n  {"prompt": "bread"}\n]}', []),
        ('{"prompt": "bread"}', []),
        ("prompt\nbread\n", ["--format", "csv"]),
        ("id;prompt\n1;bread\n", ["--format", "csv", "--delimiter", ";"]),
        ("prompt\nbread\n".encode("utf-16"), ["--format", "csv", "--encoding", "utf-16"]),
        ("bread\n", ["--format", "lines"]),
    ],
)
def test_what_a_pipe_holds_is_told_by_what_it_holds_or_by_its_format(run, text, more):
    result = run("check", "--file", "-", "--output", "-", "--with-text", *more, stdin=text)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["prompt"] == "bread"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("bread", "pass --lines for a prompt on each line"),
        ("", "standard input: is empty; write rows into it"),
        ('{"prompt": \n{"prompt": ', "standard input"),
    ],
)
def test_pipes_that_do_not_do_name_standard_input(run, text, said):
    result = run("check", "--file", "-", "--output", "-", stdin=text)
    assert result.exit_code == 2
    assert said in result.stderr
    assert "guardreasoner-" not in result.stderr
    assert result.stdout == ""


def test_a_table_goes_down_a_pipe_whole(run, tmp_path, write_rows, harmless):
    rows = write_rows(tmp_path / "rows.jsonl", [{"prompt": harmless, "id": "=1+1"}])
    result = run("check", "--file", rows, "--output", "-", "--output-format", "csv", "-q")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[1].startswith("1,'=1+1,allow,true,false,")
    assert list(tmp_path.iterdir()) == [rows]


def test_rows_from_a_pipe_can_be_gone_on_with(run, tmp_path, read_rows, harmless):
    text = "".join(json.dumps({"prompt": f"{harmless} {n}"}) + "\n" for n in range(3))
    output = tmp_path / "v.jsonl"
    arguments = ("check", "--file", "-", "--output", output)
    assert run(*arguments, stdin=text).exit_code == 0
    output.write_bytes(output.read_bytes().splitlines(keepends=True)[0])
    assert "going on at line 2" in run(*arguments, stdin=text).stderr
    assert [row["row"] for row in read_rows(output)] == [1, 2, 3]


def test_lines_of_standard_input_are_prompts(run, harmful, harmless):
    result = run("check", "--lines", stdin=f"{harmless}\n\n{harmful}\r\n")
    assert result.exit_code == 1
    assert result.stderr == ""
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(line["row"], line["verdict"]["action"]) for line in lines] == [(1, "allow"), (3, "block")]


def test_a_reader_that_goes_away_ends_the_run(start, tmp_path, write_rows, harmless):
    rows = write_rows(tmp_path / "rows.jsonl", [{"prompt": f"{harmless} {n}"} for n in range(3_000)])
    process = start("check", "--file", rows, "--output", "-", "--quiet", "--reasoning", "off")
    assert json.loads(process.stdout.readline())["row"] == 1
    with process:
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()
    assert process.returncode == 141


FORMULAS = [
    "=HYPERLINK(1)",
    "@SUM(1)",
    "+1+1",
    "-1+1",
    "\tx",
    "\rx",
    "\uff1d1",
    "'=1",
    "''=1",
    "'",
    "'a",
    "a=1",
    "",
    "=",
    " =1",
]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_cell_is_no_formula_and_is_restored(text):
    assert unescape_formula(escape_formula(text)) == text
    assert escape_formula(text)[:1] not in set("=+-@\t\r\uff1d")


def test_ids_and_texts_in_csv_are_no_formulas_and_come_back(run, tmp_path, write_rows):
    given = [{"id": text, "prompt": f"{text}bread"} for text in FORMULAS if text]
    rows = write_rows(tmp_path / "rows.jsonl", given)
    output = tmp_path / "v.csv"
    assert run("check", "--file", rows, "--output", output, "--with-text", "--quiet").exit_code in (0, 1)
    with output.open(newline="", encoding="utf-8") as table:
        cells = [cell for row in csv.reader(table) for cell in row]
    assert not [cell for cell in cells if cell[:1] in set("=+-@\t\r\uff1d")]
    again = _rows(output)
    assert [row.identity for row in again] == [row["id"] for row in given]
    assert [row.exchange.prompt for row in again] == [row["prompt"] for row in given]


def test_the_users_own_csv_is_read_as_it_stands(file):
    (row,) = _rows(file("rows.csv", "id,prompt\n'=1,'=2\n"))
    assert (row.identity, row.exchange.prompt) == ("'=1", "'=2")


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_the_text_is_in_the_output_on_request_alone(run, tmp_path, write_rows, read_rows, ending):
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    given = [{"prompt": "bread"}, {"prompt": "bread", "response": "Flour.", "history": turns}, {"prompt": 7}]
    rows = write_rows(tmp_path / "rows.jsonl", given)
    plain, output = tmp_path / f"plain.{ending}", tmp_path / f"v.{ending}"
    assert run("check", "--file", rows, "--output", plain, "-q").exit_code == 3
    assert run("check", "--file", rows, "--output", output, "-q", "--with-text").exit_code == 3
    assert run("check", "--file", rows, "--output", output, "-q").exit_code == 2
    if ending == "jsonl":
        assert all("prompt" not in row for row in read_rows(plain))
        found = [{name: row[name] for name in ("prompt", "response", "history") if name in row} for row in read_rows(output)]
        assert found == [*given[:2], {}]
        return
    assert b"bread" not in plain.read_bytes()
    again = _rows(output)
    assert [row.exchange and row.exchange.prompt for row in again] == ["bread", "bread", None]
    assert again[1].exchange.response == "Flour."
    if ending == "csv":
        assert [turn.content for turn in again[1].exchange.history] == ["a", "b"]


def test_a_number_without_an_end_as_a_name_is_written(tmp_path, run, read_rows):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    rows = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"prompt": ["bread"] * 3, "id": [float("nan"), float("inf"), 1.5]}), rows)
    assert run("check", "--file", rows, "--output", tmp_path / "v.jsonl").exit_code == 0
    assert [row.get("id") for row in read_rows(tmp_path / "v.jsonl")] == [None, "inf", 1.5]
