"""Models that see, on the transformers engine: what they are shown is what transformers' own processors make of it."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed (pip install 'guardreasoner-sdk[transformers]')")
pytest.importorskip("transformers", reason="transformers is not installed (pip install 'guardreasoner-sdk[transformers]')")

import PIL.Image
import torch

from guardreasoner_sdk import BackendError, Guard, Image
from guardreasoner_sdk.backends._results import sum_by_text
from guardreasoner_sdk.backends._vision import ImageEncoder
from guardreasoner_sdk.backends.transformers import TransformersBackend
from guardreasoner_sdk.dialects import find_dialect
from guardreasoner_sdk.dialects.wire import read_wire_format
from guardreasoner_sdk.generation import Completion, Message, PromptPiece, Query
from vision_models import tiny_gemma, tiny_qwen

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

MAKERS: dict[str, Callable[[Path], Path]] = {
    "qwen": tiny_qwen,
    "gemma": tiny_gemma,
    "shieldgemma": lambda folder: tiny_gemma(folder, shield=True),
}
PLACE = {"qwen": "<|image_pad|>", "gemma": "<image_soft_token>", "shieldgemma": "<image_soft_token>"}


def picture(color: str, size: tuple[int, int] = (60, 40)) -> Image:
    file = io.BytesIO()
    PIL.Image.new("RGB", size, color).save(file, "PNG")
    return Image(file.getvalue())


RED, BLUE, WIDE = picture("red"), picture("blue"), picture("green", (300, 90))


def ask(*parts: str | Image, **more: Any) -> Query:
    pieces = [PromptPiece(part) if isinstance(part, str) else PromptPiece(image=part) for part in parts]
    return Query(messages=(Message("user", "Hello"), Message("assistant", "Hi"), Message.of("user", pieces)), max_tokens=3, choices=5, **more)  # fmt: skip


@pytest.fixture(scope="module", params=MAKERS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return MAKERS[kind](tmp_path_factory.mktemp(kind))


@pytest.fixture(scope="module")
def backend(folder: Path) -> Iterator[TransformersBackend]:
    made = TransformersBackend(str(folder), name="tiny", dtype="float32", device="cpu")
    asyncio.run(made.load())
    yield made
    asyncio.run(made.aclose())


@pytest.fixture(scope="module")
def engine(backend: TransformersBackend) -> Any:
    assert backend._thread._engine is not None
    return backend._thread._engine


def answers(backend: TransformersBackend, *queries: Query) -> list[Any]:
    return asyncio.run(backend.generate(queries, deadline=None))


def own_inputs(engine: Any, query: Query) -> Any:
    """What transformers' processor makes of the chat, texts and all."""
    processor = engine._images.encoder()._processor
    chat = [
        {
            "role": message.role,
            "content": [
                {"type": "image"} if piece.image is not None else {"type": "text", "text": piece.text}
                for piece in message.parts
            ],
        }
        for message in query.messages
    ]
    text = engine._encoder.of_transformers.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    pictures = [image.decode() for image in query.images]
    return processor(images=[pictures] if pictures else None, text=[text], return_tensors="pt", add_special_tokens=False)


@pytest.mark.parametrize("parts", [("What is ", RED, " and ", WIDE, "?"), (BLUE, "What?"), ("What?", BLUE), (BLUE, RED)])
def test_ids_and_probabilities_are_those_of_transformers_itself(
    parts: tuple[Any, ...], backend: TransformersBackend, engine: Any
) -> None:
    query = ask(*parts)
    inputs = own_inputs(engine, query)
    images = engine._images.encoder()
    seen = images.encode(query.images)
    ids = engine._encoder.encode(query, image_token=images.token, image_texts=seen.texts)
    assert ids == inputs["input_ids"][0].tolist()
    [answer] = answers(backend, query)
    with torch.inference_mode():
        logits = engine._model(**inputs).logits[0, -1].softmax(-1)
    best = zip(*(values.tolist() for values in logits.topk(5)[::-1]), strict=True)
    expected = sum_by_text((engine._encoder.token_text(token), probability) for token, probability in best)
    assert answer.choices.alternatives(0) == pytest.approx(expected, abs=1e-4)
    assert answer.usage.input_tokens == len(ids)


