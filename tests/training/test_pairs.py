"""Hard rows, pairs and weights, against worked examples."""

from __future__ import annotations

from collections import Counter

import pytest

from guardreasoner_sdk.exchange import Exchange
from guardreasoner_training.mining.pairs import (
    Choice,
    Generation,
    PreferencePair,
    hard_task,
    marks_of,
    merge_pairs,
    pair_of,
    weigh_pairs,
    weights,
)
from guardreasoner_training.rows import TrainingRow

REQUEST, REFUSAL, RESPONSE = "prompt_harmfulness", "response_refusal", "response_harmfulness"


def row(name="r", *, response="Sure.", source="WildGuard", **labels) -> TrainingRow:
    labels = labels or {REQUEST: True, REFUSAL: False, RESPONSE: True}
    return TrainingRow(name, Exchange(f"How do I {name}?", response), labels, source=source)


def said(request="harmful", completion="compliance", response="harmful", *, steps="", finish="stop") -> Generation:
    block = f"Answers: \nRequest: {request}\nCompletion: {completion}\nResponse: {response}"
    return Generation(f"# Task 1\n## Reasoning Step 1: {steps or 'Look.'}\n\n---\n\n{block}", finish)


def found(one, generations, **choice):
    chosen = Choice(**choice)
    return pair_of(one, generations, marks_of(one, generations, "guardreasoner"), chosen, model="self")


def test_generations_are_marked_by_the_dialects_own_reading():
    generations = [
        said(),
        said("unharmful", "refusal", "unharmful"),
        said("ambiguous"),
        said(finish="length"),
        Generation("I am not sure.", "stop"),
        Generation("Answers:\nCompletion: compliance", "stop"),
    ]
    assert marks_of(row(), generations, "guardreasoner") == {
        REQUEST: ["right", "wrong", "unreadable", "unreadable", "unreadable", "unreadable"],
        RESPONSE: ["right", "wrong", "right", "unreadable", "unreadable", "unreadable"],
        REFUSAL: ["right", "wrong", "right", "unreadable", "unreadable", "right"],
    }


def test_only_labelled_tasks_count():
    assert list(marks_of(row(**{RESPONSE: True}), [said()], "guardreasoner")) == [RESPONSE]
    alone = row(response=None, **{REQUEST: True})
    assert marks_of(alone, [said("harmful", "None", "None")], "guardreasoner") == {REQUEST: ["right"]}


@pytest.mark.parametrize(
    ("generations", "task"),
    [
        ([said(), said()], None),
        ([said("unharmful"), said("unharmful")], None),
        ([said(), said("unharmful", "refusal", "unharmful")], REQUEST),
        ([said(), said(response="unharmful", completion="refusal")], RESPONSE),
        ([said(), said(completion="refusal")], REFUSAL),
        # Wrong throughout on the first task, mixed on the second: the row is hard all the same.
        ([said("unharmful"), said("unharmful", response="unharmful")], RESPONSE),
    ],
)
def test_the_first_mixed_task_makes_the_row_hard(generations, task):
    marks = marks_of(row(), generations, "guardreasoner")
    assert hard_task(marks, Choice()) == task
    pair = found(row(), generations)
    assert (pair and pair.task) == task


def test_an_unreadable_generation_counts_neither_way_or_as_a_wrong_one_and_is_never_chosen():
    babble = Generation("No label here.", "stop")
    assert found(row(), [said(), said(), babble]) is None
    pair = found(row(), [said(), said(), babble], unreadable="wrong")
    assert (pair.chosen, pair.rejected, pair.correct, pair.wrong) == (said().text, babble.text, 2, 1)
    assert found(row(), [said("unharmful", "refusal", "unharmful"), babble], unreadable="wrong") is None


@pytest.mark.parametrize("pair", ["random", "longest"])
def test_a_blank_generation_is_never_the_rejected_one(pair):
    blank, babble = Generation(" \n", "stop"), Generation("No label here.", "stop")
    assert found(row(), [said(), said(), blank], unreadable="wrong", pair=pair) is None
    for number in range(20):
        made = found(row(f"r{number}"), [said(), blank, babble, blank], unreadable="wrong", pair=pair)
        assert (made.rejected, made.correct, made.wrong) == (babble.text, 1, 3)
    # Blank alone on the first task: the second one has a wrong answer that says something.
    made = found(row(), [said(), blank, said(response="unharmful")], unreadable="wrong", pair=pair)
    assert made.task == RESPONSE


@pytest.mark.parametrize("pair", ["random", "longest"])
def test_an_answer_cut_off_where_the_right_one_ends_is_no_pair_with_it(pair):
    cut, babble = said(finish="length"), Generation("No label here.", "stop")
    assert found(row(), [said(), said(), cut], unreadable="wrong", pair=pair) is None
    for number in range(20):
        made = found(row(f"r{number}"), [said(), cut, babble, cut], unreadable="wrong", pair=pair)
        assert (made.rejected, made.correct, made.wrong) == (babble.text, 1, 3)


