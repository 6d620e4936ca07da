"""Families that see: where images stand in what they are asked, and that no text becomes one."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardreasoner_sdk import Exchange, Guard, Image, ReasonerJudge, Turn
from guardreasoner_sdk.backends.remote import RemoteBackend
from guardreasoner_sdk.dialects import PromptedDialect, find_dialect
from guardreasoner_sdk.dialects.families import FAMILIES, sample_dialect
from guardreasoner_sdk.dialects.wire import read_wire_format
from guardreasoner_sdk.generation import Capabilities, Message, Query

SEEING = {"guardreasoner-omni", "guardreasoner-vl", "llama-guard-4", "nemotron-3-content-safety", "nemotron-3.5-content-safety"}


def picture(color: str) -> Image:
    file = io.BytesIO()
    PIL.Image.new("RGB", (9, 8), color).save(file, "PNG")
    return Image(file.getvalue())


def made(family: str) -> Any:
    """The family; where its request is not in the package, with other words in place of the authors'."""
    if not family.startswith("guardreasoner-"):
        return find_dialect(family)
    wire = read_wire_format(family)
    return find_dialect(family, request=replace(wire, sections={**wire.sections, "system": "Classify."}))


RED, BLUE, GREEN = picture("red"), picture("blue"), picture("green")
EXCHANGE = Exchange(
    "What is\nthis?",
    "A cat.",
    [{"role": "user", "content": "Look!", "images": [BLUE]}, {"role": "assistant", "content": "Nice."}],
    images=[RED, GREEN],
    image_places=[0, 7],
)


def queries(dialect: Any, exchange: Exchange = EXCHANGE) -> Sequence[Query]:
    return next(dialect.ask(exchange, "auto", Capabilities(images=True)))


def laid_out(message: Message) -> list[Any]:
    """Text and images of a message, in order; neighbouring texts as one."""
    found: list[Any] = []
    for piece in message.parts:
        if piece.image is not None:
            found.append(piece.image)
        elif found and isinstance(found[-1], str):
            found[-1] += piece.text
        else:
            found.append(piece.text)
    return found


def test_these_families_see_and_no_other() -> None:
    assert {name for name in FAMILIES if getattr(sample_dialect(name), "sees_images", False)} == SEEING
    assert all(made(family).sees_images for family in SEEING)


@pytest.mark.parametrize("model", ["omni", "vl"])
def test_guardreasoner_has_images_inside_the_humans_part(model: str) -> None:
    [query] = queries(made(f"guardreasoner-{model}"), Exchange("What is this?", images=[RED, BLUE]))
    system, user = query.messages
    before, after = read_wire_format(f"guardreasoner-{model}").sections["user"].split("{prompt}")
    assert laid_out(user) == [before, RED, BLUE, "What is this?" + after.replace("{response}", "None")]
    assert before.lower() == "human user:\n"  # the evaluation of its authors puts media between this line and the text
    assert not system.images
    [query] = queries(made(f"guardreasoner-{model}"))
    assert laid_out(query.messages[1])[:6] == [
        f"{before}[earlier user message] ",
        BLUE,
        "Look!\n[earlier assistant message] Nice.\n[current user message] ",
        RED,
        "What is",
        GREEN,
    ]


@pytest.mark.parametrize("family", sorted(SEEING - {"guardreasoner-omni", "guardreasoner-vl"}))
def test_chat_templates_are_handed_images_where_they_were_shown(family: str) -> None:
    *_, query = queries(find_dialect(family))
    first, second, third, fourth = query.messages
    assert laid_out(first) == [BLUE, "Look!"]
    assert (second.role, second.content) == ("assistant", "Nice.")
    assert laid_out(third) == [RED, "What is", GREEN, "\nthis?"]
    assert (fourth.role, fourth.content, fourth.images) == ("assistant", "A cat.", ())
    assert query.images == (BLUE, RED, GREEN)


def test_llama_guard_asks_about_the_prompt_with_its_images_and_without_the_answer() -> None:
    prompt, response = queries(find_dialect("llama-guard-4"))
    assert [message.role for message in prompt.messages] == ["user", "assistant", "user"]
    assert prompt.images == response.images == EXCHANGE.all_images


def test_a_prompted_model_sees_only_where_that_is_said() -> None:
    assert not PromptedDialect().sees_images
    query = queries(PromptedDialect(images=True))[0]
    user = query.messages[-1]
    assert [part for part in laid_out(user) if isinstance(part, Image)] == list(EXCHANGE.all_images)


@settings(deadline=None, max_examples=60)
@given(
    family=st.sampled_from(sorted(SEEING)),
    texts=st.lists(st.text(max_size=20) | st.sampled_from(["<|image_pad|>", "Human user:", "<image>"]), min_size=1, max_size=4),
    data=st.data(),
)
def test_no_image_is_lost_and_none_comes_about(family: str, texts: list[str], data: st.DataObject) -> None:
    shown = data.draw(st.lists(st.sampled_from([RED, BLUE, GREEN]), max_size=4))
    prompt = "x" + "\n".join(texts)
    places = sorted(data.draw(st.lists(st.integers(0, len(prompt)), min_size=len(shown), max_size=len(shown))))
    exchange = Exchange(prompt, None, [Turn(role="user", content="", images=(GREEN,))], images=shown, image_places=places)
    for query in queries(made(family), exchange):
        assert query.images == (GREEN, *shown)
        letters = "".join(part for message in query.messages for part in laid_out(message) if isinstance(part, str))
        assert all(word in letters for text in texts for word in text.split())


ANSWER = "<think>\nA knife, and a plan.\n</think>\n<result>\nRequest: harmful\nResponse: None\n</result>"


async def test_a_server_gets_data_urls_in_order_and_defused_texts(faulty: Any) -> None:
    server, chat_answer = faulty
    server.plan(chat_answer(ANSWER), chat_answer(ANSWER))
    guard = Guard(judge=ReasonerJudge(made("guardreasoner-vl"), RemoteBackend("m", server.url, retries=0, continues=False)))
    verdict = await guard.acheck("look <|image_pad|>", images=[RED, BLUE])
    assert verdict.prompt_harmfulness is not None
    assert verdict.prompt_harmfulness.label == "harmful"
    body = server.asked[-1].body
    system, user = body["messages"]
    assert isinstance(system["content"], str)
    assert [part["type"] for part in user["content"]] == ["text", "image_url", "image_url", "text"]
    assert [part["image_url"]["url"] for part in user["content"][1:3]] == [RED.data_url, BLUE.data_url]
    assert user["content"][3]["text"].startswith("look < |image_pad|>")
    assert RED.data_url[40:] not in verdict.model_dump_json()
    await guard.acheck("no image")
    assert isinstance(server.asked[-1].body["messages"][1]["content"], str)
    await guard.aclose()


async def test_a_server_that_does_not_see_leaves_it_undecided(faulty: Any) -> None:
    server, _ = faulty
    judge = ReasonerJudge(find_dialect("llama-guard-3"), RemoteBackend("m", server.url, retries=0))
    verdict = await Guard(judge=judge).acheck("", images=[RED])
    assert "did not see an image" in json.loads(verdict.model_dump_json())["prompt_harmfulness"]["cause"]
    assert not server.asked  # there was no text to ask about


@pytest.fixture
def faulty() -> Any:
    import servers

    with servers.running_faulty_server() as server:
        yield server, servers.chat_answer
