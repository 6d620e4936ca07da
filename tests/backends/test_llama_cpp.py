"""llama.cpp in this process, on real models: the tiny guard, and models that say what they were built to say."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from guardreasoner_sdk import BackendError, ClosedError, ConfigurationError, Exchange, MissingExtraError
from guardreasoner_sdk.backends.llama_cpp import LlamaCppBackend
from guardreasoner_sdk.dialects.guardreasoner import INSTRUCTION, GuardReasonerDialect
from guardreasoner_sdk.generation import Completion, Message, Query

from .llama_models import Reference, chain, one, plain, scripted, spelled

llama_cpp = pytest.importorskip("llama_cpp", reason="not installed: llama_cpp")
pytest.importorskip("gguf", reason="not installed: gguf, which writes the models")


def asking(exchange: Exchange, **changes: Any) -> Query:
    return replace(GuardReasonerDialect().render(exchange), **{"max_tokens": 400, **changes})


def words_of(text: str) -> list[int]:
    """Where words begin: there a beginning of the text has the tokens that the whole has."""
    return [found.start() for found in re.finditer(r"(?<=\w) \w", text)]


@pytest.fixture
def model(tmp_path: Path) -> Iterator[Callable[..., LlamaCppBackend]]:
    """Makes a backend of a script, and closes it."""
    made: list[LlamaCppBackend] = []

    def make(script: dict[str, list[str]], **options: Any) -> LlamaCppBackend:
        made.append(LlamaCppBackend(str(scripted(tmp_path / f"{len(made)}.gguf", script)), threads=1, **options))
        return made[-1]

    yield make
    for backend in made:
        asyncio.run(backend.aclose())


@pytest.fixture(scope="module")
def guard(tiny_guard: Any) -> Iterator[LlamaCppBackend]:
    backend = LlamaCppBackend(str(tiny_guard.gguf), threads=1)
    yield backend
    asyncio.run(backend.aclose())


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tokens each call computed."""
    counts: list[int] = []
    real = llama_cpp.Llama.eval

    def count(self: Any, tokens: Sequence[int]) -> None:
        counts.append(len(tokens))
        real(self, tokens)

    monkeypatch.setattr(llama_cpp.Llama, "eval", count)
    return counts


@pytest.fixture(scope="module")
def reference(tiny_guard: Any) -> Reference:
    return Reference(tiny_guard.folder)


@pytest.fixture(scope="module")
def exchanges(tiny_guard: Any) -> list[Exchange]:
    rows = [json.loads(line) for line in (tiny_guard.folder / "examples.jsonl").read_text("utf-8").splitlines()]
    return [Exchange(row["prompt"], row.get("response")) for row in rows]


async def test_greedy_answers_and_probabilities_are_those_of_transformers(
    guard: LlamaCppBackend, reference: Reference, exchanges: list[Exchange]
) -> None:
    for exchange in exchanges[:4]:
        query = asking(exchange, choices=5)
        answer = await one(guard, query)
        prompt = reference.ids(query.text or "")
        ids = reference.answer(prompt)
        assert answer.text == reference.text(ids)
        assert answer.finish_reason == "stop"
        assert (answer.usage.input_tokens, answer.usage.output_tokens) == (len(prompt), len(ids))
        assert answer.choices is not None
        assert list(answer.choices.starts) == [len(reference.text(ids[:number])) for number in range(len(ids))]
        expected = reference.probabilities(prompt + ids)[len(prompt) - 1 : -1]
        for number, row in enumerate(expected):
            found = answer.choices.alternatives(number)
            assert len(found) == 5
            for probability, token in zip(*(part.tolist() for part in row.topk(5)), strict=True):
                assert found.get(reference.tokenizer.decode([token]), 0.0) == pytest.approx(probability, abs=1e-3)


async def test_a_chat_is_rendered_by_the_models_own_template(guard: LlamaCppBackend, reference: Reference) -> None:
    messages = (Message("system", "Judge."), Message("user", "How do I bake a lamp?"))
    answer = await one(guard, Query(messages=messages, max_tokens=40))
    chat = [{"role": message.role, "content": message.content} for message in messages]
    rendered = reference.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    ids = reference.tokenizer(rendered, add_special_tokens=False)["input_ids"]
    assert answer.usage.input_tokens == len(ids)
    assert answer.text == reference.text(reference.answer(ids, 40))


