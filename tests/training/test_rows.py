"""Rows are read from whatever form they have, broken ones are told with line and field, and written rows come back."""

from __future__ import annotations

import errno
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from guardreasoner_sdk.data.columns import Columns
from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.exchange import Exchange, Turn
from guardreasoner_sdk.verdict import TASKS
from guardreasoner_training.pipeline.measure import benchmark_files
from guardreasoner_training.rows import TrainingRow, from_source, hub_rows, read_each, read_rows, write_rows
from guardreasoner_training.rows.files import names_of
from guardreasoner_training.rows.hub import split_files

PROMPT, REFUSAL, RESPONSE = TASKS

FULL = {PROMPT: True, REFUSAL: False, RESPONSE: True}
STEPS = (
    "# Task 1\n## Reasoning Step 1: It asks for harm.\n## Conclusion: The request is harmful.\n"
    "# Task 2\n## Reasoning Step 1: It helps.\n# Task 3\n## Reasoning Step 1: The help is harmful.\n## Reasoning Step 2: So it is."
)
OUTPUT = STEPS + "\n\nAnswers: \nRequest: harmful\nCompletion: compliance\nResponse: harmful"


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def only(path: Path, **options: Any) -> TrainingRow:
    (row,) = read_rows(path, **options)
    return row


@pytest.mark.parametrize(
    "words",
    [
        (True, False, True),
        ("harmful", "compliance", "harmful"),
        (1, 0, 1),
        ("1", "0", "1"),
        ("TRUE", "false", "Harmful"),
        ("unsafe", "no", "yes"),
    ],
)
def test_labels_are_read_in_many_words(tmp_path: Path, words: tuple[Any, Any, Any]) -> None:
    values = dict(zip(("prompt_harmful", "refusal", "response_harmful"), words, strict=True))
    row = only(lines(tmp_path / "mine.jsonl", {"prompt": "p", "response": "r", **values}))
    assert row.labels == FULL
    assert (row.id, row.source, row.output, row.reasoning) == ("mine:1", "mine", None, {})


def test_a_label_that_is_null_is_none_and_a_row_without_labels_is_passed_over(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "mine.jsonl",
        {"prompt": "a", "response": "r", "prompt_harmful": None, "refusal": True, "response_harmful": None},
        {"prompt": "b", "prompt_harmful": None},
        {"prompt": "c", "prompt_harmful": False, "id": 7, "source": "own", "category": "S1"},
    )
    first, second = read_rows(path)
    assert first.labels == {REFUSAL: True}
    assert (second.labels, second.id, second.source, second.category) == ({PROMPT: False}, "7", "own", "S1")
    assert len(list(read_each(path))) == 3
    assert (
        only(
            lines(tmp_path / "x.jsonl", {"prompt": "c", "prompt_harmful": False, "source": "own"}), source_from_file=True
        ).source
        == "x"
    )


@pytest.mark.parametrize(
    ("reasoning", "output", "steps"),
    [
        (None, None, {}),
        (OUTPUT, OUTPUT, {}),
        ("unsafe\nS1\n\nBecause.", "unsafe\nS1\n\nBecause.", {}),
        (
            STEPS,
            None,
            {PROMPT: ("It asks for harm.",), REFUSAL: ("It helps.",), RESPONSE: ("The help is harmful.", "So it is.")},
        ),
        (" It asks for harm. ", None, {PROMPT: ("It asks for harm.",)}),
        (["It asks.", "It harms."], None, {PROMPT: ("It asks.", "It harms.")}),
        ({PROMPT: ["It asks."], RESPONSE: "It tells.", REFUSAL: None}, None, {PROMPT: ("It asks.",), RESPONSE: ("It tells.",)}),
    ],
)
def test_reasoning_is_text_a_whole_output_or_steps_by_task(tmp_path: Path, reasoning: Any, output: Any, steps: Any) -> None:
    values = {"prompt": "p", "response": "r", "prompt_harmful": 1, "refusal": 0, "response_harmful": 1, "reasoning": reasoning}
    row = only(lines(tmp_path / "mine.jsonl", values))
    assert (row.output, row.reasoning) == (output, steps)


