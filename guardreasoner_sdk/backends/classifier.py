"""Runs sequence classifiers: by transformers on any device, or by onnxruntime on a CPU."""

from __future__ import annotations

import importlib.util
import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from guardreasoner_sdk._failures import config_errors, log_failure
from guardreasoner_sdk.backends._engine_thread import EngineJob, EngineThread
from guardreasoner_sdk.backends._torch import default_device, loading_errors, release_memory
from guardreasoner_sdk.backends._weights import folder_of
from guardreasoner_sdk.backends._windows import Slice, WindowEncoder
from guardreasoner_sdk.backends.options import Classifier, Onnx
from guardreasoner_sdk.dialects.label_map import LabelMap, Meanings, labels_of
from guardreasoner_sdk.errors import BackendError, ConfigurationError, MissingExtraError
from guardreasoner_sdk.generation import Logits, Passage, Window
from guardreasoner_sdk.verdict import Usage

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["ClassifierBackend", "OnnxClassifier", "TransformersClassifier", "read_config"]

logger = logging.getLogger("guardreasoner_sdk")

_MOST = 8192
"""Longest window unless told otherwise, in tokens: what a text costs grows with its square."""

_COUNTED_FROM_PADDING = {
    *("camembert", "data2vec-text", "esm", "ibert", "longformer", "luke", "mpnet", "roberta", "roberta-prelayernorm"),
    *("xlm-roberta", "xlm-roberta-xl", "xmod"),
}
"""Model types that count positions from behind their padding token's number on, and so have fewer than they say."""


class ClassifierBackend(ABC):
    """What the engines for classifiers have in common: a thread of its own that cuts texts into windows and runs them together.

    A window's result does not depend on what else is in its batch, but for rounding: below 1e-5 of a probability in float32.
    Windows are sorted by length, so that hardly anything is padded.

    Args:
        weights: a folder in the Hugging Face layout, or a name on the hub.
        labels: what the labels mean.
        name: the model's name, for the verdict; default: ``weights``.
        options: of the engine.

    Raises:
        MissingExtraError: what runs it is not installed.
        ConfigurationError: the folder's model is no classifier, or has labels that the map does not know.
    """

    name: ClassVar[str]
    extra: ClassVar[str]
    modules: ClassVar[tuple[str, ...]]
    kinds: ClassVar[tuple[str, ...]]

    def __init__(self, weights: str, labels: LabelMap, options: Classifier | Onnx, *, name: str | None = None) -> None:
        if any(importlib.util.find_spec(module) is None for module in self.modules):
            raise MissingExtraError(self.extra, f"Classifiers run by {self.modules[0]}")
        self.model = weights if name is None else name
        self.batch_size = options.batch_size
        self.labels = labels
        self._weights = weights
        self._options = options
        folder = Path(weights).expanduser()
        if folder.is_dir():
            self._meanings(read_config(folder))  # what cannot be read is told now, and not with the first check
        self._thread: EngineThread[_Engine, Passage, Logits] = EngineThread(
            self._load, _Engine.run, batch=4 * self.batch_size, name=f"guardreasoner-{self.name}"
        )
        self._bound: Meanings | None = None

    @property
    def meanings(self) -> Meanings:
        """What the outputs mean; known once the model is loaded."""
        assert self._bound is not None, "the model is not loaded"  # noqa: S101
        return self._bound

    async def classify(self, passages: Sequence[Passage], *, deadline: float | None) -> list[Logits | BackendError]:
        """Classify passages, in order, together with those of other tasks.

        Args:
            passages: what is read.
            deadline: time on ``time.monotonic()``, in seconds, after which nobody waits any more; None for no limit.

        Raises:
            ConfigurationError: the model cannot be loaded, or has labels that the map does not know.
            ClosedError: the backend was closed.
        """
        return await self._thread.answer(passages, deadline)

    async def load(self) -> None:
        """Load the model now, if it is not loaded yet."""
        await self._thread.load()

    async def aclose(self) -> None:
        """Stop after the batch under way, and let the model go."""
        await self._thread.aclose()

    @abstractmethod
    def _load_model(self, folder: Path, config: dict[str, Any]) -> _Runner:
        """Load the weights."""

    @abstractmethod
    def _load_tokenizer(self, folder: Path) -> Tokenizer:
        """Load the tokenizer."""

    def _meanings(self, config: dict[str, Any]) -> Meanings:
        return self.labels.bind(labels_of(config), config.get("problem_type"))

    def _load(self) -> _Engine:
        folder = folder_of(self._weights, self._options.revision, kinds=self.kinds)
        config = read_config(folder)
        meanings = self._meanings(config)
        tokenizers = self._options.tokenizer or self.labels.tokenizers.get(self._weights)
        tokenizer = self._load_tokenizer(folder if tokenizers is None else folder_of(tokenizers, kinds=()))
        longest = _longest(config)
        size = self._options.window or min(self.labels.window or _MOST, longest or 512)
        # What tells places by their distances has no last one.
        if longest is not None and size > longest and not config.get("relative_attention"):
            raise ConfigurationError(f"window: {size} tokens are more than {self.model} reads at a time; use at most {longest}")
        end = config.get("eos_token_id")
        encoder = WindowEncoder(
            tokenizer,
            self.model,
            size=size,
            overlap=size // 4 if self._options.overlap is None else self._options.overlap,
            end=end if isinstance(end, int) else None,
        )
        runner = self._load_model(folder, config)
        with config_errors(lambda error: f"model: {self.model} cannot classify a text ({type(error).__name__}: {error})"):
            [probe] = runner.run(encoder.cut(Passage("a"))[:1])
        if len(probe) != len(meanings.labels):
            raise ConfigurationError(
                f"model: {self.model} gives {len(probe)} outputs, and its config.json names {len(meanings.labels)} labels; "
                "fix it there"
            )
        self._bound = meanings
        return _Engine(runner, encoder, self.batch_size)


