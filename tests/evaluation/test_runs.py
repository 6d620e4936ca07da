"""A run over labelled rows: every verdict on disk at once, nothing asked twice, and no run going on in another one's rows."""

from __future__ import annotations

import json
import signal

import pytest

from guardreasoner_sdk import Exchange, Guard
from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.evaluation.rows import LabelledRow
from guardreasoner_sdk.evaluation.runs import JOURNAL, choose, fingerprints, go_on, open_run, verdicts
from guardreasoner_sdk.evaluation.stored import predictions_of
from guardreasoner_sdk.evaluation.summary import Collected
from guardreasoner_sdk.testing import ScriptedJudge, judgement


def rows_of(count, benchmark="Some"):
    return [
        LabelledRow(f"r{number}", benchmark, Exchange(f"prompt {number}"), {"prompt_harmfulness": number % 2 == 0})
        for number in range(count)
    ]


def judge(*, failing=()):
    def answer(exchange):
        number = int(exchange.prompt.split()[1])
        return judgement("undetermined" if number in failing else "harmful" if number % 3 == 0 else "unharmful")

    return ScriptedJudge(answer)


def run(folder, rows, judge, *, overwrite=False, identity=None, stop_after=None):
    shown = []

    def show(done):
        shown.append(done)
        if done == stop_after:
            signal.raise_signal(signal.SIGINT)

    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with Guard(judge=judge) as guard, open_run(folder, identity or {"model": "a"}, overwrite=overwrite) as journal:
            done = sum(1 for _ in journal.entries())
            go_on(guard, rows, journal, done=done, shown=show)
            return shown, list(verdicts(rows, journal))
    finally:
        signal.signal(signal.SIGINT, previous)


def lines(folder):
    return [json.loads(line) for line in (folder / JOURNAL).read_bytes().splitlines()]


def test_every_row_is_in_the_journal_with_its_benchmark_and_its_truth(tmp_path):
    shown, said = run(tmp_path, rows_of(3), judge())
    assert shown == [1, 2, 3]
    assert [(row.id, verdict.prompt_harmfulness.label) for row, verdict in said] == [
        ("r0", "harmful"),
        ("r1", "unharmful"),
        ("r2", "unharmful"),
    ]
    first = lines(tmp_path)[0]
    assert (first["row"], first["benchmark"], first["id"]) == (1, "Some", "r0")
    assert first["labels"] == {"prompt_harmfulness": True}
    assert first["verdict"]["prompt_harmfulness"]["label"] == "harmful"
    assert "prompt 0" not in (tmp_path / JOURNAL).read_text()


def test_what_was_asked_is_not_asked_again(tmp_path):
    rows = rows_of(40)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, rows, judge(), stop_after=10)
    assert len(lines(tmp_path)) == 10
    second = judge()
    shown, said = run(tmp_path, rows, second)
    assert [exchange.prompt for exchange in second.seen] == [f"prompt {number}" for number in range(10, 40)]
    assert shown == list(range(11, 41))
    whole = judge()
    _, alone = run(tmp_path / "alone", rows, whole)
    assert [verdict.findings for _, verdict in said] == [verdict.findings for _, verdict in alone]
    third = judge()
    assert run(tmp_path, rows, third)[0] == []
    assert third.seen == []


def test_a_torn_last_line_is_asked_again(tmp_path):
    rows = rows_of(4)
    run(tmp_path, rows, judge())
    whole = (tmp_path / JOURNAL).read_bytes()
    (tmp_path / JOURNAL).write_bytes(whole[:-20])
    again = judge()
    run(tmp_path, rows, again)
    assert [exchange.prompt for exchange in again.seen] == ["prompt 3"]
    assert [line["id"] for line in lines(tmp_path)] == ["r0", "r1", "r2", "r3"]


def test_another_run_is_refused_until_it_is_told_to_start_anew(tmp_path):
    rows = rows_of(2)
    run(tmp_path, rows, judge())
    with pytest.raises(InputError, match=r"holds verdicts of a different run \(model was 'a', is 'b'\); use --overwrite"):
        run(tmp_path, rows, judge(), identity={"model": "b"})
    fresh = judge()
    run(tmp_path, rows, fresh, identity={"model": "b"}, overwrite=True)
    assert len(fresh.seen) == 2


def test_a_second_process_is_kept_out(tmp_path):
    with open_run(tmp_path, {}, overwrite=False), pytest.raises(InputError, match="another process writes"):
        run(tmp_path, rows_of(1), judge())


def test_the_journal_can_be_scored_by_itself(tmp_path):
    rows = rows_of(12)
    _, said = run(tmp_path, rows, judge(failing={4, 5}))
    collected = Collected()
    for row, verdict in said:
        collected.add(row, verdict)
    assert list(predictions_of(tmp_path / JOURNAL)) == collected.predictions


def test_rows_are_chosen_from_the_front_or_by_a_draw_that_can_be_repeated():
    rows = rows_of(50)

    def ids(**options):
        return [row.id for row in choose(iter(rows), **{"limit": None, "sample": None, "seed": 0, **options})]

    assert ids() == [row.id for row in rows]
    assert ids(limit=3) == ["r0", "r1", "r2"]
    drawn = ids(sample=10)
    assert drawn == ids(sample=10)
    assert drawn != ids(sample=10, seed=1)
    assert len(set(drawn)) == 10
    assert drawn == sorted(drawn, key=lambda name: int(name[1:]))
    assert ids(sample=99) == ids()


def test_fingerprints_tell_texts_and_labels_apart():
    rows = rows_of(3) + rows_of(2, "Other")
    (first, second) = fingerprints(rows)
    assert first.startswith("Some (3 rows, ")
    assert second.startswith("Other (2 rows, ")
    turned = LabelledRow("r0", "Some", rows[0].exchange, {"prompt_harmfulness": False})
    longer = LabelledRow("r0", "Some", Exchange("prompt 0 and more"), rows[0].labels)
    assert len({first, *(fingerprints([row, *rows[1:3]])[0] for row in (turned, longer))}) == 3
    assert fingerprints(rows_of(3)) == [first]