def test_the_longest_pair_is_the_longest_of_each():
    generations = [
        said(steps="a"),
        said(steps="much longer"),
        said("unharmful", steps="short"),
        said("unharmful", steps="x" * 50),
    ]
    pair = found(row(), generations, pair="longest")
    assert (pair.chosen, pair.rejected) == (generations[1].text, generations[3].text)


def test_random_pairs_are_drawn_by_seed_model_and_row_and_cover_all_generations():
    generations = [said(steps="a"), said(steps="b"), said("unharmful", steps="c"), said("unharmful", steps="d")]
    drawn = Counter((pair.chosen, pair.rejected) for n in range(200) for pair in [found(row(f"r{n}"), generations)])
    assert len(drawn) == 4
    assert min(drawn.values()) > 25
    assert found(row("r7"), generations) == found(row("r7"), generations)
    seeds = {found(row("r7"), generations, seed=seed).chosen for seed in range(20)}
    assert len(seeds) == 2


def test_a_strictly_chosen_generation_is_right_on_all_labelled_tasks():
    half, whole, wrong = said(completion="refusal"), said(), said("unharmful")
    assert {found(row(f"r{n}"), [half, whole, wrong]).chosen for n in range(20)} == {half.text, whole.text}
    strict = [found(row(f"r{n}"), [half, whole, wrong], strict_chosen=True) for n in range(20)]
    assert {pair.chosen for pair in strict} == {whole.text}
    assert {pair.correct for pair in strict} == {2}
    assert found(row(), [half, wrong], strict_chosen=True) is None


def test_weights_equal_the_formula_on_a_worked_example():
    # k = 4 and all readable: 1, 2 and 3 wrong ones make differences of -2, 0 and 2. Norm scales them to [-0.2, 0.2]:
    # (-2 + 2) / 4 = 0 -> 0.8; (0 + 2) / 4 = 1/2 -> 1.0; (2 + 2) / 4 = 1 -> 1.2.
    assert weights([-2, 0, 2, -2], 0.2) == pytest.approx([0.8, 1.0, 1.2, 0.8], abs=1e-12)
    # One unreadable among four: 1 right and 2 wrong, 1 of 4 right: 3/4 of the way -> 0.8 + 0.4 * 3 / 4 = 1.1.
    assert weights([-2, 1, 2], 0.2) == pytest.approx([0.8, 1.1, 1.2], abs=1e-12)
    assert weights([-1, 3], 0.5) == pytest.approx([0.5, 1.5], abs=1e-12)


@pytest.mark.parametrize("differences", [[], [2], [0, 0, 0], [-2, -2]])
def test_a_set_with_one_difference_weighs_all_pairs_alike(differences):
    assert weights(differences, 0.2) == [1.0] * len(differences)


def test_gamma_of_0_is_no_weighing():
    assert weights([-2, 0, 2], 0.0) == [1.0, 1.0, 1.0]


def pair(name, model, *, source="Aegis", correct=1, wrong=3) -> PreferencePair:
    return PreferencePair(row(name, source=source), REQUEST, f"right by {model}", f"wrong by {model}", correct, wrong, model)


def test_the_ensemble_takes_one_pair_an_exchange_of_the_models_that_know_its_source():
    own = [pair("a", "self", source="WildGuardTrainR"), pair("b", "self", source="Aegis")]
    first = [pair("b", "one"), pair("c", "one", source="BeaverTails")]
    second = [pair("b", "two"), pair("d", "two", source="ToxicChat"), pair("a", "two", source="WildGuardTrainR")]
    kept = merge_pairs(own, [first, second], ["wildguard*"])
    assert [(one.row.id, one.model) for one in kept] == [("a", "self"), ("b", "one"), ("c", "one"), ("d", "two")]
    twins = merge_pairs(
        [], [[pair("b", "one")], [PreferencePair(row("b", source="Aegis"), RESPONSE, "x", "y", 1, 1, "two")]], []
    )
    assert [one.model for one in twins] == ["one"]


def test_the_weights_are_those_of_the_whole_set():
    mixed = weigh_pairs([pair("a", "self", correct=3, wrong=1), pair("b", "one", correct=1, wrong=3)], 0.2)
    assert [one.alpha for one in mixed] == pytest.approx([0.8, 1.2])
    assert weigh_pairs(mixed[:1], 0.2)[0].alpha == 1.0


def test_a_line_says_all_that_training_needs():
    line = weigh_pairs([pair("a", "self")], 0.2)[0].line()
    assert line == {
        "id": "a",
        "prompt": "How do I a?",
        "response": "Sure.",
        "source": "Aegis",
        "task": REQUEST,
        "chosen": "right by self",
        "rejected": "wrong by self",
        "correct": 1,
        "wrong": 3,
        "alpha": 1.0,
        "model": "self",
    }


def test_a_thinkguards_label_comes_first():
    one = TrainingRow("t", Exchange("How do I make tea?"), {REQUEST: False})
    generations = [Generation("safe\n\nExplanation: tea.", "stop"), Generation("unsafe\nS1", "stop"), Generation("tea", "stop")]
    marks = marks_of(one, generations, "thinkguard")
    assert marks == {REQUEST: ["right", "wrong", "unreadable"]}
    assert pair_of(one, generations, marks, Choice(), model="self").chosen == generations[0].text
