"""What the SDK costs over the engines it runs on: throughput of ``check_many`` over the bare engine, side by side.

Per engine, the same prompts with the same weights, once by the engine's own interface (text in, text out) and once by
``Guard.check_many`` with ``reasoning="full"``, label probabilities and parsing included; in turns, several times, medians
compared; and once more with the bare engine giving the probabilities of the tokens, too, which a guard always does. Then,
through the guard: ``brief`` against ``full`` in tokens and time, and what keeping the shared prefix saves.

The weights are the tiny guard of ``guardreasoner_training.tiny``, made deeper by layers that add nothing to the answer but work
to the engine, so that the figures say something about models of a real size::

    python benchmarks/overhead.py                                  # every engine that is installed
    python benchmarks/overhead.py --engines llama_cpp --depth 48   # one of them, on a model that costs more
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from guardreasoner_sdk import Exchange, Guard
from guardreasoner_sdk.dialects.guardreasoner import GuardReasonerDialect

CONTEXT = 2048
MAX_TOKENS = 256
CHOICES = 20
PORT = 8765


def deepen(folder: Path, output: Path, depth: int) -> Path:
    """Add layers that leave the answers as they are: their outputs are multiplied by zero, but computed all the same."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from guardreasoner_training.gguf import export_gguf

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    config = model.config
    config.num_hidden_layers += depth
    deeper = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    deeper.load_state_dict(model.state_dict(), strict=False)
    with torch.no_grad():
        for layer in deeper.model.layers[-depth:] if depth else ():
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
    deeper.generation_config = model.generation_config
    deeper.save_pretrained(output)
    AutoTokenizer.from_pretrained(folder).save_pretrained(output)
    export_gguf(output, output / "deep.gguf", dtype="f32")
    return output


def prompts_of(rows: list[Exchange]) -> list[str]:
    """The plain prompts that the guard sends, without BOS."""
    dialect = GuardReasonerDialect(max_tokens=MAX_TOKENS)
    return [dialect.render(row).text or "" for row in rows]


class Bench:
    """An engine, bare and under a guard.

    Args:
        guard: the guard on it.
        bare: answers the prompts by the engine's own interface, text alone.
        probable: the same, with the twenty most probable tokens at every place, the engine's own way to the probabilities
            that a guard gives; None where ``bare`` does that already, or the engine cannot beside text alone.
    """

    def __init__(
        self,
        guard: Guard,
        bare: Callable[[list[str]], list[str]],
        probable: Callable[[list[str]], list[str]] | None = None,
    ) -> None:
        self.guard = guard
        self.bare = bare
        self.probable = probable

    def reasons(self, reasoning: str) -> Guard:
        judge: Any = self.guard.judge
        judge.reasoning = reasoning
        judge.dialect = GuardReasonerDialect(max_tokens=MAX_TOKENS)
        return self.guard


@contextmanager
def transformers_bench(folder: Path, batch: int, threads: int) -> Iterator[Bench]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(threads)
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    tokenizer.pad_token = tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def bare(prompts: list[str], probable: bool = False) -> list[str]:
        texts = []
        for start in range(0, len(prompts), batch):
            part = [tokenizer.bos_token + prompt for prompt in prompts[start : start + batch]]
            inputs = tokenizer(part, return_tensors="pt", padding=True, add_special_tokens=False)
            with torch.inference_mode():
                done = model.generate(
                    **inputs,
                    do_sample=False,
                    max_new_tokens=MAX_TOKENS,
                    pad_token_id=tokenizer.pad_token_id,
                    output_logits=probable,
                    return_dict_in_generate=True,
                )
                if probable:
                    _ = [logits.float().softmax(-1).topk(CHOICES) for logits in done.logits]
            output = done.sequences
            texts += tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return texts

    options = {"dtype": "float32", "batch_size": batch}
    with Guard(str(folder), backend="transformers", dialect="guardreasoner", options=options) as guard:
        yield Bench(guard, bare, lambda prompts: bare(prompts, probable=True))


