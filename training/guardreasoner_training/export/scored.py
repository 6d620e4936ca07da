"""What guards write, query by query; of the trained one also how sure it was of each token."""

from __future__ import annotations

import gc
import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from guardreasoner_sdk.backends._results import stop_place, too_long
from guardreasoner_sdk.errors import BackendError, ConfigurationError
from guardreasoner_sdk.generation import Capabilities, Completion, Query
from guardreasoner_sdk.verdict import Usage
from guardreasoner_training.trainers.advice import is_out_of_memory

if TYPE_CHECKING:
    from guardreasoner_sdk.backends.base import Backend

__all__ = ["Dtype", "Recorded", "Scored", "ScoredAnswer", "TooLargeError", "release"]

Dtype = Literal["float32", "auto"]
"""``float32``, or the weights' own."""


class TooLargeError(ConfigurationError):
    """A model is too large for the device's memory."""


@dataclass(frozen=True, slots=True)
class ScoredAnswer:
    """The answer to a query.

    Args:
        query: what was asked.
        text: what was answered.
        starts: for each token, the one that ended the answer included, the place in the text where its characters begin.
        margins: for each token, how far it was ahead of the second best, in nats.
    """

    query: Query
    text: str
    starts: Sequence[int] = ()
    margins: Sequence[float] = ()

    def margin(self, place: int) -> float:
        """How far ahead the token was that wrote a character, or ended the text there."""
        # Of the tokens that begin at or before the character, the last one chose it.
        chosen = bisect_right(self.starts, place) - 1
        return self.margins[chosen] if chosen >= 0 else math.inf


class Recorded:
    """A backend, with a list of what it wrote.

    Args:
        backend: it.

    Attributes:
        written: its answers, in order.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.name, self.model, self.batch_size = backend.name, backend.model, backend.batch_size
        self.capabilities = backend.capabilities
        self.written: list[ScoredAnswer] = []

    async def generate(self, queries: Sequence[Query], *, deadline: float | None) -> list[Completion | BackendError]:
        """Answer the queries, in order."""
        answers = await self._backend.generate(queries, deadline=deadline)
        pairs = zip(queries, answers, strict=True)
        self.written += [_written(query, answer.text) for query, answer in pairs if isinstance(answer, Completion)]
        return answers

    async def load(self) -> None:
        """Load the model now."""
        await self._backend.load()

    async def aclose(self) -> None:
        """Free the engine."""
        await self._backend.aclose()


class Scored:
    """The trained guard by transformers, greedily and one query at a time, with a list of what it wrote.

    Args:
        folder: weights, or an adapter of peft's.
        device: where it runs.
        dtype: of its arithmetic.

    Raises:
        TooLargeError: the device has not enough memory.
        ConfigurationError: it cannot be loaded.

    Attributes:
        written: its answers, in order, each with its margins.
    """

    name = "transformers"
    batch_size = 1
    capabilities = Capabilities(continues=True, probes=False)

    def __init__(self, folder: Path, *, device: str, dtype: Dtype) -> None:
        from transformers import GenerationConfig

        from guardreasoner_sdk.backends._tokens import PromptEncoder

        self.model = str(folder)
        self.written: list[ScoredAnswer] = []
        self._device = device
        self._encoder = PromptEncoder.from_folder(folder)
        self._network = self._loaded(dtype)
        config = self._network.config.get_text_config()
        self._context = getattr(config, "max_position_embeddings", None) or 2**31
        stored = self._network.generation_config.eos_token_id if self._network.generation_config else None
        stored = config.eos_token_id if stored is None else stored
        ends = [*(stored if isinstance(stored, list) else [stored]), self._encoder.eos]
        self._ends = sorted({end for end in ends if end is not None})
        # What a checkpoint says about sampling must not change what it is asked for.
        plain: Any = GenerationConfig
        self._network.generation_config = plain()

    async def generate(self, queries: Sequence[Query], *, deadline: float | None) -> list[Completion | BackendError]:
        """Answer the queries, in order.

        Raises:
            TooLargeError: the device has not enough memory.
        """
        return [self._answer(query) for query in queries]

    async def load(self) -> None:
        """It is loaded."""

    async def aclose(self) -> None:
        """Let the model go."""
        self._network = None
        release()

    def _loaded(self, dtype: Dtype) -> Any:
        from transformers import AutoModelForCausalLM

        loader: Any = AutoModelForCausalLM
        try:
            model = loader.from_pretrained(self.model, dtype=dtype, local_files_only=True, use_safetensors=True)
            return model.to(self._device).eval()
        except Exception as error:  # of torch, safetensors and peft alike
            if is_out_of_memory(error):
                raise self._too_large() from None
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise ConfigurationError(f"model: {self.model} cannot be loaded: {reason}") from error

    def _answer(self, query: Query) -> Completion | BackendError:
        try:
            prompt = self._encoder.encode(query)
        except BackendError as error:
            return error
        if len(prompt) >= self._context:
            return too_long(len(prompt), self._context, "leave the row out")
        ids, margins = self._continued(prompt, min(query.max_tokens, self._context - len(prompt)))
        ended = ids[-1] in self._ends
        text = self._encoder.decode(ids[:-1] if ended else ids)
        cut = stop_place(text, 0, query.stop)
        self.written.append(_written(query, text[:cut], self._encoder.starts(ids), margins))
        usage = Usage(input_tokens=len(prompt), output_tokens=len(ids))
        return Completion(text[:cut], "stop" if ended or cut is not None else "length", usage)

    def _continued(self, prompt: list[int], most: int) -> tuple[list[int], list[float]]:
        """The tokens behind a prompt, and how far each was ahead of the second best."""
        import torch
        from transformers import GenerationConfig

        plain: Any = GenerationConfig
        margins: list[float] = []

        def seen(_: Any, logits: Any) -> Any:
            best, second = logits[0].topk(2).values.tolist()
            margins.append(best - second)
            return logits

        how = plain(max_new_tokens=most, do_sample=False, eos_token_id=self._ends or None, pad_token_id=0)
        try:
            with torch.inference_mode():
                given = torch.tensor([prompt], device=self._device)
                ids = self._network.generate(
                    given, attention_mask=torch.ones_like(given), generation_config=how, logits_processor=[seen]
                )
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise self._too_large() from None
        return ids[0, len(prompt) :].tolist(), margins

    def _too_large(self) -> TooLargeError:
        return TooLargeError(
            f"export: {self.model} is too large for the memory of {self._device}; leave the comparison out with "
            "--set export.check_rows=0 (of the command export: --check 0)"
        )


def release() -> None:
    """Give the memory of what nobody holds any more back to the device."""
    import torch

    gc.collect()  # models and errors refer to themselves
    torch.cuda.empty_cache()


def _written(query: Query, text: str, starts: Sequence[int] = (), margins: Sequence[float] = ()) -> ScoredAnswer:
    # How many probabilities are wanted beside differs from engine to engine, and changes nothing in the text.
    return ScoredAnswer(replace(query, choices=0), text, starts, margins)
