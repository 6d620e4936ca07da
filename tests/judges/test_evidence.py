from hypothesis import given
from hypothesis import strategies as st

from guardreasoner_sdk.judges.evidence import MOST_PARTS, Passage, Row, find_evidence, parts
from guardreasoner_sdk.verdict import Task


def scorer(rows: list[Row]) -> tuple[list[dict[Task, float]], list[int]]:
    """P is 0.9 where a word says "bad", else 0.1; one token a word."""
    texts = [row[0][0] for row in rows]
    return (
        [{"prompt_harmfulness": 0.9 if "bad" in text else 0.1} for text in texts],
        [len(text.split()) for text in texts],
    )


def evidence(text: str) -> tuple[list[str], int]:
    steps, cost = find_evidence(
        Passage("prompt", text, lambda variant: ([variant], None, None)),
        {"prompt_harmfulness": scorer([([text], None, None)])[0][0]["prompt_harmfulness"]},
        scorer,  # type: ignore[arg-type]
    )
    return [step.text for step in steps], cost


def test_the_passage_that_carries_it_is_named() -> None:
    texts, cost = evidence("One fine day. A bad thing. Two more words.")
    assert texts == ['Leaving out "A bad thing." and judging again lowers P(harmful) from 0.90 to 0.10.']
    assert cost == 18


def test_no_single_passage_carries_it() -> None:
    texts, _ = evidence("bad one. bad two. bad three.")
    assert texts == [
        "No single passage carries it: leaving out any one of 3 in turn and judging again leaves P(harmful) at 0.90 or more."
    ]


def test_a_single_word_is_not_divided() -> None:
    assert evidence("bad") == ([], 0)


def test_in_a_long_text_the_hottest_stretch_is_looked_into() -> None:
    text = "calm words here. " * 200 + "a bad bad day. " + "calm words here. " * 200
    texts, _ = evidence(text)
    assert "a bad bad day." in texts[0]
    assert "within characters" in texts[0]


def test_long_passages_are_quoted_short() -> None:
    (text,) = evidence("bad " * 40 + ". fine. good.")[0][:1]
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


def test_sentences_then_clauses_then_words() -> None:
    def cut(text: str) -> list[str]:
        return [text[a:b] for a, b in parts(text, 0, len(text))]

    assert cut("One. Two! Three?") == ["One.", "Two!", "Three?"]
    assert cut("Take this, and then that without asking") == ["Take this,", "and then that", "without asking"]
    assert cut("make it bad") == ["make", "it", "bad"]
    assert cut("") == []
    assert len(cut("w " * 100)) <= MOST_PARTS
