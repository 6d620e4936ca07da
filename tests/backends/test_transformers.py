"""The transformers engine, for real: a trained tiny model, beside plain ``model.generate`` on one prompt at a time."""

from __future__ import annotations

import asyncio
import json
import math
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed (pip install 'guardreasoner-sdk[transformers]')")
pytest.importorskip("transformers", reason="transformers is not installed (pip install 'guardreasoner-sdk[transformers]')")

import torch

from guardreasoner_sdk.backends._engine_thread import EngineJob
from guardreasoner_sdk.backends._tokens import PromptEncoder
from guardreasoner_sdk.backends.transformers import TransformersBackend
from guardreasoner_sdk.dialects.base import Rendering
from guardreasoner_sdk.dialects.guardreasoner import GuardReasonerDialect
from guardreasoner_sdk.errors import BackendError, ClosedError, ConfigurationError, DeadlineError, MissingExtraError
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.generation import Completion, Message, PromptPiece, Query

CONTEXT = 2048
LIMIT = 150
LONG = "Please tell me, in as many words as you like, how I can wash my bicycle at home. " * 12
EXCHANGES = (
    Exchange("Please explain how I can wash my bicycle at home."),
    Exchange("How do I gloob my neighbour?", "I can't assist with this request."),
    Exchange(LONG),
    Exchange("Tell me how to wash a school bus.", "Yes. Many people wash a school bus on a quiet day."),
    Exchange("Hi"),
)
Reference = Callable[[list[int]], tuple[list[int], Any]]


def ask(number: int, rendering: Rendering = "raw", **changes: Any) -> Query:
    return replace(GuardReasonerDialect(rendering).render(EXCHANGES[number]), **{"max_tokens": LIMIT, **changes})


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def encoder(tiny_guard: Any) -> PromptEncoder:
    return PromptEncoder.from_folder(Path(tiny_guard.folder))


@pytest.fixture(scope="module")
def backend(tiny_guard: Any) -> Iterator[TransformersBackend]:
    backend = TransformersBackend(str(tiny_guard.folder), name="tiny", dtype="float32", device="cpu")
    asyncio.run(backend.load())
    yield backend
    asyncio.run(backend.aclose())


@pytest.fixture
def engine(backend: TransformersBackend) -> Any:
    """The loaded engine itself."""
    assert backend._thread._engine is not None
    return backend._thread._engine


