"""``guardreasoner check --file``: what is written, what is said, and the exit code."""

from __future__ import annotations

import csv
import json
import os
import sys

import pytest

from guardreasoner_sdk import Verdict
from guardreasoner_sdk.data.journal import Journal


@pytest.fixture
def rows(tmp_path, write_rows, harmful, harmless):
    """A file with a broken line 7."""
    good = [{"prompt": harmful if n % 3 == 0 else harmless, "id": f"r{n}", "response": [None, "No."][n % 2]} for n in range(80)]
    return write_rows(tmp_path / "rows.jsonl", [*good[:6], b'{"prompt": \xff', *good[6:]])


def test_a_broken_line_7_becomes_one_undetermined_verdict(run, rows, tmp_path, read_rows):
    output = tmp_path / "verdicts.jsonl"
    result = run("check", "--file", rows, "--output", output)
    assert result.exit_code == 1
    assert result.stdout == ""
    written = read_rows(output)
    assert [row["row"] for row in written] == list(range(1, 82))
    assert [row.get("id") for row in written[4:9]] == ["r4", "r5", None, "r6", "r7"]
    seventh = Verdict.model_validate(written[6]["verdict"])
    assert seventh.undetermined
    assert not seventh.allowed
    assert seventh.prompt_harmfulness.cause.startswith("line 7: is not UTF-8 at byte 12; convert it")
    assert sum(row["verdict"]["undetermined"] for row in written) == 1
    assert "81 rows: 53 allowed, 27 blocked, 1 undetermined; verdicts written to " in result.stderr
    assert "1 of them could not be read:\nguardreasoner:   line 7: is not UTF-8" in result.stderr


def test_verdicts_are_those_of_the_guard(run, tmp_path, write_rows, read_rows, harmful):
    rows = write_rows(tmp_path / "rows.jsonl", [{"prompt": harmful, "response": "No."}])
    run("check", "--file", rows, "--output", tmp_path / "v.jsonl", "--quiet")
    ((row,), alone) = read_rows(tmp_path / "v.jsonl"), json.loads(run("check", harmful, "--response", "No.", "--json").stdout)
    assert {**row["verdict"], "latency_ms": 0} == {**alone, "latency_ms": 0}


@pytest.mark.parametrize(
    ("prompts", "code"),
    [(["harmless"], 0), (["harmless", "harmful"], 1), (["harmless", " "], 3), ([" ", "harmful"], 1)],
)
@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_exit_codes_also_of_a_run_that_is_complete(run, tmp_path, write_rows, request, prompts, code, ending):
    texts = [request.getfixturevalue(prompt) if prompt.strip() else prompt for prompt in prompts]
    rows = write_rows(tmp_path / "rows.jsonl", [{"prompt": text} for text in texts])
    output = tmp_path / f"verdicts.{ending}"
    first = run("check", "--file", rows, "--output", output)
    before = output.read_bytes()
    again = run("check", "--file", rows, "--output", output)
    assert (first.exit_code, again.exit_code) == (code, code)
    assert f"already complete: {output}" in again.stderr
    assert first.stderr.splitlines()[-1] == again.stderr.splitlines()[-1]
    assert output.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([rows.name, output.name, f"{output.name}.state.json"])


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_tables(run, rows, tmp_path, read_rows, ending):
    output = tmp_path / f"verdicts.{ending}"
    run("check", "--file", rows, "--output", tmp_path / "v.jsonl", "-q")
    result = run("check", "--file", rows, "--output", output, "-q")
    assert (result.exit_code, result.stderr) == (1, "")
    if ending == "csv":
        with output.open(newline="", encoding="utf-8") as file:
            table = list(csv.DictReader(file))
        table = [{name: value or None for name, value in row.items()} for row in table]
    else:
        table = pytest.importorskip("pyarrow.parquet").read_table(output).to_pylist()
    assert [str(row["row"]) for row in table] == [str(number) for number in range(1, 82)]
    for flat, row in zip(table, read_rows(tmp_path / "v.jsonl"), strict=True):
        verdict = row["verdict"]
        assert flat["id"] == row.get("id")
        assert flat["action"] == verdict["action"]
        assert str(flat["allowed"]).lower() == str(verdict["allowed"]).lower()
        assert str(flat["undetermined"]).lower() == str(verdict["undetermined"]).lower()
        assert (flat["reasons"] or "") == "; ".join(verdict["reasons"])
        for task in ("prompt_harmfulness", "response_refusal", "response_harmfulness"):
            finding = verdict[task] or {"label": None, "score": None}
            assert flat[task] == finding["label"]
            score = flat[f"{task}_score"]
            assert (None if score is None else float(score)) == finding["score"]


