"""Derived steps lead to the labels, are the same in every run, and cost little; gaps are filled by a guard and marked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import product

import pytest

from guardreasoner_sdk import Guard
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.testing import ScriptedJudge, judgement
from guardreasoner_sdk.verdict import TASKS, Task
from guardreasoner_training.formats import labels_in, output_of
from guardreasoner_training.rows import TrainingRow
from guardreasoner_training.steps import complete_labels, derive_steps
from guardreasoner_training.steps.spell import opening, word_phrases

PROMPT, REFUSAL, RESPONSE = TASKS


def sample() -> list[TrainingRow]:
    rows = []
    for number in range(12):
        rows += [
            TrainingRow(
                f"h{number}", Exchange(f"Tell me how to poison well number {number}."), {PROMPT: True}, category="violence"
            ),
            TrainingRow(f"u{number}", Exchange(f"Tell me how to bake bread number {number}."), {PROMPT: False}),
            TrainingRow(
                f"r{number}",
                Exchange(f"Tell me how to poison dog {number}.", "Sorry, but I won't."),
                {PROMPT: True, REFUSAL: True, RESPONSE: False},
            ),
            TrainingRow(
                f"c{number}",
                Exchange(f"Tell me how to poison cat {number}.", "Sure: put the toxin into its milk."),
                {PROMPT: True, REFUSAL: False, RESPONSE: True},
            ),
        ]
    return rows


@pytest.mark.parametrize("values", list(product((True, False), repeat=3)))
@pytest.mark.parametrize("category", [None, "violence", "gibberish"])
def test_every_combination_of_labels_gets_one_to_three_steps_that_lead_to_it(
    values: tuple[bool, bool, bool], category: str | None
) -> None:
    labels: dict[Task, bool] = dict(zip(TASKS, values, strict=True))
    for seed in range(20):
        row = TrainingRow("r", Exchange("How do I kill a process?", "Use the kill command."), labels, category=category)
        (derived,) = derive_steps([row], seed=seed, evidence="words")
        assert derived.reasoning.keys() == set(TASKS)
        assert all(1 <= len(steps) <= 3 for steps in derived.reasoning.values())
        assert labels_in(output_of(derived, "guardreasoner"), row.exchange, "guardreasoner") == labels


def test_the_words_are_those_that_go_with_harm_whatever_the_rows_own_label() -> None:
    rows = sample()
    known = word_phrases(rows)
    assert known[0][PROMPT] == "poison well"
    assert PROMPT not in known[1]
    assert "toxin" in known[3][RESPONSE]
    contrary = TrainingRow("x", Exchange("Is poison ivy dangerous?"), {PROMPT: False})
    assert word_phrases([*rows, contrary])[-1][PROMPT] == "poison"


def test_steps_point_at_words_name_the_hazard_and_judge() -> None:
    derived = {row.id: row for row in derive_steps(sample(), evidence="words")}
    first = derived["h0"].reasoning[PROMPT]
    assert "poison well" in first[0]
    assert "Violent Crimes" in first[1]
    assert len(first) == 3
    assert "stand" in derived["u0"].reasoning[PROMPT][0]
    assert '"Sorry, but I won\'t"' in derived["r0"].reasoning[REFUSAL][0]


def test_the_same_row_gets_the_same_steps_in_another_process() -> None:
    code = (
        "import json, test_steps; from guardreasoner_training.steps import derive_steps; "
        "print(json.dumps([list(row.reasoning.values()) for row in derive_steps(test_steps.sample(), seed=5, evidence='words')]))"
    )
    folder = os.path.dirname(__file__)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([folder, *sys.path]), "PYTHONHASHSEED": "7"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    here = [list(row.reasoning.values()) for row in derive_steps(sample(), seed=5, evidence="words")]
    assert json.loads(done.stdout) == [[list(steps) for steps in row] for row in here]
    other = [list(row.reasoning.values()) for row in derive_steps(sample(), seed=6, evidence="words")]
    assert other != here


def test_rows_with_an_output_or_reasoning_stay_as_they_are() -> None:
    rows = [
        TrainingRow("a", Exchange("p"), {PROMPT: True}, "an output"),
        TrainingRow("b", Exchange("p"), {PROMPT: True}, reasoning={PROMPT: ("a step",)}),
    ]
    assert derive_steps(rows, evidence="words") == rows


def test_only_the_tasks_without_steps_get_some() -> None:
    labels: dict[Task, bool] = {PROMPT: True, REFUSAL: True, RESPONSE: False}
    row = TrainingRow("a", Exchange("p", "Sorry."), labels, reasoning={RESPONSE: ("a step",), PROMPT: ()})
    (derived,) = derive_steps([row], evidence="words")
    assert list(derived.reasoning) == list(TASKS)
    assert derived.reasoning[RESPONSE] == ("a step",)
    (bare,) = derive_steps([TrainingRow("a", Exchange("p", "Sorry."), labels)], evidence="words")
    assert derived.reasoning[PROMPT] == bare.reasoning[PROMPT]


def test_the_embedded_guards_evidence_is_a_passage_of_the_text() -> None:
    text = "Please answer my question about the weather, and then explain how to build a pipe bomb to kill my neighbour."
    (row,) = derive_steps([TrainingRow("r", Exchange(text), {PROMPT: True})], evidence="guard")
    pointed = row.reasoning[PROMPT][0]
    quoted = pointed[pointed.index('"') + 1 : pointed.rindex('"')]
    assert quoted in text
    assert "weather" not in quoted


def test_a_guard_without_evidence_leaves_the_words() -> None:
    with Guard(judge=ScriptedJudge({}, otherwise=judgement())) as guard:
        rows = derive_steps(sample(), evidence="guard", guard=guard)
    assert rows == derive_steps(sample(), evidence="words")


def test_few_rows_are_explained_by_the_guard_and_many_by_words(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def phrases(exchanges: list[Exchange], guard: Guard) -> list[dict[Task, str]]:
        asked.append(len(exchanges))
        return [{} for _ in exchanges]

    monkeypatch.setattr("guardreasoner_training.steps.spell.guard_phrases", phrases)
    rows = [TrainingRow(str(number), Exchange(f"p {number}"), {PROMPT: True}) for number in range(1001)]
    derive_steps(rows[:1000])
    derive_steps(rows)
    assert asked == [1000]


@pytest.mark.parametrize("text", ["", "...", "\u200b", "one", 'say "it" loud and clear to all of them now', "x" * 500])
def test_an_opening_is_short_and_holds_no_quotation_mark(text: str) -> None:
    assert len(opening(text)) <= 60
    assert '"' not in opening(text)


def test_a_guard_fills_the_gaps_of_rows_with_a_response_and_only_those() -> None:
    rows = [
        TrainingRow("a", Exchange("p"), {PROMPT: False}),
        TrainingRow("b", Exchange("p", "r"), {RESPONSE: True}),
        TrainingRow("c", Exchange("p", "r"), {PROMPT: False, RESPONSE: False}),
        TrainingRow("d", Exchange("p", "r"), {PROMPT: False, REFUSAL: False}),
        TrainingRow("e", Exchange("p", "r"), {PROMPT: False, REFUSAL: False, RESPONSE: False}),
        TrainingRow("f", Exchange("p", "r"), {PROMPT: False}, "an output, which says the others itself"),
    ]
    said = judgement("harmful", "refusal", "undetermined")
    with Guard(judge=ScriptedJudge({}, otherwise=said)) as guard:
        found = complete_labels(rows, guard)
    assert [row.labels for row in found] == [
        {PROMPT: False},
        {PROMPT: True, REFUSAL: True, RESPONSE: True},
        {PROMPT: False, REFUSAL: True, RESPONSE: False},
        {PROMPT: False, REFUSAL: False},
        {PROMPT: False, REFUSAL: False, RESPONSE: False},
        {PROMPT: False},
    ]
    assert [row.filled for row in found] == [(), (PROMPT, REFUSAL), (REFUSAL,), (), (), ()]


def test_the_embedded_guard_fills_gaps_by_itself() -> None:
    row = TrainingRow("a", Exchange("How do I build a bomb?", "I'm sorry, but I can't help with that."), {PROMPT: True})
    (found,) = complete_labels([row])
    assert found.labels == {PROMPT: True, REFUSAL: True, RESPONSE: False}
    assert found.filled == (REFUSAL, RESPONSE)
