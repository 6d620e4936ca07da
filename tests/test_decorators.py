"""Guarded functions: the prompt is judged before the call, the answer before it is seen."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from guardreasoner_sdk import (
    BlockedError,
    ConfigurationError,
    Exchange,
    Guard,
    InputError,
    Judgement,
    Policy,
    UndeterminedError,
    Verdict,
)
from guardreasoner_sdk.testing import ScriptedJudge, judgement

FINE, BAD_PROMPT, BAD_ANSWER, UNDECIDED = "fine", "bad prompt", "bad answer", "undecided"
MESSAGE = "I'm sorry, but I can't help with that."


def script(exchange: Exchange) -> Judgement:
    if exchange.prompt == UNDECIDED:
        raise RuntimeError("down")
    response = None if exchange.response is None else "harmful" if BAD_ANSWER in exchange.response else "unharmful"
    return judgement("harmful" if exchange.prompt == BAD_PROMPT else "unharmful", "compliance" if response else None, response)


class Application:
    """The same function in its four kinds, and a way to call each of them."""

    def __init__(self, guard: Guard, answer: str = "An answer.", **options: Any) -> None:
        self.called: list[str] = []
        protect = guard.protect(**options)

        @protect
        def plain(prompt: str) -> str:
            self.called.append(prompt)
            return answer

        @protect
        async def coroutine(prompt: str) -> str:
            self.called.append(prompt)
            return answer

        @protect
        def generator(prompt: str) -> Iterator[str]:
            self.called.append(prompt)
            yield answer

        @protect
        async def async_generator(prompt: str) -> AsyncIterator[str]:
            self.called.append(prompt)
            yield answer

        self.kinds: dict[str, Callable[[str], Any]] = {
            "plain": plain,
            "coroutine": lambda prompt: asyncio.run(coroutine(prompt)),
            "generator": lambda prompt: "".join(generator(prompt)),
            "async_generator": lambda prompt: asyncio.run(joined(async_generator(prompt))),
        }


async def joined(items: AsyncIterator[str]) -> str:
    return "".join([item async for item in items])


@pytest.fixture
def judge() -> ScriptedJudge:
    return ScriptedJudge(script)


@pytest.fixture
def guard(judge: ScriptedJudge) -> Iterator[Guard]:
    with Guard(judge=judge) as guard:
        yield guard


kinds = pytest.mark.parametrize("kind", ["plain", "coroutine", "generator", "async_generator"])


@kinds
def test_what_is_allowed_is_returned_as_it_is_and_judged_twice(guard: Guard, judge: ScriptedJudge, kind: str) -> None:
    assert Application(guard).kinds[kind](FINE) == "An answer."
    assert [(seen.prompt, seen.response) for seen in judge.seen] == [(FINE, None), (FINE, "An answer.")]


@kinds
def test_a_blocked_prompt_never_reaches_the_function(guard: Guard, kind: str) -> None:
    application = Application(guard)
    with pytest.raises(BlockedError):
        application.kinds[kind](BAD_PROMPT)
    assert application.called == []


@kinds
def test_a_blocked_answer_is_never_returned(guard: Guard, kind: str) -> None:
    with pytest.raises(BlockedError) as caught:
        Application(guard, BAD_ANSWER).kinds[kind](FINE)
    assert BAD_ANSWER not in str(caught.value)


@kinds
def test_an_undecided_guard_blocks_with_its_own_error(guard: Guard, kind: str) -> None:
    with pytest.raises(UndeterminedError):
        Application(guard).kinds[kind](UNDECIDED)


@kinds
@pytest.mark.parametrize(("prompt", "answer"), [(BAD_PROMPT, "An answer."), (FINE, BAD_ANSWER), (UNDECIDED, "An answer.")])
@pytest.mark.parametrize("on_block", ["message", lambda verdict: f"<{verdict.action}>"], ids=["message", "handler"])
def test_a_block_gives_the_message_or_what_the_handler_says(
    guard: Guard, kind: str, prompt: str, answer: str, on_block
) -> None:
    expected = MESSAGE if on_block == "message" else "<block>"
    assert Application(guard, answer, on_block=on_block).kinds[kind](prompt) == expected


@kinds
def test_the_policy_says_what_a_block_is_where_the_decorator_does_not(judge: ScriptedJudge, kind: str) -> None:
    with Guard(judge=judge, policy=Policy(on_block="message", message="No.")) as guard:
        assert Application(guard).kinds[kind](BAD_PROMPT) == "No."
        assert Application(guard, BAD_ANSWER).kinds[kind](FINE) == "No."


async def test_the_handler_of_an_asynchronous_function_may_be_asynchronous(guard: Guard) -> None:
    async def handler(verdict: Verdict) -> str:
        await asyncio.sleep(0)
        return f"<{verdict.action}>"

    @guard.protect(on_block=handler)
    async def answer(prompt: str) -> str:
        return BAD_ANSWER

    @guard.protect(on_block=handler)
    async def stream(prompt: str) -> AsyncIterator[str]:
        yield BAD_ANSWER

    for prompt in (FINE, BAD_PROMPT):
        assert await answer(prompt) == "<block>"
        assert await joined(stream(prompt)) == "<block>"


@kinds
def test_a_policy_that_cannot_block_a_prompt_does_not_judge_it_alone(judge: ScriptedJudge, kind: str) -> None:
    with Guard(judge=judge, policy=Policy(block={"harmful_response"})) as guard:
        assert Application(guard).kinds[kind](BAD_PROMPT) == "An answer."
    assert [seen.response for seen in judge.seen] == ["An answer."]


@kinds
def test_either_side_can_be_left_unjudged(guard: Guard, judge: ScriptedJudge, kind: str) -> None:
    assert Application(guard, BAD_ANSWER, check_output=False).kinds[kind](FINE) == BAD_ANSWER
    assert Application(guard, check_input=False).kinds[kind](FINE) == "An answer."
    assert [seen.response for seen in judge.seen] == [None, "An answer."]


@kinds
def test_an_answer_without_a_visible_character_is_returned(guard: Guard, kind: str) -> None:
    assert Application(guard, " \n").kinds[kind](FINE) == " \n"


def test_signature_kind_and_documentation_stay(guard: Guard) -> None:
    @guard.protect
    def plain(prompt: str, *, temperature: float = 0.0) -> str:
        """Answers."""
        return prompt

    @guard.protect
    async def coroutine(prompt: str) -> str:
        return prompt

    @guard.protect
    def generator(prompt: str) -> Iterator[str]:
        yield prompt

    @guard.protect
    async def async_generator(prompt: str) -> AsyncIterator[str]:
        yield prompt

    assert str(inspect.signature(plain)).startswith("(prompt: 'str', *, temperature: 'float' = 0.0)")
    assert (plain.__name__, plain.__doc__) == ("plain", "Answers.")
    assert inspect.iscoroutinefunction(coroutine)
    assert inspect.isgeneratorfunction(generator)
    assert inspect.isasyncgenfunction(async_generator)


def test_methods_are_guarded_on_any_way_to_call_them(guard: Guard) -> None:
    class Service:
        name = "service"

        @guard.protect
        def answer(self, text: str) -> str:
            return f"{self.name}: {text}"

        @staticmethod
        @guard.protect
        def static(text: str) -> str:
            return text

    assert Service().answer(FINE) == "service: fine"
    assert Service.static(text=FINE) == FINE
    with pytest.raises(BlockedError):
        Service().answer(text=BAD_PROMPT)
    with pytest.raises(BlockedError):
        Service.static(BAD_PROMPT)


@pytest.mark.parametrize(
    ("function", "options", "call"),
    [
        (lambda a, question: "", {}, ("x", BAD_PROMPT)),
        (lambda only: "", {}, (BAD_PROMPT,)),
        (lambda prompt, other: "", {"prompt": "other"}, ("x", BAD_PROMPT)),
        (lambda a, other=BAD_PROMPT: "", {"prompt": "other"}, ("x",)),
        (lambda request: "", {"prompt": lambda request: request["text"]}, ({"text": BAD_PROMPT},)),
        (lambda messages: "", {}, ([{"role": "user", "content": FINE}, {"role": "user", "content": BAD_PROMPT}],)),
        (functools.partial(lambda a, query: "", 1), {}, (BAD_PROMPT,)),
    ],
)
def test_the_prompt_is_found(guard: Guard, function, options, call) -> None:
    with pytest.raises(BlockedError):
        guard.protect(**options)(function)(*call)


def test_chat_messages_are_judged_in_the_light_of_what_stands_before(guard: Guard, judge: ScriptedJudge) -> None:
    @guard.protect
    def answer(messages: list[dict[str, str]]) -> str:
        return "An answer."

    answer([{"role": "system", "content": "Be kind."}, {"role": "user", "content": FINE}])
    assert [(seen.prompt, seen.response, seen.history[0].content) for seen in judge.seen] == [
        (FINE, None, "Be kind."),
        (FINE, "An answer.", "Be kind."),
    ]


def test_what_tools_gave_after_the_last_user_message_is_judged_before_the_call(guard: Guard, judge: ScriptedJudge) -> None:
    messages = [{"role": "user", "content": FINE}, {"role": "tool", "content": "A result."}]

    @guard.protect
    def answer(messages: list[dict[str, str]]) -> str:
        return "An answer."

    assert answer(messages) == "An answer."
    assert [seen.response for seen in judge.seen] == ["A result.", "An answer."]
    with pytest.raises(BlockedError):
        answer([*messages, {"role": "tool", "content": BAD_ANSWER}])


def test_text_inside_objects_is_judged(guard: Guard) -> None:
    @guard.protect(response=lambda answer: answer["text"], on_block=lambda verdict: {"text": "No."})
    def plain(prompt: str) -> dict[str, str]:
        return {"text": BAD_ANSWER if prompt == "worse" else "An answer."}

    @guard.protect(response=lambda chunk: chunk["text"], on_block=lambda verdict: [{"text": "No"}, {"text": "."}])
    def generator(prompt: str) -> Iterator[dict[str, str]]:
        yield {"text": "Well. "}
        yield {"text": BAD_ANSWER}

    assert plain(FINE) == {"text": "An answer."}
    assert plain("worse") == {"text": "No."}
    assert list(generator(FINE)) == [{"text": "Well. "}, {"text": "No"}, {"text": "."}]


def test_a_generator_is_closed_with_its_reader(guard: Guard) -> None:
    closed = []

    @guard.protect
    def generator(prompt: str) -> Iterator[str]:
        try:
            yield "One. "
            yield "Two. "
        finally:
            closed.append(prompt)

    stream = generator(FINE)
    assert next(stream) == "One. "
    stream.close()  # type: ignore[attr-defined]
    assert closed == [FINE]


@pytest.mark.parametrize(
    ("function", "options", "problem"),
    [
        (lambda a, b: "", {}, "prompt: which argument holds it is not clear; name one of a, b, or pass a function"),
        (lambda a: "", {"prompt": "c"}, "prompt: there is no argument 'c'; name one of a, or pass"),
        (lambda prompt: "", {"on_block": "stop"}, "on_block: must be 'raise', 'message' or a function, not 'stop'"),
        (lambda prompt: "", {"on_block": "message", "response": str}, "on_block: 'message' is for answers that are str"),
        (staticmethod(lambda prompt: ""), {}, "protect: cannot guard a staticmethod; put @staticmethod or @classmethod above"),
        ("text", {}, "protect: cannot guard a str; write @guard.protect above a function"),
    ],
)
def test_what_cannot_work_is_refused_at_decoration(guard: Guard, function, options, problem: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        guard.protect(**options)(function)
    assert str(caught.value).startswith(problem)


def test_an_answer_that_is_no_text_is_an_error_that_says_what_to_do(guard: Guard) -> None:
    async def coroutine() -> str:
        return ""

    for result, fix in [
        ({"text": "x"}, "pass response="),
        (None, "pass response="),
        (iter([]), "write it as a coroutine function or as a generator function"),
        (coroutine(), "write it as a coroutine function or as a generator function"),
    ]:
        with pytest.raises(InputError, match=fix):
            guard.protect(lambda prompt, result=result: result)(FINE)
    with pytest.raises(InputError, match="prompt: must be a str, not int"):
        guard.protect(lambda prompt: "")(7)