async def test_a_chat_needs_a_template_in_the_file(model: Callable[..., LlamaCppBackend]) -> None:
    with pytest.raises(ConfigurationError, match="holds no chat template"):
        await one(model(chain("a")), Query(messages=(Message("user", "a"),)))


async def test_what_prompts_share_is_computed_once_whatever_comes_in_between(
    guard: LlamaCppBackend, reference: Reference, exchanges: list[Exchange], evaluated: list[int]
) -> None:
    instruction = len(reference.ids(INSTRUCTION)) - 2
    await one(guard, asking(exchanges[0], max_tokens=1))
    for exchange in exchanges[1:6]:
        evaluated.clear()
        answer = await one(guard, asking(exchange, max_tokens=1))
        assert answer.usage.cached_tokens >= instruction
        assert sum(evaluated) == answer.usage.input_tokens - answer.usage.cached_tokens
        assert answer.choices is None


async def test_a_question_about_an_answer_just_given_costs_one_token(
    guard: LlamaCppBackend, reference: Reference, exchanges: list[Exchange], evaluated: list[int]
) -> None:
    query = asking(exchanges[2])
    answer = await one(guard, query)
    places = [words_of(answer.text)[number] for number in (2, 9, -1)]
    probes = [replace(query, continuation=answer.text[:place], max_tokens=1, choices=20) for place in places]
    evaluated.clear()
    answers = await guard.generate(probes, deadline=None)
    assert evaluated == [1, 1, 1]
    for place, probe in zip(places, answers, strict=True):
        assert isinstance(probe, Completion)
        assert probe.usage.cached_tokens == probe.usage.input_tokens - 1
        assert probe.choices is not None
        ids = reference.ids(query.text or "") + reference.ids(answer.text[:place])[1:]
        assert len(ids) == probe.usage.input_tokens
        expected = reference.probabilities(ids)[-1]
        best = int(expected.argmax())
        assert probe.text == reference.tokenizer.decode([best])
        assert answer.text[place:].startswith(probe.text)
        assert probe.choices.alternatives(0)[probe.text] == pytest.approx(float(expected[best]), abs=1e-3)


async def test_the_same_prompt_again_costs_one_token(guard: LlamaCppBackend, evaluated: list[int]) -> None:
    first = await one(guard, plain("Human user:\nHow", max_tokens=3))
    evaluated.clear()
    second = await one(guard, plain("Human user:\nHow", max_tokens=3))
    assert evaluated == [1, 1, 1]
    assert second.text == first.text


async def test_64_calls_at_a_time_keep_their_prompts_in_the_cache(
    guard: LlamaCppBackend, reference: Reference, exchanges: list[Exchange]
) -> None:
    alone = [await one(guard, asking(exchange, max_tokens=6)) for exchange in exchanges]

    async def check(exchange: Exchange) -> tuple[Completion, Completion]:
        query = asking(exchange, max_tokens=6)
        answer = await one(guard, query)
        return answer, await one(guard, replace(query, continuation=answer.text, max_tokens=1))

    for (answer, probe), expected in zip(await asyncio.gather(*map(check, exchanges)), alone, strict=True):
        assert answer.text == expected.text
        assert probe.usage.cached_tokens == probe.usage.input_tokens - 1
    assert len(exchanges) == 64


async def test_a_continuation_is_gone_on_from_and_not_repeated(guard: LlamaCppBackend, exchanges: list[Exchange]) -> None:
    whole = await one(guard, asking(exchanges[0]))
    place = words_of(whole.text)[9]
    rest = await one(guard, asking(exchanges[0], continuation=whole.text[:place]))
    assert rest.text == whole.text[place:]


async def test_stop_strings_end_the_answer_and_are_cut_off(guard: LlamaCppBackend, exchanges: list[Exchange]) -> None:
    whole = await one(guard, asking(exchanges[0]))
    # Most of them begin or end in the middle of a token.
    for place in range(30, 40):
        stop, later = whole.text[place : place + 9], whole.text[place + 12 : place + 20]
        answer = await one(guard, asking(exchanges[0], stop=("nowhere", later, stop)))
        assert answer.text == whole.text.partition(stop)[0].partition(later)[0]
        assert answer.finish_reason == "stop"
        assert answer.usage.output_tokens < whole.usage.output_tokens
    cut = await one(guard, asking(exchanges[0], max_tokens=5))
    assert (cut.finish_reason, cut.usage.output_tokens) == ("length", 5)
    assert whole.text.startswith(cut.text)


