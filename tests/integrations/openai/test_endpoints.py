"""No endpoint of the installed SDK gives generated text past the guard."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest
from openai import AsyncOpenAI, OpenAI

from guardreasoner_integrations.openai import guarded
from guardreasoner_integrations.openai._routes import route_of
from guardreasoner_sdk import ConfigurationError, Guard

REQUEST = re.compile(r'self\._(post|get|delete|put|patch|get_api_list)\(\s*(?:path_template\(\s*)?f?"(/[^"]*)"')

# What a guarded client passes on unjudged, looked at one by one: none of it is text that a model wrote.
PASSED = {
    *("audio", "containers", "content_provenance_checks", "embeddings", "files", "fine_tuning", "images", "models"),
    *("moderations", "organization", "projects", "skills", "uploads", "vector_stores", "videos"),
    *("webhook_endpoints", "webhook_event_types"),
}
PASSED_TOO = {("post", "/responses/input_tokens")}

# Methods that send nothing themselves: they call others of this list, or only compute.
COMPOSED = re.compile(r"(create|stream|poll|parse|wait|upload|prepare|submit_tool_outputs|for_result)\w*$")


def methods(holder: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every method of every resource."""
    resources = dict(inspect.getmembers_static(type(holder))) | vars(holder)
    for name, member in resources.items():
        if name.startswith(("_", "with_")):
            continue
        if isinstance(member, functools.cached_property) or type(member).__module__.startswith("openai.resources"):
            yield from methods(getattr(holder, name), f"{path}.{name}".strip("."))
        elif inspect.isfunction(member) and path:
            yield f"{path}.{name}", member


@pytest.mark.parametrize("kind", [OpenAI, AsyncOpenAI])
def test_every_endpoint_of_the_sdk_is_judged_or_refused_or_known_to_be_harmless(kind: Any) -> None:
    judged, unseen = set(), []
    for name, method in methods(kind(api_key="k"), ""):
        source = inspect.getsource(method)
        requests = REQUEST.findall(source)
        for verb, path in requests:
            verb, path = ("get" if verb == "get_api_list" else verb), path.partition("?")[0]
            try:
                route = route_of(verb, path, "http://server/v1/")
            except ConfigurationError:
                continue
            if route is not None:
                judged.add(name)
            elif verb != "delete" and path.split("/")[1] not in PASSED and (verb, path) not in PASSED_TOO:
                unseen.append((name, verb, path))
        if not requests and not COMPOSED.search(name) and not name.endswith(".connect") and not name.startswith("webhooks."):
            unseen.append((name, "", ""))
    assert not unseen
    assert {"chat.completions.create", "responses.create"} <= judged
    assert {name.removeprefix("beta.").rpartition(".")[0] for name in judged} == {"chat.completions", "responses"}


@pytest.mark.parametrize("kind", [OpenAI, AsyncOpenAI])
def test_no_web_socket_opens(guard: Guard, kind: Any) -> None:
    plain = kind(api_key="k")
    client = guarded(plain, guard)
    names = [name for name, _ in methods(plain, "") if name.endswith(".connect")]
    assert names
    for name in names:
        connect = functools.reduce(getattr, name.split("."), client)
        with pytest.raises(ConfigurationError, match=r"connect: .* call chat.completions.create"):
            connect(model="m")


REFUSED = {
    "completions.create": {"model": "m", "prompt": "say: x"},
    "chat.completions.retrieve": {"completion_id": "c"},
    "chat.completions.update": {"completion_id": "c", "metadata": {}},
    "chat.completions.list": {},
    "chat.completions.messages.list": {"completion_id": "c"},
    "responses.retrieve": {"response_id": "r"},
    "responses.cancel": {"response_id": "r"},
    "responses.compact": {"model": "m"},
    "responses.input_items.list": {"response_id": "r"},
    "conversations.items.list": {"conversation_id": "c"},
    "batches.create": {"completion_window": "24h", "endpoint": "/v1/chat/completions", "input_file_id": "f"},
    "batches.retrieve": {"batch_id": "b"},
    "beta.threads.create_and_run": {"assistant_id": "a"},
    "beta.threads.messages.list": {"thread_id": "t"},
    "beta.assistants.create": {"model": "m"},
    "realtime.client_secrets.create": {},
    "evals.list": {},
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Assistants are on their way out, and say so.
@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("name", REFUSED)
def test_what_would_not_be_judged_is_refused_before_it_is_sent(server: Any, guard: Guard, name: str, raw: bool) -> None:
    *path, method = name.split(".")
    with OpenAI(base_url=server.url, api_key="k") as plain:
        try:
            resource = functools.reduce(getattr, path, guarded(plain, guard))
            call = getattr(resource.with_raw_response if raw else resource, method)
        except AttributeError:
            pytest.skip("this SDK has no such endpoint")
        with pytest.raises(ConfigurationError, match=r"is not judged by a guarded client; call chat\.completions\.create"):
            call(**REFUSED[name])
    assert not server.requests


async def test_what_would_not_be_judged_is_refused_by_the_asynchronous_client_too(server: Any, guard: Guard) -> None:
    async with AsyncOpenAI(base_url=server.url, api_key="k") as plain:
        client = guarded(plain, guard)
        with pytest.raises(ConfigurationError, match="^POST /completions: "):
            await client.completions.create(model="m", prompt="say: x")
        with pytest.raises(ConfigurationError, match="^GET /responses: "):
            await client.responses.retrieve("r")
    assert not server.requests


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_in_the_background_is_refused(server: Any, guard: Guard, stream: bool) -> None:
    with OpenAI(base_url=server.url, api_key="k") as plain, pytest.raises(ConfigurationError, match="^background: "):
        guarded(plain, guard).responses.create(model="m", input="say: x", stream=stream, extra_body={"background": True})
    assert not server.requests


@pytest.mark.parametrize(
    "url", ["/chat/completions", "/deployments/m/chat/completions", "http://server/v1/chat/completions?a=b"]
)
def test_chat_is_known_by_every_address(url: str) -> None:
    assert route_of("post", url, "http://server/v1/") == "chat"


@pytest.mark.parametrize(
    "url", ["http://elsewhere/v1/chat/completions", "/", "/v2/models", "/deployments/m/completions", "/new"]
)
def test_an_unknown_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="not judged"):
        route_of("POST", url, "http://server/v1/")


def test_what_is_no_text_of_a_model_passes(server: Any, guard: Guard) -> None:
    with OpenAI(base_url=server.url, api_key="k") as plain:
        assert list(guarded(plain, guard).models.list()) == []


def test_the_low_level_call_is_judged_too(server: Any, guard: Guard) -> None:
    with OpenAI(base_url=server.url, api_key="k") as plain:
        client = guarded(plain, guard, on_block="message")
        body = {"model": "m", "messages": [{"role": "user", "content": "say: evil"}]}
        assert (
            client.post("/chat/completions", body=body, cast_to=dict[str, Any])["choices"][0]["finish_reason"]
            == "content_filter"
        )
