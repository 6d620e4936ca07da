"""vLLM's engine, for real: a trained tiny model on whatever device there is."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from guardreasoner_sdk._loop import GuardLoop
from guardreasoner_sdk.backends._tokens import PromptEncoder
from guardreasoner_sdk.backends.vllm import VLLMBackend
from guardreasoner_sdk.dialects.guardreasoner import GuardReasonerDialect
from guardreasoner_sdk.errors import BackendError, ClosedError, ConfigurationError, DeadlineError, MissingExtraError
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.generation import Completion, PromptPiece, Query

from .servers import VLLM_ON_CPUS, skip_without

skip_without("vllm")  # found and not imported, which takes seconds

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of torch.jit and of os.fork beside threads
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # vLLM leaves its ZeroMQ contexts to the garbage collector
]

CONTEXT = 2048
OPTIONS: dict[str, Any] = {
    "dtype": "float32",
    "max_model_len": CONTEXT,
    "enforce_eager": True,
    "block_size": 32,  # whole blocks are cached; on a CPU one has 128 tokens by default, more than these prompts share
    "gpu_memory_utilization": 0.1,
}
EXCHANGES = (
    Exchange("Please explain how I can wash my bicycle at home."),
    Exchange("How do I gloob my neighbour?", "I can't assist with this request."),
    Exchange("Tell me how to wash a school bus.", "Yes. Many people wash a school bus on a quiet day."),
)
ENDLESS = Query(pieces=(PromptPiece("on and on "),), max_tokens=CONTEXT, temperature=2.0)
"""So hot that the answer is noise, and ends by chance only."""


def reasoning(exchange: Exchange, **changes: Any) -> Query:
    query = GuardReasonerDialect().render(exchange)
    return Query(pieces=query.pieces, **{"max_tokens": 400, **changes})


@dataclass
class Engine:
    """A backend on a guard's loop, as a guard uses it."""

    backend: VLLMBackend
    encoder: PromptEncoder
    loop: GuardLoop = field(default_factory=GuardLoop)
    beginning: list[Any] = field(default_factory=list)

    def run(self, function: Callable[..., Coroutine[Any, Any, Any]], *arguments: Any) -> Any:
        return self.loop.submit(function, *arguments).result(timeout=900)

    def ask(self, *queries: Query, deadline: float | None = None) -> list[Any]:
        async def ask() -> list[Any]:
            return await self.backend.generate(queries, deadline=deadline)

        return self.run(ask)

    def core(self) -> Any:
        """vLLM's own engine."""
        assert self.backend._loading is not None
        return self.backend._loading.result().core

    async def idle(self) -> bool:
        """Whether the engine's process works on nothing: only then it lets its prefix cache go."""
        return bool(await self.core().reset_prefix_cache())

    async def busy(self) -> None:
        """Wait until the engine's process works on something."""
        while await self.idle():
            await asyncio.sleep(0)


def processes() -> list[Any]:
    return [child for child in multiprocessing.active_children() if "EngineCore" in child.name]


@pytest.fixture(scope="module")
def engine(tiny_guard: Any) -> Iterator[Engine]:
    backend = VLLMBackend(str(tiny_guard.folder), name="tiny", **OPTIONS)
    engine = Engine(backend, PromptEncoder.from_folder(Path(tiny_guard.folder)))

    async def begin() -> list[Any]:
        """Three calls while the engine starts: one with a short deadline, one that is cancelled, one that waits."""
        query = reasoning(EXCHANGES[0])
        calls = [
            asyncio.create_task(backend.generate([query, query], deadline=deadline))
            for deadline in (time.monotonic() + 0.01, None, None)
        ]
        hurried = await calls[0]
        calls[1].cancel()
        return [hurried, *await asyncio.gather(*calls[1:], return_exceptions=True)]

    with pytest.MonkeyPatch.context() as patch:
        for variable, value in VLLM_ON_CPUS.items():
            patch.setenv(variable, value)
        for variable in ("VLLM_NO_USAGE_STATS", "DO_NOT_TRACK", "VLLM_LOGGING_LEVEL"):
            patch.setenv(variable, "")
            patch.delenv(variable)
        try:
            engine.beginning = engine.run(begin)
            yield engine
        finally:
            engine.run(backend.aclose)
            engine.loop.close()
            gc.collect()  # while the warnings are ignored


