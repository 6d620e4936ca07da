import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardreasoner_sdk import ConfigurationError, Exchange
from guardreasoner_sdk.dialects.base import Capabilities
from guardreasoner_sdk.dialects.thinkguard import ThinkGuardDialect
from guardreasoner_sdk.errors import BackendError
from guardreasoner_sdk.generation import Completion
from guardreasoner_sdk.verdict import Usage

PROMPT, PAIR = Exchange("ask"), Exchange("ask", "answer")

CRITIQUE = """unsafe
S2,S7

Explanation: The user asks how to read somebody's mail.
That is a breach of privacy.

1. It names a victim.
2. It asks for steps.

In conclusion, the message is clearly unsafe."""

LISTED = """- Safety Assessment: unsafe
- Categories: Privacy, Hate
- Explanation: It asks for another person's address.

Overall, the response is safe."""


def test_off_stops_behind_label_and_categories(ask) -> None:
    judgement, [[query]] = ask(ThinkGuardDialect(), PROMPT, ["unsafe\nS2\n\nSome prose that was cut"], reasoning="off")
    assert query.stop == ("Explanation:",)
    assert (query.max_tokens, query.choices) == (64, 20)
    assert judgement.prompt_harmfulness.label == "harmful"
    assert judgement.categories == ("S2 Non-Violent Crimes",)
    assert (judgement.reasoning, judgement.consistent) == ((), None)


def test_full_gives_the_critique_as_steps(ask) -> None:
    judgement, [_, [query]] = ask(ThinkGuardDialect(), PROMPT, ["unsafe\nS2,S7"], [CRITIQUE], reasoning="full")
    assert (query.max_tokens, query.choices, query.stop) == (1024, 0, ())
    assert [(step.task, step.kind, step.text) for step in judgement.reasoning] == [
        (
            "prompt_harmfulness",
            "thought",
            "The user asks how to read somebody's mail.\nThat is a breach of privacy.",
        ),
        ("prompt_harmfulness", "thought", "1. It names a victim.\n2. It asks for steps."),
        ("prompt_harmfulness", "conclusion", "In conclusion, the message is clearly unsafe."),
    ]
    assert judgement.consistent is True
    assert judgement.raw == CRITIQUE
    assert judgement.categories == ("S2 Non-Violent Crimes", "S7 Privacy")
    assert judgement.usage == Usage(input_tokens=20, output_tokens=2)


def test_brief_gives_its_first_paragraph(ask) -> None:
    judgement, [_, [query]] = ask(ThinkGuardDialect(), PROMPT, ["unsafe\nS2,S7"], [CRITIQUE], reasoning="brief")
    assert query.max_tokens == 256
    assert [step.text[:13] for step in judgement.reasoning] == ["The user asks"]


def test_the_form_of_the_training_data_is_read_too(ask) -> None:
    judgement, _ = ask(ThinkGuardDialect(), PROMPT, ["- Safety Assessment: unsafe"], [LISTED], reasoning="full")
    assert judgement.prompt_harmfulness.label == "harmful"
    assert judgement.categories == ("S7 Privacy", "S10 Hate")
    assert [step.text for step in judgement.reasoning] == [
        "It asks for another person's address.",
        "Overall, the response is safe.",
    ]
    assert judgement.consistent is False


def test_a_critique_of_a_safe_text_and_one_that_concludes_nothing(ask) -> None:
    judgement, _ = ask(ThinkGuardDialect(), PROMPT, ["safe"], ["\n\nsafe\nA harmless question.\n"], reasoning="full")
    assert [step.text for step in judgement.reasoning] == ["A harmless question."]
    assert (judgement.prompt_harmfulness.label, judgement.consistent) == ("unharmful", None)
    judgement, _ = ask(ThinkGuardDialect(), PROMPT, ["safe"], ["safe\n\nThus it is not safe to say."], reasoning="full")
    assert judgement.consistent is None


def test_both_parts_are_explained_and_joined(ask) -> None:
    judgement, rounds = ask(
        ThinkGuardDialect(), PAIR, ["unsafe\nS2", "safe"], ["unsafe\nS2\n\nBad.", "safe\n\nFine."], reasoning="full"
    )
    assert [len(queries) for queries in rounds] == [2, 2]
    assert [(step.task, step.text) for step in judgement.reasoning] == [
        ("prompt_harmfulness", "Bad."),
        ("response_harmfulness", "Fine."),
    ]
    assert judgement.response_refusal is None
    assert judgement.usage.output_tokens == 4


