"""The models that the SDK knows by name, and the engines that run them."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

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
        supported: whether this version of the SDK can drive it.
    """

    name: str
    purpose: str
    extra: str | None
    modules: tuple[str, ...]
    supported: bool

    @property
    def missing(self) -> tuple[str, ...]:
        """The modules that are not installed; looked up without importing them."""
        return tuple(module for module in self.modules if importlib.util.find_spec(module) is None)


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model.

    Args:
        name: as in ``Guard(model=...)``.
        dialect: how it is asked and read; None for a classifier.
        context: tokens it can take in; longer text is split.
        licence: licence of the weights.
        source: where it is described.
        weights: hub repository (or ``package``) by backend.
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
            BackendInfo("embedded", "the model inside the wheel, on any CPU", None, ("onnxruntime", "tokenizers"), True),
            BackendInfo("vllm", "reasoning guards on GPUs", "vllm", ("vllm",), False),
            BackendInfo("llama_cpp", "reasoning guards as GGUF, on laptops", "llama-cpp", ("llama_cpp",), False),
            BackendInfo("transformers", "reasoning guards, any device", "transformers", ("torch", "transformers"), False),
            BackendInfo("remote", "any OpenAI-compatible server", None, ("openai",), False),
        )
    }
)
"""The engines by name."""


def _reasoner(name: str, dialect: str, context: int, licence: str, source: str, repository: str) -> ModelInfo:
    return ModelInfo(name, dialect, context, licence, source, dict.fromkeys(("vllm", "transformers", "remote"), repository))


_PAPER = "arXiv:2501.18492"

MODELS: Mapping[str, ModelInfo] = MappingProxyType(
    {
        info.name: info
        for info in (
            ModelInfo("embedded", None, 256, "Apache-2.0", "assets/embedded/MODEL_CARD.md", {"embedded": "package"}),
            _reasoner("guardreasoner-1b", "guardreasoner", 131072, "Llama 3.2", _PAPER, "yueliu1999/GuardReasoner-1B"),
            _reasoner("guardreasoner-3b", "guardreasoner", 131072, "Llama 3.2", _PAPER, "yueliu1999/GuardReasoner-3B"),
            _reasoner("guardreasoner-8b", "guardreasoner", 131072, "Llama 3.1", _PAPER, "yueliu1999/GuardReasoner-8B"),
            _reasoner("thinkguard-8b", "thinkguard", 131072, "Llama 3.1", "arXiv:2502.13458", "Rakancorle1/ThinkGuard"),
        )
    }
)
"""The models by name."""


def find_model(name: str) -> ModelInfo:
    """Look a model up.

    Args:
        name: its name.

    Raises:
        UnknownModelError: there is none; the message lists those there are.
    """
    try:
        return MODELS[name]
    except KeyError:
        raise UnknownModelError(f"model: {name!r} is not in the catalogue; known are {', '.join(MODELS)}") from None