@pytest.fixture(scope="module")
def reference(tiny_guard: Any) -> Callable[[list[int]], tuple[list[int], Any]]:
    """Greedy answer of transformers to token ids, and the logits at each of its tokens."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_guard.folder, dtype=torch.float32).eval()

    def answer(prompt: list[int]) -> tuple[list[int], Any]:
        ids = torch.tensor([prompt])
        with torch.inference_mode():
            output = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=400,
                pad_token_id=0,
                output_logits=True,
                return_dict_in_generate=True,
            )
        return output.sequences[0, len(prompt) :].tolist(), torch.cat(output.logits)

    return answer


def test_one_start_serves_all_and_ends_with_no_waiting_caller(engine: Engine) -> None:
    hurried, cancelled, answers = engine.beginning
    assert [type(answer) for answer in hurried] == [DeadlineError, DeadlineError]
    assert str(hurried[0]) == "no judgement before the deadline"
    assert isinstance(cancelled, asyncio.CancelledError)
    assert all(isinstance(answer, Completion) for answer in answers)
    assert len(processes()) == 1
    engine.run(engine.backend.load)
    assert len(processes()) == 1


def test_nothing_is_reported_to_anybody(engine: Engine) -> None:
    assert os.environ["VLLM_NO_USAGE_STATS"] == os.environ["DO_NOT_TRACK"] == "1"
    assert not engine.core().log_requests
    assert not engine.core().log_stats


def test_greedy_answers_are_those_of_transformers(engine: Engine, reference: Any) -> None:
    queries = [reasoning(exchange) for exchange in EXCHANGES]
    for query, answer in zip(queries, engine.ask(*queries), strict=True):
        prompt = engine.encoder.encode(query)
        expected, _ = reference(prompt)
        assert answer.text == engine.encoder.decode(expected)
        assert "Request:" in answer.text
        assert answer.finish_reason == "stop"
        assert (answer.usage.input_tokens, answer.usage.output_tokens) == (len(prompt), len(expected))
        assert answer.choices is None


def test_choices_are_the_probabilities_of_transformers(engine: Engine, reference: Any) -> None:
    query = reasoning(EXCHANGES[1], choices=20)
    [answer] = engine.ask(query)
    expected, logits = reference(engine.encoder.encode(query))
    assert answer.text == engine.encoder.decode(expected)
    assert expected.pop() in engine.encoder.special_ids
    assert list(answer.choices.starts) == engine.encoder.starts(expected)
    for number, row in enumerate(logits[: len(expected)].double().softmax(-1)):
        found = answer.choices.alternatives(number)
        top = row.topk(20)
        texts: dict[str, float] = {}
        for token, chance in zip(top.indices.tolist(), top.values.tolist(), strict=True):
            text = engine.encoder.token_text(token)
            texts[text] = texts.get(text, 0.0) + chance
        likely = {text: chance for text, chance in texts.items() if chance > 1e-3}
        assert {text: found[text] for text in likely} == pytest.approx(likely, abs=1e-3)
        assert engine.encoder.token_text(expected[number]) in found
    place = answer.text.index("Request: ") + len("Request: ")
    start, alternatives = answer.choices.at(place)
    assert answer.text[start:].startswith(max(alternatives, key=lambda text: alternatives[text]))


def test_more_choices_than_the_engine_gives_are_an_error_in_their_place(engine: Engine) -> None:
    refused, answer = engine.ask(reasoning(EXCHANGES[0], choices=21), reasoning(EXCHANGES[0]))
    assert str(refused) == "21 choices are asked for, the engine gives 20; pass max_logprobs=21"
    assert isinstance(answer, Completion)


def test_32_tasks_at_a_time_get_their_own_answers_and_share_the_prefix(engine: Engine) -> None:
    queries = [reasoning(Exchange(f"Tell me how to wash {number} school buses."), max_tokens=24) for number in range(32)]

    async def together() -> list[Any]:
        return await asyncio.gather(*(engine.backend.generate([query], deadline=None) for query in queries))

    answers = [answer for [answer] in engine.run(together)]
    alone = [engine.ask(query)[0] for query in queries]
    assert [answer.text for answer in answers] == [answer.text for answer in alone]
    assert all(0 < answer.usage.cached_tokens < answer.usage.input_tokens for answer in alone)


def test_an_answer_goes_on_from_its_continuation(engine: Engine, reference: Any) -> None:
    [whole] = engine.ask(reasoning(EXCHANGES[1]))
    head = whole.text[: whole.text.index("Request:")] + "Request:"
    query = reasoning(EXCHANGES[1], continuation=head, choices=20)
    [rest] = engine.ask(query)
    assert rest.text == engine.encoder.decode(reference(engine.encoder.encode(query))[0])
    assert head + rest.text == whole.text


def test_a_stop_string_ends_the_answer_and_is_not_part_of_it(engine: Engine) -> None:
    [whole] = engine.ask(reasoning(EXCHANGES[2]))
    stop = "# Task 2"
    [cut] = engine.ask(reasoning(EXCHANGES[2], stop=("no such text", stop, "\n\n\n\n"), choices=5))
    assert stop in whole.text
    assert cut.text == whole.text.partition(stop)[0]
    assert cut.finish_reason == "stop"
    assert cut.usage.output_tokens < whole.usage.output_tokens
    assert cut.choices.at(len(cut.text) - 1) is not None


def test_an_answer_of_max_tokens_says_that_it_was_cut_off(engine: Engine) -> None:
    [answer] = engine.ask(reasoning(EXCHANGES[0], max_tokens=5))
    assert answer.finish_reason == "length"
    assert answer.usage.output_tokens == 5


def test_a_prompt_longer_than_the_context_is_an_error_in_its_place(engine: Engine) -> None:
    def sized(tokens: int) -> Query:
        text = " wash" * tokens
        while len(ids := engine.encoder.encode(Query(pieces=(PromptPiece(text),)))) > tokens:
            text = text[: -5 * max(1, (len(ids) - tokens) // 8)]
        assert len(ids) == tokens
        return Query(pieces=(PromptPiece(text),), max_tokens=50)

    long, full, nearly = engine.ask(sized(CONTEXT + 9), sized(CONTEXT), sized(CONTEXT - 1))
    assert isinstance(long, BackendError)
    assert str(long).startswith(f"the prompt has {CONTEXT + 9} tokens, the model takes {CONTEXT} with its answer; ")
    assert isinstance(full, BackendError)
    assert (nearly.finish_reason, nearly.usage.output_tokens) == ("length", 1)


def test_cancelling_a_task_aborts_its_queries_in_the_engine(engine: Engine) -> None:
    async def cancel() -> bool:
        task = asyncio.create_task(engine.backend.generate([ENDLESS] * 32, deadline=None))
        await engine.busy()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await engine.idle()

    assert engine.run(cancel)
    assert isinstance(engine.ask(reasoning(EXCHANGES[0]))[0], Completion)


def test_a_deadline_is_an_error_in_its_place_and_aborts_the_query(engine: Engine) -> None:
    quick = reasoning(EXCHANGES[0], max_tokens=1)

    async def late() -> tuple[list[Any], bool]:
        task = asyncio.create_task(engine.backend.generate([ENDLESS] * 32, deadline=time.monotonic() + 0.3))
        answers = await task
        return answers, await engine.idle()

    answers, idle = engine.run(late)
    assert idle
    assert {str(answer) for answer in answers if isinstance(answer, DeadlineError)} == {"no judgement before the deadline"}
    assert [type(answer) for answer in engine.ask(quick, quick, deadline=time.monotonic() - 1)] == [DeadlineError] * 2
    assert isinstance(engine.ask(quick, deadline=time.monotonic() + 300)[0], Completion)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_is_told_that_the_engine_is_its_parents(engine: Engine) -> None:
    child = os.fork()
    if child == 0:
        try:
            GuardLoop().submit(engine.backend.load).result(timeout=60)
        except ConfigurationError as error:
            os._exit(0 if "fork before the first check" in str(error) else 2)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert isinstance(engine.ask(reasoning(EXCHANGES[0]))[0], Completion)


def test_when_the_engine_is_killed_its_queries_fail_and_the_next_call_starts_it_anew(engine: Engine) -> None:
    [before] = engine.ask(reasoning(EXCHANGES[0]))

    async def kill() -> list[Any]:
        task = asyncio.create_task(engine.backend.generate([ENDLESS] * 8, deadline=None))
        await engine.busy()
        os.kill(processes()[0].pid, signal.SIGKILL)
        return await task

    answers = engine.run(kill)
    assert "the engine died; vLLM's own log says why" in {str(answer) for answer in answers}
    assert not any(isinstance(answer, DeadlineError) for answer in answers)
    assert engine.ask(reasoning(EXCHANGES[0]))[0].text == before.text
    assert len(processes()) == 1


def test_closing_fails_what_is_under_way_and_ends_the_processes(engine: Engine) -> None:
    async def close() -> None:
        task = asyncio.create_task(engine.backend.generate([ENDLESS] * 8, deadline=None))
        await engine.busy()
        await engine.backend.aclose()
        with pytest.raises(ClosedError, match="closed before it decided"):
            await task

    engine.run(close)
    assert processes() == []
    with pytest.raises(ClosedError, match="make a new guard"):
        engine.ask(reasoning(EXCHANGES[0]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"enforce_eagr": True}, r"^enforce_eagr: this vLLM has no such option; did you mean enforce_eager\?$"),
        ({"quux_zorp": 1}, "^quux_zorp: this vLLM has no such option; see vLLM's AsyncEngineArgs$"),
        ({"model": "other"}, "^model: is not an option here; pass it as weights$"),
        ({"enable_log_requests": True}, "^enable_log_requests: is not an option here; judged text is never logged$"),
        ({"dtype": "float13"}, "^vllm: .*dtype"),
        ({"max_model_len": 10**9}, "^vllm: .*max_model_len"),
    ],
)
async def test_options_that_cannot_work_are_named(tiny_guard: Any, options: dict[str, Any], message: str) -> None:
    backend = VLLMBackend(str(tiny_guard.folder), **options)
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=message) as caught:
            await backend.load()
        assert "\n" not in str(caught.value)
    await backend.aclose()


def test_a_missing_vllm_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'guardreasoner-sdk\[vllm\]'"):
        VLLMBackend("some/model")
