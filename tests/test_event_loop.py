"""Nothing that is asynchronous blocks the event loop that it runs on."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from blockbuster import BlockingError, blockbuster_ctx

from guardreasoner_sdk import Exchange, Guard, Judgement
from guardreasoner_sdk.testing import ScriptedJudge, judgement


async def pieces() -> AsyncIterator[str]:
    for piece in ("Beat butter and sugar. ", "Add eggs. ", "Bake it."):
        await asyncio.sleep(0)
        yield piece


async def check(guard: Guard) -> None:
    assert (await guard.acheck("How do I bake a cake?", "Beat butter and sugar.")).allowed


async def check_messages(guard: Guard) -> None:
    assert (await guard.acheck_messages([{"role": "user", "content": "How do I bake a cake?"}])).allowed


async def check_many(guard: Guard) -> None:
    assert len(await guard.acheck_many(["How do I bake a cake?"] * 40)) == 40


async def iter_many(guard: Guard) -> None:
    assert [verdict.allowed async for verdict in guard.aiter_many(pieces())] == [True] * 3


async def stream(guard: Guard) -> None:
    assert [piece async for piece in guard.astream("How do I bake a cake?", pieces())]


async def protected(guard: Guard) -> None:
    @guard.protect
    async def answer(prompt: str) -> str:
        return "Beat butter and sugar."

    assert await answer("How do I bake a cake?")


async def protected_generator(guard: Guard) -> None:
    @guard.protect
    async def answer(prompt: str) -> AsyncIterator[str]:
        async for piece in pieces():
            yield piece

    assert [piece async for piece in answer("How do I bake a cake?")]


async def load_and_close(guard: Guard) -> None:
    await guard.aload()
    await guard.aclose()


@pytest.mark.parametrize("embedded", [False, True], ids=["scripted", "embedded"])
@pytest.mark.parametrize(
    "use", [check, check_messages, check_many, iter_many, stream, protected, protected_generator, load_and_close]
)
async def test_no_asynchronous_way_blocks_the_loop_not_even_the_first_time(
    use: Callable[[Guard], Awaitable[None]], embedded: bool
) -> None:
    guard = (
        Guard() if embedded else Guard(judge=ScriptedJudge(lambda exchange: judgement("unharmful", "compliance", "unharmful")))
    )
    with blockbuster_ctx():
        await use(guard)
        await guard.aclose()


async def test_the_net_catches_a_check_that_blocks() -> None:
    async def slow(exchange: Exchange) -> Judgement:
        await asyncio.sleep(0.2)
        return judgement()

    async with Guard(judge=ScriptedJudge(slow)) as guard:
        with blockbuster_ctx(), pytest.raises(BlockingError):
            guard.check("How do I bake a cake?")


async def test_the_callers_context_does_not_reach_the_guards_own_model() -> None:
    tag = contextvars.ContextVar("tag", default="none")
    seen = []

    def look(exchange: Exchange) -> Judgement:
        seen.append(tag.get())
        return judgement()

    async with Guard(judge=ScriptedJudge(look)) as guard:
        tag.set("the application's")
        await guard.acheck("How do I bake a cake?")
        guard.check("How do I bake a cake?")
        await guard.acheck_many(["How do I bake a cake?"])
    assert seen == ["none"] * 3
