"""How far a file is: lines in a log, a bar on a terminal."""

from __future__ import annotations

import pytest

from clocks import Clock
from guardreasoner_sdk.cli.progress import progress


@pytest.fixture
def clock():
    return Clock()


def _run(clock, total, seconds, done=0):
    """Rows that are done one after another, each as many seconds after the one before."""
    with progress(total, done, clock=clock) as shown:
        for number in range(done + 1, total + 1):
            clock.now += seconds
            shown(number)


def test_a_log_has_a_line_at_every_tenth(capsys, clock):
    _run(clock, 201, 1)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "guardreasoner: 21 of 201 rows (10 %), 1 rows/s, 0:03:00 left"
    assert lines[-1] == "guardreasoner: 201 of 201 rows (100 %), 1 rows/s, 0:00:00 left"
    assert len(lines) == 10


def test_a_log_has_at_most_one_line_in_five_seconds(capsys, clock):
    _run(clock, 100, 0.24)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in lines] == ["21", "42", "63", "84"]


def test_a_log_has_no_progress_of_a_run_shorter_than_the_time_between_two_lines(capsys, clock):
    _run(clock, 201, 4.99 / 201)
    assert capsys.readouterr().err == ""


def test_a_rate_is_that_of_this_run(capsys, clock):
    _run(clock, 200, 0.5, done=100)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "guardreasoner: 120 of 200 rows (60 %), 2 rows/s, 0:00:40 left"
    assert len(lines) == 5


@pytest.mark.parametrize(("seconds", "rate"), [(0.99, False), (2.01, True)])
def test_a_bar_shows_no_rate_before_there_is_one(capsys, monkeypatch, clock, seconds, rate):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    _run(clock, 201, seconds / 201)
    shown = capsys.readouterr().err
    assert "201/201" in shown
    assert ("100 rows/s" in shown) is ("rows/s" in shown) is rate
    assert "(100 %)" not in shown


def test_nothing_is_shown_of_a_run_that_is_to_be_quiet(capsys, clock):
    with progress(0, 0, clock=clock) as shown:
        clock.now += 100
        shown(7)
    assert capsys.readouterr() == ("", "")
