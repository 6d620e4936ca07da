"""Options of the engines, typed: ``Guard(model, backend=VLLM(tensor_parallel_size=2))``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Literal, Self, get_args

from guardreasoner_sdk._arguments import check_count, did_you_mean
from guardreasoner_sdk.errors import ConfigurationError
from guardreasoner_sdk.verdict import Task

__all__ = [
    "MAX_ANSWER_BYTES",
    "VLLM",
    "Classifier",
    "EngineOptions",
    "LlamaCpp",
    "Onnx",
    "Remote",
    "ServerOptions",
    "Transformers",
]

Dtype = Literal["auto", "bfloat16", "float16", "float32"]

MAX_ANSWER_BYTES = 16 * 2**20


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """What all options of engines are: frozen values, validated where they are made."""

    engine_name: ClassVar[str]

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """Read a mapping of options.

        Args:
            options: by name.

        Raises:
            ConfigurationError: an option that this engine does not have, or a value that it cannot work with.
        """
        known = [each.name for each in fields(cls)]
        for option in options:
            if option not in known:
                meant = did_you_mean(str(option), known)
                hint = f"{meant} known" if meant else "known"
                raise ConfigurationError(f"options: {option!r} is unknown to this backend; {hint} are {', '.join(known)}")
        return cls(**options)

    def _check_counts(self, least: int, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            # What is None unless given is left to the engine.
            if value is not None or getattr(type(self), name) is not None:
                check_count(name, value, least)

    def _check_choice(self, name: str, known: tuple[str, ...], fix: str = "") -> None:
        value = getattr(self, name)
        if value not in known:
            raise ConfigurationError(f"{name}: {value!r} is unknown; use one of {', '.join(known)}{fix}")

    def _check_seconds(self, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
                raise ConfigurationError(f"{name}: must be seconds above 0, not {value!r}")


@dataclass(frozen=True, kw_only=True)
class VLLM(EngineOptions):
    """Options of vLLM.

    Args:
        revision: branch, tag or commit on the hub; default: the main branch.
        dtype: ``auto`` (as the weights are stored), ``bfloat16``, ``float16`` or ``float32``.
        quantization: how the weights are quantised, such as ``fp8`` or ``awq``; default: as their configuration says.
        tensor_parallel_size: GPUs to split each layer over.
        data_parallel_size: copies of the model, each on GPUs of its own, to share the queries.
        gpu_memory_utilization: share of each GPU's memory (0 to 1) for weights and cache.
        max_model_len: longest prompt with its answer, in tokens; default: the model's own. Less needs less memory.
        batch_size: exchanges to hand over at a time.
        engine: further options of vLLM's ``AsyncEngineArgs``, such as ``{"enforce_eager": True}``.

    Raises:
        ConfigurationError: a value that cannot work, named.

    Example:
        >>> from guardreasoner_sdk import VLLM
        >>> VLLM(tensor_parallel_size=0)
        Traceback (most recent call last):
        guardreasoner_sdk.errors.ConfigurationError: tensor_parallel_size: must be a whole number from 1, not 0
    """

    engine_name: ClassVar[str] = "vllm"

    revision: str | None = None
    dtype: str = "auto"
    quantization: str | None = None
    tensor_parallel_size: int = 1
    data_parallel_size: int = 1
    gpu_memory_utilization: float = 0.9
    max_model_len: int | None = None
    batch_size: int = 64
    engine: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._check_counts(1, "tensor_parallel_size", "data_parallel_size", "max_model_len", "batch_size")
        share = self.gpu_memory_utilization
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
            raise ConfigurationError(f"gpu_memory_utilization: must be a share above 0 and up to 1, not {share!r}")
        if not isinstance(self.engine, Mapping):
            raise ConfigurationError(f"engine: must be a mapping of vLLM's options, not {type(self.engine).__name__}")
        for option in self.engine:
            if option in {each.name for each in fields(self)}:
                raise ConfigurationError(f"engine: {option!r} is an option of its own; pass {option}=... beside engine=")

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """Read a mapping of options; what is unknown here goes to vLLM, which knows more than a hundred.

        Args:
            options: by name.

        Raises:
            ConfigurationError: a value that cannot work.
        """
        known = {each.name for each in fields(cls)}
        own = {name: value for name, value in options.items() if name in known}
        options_of_vllm = cls(**own)
        more = {name: value for name, value in options.items() if name not in known}
        return replace(options_of_vllm, engine={**options_of_vllm.engine, **more})


@dataclass(frozen=True, kw_only=True)
class LlamaCpp(EngineOptions):
    """Options of llama.cpp.

    Args:
        context: most tokens of prompt and answer; default: what the model was trained for, but 8,192 at most. The cache takes
            its memory at once: 1 GiB for 8,192 tokens of a Llama of 8B.
        n_gpu_layers: layers to put on the GPU, where llama-cpp-python was built for one; -1 for all.
        threads: CPU threads; default: the CPUs that this process may use.
        n_batch: tokens of a prompt to compute at a time, between which it is seen that a caller has gone away.

    Raises:
        ConfigurationError: a value that cannot work, named.

    Example:
        >>> from guardreasoner_sdk import LlamaCpp
        >>> LlamaCpp(threads=4).threads
        4
    """

    engine_name: ClassVar[str] = "llama_cpp"

    context: int | None = None
    n_gpu_layers: int = -1
    threads: int | None = None
    n_batch: int = 512

    def __post_init__(self) -> None:
        self._check_counts(-1, "n_gpu_layers")
        self._check_counts(1, "context", "threads", "n_batch")


@dataclass(frozen=True, kw_only=True)
class Transformers(EngineOptions):
    """Options of transformers.

    Args:
        revision: branch, tag or commit on the hub; default: the main branch.
        dtype: ``auto`` (as the weights are stored), ``bfloat16``, ``float16`` or ``float32``.
        device: such as ``cuda:1``, ``mps`` or ``cpu``; default: the first of these three that there is.
        device_map: how to spread the model over devices, such as ``auto``; needs accelerate. Not together with ``device``.
        quantization: load the weights with 4 or 8 bits each; needs a GPU, bitsandbytes and accelerate.
        batch_size: most queries to run together.
        context: longest prompt with its answer, in tokens; default: the model's own.

    Raises:
        ConfigurationError: a value that is unknown, or does not fit another one.

    Example:
        >>> from guardreasoner_sdk import Transformers
        >>> Transformers(dtype="float32", device="cpu").batch_size
        16
    """

    engine_name: ClassVar[str] = "transformers"

    revision: str | None = None
    dtype: Dtype = "auto"
    device: str | None = None
    device_map: str | None = None
    quantization: Literal["4bit", "8bit"] | None = None
    batch_size: int = 16
    context: int | None = None

    def __post_init__(self) -> None:
        self._check_choice("dtype", get_args(Dtype))
        if self.quantization is not None:
            self._check_choice("quantization", ("4bit", "8bit"), ", or leave it out")
        if self.device is not None and self.device_map is not None:
            raise ConfigurationError("device: is given together with device_map; leave one of them out")
        self._check_counts(1, "batch_size")
        self._check_counts(2, "context")


@dataclass(frozen=True, kw_only=True)
class _ClassifierOptions(EngineOptions):
    """What both engines for classifiers are told. What is None is as the model's label map has it; the fields of these names in
    :class:`~guardreasoner_sdk.dialects.label_map.LabelMap` say what they are."""

    labels: Mapping[str, str] | None = None
    scores: Literal["softmax", "sigmoid"] | None = None
    tasks: Sequence[Task] | None = None
    threshold: float | None = None
    temperature: float | None = None
    pair: bool | None = None
    looks_for: str | None = None
    window: int | None = None
    overlap: int | None = None
    tokenizer: str | None = None
    revision: str | None = None
    batch_size: int = 16

    def __post_init__(self) -> None:
        self._check_counts(1, "batch_size")
        self._check_counts(16, "window")
        self._check_counts(0, "overlap")

    @property
    def reading(self) -> dict[str, Any]:
        """What a label map is to have in place of its own."""
        names = ("labels", "scores", "tasks", "threshold", "temperature", "pair", "looks_for")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, kw_only=True)
class Classifier(_ClassifierOptions):
    """Options of sequence classifiers that are run by transformers.

    Args:
        labels: what the model's labels mean: ``{"LABEL_0": "unharmful", "LABEL_1": "harmful: Hate"}``.
        scores: ``softmax`` (labels exclude each other) or ``sigmoid`` (each stands for itself).
        tasks: what it is asked about, such as ``("prompt_harmfulness",)``.
        threshold: the probability (0 to 1) from which on a finding is positive.
        temperature: what the model's outputs are divided by before they become probabilities; above 0.
        pair: whether a response is read together with its prompt, as a pair of texts.
        looks_for: the one kind of harm that it finds, for the note of findings that it finds none.
        window: most tokens to read at a time, special ones among them.
        overlap: tokens that neighbouring windows share; default: a quarter of a window.
        tokenizer: a folder or a repository that holds the tokenizer; default: the model's own.
        revision: branch, tag or commit on the hub; default: the main branch.
        batch_size: most windows to run together.
        dtype: ``auto`` (as the weights are stored), ``bfloat16``, ``float16`` or ``float32``.
        device: such as ``cuda:1``, ``mps`` or ``cpu``; default: the first of these three that there is.

    Raises:
        ConfigurationError: a value that cannot work, named.

    Example:
        >>> from guardreasoner_sdk import Classifier
        >>> Classifier(window=4)
        Traceback (most recent call last):
        guardreasoner_sdk.errors.ConfigurationError: window: must be a whole number from 16, not 4
    """

    engine_name: ClassVar[str] = "classifier"

    dtype: Dtype = "auto"
    device: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_choice("dtype", get_args(Dtype))


@dataclass(frozen=True, kw_only=True)
class Onnx(_ClassifierOptions):
    """Options of sequence classifiers that are run by onnxruntime.

    Args:
        labels, scores, tasks, threshold, temperature, pair, looks_for, window, overlap, tokenizer, revision, batch_size: as of
            :class:`Classifier`; each window is run by itself.
        threads: CPU threads; default: as onnxruntime chooses.

    Raises:
        ConfigurationError: a value that cannot work, named.

    Example:
        >>> from guardreasoner_sdk import Onnx
        >>> Onnx(labels={"LABEL_0": "unharmful", "LABEL_1": "harmful"}, threads=1).engine_name
        'onnx'
    """

    engine_name: ClassVar[str] = "onnx"

    threads: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_counts(1, "threads")


@dataclass(frozen=True, kw_only=True)
class ServerOptions(EngineOptions):
    """Options of whatever is asked over HTTP.

    Args:
        max_connections: most requests under way at a time; others wait, within their deadline.
        retries: how often to ask again.
        request_timeout: seconds from one request to the last byte of its answer, where no deadline is nearer.
        max_answer_bytes: longest answer to read, uncompressed.
        breaker_failures: failures in a row that open the breaker.
        breaker_recovery: seconds until it is tried again.

    Raises:
        ConfigurationError: a value that cannot work, named.
    """

    max_connections: int = 64
    retries: int = 2
    request_timeout: float = 60.0
    max_answer_bytes: int = MAX_ANSWER_BYTES
    breaker_failures: int = 5
    breaker_recovery: float = 30.0

    def __post_init__(self) -> None:
        self._check_counts(1, "max_connections", "breaker_failures", "max_answer_bytes")
        self._check_counts(0, "retries")
        self._check_seconds("request_timeout", "breaker_recovery")


@dataclass(frozen=True, kw_only=True)
class Remote(ServerOptions):
    """Options of a server that speaks OpenAI's API.

    Args:
        max_connections: most requests under way at a time; others wait, within their deadline.
        retries: how often to ask again.
        request_timeout: seconds from one request to the last byte of its answer, where no deadline is nearer.
        max_answer_bytes: longest answer to read, uncompressed. 2,048 tokens with 20 probabilities each are some 5 MB.
        breaker_failures: failures in a row that open the breaker.
        breaker_recovery: seconds until it is tried again.
        probabilities: whether to ask for token probabilities. A server that refuses is asked for fewer, then for none.
        continues: whether the server goes on from the beginning of an answer in a chat (vLLM's ``continue_final_message``).
            None: looked up once, when the guard is loaded, for vLLM and llama.cpp's own server. Plain prompts always can.
        extra_body: further fields of each request, as a server's own API has them; None takes a field away, as in
            ``{"max_tokens": None, "max_completion_tokens": 2048}``.

    Raises:
        ConfigurationError: a value that cannot work, named.

    Example:
        >>> from guardreasoner_sdk import Guard, Remote
        >>> guard = Guard("my-guard", backend=Remote(retries=0), base_url="http://localhost:8000/v1")
        >>> guard.judge.backend
        'remote'
    """

    engine_name: ClassVar[str] = "remote"

    probabilities: bool = True
    continues: bool | None = None
    extra_body: Mapping[str, Any] | None = None
