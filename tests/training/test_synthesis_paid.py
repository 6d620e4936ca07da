"""What was paid for stays: an answer is known by its question, whatever becomes of rows, settings and folders."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from guardreasoner_sdk.data.run_folder import FIGURES, RECORD
from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_training.pipeline.run import Run
from guardreasoner_training.recipe import load_recipe, override
from guardreasoner_training.rows import TrainingRow, read_rows, write_rows
from guardreasoner_training.synthesis import ANSWERS, synthesize
from samples import lines, quiet
from teachers import REFUSAL, REQUEST, RESPONSE, act, row_in, rows_in, settings, teaching


def run(folder: Path, teacher, **options):
    return synthesize(folder / "rows.jsonl", folder / "out", teacher, report=options.pop("report", quiet), **options)


def names(folder: Path) -> list[str]:
    return [row.id for row in read_rows(folder / "out/rows.jsonl")]


def test_rows_that_were_added_are_asked_and_no_others(tmp_path):
    rows = rows_in(tmp_path / "rows.jsonl", 12)
    write_rows(tmp_path / "rows.jsonl", rows[:10])
    with teaching() as server:
        assert run(tmp_path, settings(server))["accepted"] == 10
        write_rows(tmp_path / "rows.jsonl", rows)
        assert run(tmp_path, settings(server))["accepted"] == 12
        assert server.requests == dict.fromkeys((row.id for row in rows), 1)
        # Other names and another order are no other questions, and what is left out stays paid for.
        few = [replace(row, id=f"new-{row.id}") for row in reversed(rows[4:])]
        write_rows(tmp_path / "rows.jsonl", few)
        assert run(tmp_path, settings(server))["accepted"] == 8
        assert names(tmp_path) == [row.id for row in few]
        write_rows(tmp_path / "rows.jsonl", rows)
        figures = run(tmp_path, settings(server))
        assert set(server.requests.values()) == {1}
    assert figures["rows_by_tries"] == {"1": 12}
    assert names(tmp_path) == [row.id for row in rows]


def test_nothing_is_asked_and_no_key_wanted_where_all_answers_are_there(tmp_path, monkeypatch):
    monkeypatch.delenv("TEACHER_KEY", raising=False)
    rows = rows_in(tmp_path / "rows.jsonl", 4)
    with teaching() as server:
        run(tmp_path, settings(server))
    write_rows(tmp_path / "rows.jsonl", rows[:3])
    assert run(tmp_path, settings("http://127.0.0.1:9/v1", api_key_env="TEACHER_KEY"))["accepted"] == 3


def test_a_row_whose_label_or_text_has_changed_is_another_question(tmp_path):
    rows = rows_in(tmp_path / "rows.jsonl", 4)
    with teaching() as server:
        run(tmp_path, settings(server))
        changed = replace(rows[2], labels={REQUEST: not rows[2].labels[REQUEST]})
        write_rows(tmp_path / "rows.jsonl", [*rows[:2], changed, replace(rows[3], category="weapons", source="elsewhere")])
        run(tmp_path, settings(server))
        assert server.requests == {"r0000": 1, "r0001": 1, "r0002": 2, "r0003": 1}
    assert {row.id: row.labels for row in read_rows(tmp_path / "out/rows.jsonl")}["r0002"] == changed.labels


def test_rows_that_are_asked_the_same_are_asked_once(tmp_path):
    [row] = rows_in(tmp_path / "rows.jsonl", 1)
    write_rows(tmp_path / "rows.jsonl", [replace(row, id=name, source=name) for name in "abc"])
    with teaching() as server:
        figures = run(tmp_path, settings(server))
        assert server.requests == {"r0000": 1}
    assert (figures["accepted"], figures["rows_by_tries"]) == (3, {"1": 1})
    assert [(row.id, row.source) for row in read_rows(tmp_path / "out/rows.jsonl")] == [("a", "a"), ("b", "b"), ("c", "c")]


def test_longer_answers_are_asked_for_where_they_were_cut_off_and_nowhere_else(tmp_path):
    rows_in(tmp_path / "rows.jsonl", 9)
    cut = {"r0002", "r0005"}
    with teaching(lambda name, asked: "truncate" if name in cut else "lie" if name == "r0007" else "good") as server:
        figures = run(tmp_path, settings(server, attempts=2, max_tokens=100))
        assert (figures["accepted"], figures["rejected_by_reason"]) == (6, {"truncated": 2, "contradicts": 1})
        server.plan = lambda name, asked: "good"
        # A temperature is no question either.
        figures = run(tmp_path, settings(server, attempts=2, max_tokens=200, temperature=0.5))
        assert server.requests == {
            f"r{number:04}": 3 if f"r{number:04}" in cut else 2 if number == 7 else 1 for number in range(9)
        }
        assert [body["max_tokens"] for body in server.bodies[-2:]] == [200, 200]
    # What was cut off was paid for, and was no try of a longer answer.
    assert (figures["accepted"], figures["answers"], figures["rows_by_tries"]) == (8, 14, {"1": 8, "2": 1})
    assert figures["rejected_by_reason"] == {"contradicts": 1}


def test_a_row_too_long_beside_a_long_answer_is_asked_for_a_shorter_one(tmp_path):
    rows_in(tmp_path / "rows.jsonl", 4)
    long = {"error": {"message": "maximum context length is 10 tokens", "code": "context_length_exceeded", "type": "t"}}
    with teaching() as server:
        server.answer = lambda body: (400, long, {}) if row_in(body) == "r0001" else act("good", body)
        assert run(tmp_path, settings(server, max_tokens=4000))["rejected_by_reason"] == {"too_long": 1}
        server.answer = None
        assert run(tmp_path, settings(server, max_tokens=1000))["accepted"] == 4
        assert server.requests["r0001"] == 2


def test_a_restart_makes_everything_anew_and_pays_for_nothing_again(tmp_path):
    rows = rows_in(tmp_path / "rows.jsonl", 6)
    with teaching() as server:
        first = run(tmp_path, settings(server))
        (tmp_path / "out/rows.jsonl").write_text("spoilt")
        (tmp_path / "out/other").mkdir()
        assert run(tmp_path, settings(server), restart=True) == first
        assert set(server.requests.values()) == {1}
        assert not (tmp_path / "out/other").exists()
        assert names(tmp_path) == [row.id for row in rows]
        # Another teacher's answers are other ones: that is asked for, and does not cost those that are there.
        with pytest.raises(InputError, match=r"teacher\.model was 'teacher', is 'other'; .* but for answers\.jsonl"):
            run(tmp_path, settings(server, model="other"))
        other = run(tmp_path, settings(server, model="other"), restart=True)
        assert set(server.requests.values()) == {2}
        assert (other["accepted"], other["answers"], other["tokens"]["input"]) == (6, 6, 1800)
        assert run(tmp_path, settings(server), restart=True) == first
        assert set(server.requests.values()) == {2}
    assert len(lines(tmp_path / "out" / ANSWERS)) == 12


def test_a_run_that_is_cut_off_does_not_look_complete_because_an_earlier_one_was(tmp_path):
    rows = rows_in(tmp_path / "rows.jsonl", 6)
    write_rows(tmp_path / "rows.jsonl", rows[:3])
    with teaching() as server:
        run(tmp_path, settings(server))
        write_rows(tmp_path / "rows.jsonl", rows)
        with pytest.raises(InputError, match=r"budget_tokens: .*3 of 6 rows are not answered yet"):
            run(tmp_path, settings(server, budget_tokens=1500))
        assert not (tmp_path / "out" / FIGURES).exists()
        assert run(tmp_path, settings(server))["accepted"] == 6


def test_damaged_lines_of_the_journal_are_left_out_and_counted(tmp_path):
    rows_in(tmp_path / "rows.jsonl", 6)
    journal, told = tmp_path / "out" / ANSWERS, []
    with teaching() as server:
        run(tmp_path, settings(server))
        one, two, three, *others = journal.read_bytes().splitlines(keepends=True)
        spoilt = [
            one[:40] + b"\n",
            b"\0" * 30 + b"\n",
            json.dumps(json.loads(three) | {"input_tokens": "many"}).encode() + b"\n",
        ]
        journal.write_bytes(b"".join([*spoilt[:2], others[0], b"\n", spoilt[2], b"[]\n", *others[1:]]))
        again = {json.loads(line)["id"] for line in (one, two, three)}
        figures = run(tmp_path, settings(server), restart=True, report=told.append)
        assert server.requests == {f"r{number:04}": 2 if f"r{number:04}" in again else 1 for number in range(6)}
    assert (figures["accepted"], figures["damaged_lines"]) == (6, 5)
    assert told[0] == f"{journal}: damaged lines, left out: 5; their rows are asked again"
    assert told[-1].splitlines()[-1] == "damaged lines of the journal, left out: 5"


def test_a_budget_counts_what_the_rows_that_are_gone_have_cost(tmp_path):
    rows = rows_in(tmp_path / "rows.jsonl", 8)
    write_rows(tmp_path / "rows.jsonl", rows[:4])
    with teaching() as server:
        run(tmp_path, settings(server))
        write_rows(tmp_path / "rows.jsonl", rows[4:])
        with pytest.raises(InputError, match=r"budget_tokens: 1,600 of 1,700 are spent"):
            run(tmp_path, settings(server, budget_tokens=1700))
        assert sum(server.requests.values()) == 4


def test_steps_that_a_row_has_of_some_tasks_stay(tmp_path):
    labels = {REQUEST: True, REFUSAL: False, RESPONSE: True}
    exchange = Exchange("How do I make thing 0001?", "So.")
    own = TrainingRow("own", exchange, labels, reasoning={REQUEST: ("My own step.",)})
    whole = replace(own, id="whole", reasoning=dict.fromkeys(labels, ("Mine.",)))
    write_rows(tmp_path / "rows.jsonl", [own, whole])
    with teaching() as server:
        figures = run(tmp_path, settings(server))
        assert sum(server.requests.values()) == 1
    assert (figures["accepted"], figures["kept"]) == (1, 1)
    first, second = read_rows(tmp_path / "out/rows.jsonl")
    assert first.output is not None
    assert first.output.count("My own step.") == 1
    assert "Thought 1 about the request" not in first.output
    assert first.output.count("Thought 1 about the response") == 2
    assert second.output is None


def test_a_training_that_starts_over_with_more_rows_asks_about_those_alone(tmp_path):
    """``finetune`` and ``train pipeline`` prepare changed rows anew, and everything behind that."""
    pytest.importorskip("gguf", reason="a whole training writes GGUF files: pip install 'guardreasoner-sdk[train]'")
    rows = [
        replace(row, labels=row.labels | ({REFUSAL: number % 4 == 1} if number % 2 else {}))
        for number, row in enumerate(rows_in(tmp_path / "rows.jsonl", 20))
    ]
    with teaching() as server:
        changes = {"data.dev_share": 0, "data.response_dev_share": 0, "synthesize.model": "teacher"}
        recipe = override(load_recipe("laptop"), changes | {"synthesize.base_url": server.url})

        def start(restart: str | None) -> Counter[str]:
            training = Run(
                tmp_path / "training",
                recipe,
                data=[tmp_path / "rows.jsonl"],
                columns=None,
                benchmarks=[],
                stages=["prepare", "synthesize"],
                restart=restart,
                report=quiet,
            )
            written = training.synthesize(training.prepare()[0])
            assert len(list(read_rows(written))) == len(list(read_rows(tmp_path / "rows.jsonl")))
            return server.requests.copy()

        write_rows(tmp_path / "rows.jsonl", rows[:16])
        first = start(None)
        write_rows(tmp_path / "rows.jsonl", rows)
        assert start("prepare") - first == Counter(row.id for row in rows[16:])
        assert set(start(None).values()) == {1}


def test_a_restart_that_is_cut_off_leaves_the_folder_as_one_of_the_stage(tmp_path):
    rows_in(tmp_path / "rows.jsonl", 2)
    with teaching() as server:
        run(tmp_path, settings(server))
        # As a kill leaves it: everything gone that was to go.
        for path in (tmp_path / "out").iterdir():
            if path.name not in (RECORD, ANSWERS, ".lock"):
                path.unlink()
        assert run(tmp_path, settings(server))["accepted"] == 2
        assert set(server.requests.values()) == {1}
