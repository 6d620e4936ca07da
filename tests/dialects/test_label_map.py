"""How the outputs of classifiers are read: pure, without any model."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardreasoner_sdk import ConfigurationError, Exchange
from guardreasoner_sdk.dialects.label_map import LabelMap, label_maps, labels_of
from guardreasoner_sdk.generation import Passage

PAGE = Path(__file__).parents[2] / "docs/classifiers.md"
FINITE = st.floats(allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize("name", list(label_maps()))
def test_every_map_says_where_it_is_from_and_stands_on_the_page_with_what_it_judges(name: str) -> None:
    found = label_maps()[name]
    assert found.source
    [row] = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith(f"| `{name}` |")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    tasks = ("prompt_harmfulness", "response_harmfulness", "response_refusal")
    assert [bool(cell) for cell in cells[2:5]] == [task in found.judges for task in tasks]
    assert bool(cells[5]) == (found.looks_for is not None)


@given(logits=st.lists(FINITE, min_size=3, max_size=3), temperature=st.floats(1e-3, 1e3), sigmoid=st.booleans())
def test_whatever_a_model_gives_a_score_is_a_probability(logits: list[float], temperature: float, sigmoid: bool) -> None:
    labels = {"a": "harmful: A", "b": "unharmful", "c": "harmful: C"}
    meanings = LabelMap(labels=labels, scores="sigmoid" if sigmoid else "softmax", temperature=temperature).bind(
        ["a", "b", "c"]
    )
    chances = meanings.probabilities(logits)
    if chances is None:  # divided by the temperature it is no number any more
        assert not all(math.isfinite(logit / temperature) for logit in logits)
        return
    assert all(0 <= chance <= 1 for chance in chances)
    assert 0 <= meanings.score(chances, "harmful") <= 1
    assert set(meanings.categories(chances)) <= {"A", "C"}


def test_labels_that_exclude_each_other_are_added_and_the_likeliest_names_the_category() -> None:
    meanings = LabelMap(labels={"0": "harmful: A", "1": "unharmful", "2": "harmful: C", "3": "ignored"}).bind(
        ["w", "x", "y", "z"]
    )
    chances = meanings.probabilities([math.log(3), math.log(4), math.log(2), math.log(1)])
    assert chances == pytest.approx((0.3, 0.4, 0.2, 0.1))
    assert meanings.score(chances, "harmful") == pytest.approx(0.5)
    assert meanings.categories(chances) == ("A",)
    assert meanings.probabilities([0.0, math.nan, 0.0, 0.0]) is None
    assert meanings.probabilities([0.0, math.inf, 0.0, 0.0]) is None


def test_labels_that_stand_for_themselves_name_each_category_and_the_strongest_decides() -> None:
    found = LabelMap(labels={"a": "harmful: A", "b": "harmful: B", "c": "refusal"}, threshold=0.4)
    meanings = found.bind(["a", "b", "c"], "multi_label_classification")
    chances = meanings.probabilities([math.log(0.45 / 0.55), math.log(0.9 / 0.1), -800.0])
    assert chances == pytest.approx((0.45, 0.9, 0.0))
    assert meanings.score(chances, "harmful") == pytest.approx(0.9)
    assert meanings.categories(chances) == ("A", "B")
    assert found.judges == ("prompt_harmfulness", "response_refusal", "response_harmfulness")
    with pytest.raises(ConfigurationError, match="cannot be labels that exclude each other"):
        found.bind(["a", "b", "c"])


def test_only_what_is_judged_is_read() -> None:
    alone, answered = Exchange("Hi", history=[{"role": "user", "content": "Earlier"}]), Exchange("Hi", "Hello")
    assert label_maps()["prompt-guard-2"].passages(answered) == {"prompt_harmfulness": Passage("Hi")}
    assert label_maps()["protectai-rejection"].passages(alone) == {}
    assert label_maps()["protectai-rejection"].passages(answered) == {"response_refusal": Passage("Hello")}
    assert label_maps()["harmaug"].passages(answered)["response_harmfulness"] == Passage("Hello", "Hi")
    assert label_maps()["duoguard"].passages(answered)["response_harmfulness"] == Passage("Hello")


@pytest.mark.parametrize(
    ("config", "labels"),
    [
        ({"id2label": {"1": "b", "0": "a"}}, ("a", "b")),
        ({"num_labels": 3}, ("LABEL_0", "LABEL_1", "LABEL_2")),
        ({}, ("LABEL_0", "LABEL_1")),
    ],
)
def test_labels_come_in_the_order_of_the_outputs(config: dict[str, Any], labels: tuple[str, ...]) -> None:
    assert labels_of(config) == labels


@pytest.mark.parametrize("named", [{"0": "a", "2": "b"}, {}, ["a", "b"], {"x": "a"}])
def test_labels_that_are_not_numbered_are_refused(named: Any) -> None:
    with pytest.raises(ConfigurationError, match="does not number its labels"):
        labels_of({"id2label": named})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"labels": ["harmful"]}, "labels: must be a mapping"),
        ({"labels": {"a": "unharmful: kind"}}, "'a' cannot mean 'unharmful: kind'"),
        ({"labels": {"a": 1}}, "'a' cannot mean 1"),
        ({"scores": "argmax"}, "scores: must be 'softmax' or 'sigmoid'"),
        ({"tasks": "prompt_harmfulness"}, "tasks: must be some of"),
        ({"tasks": ["toxicity"]}, "tasks: must be some of"),
        ({"threshold": True}, "threshold: must be a probability"),
        ({"temperature": math.inf}, "temperature: must be a number above 0"),
        ({"pair": "yes"}, "pair: must be true or false"),
        ({"window": 8}, "window: must be a whole number from 16"),
    ],
)
def test_a_field_that_cannot_work_is_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        LabelMap(**fields)
