"""Runs a language model by transformers: on any device that PyTorch knows, without a server or a compiler."""

from __future__ import annotations

import importlib.util
import inspect
import logging
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from guardreasoner_sdk._failures import log_failure
from guardreasoner_sdk.backends._engine_thread import EngineJob, EngineThread
from guardreasoner_sdk.backends._results import stop_place, sum_by_text, too_long
from guardreasoner_sdk.backends._torch import default_device, loading_errors, release_memory
from guardreasoner_sdk.backends.options import Transformers
from guardreasoner_sdk.errors import BackendError, ConfigurationError, DeadlineError, MissingExtraError
from guardreasoner_sdk.generation import Capabilities, Completion, Query, TokenProbabilities
from guardreasoner_sdk.verdict import Usage

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from guardreasoner_sdk.backends._tokens import PromptEncoder
    from guardreasoner_sdk.backends._vision import ImageEncoder

__all__ = ["TransformersBackend"]

logger = logging.getLogger("guardreasoner_sdk")


class TransformersBackend:
    """Runs a language model by transformers, in a thread of its own.

    Queries that wait are run together, as one padded batch. A batch takes as long as its longest answer; vLLM, which takes
    in and lets go queries at any time, is the faster choice on a GPU, and llama.cpp on a CPU.

    Args:
        weights: a folder in the Hugging Face layout, or a name on the hub.
        name: the model's name, for the verdict; default: ``weights``.
        options: :class:`~guardreasoner_sdk.backends.options.Transformers`.
        fields: the same, one by one.

    Raises:
        MissingExtraError: torch or transformers is not installed.
        ConfigurationError: an option that is unknown, or does not fit another one.
    """

    name = "transformers"
    capabilities = Capabilities(continues=True, probes=False, images=True)

    def __init__(
        self,
        weights: str,
        *,
        name: str | None = None,
        options: Transformers | None = None,
        **fields: Any,
    ) -> None:
        if importlib.util.find_spec("torch") is None or importlib.util.find_spec("transformers") is None:
            raise MissingExtraError("transformers", "Guards run by transformers")
        options = Transformers.of(fields) if options is None else options
        self.model = weights if name is None else name
        self.batch_size = options.batch_size
        self._weights = weights
        self._revision = options.revision
        self._dtype = options.dtype
        self._device = options.device
        self._device_map = options.device_map
        self._quantization = options.quantization
        self._context = options.context
        self._begun = False
        self._thread = EngineThread(self._load, _Engine.run, batch=self.batch_size, name="guardreasoner-transformers")

    async def generate(self, queries: Sequence[Query], *, deadline: float | None) -> list[Completion | BackendError]:
        """Answer the queries, in order, together with those of other tasks.

        Raises:
            ConfigurationError: the model cannot be loaded, or its chat template does not take the messages.
            ClosedError: the backend was closed.
        """
        return await self._thread.answer(queries, deadline)

    async def load(self) -> None:
        """Load the model now, if it is not loaded yet."""
        await self._thread.load()

    async def aclose(self) -> None:
        """Stop after the token under way, and let the model go."""
        await self._thread.aclose()
        if self._begun:
            release_memory()

    def _load(self) -> _Engine:
        from guardreasoner_sdk.backends._tokens import PromptEncoder
        from guardreasoner_sdk.backends._weights import folder_of

        self._begun = True
        folder = folder_of(self._weights, self._revision)
        placement = self._placement()
        encoder = PromptEncoder.from_folder(folder, self.model)
        images = _Images(folder, encoder, self.model)
        return _Engine(self._load_model(folder, placement), encoder, images, self._context, self.batch_size)

    def _load_model(self, folder: Path, placement: dict[str, Any]) -> Any:
        device = placement.pop("device", None)

        with loading_errors(self.model, folder):
            options = {"dtype": self._dtype, "local_files_only": True, "use_safetensors": True, **placement}
            model = _auto_model(folder).from_pretrained(str(folder), **options)
            if not model.can_generate() and hasattr(model, "model"):
                model = model.model  # a classifier of images that is a language model within (ShieldGemma 2)
            return (model if device is None else model.to(device)).eval()

    def _placement(self) -> dict[str, Any]:
        """Where the weights go: a device to move them to, or options for loading them."""
        device = default_device() if self._device is None else self._device
        if self._device_map is not None and importlib.util.find_spec("accelerate") is None:
            raise ConfigurationError("device_map: needs accelerate; pip install accelerate")
        if self._quantization is None:
            return {"device": device} if self._device_map is None else {"device_map": self._device_map}
        if device in ("cpu", "mps"):
            raise ConfigurationError(
                f"quantization: {self._quantization!r} needs a GPU that CUDA or ROCm knows; leave it out, or use "
                "backend='llama_cpp' with a quantised GGUF file"
            )
        if importlib.util.find_spec("bitsandbytes") is None or importlib.util.find_spec("accelerate") is None:
            raise ConfigurationError(
                f"quantization: {self._quantization!r} needs two more packages; pip install bitsandbytes accelerate"
            )
        if self._quantization == "8bit":
            options: dict[str, Any] = {"load_in_8bit": True}
        else:
            compute = "bfloat16" if self._dtype == "auto" else self._dtype
            options = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": compute}
        config = _transformers().BitsAndBytesConfig(**options)
        return {"quantization_config": config, "device_map": self._device_map or {"": device}}


