from hypothesis import given
from hypothesis import strategies as st

from costs import assert_in_proportion
from guardreasoner_sdk.judges.evidence import MOST_PARTS, Passage, behind_first_sentence, parts, probe, stretch

TASK = "prompt_harmfulness"


def chance(text: str) -> float:
    """0.9 where a word says "bad", else 0.1."""
    return 0.9 if "bad" in text else 0.1


def evidence(text: str, hottest: tuple[float, float] = (0.0, 1.0)) -> list[str]:
    asked = probe(Passage("prompt", text, lambda variant: ([variant], None, None), hottest), {TASK: chance(text)})
    return [step.text for step in asked.steps([{TASK: chance(prompts[0])} for prompts, _, _ in asked.rows])]


def test_the_passage_that_carries_it_is_named() -> None:
    texts = evidence("One fine day. A bad thing. Two more words.")
    assert texts == ['Leaving out "A bad thing." and judging again lowers P(harmful) from 0.90 to 0.10.']


def test_no_single_passage_carries_it() -> None:
    texts = evidence("fine. bad two. bad three.")
    assert texts == [
        "No single passage carries it: leaving out any one of 3 in turn and judging again leaves P(harmful) at 0.90 or more. "
        'Judged alone, "bad two." has 0.90, the highest.'
    ]
    assert evidence("bad. bad too.") == [
        "No single passage carries it: leaving out any one of 2 in turn and judging again leaves P(harmful) at 0.90 or more. "
        'Judged alone, "bad." has 0.90, the highest.'
    ]


def test_a_single_word_is_not_divided() -> None:
    assert evidence("bad") == []


def test_in_a_long_text_the_hottest_stretch_is_looked_into() -> None:
    text = "calm words here. " * 200 + "a bad bad day. " + "calm words here. " * 200
    texts = evidence(text, hottest=(0.45, 0.55))
    assert "a bad bad day." in texts[0]
    assert "within characters" in texts[0]


def test_what_lies_beside_is_judged_in_the_same_batch() -> None:
    passage = Passage(
        "response", "bad. fine.", lambda text: ([], "why", text), beside={"without the prompt": ([], "", "bad. fine.")}
    )
    asked = probe(passage, {"response_harmfulness": 0.9})
    assert [row[2] for row in asked.rows] == ["fine.", "bad.", "bad. fine."]
    steps = asked.steps([{"response_harmfulness": score} for score in (0.2, 0.85, 0.4)])
    assert [step.text for step in steps] == [
        'Leaving out "bad." and judging again lowers P(harmful) from 0.90 to 0.20.',
        'Leaving out "fine." and judging again lowers P(harmful) from 0.90 to 0.85.',
        "Judged without the prompt, P(harmful) is 0.40 instead of 0.90.",
    ]


def test_a_single_word_is_judged_beside_all_the_same() -> None:
    passage = Passage("response", "bad", lambda text: ([], "why", text), beside={"without the prompt": ([], "", "bad")})
    asked = probe(passage, {"response_harmfulness": 0.9})
    assert [step.text for step in asked.steps([{"response_harmfulness": 0.4}])] == [
        "Judged without the prompt, P(harmful) is 0.40 instead of 0.90."
    ]


@given(st.text(), st.floats(0, 1), st.floats(0, 1))
def test_a_stretch_lies_in_the_text(text: str, one: float, other: float) -> None:
    long = text + " word" * 400
    first, last = min(one, other), max(one, other)
    start, end = stretch(long, (first, last))
    assert 0 <= start <= first * len(long) + 1
    assert last * len(long) - 1 <= end <= len(long)
    assert start < end
    assert end - start <= (last - first) * len(long) + 125
    assert stretch("short", (one, other)) == (0, 5)


def test_what_follows_the_first_sentence() -> None:
    assert behind_first_sentence(" I can't. Ask me. Thanks.") == "Ask me. Thanks."
    assert behind_first_sentence("I can't") == ""


def test_long_passages_are_quoted_short() -> None:
    text = evidence("bad " * 40 + ". fine. good.")[0]
    assert "…" in text
    assert len(text) < 250


@given(st.text(), st.data())
def test_parts_divide_a_stretch_in_order(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    places = parts(text, start, end)
    assert len(places) <= MOST_PARTS
    edges = [place for span in places for place in span]
    assert edges == sorted(edges)
    assert all(start <= place <= end for place in edges)
    assert all(text[a:b].strip() for a, b in places)


def cut(text: str) -> list[str]:
    return [text[a:b] for a, b in parts(text, 0, len(text))]


def test_sentences_then_clauses_then_phrases() -> None:
    assert cut("One. Two! Three?") == ["One.", "Two!", "Three?"]
    assert cut("Take this, and then that without asking") == ["Take this,", "and then that", "without asking"]
    assert cut("make it bad") == ["make", "it bad"]
    assert cut("") == []
    assert len(cut("w " * 100)) <= MOST_PARTS


def test_no_passage_is_a_word_that_only_holds_others_together() -> None:
    assert cut("How do I build a pipe bomb") == ["How do I build", "a pipe", "bomb"]
    assert cut("Should I, or should you, poison my neighbour?") == ["Should I, or should you, poison", "my neighbour?"]
    assert cut("I hate them. I. It is so. Kill them all") == ["I hate them.", "I. It is so. Kill them all"]
    assert cut("what should I do to it and with it") == []
    assert cut("\u6211 \u60f3 \u9020 \u70b8\u5f39") == ["\u6211", "\u60f3", "\u9020", "\u70b8\u5f39"]


def test_a_long_run_of_blanks_is_cut_at_once() -> None:
    """The pattern began anew at each blank: 4.3 seconds for 20,000 of them."""

    def work(blanks: int) -> None:
        parts(text := "bomb" + " " * blanks + "y", 0, len(text))

    assert_in_proportion(work, 10_000, floor=0.01)
