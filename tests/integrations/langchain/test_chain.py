"""Guards in LCEL: a gate before a model, and a guarded chain, under every API."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("langchain", reason="LangChain is not installed: pip install 'guardreasoner-sdk[langchain]'")

from blockbuster import blockbuster_ctx
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import FakeMessagesListChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableConfig, RunnableGenerator, RunnableLambda, RunnableParallel

from guardreasoner_integrations.langchain import GuardedChain, GuardRunnable
from guardreasoner_sdk import (
    BlockedError,
    ConfigurationError,
    Exchange,
    Guard,
    InputError,
    Judgement,
    Policy,
    UndeterminedError,
)
from guardreasoner_sdk.testing import ScriptedJudge, judgement

APIS = ["invoke", "ainvoke", "stream", "astream", "batch", "abatch"]
SORRY = "I'm sorry, but I can't help with that."

PROMPT = ChatPromptTemplate.from_messages([("system", "be kind"), ("human", "{question}")])


async def run(api: str, runnable: Runnable[Any, Any], given: Any, config: RunnableConfig | None = None) -> Any:
    """One result, whichever API it came from: chunks are added up, a batch holds one row."""
    match api:
        case "ainvoke":
            return await runnable.ainvoke(given, config)
        case "astream":
            return added([chunk async for chunk in runnable.astream(given, config)])
        case "abatch":
            return (await runnable.abatch([given], config))[0]
        case "stream":
            return added(await asyncio.to_thread(lambda: list(runnable.stream(given, config))))
        case "batch":
            return (await asyncio.to_thread(runnable.batch, [given], config))[0]
    return await asyncio.to_thread(runnable.invoke, given, config)


def added(chunks: list[Any]) -> Any:
    total = chunks[0]
    for chunk in chunks[1:]:
        total = total + chunk
    return total


def text(result: Any) -> str:
    return result if isinstance(result, str) else result.text


CASES = [
    ("a poison", "hello", BlockedError),
    ("hello", "a poison", BlockedError),
    ("a riddle", "hello", UndeterminedError),
    ("hello", "a riddle", UndeterminedError),
    ("hello", "I am well, and you?", None),
]


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(("prompt", "answer", "error"), CASES)
async def test_a_guarded_model_raises(
    api: str, prompt: str, answer: str, error: type[Exception] | None, guard: Guard, scripted_chat: Any
) -> None:
    chain = GuardedChain(guard, scripted_chat(answers=[answer]))
    if error is None:
        assert text(await run(api, chain, prompt)) == answer
    else:
        with pytest.raises(error):
            await run(api, chain, prompt)


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(("prompt", "answer", "error"), CASES)
@pytest.mark.parametrize("parser", [False, True], ids=["messages", "strings"])
async def test_a_guarded_chain_answers_with_the_policys_message(
    api: str, prompt: str, answer: str, error: Any, parser: bool, polite: Guard, scripted_chat: Any
) -> None:
    model = scripted_chat(answers=[answer])
    chain = PROMPT | GuardedChain(polite, model | StrOutputParser() if parser else model)
    result = await run(api, chain, {"question": prompt})
    assert isinstance(result, str if parser else AIMessage)
    assert text(result) == (answer if error is None else SORRY)
    assert len(model.asked) == (prompt == "hello"), "a blocked prompt must not reach the model"


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(
    "given",
    ["poison", [HumanMessage("poison")], [("human", "poison")], HumanMessage("poison"), PROMPT.invoke({"question": "poison"})],
    ids=["str", "messages", "tuples", "message", "prompt value"],
)
async def test_a_gate_lets_nothing_blocked_through(api: str, given: Any, guard: Guard, scripted_chat: Any) -> None:
    model = scripted_chat(answers=["hello"])
    with pytest.raises(BlockedError):
        await run(api, GuardRunnable(guard) | model, given)
    assert model.asked == []


@pytest.mark.parametrize("api", APIS)
async def test_a_gate_passes_the_very_same_object(api: str, guard: Guard) -> None:
    given = PROMPT.invoke({"question": "hello"})
    assert await run(api, GuardRunnable(guard), given) is given


@pytest.mark.parametrize("api", APIS)
async def test_mappings_are_judged_by_key(api: str, polite: Guard, guard: Guard, scripted_chat: Any) -> None:
    chain = RunnableParallel(answer=scripted_chat(answers=["a poison"]) | StrOutputParser(), source=lambda given: "poison too")
    whole = GuardedChain(polite, PROMPT | chain, input_key="question", output_key="answer", returns=str)
    found = await run(api, whole, {"question": "hello"})
    # A stream may have passed on the rest before the answer is known.
    assert found["answer"] == SORRY
    assert found == {"answer": SORRY} or api in ("stream", "astream")
    assert await run(api, whole, {"question": "poison"}) == {"answer": SORRY}
    with pytest.raises(BlockedError):
        await run(api, GuardRunnable(guard, input_key="question"), {"question": "poison"})


@pytest.mark.parametrize("api", ["stream", "astream"])
async def test_a_stream_of_mappings_holds_the_answer_back(api: str, polite: Guard, scripted_chat: Any) -> None:
    chain = RunnableParallel(answer=scripted_chat(answers=["a poison"]) | StrOutputParser())
    whole = GuardedChain(polite, chain, output_key="answer", returns=str)
    assert await run(api, whole, "hello") == {"answer": SORRY}


@pytest.mark.parametrize("api", ["batch", "abatch"])
async def test_a_batch_is_two_calls_to_the_guard_and_runs_what_may_run(api: str, scripted_chat: Any) -> None:
    sizes: list[int] = []

    class Counting(ScriptedJudge):
        async def judge(self, exchanges: Any, *, deadline: float | None) -> list[Judgement]:
            sizes.append(len(exchanges))
            return await super().judge(exchanges, deadline=deadline)

    def label(exchange: Exchange) -> Judgement:
        harmful = "harmful" if "poison" in (exchange.response or exchange.prompt) else "unharmful"
        return judgement(harmful) if exchange.response is None else judgement("unharmful", "compliance", harmful)

    answer = RunnableLambda(lambda given: "poison" if given == "trap" else f"about {given}")
    with Guard(judge=Counting(label, batch_size=64)) as guard:
        chain = GuardedChain(guard, answer)
        inputs = ["one", "poison", "trap", "two"]
        if api == "batch":
            rows = await asyncio.to_thread(lambda: chain.batch(inputs, return_exceptions=True))
        else:
            rows = await chain.abatch(inputs, return_exceptions=True)
        assert [row if isinstance(row, str) else type(row) for row in rows] == [
            "about one",
            BlockedError,
            BlockedError,
            "about two",
        ]
        assert sizes == [4, 3]
        sizes.clear()
        polite = GuardedChain(guard, answer, on_block="message", returns=str)
        assert await polite.abatch(inputs) == ["about one", SORRY, SORRY, "about two"]
        with pytest.raises(BlockedError):
            await chain.abatch(inputs)
        sizes.clear()
        gated = GuardRunnable(guard) | answer
        rows = await gated.abatch(["one", "poison", "two"], return_exceptions=True)
        assert [row if isinstance(row, str) else type(row) for row in rows] == ["about one", BlockedError, "about two"]
        assert sizes == [3]
        assert chain.batch([]) == [] == await chain.abatch([])


@pytest.mark.parametrize("api", ["batch", "abatch"])
async def test_an_error_of_the_chain_stays_in_its_row(api: str, guard: Guard) -> None:
    def answer(given: str) -> str:
        if given == "fail":
            raise ValueError("down")
        return given

    chain = GuardedChain(guard, RunnableLambda(answer))
    inputs = ["a", "fail", "poison"]
    both = {"batch": lambda: asyncio.to_thread(chain.batch, inputs, return_exceptions=True)}
    rows = await both.get(api, lambda: chain.abatch(inputs, return_exceptions=True))()
    assert rows[0] == "a"
    assert [type(row) for row in rows[1:]] == [ValueError, BlockedError]


@pytest.mark.parametrize("api", ["stream", "astream"])
async def test_a_stream_shows_what_was_judged_and_no_more(api: str, guard: Guard, polite: Guard) -> None:
    def words(given: Iterator[Any]) -> Iterator[str]:
        yield from (word for _ in given for word in ["It is well. ", "Take ", "a ", "poison ", "now. ", "Bye."])

    async def awords(given: AsyncIterator[Any]) -> AsyncIterator[str]:
        async for _ in given:
            for word in ["It is well. ", "Take ", "a ", "poison ", "now. ", "Bye."]:
                yield word

    source = RunnableGenerator(words, awords)
    seen: list[str] = []

    async def read() -> None:
        chain = GuardedChain(guard, source)
        if api == "stream":
            seen.extend(chain.stream("hello"))
        else:
            async for chunk in chain.astream("hello"):
                seen.append(chunk)  # noqa: PERF401

    with pytest.raises(BlockedError):
        await read()
    assert seen == ["It is well. "]
    told = await run(api, GuardedChain(polite, source, returns=str), "hello")
    assert told.startswith("It is well. ")
    assert told.endswith(f"\n\n{SORRY}")
    assert "poison" not in told


@pytest.mark.parametrize("api", ["stream", "astream"])
async def test_a_harmless_stream_keeps_its_chunks(api: str, guard: Guard, scripted_chat: Any) -> None:
    call = AIMessage("I look. It will take a while", tool_calls=[{"name": "look", "args": {"for": "bread"}, "id": "1"}])
    bare, guarded = scripted_chat(answers=[call]), GuardedChain(guard, scripted_chat(answers=[call]))
    if api == "stream":
        one, other = list(bare.stream("hello")), list(guarded.stream("hello"))
    else:
        one = [chunk async for chunk in bare.astream("hello")]
        other = [chunk async for chunk in guarded.astream("hello")]
    assert [(chunk.content, chunk.tool_call_chunks) for chunk in one] == [
        (chunk.content, chunk.tool_call_chunks) for chunk in other
    ]
    assert all(isinstance(chunk, AIMessageChunk) for chunk in other)


@pytest.mark.parametrize("api", APIS)
async def test_arguments_of_tool_calls_are_judged(api: str, guard: Guard, scripted_chat: Any) -> None:
    call = AIMessage("", tool_calls=[{"name": "look", "args": {"for": "poison"}, "id": "1"}])
    for model in (scripted_chat(answers=[call]), FakeMessagesListChatModel(responses=[call])):
        with pytest.raises(BlockedError):
            await run(api, GuardedChain(guard, model), "hello")


def test_a_guarded_chain_has_the_types_of_its_chain(guard: Guard, scripted_chat: Any) -> None:
    chain = scripted_chat(answers=[]) | StrOutputParser()
    guarded = GuardedChain(guard, chain)
    assert (guarded.InputType, guarded.OutputType) == (chain.InputType, chain.OutputType)


async def test_an_unblocked_message_is_the_same_and_a_blocked_one_keeps_its_id_only(polite: Guard) -> None:
    fine = AIMessage("hello", id="7", response_metadata={"a": 1})
    assert GuardedChain(polite, RunnableLambda(lambda _: fine), returns=AIMessage).invoke("hello") is fine
    bad = AIMessage("poison", id="8", tool_calls=[{"name": "look", "args": {}, "id": "1"}])
    replaced = GuardedChain(polite, RunnableLambda(lambda _: bad), returns=AIMessage).invoke("hello")
    assert replaced == AIMessage(SORRY, id="8")


@pytest.mark.parametrize("api", APIS)
async def test_config_and_options_reach_the_chain(api: str, guard: Guard) -> None:
    seen: list[Any] = []

    class Watch(BaseCallbackHandler):
        def on_chain_start(self, serialized: Any, inputs: Any, **about: Any) -> None:
            seen.append((about["name"], about["parent_run_id"] is None, about["tags"], about["metadata"].get("user")))

    def answer(given: str, config: RunnableConfig) -> str:
        return "fine"

    chain = GuardedChain(guard, RunnableLambda(answer, name="inner"), name="guarded")
    await run(api, chain, "hello", {"callbacks": [Watch()], "tags": ["t"], "metadata": {"user": 7}})
    assert [(name, root, user) for name, root, _, user in seen] == [("guarded", True, 7), ("inner", False, 7)]
    assert all("t" in tags for _, _, tags, _ in seen)


@pytest.mark.parametrize("prompt", ["hello", "poison"])
@pytest.mark.parametrize("answer", ["a poison", "fine"])
async def test_events_show_nothing_that_was_not_judged(prompt: str, answer: str, polite: Guard, scripted_chat: Any) -> None:
    chain = GuardedChain(polite, scripted_chat(answers=[answer]) | StrOutputParser())
    events = [event async for event in chain.astream_events(prompt, version="v2")]
    outputs = [event["data"].get("chunk", event["data"].get("output")) for event in events]
    assert "a poison" not in repr(outputs)
    assert {event["name"] for event in events} == {"GuardedChain"}
    assert events[-1]["data"]["output"] == ("fine" if (prompt, answer) == ("hello", "fine") else SORRY)


@pytest.mark.parametrize("api", ["ainvoke", "astream", "abatch"])
@pytest.mark.parametrize("make", [GuardedChain, lambda guard, model: GuardRunnable(guard) | model], ids=["chain", "gate"])
async def test_the_event_loop_stays_free(api: str, make: Callable[..., Runnable[Any, Any]], scripted_chat: Any) -> None:
    async def slow(exchange: Exchange) -> Judgement:
        await asyncio.sleep(0.01)
        return judgement() if exchange.response is None else judgement("unharmful", "compliance", "unharmful")

    with Guard(judge=ScriptedJudge(slow)) as guard:
        chain = make(guard, scripted_chat(answers=["hello"]))
        with blockbuster_ctx():
            assert text(await run(api, chain, "hello")) == "hello"


def test_a_gate_cannot_answer(polite: Guard, judge: ScriptedJudge) -> None:
    with pytest.raises(ConfigurationError, match="GuardedChain"):
        GuardRunnable(polite)
    with pytest.raises(BlockedError):
        GuardRunnable(polite, on_block="raise").invoke("poison")
    with (
        Guard(judge=judge, policy=Policy(block={"harmful_response"})) as guard,
        pytest.raises(ConfigurationError, match="policy"),
    ):
        GuardRunnable(guard)


def test_a_chain_that_does_not_tell_its_type_is_asked_for_it(polite: Guard, guard: Guard) -> None:
    mystery = RunnableLambda(lambda given: given)
    with pytest.raises(ConfigurationError, match="returns"):
        GuardedChain(polite, mystery)
    with pytest.raises(ConfigurationError, match="returns"):
        GuardedChain(polite, mystery, returns=int)
    with pytest.raises(ConfigurationError, match="on_block"):
        GuardedChain(guard, mystery, on_block="ignore")
    with pytest.raises(ConfigurationError, match="check_input: every check is off"):
        GuardedChain(guard, mystery, check_input=False, check_output=False)
    with pytest.raises(ConfigurationError, match="check_output: the guard's policy never blocks by it"):
        GuardedChain(Guard(judge=ScriptedJudge({}), policy=Policy(block={"harmful_prompt"})), mystery, check_output=True)
    with pytest.raises(ConfigurationError, match="RunnableLambda"):
        GuardedChain(guard, str.upper)
    assert GuardedChain(polite, mystery, returns=str).invoke("poison") == SORRY


@pytest.mark.parametrize(
    ("given", "returned", "options", "field"),
    [
        ({"question": "hello"}, "x", {}, "input"),
        ({"question": "hello"}, "x", {"input_key": "text"}, "input"),
        (7, "x", {}, "input"),
        ("hello", {"answer": "x"}, {}, "output"),
        ("hello", {"answer": "x"}, {"output_key": "text"}, "output"),
        ("hello", 7, {}, "output"),
    ],
)
def test_what_cannot_be_judged_is_named(given: Any, returned: Any, options: dict[str, Any], field: str, guard: Guard) -> None:
    with pytest.raises(InputError) as caught:
        GuardedChain(guard, RunnableLambda(lambda _: returned), **options).invoke(given)
    assert caught.value.field == field
    assert "hello" not in str(caught.value)


@pytest.mark.parametrize("api", APIS)
async def test_only_what_can_block_is_judged(api: str, judge: ScriptedJudge, scripted_chat: Any) -> None:
    with Guard(judge=judge, policy=Policy(block={"harmful_prompt"})) as guard:
        assert text(await run(api, GuardedChain(guard, scripted_chat(answers=["a poison"])), "hello")) == "a poison"
    with Guard(judge=judge, policy=Policy(block={"harmful_response"})) as guard:
        assert text(await run(api, GuardedChain(guard, scripted_chat(answers=["fine"])), "poison")) == "fine"
    assert [exchange.response is None for exchange in judge.seen] == [True, *[False] * (len(judge.seen) - 1)]


@pytest.mark.parametrize("api", APIS)
async def test_checks_and_the_message_are_options(api: str, polite: Guard, judge: ScriptedJudge, scripted_chat: Any) -> None:
    chat = scripted_chat(answers=["a poison"])
    assert text(await run(api, GuardedChain(polite, chat, check_output=False), "hello")) == "a poison"
    assert text(await run(api, GuardedChain(polite, chat, check_input=False, message="No."), "hello")) == "No."
    assert [exchange.response is None for exchange in judge.seen] == [True, *[False] * (len(judge.seen) - 1)]
    assert text(await run(api, GuardedChain(polite, chat, message="No."), "poison")) == "No."


@pytest.mark.parametrize("api", APIS)
async def test_an_undecided_guard_raises_where_the_policy_says_so(api: str, judge: ScriptedJudge, scripted_chat: Any) -> None:
    policy = Policy(on_block="message", on_undetermined="raise")
    with Guard(judge=judge, policy=policy) as guard:
        for prompt, answer in (("a riddle", "hello"), ("hello", "a riddle")):
            with pytest.raises(UndeterminedError):
                await run(api, GuardedChain(guard, scripted_chat(answers=[answer])), prompt)


@pytest.mark.parametrize("api", APIS)
async def test_an_image_in_an_answer_is_not_taken_for_harmless(api: str, guard: Guard, scripted_chat: Any) -> None:
    picture = AIMessage([{"type": "text", "text": "look"}, {"type": "image", "url": "https://example.org/a.png"}])
    with pytest.raises(UndeterminedError):
        await run(api, GuardedChain(guard, scripted_chat(answers=[picture])), "hello")
    with pytest.raises(UndeterminedError):
        await run(api, GuardRunnable(guard), [HumanMessage(picture.content)])
    polite = GuardedChain(guard, scripted_chat(answers=[picture]), on_block="message")
    assert text(await run(api, polite, "hello")) == SORRY


@pytest.mark.parametrize("api", APIS)
async def test_blank_input_is_passed_on_and_its_answer_judged(api: str, guard: Guard, scripted_chat: Any) -> None:
    with pytest.raises(BlockedError):
        await run(api, GuardRunnable(guard) | GuardedChain(guard, scripted_chat(answers=["a poison"])), " ")


@pytest.mark.parametrize("api", APIS)
async def test_what_is_streamed_into_a_guard_is_collected_first(api: str, guard: Guard, scripted_chat: Any) -> None:
    upstream = scripted_chat(answers=["this is a poison"]) | StrOutputParser()
    for end in (GuardRunnable(guard), GuardedChain(guard, scripted_chat(answers=["hello"]))):
        with pytest.raises(BlockedError):
            await run(api, upstream | end, "hello")
