"""Several samples of each prompt by vLLM's own engine, which takes in and lets go requests at any time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from guardreasoner_sdk.backends.vllm import ENVIRONMENT
from guardreasoner_sdk.errors import ConfigurationError
from guardreasoner_training.mining.sampling import Asked, Drawn, Sampling

__all__ = ["draw_samples"]

_GRACE = 20.0
"""Seconds for the engine's processes to end by themselves."""

_BATCHED_TOKENS = 4096
"""Tokens of prompts that a CPU reads at a time."""


def draw_samples(
    rows: Sequence[Asked], folder: Path, sampling: Sampling, ends: frozenset[int], *, context: int, under_way: int
) -> Iterator[tuple[Asked, list[Drawn]]]:
    """Draw samples; a row comes as soon as all of its samples are there.

    Each sample has a seed of its own, made of the row's name and the sample's number. vLLM makes up its batches as requests
    come and go, and the rounding of its arithmetic depends on them: a run is not always repeated to the letter.

    Args:
        rows: the prompts; each shorter than the context.
        context: longest prompt with its sample, in tokens.
        under_way: rows handed to the engine at a time.

    Raises:
        ConfigurationError: vLLM cannot start with this model.
    """
    engine = _engine(folder, context)
    try:
        waiting = iter(rows)
        open_rows: dict[str, tuple[Asked, list[Drawn | None]]] = {}
        while True:
            while len(open_rows) < under_way and (one := next(waiting, None)) is not None:
                open_rows[one.name] = (one, [None] * sampling.k)
                for number in range(sampling.k):
                    prompt = {"type": "token", "prompt_token_ids": list(one.ids)}
                    engine.add_request(f"{number}/{one.name}", prompt, _params(one, number, sampling, ends, context))
            if not open_rows:
                return
            for result in engine.step():
                number, _, name = result.request_id.partition("/")
                one, samples = open_rows[name]
                samples[int(number)] = _drawn(result.outputs[0], ends)
                if (full := [sample for sample in samples if sample is not None]) and len(full) == sampling.k:
                    del open_rows[name]
                    yield one, full
    finally:
        _stop(engine)


def _params(one: Asked, number: int, sampling: Sampling, ends: frozenset[int], context: int) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    digest = sha256(f"{sampling.seed}/{one.name}/{number}".encode()).digest()
    return SamplingParams(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        max_tokens=min(sampling.max_new_tokens, context - len(one.ids)),
        seed=int.from_bytes(digest[:8]) >> 1,
        stop_token_ids=sorted(ends),
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _drawn(output: Any, ends: frozenset[int]) -> Drawn:
    ids = tuple(output.token_ids)
    if output.finish_reason == "stop":
        return Drawn(ids[:-1] if ids and ids[-1] in ends else ids, "stop")
    return Drawn(ids, "length")


def _engine(folder: Path, context: int) -> Any:
    for variable, value in ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    from vllm.engine.arg_utils import EngineArgs
    from vllm.platforms import current_platform
    from vllm.v1.engine.llm_engine import LLMEngine

    options: dict[str, Any] = {}
    if current_platform.is_cpu():
        # A request whose prompt is read in parts has its source of chance set back, which PyTorch's of a CPU cannot do.
        options = {"enable_chunked_prefill": False, "max_num_batched_tokens": max(context, _BATCHED_TOKENS)}
    try:
        return LLMEngine.from_engine_args(
            EngineArgs(
                model=str(folder),
                dtype=_dtype(folder),
                max_model_len=context,
                enable_prefix_caching=True,
                disable_log_stats=True,
                use_tqdm_on_load=False,
                **options,
            )
        )
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ConfigurationError(
            f"mine.engine: vLLM did not start with {folder} ({reason}); vLLM's own log says why. A script must begin under "
            "if __name__ == '__main__'; engine = 'transformers' runs without it"
        ) from error


def _dtype(folder: Path) -> str:
    """As the weights are stored: vLLM's own choice makes bfloat16 of float32."""
    from transformers import AutoConfig

    return str(AutoConfig.from_pretrained(str(folder), local_files_only=True).dtype or "auto").removeprefix("torch.")


def _stop(engine: Any) -> None:
    """End the engine's processes, and wait for that: the next model needs the device's memory."""
    manager = getattr(getattr(engine.engine_core, "resources", None), "engine_manager", None)
    engine.engine_core.shutdown(timeout=_GRACE)
    for process in getattr(manager, "processes", ()):
        process.join(_GRACE)
