"""What is no guard is refused by every integration where it is given."""

from typing import Any

import pytest

from guardreasoner_sdk import ConfigurationError, Guard

WRONG = [
    (3, "must be a Guard, not int"),
    (None, "must be a Guard, not NoneType"),
    (Guard, r"is the class Guard; pass .*Guard\(\)"),
]


@pytest.mark.parametrize(("wrong", "words"), WRONG)
def test_langchain(wrong: Any, words: str) -> None:
    pytest.importorskip("langchain", reason="pip install 'guardreasoner-sdk[langchain]'")
    from langchain_core.runnables import RunnableLambda

    from guardreasoner_integrations import langchain, langgraph

    chain = RunnableLambda(str)
    for make in (
        lambda: langchain.GuardedChain(wrong, chain),
        lambda: langchain.GuardRunnable(wrong),
        lambda: langchain.GuardMiddleware(wrong),
        lambda: langchain.GuardCallbackHandler(wrong),
        lambda: langchain.AsyncGuardCallbackHandler(wrong),
        lambda: langgraph.guard_node(wrong),
    ):
        with pytest.raises(ConfigurationError, match=f"^guard: {words}"):
            make()
    with Guard() as guard, pytest.raises(ConfigurationError, match="^window: must be"):
        langchain.GuardedChain(guard, chain, window=0)


@pytest.mark.parametrize(("wrong", "words"), WRONG)
def test_openai(wrong: Any, words: str) -> None:
    openai = pytest.importorskip("openai", reason="a dependency of the SDK")
    from guardreasoner_integrations.openai import guarded

    with openai.OpenAI(api_key="k") as client:
        with pytest.raises(ConfigurationError, match=f"^guard: {words}"):
            guarded(client, wrong)
        with Guard() as guard, pytest.raises(ConfigurationError, match="^timeout: must be"):
            guarded(client, guard, timeout=-1)


@pytest.mark.parametrize(("wrong", "words"), WRONG)
def test_asgi(wrong: Any, words: str) -> None:
    pytest.importorskip("jsonpath", reason="pip install 'guardreasoner-sdk[asgi]'")
    from guardreasoner_integrations.asgi import GuardedRoute, GuardMiddleware

    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    routes = [GuardedRoute("/chat", prompt="$.prompt")]
    with pytest.raises(ConfigurationError, match=f"^guard: {words}"):
        GuardMiddleware(app, guard=wrong, routes=routes)
    for name, value in (("mode", "held"), ("window", 0), ("timeout", True)):
        with Guard() as guard, pytest.raises(ConfigurationError, match=f"^{name}: must be"):
            GuardMiddleware(app, guard=guard, routes=routes, **{name: value})