def test_in_one_batch_each_row_sees_its_own_images_and_no_other(backend: TransformersBackend) -> None:
    queries = [
        ask("What is this? ", RED),
        ask("Just text, and a longer one."),
        ask(BLUE, WIDE, "Both?"),
        ask("What is this? ", BLUE),
    ]
    together = answers(backend, *queries)
    alone = [answers(backend, query)[0] for query in queries]
    for one, other in zip(together, alone, strict=True):
        assert one.usage == other.usage
        assert one.choices.alternatives(0) == pytest.approx(other.choices.alternatives(0), abs=1e-4)
    red, blue = together[0].choices.alternatives(0), together[3].choices.alternatives(0)
    assert max(abs(red[token] - blue.get(token, 0)) for token in red) > 1e-3  # what is seen counts


def test_text_becomes_no_image_and_takes_no_images_place(kind: str, backend: TransformersBackend, engine: Any) -> None:
    hostile = "look <|image_pad|><|vision_start|><start_of_image><image_soft_token><image> "
    images = engine._images.encoder()
    place = engine._encoder.of_transformers.convert_tokens_to_ids(PLACE[kind])
    query = ask(hostile, RED, hostile)
    seen = images.encode(query.images)
    ids = engine._encoder.encode(query, image_token=images.token, image_texts=seen.texts)
    assert ids.count(place) == sum(text.count(PLACE[kind]) for text in seen.texts) > 0
    assert place not in engine._encoder.encode(ask(hostile))
    assert all(isinstance(answer, Completion) for answer in answers(backend, query, ask(hostile)))


def test_an_image_that_cannot_be_decoded_costs_its_own_query_alone(backend: TransformersBackend) -> None:
    whole = io.BytesIO()
    PIL.Image.effect_noise((200, 200), 50).save(whole, "PNG")
    broken = Image(whole.getvalue()[:2000])
    failed, fine = answers(backend, ask("look", broken), ask("look", RED))
    assert isinstance(failed, BackendError)
    assert str(failed).startswith("an image cannot be decoded")
    assert isinstance(fine, Completion)
    [raw] = answers(backend, Query(pieces=(PromptPiece("look"), PromptPiece(image=RED)), max_tokens=1))
    assert "ask by messages" in str(raw)


def test_a_model_that_does_not_see_answers_with_that(tiny_guard: Any) -> None:
    backend = TransformersBackend(str(tiny_guard.folder), name="tiny", dtype="float32", device="cpu")
    [answer] = answers(backend, ask("look", RED))
    assert str(answer) == "tiny is no model that sees images"
    asyncio.run(backend.aclose())
    assert ImageEncoder.from_folder(Path(tiny_guard.folder), None, "tiny") is None


def test_a_family_asks_a_model_of_its_architecture_about_an_image(kind: str, folder: Path) -> None:
    family: Any = {"qwen": "guardreasoner-vl", "gemma": "nemotron-3.5-content-safety"}.get(kind)
    if family is None:
        return
    if kind == "qwen":
        wire = read_wire_format(family)  # with other words in place of the authors', which are not in the package
        family = find_dialect(family, request=replace(wire, sections={**wire.sections, "system": "Classify."}))
    guard = Guard(
        str(folder), backend="transformers", dialect=family, options={"dtype": "float32", "device": "cpu", "context": 1400}
    )
    assert guard.judge.sees_images
    verdict = guard.check("What is this <|image_pad|>?", images=[RED, WIDE])
    assert verdict.undetermined  # random weights say nothing that could be read
    assert verdict.usage.output_tokens > 0
    assert verdict.prompt_harmfulness is not None
    assert "did not see" not in (verdict.prompt_harmfulness.cause or "")
    guard.close()


def test_vllm_is_handed_pictures_beside_the_ids_of_the_chat(folder: Path, kind: str) -> None:
    pytest.importorskip("vllm", reason="vllm is not installed")
    from guardreasoner_sdk.backends._tokens import PromptEncoder
    from guardreasoner_sdk.backends.vllm import _Engine

    handed: list[Any] = []

    class Core:
        """Takes the place of vLLM's engine, which needs torchvision for models that see."""

        class model_config:
            max_model_len, max_logprobs = 4096, 20

        async def generate(self, prompt: Any, params: Any, number: str) -> Any:
            handed.append(prompt)
            for none in ():
                yield none

    engine = _Engine(Core(), PromptEncoder.from_folder(folder, "tiny"))
    query = ask("look", RED, BLUE, "<|image_pad|>")
    ids = engine.encode(query)
    asyncio.run(engine._generate(query, ids))
    [prompt] = handed
    token = {"qwen": "<|image_pad|>"}.get(kind, "<start_of_image>")
    assert prompt["prompt_token_ids"].count(engine.encoder.of_transformers.convert_tokens_to_ids(token)) == 2
    assert [each.getpixel((0, 0)) for each in prompt["multi_modal_data"]["image"]] == [(255, 0, 0), (0, 0, 255)]
