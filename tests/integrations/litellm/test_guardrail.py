"""The guardrail in calls of ``litellm.acompletion``."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

litellm = pytest.importorskip("litellm", reason="pip install 'guardreasoner-sdk[litellm]'")

from blockbuster import BlockBuster, BlockingError  # noqa: E402
from litellm.types.utils import Delta, ModelResponseStream, StreamingChoices  # noqa: E402

from guardreasoner_integrations.litellm import GuardReasonerGuardrail  # noqa: E402
from guardreasoner_sdk import (  # noqa: E402
    BlockedError,
    ClosedError,
    ConfigurationError,
    Exchange,
    Guard,
    InputError,
    Judgement,
    Policy,
    UndeterminedError,
)
from guardreasoner_sdk.testing import ScriptedJudge, judgement  # noqa: E402

from .conftest import LITELLMS_OWN  # noqa: E402

pytestmark = LITELLMS_OWN
Make = Callable[..., GuardReasonerGuardrail]


async def ask(prompt: str, answer: str, **more: Any) -> Any:
    messages = [{"role": "user", "content": prompt}]
    response = await litellm.acompletion(model="openai/x", messages=messages, mock_response=answer, **more)
    return response.choices[0].message.content


@pytest.mark.parametrize(
    ("mode", "prompt", "answer", "error"),
    [
        ("pre_call", "hi", "bad", None),
        ("pre_call", "bad", "fine", BlockedError),
        ("during_call", "bad", "fine", BlockedError),
        ("post_call", "hi", "fine", None),
        ("post_call", "hi", "bad", BlockedError),
        ("post_call", "hi", "unsure", UndeterminedError),
        (["pre_call", "post_call"], "unsure", "fine", UndeterminedError),
        (None, "hi", "bad", BlockedError),
    ],
)
async def test_modes(mode: Any, prompt: str, answer: str, error: type[Exception] | None, make: Make) -> None:
    make(event_hook=mode)
    if error is None:
        assert await ask(prompt, answer) == answer
    else:
        with pytest.raises(error) as caught:
            await ask(prompt, answer)
        assert caught.value.verdict.reasons  # type: ignore[attr-defined]


async def test_messages_that_litellm_shows_no_hook_are_refused_and_the_error_says_how_to_give_them(make: Make) -> None:
    make()
    with pytest.raises(InputError, match=r"by name in the call \(messages=\.\.\.\)"):
        await litellm.acompletion("openai/x", [{"role": "user", "content": "hi"}], mock_response="fine")


async def test_a_guardrail_that_is_not_on_judges_the_calls_that_name_it(make: Make) -> None:
    make(default_on=False, event_hook="pre_call")
    assert await ask("bad", "bad") == "bad"
    with pytest.raises(BlockedError):
        await ask("bad", "bad", guardrails=["guard"])


async def test_a_message_takes_the_place_of_a_blocked_answer(make: Make) -> None:
    make({"on_block": "message", "message": "No."})
    assert await ask("hi", "so bad") == "No."
    with pytest.raises(BlockedError):
        await ask("bad", "fine")


async def test_a_stream_that_nobody_would_judge_is_refused(make: Make) -> None:
    make(event_hook="pre_call")
    await litellm.acompletion(model="openai/x", messages=[{"role": "user", "content": "hi"}], mock_response="x", stream=True)
    make(event_hook="post_call")
    with pytest.raises(ConfigurationError, match="wrap the stream in guard.astream"):
        await ask("hi", "bad", stream=True)


async def test_other_calls_are_judged_too(make: Make) -> None:
    make()
    with pytest.raises(BlockedError):
        await litellm.atext_completion(model="openai/x", prompt="bad", mock_response="x")
    with pytest.raises(BlockedError):
        await litellm.aresponses(model="openai/x", input="bad", mock_response="x")


GIVEN = {"type": "function_call_output", "call_id": "c", "output": "12 degrees"}
APPROVED = {"type": "mcp_approval_response", "approval_request_id": "r", "approve": True}


@pytest.mark.parametrize("item", [GIVEN, APPROVED])
@pytest.mark.parametrize("place", ["previous_response_id", "conversation"])
async def test_a_tool_loop_goes_on_without_a_prompt(item: dict[str, Any], place: str, make: Make) -> None:
    make()
    more = {place: "resp_1"}
    response = await litellm.aresponses(model="openai/x", input=[item], mock_response="fine", **more)
    assert response.output[0].content[0].text == "fine"
    with pytest.raises(BlockedError) as caught:
        await litellm.aresponses(model="openai/x", input=[item], mock_response="bad", **more)
    assert caught.value.verdict.response_harmfulness.label == "harmful"


@pytest.mark.parametrize("more", [{}, {"previous_response_id": "resp_1"}])
async def test_what_a_tool_gave_is_judged_before_the_model_reads_it(more: dict[str, Any], make: Make) -> None:
    make(event_hook="pre_call")
    with pytest.raises(BlockedError):
        await litellm.aresponses(model="openai/x", input=[{**GIVEN, "output": "so bad"}], mock_response="x", **more)


async def test_a_call_without_anything_to_read_is_refused_unless_it_is_skipped(make: Make) -> None:
    guardrail = make()
    with pytest.raises(InputError, match="has no messages, input or prompt"):
        await guardrail.async_pre_call_hook(None, None, {"query": "bad"}, "arerank")
    guardrail = make(skip_call_types=["arerank"])
    assert await guardrail.async_pre_call_hook(None, None, {"query": "bad"}, "arerank") == {"query": "bad"}


async def test_a_guard_that_fails_is_no_pass(make: Make) -> None:
    guardrail = make()
    guardrail.guard.close()
    with pytest.raises(ClosedError, match="the guard is closed"):
        await ask("hi", "x")


async def test_a_policy_that_blocks_no_prompt_asks_once(make: Make) -> None:
    guardrail = make({"block": ["harmful_response"]})
    assert await ask("bad", "fine") == "fine"
    assert [exchange.response for exchange in guardrail.guard.judge.seen] == ["fine"]  # type: ignore[attr-defined]


def chunks(*texts: str) -> list[ModelResponseStream]:
    return [ModelResponseStream(choices=[StreamingChoices(index=0, delta=Delta(content=text))]) for text in texts]


async def streamed(guardrail: GuardReasonerGuardrail, parts: list[Any], **data: Any) -> list[Any]:
    async def source() -> AsyncIterator[Any]:
        for part in parts:
            yield part

    data = {"messages": [{"role": "user", "content": "hi"}], **data}
    return [piece async for piece in guardrail.async_post_call_streaming_iterator_hook(None, source(), data)]


async def test_an_allowed_stream_is_the_same_objects(make: Make) -> None:
    parts = chunks("Well. ", "there ", "you go")
    assert all(one is other for one, other in zip(await streamed(make(), parts), parts, strict=True))


async def test_a_blocked_stream_raises_before_anything_leaves(make: Make) -> None:
    with pytest.raises(BlockedError):
        await streamed(make(), chunks("so ", "bad"))


async def test_a_blocked_stream_ends_in_the_message(make: Make) -> None:
    out = await streamed(make({"on_block": "message", "message": "No."}), chunks("so ", "bad"))
    assert [piece.choices[0].delta.content for piece in out] == ["No."]


async def test_a_failure_of_the_model_is_its_own(make: Make) -> None:
    async def source() -> AsyncIterator[Any]:
        yield chunks("held")[0]
        raise LookupError("the model's")

    data = {"messages": [{"role": "user", "content": "hi"}]}
    stream = make().async_post_call_streaming_iterator_hook(None, source(), data)
    with pytest.raises(LookupError, match="the model's"):
        await anext(stream)


async def test_no_client_can_say_that_a_request_was_answered(make: Make) -> None:
    with pytest.raises(BlockedError):
        await streamed(make(), chunks("bad"), guardreasoner_answered="guard")


def test_a_subclass_has_the_stream_hook_where_litellm_looks_for_it() -> None:
    class Mine(GuardReasonerGuardrail):
        pass

    assert "async_post_call_streaming_iterator_hook" in vars(Mine)


@pytest.mark.parametrize("mode", ["logging_only", ["pre_call", "pre_mcp_call"], "nonsense"])
def test_a_mode_that_would_judge_nothing_is_refused(mode: Any) -> None:
    with Guard(judge=ScriptedJudge({})) as guard, pytest.raises(ValueError, match="logging_only|pre_mcp_call|nonsense"):
        GuardReasonerGuardrail("guard", guard=guard, event_hook=mode)


def test_the_options_of_the_yaml_make_a_guard() -> None:
    policy = {"block": ["harmful_response"], "on_block": "message"}
    guardrail = GuardReasonerGuardrail(
        "guard", api_base="http://127.0.0.1:1/v1", model="tiny", policy=policy, timeout=2, mask=False
    )
    with guardrail.guard as guard:
        assert (guard.judge.backend, guard.judge.model) == ("remote", "tiny")
        assert guard.policy == Policy(block={"harmful_response"}, on_block="message")


def test_a_policy_of_ones_own_is_an_option_of_the_yaml() -> None:
    options = {"api_base": "http://127.0.0.1:1/v1", "model": "dynaguard-8b", "policy_text": "Be kind."}
    with GuardReasonerGuardrail("guard", **options).guard as guard:
        assert guard.judge.dialect.policy == "1. Be kind."  # type: ignore[attr-defined]


def test_options_that_cannot_work() -> None:
    with (
        Guard(judge=ScriptedJudge({})) as guard,
        pytest.raises(ConfigurationError, match="guard: pass either a guard or model"),
    ):
        GuardReasonerGuardrail("guard", guard=guard, model="x")
    for skipped in (7, "aembedding"):
        with pytest.raises(ConfigurationError, match="skip_call_types: pass a list"):
            GuardReasonerGuardrail("guard", skip_call_types=skipped)  # type: ignore[arg-type]
    for name in ("guard", "policy"):
        with pytest.raises(ConfigurationError, match=f"^{name}: must be a"):
            GuardReasonerGuardrail("guard", **{name: 7})
    with pytest.raises(ConfigurationError, match="Policy"):
        GuardReasonerGuardrail("guard", policy={"blok": []})


async def test_the_event_loop_is_never_blocked(make: Make) -> None:
    async def slow(exchange: Exchange) -> Judgement:
        await asyncio.sleep(0.01)
        return judgement() if exchange.response is None else judgement("unharmful", "compliance", "unharmful")

    guardrail = make(script=slow)
    net = BlockBuster(scanned_modules=["guardreasoner_sdk", "guardreasoner_integrations"])
    net.activate()
    try:
        assert await ask("hi", "fine") == "fine"
        assert len(await streamed(guardrail, chunks("One. ", "two."))) == 2
        with pytest.raises(BlockingError):
            guardrail.guard.check("not in the cache")
    finally:
        net.deactivate()


class Model:
    """The answer of a model as litellm hands it on: an iterator that is open until somebody closes it."""

    def __init__(self, *texts: str) -> None:
        self._parts = iter(chunks(*texts))
        self.closed = False

    def __aiter__(self) -> "Model":
        return self

    async def __anext__(self) -> ModelResponseStream:
        try:
            return next(self._parts)
        except StopIteration:
            raise StopAsyncIteration from None

    async def aclose(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("policy", "texts", "error"),
    [({}, ["fine"], None), ({}, ["so bad", "x"], BlockedError), ({"on_block": "message"}, ["so bad", "x"], None)],
)
async def test_the_models_stream_is_closed_however_it_ends(
    policy: dict[str, Any], texts: list[str], error: type[Exception] | None, make: Make
) -> None:
    model = Model(*texts)
    data = {"messages": [{"role": "user", "content": "hi"}]}
    stream = make(policy).async_post_call_streaming_iterator_hook(None, model, data)
    with contextlib.nullcontext() if error is None else pytest.raises(error):
        assert [piece async for piece in stream]
    assert model.closed


async def test_the_models_stream_is_closed_when_the_client_leaves(make: Make) -> None:
    model = Model(*(f"Sentence {number} is fine. " for number in range(500)))
    data = {"messages": [{"role": "user", "content": "hi"}]}
    stream = make(window=50).async_post_call_streaming_iterator_hook(None, model, data)
    assert await anext(stream)
    assert not model.closed
    await stream.aclose()
    assert model.closed
