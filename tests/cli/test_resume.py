"""Runs that are cut off: killed, interrupted, out of space, torn, mixed up. Each row exactly once, in order."""

from __future__ import annotations

import json
import resource
import signal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guardreasoner_sdk.data.journal import Journal

MANY = 900


def _many(harmful, harmless, count=MANY):
    for number in range(count):
        yield "broken" if number % 300 == 6 else {"id": number, "prompt": f"{harmless if number % 3 else harmful} {number}"}


@pytest.fixture
def many(tmp_path, write_rows, harmful, harmless):
    return write_rows(tmp_path / "rows.jsonl", _many(harmful, harmless))


def _each_once(rows, count=MANY):
    assert [row["row"] for row in rows] == list(range(1, count + 1))
    assert [row["row"] for row in rows if "id" not in row] == list(range(7, count + 1, 300))
    assert all(row["id"] == row["row"] - 1 for row in rows if "id" in row)


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_kill_9_twice_and_go_on(start, cut_off, run, many, tmp_path, read_rows, ending):
    output = tmp_path / f"v.{ending}"
    journal = output if ending == "jsonl" else tmp_path / "v.csv.part.jsonl"
    arguments = ("check", "--file", many, "--output", output, "--reasoning", "off")
    done = 0
    for _ in range(2):
        code, _, _ = cut_off(lambda: start(*arguments), journal, signal.SIGKILL, rows=MANY, done=done)
        assert code == -signal.SIGKILL
        rows = journal.read_bytes().count(b"\n")
        assert done < rows < MANY
        done = rows
    result = run(*arguments)
    assert result.exit_code == 1
    assert f"going on at line {done + 1:,}; {done:,} are done" in result.stderr
    assert "900 rows: " in result.stderr
    if ending == "jsonl":
        _each_once(read_rows(output))
    else:
        assert [line.split(",")[0] for line in output.read_text().splitlines()[1:]] == [str(n) for n in range(1, MANY + 1)]
        assert not journal.exists()


def test_ctrl_c_keeps_what_is_judged(start, cut_off, run, many, tmp_path, read_rows):
    output = tmp_path / "v.jsonl"
    arguments = ("check", "--file", many, "--output", output, "--reasoning", "off")
    # A test run in the background of a shell inherits an ignored SIGINT.
    code, out, err = cut_off(
        lambda: start(*arguments, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)),
        output,
        signal.SIGINT,
        rows=MANY,
    )
    assert (code, out) == (130, b"")
    assert b"run the same command again (without --overwrite) to go on" in err
    assert b"Traceback" not in err
    before = read_rows(output)
    assert f"interrupted: {len(before):,} rows are in v.jsonl".encode() in err
    assert run(*arguments).exit_code == 1
    rows = read_rows(output)
    _each_once(rows)
    assert rows[: len(before)] == before


def test_ctrl_c_between_and_within_writes(run, many, tmp_path, read_rows, monkeypatch):
    output = tmp_path / "v.jsonl"
    append = Journal.append

    def interrupted(self, entries):
        signal.raise_signal(signal.SIGINT)
        append(self, entries)

    monkeypatch.setattr(Journal, "append", interrupted)
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        result = run("check", "--file", many, "--output", output, "--reasoning", "off")
    finally:
        signal.signal(signal.SIGINT, previous)
    assert result.exit_code == 130
    done = len(read_rows(output))
    assert 0 < done < MANY
    monkeypatch.setattr(Journal, "append", append)
    run("check", "--file", many, "--output", output, "--reasoning", "off")
    _each_once(read_rows(output))


def test_ctrl_c_while_judging(run, many, tmp_path, read_rows, monkeypatch):
    from guardreasoner_sdk.guard import Guard

    iter_many = Guard.iter_many

    def interrupted(self, rows):
        for count, verdict in enumerate(iter_many(self, rows)):
            if count == 100:
                signal.raise_signal(signal.SIGINT)
            yield verdict

    monkeypatch.setattr(Guard, "iter_many", interrupted)
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        result = run("check", "--file", many, "--output", tmp_path / "v.jsonl", "--reasoning", "off")
    finally:
        signal.signal(signal.SIGINT, previous)
    assert result.exit_code == 130
    assert "interrupted: 100 rows are in v.jsonl" in result.stderr
    assert len(read_rows(tmp_path / "v.jsonl")) == 100