def _transformers() -> Any:
    """The library: only a part of it is typed."""
    import transformers

    return transformers


def _auto_model(folder: Path) -> Any:
    """What loads the weights: one that sees is loaded with its eyes."""
    library = _transformers()
    config = library.AutoConfig.from_pretrained(str(folder), local_files_only=True)
    if config.model_type == "shieldgemma2":
        return library.AutoModelForImageClassification
    sees = getattr(config, "vision_config", None) is not None and type(config) in library.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    return library.AutoModelForImageTextToText if sees else library.AutoModelForCausalLM


class _Images:
    """What a checkpoint brings for images, loaded with the first of them: who judges texts alone needs no Pillow.

    Args:
        folder: of the checkpoint.
        encoder: of its texts.
        name: the model's name, for errors.
    """

    def __init__(self, folder: Path, encoder: PromptEncoder, name: str) -> None:
        self._folder = folder
        self._encoder = encoder
        self._name = name
        self._loaded: ImageEncoder | None = None

    def encoder(self) -> ImageEncoder:
        """Load it.

        Raises:
            BackendError: it brings nothing.
            ConfigurationError: it cannot be loaded.
        """
        if self._loaded is None:
            from guardreasoner_sdk.backends._vision import ImageEncoder

            self._loaded = ImageEncoder.from_folder(self._folder, self._encoder.of_transformers, self._name)
        if self._loaded is None:
            raise BackendError(f"{self._name} is no model that sees images")
        return self._loaded