@contextmanager
def llama_cpp_bench(folder: Path, batch: int, threads: int) -> Iterator[Bench]:
    from llama_cpp import Llama

    file = str(folder / "deep.gguf")
    model = Llama(file, n_ctx=CONTEXT, n_threads=threads, n_threads_batch=threads, verbose=False)

    def bare(prompts: list[str]) -> list[str]:
        done: list[Any] = [model.create_completion(prompt, max_tokens=MAX_TOKENS, temperature=0.0) for prompt in prompts]
        return [one["choices"][0]["text"] for one in done]

    with Guard(file, dialect="guardreasoner", options={"threads": threads, "context": CONTEXT}) as guard:
        yield Bench(guard, bare)
    model.close()


@contextmanager
def vllm_bench(folder: Path, batch: int, threads: int) -> Iterator[Bench]:
    from transformers import AutoTokenizer
    from vllm import SamplingParams
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.sampling_params import RequestOutputKind
    from vllm.v1.engine.async_llm import AsyncLLM

    tokenizer = AutoTokenizer.from_pretrained(folder)
    options: dict[str, Any] = {"dtype": "float32", "enforce_eager": True, "max_model_len": CONTEXT, "block_size": 32}
    loop = asyncio.new_event_loop()
    core = loop.run_until_complete(asyncio.to_thread(_started, AsyncLLM, AsyncEngineArgs(model=str(folder), **options)))

    def params(choices: int | None) -> Any:
        kind = RequestOutputKind.FINAL_ONLY
        return SamplingParams(temperature=0.0, max_tokens=MAX_TOKENS, output_kind=kind, logprobs=choices)

    async def one(number: int, prompt: str, choices: int | None) -> str:
        ids = tokenizer(tokenizer.bos_token + prompt, add_special_tokens=False)["input_ids"]
        request = core.generate({"prompt_token_ids": ids}, params(choices), f"{time.monotonic()}-{number}")
        results = [result async for result in request]
        return str(results[-1].outputs[0].text)

    async def all_of(prompts: list[str], choices: int | None) -> list[str]:
        return list(await asyncio.gather(*(one(number, prompt, choices) for number, prompt in enumerate(prompts))))

    with Guard(str(folder), backend="vllm", dialect="guardreasoner", options=options | {"batch_size": batch}) as guard:
        yield Bench(
            guard,
            lambda prompts: loop.run_until_complete(all_of(prompts, None)),
            lambda prompts: loop.run_until_complete(all_of(prompts, CHOICES)),
        )
    core.shutdown()
    loop.close()


def _started(engine: Any, arguments: Any) -> Any:
    return engine.from_engine_args(arguments)