class TransformersClassifier(ClassifierBackend):
    """Runs a sequence classifier by transformers, on any device that PyTorch knows.

    Code that comes with a model is never run: a model that brings its own is refused, or loaded by the layers that its label
    map says it has (``head``). A model whose head would be made up at random is refused, too.

    Args:
        weights, labels, options, name: as of :class:`ClassifierBackend`.

    Example:
        >>> from guardreasoner_sdk.backends.classifier import TransformersClassifier
        >>> from guardreasoner_sdk.backends.options import Classifier
        >>> from guardreasoner_sdk.dialects.label_map import label_maps
        >>> made = TransformersClassifier("unitary/toxic-bert", label_maps()["detoxify"], Classifier(batch_size=8))
        >>> made.model, made.batch_size
        ('unitary/toxic-bert', 8)
    """

    name = "classifier"
    extra = "transformers"
    modules = ("transformers", "torch")
    kinds = ("*.safetensors", "*.bin")  # several of these models are published in the older format alone; it is read as data

    _options: Classifier

    async def aclose(self) -> None:
        """Stop after the batch under way, and let the model go."""
        await super().aclose()
        if self._bound is not None:
            release_memory()

    def _load_tokenizer(self, folder: Path) -> Tokenizer:
        from guardreasoner_sdk.backends._tokens import PromptEncoder

        if (folder / "tokenizer.json").is_file():
            return _tokenizer_in(folder)
        return PromptEncoder.from_folder(folder, self.model).tokenizer  # transformers makes one of the older files

    def _load_model(self, folder: Path, config: dict[str, Any]) -> _Runner:
        import torch

        device = self._options.device or default_device()

        with loading_errors(self.model, folder):
            model, pads = self._made(folder, config)
            model = model.to(device).eval()
        return _TorchRunner(model, torch.device(device), pads, typed=(config.get("type_vocab_size") or 0) > 1)

    def _made(self, folder: Path, config: dict[str, Any]) -> tuple[Any, int | None]:
        """The model, and the token that fills up its batches; None where it must not see any."""
        import transformers

        options = {"dtype": self._options.dtype, "local_files_only": True, "output_loading_info": True}
        if self.labels.head == "first token":
            settings = transformers.DebertaV2Config(**{k: v for k, v in config.items() if k not in ("auto_map", "model_type")})
            settings.num_labels = len(labels_of(config))
            model, info = _first_token_class().from_pretrained(str(folder), config=settings, **options)
        else:
            if not any("ForSequenceClassification" in str(each) for each in config.get("architectures") or []):
                raise ConfigurationError(
                    f"model: {self.model} is no sequence classifier (its architectures: {config.get('architectures')}); use "
                    "one, or backend='transformers' for a language model"
                )
            made: Any = transformers.AutoModelForSequenceClassification
            model, info = made.from_pretrained(str(folder), **options)
        lacking = sorted(info["missing_keys"]) + sorted(str(key) for key in info["mismatched_keys"])
        if lacking:
            raise ConfigurationError(
                f"model: {self.model} has no weights for {', '.join(lacking[:4])}, which would be made up at random; use a "
                "checkpoint that holds its classification head"
            )
        if "score" in dict(model.named_children()):
            # A language model with a head reads the last token, and takes padding for none: it gets no padding, and no number
            # stands for it, so that a text which ends with that token is read to its end.
            model.config.get_text_config().pad_token_id = -1
            return model, None
        pad = config.get("pad_token_id")
        return model, pad if isinstance(pad, int) else 0