async def test_characters_spread_over_tokens_come_out_whole(model: Callable[..., LlamaCppBackend]) -> None:
    text = "é€🎉"
    backend = model(chain("a", *spelled(text), "b"))
    answer = await one(backend, plain("a", choices=3))
    assert answer.text == f"{text}b"
    assert answer.choices is not None
    assert list(answer.choices.starts) == [0, 0, 1, 1, 1, 2, 2, 2, 2, 3, 4]
    found = answer.choices.at(1)
    assert found is not None
    assert found[0] == 1
    cut = await one(backend, plain("a", max_tokens=4))
    assert cut.text == "é\ufffd"
    stopped = await one(backend, plain("a", stop=("€",)))
    assert stopped.text == "é"


async def test_long_tokens_are_text_and_ends_are_not(model: Callable[..., LlamaCppBackend]) -> None:
    answer = await one(model(chain("a", "=" * 200, "b")), plain("a", choices=2))
    assert answer.text == "=" * 200 + "b"
    assert answer.finish_reason == "stop"
    assert answer.choices is not None
    assert "</s>" in answer.choices.alternatives(2)


async def test_a_temperature_draws_and_none_does_not(model: Callable[..., LlamaCppBackend]) -> None:
    backend = model({"a": ["b", "c"], "b": ["</s>"], "c": ["</s>"]})
    drawn = await backend.generate([plain("a", temperature=1.0, choices=1)] * 64, deadline=None)
    texts = {answer.text[:1] for answer in drawn if isinstance(answer, Completion)}
    assert texts >= {"b", "c"}
    assert all(one.choices and one.text[:1] in one.choices.alternatives(0) for one in drawn if isinstance(one, Completion))
    steady = await backend.generate([plain("a")] * 8, deadline=None)
    assert len({answer.text for answer in steady if isinstance(answer, Completion)}) == 1


async def test_a_prompt_longer_than_the_context_is_an_error_in_its_place(model: Callable[..., LlamaCppBackend]) -> None:
    backend = model({"a": ["a"]}, context=32, n_batch=8)
    short, long, last = await backend.generate([plain("a"), plain("a" * 31), plain("a" * 30)], deadline=None)
    assert isinstance(short, Completion)
    assert (short.finish_reason, short.usage.output_tokens) == ("length", 30)
    assert isinstance(long, BackendError)
    assert str(long).startswith("the prompt has 32 tokens, the model takes 32 with its answer")
    assert isinstance(last, Completion)
    assert last.usage.output_tokens == 1


async def test_the_context_is_the_models_own_up_to_8192_tokens(tmp_path: Path) -> None:
    for trained, expected in ((512, 512), (100_000, 8192)):
        backend = LlamaCppBackend(str(scripted(tmp_path / f"{trained}.gguf", chain("a"), context=trained)))
        [answer] = await backend.generate([plain("a" * expected)], deadline=None)
        assert f"the model takes {expected} " in str(answer)
        await backend.aclose()


async def test_numbers_that_overflow_are_no_answer(model: Callable[..., LlamaCppBackend]) -> None:
    [answer] = await model({"a": ["nan"]}).generate([plain("a")], deadline=None)
    assert isinstance(answer, BackendError)
    assert "overflow" in str(answer)