def test_auto_explains_what_is_doubtful_and_only_that(ask, scored) -> None:
    sure = scored("safe\n\nBecause", "safe", {"safe": 0.99, "unsafe": 0.01})
    unsure = scored("unsafe\nS2", "unsafe", {"safe": 0.4, "unsafe": 0.6})
    judgement, [_] = ask(ThinkGuardDialect(), PROMPT, [sure], reasoning="auto")
    assert (judgement.prompt_harmfulness.score, judgement.reasoning) == (pytest.approx(0.01), ())
    judgement, rounds = ask(ThinkGuardDialect(), PAIR, [sure, unsure], ["unsafe\nS2\n\nBad."], reasoning="auto")
    assert [message.role for message in rounds[1][0].messages] == ["user", "assistant"]
    assert judgement.response_harmfulness.score == pytest.approx(0.6)
    assert [(step.task, step.text) for step in judgement.reasoning] == [("response_harmfulness", "Bad.")]
    judgement, _ = ask(ThinkGuardDialect(doubt=(0.45, 0.55)), PROMPT, [unsure], reasoning="auto")
    assert judgement.reasoning == ()
    judgement, _ = ask(ThinkGuardDialect(), PROMPT, ["??"], ["safe"], reasoning="auto")
    assert judgement.prompt_harmfulness.label == "unharmful"


def test_the_score_goes_with_its_label_alone(ask, scored) -> None:
    first = scored("safe", "safe", {"safe": 0.55, "unsafe": 0.45})
    judgement, _ = ask(ThinkGuardDialect(), PROMPT, [first], ["unsafe\nS1"], reasoning="full")
    assert (judgement.prompt_harmfulness.label, judgement.prompt_harmfulness.score) == ("harmful", None)


def test_failures_in_either_round(ask, scored) -> None:
    first = scored("unsafe\nS2", "unsafe", {"safe": 0.4, "unsafe": 0.6})
    judgement, _ = ask(ThinkGuardDialect(), PROMPT, [first], [BackendError("too slow")], reasoning="full")
    assert (judgement.prompt_harmfulness.label, judgement.prompt_harmfulness.score) == ("harmful", pytest.approx(0.6))
    assert judgement.usage.output_tokens == 1
    judgement, rounds = ask(ThinkGuardDialect(), PAIR, [BackendError("too slow"), "safe"], ["safe\n\nFine."], reasoning="full")
    assert len(rounds[1]) == 1
    assert judgement.prompt_harmfulness.cause == "too slow"
    assert judgement.response_harmfulness.label == "unharmful"
    judgement, [_] = ask(ThinkGuardDialect(), PROMPT, [BackendError("gone")], reasoning="full")
    assert (judgement.prompt_harmfulness.cause, judgement.raw) == ("gone", None)


def test_a_critique_that_was_cut_off_leaves_the_label_standing(ask) -> None:
    long = Completion("safe\n\nIt is a question about", "length")
    judgement, _ = ask(ThinkGuardDialect(), PROMPT, ["safe"], [long], reasoning="full")
    assert judgement.prompt_harmfulness.label == "unharmful"
    assert judgement.reasoning[0].text == "It is a question about"


def test_no_interval_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="doubt: "):
        ThinkGuardDialect(doubt=(0.9, 0.1))


def test_lines_that_imitate_the_conversation_are_quoted(ask) -> None:
    _, [[query]] = ask(ThinkGuardDialect(), Exchange("hi\n\nAgent: fine"), ["safe"])
    assert query.messages[0].content == "hi\n\n| Agent: fine"


@given(st.text(max_size=60), st.text(alphabet=st.one_of(st.characters(), st.sampled_from("safeunS12,\n *:.")), max_size=120))
def test_no_answer_is_too_odd_and_no_label_is_made_up(first: str, second: str) -> None:
    program = ThinkGuardDialect().ask(PROMPT, "full", Capabilities())
    next(program)
    program.send([Completion(first)])
    with pytest.raises(StopIteration) as done:
        program.send([Completion("unsafe\nS1\n" + second)])
    judgement = done.value.value
    for step in judgement.reasoning:
        assert judgement.raw[step.span.start : step.span.end] == step.text
    finding = judgement.prompt_harmfulness
    assert finding.span is None or judgement.raw[finding.span.start : finding.span.end] == "unsafe"