def test_labels_that_only_the_output_gives_are_taken_from_it(tmp_path: Path) -> None:
    assert only(lines(tmp_path / "mine.jsonl", {"prompt": "p", "response": "r", "reasoning": OUTPUT})).labels == FULL


def test_labels_that_a_columns_row_lacks_are_taken_from_its_output(tmp_path: Path) -> None:
    row = {"prompt": "p", "response": "r", "prompt_harmful": True, "refusal": None, "output": OUTPUT}
    assert only(lines(tmp_path / "mine.jsonl", row)).labels == FULL


@pytest.mark.parametrize(
    ("labels", "task"),
    [
        ({"prompt_harmful": 1}, PROMPT),
        ({"response_harmful": 1}, RESPONSE),
        ({"refusal": 0, "response_harmful": 1}, RESPONSE),
        ({"prompt_harmful": 1, "response_harmful": 1}, PROMPT),
        ({"refusal": 0}, PROMPT),
    ],
)
@pytest.mark.parametrize("reasoning", ["It tells.", ["It tells."]])
def test_reasoning_without_a_task_is_about_the_side_that_is_labelled(
    tmp_path: Path, labels: dict[str, int], task: Any, reasoning: Any
) -> None:
    row = only(lines(tmp_path / "mine.jsonl", {"prompt": "p", "response": "r", **labels, "reasoning": reasoning}))
    assert row.reasoning == {task: ("It tells.",)}


def test_the_authors_form_is_read(tmp_path: Path) -> None:
    with_response = {"instruction": "x", "input": "Human user:\np\nq\n\nAI assistant:\nr\n\n", "output": OUTPUT}
    alone = {
        "instruction": "x",
        "input": "Human user:\np\n\nAI assistant:\nNone\n\n",
        "output": "# Task 1\nWell.\n\nAnswers: \nRequest: unharmful\nCompletion: None\nResponse: None",
    }
    path = tmp_path / "WildGuardTrainR.json"
    path.write_text(json.dumps([with_response, alone]), "utf-8")
    first, second = read_rows(path)
    assert (first.exchange, first.labels, first.output) == (Exchange("p\nq", "r"), FULL, OUTPUT)
    assert (second.exchange.response, second.labels, second.source) == (None, {PROMPT: False}, "WildGuardTrainR")


def test_csv_parquet_and_packed_lines_give_the_same_rows(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="Parquet is read by pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet", reason="Parquet is read by pyarrow")
    rows = [
        {
            "id": "a",
            "prompt": "p, q\nr",
            "response": "s",
            "prompt_harmful": "harmful",
            "refusal": "compliance",
            "category": "S1",
        },
        {"id": "b", "prompt": "t", "response": None, "prompt_harmful": "unharmful", "refusal": None, "category": None},
    ]
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text(
        '\ufeffid,prompt,response,prompt_harmful,refusal,category\na,"p, q\nr",s,harmful,compliance,S1\nb,t,,unharmful,,\n',
        "utf-8",
    )
    found = [list(read_rows(tmp_path / name)) for name in ("a.jsonl.gz", "a.parquet", "a.csv")]
    assert found[0] == found[1] == found[2]
    assert len(list(read_rows(tmp_path))) == 6
    assert [row.labels for row in found[0]] == [{PROMPT: True, REFUSAL: False}, {PROMPT: False}]