class OnnxClassifier(ClassifierBackend):
    """Runs a sequence classifier that was exported to ONNX, by onnxruntime on the CPU: ``model.onnx``, ``tokenizer.json`` and
    ``config.json`` in a folder, as optimum exports them, or with the first in a folder ``onnx``.

    Each window is run by itself: a model in 8 bits scales its activations over all that is in a run, and a verdict must not
    depend on its neighbours. Nothing is padded, so that this is no slower.

    Args:
        weights, labels, options, name: as of :class:`ClassifierBackend`.

    Example:
        >>> from guardreasoner_sdk.backends.classifier import OnnxClassifier
        >>> from guardreasoner_sdk.backends.options import Onnx
        >>> from guardreasoner_sdk.dialects.label_map import label_maps
        >>> OnnxClassifier("protectai/unbiased-toxic-roberta-onnx", label_maps()["detoxify"], Onnx()).name
        'onnx'
    """

    name = "onnx"
    extra = "onnx"
    modules = ("onnxruntime", "tokenizers")
    kinds = ("*model.onnx*",)

    _options: Onnx

    def _load_tokenizer(self, folder: Path) -> Tokenizer:
        return _tokenizer_in(folder)

    def _load_model(self, folder: Path, config: dict[str, Any]) -> _Runner:
        import onnxruntime

        path = next((found for found in (folder / "model.onnx", folder / "onnx" / "model.onnx") if found.is_file()), None)
        if path is None:
            raise ConfigurationError(f"model: {folder} holds no model.onnx; export the model, or use backend='classifier'")
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 3
        if self._options.threads is not None:
            settings.intra_op_num_threads = self._options.threads
        with config_errors(lambda error: f"model: {path} cannot be loaded ({type(error).__name__}); export it again"):
            session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
        return _OnnxRunner(session)


class _Runner(ABC):
    """Runs windows."""

    pads = True

    @abstractmethod
    def run(self, slices: Sequence[Slice]) -> list[tuple[float, ...]]:
        """The outputs for each window."""


class _TorchRunner(_Runner):
    def __init__(self, model: Any, device: Any, pad: int | None, *, typed: bool) -> None:
        self._model = model
        self._device = device
        self._pad = pad
        self._typed = typed
        self.pads = pad is not None

    def run(self, slices: Sequence[Slice]) -> list[tuple[float, ...]]:
        import torch

        longest = max(len(each.ids) for each in slices)

        def rows(values: Callable[[Slice], list[int]], filled: int) -> Any:
            return torch.tensor([values(each) + [filled] * (longest - len(each.ids)) for each in slices], device=self._device)

        inputs = {
            "input_ids": rows(lambda each: each.ids, self._pad or 0),
            "attention_mask": rows(lambda each: [1] * len(each.ids), 0),
        }
        if self._typed:
            inputs["token_type_ids"] = rows(lambda each: each.types, 0)
        with torch.inference_mode():
            logits = self._model(**inputs).logits
        return [tuple(row) for row in logits.float().cpu().tolist()]


class _OnnxRunner(_Runner):
    def __init__(self, session: Any) -> None:
        self._session = session
        self._inputs = {each.name for each in session.get_inputs()}
        outputs = [each.name for each in session.get_outputs()]
        self._output = "logits" if "logits" in outputs else outputs[0]

    def run(self, slices: Sequence[Slice]) -> list[tuple[float, ...]]:
        return [self._one(each) for each in slices]

    def _one(self, each: Slice) -> tuple[float, ...]:
        import numpy as np

        known = {
            "input_ids": each.ids,
            "attention_mask": [1] * len(each.ids),
            "token_type_ids": each.types,
            "position_ids": range(len(each.ids)),
        }
        inputs = {name: np.array([values], dtype=np.int64) for name, values in known.items() if name in self._inputs}
        [logits] = self._session.run([self._output], inputs)
        return tuple(float(value) for value in logits[0])


