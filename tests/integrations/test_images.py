"""Images in what frameworks hand over: shown to a guard that sees, and refused or undecided where none does."""

from __future__ import annotations

import io
from typing import Any

import PIL.Image
import pytest

pytest.importorskip("fastapi", reason="fastapi is not installed (pip install 'guardreasoner-sdk[server]')")
pytest.importorskip("prometheus_client", reason="pip install 'guardreasoner-sdk[server]'")

from fastapi.testclient import TestClient

from guardreasoner_integrations._messages import read_messages, readings
from guardreasoner_sdk import Exchange, Guard, Image, InputError
from guardreasoner_sdk.images import MAX_IMAGES
from guardreasoner_sdk.server.app import create_app
from guardreasoner_sdk.server.settings import ServerSettings
from guardreasoner_sdk.testing import ScriptedJudge, judgement


def picture(color: str) -> Image:
    file = io.BytesIO()
    PIL.Image.new("RGB", (9, 8), color).save(file, "PNG")
    return Image(file.getvalue())


RED, BLUE = picture("red"), picture("blue")
PART = {"type": "image_url", "image_url": {"url": RED.data_url}}
AWAY = {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}}
ASKED = [{"role": "user", "content": [{"type": "text", "text": "What is"}, PART, {"type": "text", "text": "this?"}]}]


def judge(*, sees: bool = True) -> ScriptedJudge:
    """Finds the red picture harmful."""
    return ScriptedJudge(
        lambda exchange: judgement(
            "harmful" if RED in exchange.all_images else "unharmful",
            *(("compliance", "unharmful") if exchange.response is not None else ()),
        ),
        sees_images=sees,
    )


def test_messages_keep_images_and_their_order_for_a_guard_that_sees() -> None:
    [asked] = readings("messages", list(read_messages("messages", ASKED, "raise", images=True)))
    assert (asked.prompt, asked.images, asked.image_places) == ("What is\nthis?", (RED,), (7,))
    with pytest.raises(InputError, match="is not text but 'image_url', which this guard cannot judge"):
        list(read_messages("messages", ASKED, "raise"))
    away = [{"role": "user", "content": [{"type": "text", "text": "hi"}, AWAY]}]
    with pytest.raises(InputError, match="is an address"):
        list(read_messages("messages", away, "raise", images=True))
    [told] = read_messages("messages", away, "allow", images=True)
    assert told["content"] == "hi\n[image_url]"
    answered = [*ASKED, {"role": "assistant", "content": [PART]}]
    with pytest.raises(InputError, match=r"^messages\[1\]"):
        list(read_messages("messages", answered, "raise", images=True))


@pytest.fixture
def client() -> Any:
    def make(scripted: ScriptedJudge) -> TestClient:
        app = create_app(Guard(judge=scripted), ServerSettings(keys=["k"]))
        return TestClient(app, headers={"Authorization": "Bearer k"})

    return make


def test_the_server_shows_images_to_a_guard_that_sees(client: Any) -> None:
    own = judge()
    with client(own) as server:
        checked = server.post("/v1/check", json={"prompt": "look", "images": [RED.data_url]})
        assert (checked.status_code, checked.json()["action"]) == (200, "block")
        assert server.post("/v1/check", json={"prompt": "look", "images": [BLUE.data_url]}).json()["action"] == "allow"
        assert server.post("/v1/check", json={"messages": ASKED}).json()["action"] == "block"
        moderated = server.post("/v1/moderations", json={"input": [{"type": "text", "text": "look"}, PART]}).json()["results"]
        assert [result["flagged"] for result in moderated] == [True]
        assert moderated[0]["category_applied_input_types"]["violence"] == ["text", "image"]
        assert server.post("/v1/moderations", json={"input": [PART]}).json()["results"][0]["flagged"]
        for path, body, place in (
            ("/v1/check", {"prompt": "look", "images": ["https://x.y/z.png"]}, "images[0]"),
            ("/v1/moderations", {"input": [AWAY]}, "input[0].image_url.url"),
            ("/v1/check", {"prompt": "look", "images": ["/etc/passwd"]}, "images[0]"),
        ):
            refused = server.post(path, json=body)
            assert refused.status_code in (400, 422)
            assert place in refused.text
    assert Exchange("look", images=[BLUE]) in own.seen


