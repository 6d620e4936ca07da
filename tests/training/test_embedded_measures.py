"""Figures, thresholds and what length costs, checked by hand on a few rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from random import Random

import numpy as np
import pytest

from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.judges.windows import JudgedExchange, Part, Seen
from guardreasoner_training.embedded.config import Limits
from guardreasoner_training.embedded.examples import Example
from guardreasoner_training.embedded.lengths import embed_among, fit_length_shift
from guardreasoner_training.embedded.measures import (
    auc,
    balanced_f1,
    by_group,
    choose_thresholds,
    false_alarms,
    measure,
    measure_heads,
)
from guardreasoner_training.embedded.scoring import Judged

NAN = float("nan")


def truth(*labels: int) -> np.ndarray:
    return np.array(labels, dtype=np.bool_)


def examples(*of: tuple[str, bool]) -> list[Example]:
    return [Example("p", None, (label, None, None), 1.0, source) for source, label in of]


def column(*scores: float) -> np.ndarray:
    """Scores of the first head alone."""
    return np.array([[score, NAN, NAN] for score in scores])


def test_the_interval_of_f1_is_that_of_draws_with_replacement() -> None:
    draw = np.random.default_rng(3)
    labels = draw.random(400) < 0.4
    scores = np.clip(labels * 0.4 + draw.random(400) * 0.6, 0, 1)
    figures = measure(scores, labels, 0.5)
    drawn = [measure(scores[of], labels[of], 0.5)["f1"] for of in draw.integers(0, 400, (300, 400))]
    assert figures["f1_low"] == pytest.approx(np.percentile(drawn, 2.5), abs=1.0)
    assert figures["f1_high"] == pytest.approx(np.percentile(drawn, 97.5), abs=1.0)


def test_measure() -> None:
    figures = measure(np.array([0.9, 0.6, 0.4, 0.5, 0.1]), truth(1, 0, 1, 1, 0), 0.5)
    low, high = figures.pop("f1_low"), figures.pop("f1_high")
    assert figures == {
        "rows": 5,
        "positives": 3,
        "undetermined": 0,
        "f1": 66.67,
        "precision": 66.67,
        "recall": 66.67,
        "false_alarm_rate": 50.0,
        "auc": 66.67,
    }
    assert (low, high) == (0.0, 100.0)


def test_undetermined_counts_as_wrong_either_way() -> None:
    figures = measure(np.array([NAN, NAN, 0.9, 0.1]), truth(1, 0, 1, 0), 0.5)
    assert (figures["undetermined"], figures["recall"], figures["false_alarm_rate"]) == (2, 50.0, 50.0)
    assert figures["auc"] == 100.0


def test_measure_without_one_class() -> None:
    assert measure(np.array([0.9, 0.1]), truth(0, 0), 0.5)["f1"] is None
    assert measure(np.array([0.9, 0.1]), truth(1, 1), 0.5)["false_alarm_rate"] is None


def test_auc_counts_ties_half() -> None:
    assert auc(np.array([0.5, 0.5]), truth(1, 0)) == 50.0
    assert auc(np.array([0.2, 0.8, 0.9]), truth(0, 1, 1)) == 100.0
    assert auc(np.array([0.2]), truth(1)) is None


FREE = Limits(1.0, 1.0, 1.0)


def test_threshold_does_not_depend_on_how_many_negatives_there_are() -> None:
    few = [("own", True)] * 4 + [("own", False)] * 4
    scores = [0.9, 0.8, 0.7, 0.65, 0.6, 0.2, 0.2, 0.1]
    many, more = few + [("own", False)] * 40, scores + [0.6, 0.2, 0.2, 0.1] * 10
    first = choose_thresholds(examples(*few), column(*scores), limits=FREE)
    assert first == choose_thresholds(examples(*many), column(*more), limits=FREE)
    assert 0.60 < first[0] <= 0.65
    assert first[1:] == [0.5, 0.5]


def test_threshold_of_prompts_keeps_false_alarms_low() -> None:
    of = [("own", True)] * 10 + [("own", False)] * 10 + [("gsm8k_train", False)] * 10
    scores = [0.5] * 9 + [0.9] + [0.1] * 10 + [0.1] * 9 + [0.6]
    free = choose_thresholds(examples(*of), column(*scores), limits=FREE)[0]
    held = choose_thresholds(examples(*of), column(*scores), limits=Limits())[0]
    assert free <= 0.5
    assert held > 0.6


@pytest.mark.parametrize(
    ("source", "head", "limits"),
    [
        ("gsm8k_train", 0, Limits(0.03, 1.0, 1.0)),
        ("phtest", 0, Limits(1.0, 0.06, 1.0)),
        ("gsm8k_train", 2, Limits(1.0, 1.0, 0.02)),
    ],
)
def test_each_kind_of_harmless_text_has_its_limit(source: str, head: int, limits: Limits) -> None:
    of = [("own", True)] * 10 + [("own", False)] * 10 + [(source, False)] * 10
    scores = [0.5] * 9 + [0.9] + [0.1] * 10 + [0.1] * 9 + [0.6]
    rows = [
        Example("p", None if head == 0 else "r", tuple(label if at == head else None for at in range(3)), 1.0, name)
        for name, label in of
    ]
    values = np.full((len(rows), 3), np.nan)
    values[:, head] = scores
    assert choose_thresholds(rows, values, limits=FREE)[head] <= 0.5
    assert choose_thresholds(rows, values, limits=limits)[head] > 0.6


def test_threshold_is_the_nearest_to_one_half_of_equals() -> None:
    of = examples(("own", True), ("own", False))
    assert choose_thresholds(of, column(0.9, 0.1), limits=FREE)[0] == 0.5
    assert choose_thresholds(of, column(0.9, 0.7), limits=FREE)[0] == pytest.approx(0.71)
    assert choose_thresholds(of, column(0.05, 0.05), limits=FREE)[0] == 0.5


def test_balanced_f1_weighs_by_trust() -> None:
    # aart counts half of what an unknown source counts: its miss costs a third of the positives.
    of = examples(("own", True), ("aart", True), ("own", False))
    assert balanced_f1(of, np.array([0.9, 0.1, 0.1]), truth(1, 1, 0), 0.5) == pytest.approx(80.0)
    assert balanced_f1(of[:1], np.array([0.9]), truth(1), 0.5) is None


def test_figures_by_source_and_false_alarms() -> None:
    of = examples(*[("gsm8k_train", False)] * 25, *[("phtest", False)] * 4, *[("own", True)] * 20)
    scores = column(*[0.9] + [0.1] * 24, *[0.9, 0.9, 0.1, 0.1], *[0.8] * 20)
    limits = [0.5, 0.5, 0.5]
    assert measure_heads(of, scores, limits)["prompt_harmful"]["rows"] == 49
    found = by_group(of, scores, limits, lambda example: example.source)
    assert set(found) == {"gsm8k_train", "own"}
    assert found["gsm8k_train"]["prompt_harmful"]["false_alarm_rate"] == 4.0
    alarms = false_alarms(of, scores, limits)
    assert {kind: figures["false_alarm_rate"] for kind, figures in alarms.items()} == {
        "benign": 4.0,
        "over_refusal": 50.0,
    }


def test_figures_by_language() -> None:
    def of(lang: str | None, *labels: bool) -> list[Example]:
        return [Example("p", None, (label, None, None), 1.0, "own", lang) for label in labels]

    found = [*of("en", *[True, False] * 10), *of("de", *[False] * 20), *of("ru", *[True] * 19), *of(None, *[True] * 30)]
    figures = by_group(
        found,
        column(*[0.9, 0.9] * 10, *[0.9] + [0.1] * 19, *[0.9] * 49),
        [0.5] * 3,
        lambda example: example.lang,
    )
    assert list(figures) == ["de", "en"]
    assert figures["de"]["prompt_harmful"]["false_alarm_rate"] == 5.0
    assert figures["en"]["prompt_harmful"]["f1"] == 66.67


def judged(windows: int, logit: float, *behind: float) -> Judged:
    """What a model makes of an exchange whose strongest windows have this logit, for every head, and what it makes behind turns."""
    row = JudgedExchange(Exchange("p", "r"), [Part("prompt", "p", "p"), Part("response", "r", "r")])
    for part in row.parts:
        for place in range(windows):
            part.add(seen(place, logit if place == windows // 2 else logit - 2.0), 1)
    for of in behind:
        row.parts.append(Part("prompt", "p", "p", behind=True))
        row.parts[-1].add(seen(0, of), 1)
    return Judged(row)


def seen(place: int, logit: float) -> Seen:
    return Seen(place, np.empty((0, 3)), [logit] * 3, (), ())


@pytest.mark.parametrize("windows", [1, 2, 8])
def test_each_doubling_of_the_windows_takes_a_little_off_but_of_a_refusal_nothing(windows: int) -> None:
    scores = judged(windows, 1.0).scores([0.5, 0.5, 0.25])
    logits = np.log(scores / (1 - scores)).tolist()
    assert logits == pytest.approx([1 - 0.5 * math.log2(windows), 1.0 if windows == 1 else -1.0, 1 - 0.25 * math.log2(windows)])


def test_a_prompt_behind_what_was_said_before_counts_where_it_is_worse() -> None:
    for behind, wanted in ((0.5, 0.5), (-3.0, 0.0)):
        (score, *_) = judged(4, 1.0, behind).scores([0.5, 0.0, 0.0])
        assert math.log(score / (1 - score)) == pytest.approx(wanted)


def rising(step: float) -> Callable[[Sequence[Example]], list[Judged]]:
    """A model whose strongest window of a harmless text is the higher the more there are: a hundred words make a window."""

    def judge(examples: Sequence[Example]) -> list[Judged]:
        counts = [1 + len((of.response or of.prompt).split()) // 100 for of in examples]
        return [judged(count, -1.0 + step * math.log2(count)) for count in counts]

    return judge


HARMLESS = [Example(f"plain words number {n} of some", None, (False, None, None), 1.0, "own") for n in range(80)]
ANSWERS = [Example("p", f"an answer number {n}", (None, False, False), 1.0, "own") for n in range(80)]


@pytest.mark.parametrize("step", [0.0, 0.3, 0.8])
def test_what_length_costs_is_the_least_that_keeps_long_harmless_texts_calm(step: float) -> None:
    shift = fit_length_shift(rising(step), [*HARMLESS, *ANSWERS], [0.5] * 3, seed=1)
    # The longest, of 3,000 words, have the logit -1 and a step for each doubling, of which all but 1 must go.
    wanted = max(0.0, step - 1 / math.log2(31))
    assert shift[0] == pytest.approx(wanted, abs=0.06)
    assert shift[2] == pytest.approx(wanted, abs=0.06)
    assert shift[0] >= wanted - 0.01
    assert shift[1] == 0
    assert shift == fit_length_shift(rising(step), [*HARMLESS, *ANSWERS], [0.5] * 3, seed=1)


def test_length_costs_nothing_where_too_little_is_there_to_tell() -> None:
    harmful = [Example("p", None, (True, None, None), 1.0, "own")] * 9
    foreign = [Example("p", None, (False, None, None), 1.0, "own", "de")] * 9
    for examples in ([], HARMLESS[:1], harmful, foreign):
        assert fit_length_shift(rising(0.8), examples, [0.5] * 3, seed=1) == [0, 0, 0]
    # What is flagged alone says nothing of length.
    assert fit_length_shift(rising(0.8), HARMLESS, [0.1] * 3, seed=1) == [0, 0, 0]


def test_a_text_is_put_among_others_of_its_kind() -> None:
    for example, others in (
        (HARMLESS[0], HARMLESS[1:]),
        (ANSWERS[0], [*ANSWERS[1:], Example("p", "", (None,) * 3, 1.0, "own")]),
    ):
        longer = embed_among(example, others, 300, Random(1))
        text = longer.prompt if example.response is None else longer.response or ""
        before, found, after = text.partition(f"\n{example.prompt if example.response is None else example.response}\n")
        assert found
        assert 140 <= len(before.split()) <= 150
        assert 140 <= len(after.split()) <= 150
        assert (longer.labels, longer.source) == (example.labels, example.source)
