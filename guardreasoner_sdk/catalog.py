"""The models that the SDK knows by name, and the engines that run them."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from guardreasoner_sdk._arguments import did_you_mean
from guardreasoner_sdk.errors import UnknownModelError

__all__ = ["BACKENDS", "MODELS", "BackendInfo", "ModelInfo", "find_model"]


@dataclass(frozen=True, slots=True)
class BackendInfo:
    """An engine.

    Args:
        name: as in ``Guard(backend=...)``.
        purpose: what it is for, in a few words.
        extra: the extra of ``guardreasoner-sdk`` that installs what it needs; None: the core has it.
        modules: what must be importable for it to run.
    """

    name: str
    purpose: str
    extra: str | None
    modules: tuple[str, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        """The modules that are not installed; looked up without importing them."""
        return tuple(module for module in self.modules if importlib.util.find_spec(module) is None)


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model.

    Args:
        name: as in ``Guard(model=...)``.
        dialect: how it is asked and read, as in ``Guard(dialect=...)``; None for a classifier.
        context: tokens it can take in, answer included; a classifier cuts longer text into windows.
        licence: licence of the weights.
        source: where it is described.
        weights: by backend, what to load: a hub repository, ``repository:file.gguf``, or ``package``. For ``remote`` it is the
            name that a server gives the model unless told otherwise. The first backend that is installed is the default.
    """

    name: str
    dialect: str | None
    context: int
    licence: str
    source: str
    weights: Mapping[str, str] = field(default_factory=dict)


BACKENDS: Mapping[str, BackendInfo] = MappingProxyType(
    {
        info.name: info
        for info in (
            BackendInfo("embedded", "the model inside the package, on any CPU", None, ("onnxruntime", "sentencepiece")),
            BackendInfo("vllm", "language models on GPUs, many calls at a time", "vllm", ("vllm",)),
            BackendInfo("llama_cpp", "language models as GGUF, on laptops", "llama-cpp", ("llama_cpp",)),
            BackendInfo("transformers", "language models on any device", "transformers", ("torch", "transformers")),
            BackendInfo("remote", "any OpenAI-compatible server", None, ("openai", "circuitbreaker")),
        )
    }
)
"""The engines by name."""


def _model(
    name: str, dialect: str, context: int, licence: str, source: str, repository: str, gguf: str | None = None
) -> ModelInfo:
    weights = {"vllm": repository, "transformers": repository}
    if gguf is not None:
        weights["llama_cpp"] = gguf
    return ModelInfo(name, dialect, context, licence, source, weights | {"remote": repository})


_PAPER = "arXiv:2501.18492"
_LLAMA_GUARD = "arXiv:2312.06674, the model's card"
_SHIELDGEMMA = "arXiv:2407.21772"
_QWEN3GUARD = "arXiv:2510.14276"
_LONG = 131_072

# The converted files (GGUF) are those of third parties; where none is named, convert the weights or pass a file's path.
MODELS: Mapping[str, ModelInfo] = MappingProxyType(
    {
        info.name: info
        for info in (
            ModelInfo("embedded", None, 256, "Apache-2.0", "assets/embedded/MODEL_CARD.md", {"embedded": "package"}),
            _model("guardreasoner-1b", "guardreasoner", _LONG, "Llama 3.2", _PAPER, "yueliu1999/GuardReasoner-1B"),
            _model("guardreasoner-3b", "guardreasoner", _LONG, "Llama 3.2", _PAPER, "yueliu1999/GuardReasoner-3B"),
            _model("guardreasoner-8b", "guardreasoner", _LONG, "Llama 3.1", _PAPER, "yueliu1999/GuardReasoner-8B"),
            _model("thinkguard-8b", "thinkguard", _LONG, "Llama 3.1", "arXiv:2502.13458", "Rakancorle1/ThinkGuard"),
            _model("llama-guard-3-1b", "llama-guard-3", _LONG, "Llama 3.2", _LLAMA_GUARD, "meta-llama/Llama-Guard-3-1B"),
            _model(
                *("llama-guard-3-8b", "llama-guard-3", _LONG, "Llama 3.1", _LLAMA_GUARD, "meta-llama/Llama-Guard-3-8B"),
                "mradermacher/Llama-Guard-3-8B-GGUF:Llama-Guard-3-8B.Q4_K_M.gguf",
            ),
            _model("llama-guard-4-12b", "llama-guard-4", _LONG, "Llama 4", _LLAMA_GUARD, "meta-llama/Llama-Guard-4-12B"),
            _model("wildguard", "wildguard", 32_768, "Apache-2.0, gated", "arXiv:2406.18495", "allenai/wildguard"),
            _model(
                *("shieldgemma-2b", "shieldgemma", 8_192, "Gemma", _SHIELDGEMMA, "google/shieldgemma-2b"),
                "QuantFactory/shieldgemma-2b-GGUF:shieldgemma-2b.Q4_K_M.gguf",
            ),
            _model("shieldgemma-9b", "shieldgemma", 8_192, "Gemma", _SHIELDGEMMA, "google/shieldgemma-9b"),
            _model("shieldgemma-27b", "shieldgemma", 8_192, "Gemma", _SHIELDGEMMA, "google/shieldgemma-27b"),
            _model("qwen3guard-0.6b", "qwen3guard", 32_768, "Apache-2.0", _QWEN3GUARD, "Qwen/Qwen3Guard-Gen-0.6B"),
            _model("qwen3guard-4b", "qwen3guard", 32_768, "Apache-2.0", _QWEN3GUARD, "Qwen/Qwen3Guard-Gen-4B"),
            _model(
                *("qwen3guard-8b", "qwen3guard", 32_768, "Apache-2.0", _QWEN3GUARD, "Qwen/Qwen3Guard-Gen-8B"),
                "mradermacher/Qwen3Guard-Gen-8B-GGUF:Qwen3Guard-Gen-8B.Q4_K_M.gguf",
            ),
        )
    }
)
"""The models by name."""


def find_model(name: str) -> ModelInfo:
    """Look a model up.

    Args:
        name: its name, or the hub repository of its weights.

    Raises:
        UnknownModelError: there is none; the message lists those there are.

    Example:
        >>> from guardreasoner_sdk.catalog import find_model
        >>> find_model("guardreasoner-8b").dialect
        'guardreasoner'
    """
    for info in MODELS.values():
        if name == info.name or name == info.weights.get("remote"):
            return info
    meant = did_you_mean(name, [word for info in MODELS.values() for word in (info.name, info.weights.get("remote")) if word])
    raise UnknownModelError(
        f"model: {name!r} is neither in the catalogue nor a folder or GGUF file on this machine; "
        f"{meant}{' ' if meant else ''}known are {', '.join(MODELS)}"
    )