@contextmanager
def remote_bench(folder: Path, batch: int, threads: int) -> Iterator[Bench]:
    from openai import AsyncOpenAI

    url = f"http://127.0.0.1:{PORT}/v1"
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder), "--port", str(PORT)]
    command += ["--dtype", "float32", "--enforce-eager", "--max-model-len", str(CONTEXT), "--served-model-name", "deep"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    loop = asyncio.new_event_loop()
    client = AsyncOpenAI(base_url=url, api_key="none")

    async def one(prompt: str) -> str:
        done = await client.completions.create(model="deep", prompt=prompt, max_tokens=MAX_TOKENS, temperature=0.0, logprobs=20)
        return done.choices[0].text

    async def all_of(prompts: list[str]) -> list[str]:
        return list(await asyncio.gather(*(one(prompt) for prompt in prompts)))

    try:
        _wait_for(f"{url}/models", server)
        options = {"max_connections": batch}
        with Guard("deep", base_url=url, dialect="guardreasoner", options=options) as guard:
            yield Bench(guard, lambda prompts: loop.run_until_complete(all_of(prompts)))
        loop.run_until_complete(client.close())
    finally:
        server.terminate()
        server.wait()
        loop.close()


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 600
    while time.monotonic() < until:
        if server.poll() is not None:
            raise SystemExit("the server ended before it was ready")
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(1)
    raise SystemExit("the server was not ready in ten minutes")


BENCHES = {"transformers": transformers_bench, "llama_cpp": llama_cpp_bench, "vllm": vllm_bench, "remote": remote_bench}
NEEDS = {"transformers": "transformers", "llama_cpp": "llama_cpp", "vllm": "vllm", "remote": "vllm"}


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure(bench: Bench, rows: list[Exchange], repeat: int) -> dict[str, Any]:
    """Time the engine bare and under the guard, in turns."""
    prompts = prompts_of(rows)
    alone = [row for row in rows if row.response is None]
    guard = bench.reasons("full")
    warm = guard.check_many(rows)
    texts = bench.bare(prompts)
    same = sum(verdict.raw == text for verdict, text in zip(warm, texts, strict=True))
    times: dict[str, list[float]] = {"bare": [], "probable": [], "guard": [], "full": [], "brief": []}
    probable = bench.probable or bench.bare
    for _ in range(repeat):
        times["bare"].append(seconds(lambda: bench.bare(prompts)))
        times["probable"].append(seconds(lambda: probable(prompts)))
        times["guard"].append(seconds(lambda: bench.reasons("full").check_many(rows)))
        for mode in ("full", "brief"):
            times[mode].append(seconds(lambda mode=mode: bench.reasons(mode).check_many(alone)))  # type: ignore[misc]
    medians = {name: statistics.median(values) for name, values in times.items()}
    full, brief = (bench.reasons(mode).check_many(alone) for mode in ("full", "brief"))
    off = bench.reasons("off").check_many(alone)
    tokens = [sum(verdict.usage.output_tokens for verdict in verdicts) for verdicts in (full, brief)]
    read, cached = (sum(getattr(verdict.usage, name) for verdict in off) for name in ("input_tokens", "cached_tokens"))
    return {
        "queries": len(rows),
        "same answers": same,
        "bare seconds": round(medians["bare"], 3),
        "bare seconds, with probabilities": round(medians["probable"], 3) if bench.probable else None,
        "guard seconds": round(medians["guard"], 3),
        "throughput of the guard over the bare engine": round(medians["bare"] / medians["guard"], 3),
        "of each round": [round(bare / guard, 3) for bare, guard in zip(times["bare"], times["guard"], strict=True)],
        "... where the bare engine gives probabilities, too": round(medians["probable"] / medians["guard"], 3)
        if bench.probable
        else None,
        "brief over full, time (prompts alone)": round(medians["brief"] / medians["full"], 3),
        "brief over full, tokens (prompts alone)": round(tokens[1] / tokens[0], 3),
        "prompt tokens found in the cache (off)": round(cached / read, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--engines", nargs="+", choices=list(BENCHES), default=list(BENCHES))
    parser.add_argument("--model", type=Path, help="folder of a tiny guard; default: one is trained")
    parser.add_argument("--depth", type=int, default=24, help="layers to add")
    parser.add_argument("--queries", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of transformers and llama.cpp")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--output", type=Path, help="write the figures there, as JSON")
    given = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ.setdefault("TORCH_COMPILE_DISABLE", "1")
    with tempfile.TemporaryDirectory() as temporary:
        model = given.model
        if model is None:
            from guardreasoner_training.tiny import build_tiny_guard

            model = build_tiny_guard(Path(temporary) / "tiny").folder
        lines = (model / "examples.jsonl").read_text("utf-8").splitlines()
        examples = [Exchange(row["prompt"], row["response"]) for row in map(json.loads, lines)]
        rows = [examples[number % len(examples)] for number in range(given.queries)]
        folder = deepen(model, Path(temporary) / "deep", given.depth)
        report: dict[str, Any] = {"machine": platform.platform(), "cpus": len(os.sched_getaffinity(0)), **vars(given)}
        for name in given.engines:
            if find_spec(NEEDS[name]) is None:
                print(f"{name}: {NEEDS[name]} is not installed", flush=True)
                continue
            with BENCHES[name](folder, given.batch, given.threads) as bench:
                report[name] = measure(bench, rows, given.repeat)
            print(name, json.dumps(report[name], indent=2), flush=True)
    if given.output is not None:
        given.output.write_text(json.dumps(report, indent=2, default=str) + "\n", "utf-8")


if __name__ == "__main__":
    main()