def test_a_full_disk_and_on(start, run, many, tmp_path, read_rows):
    output = tmp_path / "v.jsonl"
    arguments = ("check", "--file", many, "--output", output, "--reasoning", "off")
    # A limit on the size of files takes the way of a full disk: a short write, then an error.
    limit = 300_000
    process = start(*arguments, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    _, err = process.communicate()
    assert process.returncode == 2
    (line,) = [line for line in err.decode().splitlines() if "cannot be written" in line]
    assert str(output) in line
    assert "run the same command again (without --overwrite): it goes on where it stopped" in line
    assert output.stat().st_size == limit
    assert run(*arguments).exit_code == 1
    _each_once(read_rows(output))


def test_a_table_that_cannot_be_made(run, tmp_path, write_rows, harmful, harmless):
    rows = write_rows(tmp_path / "rows.jsonl", _many(harmful, harmless, 200))
    output = tmp_path / "v.csv"
    (tmp_path / "v.csv.new").mkdir()
    result = run("check", "--file", rows, "--output", output, "--reasoning", "off")
    assert result.exit_code == 2
    assert f"{output} cannot be written (Is a directory)" in result.stderr
    (tmp_path / "v.csv.new").rmdir()
    result = run("check", "--file", rows, "--output", output, "--reasoning", "off")
    assert result.exit_code == 1
    assert "going on" not in result.stderr
    assert len(output.read_text().splitlines()) == 201
    assert not (tmp_path / "v.csv.part.jsonl").exists()


@pytest.fixture(scope="module")
def small(tmp_path_factory, tiny_model, run, write_rows):
    """A finished run of a few rows: its folder, and the bytes of its output."""
    folder = tmp_path_factory.mktemp("small")
    rows = write_rows(folder / "rows.jsonl", [{"prompt": f"How do I bake bread? {n}"} for n in range(5)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GUARDREASONER_MODEL", str(tiny_model))
        assert run("check", "--file", rows, "--output", folder / "v.jsonl").exit_code == 0
    return folder, (folder / "v.jsonl").read_bytes()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_torn_at_any_byte(run, small, data):
    folder, whole = small
    torn = whole[: data.draw(st.integers(0, len(whole)))] + b"\0" * data.draw(st.integers(0, 20))
    (folder / "v.jsonl").write_bytes(torn)
    assert run("check", "--file", folder / "rows.jsonl", "--output", folder / "v.jsonl").exit_code == 0
    written = [json.loads(line) for line in (folder / "v.jsonl").read_bytes().splitlines()]
    assert [row["row"] for row in written] == [1, 2, 3, 4, 5]
    kept = torn[: torn.rfind(b"\n") + 1]
    assert (folder / "v.jsonl").read_bytes().startswith(kept)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda lines: [lines[0], b"{}\n", *lines[2:]],
        lambda lines: [lines[0], b"[" * 50_000 + b"\n", *lines[2:]],
        lambda lines: [lines[0], *lines[2:]],
        lambda lines: [lines[0], lines[0], *lines[1:]],
        lambda lines: [lines[0], b"\n", *lines[1:]],
        lambda lines: [lines[0], lines[1].replace(b'"unharmful"', b'"good"'), *lines[2:]],
    ],
)
def test_an_output_that_was_spoilt_is_refused(run, small, spoil):
    folder, whole = small
    spoilt = b"".join(spoil(whole.splitlines(keepends=True)))
    (folder / "v.jsonl").write_bytes(spoilt)
    arguments = ("check", "--file", folder / "rows.jsonl", "--output", folder / "v.jsonl")
    result = run(*arguments)
    assert result.exit_code == 2
    assert "line 2 of" in result.stderr
    assert "--overwrite" in result.stderr
    assert (folder / "v.jsonl").read_bytes() == spoilt
    assert run(*arguments, "--overwrite").exit_code == 0


def test_more_rows_than_the_input(run, small):
    folder, whole = small
    more = whole.splitlines(keepends=True)[4].replace(b'"row": 5', b'"row": 6')
    (folder / "v.jsonl").write_bytes(whole + more)
    result = run("check", "--file", folder / "rows.jsonl", "--output", folder / "v.jsonl")
    assert result.exit_code == 2
    assert "more rows than the input" in result.stderr


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--reasoning", "off"], "reasoning was 'auto', is 'off'"),
        (["--min-score", "0.7"], "policy was"),
        (["--block", "refusal"], "policy was"),
        (["--response-column", "response"], "columns was"),
        (["--file", "other.jsonl"], "its input was different or has changed since"),
    ],
)
def test_another_run_is_not_gone_on_with(run, tmp_path, write_rows, harmless, ending, more, said):
    rows = write_rows(tmp_path / "rows.jsonl", [{"prompt": harmless, "response": None}] * 3)
    write_rows(tmp_path / "other.jsonl", [{"prompt": harmless, "response": None}] * 4)
    output = tmp_path / f"v.{ending}"
    arguments = ["check", "--file", rows, "--output", output]
    assert run(*arguments).exit_code == 0
    before = output.read_bytes()
    more = [str(tmp_path / word) if word.endswith(".jsonl") else word for word in more]
    result = run(*arguments, *more)
    assert result.exit_code == 2
    assert said in result.stderr
    assert "--overwrite" in result.stderr
    assert output.read_bytes() == before
    assert run(*arguments).exit_code == 0
    assert run(*arguments, *more, "--overwrite").exit_code == 0
    assert run(*arguments).exit_code == 2


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_a_file_of_the_users_own_is_not_touched(run, small, tmp_path, ending):
    folder, _ = small
    output = tmp_path / f"mine.{ending}"
    output.write_text("my thesis")
    result = run("check", "--file", folder / "rows.jsonl", "--output", output)
    assert result.exit_code == 2
    assert "is there already" in result.stderr
    assert output.read_text() == "my thesis"
    assert list(tmp_path.iterdir()) == [output]