def test_ids_that_utf8_cannot_hold(run, tmp_path, write_rows, read_rows, harmless):
    rows = write_rows(tmp_path / "rows.jsonl", ['{"id": "\\ud800", "prompt": "How do I bake bread?"}'])
    for ending in ("jsonl", "csv", "parquet"):
        assert run("check", "--file", rows, "--output", tmp_path / f"v.{ending}").exit_code == 0
    assert read_rows(tmp_path / "v.jsonl")[0]["id"] == "\ud800"
    assert "\\ud800" in (tmp_path / "v.csv").read_text()


def test_csv_in_by_other_names(run, tmp_path, harmful):
    rows = tmp_path / "rows.txt"
    rows.write_text(f'id,question,answer\n1,"{harmful}",\n2,How do I bake bread?,Flour.\n')
    arguments = ("--format", "csv", "--prompt-column", "question", "--response-column", "answer")
    result = run("check", "--file", rows, "--output", tmp_path / "v", "--output-format", "csv", *arguments)
    assert result.exit_code == 1
    assert [line.split(",")[:3] for line in (tmp_path / "v").read_text().splitlines()[1:]] == [
        ["1", "1", "block"],
        ["2", "2", "allow"],
    ]


def test_strict_judges_nothing(run, rows, tmp_path):
    result = run("check", "--file", rows, "--output", tmp_path / "v.jsonl", "--strict")
    assert result.exit_code == 2
    assert result.stderr.startswith("guardreasoner: line 7: is not UTF-8")
    assert "nothing was judged (--strict)" in result.stderr
    assert list(tmp_path.iterdir()) == [rows]


def test_strict_with_nothing_broken(run, tmp_path, write_rows, harmless):
    rows = write_rows(tmp_path / "rows.jsonl", [{"prompt": harmless}])
    assert run("check", "--file", rows, "--output", tmp_path / "v.jsonl", "--strict").exit_code == 0


def test_only_the_first_broken_lines_are_listed(run, tmp_path, write_rows):
    rows = write_rows(tmp_path / "rows.jsonl", [{"prompt": "bread"}, *["x"] * 300])
    result = run("check", "--file", rows, "--output", tmp_path / "v.jsonl")
    assert result.exit_code == 3
    assert "300 of them could not be read:" in result.stderr
    assert result.stderr.count("is not JSON") == 1
    assert "and 299 more" in result.stderr
    again = run("check", "--file", rows, "--output", tmp_path / "v.jsonl")
    assert "and 299 more" in again.stderr


def test_what_cannot_be_read_is_never_allowed_by_a_policy_on_responses(run, tmp_path, write_rows, read_rows):
    rows = write_rows(tmp_path / "rows.jsonl", ["x", {"prompt": "a", "response": 7}, {"prompt": "a", "response": "b"}])
    assert run("check", "--file", rows, "--output", tmp_path / "v.jsonl", "--block", "harmful_response").exit_code == 3
    assert [row["verdict"]["action"] for row in read_rows(tmp_path / "v.jsonl")] == ["block", "block", "allow"]


