"""Runs that go on in what is there: the whole input counts, and what an earlier version or an accident left is told apart."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from guardreasoner_sdk.data.identity import fingerprint

EARLIER = Path(__file__).parent / "earlier"
"""What the version before whole files were hashed wrote of four lines, the third of them blank."""

MIB = 1 << 20


def _ends(path: Path) -> str:
    """The fingerprint that the earlier version took."""
    data = path.read_bytes()
    return f"{len(data)}:{hashlib.sha256(data[:MIB] + data[max(MIB, len(data) - MIB) :]).hexdigest()}"


@pytest.fixture
def earlier(tmp_path, _model, monkeypatch):
    """A copy of that folder, as if today's model had judged it."""
    monkeypatch.delenv("GUARDREASONER_MODEL")
    from guardreasoner_sdk import Guard

    folder = tmp_path / "earlier"
    shutil.copytree(EARLIER, folder)
    with Guard() as guard:
        for state in folder.glob("*.state.json"):
            value = json.loads(state.read_text("utf-8"))
            value["identity"] |= {"model": guard.judge.model, "backend": guard.judge.backend}
            state.write_text(json.dumps(value), "utf-8")
    return folder


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 2 * MIB - 1, 2 * MIB, 2 * MIB + 1, 5 * MIB // 2, 3 * MIB + 7])
def test_every_byte_counts_and_ends_are_those_of_the_earlier_version(tmp_path, size):
    path = tmp_path / "file"
    data = bytearray(hashlib.shake_128(b"rows").digest(size))
    path.write_bytes(data)
    found = fingerprint(path)
    assert found.ends == _ends(path)
    assert found.matches(str(found))
    assert found.matches(found.ends) is (size <= 2 * MIB)
    assert found.may_match(found.ends) is (size > 2 * MIB)
    for place in sorted({0, size // 2, size - 1} & set(range(size))):
        data[place] ^= 1
        path.write_bytes(data)
        assert fingerprint(path) != found
        assert not fingerprint(path).matches(found.ends)
        data[place] ^= 1


def test_a_finished_run_does_not_keep_the_verdict_of_a_row_that_changed(run, tmp_path, write_rows, harmful):
    # Few rows make a long file: most of it stands in a field that is not judged.
    rows = tmp_path / "rows.jsonl"

    def write(middle: str) -> None:
        write_rows(
            rows,
            [{"prompt": "How do I bake bread?", "x": "crumb " * 200_000}, {"prompt": middle}, {"prompt": "a", "x": "b" * MIB}],
        )

    write("a" * len(harmful))
    arguments = ("check", "--file", rows, "--output", tmp_path / "v.jsonl", "--quiet")
    assert run(*arguments).exit_code == 0
    assert rows.stat().st_size > 2 * MIB
    write(harmful)
    result = run(*arguments)
    assert result.exit_code == 2
    assert "holds verdicts of a different run (its input was different or has changed since)" in result.stderr


@pytest.mark.parametrize("kept", [2, 3, 4])
def test_a_run_of_the_earlier_version_goes_on(run, earlier, read_rows, kept):
    output = earlier / "verdicts.jsonl"
    before = output.read_bytes().splitlines(keepends=True)
    output.write_bytes(b"".join(before[:kept]))
    result = run("check", "--file", earlier / "rows.jsonl", "--output", output)
    assert result.exit_code == 1
    assert ("already complete" if kept == 4 else f"{kept} are done") in result.stderr
    assert output.read_bytes().splitlines(keepends=True)[:kept] == before[:kept]
    assert [row["row"] for row in read_rows(output)] == ([1, 2, 4] if kept == 2 else [1, 2, 3, 4])
    assert run("check", "--file", earlier / "rows.jsonl", "--output", output).exit_code == 1


def test_a_finished_table_of_the_earlier_version_is_known(run, earlier):
    result = run("check", "--file", earlier / "rows.jsonl", "--output", earlier / "verdicts.csv")
    assert result.exit_code == 1
    assert "already complete" in result.stderr
    assert "4 rows: 2 allowed, 1 blocked, 1 undetermined" in result.stderr


def test_a_long_input_of_the_earlier_version_gets_a_clear_answer(run, earlier, write_rows):
    rows = write_rows(earlier / "rows.jsonl", [{"prompt": "How do I bake bread?", "x": "crumb " * 600_000}])
    state = earlier / "verdicts.jsonl.state.json"
    value = json.loads(state.read_text("utf-8"))
    value["identity"]["input"] = _ends(rows)
    state.write_text(json.dumps(value), "utf-8")
    before = (earlier / "verdicts.jsonl").read_bytes()
    result = run("check", "--file", rows, "--output", earlier / "verdicts.jsonl")
    assert result.exit_code == 2
    said = "begun by an earlier version, which looked at both ends of a file only: whether the middle of its input has changed"
    assert said in result.stderr
    assert "use --overwrite to replace it, or name another --output" in result.stderr
    assert (earlier / "verdicts.jsonl").read_bytes() == before


def test_a_long_table_of_the_earlier_version_gets_a_clear_answer(run, earlier):
    table, state = earlier / "verdicts.csv", earlier / "verdicts.csv.state.json"
    table.write_bytes(table.read_bytes() + b"\n" * 3 * MIB)
    value = json.loads(state.read_text("utf-8"))
    value["finished"]["output"] = _ends(table)
    state.write_text(json.dumps(value), "utf-8")
    result = run("check", "--file", earlier / "rows.jsonl", "--output", table)
    assert result.exit_code == 2
    assert "was finished by an earlier version, and whether its middle has changed cannot be known" in result.stderr


DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize(
    "damage",
    [
        DEEP,
        f'{{"identity": {DEEP}, "finished": null}}',
        '{"identity": {"input": 1e999}, "finished": null}',
        '{"identity": {"input": NaN}, "finished": null}',
        '{"identity": {}, "finished": {}}',
        '{"identity": {}, "finished": {"output": "x", "counts": 7}}',
        '{"identity": {}, "finished": 7}',
        "\udcff",
    ],
)
@pytest.mark.parametrize("name", ["verdicts.jsonl", "verdicts.csv"])
def test_a_state_file_that_was_damaged_is_named(run, earlier, damage, name):
    state = earlier / f"{name}.state.json"
    state.write_text(damage, "utf-8", errors="surrogateescape")
    result = run("check", "--file", earlier / "rows.jsonl", "--output", earlier / name)
    assert result.exit_code == 2
    assert f"{state} is damaged" in result.stderr
    assert "--overwrite" in result.stderr
    assert "internal error" not in result.stderr


@pytest.mark.parametrize("counts", [{}, {"allowed": -1}, {"allowed": "2"}, {"examples": 7}])
def test_counts_that_were_damaged_are_told(run, earlier, counts):
    state = earlier / "verdicts.csv.state.json"
    value = json.loads(state.read_text("utf-8"))
    value["finished"]["counts"] = (value["finished"]["counts"] | counts) if counts else {}
    state.write_text(json.dumps(value), "utf-8")
    result = run("check", "--file", earlier / "rows.jsonl", "--output", earlier / "verdicts.csv")
    assert result.exit_code == 2
    assert "the counts of the finished run are damaged" in result.stderr


@pytest.mark.parametrize(
    "line",
    [
        '{"row": 1e999, "verdict": {}}',
        '{"row": 2, "verdict": NaN}',
        '{"row": Infinity}',
        f'{{"row": 2, "verdict": {DEEP}}}',
        f'{{"row": 2, "id": {DEEP}}}',
        '{"row": ' + "9" * 5_000 + "}",
    ],
)
def test_a_journal_that_was_damaged_is_named_with_its_line(run, earlier, line):
    output = earlier / "verdicts.jsonl"
    lines = output.read_text("utf-8").splitlines()
    lines[1] = line
    output.write_text("\n".join(lines) + "\n", "utf-8")
    result = run("check", "--file", earlier / "rows.jsonl", "--output", output)
    assert result.exit_code == 2
    assert f"line 2 of {output} is not the verdict of row 2" in result.stderr
    assert "internal error" not in result.stderr


RUNS = Path(__file__).parents[1] / "assets" / "earlier_runs"
"""What commands left of five labelled rows at commit 442f041, before one place read rows and wrote runs."""

TORN = b'{"row": 3, "verd'


@pytest.fixture
def runs(tmp_path, _model, monkeypatch):
    """A copy of them, as if today's model had judged: their own is of another version."""
    monkeypatch.delenv("GUARDREASONER_MODEL")
    from guardreasoner_sdk import Guard

    folder = tmp_path / "runs"
    shutil.copytree(RUNS, folder)
    with Guard() as guard:
        for state in folder.rglob("*.state.json"):
            value = json.loads(state.read_text("utf-8"))
            value["identity"] |= {"model": guard.judge.model, "backend": guard.judge.backend}
            state.write_text(json.dumps(value), "utf-8")
    return folder


def _cut(journal: Path) -> list[bytes]:
    """Leave two lines of a journal, and a part of the third."""
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:2]) + TORN)
    return lines[:2]


