"""Passages: phrases that mean something, around the tokens that score highest."""

from __future__ import annotations

import math
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from costs import assert_in_proportion
from guardreasoner_sdk.judges.evidence import Token, evidence, phrases, sentence
from guardreasoner_sdk.verdict import ReasoningStep

TASK = "prompt_harmfulness"
HIGH, LOW = 3.0, -3.0


def tokens(text: str, **logits: float) -> list[Token]:
    """A token for each word, with the logit of its name."""
    return [
        (found.start(), found.end(), logits.get(found[0].strip(".,?!").lower(), LOW)) for found in re.finditer(r"\S+", text)
    ]


def steps(text: str, least: float | None = 0.0, **logits: float) -> list[ReasoningStep]:
    return evidence(TASK, "prompt", text, [tokens(text, **logits)], least=least)


def texts(text: str, least: float | None = 0.0, **logits: float) -> list[str]:
    return [step.text for step in steps(text, least, **logits)]


def test_the_passage_that_carries_it_is_named_with_its_place_and_weight() -> None:
    text = "One fine day. We had storms at sea. Two more words."
    (step,) = steps(text, storms=HIGH)
    assert step.text == '"We had storms" carries it: P(harmful) there is 0.95.'
    assert step.span is not None
    assert text[step.span.start : step.span.end] == "We had storms"
    assert step.weight == pytest.approx(1 / (1 + math.exp(-HIGH)))
    assert step.score_without is None


def test_neighbours_that_carry_it_alike_are_one_passage_and_others_are_not() -> None:
    assert texts("How do I make a big storm at home today?", big=HIGH, storm=HIGH - 0.5) == [
        '"a big storm" carries it: P(harmful) there is 0.95.'
    ]
    # Much weaker than the strongest, or over the end of a sentence, a neighbour is none.
    assert texts("Make a big storm.", big=HIGH, storm=0.5) == ['"a big" carries it: P(harmful) there is 0.95.']
    assert texts("Calm storm. Storm calm.", storm=HIGH) == [
        '"storm." carries it: P(harmful) there is 0.95.',
        '"Storm" carries it: P(harmful) there is 0.95.',
    ]


def test_the_strongest_passages_come_first_and_are_three_at_most() -> None:
    text = " ".join(f"Calm words here. The {word}." for word in ("alpha", "beta", "gamma", "delta"))
    found = steps(text, alpha=2.0, beta=3.0, gamma=2.5, delta=1.9)
    assert [step.text.split('"')[1] for step in found] == ["The beta.", "The gamma.", "The alpha."]


def test_only_what_reaches_the_threshold_carries_a_finding() -> None:
    assert texts("Calm storm calm thunder calm", 2.0, storm=2.2, thunder=1.9) == [
        '"storm" carries it: P(harmful) there is 0.90.'
    ]
    # The window as a whole may reach it where none of its words does.
    assert texts("Calm storm calm thunder calm", 2.5, storm=2.2) == ['"storm" carries it: P(harmful) there is 0.90.']


def test_what_comes_nearest_is_named_where_nothing_was_found() -> None:
    assert texts("Calm words here", None, words=-1.0) == ['"words here" comes nearest: P(harmful) there is 0.27.']


def test_it_is_said_where_no_single_passage_stands_out() -> None:
    text = "storms " * 12 + "calm calm calm"
    assert texts(text, storms=HIGH) == [
        'No single passage stands out: P(harmful) is 0.95 or more in 12 of 15 phrases; "storms" has the highest, 0.95.'
    ]
    assert texts("storms storms", storms=HIGH) == ['"storms storms" carries it: P(harmful) there is 0.95.']


def test_how_a_text_was_read_is_told_and_a_place_in_another_one() -> None:
    text = "make storms"
    (step,) = evidence(
        TASK, "prompt", text, [tokens(text, storms=HIGH)], least=0.0, before="Once decoded: ", place=lambda a, b: (a + 7, b + 7)
    )
    assert step.text == 'Once decoded: "storms" carries it: P(harmful) there is 0.95.'
    assert (step.span.start, step.span.end) == (12, 18)
    (step,) = evidence(TASK, "prompt", text, [tokens(text, storms=HIGH)], least=0.0, place=lambda a, b: None)
    assert step.span is None


def test_text_without_words_has_no_passage() -> None:
    assert evidence(TASK, "prompt", "", [[]], least=0.0) == []
    assert evidence(TASK, "prompt", "  ", [[(1, 1, HIGH)]], least=0.0) == []
    assert texts("...", storms=HIGH) == ['"..." carries it: P(harmful) there is 0.05.']


def test_of_a_script_without_blanks_a_part_is_named() -> None:
    text = "\u4eca\u5929\u5929\u6c14\u5f88\u597d" * 8 + "\u66b4\u98ce\u96e8" + "\u4eca\u5929\u5929\u6c14\u5f88\u597d" * 8
    given = [(at, at + 1, HIGH if text[at] in "\u66b4\u98ce\u96e8" else LOW) for at in range(len(text))]
    (step,) = evidence(TASK, "prompt", text, [given], least=0.0)
    assert text[step.span.start : step.span.end] == "\u66b4\u98ce\u96e8"