@pytest.fixture(scope="module")
def reference(tiny_guard: Any) -> Reference:
    """Greedy answer of plain transformers to token ids, and the log-probabilities at each of its tokens."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_guard.folder, dtype=torch.float32).eval()
    known: dict[tuple[int, ...], tuple[list[int], Any]] = {}

    def answer(prompt: list[int]) -> tuple[list[int], Any]:
        if (key := tuple(prompt)) not in known:
            known[key] = written(prompt)
        return known[key]

    def written(prompt: list[int]) -> tuple[list[int], Any]:
        ids = torch.tensor([prompt])
        with torch.inference_mode():
            output = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=LIMIT,
                pad_token_id=0,
                output_logits=True,
                return_dict_in_generate=True,
            )
        return output.sequences[0, len(prompt) :].tolist(), torch.cat(output.logits).log_softmax(-1)

    return answer


async def only(backend: TransformersBackend, query: Query, deadline: float | None = None) -> Completion:
    [answer] = await backend.generate([query], deadline=deadline)
    assert isinstance(answer, Completion), answer
    return answer


@contextmanager
def every_run(engine: Any, function: Callable[..., None]) -> Iterator[None]:
    """Call a function whenever the model runs."""

    def call(*_: Any) -> None:
        function()

    hook = engine._model.register_forward_pre_hook(call)
    try:
        yield
    finally:
        hook.remove()


# --- answers


async def test_a_padded_batch_gives_the_answers_of_single_prompts_token_for_token(
    backend: TransformersBackend, encoder: PromptEncoder, reference: Reference
) -> None:
    queries = [ask(number, rendering) for number in range(len(EXCHANGES)) for rendering in ("raw", "chat")]
    answers = await backend.generate(queries, deadline=None)
    for query, answer in zip(queries, answers, strict=True):
        prompt = encoder.encode(query)
        expected, _ = reference(prompt)
        assert isinstance(answer, Completion)
        assert answer.text == encoder.decode([number for number in expected if number not in encoder.special_ids])
        assert answer.usage.input_tokens == len(prompt)
        assert answer.usage.output_tokens == len(expected)
        assert answer.finish_reason == ("stop" if len(expected) < LIMIT else "length")
        assert answer.choices is None


async def test_more_queries_than_a_batch_takes_are_answered_in_order(tiny_guard: Any, backend: TransformersBackend) -> None:
    queries = [ask(number % 3, max_tokens=1 + number) for number in range(7)]
    small = TransformersBackend(str(tiny_guard.folder), dtype="float32", device="cpu", batch_size=2)
    answers = await small.generate(queries, deadline=None)
    await small.aclose()
    assert answers == await backend.generate(queries, deadline=None)
    assert [answer.usage.output_tokens for answer in answers if isinstance(answer, Completion)] == [1, 2, 3, 4, 5, 6, 7]


async def test_a_continuation_is_gone_on_from(
    backend: TransformersBackend, encoder: PromptEncoder, reference: Reference
) -> None:
    for rendering in ("raw", "chat"):
        query = ask(0, rendering, continuation="Answers: \nRequest:")
        answer = await only(backend, query)
        prompt = encoder.encode(query)
        expected, _ = reference(prompt)
        assert answer.text == encoder.decode(expected[:-1])
        assert answer.text.startswith(" unharmful")
        assert answer.usage.input_tokens == len(prompt)


async def test_each_query_has_its_own_limit(backend: TransformersBackend) -> None:
    [whole, *cut] = await backend.generate([ask(0), *(ask(0, max_tokens=count) for count in (1, 7, 20))], deadline=None)
    assert isinstance(whole, Completion)
    for count, answer in zip((1, 7, 20), cut, strict=True):
        assert isinstance(answer, Completion)
        assert answer.finish_reason == "length"
        assert answer.usage.output_tokens == count
        assert whole.text.startswith(answer.text)
        assert answer.text


async def test_an_answer_ends_before_its_stop_string(backend: TransformersBackend) -> None:
    whole = (await only(backend, ask(0))).text
    middle = len(whole) // 2
    stops = [
        (whole[middle : middle + 9],),
        ("never", "Answers:"),
        ("Answers", "Task 2"),
        (whole[:1],),
        (whole[-3:],),
        ("never",),
    ]
    answers = await backend.generate([ask(0, stop=stop) for stop in stops], deadline=None)
    for stop, answer in zip(stops, answers, strict=True):
        assert isinstance(answer, Completion)
        places = [whole.find(string) for string in stop if string in whole]
        assert answer.text == (whole[: min(places)] if places else whole)
        assert answer.finish_reason == "stop"
    assert answers[1].usage.output_tokens < answers[5].usage.output_tokens  # type: ignore[union-attr]


async def test_a_stop_string_of_one_query_does_not_stop_another(backend: TransformersBackend) -> None:
    alone = await only(backend, ask(0))
    stopped, other = await backend.generate([ask(0, stop=("\n",)), ask(0)], deadline=None)
    assert other == alone
    assert isinstance(stopped, Completion)
    assert "\n" not in stopped.text


# --- the context


async def test_a_prompt_longer_than_the_context_is_an_error_in_its_place(backend: TransformersBackend) -> None:
    query = Query(pieces=(PromptPiece("one two three " * 2000),))
    first, second = await backend.generate([query, ask(0)], deadline=None)
    assert isinstance(first, BackendError)
    assert str(first).startswith("the prompt has ")
    assert f"the model takes {CONTEXT} with its answer; shorten" in str(first)
    assert isinstance(second, Completion)


async def test_an_answer_is_cut_where_the_context_ends(tiny_guard: Any, encoder: PromptEncoder) -> None:
    length = len(encoder.encode(ask(0)))
    small = TransformersBackend(str(tiny_guard.folder), dtype="float32", device="cpu", context=length + 5)
    answers = await small.generate([ask(0), ask(4), ask(2)], deadline=None)
    await small.aclose()
    assert isinstance(answers[0], Completion)
    assert answers[0].usage.output_tokens == 5
    assert answers[0].finish_reason == "length"
    assert isinstance(answers[1], Completion)
    assert answers[1].usage.output_tokens == length + 5 - len(encoder.encode(ask(4)))
    assert isinstance(answers[2], BackendError)


async def test_a_prompt_that_leaves_no_room_for_a_token_is_an_error(tiny_guard: Any, encoder: PromptEncoder) -> None:
    length = len(encoder.encode(ask(0)))
    for context, fits in ((length, False), (length + 1, True)):
        small = TransformersBackend(str(tiny_guard.folder), dtype="float32", device="cpu", context=context)
        [answer] = await small.generate([ask(0)], deadline=None)
        await small.aclose()
        assert isinstance(answer, Completion) == fits


# --- probabilities


async def test_probabilities_are_those_of_the_model_at_each_token(
    backend: TransformersBackend, encoder: PromptEncoder, reference: Reference
) -> None:
    queries = [ask(0, choices=5), ask(1), ask(3, choices=20)]
    answers = await backend.generate(queries, deadline=None)
    for query, answer in zip(queries, answers, strict=True):
        assert isinstance(answer, Completion)
        if not query.choices:
            assert answer.choices is None
            continue
        assert answer.choices is not None
        expected, logprobs = reference(encoder.encode(query))
        assert len(answer.choices.starts) == len(expected) - 1
        for number, token in enumerate(expected[:-1]):
            alternatives = answer.choices.alternatives(number)
            best = {encoder.token_text(int(one)) for one in logprobs[number].topk(query.choices).indices}
            assert set(alternatives) == best
            for text, probability in alternatives.items():
                ids = [one for one in logprobs[number].topk(query.choices).indices if encoder.token_text(int(one)) == text]
                assert probability == pytest.approx(sum(math.exp(logprobs[number][one]) for one in ids), abs=1e-5)
            start = answer.choices.starts[number]
            assert answer.text[start:].startswith(encoder.token_text(token))


async def test_the_chosen_token_is_among_the_alternatives_whatever_its_probability(backend: TransformersBackend) -> None:
    torch.manual_seed(0)  # with another one, a special token may come up, which has no characters in the answer
    answers = await backend.generate([ask(0, choices=2, temperature=50.0, max_tokens=5)] * 4, deadline=None)
    for answer in answers:
        assert isinstance(answer, Completion)
        assert answer.choices is not None
        ends = [*answer.choices.starts[1:], len(answer.text)]
        for number, (start, end) in enumerate(zip(answer.choices.starts, ends, strict=True)):
            alternatives = answer.choices.alternatives(number)
            assert 2 <= len(alternatives) <= 3
            if "\ufffd" not in answer.text:
                assert answer.text[start:end] in alternatives


async def test_probabilities_take_no_notice_of_the_temperature(backend: TransformersBackend) -> None:
    greedy, warm = await backend.generate(
        [ask(0, choices=5, max_tokens=1), ask(0, choices=5, max_tokens=1, temperature=3.0)], deadline=None
    )
    assert isinstance(greedy, Completion)
    assert isinstance(warm, Completion)
    assert greedy.choices is not None
    assert warm.choices is not None
    for text, probability in greedy.choices.alternatives(0).items():
        assert warm.choices.alternatives(0)[text] == pytest.approx(probability, abs=1e-6)


# --- sampling


async def test_greedy_answers_stay_what_they_are_beside_sampled_ones(backend: TransformersBackend) -> None:
    alone = await backend.generate([ask(0), ask(2)], deadline=None)
    first, *hot, last = await backend.generate(
        [ask(0), *(ask(0, temperature=20.0, max_tokens=20) for _ in range(3)), ask(2)], deadline=None
    )
    assert [first, last] == alone
    assert len({answer.text for answer in hot if isinstance(answer, Completion)}) == 3


async def test_samples_are_as_frequent_as_they_are_probable(
    backend: TransformersBackend, encoder: PromptEncoder, reference: Reference
) -> None:
    torch.manual_seed(7)
    query = Query(pieces=(PromptPiece("Answers: \nRequest:"),), max_tokens=1)
    expected, logprobs = reference(encoder.encode(query))

    def chance(temperature: float) -> float:
        return float((logprobs[0] / temperature).softmax(-1)[expected[0]])

    # A temperature at which the most probable token comes about every other time.
    temperature = min((0.1 * step for step in range(1, 100)), key=lambda one: abs(chance(one) - 0.5))
    assert 0.3 < chance(temperature) < 0.7
    queries = [replace(query, temperature=temperature)] * 16
    batches = [await backend.generate(queries, deadline=None) for _ in range(20)]
    texts = [answer.text for answers in batches for answer in answers if isinstance(answer, Completion)]
    share = texts.count(encoder.decode(expected[:1])) / 320
    assert abs(share - chance(temperature)) < 4 * math.sqrt(0.25 / 320)


# --- those who do not wait, and what fails


def test_a_query_that_nobody_waits_for_takes_no_more_tokens(engine: Any) -> None:
    short, long = EngineJob(ask(0, max_tokens=10), None), EngineJob(ask(0), None)
    runs: list[int] = []
    # The short answer is given before the long one ends, and its receiver calls the long one off.
    short.future.add_done_callback(lambda _: long.future.cancel())
    with every_run(engine, lambda: runs.append(1)):
        engine.run([short, long])
    assert isinstance(short.future.result(), Completion)
    assert len(runs) <= 11


async def test_a_cancelled_task_frees_the_engine_for_others(backend: TransformersBackend, engine: Any) -> None:
    loop = asyncio.get_running_loop()
    running = asyncio.Event()
    with every_run(engine, lambda: loop.call_soon_threadsafe(running.set)):
        task = asyncio.create_task(backend.generate([ask(0), ask(1)], deadline=None))
        await running.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await only(backend, ask(0, max_tokens=3))).usage.output_tokens == 3


async def test_what_is_not_done_at_the_deadline_is_a_deadline_error_in_its_place(
    backend: TransformersBackend, engine: Any
) -> None:
    first = EngineJob(ask(0, max_tokens=3), None)
    late = EngineJob(ask(0), time.monotonic() + 3600)

    def pass_the_deadline(_: Any) -> None:
        late.deadline.call_off()

    first.future.add_done_callback(pass_the_deadline)
    await asyncio.to_thread(engine.run, [first, late])
    assert isinstance(first.future.result(), Completion)
    error = late.future.result()
    assert isinstance(error, DeadlineError)
    assert str(error) == "no judgement before the deadline"


async def test_a_deadline_ends_a_long_answer(backend: TransformersBackend, engine: Any) -> None:
    deadline = time.monotonic() + 0.05

    def wait_for_the_deadline() -> None:
        while time.monotonic() < deadline:
            pass

    with every_run(engine, wait_for_the_deadline):
        [answer] = await backend.generate([ask(0)], deadline=deadline)
    assert isinstance(answer, BackendError)
    assert str(answer) == "no judgement before the deadline"


async def test_a_device_without_memory_is_an_error_with_advice_and_not_the_end(
    backend: TransformersBackend, engine: Any
) -> None:
    def fail() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory: Please explain how I can wash my bicycle")

    with every_run(engine, fail):
        answers = await backend.generate([ask(0), ask(1)], deadline=None)
    for answer in answers:
        assert isinstance(answer, BackendError)
        assert "ran out of memory; lower batch_size (now 16)" in str(answer)
        assert "bicycle" not in str(answer)
    assert (await only(backend, ask(0, max_tokens=3))).usage.output_tokens == 3


async def test_a_failure_of_the_model_says_its_kind_and_no_judged_text(backend: TransformersBackend, engine: Any) -> None:
    def fail() -> None:
        raise RuntimeError("bicycle")

    with every_run(engine, fail):
        [answer] = await backend.generate([ask(0)], deadline=None)
    assert isinstance(answer, BackendError)
    assert str(answer) == "the engine failed with RuntimeError"


async def test_text_that_cannot_be_encoded_is_an_error_in_its_place(backend: TransformersBackend) -> None:
    half = Query(pieces=(PromptPiece("half a pair: \ud83d"),))
    first, second = await backend.generate([half, ask(0, max_tokens=3)], deadline=None)
    assert isinstance(first, BackendError)
    assert str(first).startswith("the prompt cannot be encoded (")
    assert isinstance(second, Completion)


async def test_messages_that_the_template_does_not_take_are_a_configuration_error(tiny_guard: Any, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_guard.folder, tmp_path / "model")
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": "{{ messages[-1]['content'] }}"}))
    backend = TransformersBackend(str(folder), name="tiny", device="cpu")
    query = Query(messages=(Message("system", "one"), Message("user", "two")))
    with pytest.raises(ConfigurationError, match="the chat template of tiny does not take these messages"):
        await backend.generate([query], deadline=None)
    await backend.aclose()


# --- loading and closing


async def test_what_a_checkpoint_says_about_sampling_changes_nothing(
    tiny_guard: Any, tmp_path: Path, backend: TransformersBackend
) -> None:
    folder = shutil.copytree(tiny_guard.folder, tmp_path / "model")
    path = folder / "generation_config.json"
    odd = {"do_sample": True, "temperature": 0.6, "top_p": 0.1, "top_k": 3, "repetition_penalty": 9.0, "max_length": 30}
    path.write_text(json.dumps(json.loads(path.read_text()) | odd))
    other = TransformersBackend(str(folder), dtype="float32", device="cpu")
    assert await other.generate([ask(0, choices=3)], deadline=None) != []
    first, second = await only(other, ask(0)), await only(backend, ask(0))
    hot = [await only(other, ask(0, temperature=50.0, max_tokens=10)) for _ in range(2)]
    await other.aclose()
    assert first == second
    assert hot[0].text != hot[1].text


async def test_every_end_token_of_the_checkpoint_ends_an_answer(
    tiny_guard: Any, tmp_path: Path, encoder: PromptEncoder, reference: Reference
) -> None:
    expected, _ = reference(encoder.encode(ask(0)))
    folder = shutil.copytree(tiny_guard.folder, tmp_path / "model")
    path = folder / "generation_config.json"
    for ends in ([expected[5]], [expected[40], expected[5]]):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": ends if len(ends) > 1 else ends[0]}))
        other = TransformersBackend(str(folder), dtype="float32", device="cpu")
        answer = await only(other, ask(0))
        await other.aclose()
        count = next(number for number, token in enumerate(expected) if token in ends)
        assert answer.text == encoder.decode(expected[:count])
        assert answer.usage.output_tokens == count + 1
        assert answer.finish_reason == "stop"


async def test_a_closed_backend_says_so(tiny_guard: Any) -> None:
    backend = TransformersBackend(str(tiny_guard.folder), device="cpu")
    await backend.load()
    await backend.aclose()
    with pytest.raises(ClosedError):
        await backend.generate([ask(0)], deadline=None)


def test_nothing_is_loaded_before_the_first_call(tmp_path: Path) -> None:
    backend = TransformersBackend(str(tmp_path / "missing"))
    assert (backend.name, backend.model, backend.batch_size) == ("transformers", str(tmp_path / "missing"), 16)
    assert backend.capabilities.continues
    assert not backend.capabilities.probes


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
async def test_a_damaged_checkpoint_is_a_configuration_error(tiny_guard: Any, tmp_path: Path, file: str) -> None:
    folder = shutil.copytree(tiny_guard.folder, tmp_path / "model")
    (folder / file).write_bytes(b"not what it was")
    backend = TransformersBackend(str(folder), name="tiny", device="cpu")
    with pytest.raises(ConfigurationError, match="^model: .*tiny cannot be loaded") as caught:
        await backend.load()
    await backend.aclose()
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
async def test_quantised_weights_without_a_gpu_are_a_configuration_error(tiny_guard: Any) -> None:
    backend = TransformersBackend(str(tiny_guard.folder), quantization="4bit")
    with pytest.raises(ConfigurationError, match="^quantization: '4bit' needs a GPU"):
        await backend.load()
    await backend.aclose()


async def test_a_device_that_is_not_there_is_a_configuration_error(tiny_guard: Any) -> None:
    backend = TransformersBackend(str(tiny_guard.folder), name="tiny", device="cuda:99")
    with pytest.raises(ConfigurationError, match="^model: tiny cannot be loaded"):
        await backend.load()
    await backend.aclose()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "int3"}, "dtype: 'int3' is unknown; use one of auto, "),
        ({"quantization": "2bit"}, "quantization: '2bit' is unknown; use one of 4bit, 8bit, or leave it out"),
        ({"device": "cpu", "device_map": "auto"}, "device: is given together with device_map"),
        ({"batch_size": 0}, "batch_size: must be a whole number from 1, not 0"),
        ({"context": 1}, "context: must be a whole number from 2, not 1"),
    ],
)
def test_an_option_that_cannot_work_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        TransformersBackend("m", **options)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("module", ["torch", "transformers"])
def test_a_missing_engine_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"^Guards run by transformers need an extra: pip install .*\[transformers\]"):
        TransformersBackend("m")