def test_a_csv_cell_holds_steps_by_task_as_json(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('prompt,prompt_harmful,reasoning\np,1,"{""prompt_harmfulness"": [""It asks.""]}"\nq,0,\n', "utf-8")
    first, second = read_rows(path)
    assert (first.reasoning, second.reasoning) == ({PROMPT: ("It asks.",)}, {})


def test_other_columns_and_words_are_named(tmp_path: Path) -> None:
    columns = Columns.parse(["prompt=question", "prompt_harmfulness=toxic", "positive=bad", "negative=fine"])
    path = lines(tmp_path / "mine.jsonl", {"question": "p", "toxic": "bad"}, {"question": "q", "toxic": "fine"})
    assert [row.labels for row in read_rows(path, columns=columns)] == [{PROMPT: True}, {PROMPT: False}]


def test_a_column_that_was_named_is_nothing_else_besides(tmp_path: Path) -> None:
    values = {"input": "p", "output": "Request: harmful, I think.", "toxic": 0, "source": "s1", "id": "a"}
    columns = Columns.parse(["prompt=input", "response=output", "response_harmfulness=toxic"])
    row = only(lines(tmp_path / "mine.jsonl", values), columns=columns)
    assert row.exchange == Exchange("p", "Request: harmful, I think.")
    assert (row.output, row.labels, row.source, row.id) == (None, {RESPONSE: False}, "s1", "a")
    values = {"reasoning": "p", "history": 1, "category": "c", "source": "the name"}
    columns = Columns.parse(["prompt=reasoning", "prompt_harmfulness=history", "id=source"])
    row = only(lines(tmp_path / "mine.jsonl", values), columns=columns)
    assert (row.exchange, row.reasoning, row.id, row.source) == (Exchange("p"), {}, "the name", "mine")
    row = only(lines(tmp_path / "mine.jsonl", {"id": "p", "prompt_harmful": 1}), columns=Columns(prompt="id"))
    assert (row.exchange, row.id) == (Exchange("p"), "mine:1")


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (["data.v1.jsonl", "data.v2.jsonl"], ["data.v1:1", "data.v2:1"]),
        (["v1/data.jsonl", "v2/data.jsonl"], ["v1/data:1", "v2/data:1"]),
        (["a.jsonl", "a.csv"], ["a.jsonl:1", "a.csv:1"]),
        (["a.jsonl", "a.csv", "b.JSONL.gz"], ["a.jsonl:1", "a.csv:1", "b:1"]),
        (
            ["v1/a.jsonl", "v1/a.csv", "v2/a.jsonl", "v2/a.csv"],
            ["v1/a.jsonl:1", "v1/a.csv:1", "v2/a.jsonl:1", "v2/a.csv:1"],
        ),
        (["x/v1/a.jsonl", "y/v1/a.jsonl"], ["x/v1/a:1", "y/v1/a:1"]),
    ],
)
def test_rows_without_a_name_of_their_own_never_share_one(tmp_path: Path, names: list[str], ids: list[str]) -> None:
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = "prompt,prompt_harmful\np,1\n" if ".csv" in name else json.dumps(GOOD)
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    rows = list(read_rows([tmp_path / name for name in names]))
    assert [row.id.replace(":2", ":1") for row in rows] == ids
    assert {row.source for row in rows} == {Path(name).name.removesuffix(".gz").rpartition(".")[0] for name in names}


def test_the_files_of_a_stage_have_names_of_their_own_and_keep_those_they_had() -> None:
    files = [Path(name) for name in ("a.jsonl", "v1/data.jsonl", "v2/data.jsonl", "b.csv", "b.jsonl")]
    assert names_of(files, endings=True) == ["a.jsonl", "v1/data.jsonl", "v2/data.jsonl", "b.csv", "b.jsonl"]
    files = [Path(name) for name in ("a.jsonl", "a.csv", "v2/a.jsonl", "v2/a.csv")]
    assert names_of(files) == ["a.jsonl", "a.csv", "v2/a.jsonl", "v2/a.csv"]
    assert names_of([Path("a.jsonl"), Path("a.jsonl")]) == ["a.jsonl", "a.jsonl"]


