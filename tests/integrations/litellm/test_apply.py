"""``apply_guardrail``: texts that litellm took out of a call, or that somebody sent to be judged."""

import inspect
import json
from collections.abc import Callable
from typing import Any

import pytest

litellm = pytest.importorskip("litellm", reason="pip install 'guardreasoner-sdk[litellm]'")

from litellm.integrations.custom_guardrail import CustomGuardrail  # noqa: E402
from litellm.types.utils import ChatCompletionMessageToolCall, Function, GenericGuardrailAPIInputs  # noqa: E402

from guardreasoner_integrations.litellm import GuardReasonerGuardrail  # noqa: E402
from guardreasoner_sdk import BlockedError, InputError, UndeterminedError  # noqa: E402

from .conftest import LITELLMS_OWN  # noqa: E402

pytestmark = LITELLMS_OWN
Make = Callable[..., GuardReasonerGuardrail]
HI = {"role": "user", "content": "hi"}
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x": "so bad"}'}}


async def apply(guardrail: GuardReasonerGuardrail, inputs: dict[str, Any], kind: Any = "request", **data: Any) -> Any:
    return await guardrail.apply_guardrail(inputs=inputs, request_data=data, input_type=kind)


def judged(guardrail: GuardReasonerGuardrail) -> list[tuple[str, str | None]]:
    return [(exchange.prompt, exchange.response) for exchange in guardrail.guard.judge.seen]  # type: ignore[attr-defined]


@pytest.mark.parametrize("default_on", [False, True])
@pytest.mark.parametrize("kind", ["request", "response"])
@pytest.mark.parametrize(
    ("text", "error", "status"), [("so bad", BlockedError, 400), ("unsure", UndeterminedError, 503), ("fine", None, None)]
)
async def test_a_text_is_judged_whatever_is_on(
    kind: str, text: str, error: type[Exception] | None, status: int | None, default_on: bool, make: Make
) -> None:
    guardrail, inputs = make(default_on=default_on), {"texts": [text]}
    if error is None:
        assert await apply(guardrail, inputs, kind) is inputs
        assert judged(guardrail) == [("fine", None) if kind == "request" else ("(no text)", "fine")]
        return
    with pytest.raises(error) as caught:
        await apply(guardrail, inputs, kind)
    assert caught.value.status_code == status  # type: ignore[attr-defined]
    assert caught.value.verdict.reasons  # type: ignore[attr-defined]
    assert text not in str(caught.value)


SOME: dict[str, Any] = {
    "texts": ["so bad"],
    "tool_calls": [CALL],
    "structured_messages": [{"role": "user", "content": [{"type": "text", "text": "so bad"}]}],
    "images": ["data:image/png;base64,aaaa"],
    "tools": None,  # definitions of tools are not judged, neither here nor by the hooks
    "model": None,
    "stream_holdback_chars": None,
}


@pytest.mark.parametrize("place", GenericGuardrailAPIInputs.__annotations__)
async def test_every_place_of_litellms_inputs_is_judged_or_known_to_hold_no_text(place: str, make: Make) -> None:
    if SOME[place] is None:
        assert await apply(make(), {"texts": ["hi"], place: "bad"})
        return
    with pytest.raises((BlockedError, InputError)) as caught:
        await apply(make(), {place: SOME[place]})
    assert place == "images" or isinstance(caught.value, BlockedError)


@pytest.mark.parametrize("kind", ["request", "response"])
@pytest.mark.parametrize(
    "inputs",
    [
        {"texts": ["hi", "so bad"]},
        {"texts": ["hi"], "tool_calls": [CALL]},
        {"texts": [], "tool_calls": [ChatCompletionMessageToolCall(id="1", function=Function(name="f", arguments="bad"))]},
        {"texts": ["hi"], "documents_of_a_newer_litellm": [{"title": "so bad"}]},
        {"texts": ["b\u0430d", "bad"]},
    ],
)
async def test_text_in_any_place_is_judged(kind: str, inputs: dict[str, Any], make: Make) -> None:
    with pytest.raises(BlockedError):
        await apply(make(), inputs, kind)


async def test_texts_are_judged_alone_and_together(make: Make) -> None:
    guardrail = make()
    await apply(guardrail, {"texts": ["one", "two"]})
    assert judged(guardrail) == [("one", None), ("two", None), ("one\ntwo", None)]


async def test_the_texts_of_messages_are_judged_once_and_as_what_they_are(make: Make) -> None:
    guardrail = make()
    messages = [{"role": "system", "content": "be kind"}, {"role": "user", "content": [{"type": "text", "text": "hi"}]}]
    await apply(guardrail, {"texts": ["be kind", "hi"], "structured_messages": messages})
    (asked,) = guardrail.guard.judge.seen  # type: ignore[attr-defined]
    assert (asked.prompt, [turn.content for turn in asked.history]) == ("hi", ["be kind"])


