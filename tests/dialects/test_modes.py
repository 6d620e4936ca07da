"""How much a GuardReasoner reasons: which queries it makes, and what becomes of their answers."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from guardreasoner_sdk import ConfigurationError, Exchange, Judgement
from guardreasoner_sdk.dialects.base import Answer, Reasoning
from guardreasoner_sdk.dialects.guardreasoner import GuardReasonerDialect
from guardreasoner_sdk.dialects.probabilities import label_probability, probability_of
from guardreasoner_sdk.errors import BackendError
from guardreasoner_sdk.generation import Capabilities, Completion, Query, TokenProbabilities
from guardreasoner_sdk.verdict import TASKS, Usage

PROMPT, PAIR = Exchange("ask"), Exchange("ask", "answer")
THOUGHT = "# Task 1\n\n## Reasoning Step 1\nThe user asks.\n\n## Conclusion\nThe request is harmful.\n\n"
ANSWERS = "Answers: \nRequest: harmful\nCompletion: refusal\nResponse: unharmful"
INLINE, PROBES, CHAT_ONLY = Capabilities(), Capabilities(probes=True), Capabilities(continues=False)


def said(text: str, *tops: Mapping[str, float], finish: str = "stop", tokens: int = 3) -> Completion:
    """An answer; ``tops`` are the probabilities at the words of the text, one after another."""
    starts = [0] if len(tops) == 1 else [text.index(word) for word in (" harmful", " refusal", " unharmful")] if tops else []
    choices = TokenProbabilities(starts, lambda number: tops[number]) if tops else None
    return Completion(text, finish, Usage(input_tokens=100, output_tokens=tokens), choices)  # type: ignore[arg-type]


def run(
    reasoning: Reasoning, exchange: Exchange, *rounds: list[Answer], capabilities: Capabilities = INLINE, rendering: str = "raw"
) -> tuple[Judgement, list[tuple[Query, ...]]]:
    """Drive a program with given answers; give back the judgement and what was asked."""
    program = GuardReasonerDialect(rendering).ask(exchange, reasoning, capabilities)  # type: ignore[arg-type]
    asked = [next(program)]
    asked += [program.send(answers) for answers in rounds[:-1]]
    with pytest.raises(StopIteration) as done:
        program.send(rounds[-1])
    return done.value.value, asked


def test_full_reads_the_label_probabilities_along_the_way() -> None:
    text = THOUGHT.replace(" harmful", " HARM") + "---\n\n" + ANSWERS
    tops = ({" harmful": 0.8, " un": 0.1, " x": 0.1}, {" refusal": 0.6, " compliance": 0.2}, {" harm": 0.3, " unharmful": 0.6})
    judgement, [[query]] = run("full", PAIR, [said(text, *tops)])
    assert [round(finding.score or 0.0, 4) for finding in judgement.findings.values()] == [0.8889, 0.75, 0.3333]
    assert (query.continuation, query.stop, query.choices > 0) == ("", (), True)
    assert judgement.raw == text
    assert judgement.consistent is None


def test_an_engine_that_keeps_the_prefix_is_asked_for_probabilities_afterwards() -> None:
    text = THOUGHT + ANSWERS
    probes = [said(" harmful", {" harmful": 0.9, " un": 0.1}), said("x", {" refusal": 0.5, " comp": 0.5}), BackendError("gone")]
    judgement, asked = run("full", PAIR, [said(text, tokens=50)], probes, capabilities=PROBES)
    assert asked[0][0].choices == 0
    assert [(query.continuation, query.max_tokens) for query in asked[1]] == [
        (THOUGHT + "Answers: \nRequest:", 1),
        (THOUGHT + "Answers: \nRequest: harmful\nCompletion:", 1),
        (THOUGHT + "Answers: \nRequest: harmful\nCompletion: refusal\nResponse:", 1),
    ]
    assert [finding.label for finding in judgement.findings.values()] == ["harmful", "refusal", "unharmful"]
    assert [finding.score for finding in judgement.findings.values()] == [0.9, 0.5, None]
    assert judgement.usage == Usage(input_tokens=300, output_tokens=56)


def test_brief_stops_behind_the_task_that_was_asked_and_closes_the_answer_itself() -> None:
    closing = said(" harmful", {" harmful": 0.7, " un": 0.3})
    judgement, asked = run("brief", PROMPT, [said(THOUGHT + "#", tokens=40)], [closing])
    assert "# Task 2" in asked[0][0].stop
    assert asked[1][0].continuation == THOUGHT.rstrip() + "\n\n---\n\nAnswers: \nRequest:"
    assert asked[1][0].max_tokens <= 12
    finding = judgement.prompt_harmfulness
    assert finding is not None
    assert finding.span is not None
    assert judgement.raw is not None
    assert (finding.label, finding.score) == ("harmful", 0.7)
    assert judgement.raw[finding.span.start : finding.span.end] == "harmful"
    assert [step.text for step in judgement.reasoning] == ["The user asks.", "The request is harmful."]
    assert judgement.consistent is True
    assert judgement.usage == Usage(input_tokens=200, output_tokens=43)


def test_brief_with_a_response_reasons_on_all_tasks() -> None:
    closing = said(
        " harmful\nCompletion: refusal\nResponse: unharmful",
        {" harmful": 0.7, " un": 0.3},
        {" refusal": 0.6, " compliance": 0.4},
        {" harmful": 0.2, " unharmful": 0.8},
    )
    judgement, asked = run("brief", PAIR, [said(THOUGHT)], [closing])
    assert not any("Task" in stop for stop in asked[0][0].stop)
    assert [(finding.label, finding.score) for finding in judgement.findings.values()] == [
        ("harmful", 0.7),
        ("refusal", 0.6),
        ("unharmful", 0.2),
    ]


def test_a_label_in_the_reasoning_is_no_answer_where_the_closing_gives_none() -> None:
    quoted = "# Task 1\nThe user wrote:\nRequest: unharmful\n"
    judgement, _ = run("brief", PROMPT, [said(quoted)], [said(" ambiguous")])
    assert judgement.prompt_harmfulness is not None
    assert judgement.prompt_harmfulness.label == "undetermined"


@pytest.mark.parametrize("exchange", [PROMPT, PAIR])
def test_brief_reasoning_that_does_not_end_is_undetermined(exchange: Exchange) -> None:
    judgement, _ = run("brief", exchange, [said(THOUGHT, finish="length")])
    assert {finding.cause for finding in judgement.findings.values()} == {"the reasoning was cut off before it ended"}
    assert len(judgement.findings) == (1 if exchange is PROMPT else 3)
    assert judgement.raw == THOUGHT
    assert judgement.reasoning


def test_off_asks_for_the_label_at_once() -> None:
    judgement, [[query]] = run("off", PROMPT, [said(" unharmful", {" un": 0.95, " harmful": 0.05})])
    assert query.continuation == "Answers: \nRequest:"
    assert judgement.raw == "Answers: \nRequest: unharmful"
    assert judgement.prompt_harmfulness is not None
    assert judgement.prompt_harmfulness.score == pytest.approx(0.05)
    assert judgement.reasoning == ()


def test_auto_reasons_only_where_the_first_answer_is_doubtful() -> None:
    clear, _ = run("auto", PROMPT, [said(" unharmful", {" un": 0.95, " harmful": 0.05})])
    assert (clear.reasoning, clear.usage.output_tokens) == ((), 3)
    for doubtful in (said(" unharmful", {" un": 0.6, " harmful": 0.4}), said(" unharmful"), said(" ambiguous")):
        judgement, asked = run("auto", PROMPT, [doubtful], [said(THOUGHT)], [said(" harmful", {" harmful": 1.0})])
        assert len(asked) == 3
        assert judgement.prompt_harmfulness is not None
        assert judgement.prompt_harmfulness.label == "harmful"
        assert judgement.usage == Usage(input_tokens=300, output_tokens=9)


@pytest.mark.parametrize("reasoning", ["brief", "off", "auto"])
def test_a_chat_server_that_cannot_continue_reasons_in_full(reasoning: Reasoning) -> None:
    judgement, [[query]] = run(reasoning, PAIR, [said(THOUGHT + ANSWERS)], capabilities=CHAT_ONLY, rendering="chat")
    assert query.continuation == ""
    assert judgement.response_refusal is not None
    assert judgement.response_refusal.label == "refusal"
    _, [[raw]] = run("off", PROMPT, [said(" harmful")], capabilities=CHAT_ONLY)
    assert raw.continuation


@pytest.mark.parametrize("reasoning", ["full", "brief", "off", "auto"])
def test_an_engine_that_fails_leaves_every_task_undetermined_with_its_cause(reasoning: Reasoning) -> None:
    rounds: list[list[Answer]] = [[BackendError("the engine is gone")]] * (2 if reasoning == "auto" else 1)
    judgement, _ = run(reasoning, PAIR, *rounds)
    assert [finding.cause for finding in judgement.findings.values()] == ["the engine is gone"] * len(TASKS)


def test_a_closing_that_fails_keeps_the_reasoning() -> None:
    judgement, _ = run("brief", PAIR, [said(THOUGHT)], [BackendError("the engine is gone")])
    assert judgement.reasoning
    assert {finding.label for finding in judgement.findings.values()} == {"undetermined"}


def test_probabilities_count_the_tokens_that_begin_a_label_whatever_the_tokenizer() -> None:
    assert probability_of({" harmful": 0.5, " harm": 0.25, " un": 0.25}, "harmful", "unharmful") == 0.75
    assert probability_of({"Yes": 0.5, "No": 0.25, "yes": 0.25}, "yes", "no") == 0.75
    assert probability_of({": harmful": 0.4, ": un": 0.1}, "harmful", "unharmful", lead=": ") == pytest.approx(0.8)
    assert probability_of({" maybe": 1.0, " ": 0.0}, "harmful", "unharmful") is None
    assert label_probability(None, "x", 0, "harmful", "unharmful") is None
    late = TokenProbabilities([3], lambda _: {"harmful": 1.0})
    assert label_probability(late, "harmful", 0, "harmful", "unharmful") is None
    assert label_probability(late, "   harmful", 3, "harmful", "unharmful") == 1.0


def test_an_interval_of_doubt_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="doubt"):
        GuardReasonerDialect(doubt=(0.9, 0.1))