async def test_a_cancelled_task_stops_its_query_in_the_engine(
    model: Callable[..., LlamaCppBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = model({"a": ["a"]})
    loop, under_way = asyncio.get_running_loop(), asyncio.Event()
    cancelled, counts, real = threading.Event(), [], llama_cpp.Llama.eval

    def count(self: Any, tokens: Sequence[int]) -> None:
        counts.append(len(tokens))
        if len(counts) == 5:
            loop.call_soon_threadsafe(under_way.set)
            assert cancelled.wait(60)
        real(self, tokens)

    monkeypatch.setattr(llama_cpp.Llama, "eval", count)
    task = asyncio.create_task(backend.generate([plain("a")], deadline=None))
    waits = asyncio.create_task(backend.generate([plain("a", max_tokens=1)], deadline=None))
    gives_up = asyncio.create_task(backend.generate([plain("a")], deadline=None))
    await under_way.wait()
    task.cancel()
    gives_up.cancel()
    assert (await asyncio.gather(task, gives_up, return_exceptions=True)) != []
    cancelled.set()
    [answer] = await waits
    assert isinstance(answer, Completion)
    assert len(counts) == 6


async def test_a_deadline_ends_a_query_between_two_tokens(
    model: Callable[..., LlamaCppBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = model({"a": ["a"]}, n_batch=4)
    await backend.load()
    counts, real = [], llama_cpp.Llama.eval
    for query, most in ((plain("a", max_tokens=4000), 3), (plain("a" * 100), 3)):
        deadline = time.monotonic() + 0.2

        def slow(self: Any, tokens: Sequence[int], deadline: float = deadline, most: int = most) -> None:
            counts.append(len(tokens))
            while len(counts) == most and time.monotonic() <= deadline:
                pass
            real(self, tokens)

        counts.clear()
        monkeypatch.setattr(llama_cpp.Llama, "eval", slow)
        [answer] = await backend.generate([query], deadline=deadline)
        assert isinstance(answer, BackendError)
        assert "deadline" in str(answer)
        assert len(counts) <= most
    assert isinstance(await one(backend, plain("a", max_tokens=1)), Completion)


async def test_closing_fails_what_is_under_way_and_frees_the_model(
    model: Callable[..., LlamaCppBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = model({"a": ["a"]})
    await backend.load()
    loop, under_way, real = asyncio.get_running_loop(), asyncio.Event(), llama_cpp.Llama.eval
    models: weakref.WeakSet[Any] = weakref.WeakSet()

    def tell(self: Any, tokens: Sequence[int]) -> None:
        models.add(self)
        loop.call_soon_threadsafe(under_way.set)
        real(self, tokens)

    monkeypatch.setattr(llama_cpp.Llama, "eval", tell)
    tasks = [asyncio.create_task(backend.generate([plain("a", max_tokens=10**9)] * 9, deadline=None)) for _ in range(3)]
    await under_way.wait()
    assert len(models) == 1
    await backend.aclose()
    assert {type(error) for error in await asyncio.gather(*tasks, return_exceptions=True)} == {ClosedError}
    assert len(models) == 0
    with pytest.raises(ClosedError):
        await backend.generate([plain("a")], deadline=None)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_loads_the_model_anew(model: Callable[..., LlamaCppBackend]) -> None:
    backend = model(chain("a", "b"))
    assert asyncio.run(one(backend, plain("a"))).text == "b"
    child = os.fork()
    if child == 0:
        os._exit(0 if asyncio.run(one(backend, plain("a"))).text == "b" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert asyncio.run(one(backend, plain("a"))).text == "b"


async def test_nothing_is_written_to_the_terminal(
    model: Callable[..., LlamaCppBackend], capfd: pytest.CaptureFixture[str]
) -> None:
    backend = model(chain("a", "b"))
    await one(backend, plain("a"))
    await backend.aclose()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("damage", ["missing", "no GGUF", "cut off", "unknown"])
async def test_weights_that_cannot_be_loaded_are_named(damage: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = scripted(tmp_path / "guard.gguf", chain("a"))
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        changed = {"no GGUF": b"{}", "cut off": whole[:-1000], "unknown": whole.replace(b"llama", b"lemma")}
        path.write_bytes(changed[damage])
    backend = LlamaCppBackend(str(path))
    with pytest.raises(ConfigurationError, match=r"guard\.gguf") as caught:
        await backend.load()
    assert "\n" not in str(caught.value)
    expected = {"no GGUF": "is not a GGUF file", "cut off": "not within the file bounds", "unknown": "architecture: 'lemma'"}
    assert expected.get(damage, "") in str(caught.value)
    await backend.aclose()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("option", ["context", "threads", "n_batch", "n_gpu_layers"])
@pytest.mark.parametrize("value", [-2, 1.5, True, "8"])
def test_options_that_cannot_be_are_named(option: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"{option}: must be a whole number"):
        LlamaCppBackend("guard.gguf", **{option: value})


def test_without_llama_cpp_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    with pytest.raises(MissingExtraError, match=r"guardreasoner-sdk\[llama-cpp\]"):
        LlamaCppBackend("guard.gguf")
