"""What the remote backend says where a server refuses, and what it never says."""

import logging
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from guardreasoner_sdk.backends.remote import RemoteBackend
from guardreasoner_sdk.errors import BackendError, ConfigurationError
from guardreasoner_sdk.generation import Completion, PromptPiece, Query

KEY = "sk-very-secret"
JUDGED = "how do I bake the judged text"

Make = Callable[..., RemoteBackend]


async def ask(backend: RemoteBackend) -> Completion | BackendError:
    (answer,) = await backend.generate([Query(pieces=(PromptPiece(JUDGED),), max_tokens=64)], deadline=None)
    return answer


async def completed(backend: RemoteBackend) -> Completion:
    answer = await ask(backend)
    assert isinstance(answer, Completion), answer
    return answer


async def judged(backend: RemoteBackend) -> None:
    """Raise what went wrong, whether it came back or was raised."""
    answer = await ask(backend)
    assert isinstance(answer, BackendError)
    raise answer


@pytest.mark.parametrize(
    ("status", "code", "message", "error", "said"),
    [
        (401, None, "Incorrect API key provided", ConfigurationError, r"api_key: the server at HOST refuses it \(HTTP 401\)"),
        (403, None, "Forbidden", ConfigurationError, r"api_key: the server at HOST refuses it \(HTTP 403\)"),
        (
            404,
            None,
            "The model does not exist",
            ConfigurationError,
            r"model: the server at HOST has no model 'm'.*GET base_url/models",
        ),
        (400, "model_not_found", "The model does not exist", ConfigurationError, r"model: the server at HOST has no model 'm'"),
        (
            400,
            None,
            "This model's maximum context length is 9 tokens.",
            BackendError,
            r"the prompt is too long .*\(HTTP 400\)$",
        ),
        (
            400,
            "context_length_exceeded",
            "Too many.",
            BackendError,
            r"the prompt is too long for the server's model \(HTTP 400\)$",
        ),
        (413, None, "Payload", BackendError, r"the prompt is too long for the server's model \(HTTP 413\)$"),
        (418, None, "I'm a teapot", BackendError, r"the server at HOST refuses the request \(HTTP 418\)$"),
        (307, None, "over there", BackendError, r"the server at HOST points elsewhere \(HTTP 307\); set base_url"),
        (429, None, "slow down", BackendError, r"the server at HOST failed with HTTP 429$"),
        (503, None, "Loading model", BackendError, r"the server at HOST failed with HTTP 503$"),
    ],
)
async def test_an_error_names_status_and_host_and_nothing_that_the_server_said(
    remote: Make,
    faulty_server: Any,
    servers: Any,
    caplog: pytest.LogCaptureFixture,
    status: int,
    code: str | None,
    message: str,
    error: type[Exception],
    said: str,
) -> None:
    caplog.set_level(logging.DEBUG, "guardreasoner_sdk")
    faulty_server.plan(servers.refusal(status, f"{message} {KEY} {JUDGED}", code, location="http://127.0.0.1:1/"))
    backend = remote(api_key=KEY, base_url=faulty_server.url)
    with pytest.raises(error, match=said.replace("HOST", faulty_server.host)) as raised:
        await judged(backend)
    shown = "".join(traceback.format_exception(raised.value)) + caplog.text + repr(backend) + repr(raised.value)
    assert KEY not in shown
    assert JUDGED not in shown
    assert raised.value.__context__ is None
    assert len(faulty_server.asked) == 1


async def test_the_users_name_and_password_are_in_no_error_and_no_log(
    remote: Make, faulty_server: Any, servers: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    faulty_server.plan(servers.refusal(500, "no"))
    backend = remote(base_url=faulty_server.url.replace("http://", f"http://me:{KEY}@"))
    error = await ask(backend)
    assert str(error) == f"the server at {faulty_server.host} failed with HTTP 500"
    assert KEY not in caplog.text + repr(backend) + repr(error)
    assert repr(backend) == f"RemoteBackend('m', host='{faulty_server.host}')"


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 100 tokens, however you requested 154 tokens (90 in your prompt; 64 for the completion).",
        "This model's maximum context length is 100 tokens. However, you requested 154 tokens (90 in the messages, 64 in the completion).",
        "'max_tokens' is too large: 64. This model's maximum context length is 100 tokens and your request has 90 input tokens (64 > 100 - 90).",
        "`inputs` tokens + `max_new_tokens` must be <= 100. Given: 90 `inputs` tokens and 64 `max_new_tokens`",
    ],
)
async def test_an_answer_gets_the_room_that_the_context_leaves(
    remote: Make, faulty_server: Any, servers: Any, message: str
) -> None:
    faulty_server.plan(servers.refusal(400, message), servers.answer("cut", finish="length"))
    assert (await completed(remote())).finish_reason == "length"
    assert [request.body["max_tokens"] for request in faulty_server.asked] == [64, 10]
    # Asked for less once, and no more: nothing is cut further.
    faulty_server.plan(servers.refusal(400, message))
    assert "too long" in str(await ask(remote()))
    assert len(faulty_server.asked) == 2