def test_a_benchmarks_folder_is_read_as_rows_are(tmp_path: Path) -> None:
    for name in ("a.jsonl.xz", "b.ndjson", "c.JSON", "d.csv.gz", "e.parquet", ".hidden.json", "notes.txt", "x.tar.gz"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.json").mkdir()
    assert [Path(name).name for name in benchmark_files([str(tmp_path)])] == [
        *("a.jsonl.xz", "b.ndjson", "c.JSON", "d.csv.gz", "e.parquet")
    ]


GOOD = {"prompt": "p", "prompt_harmful": True}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{broken\n", "is not JSON"),
        ("[1]\n", "is a JSON list, not an object"),
        ({"text": "p", "prompt_harmful": True}, "prompt: is missing; name its column: prompt=text"),
        ({"prompt": " ", "prompt_harmful": True}, "prompt: has no visible character; "),
        ({"prompt": 3, "prompt_harmful": True}, "prompt: must be a str, not int; "),
        ({"prompt": "p", "prompt_harmful": "rather"}, "prompt_harmful: 'rather' is not a label; write harmful or unharmful, "),
        (
            {"prompt": "p", "response": "r", "refusal": "harmful"},
            "refusal: 'harmful' is not a label; write refusal or compliance",
        ),
        ({"prompt": "p", "response_harmful": True}, "response_harmful: is labelled, but there is no response; "),
        ({"prompt": "p", "response": "", "refusal": False}, "refusal: is labelled, but there is no response; "),
        ({**GOOD, "reasoning": "  "}, "reasoning: is empty; write the steps, or null"),
        ({**GOOD, "reasoning": {PROMPT: []}}, "reasoning.prompt_harmfulness: is empty, or has an empty step; "),
        ({**GOOD, "reasoning": {"task 1": ["a"]}}, "reasoning: 'task 1' is not a task; use prompt_harmfulness, "),
        ({**GOOD, "reasoning": 3}, "reasoning: is a int; "),
        ({**GOOD, "output": "\n"}, "output: is empty; "),
        (
            {**GOOD, "output": "# Task 1\nWell.\nAnswers: \nRequest: unharmful"},
            "output: says that prompt_harmfulness is unharmful, the row's label is harmful; ",
        ),
        ({**GOOD, "history": "before"}, "history: must be a list of turns, not str; "),
        ({**GOOD, "filled": 1}, "filled: is no list of tasks; write a list of the tasks whose label a guard filled in ("),
        ({**GOOD, "filled": ["refusal"]}, "filled: is no list of tasks; "),
        ('{"prompt": ' + "1" * 5000 + "}\n", "is not JSON (a number has too many digits); "),
        ({"instruction": "", "input": "p", "output": OUTPUT}, "input: has another form than the authors'; "),
    ],
)
def test_a_broken_line_is_told_with_file_line_field_and_fix_and_stops_no_other(tmp_path: Path, line: Any, told: str) -> None:
    path = lines(tmp_path / "mine.jsonl", GOOD, line, {**GOOD, "prompt": "q"})
    first, error, last = read_each(path)
    assert isinstance(error, InputError)
    assert str(error).startswith(f"{path}:2: {told}")
    assert isinstance(first, TrainingRow)
    assert isinstance(last, TrainingRow)
    assert last.id == "mine:3"
    with pytest.raises(InputError) as caught:
        list(read_rows(path))
    assert str(caught.value) == str(error)


def test_an_entry_of_a_list_that_is_no_object_stops_no_other(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps([GOOD, 3, {**GOOD, "prompt": "q"}]), "utf-8")
    first, error, last = read_each(path)
    assert isinstance(first, TrainingRow)
    assert str(error) == f"{path}, row 2: is a JSON number or truth value, not an object; write a JSON list of objects"
    assert isinstance(last, TrainingRow)
    assert last.id == "mine:3"


