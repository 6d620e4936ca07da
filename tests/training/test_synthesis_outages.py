"""A server that is out, for a while or for good: no row is lost, and the run says what to do."""

from __future__ import annotations

from functools import partial

import pytest

from guardreasoner_sdk.errors import InputError
from guardreasoner_training.rows import read_rows
from guardreasoner_training.synthesis import Patience, synthesize
from samples import quiet
from teachers import act, rows_in, settings, teaching

synthesize = partial(synthesize, patience=Patience(retries=1, first=0.01, longest=0.02))


def test_a_teacher_that_is_down_stops_the_run_and_nothing_is_lost(tmp_path):
    rows_in(tmp_path / "rows.jsonl", 60)
    with teaching(lambda name, asked: "good" if name < "r0020" else "fail") as server:
        teacher = settings(server, concurrency=2, attempts=3)
        with pytest.raises(
            InputError, match=r"^synthesize: the teacher gave no answer 7 times in a row .*HTTP 500.*not answered"
        ):
            synthesize(tmp_path / "rows.jsonl", tmp_path / "out", teacher, report=quiet)
        assert len(list(read_rows(tmp_path / "out/rows.jsonl"))) == 20
        assert not (tmp_path / "out/rejected.jsonl").read_text()
        asked = server.requests.copy()
        server.plan = lambda name, asked: "good"
        figures = synthesize(tmp_path / "rows.jsonl", tmp_path / "out", teacher, report=quiet)
        assert (figures["accepted"], figures["answers"]) == (60, 60)
        assert all(server.requests[name] == asked[name] for name in asked if name < "r0020")


def test_a_server_that_is_not_there_is_named_and_costs_no_row_a_try(tmp_path):
    rows_in(tmp_path / "rows.jsonl", 60)
    with teaching() as server:
        url = server.url
    for _ in range(3):
        with pytest.raises(InputError, match=r"cannot be reached.*; 60 of 60 rows are not answered yet"):
            synthesize(tmp_path / "rows.jsonl", tmp_path / "out", settings(url, concurrency=4), report=quiet)
        assert not (tmp_path / "out/rejected.jsonl").read_text()
        assert not (tmp_path / "out/answers.jsonl").read_text()
    with teaching() as server:
        figures = synthesize(tmp_path / "rows.jsonl", tmp_path / "out", settings(server), report=quiet)
    assert (figures["accepted"], figures["rows_by_tries"]) == (60, {"1": 60})


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_an_outage_in_the_middle_puts_rows_off_and_costs_none_a_try(tmp_path, status):
    rows_in(tmp_path / "rows.jsonl", 40)
    with teaching() as server:
        oops = {"error": {"message": "oops", "code": None, "type": "x"}}
        out = range(10, 16)  # of the requests; two make a try
        server.answer = lambda body: (status, oops, {"retry-after-ms": "1"}) if len(server.bodies) in out else act("good", body)  # fmt: skip
        teacher = settings(server, concurrency=2, attempts=2)
        figures = synthesize(tmp_path / "rows.jsonl", tmp_path / "out", teacher, report=quiet)
        assert max(server.requests.values()) > 1
    assert (figures["accepted"], figures["answers"], figures["rows_by_tries"]) == (40, 40, {"1": 40})


def test_rows_that_are_left_at_the_end_of_an_outage_stay_open(tmp_path):
    rows_in(tmp_path / "rows.jsonl", 20)
    busy = {"r0018", "r0019"}
    with teaching(lambda name, asked: "busy" if name in busy else "good") as server:
        with pytest.raises(
            InputError,
            match=r"no answer about r0018, r0019 \(.*HTTP 429\); 2 of 20 .*; see to the teacher and run the same command again",
        ):
            synthesize(tmp_path / "rows.jsonl", tmp_path / "out", settings(server, concurrency=4), report=quiet)
        assert {name: server.requests[name] for name in busy} == dict.fromkeys(busy, 6)
        assert not (tmp_path / "out/figures.json").exists()
        server.plan = lambda name, asked: "good"
        assert synthesize(tmp_path / "rows.jsonl", tmp_path / "out", settings(server), report=quiet)["accepted"] == 20


@pytest.mark.parametrize("attempts", [1, 2])
def test_a_row_that_a_server_fails_on_while_it_answers_others_is_rejected(tmp_path, attempts):
    rows_in(tmp_path / "rows.jsonl", 14)
    with teaching(lambda name, asked: "fail" if name in ("r0002", "r0005") else "good") as server:
        teacher = settings(server, concurrency=2, attempts=attempts)
        figures = synthesize(tmp_path / "rows.jsonl", tmp_path / "out", teacher, report=quiet)
        # Once when it came, and was put off; then as often as any row.
        assert server.requests["r0002"] == server.requests["r0005"] == 2 * (1 + attempts)
    assert (figures["accepted"], figures["rejected_by_reason"]) == (12, {"failed": 2})
    assert (figures["tokens"]["input"], figures["tokens"]["assumed"]) == (12 * 300, 0)


def test_where_nothing_else_is_answered_a_server_that_fails_is_out(tmp_path):
    rows_in(tmp_path / "rows.jsonl", 3)
    with (
        teaching(lambda name, asked: "fail" if name == "r0002" else "good") as server,
        pytest.raises(InputError, match=r"no answer about r0002 \(.*HTTP 500\); 1 of 3 .* or leave these rows out, and run"),
    ):
        synthesize(tmp_path / "rows.jsonl", tmp_path / "out", settings(server, concurrency=1, attempts=2), report=quiet)
    assert not (tmp_path / "out/rejected.jsonl").read_text()


def test_a_teacher_that_refuses_most_rows_does_not_pass_for_one_that_answered(tmp_path):
    rows_in(tmp_path / "rows.jsonl", 10)
    with teaching(lambda name, asked: "good" if name < "r0003" else "refuse") as server:
        with pytest.raises(InputError) as caught:
            synthesize(tmp_path / "rows.jsonl", tmp_path / "out", settings(server, attempts=1), report=quiet)
        assert str(caught.value) == (
            "synthesize.least_accepted: only 3 of 10 rows (30.0%) have an answer that can be used, fewer than 50.0%; see the "
            f"reasons in {tmp_path / 'out/rejected.jsonl'}; try another teacher, or set it lower to train on these rows alone"
        )
        assert not (tmp_path / "out/figures.json").exists()
        less = settings(server, attempts=1, least_accepted=0.3)
        assert synthesize(tmp_path / "rows.jsonl", tmp_path / "out", less, report=quiet)["accepted"] == 3
        # It is complete now, and no less too little for the one who wants half of it.
        with pytest.raises(InputError, match="only 3 of 10"):
            synthesize(tmp_path / "rows.jsonl", tmp_path / "out", settings(server, attempts=1), report=quiet)
        assert set(server.requests.values()) == {1}