class _Engine:
    """A loaded model and its tokenizer."""

    def __init__(self, model: Any, encoder: PromptEncoder, images: _Images, context: int | None, batch_size: int) -> None:
        self._model = model
        self._encoder = encoder
        self._images = images
        takes = inspect.signature(model.forward).parameters
        self._kinds = next((name for name in ("mm_token_type_ids", "token_type_ids") if name in takes), None)
        self._batch_size = batch_size
        config = model.config.get_text_config()
        self._context = context or getattr(config, "max_position_embeddings", None) or 2**31
        stored = model.generation_config.eos_token_id if model.generation_config else None
        stored = config.eos_token_id if stored is None else stored
        ends = [*(stored if isinstance(stored, list) else [stored]), encoder.eos]
        self._ends = frozenset(end for end in ends if end is not None)
        # What a checkpoint says about sampling must not change what a query asks for.
        model.generation_config = _transformers().GenerationConfig()

    def run(self, jobs: list[EngineJob[Query, Completion]]) -> None:
        """Answer a batch. What fails for one query is its answer.

        Raises:
            ConfigurationError: the model's chat template does not take the messages.
        """
        import torch

        rows = []
        for job in jobs:
            try:
                rows.append(self._row(job))
            except ConfigurationError:
                raise
            except BackendError as error:
                job.settle(error)
            except Exception as error:  # what tokenizers cannot encode is its own query's fault alone
                log_failure(logger, "the prompt cannot be encoded", error)
                job.settle(BackendError(f"the prompt cannot be encoded ({type(error).__name__})"))
        try:
            if rows:
                self._generate(rows)
        except torch.OutOfMemoryError as error:
            log_failure(logger, "out of memory", error)
            # The traceback holds the tensors of the batch.
            error.__traceback__ = None
            torch.cuda.empty_cache()
            raise BackendError(
                f"the device ran out of memory; lower batch_size (now {self._batch_size}), or use a smaller or quantised model"
            ) from None

    def _row(self, job: EngineJob[Query, Completion]) -> _Row:
        seen: dict[str, Any] = {}
        kinds: list[int] = []
        if job.query.images:
            images = self._images.encoder()
            made = images.encode(job.query.images)
            prompt = self._encoder.encode(job.query, image_token=images.token, image_texts=made.texts)
            seen, kinds = made.tensors, images.kinds(prompt)
        else:
            prompt = self._encoder.encode(job.query)
        if len(prompt) >= self._context:
            raise too_long(len(prompt), self._context, "use a model with a longer context")
        limit = min(job.query.max_tokens, self._context - len(prompt))
        return _Row(job, prompt, limit, self._encoder, self._ends, seen, kinds)

    def _generate(self, rows: list[_Row]) -> None:
        import torch

        longest = max(len(row.prompt) for row in rows)
        # Padded on the left, so that all rows go on at the same place; what is padded is masked.
        gaps = [longest - len(row.prompt) for row in rows]
        ids = [[0] * gap + row.prompt for gap, row in zip(gaps, rows, strict=True)]
        mask = [[0] * gap + [1] * len(row.prompt) for gap, row in zip(gaps, rows, strict=True)]
        hot = any(row.query.temperature > 0 for row in rows)
        steps = _Steps(rows)
        with torch.inference_mode():
            self._model.generate(
                torch.tensor(ids, device=self._model.device),
                attention_mask=torch.tensor(mask, device=self._model.device),
                **self._seen(rows, longest),
                generation_config=_transformers().GenerationConfig(
                    max_new_tokens=max(row.limit for row in rows),
                    pad_token_id=0,
                    do_sample=hot,
                    **({"temperature": 1.0, "top_k": 0, "top_p": 1.0} if hot else {}),
                ),
                logits_processor=[steps.scores],
                stopping_criteria=[steps.done],
            )

    def _seen(self, rows: list[_Row], longest: int) -> dict[str, Any]:
        """What the model is shown beside the tokens: the images of all rows, one after another."""
        import torch

        showing = [row for row in rows if row.seen]
        if not showing:
            return {}
        device, dtype = self._model.device, self._model.dtype
        shown: dict[str, Any] = {}
        for name in dict.fromkeys(name for row in showing for name in row.seen):
            whole = torch.cat([torch.as_tensor(row.seen[name]) for row in showing])
            shown[name] = whole.to(device, dtype if whole.is_floating_point() else None)
        if self._kinds is not None:
            kinds = [[0] * (longest - len(row.prompt)) + (row.kinds or [0] * len(row.prompt)) for row in rows]
            shown[self._kinds] = torch.tensor(kinds, device=device)
        return shown