def test_the_server_refuses_images_where_the_guard_does_not_see(client: Any) -> None:
    with client(judge(sees=False)) as server:
        for path, body in (
            ("/v1/check", {"prompt": "look", "images": [RED.data_url]}),
            ("/v1/check", {"messages": ASKED}),
            ("/v1/moderations", {"input": [PART]}),
        ):
            refused = server.post(path, json=body)
            assert refused.status_code in (400, 422)
            assert "image" in refused.text


def test_langchain_shows_images_to_a_guard_that_sees() -> None:
    messages = pytest.importorskip("langchain_core.messages", reason="langchain is not installed")
    from guardreasoner_integrations.langchain._questions import Question, answer_of, prompt_of
    from guardreasoner_integrations.langchain._questions import judge as ask

    asked = messages.HumanMessage([{"type": "text", "text": "What is this?"}, PART])
    blue = messages.HumanMessage([{"type": "image", "base64": BLUE.data_url.partition(",")[2], "mime_type": "image/png"}])
    away = messages.HumanMessage([{"type": "text", "text": "this?"}, {"type": "image", "url": "https://example.org/a.png"}])
    seeing = judge()
    guard = Guard(judge=seeing)
    red, harmless, unseen = ask(guard, [Question(prompt_of([each])) for each in (asked, blue, away)])
    assert (red.action, harmless.action, unseen.action) == ("block", "allow", "block")
    assert red.prompt_harmfulness.label == "harmful"
    assert unseen.prompt_harmfulness.cause == "it holds image, which is not text"
    assert [exchange.images for exchange in seeing.seen] == [(RED,), (BLUE,), ()]
    [answer] = ask(guard, [Question(prompt_of([asked]), answer_of([messages.AIMessage("A knife.")]))])
    assert (answer.action, seeing.seen[-1].images) == ("block", (RED,))
    tool = messages.ToolMessage([PART], tool_call_id="1")
    assert ask(guard, [Question(prompt_of([tool]))])[0].undetermined
    [blind] = ask(Guard(judge=judge(sees=False)), [Question(prompt_of([asked]))])
    assert blind.prompt_harmfulness.cause == "it holds image_url, which is not text"


def test_openais_client_asgi_and_litellm_show_images_to_a_guard_that_sees() -> None:
    from guardreasoner_integrations.asgi import GuardedRoute
    from guardreasoner_integrations.openai._prompts import chat_exchange, responses_exchange

    [chat] = chat_exchange({"messages": ASKED}, "raise", images=True)
    content = [{"type": "input_text", "text": "What is"}, {"type": "input_image", "image_url": RED.data_url}, {"type": "input_text", "text": "this?"}]  # fmt: skip
    [response] = responses_exchange({"input": [{"role": "user", "content": content}]}, "raise", images=True)
    [route] = GuardedRoute("/chat", messages="$.messages", response="$.answer").readings({"messages": ASKED}, images=True)
    for asked in (chat, response, route):
        assert (asked.prompt, asked.images, asked.image_places) == ("What is\nthis?", (RED,), (7,))
    pytest.importorskip("litellm", reason="litellm is not installed")
    from guardreasoner_integrations.litellm._requests import asked_by, exchanges_of

    found = exchanges_of({"messages": ASKED}, "raise", images=True)
    assert asked_by(found).images == (RED,)
    assert asked_by([Exchange("a", images=[RED]), Exchange("b", images=[RED])]).images == (RED,)
    several = [Image.of(PIL.Image.new("L", (1, 1), value)) for value in range(MAX_IMAGES + 1)]
    with pytest.raises(InputError, match="the most is"):
        asked_by([Exchange("a", images=several[:2]), Exchange("b", images=several[2:])])
