"""What the tests of the families share: running a program with given answers, and probabilities made by hand."""

import re
from collections.abc import Callable, Mapping, Sequence

import pytest

from guardreasoner_sdk import Exchange, Judgement
from guardreasoner_sdk.dialects.base import Answer, Capabilities, Dialect, Query, Reasoning
from guardreasoner_sdk.generation import Completion, TokenProbabilities
from guardreasoner_sdk.verdict import Usage

Asked = tuple[Judgement, list[tuple[Query, ...]]]


def _completion(answer: str | Answer) -> Answer:
    return Completion(answer, "stop", Usage(input_tokens=10, output_tokens=1)) if isinstance(answer, str) else answer


@pytest.fixture(scope="session")
def ask() -> Callable[..., Asked]:
    """Run a dialect: ``ask(dialect, exchange, round_one, round_two, ...)``; a str is an answer that ended by itself."""

    def run(dialect: Dialect, exchange: Exchange, *rounds: Sequence[str | Answer], reasoning: Reasoning = "off") -> Asked:
        program = dialect.ask(exchange, reasoning, Capabilities())
        asked = [next(program)]
        for number, answers in enumerate(rounds):
            assert len(asked[-1]) == len(answers)
            try:
                asked.append(program.send([_completion(answer) for answer in answers]))
            except StopIteration as done:
                assert number == len(rounds) - 1, "the dialect asked for fewer rounds"
                _spans_hold(done.value)
                return done.value, asked
        raise AssertionError("the dialect asked for a further round")

    return run


def _spans_hold(judgement: Judgement) -> None:
    for finding in judgement.findings.values():
        assert finding.determined == (finding.span is not None)
        if finding.span is not None:
            assert judgement.raw is not None
            word = judgement.raw[finding.span.start : finding.span.end]
            assert re.fullmatch(r"\w+", word), "the label's own word, and nothing beside it"
    for step in judgement.reasoning:
        assert step.span is not None
        assert (judgement.raw or "")[step.span.start : step.span.end] == step.text


@pytest.fixture(scope="session")
def scored() -> Callable[..., Completion]:
    """An answer with probabilities at the token that begins a word: ``scored("safe", "safe", {"safe": 0.9, ...})``."""

    def make(text: str, word: str, *alternatives: Mapping[str, float]) -> Completion:
        starts, at = [0], 0
        for number in range(len(alternatives)):
            at = text.index(word, at + 1) if number else text.index(word)
            starts.append(at)
        # The token at the very start of the text is another one, unless the word itself stands there.
        tables = [{"\n\n": 1.0}, *alternatives]
        if starts[1] == 0:
            starts, tables = starts[1:], tables[1:]
        return Completion(
            text, "stop", Usage(input_tokens=10, output_tokens=1), TokenProbabilities(starts, lambda number: tables[number])
        )

    return make