class _Steps:
    """Looks after the rows of a batch between two tokens: transformers calls ``scores`` before, ``done`` after each one."""

    def __init__(self, rows: list[_Row]) -> None:
        self._rows = rows
        self._logits: Any = None

    def scores(self, ids: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """Make each row's logits (rows x vocabulary, float32) those of its own temperature."""
        import torch

        self._logits = logits
        temperatures = [row.query.temperature for row in self._rows]
        if not any(temperatures):
            return logits
        scores = torch.full_like(logits, -math.inf)
        for number, temperature in enumerate(temperatures):
            if temperature > 0:
                scores[number] = logits[number] / temperature
            else:
                scores[number, logits[number].argmax()] = 0.0
        return scores

    def done(self, ids: torch.Tensor, _: Any) -> torch.Tensor:
        """Hand the new tokens to their rows; which rows need no more."""
        import torch

        tokens = ids[:, -1]
        choices = max(0 if row.done else row.query.choices for row in self._rows)
        top = self._most_probable(tokens, choices) if choices else None
        for number, (row, token) in enumerate(zip(self._rows, tokens.tolist(), strict=True)):
            if not row.done:
                row.add(token, None if top is None else (top[0][number], top[1][number]))
        return torch.tensor([row.done for row in self._rows], device=ids.device)

    def _most_probable(self, tokens: torch.Tensor, choices: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and probabilities (rows x choices + 1): of the chosen token, then of the most probable ones."""
        import torch

        probabilities = self._logits.float().softmax(-1)
        best, numbers = probabilities.topk(min(choices, probabilities.shape[-1]), dim=-1)
        chosen = probabilities.gather(-1, tokens[:, None])
        return torch.cat([tokens[:, None], numbers], -1).cpu(), torch.cat([chosen, best], -1).cpu()


class _Row:
    """One query of a batch, and its answer as it grows. It is settled as soon as it ends, whatever the others do.

    Args:
        job: takes the answer.
        prompt: token ids.
        limit: most tokens to generate.
        encoder: decodes.
        ends: ids that end an answer.
        seen: tensors of its images, by the model's argument.
        kinds: for each token of a prompt with images whether it is a part of one.
    """

    def __init__(
        self,
        job: EngineJob[Query, Completion],
        prompt: list[int],
        limit: int,
        encoder: PromptEncoder,
        ends: frozenset[int],
        seen: dict[str, Any],
        kinds: list[int],
    ) -> None:
        self.query = job.query
        self.prompt = prompt
        self.seen = seen
        self.kinds = kinds
        self.limit = limit
        self.done = False
        self._job = job
        self._encoder = encoder
        self._ends = ends
        self._ids: list[int] = []
        self._top: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._stream = encoder.stream(special=job.query.special)
        self._text = ""

    def add(self, token: int, top: tuple[torch.Tensor, torch.Tensor] | None) -> None:
        """Take the next token in."""
        if not self._job.wanted:
            self.done = True
            self._job.settle(DeadlineError())
        elif token in self._ends:
            self._finish("stop", self._whole(), len(self._ids) + 1)
        else:
            self._ids.append(token)
            if self.query.choices and top is not None:
                self._top.append(top)
            cut = self._cut(token) if self.query.stop else None
            if cut is not None:
                self._finish("stop", self._text[:cut], len(self._ids))
            elif len(self._ids) >= self.limit:
                self._finish("length", self._whole(), len(self._ids))

    def _whole(self) -> str:
        return self._encoder.decode(self._ids, special=self.query.special)

    def _cut(self, token: int) -> int | None:
        """Where the first stop string begins, once one is complete; only what the token added is looked through."""
        before = len(self._text)
        self._text += self._stream.add(token)
        return stop_place(self._text, before, self.query.stop)

    def _finish(self, reason: Literal["stop", "length"], text: str, count: int) -> None:
        self.done = True
        choices = None
        if self.query.choices:
            choices = TokenProbabilities(self._encoder.starts(self._ids, special=self.query.special), self._alternatives)
        usage = Usage(input_tokens=len(self.prompt), output_tokens=count)
        self._job.settle(Completion(text, reason, usage, choices))

    def _alternatives(self, number: int) -> dict[str, float]:
        numbers, probabilities = (values.tolist() for values in self._top[number])
        # The first one is the chosen one; a batch may have recorded more than this query asked for.
        wanted = dict(zip(numbers[1 : self.query.choices + 1], probabilities[1:], strict=False))
        wanted[numbers[0]] = probabilities[0]
        return sum_by_text((self._encoder.token_text(token), probability) for token, probability in wanted.items())
