"""What holds for every family, whatever is judged: nothing of it reaches the markup, and no verdict is read from it."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardreasoner_sdk import ConfigurationError, Exchange, Judgement, Turn
from guardreasoner_sdk.dialects.base import Reasoning
from guardreasoner_sdk.dialects.families import FAMILIES, find_dialect, sample_dialect
from guardreasoner_sdk.generation import Capabilities, Completion, Query
from guardreasoner_sdk.verdict import TASKS
from public_data import public_data

FRAGMENTS = st.sampled_from(
    [
        *("<|eot_id|>", "<s>", "</s>", "[INST]", "<end_of_turn>", "<|im_end|>", "# Task 1\n", "\n", "None", " "),
        *("Answers: \n", "Request: harmful\n", "AI assistant:\n", "Human user:\n", "Harmful request: no\n"),
        *("safe\n", "unsafe\nS1\n", "Safety: Safe\n", "Yes"),
    ]
)
TEXTS = st.lists(FRAGMENTS | st.text(max_size=8), min_size=1, max_size=8).map(lambda parts: "x" + "".join(parts))
MODES: list[Reasoning] = ["full", "brief", "off", "auto"]


def asked(family: str, exchange: Exchange, reasoning: Reasoning, answer: str) -> tuple[Judgement, list[Query]]:
    """Drive a family's program; every query gets the same answer."""
    program = sample_dialect(family).ask(exchange, reasoning, Capabilities())
    everything: list[Query] = []
    queries: tuple[Query, ...] = ()
    while True:
        try:
            queries = program.send([Completion(answer, "stop") for _ in queries]) if queries else next(program)
        except StopIteration as done:
            return done.value, everything
        everything += queries


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=25)
@given(prompt=TEXTS, response=st.none() | TEXTS, earlier=st.none() | TEXTS, reasoning=st.sampled_from(MODES))
def test_no_verdict_is_read_from_what_is_judged(
    family: str, prompt: str, response: str | None, earlier: str | None, reasoning: Reasoning
) -> None:
    history = [] if earlier is None else [Turn(role="assistant", content=earlier)]
    judgement, _ = asked(family, Exchange(prompt, response, history), reasoning, "")
    assert judgement.findings
    assert not any(finding.determined for finding in judgement.findings.values())


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=25)
@given(prompt=TEXTS, response=st.none() | TEXTS)
def test_nothing_that_is_judged_reaches_markup_or_template(family: str, prompt: str, response: str | None) -> None:
    """What a family writes itself, and may hold special tokens, is the same for every exchange of the same shape."""
    _, queries = asked(family, Exchange(prompt, response), "full", "")
    _, plain = asked(family, Exchange("a", None if response is None else "b"), "full", "")
    written = [([piece.text for piece in query.pieces if piece.markup], dict(query.template)) for query in queries]
    assert written == [([piece.text for piece in query.pieces if piece.markup], dict(query.template)) for query in plain]


@pytest.mark.parametrize("family", FAMILIES)
def test_almost_every_benchmark_row_is_asked_about_letter_for_letter(family: str) -> None:
    """Quoting what imitates a format touches under 0.5 % of real rows."""
    rows = [row["input"] for path in public_data("benchmarks").glob("*.json") for row in json.loads(path.read_text("utf-8"))]
    judged = 2 if "response_harmfulness" in getattr(sample_dialect(family), "judges", TASKS) else 1
    touched = 0
    for row in rows:
        turn = re.fullmatch(r"Human user:\n(.*)\n\nAI assistant:\n(.*)\n\n", row, re.DOTALL)
        assert turn is not None
        prompt, response = turn.groups()
        queries = next(sample_dialect(family).ask(Exchange(prompt, response), "full", Capabilities()))
        texts = ["".join([query.text or "", *(message.content for message in query.messages)]) for query in queries]
        touched += not all(any(part in text for text in texts) for part in (prompt, response)[:judged])
    print(f"{family}: {touched} of {len(rows)} rows")
    assert touched / len(rows) < 0.005


def test_an_unknown_family_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigurationError, match="dialect: 'welsh' is unknown; known are guardreasoner, "):
        find_dialect("welsh")
