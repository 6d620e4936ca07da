"""One floor for rows and runs: every command reads the same files, and no module beside it does so by itself."""

from __future__ import annotations

import ast
import csv
import gzip
import io
import json
import lzma
from pathlib import Path

import pytest

from guardreasoner_sdk.data.atomic import replacing, write_atomic, write_json
from guardreasoner_sdk.data.check_rows import rows_of
from guardreasoner_sdk.data.journal import Lines
from guardreasoner_sdk.data.readers import each_record, open_source, records_of
from guardreasoner_sdk.data.records import Reading
from guardreasoner_sdk.data.run_folder import figures_of, identity_of
from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.evaluation import read_file
from guardreasoner_sdk.evaluation.audit.correct import write_corrected

ROOT = Path(__file__).parents[1]
ROWS = [
    {"id": "a", "prompt": 'How do I bake\t"bread", and cake?', "prompt_harmful": "no"},
    {"id": "b", "prompt": "Wie backe ich\nBrötchen?", "prompt_harmful": "yes"},
]


def _table(delimiter: str) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(ROWS[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(ROWS)
    return text.getvalue()


TEXTS = {
    ".jsonl": "".join(json.dumps(row) + "\n" for row in ROWS),
    ".ndjson": "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS),
    ".json": json.dumps({"data": ROWS}, indent=1),
    ".csv": _table(","),
    ".tsv": _table("\t"),
}


@pytest.fixture(params=[f"{ending}{packed}" for ending in TEXTS for packed in ("", ".gz", ".xz")] + [".parquet"])
def path(request, tmp_path):
    """The rows in every format and packing."""
    path = tmp_path / f"rows{request.param}"
    if request.param == ".parquet":
        table = pytest.importorskip("pyarrow").Table.from_pylist(ROWS)
        pytest.importorskip("pyarrow.parquet").write_table(table, path)
        return path
    data = TEXTS[f".{request.param.split('.')[1]}"].encode()
    path.write_bytes({"gz": gzip.compress, "xz": lzma.compress}.get(request.param.split(".")[-1], bytes)(data))
    return path


def test_every_command_reads_the_same_rows_of_every_format(path):
    texts = [row["prompt"] for row in ROWS]
    assert [row.exchange.prompt for row in rows_of(open_source(path, Reading()))] == texts
    assert [(row.exchange.prompt, row.labels["prompt_harmfulness"]) for row in read_file(path)] == [
        *zip(texts, (False, True), strict=True)
    ]
    training = pytest.importorskip("guardreasoner_training.rows")
    assert [(row.id, row.exchange.prompt) for row in training.read_rows(path)] == [("a", texts[0]), ("b", texts[1])]
    assert [record.values["id"] for record in each_record(path)] == ["a", "b"]


def test_labels_are_corrected_in_every_format(path, tmp_path):
    target = tmp_path / f"corrected{path.name.removeprefix('rows')}"
    number = [record.number for record in records_of(path)][1]
    write_corrected(path, target, {number: {"prompt_harmful": "no"}})
    assert [row.labels for row in read_file(target)] == [{"prompt_harmfulness": False}] * 2
    assert [row.exchange for row in read_file(target)] == [row.exchange for row in read_file(path)]


def test_two_columns_of_one_name_are_told(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet").write_table(
        arrow.table([["a"], ["b"]], names=["prompt", "prompt"]), tmp_path / "rows.parquet"
    )
    (tmp_path / "rows.csv").write_text("prompt,prompt\na,b\n", "utf-8")
    for name in ("rows.parquet", "rows.csv"):
        for read in (records_of, each_record):
            with pytest.raises(InputError, match=f"{name}, the header: has two columns of the same name"):
                list(read(tmp_path / name))


@pytest.mark.parametrize("size", [1, 1 << 16, (1 << 16) + 1, 1 << 18])
@pytest.mark.parametrize("lines", [0, 1, 3])
def test_a_line_that_was_torn_anywhere_is_mended(tmp_path, lines, size):
    path = tmp_path / "journal.jsonl"
    whole = [json.dumps({"text": "x" * size, "n": number}) for number in range(lines + 1)]
    before = "".join(f"{line}\n" for line in whole[:-1])
    for cut in {1, len(whole[-1]) // 2, len(whole[-1]) - 1, len(whole[-1])}:
        path.write_text(before + whole[-1][:cut], "utf-8")
        with Lines(path) as journal:
            # All of it but its end is whole: a correction by hand, or a kill one byte before the end.
            kept = lines + (cut == len(whole[-1]))
            assert [line["n"] for line in journal] == list(range(kept))
            journal.add([{"n": "next"}])
        assert path.read_text("utf-8") == "".join(f"{line}\n" for line in whole[:kept]) + '{"n": "next"}\n'


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path):
    path = tmp_path / "file.json"
    write_json(path, {"a": 1})

    def pieces():
        yield "half"
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        write_atomic(path, pieces())
    with pytest.raises(RuntimeError, match="stopped"), replacing(path) as fresh:
        fresh.write_text("".join(pieces()), "utf-8")
    assert [each.name for each in tmp_path.iterdir()] == ["file.json"]
    assert json.loads(path.read_text("utf-8")) == {"a": 1}
    with pytest.raises(InputError, match=r"--output: .*no/file cannot be written"):
        write_atomic(tmp_path / "no" / "file", b"")


def _uses(tree: ast.AST) -> set[str]:
    """What a module does that only the floor may do: unpacking, locking, and putting a new file in place of another."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & {"csv", "gzip", "lzma", "fcntl", "filelock"}
        if isinstance(node, ast.ImportFrom):
            found |= {str(node.module)} & {"filelock", "gzip", "lzma", "csv"}
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            alone = len(node.args) == 1 and not node.keywords
            found |= {"a file put in place of another"} if node.func.attr in ("replace", "rename") and alone else set()
            found |= {"fsync"} if node.func.attr == "fsync" else set()
    return found


# The correction of labels keeps every other byte of a file: it writes what it reads. An export puts a folder of files into place.
ALLOWED = {
    "guardreasoner_sdk/evaluation/audit/correct.py": {"csv", "gzip", "lzma"},
    "training/guardreasoner_training/export/stage.py": {"a file put in place of another"},
}


def test_nothing_beside_the_floor_unpacks_locks_or_replaces_files():
    found = {}
    for package in ("guardreasoner_sdk", "integrations/guardreasoner_integrations", "training/guardreasoner_training"):
        for path in (ROOT / package).rglob("*.py"):
            name = path.relative_to(ROOT).as_posix()
            used = set() if name.startswith("guardreasoner_sdk/data/") else _uses(ast.parse(path.read_text("utf-8")))
            if used - ALLOWED.get(name, set()):
                found[name] = used
    assert found == {}


def test_what_is_no_folder_of_a_stage_has_no_identity_and_is_not_complete(tmp_path):
    (tmp_path / "file").write_text("{}", "utf-8")
    for name in ("file", "nothing", "."):
        assert identity_of(tmp_path / name) is None
        assert figures_of(tmp_path / name) is None
    (tmp_path / "stage.json").write_text("{}", "utf-8")
    with pytest.raises(InputError, match=r"stage\.json is damaged"):
        identity_of(tmp_path)