def test_undetermined_may_pass_but_shows(run, tmp_path, write_rows, read_rows):
    rows = write_rows(tmp_path / "rows.jsonl", ["x", {"prompt": "How do I bake bread?"}])
    for policy, actions in (("allow", ["allow", "allow"]), ("raise", ["block", "allow"])):
        output = tmp_path / f"{policy}.jsonl"
        assert run("check", "--file", rows, "--output", output, "--on-undetermined", policy).exit_code == 3
        assert [row["verdict"]["action"] for row in read_rows(output)] == actions


@pytest.mark.parametrize(
    ("data", "said"),
    [("", "is empty"), ("\n\n \n", "has no rows")],
)
def test_no_rows(run, tmp_path, data, said):
    (tmp_path / "rows.jsonl").write_text(data)
    result = run("check", "--file", tmp_path / "rows.jsonl", "--output", tmp_path / "v.jsonl")
    assert result.exit_code == 2
    assert said in result.stderr
    assert not (tmp_path / "v.jsonl").exists()


@pytest.mark.parametrize(
    ("output", "more", "said"),
    [
        ("no/such/v.jsonl", [], "is not a folder; make it first: mkdir -p"),
        (".", [], "is a folder"),
        ("rows.jsonl", [], "would replace, the input"),
        ("link.jsonl", [], "would replace, the input"),
        ("hard.jsonl", [], "would replace, the input"),
        ("pipe.jsonl", [], "is not a plain file"),
        ("v.jsonl.gz", [], "leave .gz out"),
        ("v.jsonl", ["--output-format", "xml"], "--output-format: 'xml' is unknown"),
        ("v" * 300, [], "cannot be written (File name too long)"),
    ],
)
def test_outputs_that_do_not_do(run, rows, tmp_path, output, more, said):
    (tmp_path / "link.jsonl").symlink_to(rows)
    (tmp_path / "hard.jsonl").hardlink_to(rows)
    os.mkfifo(tmp_path / "pipe.jsonl")
    before = rows.read_bytes()
    result = run("check", "--file", rows, "--output", tmp_path / output, *more)
    assert result.exit_code == 2
    assert said in result.stderr
    assert rows.read_bytes() == before


def test_parquet_out_without_pyarrow(run, rows, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    result = run("check", "--file", rows, "--output", tmp_path / "v.parquet")
    assert result.exit_code == 2
    assert "pip install 'guardreasoner-sdk[parquet]'" in result.stderr
    assert list(tmp_path.iterdir()) == [rows]


def test_a_link_stays_a_link(run, rows, tmp_path):
    real = tmp_path / "real.csv"
    link = tmp_path / "link.csv"
    link.symlink_to(real)
    assert run("check", "--file", rows, "--output", link).exit_code == 1
    assert link.is_symlink()
    assert real.read_text().startswith("row,id,")


def test_two_runs_at_one_output(run, rows, tmp_path):
    output = tmp_path / "v.jsonl"
    with Journal(output):
        result = run("check", "--file", rows, "--output", output)
    assert result.exit_code == 2
    assert f"another process writes {output}" in result.stderr
    assert run("check", "--file", rows, "--output", output).exit_code == 1


def test_a_file_system_without_locks(run, rows, tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", unsupported)
    assert run("check", "--file", rows, "--output", tmp_path / "v.jsonl").exit_code == 1


def test_a_lock_won_from_a_process_that_removed_the_file(tmp_path, monkeypatch):
    import fcntl

    path = tmp_path / "v.part.jsonl"
    calls = []

    def removed_meanwhile(descriptor, kind):
        calls.append(descriptor)
        if len(calls) == 1:
            path.unlink()

    monkeypatch.setattr(fcntl, "flock", removed_meanwhile)
    with Journal(path) as journal:
        assert len(calls) == 2
        assert path.exists()
        assert journal.empty


def test_a_bar_on_a_terminal(run, rows, tmp_path, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    result = run("check", "--file", rows, "--output", tmp_path / "v.jsonl")
    assert "81/81" in result.stderr
    assert "(100 %)" not in result.stderr