def test_the_verdicts_of_a_run_of_442f041_stay_and_the_others_are_added(run, runs, read_rows):
    kept = _cut(runs / "check/verdicts.jsonl")
    result = run("check", "--file", runs / "rows.jsonl", "--output", runs / "check/verdicts.jsonl")
    assert "2 are done" in result.stderr
    assert (runs / "check/verdicts.jsonl").read_bytes().splitlines(keepends=True)[:2] == kept
    assert [row["row"] for row in read_rows(runs / "check/verdicts.jsonl")] == [1, 2, 3, 4, 5]


def test_a_table_of_442f041_is_known_and_one_that_was_cut_off_is_made(run, runs):
    table, journal = runs / "check/verdicts.csv", runs / "check/verdicts.csv.part.jsonl"
    assert "already complete" in run("check", "--file", runs / "rows.jsonl", "--output", table).stderr
    whole = table.read_bytes()
    table.unlink()
    shutil.copy(runs / "check/verdicts.jsonl", journal)
    _cut(journal)
    state = runs / "check/verdicts.csv.state.json"
    state.write_text(json.dumps(json.loads(state.read_text("utf-8")) | {"finished": None}), "utf-8")
    assert "2 are done" in run("check", "--file", runs / "rows.jsonl", "--output", table).stderr
    assert table.read_bytes().splitlines()[:3] == whole.splitlines()[:3]
    assert len(table.read_bytes().splitlines()) == len(whole.splitlines())
    assert not journal.exists()