def test_tables_that_changed_or_came_from_elsewhere(run, small, tmp_path):
    folder, _ = small
    output = tmp_path / "v.csv"
    arguments = ("check", "--file", folder / "rows.jsonl", "--output", output)
    assert run(*arguments).exit_code == 0
    whole = output.read_bytes()
    output.write_bytes(whole + b"6,,allow\n")
    result = run(*arguments)
    assert result.exit_code == 2
    assert "was changed since" in result.stderr
    # Gone: nothing to lose, so it is made anew.
    output.unlink()
    assert run(*arguments).exit_code == 0
    assert output.read_bytes().count(b"\n") == 6
    # A table beside the state of a run that never came to make it.
    state = json.loads((tmp_path / "v.csv.state.json").read_text())
    (tmp_path / "v.csv.state.json").write_text(json.dumps({**state, "finished": None}))
    result = run(*arguments)
    assert result.exit_code == 2
    assert "was not made by this run" in result.stderr


@pytest.mark.parametrize("damage", ["", "{}", "[]", '{"identity": 7, "finished": null}'])
def test_a_damaged_state(run, small, tmp_path, damage):
    folder, _ = small
    output = tmp_path / "v.jsonl"
    arguments = ("check", "--file", folder / "rows.jsonl", "--output", output)
    assert run(*arguments).exit_code == 0
    (tmp_path / "v.jsonl.state.json").write_text(damage)
    result = run(*arguments)
    assert result.exit_code == 2
    assert "v.jsonl.state.json is damaged" in result.stderr
    assert run(*arguments, "--overwrite").exit_code == 0


def test_an_input_that_breaks_off_gives_what_it_has(run, tmp_path, read_rows):
    import gzip

    packed = gzip.compress("".join(f'{{"prompt": "bake {n * 7919}"}}\n' for n in range(5000)).encode())
    rows = tmp_path / "rows.jsonl.gz"
    rows.write_bytes(packed[: len(packed) // 20])
    result = run("check", "--file", rows, "--output", tmp_path / "v.jsonl", "--quiet", "--reasoning", "off")
    assert result.exit_code == 2
    assert f"{rows} cannot be read" in result.stderr
    written = read_rows(tmp_path / "v.jsonl")
    assert [row["row"] for row in written] == list(range(1, len(written) + 1))
    assert written


def test_no_handler_is_put_in_place_of_another(run, small):
    folder, _ = small
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert run("check", "--file", folder / "rows.jsonl", "--output", folder / "v2.jsonl", "--overwrite").exit_code == 0
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, previous)