class _Engine:
    """A loaded model, and what cuts texts for it."""

    def __init__(self, runner: _Runner, encoder: WindowEncoder, batch_size: int) -> None:
        self._runner = runner
        self._encoder = encoder
        self._batch_size = batch_size

    def run(self, jobs: list[EngineJob[Passage, Logits]]) -> None:
        """Answer a batch. What fails for one passage is its answer."""
        slices: dict[int, list[Slice]] = {}
        for number, job in enumerate(jobs):
            try:
                if job.wanted:
                    slices[number] = self._encoder.cut(job.query)
            except ConfigurationError:
                raise
            except BackendError as error:
                job.settle(error)
            except Exception as error:  # what tokenizers cannot encode is its own text's fault alone
                log_failure(logger, "the text cannot be encoded", error)
                job.settle(BackendError(f"the text cannot be encoded ({type(error).__name__})"))
        # Short windows first: a passage of one window does not wait for one of a thousand.
        waiting = sorted(
            ((number, place) for number, cut in slices.items() for place in range(len(cut))),
            key=lambda each: len(slices[each[0]][each[1]].ids),
        )
        found: dict[int, dict[int, tuple[float, ...]]] = {number: {} for number in slices}
        for batch in self._batches(waiting, slices):
            wanted = [each for each in batch if jobs[each[0]].wanted]
            if not wanted:
                continue
            results = self._outputs([slices[number][place] for number, place in wanted])
            for (number, place), logits in zip(wanted, results, strict=True):
                if isinstance(logits, BackendError):
                    jobs[number].settle(logits)
                    continue
                found[number][place] = logits
                if len(found[number]) == len(slices[number]):
                    jobs[number].settle(_logits(slices[number], found[number]))

    def _outputs(self, slices: Sequence[Slice]) -> list[tuple[float, ...] | BackendError]:
        try:
            return list(self._runner.run(slices))
        except Exception as error:
            # What one window makes of the model is no fault of those beside it.
            if len(slices) > 1:
                return [found for each in slices for found in self._outputs([each])]
            log_failure(logger, "a window cannot be classified", error)
            return [BackendError(f"the model failed with {type(error).__name__}")]

    def _batches(self, waiting: Sequence[tuple[int, int]], slices: dict[int, list[Slice]]) -> Iterator[list[tuple[int, int]]]:
        batch: list[tuple[int, int]] = []
        length = 0
        for number, place in waiting:
            here = len(slices[number][place].ids)
            if batch and (len(batch) == self._batch_size or (here != length and not self._runner.pads)):
                yield batch
                batch = []
            batch.append((number, place))
            length = here
        if batch:
            yield batch


def _logits(slices: Sequence[Slice], found: dict[int, tuple[float, ...]]) -> Logits:
    windows = tuple(Window(found[place], each.start, each.end) for place, each in enumerate(slices))
    return Logits(windows, Usage(input_tokens=sum(len(each.ids) for each in slices)))


def _tokenizer_in(folder: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    fix = "put the one of the checkpoint there"
    with config_errors(lambda error: f"model: {path} cannot be loaded ({type(error).__name__}); {fix}"):
        return Tokenizer.from_file(str(path))


def read_config(folder: Path) -> dict[str, Any]:
    """The ``config.json`` of a checkpoint.

    Args:
        folder: where it lies.

    Raises:
        ConfigurationError: it cannot be read, or holds no object.
    """
    path = folder / "config.json"
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"model: {path} cannot be read ({type(error).__name__}); restore it") from None
    if not isinstance(value, dict):
        raise ConfigurationError(f"model: {path} does not hold a JSON object; restore it")
    return value


def _longest(config: dict[str, Any]) -> int | None:
    """Most tokens that a model can read at a time; None where its configuration does not say."""
    most = config.get("max_position_embeddings")
    if not isinstance(most, int):
        return None
    if config.get("model_type") in _COUNTED_FROM_PADDING:
        pad = config.get("pad_token_id")
        most -= (pad if isinstance(pad, int) else 1) + 1
    return most


def _first_token_class() -> Any:
    """DeBERTa v2 with a linear layer right on the first token's state. transformers' own head has one more layer in between."""
    import torch
    import transformers
    from transformers.modeling_outputs import SequenceClassifierOutput

    encoder: Any = transformers.DebertaV2Model

    class FirstTokenClassifier(transformers.DebertaV2PreTrainedModel):  # type: ignore[no-untyped-call]
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.deberta = encoder(config)
            self.classifier = torch.nn.Linear(config.hidden_size, config.num_labels)
            self.post_init()  # type: ignore[no-untyped-call]

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            states = self.deberta(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            return SequenceClassifierOutput(logits=self.classifier(states[:, 0]))

    return FirstTokenClassifier