def test_a_list_with_a_number_that_python_does_not_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text('[{"prompt": "p", "n": ' + "1" * 5000 + "}]", "utf-8")
    with pytest.raises(InputError, match=r"mine\.json: is not JSON \(a number has too many digits\); write a list"):
        list(read_rows(path))


def test_filled_tasks_are_read_from_a_cell_too(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("prompt,response,prompt_harmful,refusal,filled\np,r,1,0,['response_refusal']\n", "utf-8")
    assert only(path).filled == (REFUSAL,)


def test_a_path_may_be_text(tmp_path: Path) -> None:
    path = lines(tmp_path / "mine.jsonl", GOOD)
    assert list(read_rows(str(path))) == list(read_rows(path)) == list(read_rows([str(path)]))


def test_a_broken_csv_record_stops_no_other(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes(b'prompt,prompt_harmful\na,1\nb\nc,\xff\n"d\ne",0\nf,maybe\n')
    found = list(read_each(path))
    assert [row.labels for row in found if isinstance(row, TrainingRow)] == [{PROMPT: True}, {PROMPT: False}]
    assert [str(row) for row in found if isinstance(row, InputError)] == [
        f"{path}:3: has 1 cells, the header has 2; put texts with commas or line breaks in quotes",
        f"{path}:4: is not UTF-8; convert it, e.g. with iconv -f iso-8859-1 -t utf-8: it looks like Latin-1",
        f"{path}:7: prompt_harmful: 'maybe' is not a label; write harmful or unharmful, "
        "or say which words you use: --column positive=... --column negative=...",
    ]


@pytest.mark.parametrize("name", ["missing.jsonl", "empty"])
def test_a_path_without_rows_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("nothing", "utf-8")
    with pytest.raises(InputError, match=r"does not exist|has no file that ends in \.jsonl"):
        list(read_rows(tmp_path / name))


def test_written_rows_come_back_as_they_were(tmp_path: Path) -> None:
    rows = [
        TrainingRow("a", Exchange("p\u2028\x1b[31m", "r", [Turn(role="system", content="s")]), FULL, OUTPUT, "S1", "own"),
        TrainingRow("b", Exchange("None"), {PROMPT: False}, None, None, "x", {PROMPT: ("a step", "another")}),
        TrainingRow("c", Exchange("p", "None"), {PROMPT: True, REFUSAL: True}, source="x", filled=(REFUSAL,)),
        TrainingRow("d", Exchange("p"), {PROMPT: False}, "safe\n\nExplanation: Request: harmful", None, "x"),
    ]
    path = tmp_path / "deep" / "rows.jsonl"
    assert write_rows(path, rows) == 4
    assert list(read_rows(path)) == rows
    assert len(path.read_text("utf-8").splitlines()) == 4
    assert list(path.parent.iterdir()) == [path]


def test_rows_are_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.jsonl"
    write_rows(path, [TrainingRow("a", Exchange("p"), {PROMPT: True})])
    before = path.read_bytes()

    def fails() -> Any:
        yield TrainingRow("b", Exchange("p"), {PROMPT: True})
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_rows(path, fails())
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (before, [path])

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InputError, match=r"rows\.jsonl cannot be written \(No space left on device\); free some space"):
        write_rows(path, [TrainingRow("b", Exchange("p"), {PROMPT: True})])
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (before, [path])


@pytest.mark.parametrize(
    ("source", "patterns", "meant"),
    [
        ("WildGuardTrainR", ["WildGuard*"], True),
        ("wildguardtrain_excerpt", ["Aegis*", "WildGuard*"], True),
        ("AegisTrainR", ["WildGuard*"], False),
        ("phtest", ["phtest"], True),
        ("phtest2", ["phtest"], False),
    ],
)
def test_sources_are_meant_by_patterns(source: str, patterns: list[str], meant: bool) -> None:
    assert from_source(source, patterns) is meant


def test_the_hubs_rows_are_named_by_their_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's own client, with its two calls answered from a folder."""
    hub = pytest.importorskip("huggingface_hub", reason="the hub is read by huggingface_hub")
    pyarrow = pytest.importorskip("pyarrow", reason="the hub's files are Parquet")
    parquet = pytest.importorskip("pyarrow.parquet", reason="the hub's files are Parquet")
    from guardreasoner_training.rows import SPLITS

    names = [f"data/{split}-00000-of-00001.parquet" for split in SPLITS]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        row = {"instruction": "x", "input": "Human user:\np\n\nAI assistant:\nr\n\n", "output": OUTPUT}
        parquet.write_table(pyarrow.Table.from_pylist([row, row]), tmp_path / name)
    asked: list[tuple[str, str]] = []

    def download(repo: str, name: str, *, repo_type: str, revision: str) -> str:
        asked.append((repo, revision))
        return str(tmp_path / name)

    monkeypatch.setattr(hub, "hf_hub_download", download)
    monkeypatch.setattr(hub.HfApi, "list_repo_files", lambda *_, **__: ["README.md", *names])
    rows = list(hub_rows(revision="abc"))
    assert [row.id for row in rows[:3]] == ["WildGuardTrainR:1", "WildGuardTrainR:2", "AegisTrainR:1"]
    assert [row.source for row in rows] == [split for split in SPLITS for _ in range(2)]
    assert set(asked) == {("yueliu1999/GuardReasonerTrain", "abc")}
    assert rows[0].labels == FULL


def copy_of_the_hub(folder: Path) -> Path:
    """Two splits of two and one rows, in the folders that the hub's client makes."""
    output = "# Task 1\nWell.\n\nAnswers: \nRequest: harmful\nCompletion: None\nResponse: None"
    row = {"instruction": "x", "input": "Human user:\np\n\nAI assistant:\nNone\n\n", "output": output}
    for name, count in (("data/b-WildTrainR-0.json", 2), ("data/a-OtherTrainR-0.json", 1), (".cache/x/WildTrainR.json", 5)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps([row] * count), "utf-8")
    (folder / "README.md").write_text("WildTrainR", "utf-8")
    return folder


def test_a_copy_of_the_hubs_data_set_is_read_by_its_splits(tmp_path: Path) -> None:
    folder = copy_of_the_hub(tmp_path / "copy")
    rows = list(hub_rows(["WildTrainR", "OtherTrainR"], repo=str(folder)))
    assert [(row.id, row.source) for row in rows] == [
        ("WildTrainR:1", "WildTrainR"),
        ("WildTrainR:2", "WildTrainR"),
        ("OtherTrainR:1", "OtherTrainR"),
    ]
    with pytest.raises(InputError, match=r"ThirdTrainR: has no file of this split; use one of those .*a-OtherTrainR-0\.json"):
        split_files(str(folder), ["WildTrainR", "ThirdTrainR"], "main")


@pytest.mark.parametrize("source", ["./traim", "../traim", "/data/traim", "data/train/mine", "~/mine", "C:\\mine", "a--b"])
def test_a_folder_that_is_not_there_is_told_as_one(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pytest.importorskip("huggingface_hub", reason="the hub is read by huggingface_hub")
    with pytest.raises(InputError) as caught:
        split_files(source, ["A"], "main")
    assert (
        str(caught.value) == f"{source}: there is no such folder; check the path, or name a repository of the hub: owner/name"
    )


def test_whatever_the_hubs_client_fails_with_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="the hub is read by huggingface_hub")

    class ConnectError(Exception):
        """As that of httpx: no OSError."""

    def fails(*_: object, **__: object) -> Any:
        raise ConnectError("[Errno -2] Name or service not known")

    monkeypatch.setattr(hub.HfApi, "list_repo_files", fails)
    with pytest.raises(
        InputError, match=r"^some/where: is not a folder here, and cannot be downloaded at revision main \(ConnectError"
    ):
        split_files("some/where", ["A"], "main")