@pytest.mark.parametrize("text", ["hi", "and now?"])
async def test_the_messages_of_the_endpoint_stand_before_its_text(text: str, make: Make) -> None:
    guardrail = make()
    await apply(guardrail, {"texts": [text]}, messages=[{"role": "system", "content": "be kind"}, HI])
    (asked,) = guardrail.guard.judge.seen  # type: ignore[attr-defined]
    before = ["be kind"] if text == "hi" else ["be kind", "hi"]
    assert (asked.prompt, [turn.content for turn in asked.history]) == (text, before)


@pytest.mark.parametrize("data", [{"messages": [HI]}, {"prompt": "hi"}, {"input": "hi"}])
async def test_an_answer_is_judged_with_what_was_asked(data: dict[str, Any], make: Make) -> None:
    guardrail = make()
    await apply(guardrail, {"texts": ["fine"]}, "response", **data)
    assert judged(guardrail) == [("hi", "fine")]


async def test_a_message_takes_the_place_of_a_blocked_answer_and_of_no_prompt(make: Make) -> None:
    guardrail = make({"message": "No."}, on_block="message")
    replaced = await apply(guardrail, {"texts": ["so bad", "x"], "tool_calls": [CALL], "model": "m"}, "response")
    assert replaced == {"texts": ["No.", "No."], "tool_calls": [], "model": "m"}
    with pytest.raises(BlockedError):
        await apply(guardrail, {"texts": ["so bad"]})
    with pytest.raises(UndeterminedError):
        await apply(make({"on_undetermined": "raise"}, on_block="message"), {"texts": ["unsure"]}, "response")


async def test_pictures_are_refused_unless_they_are_let_by(make: Make) -> None:
    inputs = {"texts": ["hi"], "images": ["https://example.org/cat.png"]}
    for kind in ("request", "response"):
        with pytest.raises(InputError, match=r"^images: is not text"):
            await apply(make(), inputs, kind)
        assert await apply(make(unjudged="allow"), inputs, kind) is inputs


async def test_what_is_no_text_is_refused(make: Make) -> None:
    for kind in ("request", "response"):
        for name in ("texts", "tool_calls", "structured_messages"):
            for value in ("bad", {"a": "bad"}, 7):
                with pytest.raises(InputError, match=f"^{name}: must be a list"):
                    await apply(make(), {name: value}, kind)
        with pytest.raises(InputError, match=r"^texts\[0\]: must be a str, not int"):
            await apply(make(), {"texts": [7]}, kind)
        with pytest.raises(InputError, match="^inputs: must be a mapping"):
            await apply(make(), None, kind)  # type: ignore[arg-type]


async def test_escapes_are_read_as_the_letters_they_are(make: Make) -> None:
    escaped = json.dumps({"x": "bad"}).replace("bad", "\\u0062\\u0061\\u0064")
    called = {"type": "function", "function": {"name": "f", "arguments": escaped}}
    for inputs, kind in (
        ({"texts": [escaped]}, "response"),
        *(({"tool_calls": [called]}, kind) for kind in ("request", "response")),
    ):
        with pytest.raises(BlockedError):
            await apply(make(), inputs, kind)


async def test_nothing_to_judge_passes(make: Make) -> None:
    for inputs in ({}, {"texts": []}, {"texts": [" \u200b"]}):
        assert await apply(make(), inputs) is inputs


async def test_a_call_type_that_is_let_through_is_let_through_here(make: Make) -> None:
    class Logging:
        call_type = "arerank"

    inputs = {"texts": ["bad"]}
    guardrail = make(skip_call_types=["arerank"])
    assert await guardrail.apply_guardrail(inputs, {}, "request", Logging()) is inputs
    with pytest.raises(BlockedError):
        await make().apply_guardrail(inputs, {}, "request", Logging())


def test_the_method_takes_what_litellms_takes() -> None:
    def named(kind: type) -> list[tuple[str, Any]]:
        parameters = inspect.signature(kind.apply_guardrail).parameters.values()  # type: ignore[attr-defined]
        return [(parameter.name, parameter.default) for parameter in parameters]

    assert named(GuardReasonerGuardrail) == named(CustomGuardrail)


def test_the_hooks_still_judge_the_calls_of_models() -> None:
    class Mine(GuardReasonerGuardrail):
        pass

    for kind in (GuardReasonerGuardrail, Mine):
        # litellm looks into the class itself; a version that cannot be told to leave the hooks alone must not find it there.
        assert ("apply_guardrail" in vars(kind)) is hasattr(CustomGuardrail, "use_native_lifecycle_hooks")
        assert kind.use_native_lifecycle_hooks
        assert "async_post_call_streaming_iterator_hook" in vars(kind)
