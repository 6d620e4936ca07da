"""The remote backend against real servers, as processes of their own."""

from typing import Any

import pytest

from guardreasoner_sdk.backends.remote import RemoteBackend
from guardreasoner_sdk.errors import BackendError
from guardreasoner_sdk.generation import Completion, Message, PromptPiece, Query


async def ask(backend: RemoteBackend, query: Query) -> Completion | BackendError:
    (answer,) = await backend.generate([query], deadline=None)
    return answer


async def completed(backend: RemoteBackend, query: Query) -> Completion:
    answer = await ask(backend, query)
    assert isinstance(answer, Completion), answer
    return answer


@pytest.mark.parametrize("server", ["llama_cpp_server", "vllm_server"])
async def test_real_servers_give_probabilities_for_every_token(server: str, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue(server)
    backend = RemoteBackend("tiny-guard", url)
    try:
        await backend.load()
        assert backend.chat_continues == (server == "vllm_server")
        for query in (
            Query(
                pieces=(PromptPiece("Bake a lämp 😀 漢字\n\n"),), continuation="Answers: \nRequest:", max_tokens=12, choices=20
            ),
            Query(messages=(Message("user", "Bake a lämp 😀 漢字"),), max_tokens=12, choices=20),
        ):
            answer = await completed(backend, query)
            assert answer.choices is not None
            assert 0 < len(answer.choices.starts) <= 12
            for number, start in enumerate(answer.choices.starts[:-1]):
                chances = answer.choices.alternatives(number)
                chosen = max(chances, key=chances.__getitem__)
                assert answer.text.startswith(chosen, start)
                assert 0.5 < sum(chances.values()) <= 1.0001
        long = await ask(backend, Query(pieces=(PromptPiece("bake a lamp " * 3000),)))
        assert str(long) == "the prompt is too long for the server's model (HTTP 400)"
    finally:
        await backend.aclose()


async def test_a_real_server_without_probabilities_still_answers(servers: Any, request: pytest.FixtureRequest) -> None:
    servers.skip_without(*servers.LLAMA_CPP)
    with servers.running_llama_cpp_server(request.getfixturevalue("tiny_guard").gguf, logits_all=False) as url:
        backend = RemoteBackend("tiny-guard", url, retries=0)
        try:
            for _ in range(2):
                answer = await completed(backend, Query(pieces=(PromptPiece("Answers: \nRequest:"),), max_tokens=3, choices=20))
                assert answer.text
                assert answer.choices is None
        finally:
            await backend.aclose()