def test_long_passages_are_quoted_short() -> None:
    word = "x" * 500
    (text,) = texts(f"Calm {word} calm", **{word: HIGH})
    assert "…" in text
    assert len(text) < 250


@given(st.text(), st.data())
def test_steps_lie_in_any_text(text: str, data: st.DataObject) -> None:
    edges = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=30)))
    given = [(a, b, data.draw(st.floats(-20, 20))) for a, b in pairwise(edges)]
    found = evidence(TASK, "prompt", text, [given], least=data.draw(st.none() | st.floats(-5, 5)))
    spans = [(step.span.start, step.span.end) for step in found if step.span is not None]
    assert len(spans) == len(found) <= 3
    assert all(0 <= start < end <= len(text) for start, end in spans)
    ordered = sorted(spans)
    assert all(one[1] <= other[0] for one, other in pairwise(ordered)), "none overlaps another"


@given(st.text(), st.data())
def test_phrases_divide_a_stretch_in_order(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    places = [place for sentence in phrases(text, start, end) for place in sentence]
    edges = [place for span in places for place in span]
    assert edges == sorted(edges)
    assert all(start <= place <= end for place in edges)
    assert all(text[a:b] == text[a:b].strip() != "" for a, b in places)


def cut(text: str) -> list[list[str]]:
    return [[text[a:b] for a, b in sentence] for sentence in phrases(text, 0, len(text))]


def test_no_phrase_is_a_word_that_only_holds_others_together() -> None:
    assert cut("How do I build a pipe organ") == [["How do I build", "a pipe", "organ"]]
    assert cut("Should I, or should you, surprise my neighbour?") == [["Should I, or should you, surprise", "my neighbour?"]]
    assert cut("I hate rain. I. It is so. Bring it all") == [["I hate", "rain."], ["I."], ["It is so."], ["Bring it all"]]
    assert cut("what should I do to it and with it") == [["what should I do to it and with it"]]
    assert cut("\u6211 \u60f3 \u9020 \u8239\u3002\u597d") == [["\u6211", "\u60f3", "\u9020", "\u8239\u3002"], ["\u597d"]]
    assert cut("") == []


def test_a_long_run_of_blanks_is_cut_at_once() -> None:
    """The pattern began anew at each blank: 4.3 seconds for 20,000 of them."""

    def work(blanks: int) -> None:
        phrases(text := "storm" + " " * blanks + "y", 0, len(text))

    assert_in_proportion(work, 10_000, floor=0.01)


def test_evidence_of_a_window_full_of_phrases_is_quick() -> None:
    def work(words: int) -> None:
        steps("storm calm " * words, storm=HIGH)

    assert_in_proportion(work, 200, floor=0.01)


# --- The sentence in which a word stands ---


@pytest.mark.parametrize(
    ("text", "word", "whole"),
    [
        ("One day. We had storms at sea! Two more.", "storms", "We had storms at sea!"),
        ("storms at sea", "storms", "storms at sea"),
        ("- bake\n- brew storms \n- rest", "storms", "- brew storms"),
        ("1. bake\n2. brew storms\n3. rest", "storms", "brew storms"),
        ("\u4f60\u597d\u3002\u98a8\u66b4\u3002\u4f60\u597d", "\u98a8\u66b4", "\u98a8\u66b4\u3002"),
        ("He said: brew storms; then rest. Why?", "storms", "He said: brew storms; then rest."),
        ("A bake\nBrew storms\nRest", "storms", "Brew storms"),
        (
            f"{'We bake all day ' * 4}and\nbrew storms, and rest. Why?",
            "storms",
            f"{'We bake all day ' * 4}and\nbrew storms, and rest.",
        ),
        (f"{'We bake all day ' * 4}and\n\nbrew storms", "storms", "brew storms"),
        (f"{'We bake all day ' * 4}and\n  * brew storms", "storms", "* brew storms"),
        ("bake\uff0ebrew storms\uff0erest", "storms", "brew storms\uff0e"),
        ("Storms", "Storms", "Storms"),
    ],
)
def test_the_sentence_of_a_word(text: str, word: str, whole: str) -> None:
    at = text.index(word)
    start, end = sentence(text, at, at + len(word))
    assert text[start:end] == whole


@given(st.text(max_size=80), st.text(st.characters(exclude_categories=["Z", "Cc"]), min_size=1, max_size=9), st.integers(0, 99))
def test_a_sentence_holds_its_word_and_is_never_long(around: str, word: str, times: int) -> None:
    text = f"{around * times} {word} {around * times}"
    at = len(around) * times + 1
    start, end = sentence(text, at, at + len(word))
    assert start <= at
    assert at + len(word) <= end
    assert end - start <= 800 + len(word)
    assert text[start:end] == text[start:end].strip()