def test_an_evaluation_of_442f041_goes_on(run, runs, read_rows):
    kept = _cut(runs / "evaluate/verdicts.jsonl")
    assert run("evaluate", runs / "rows.jsonl", "--output", runs / "evaluate").exit_code == 0
    assert (runs / "evaluate/verdicts.jsonl").read_bytes().splitlines(keepends=True)[:2] == kept
    assert [row["id"] for row in read_rows(runs / "evaluate/verdicts.jsonl")] == ["bread", "bomb", "paris", "lock", "wrong"]


def test_an_audit_of_442f041_and_the_decisions_in_it_stay(run, runs):
    audit = runs / "audit"
    before = {name: (audit / name).read_bytes() for name in ("verdicts.jsonl", "decisions.jsonl")}
    assert run("audit", runs / "rows.jsonl", "--apply", audit).exit_code == 0
    corrected = [json.loads(line) for line in (audit / "corrected.jsonl").read_text("utf-8").splitlines()]
    assert [row["prompt_harmful"] for row in corrected] == [False, True, False, True, False]
    (audit / "decisions.jsonl").write_bytes(before["decisions.jsonl"] + b'{"audit": "torn')
    run("audit", runs / "rows.jsonl", "--output", audit)
    assert (audit / "verdicts.jsonl").read_bytes() == before["verdicts.jsonl"]
    assert "accept" in (audit / "audit.html").read_text("utf-8")


def test_a_calibration_of_442f041_loads(runs):
    from guardreasoner_sdk.calibration import Calibration

    path = runs / "calibration.json"
    loaded, kept = Calibration.load(path), json.loads(path.read_text("utf-8"))
    assert loaded.model == kept["model"]
    assert {task: own.band for task, own in loaded.tasks.items()} == {
        task: tuple(own["band"]) for task, own in kept["tasks"].items()
    }
