"""The models that the SDK knows by name, and the engines that run them."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING

from guardreasoner_sdk._arguments import did_you_mean
from guardreasoner_sdk.errors import ConfigurationError, UnknownModelError
from guardreasoner_sdk.verdict import TASKS, Task

if TYPE_CHECKING:
    from guardreasoner_sdk.dialects.base import Dialect
    from guardreasoner_sdk.dialects.label_map import LabelMap

__all__ = ["BACKENDS", "ELSEWHERE", "MODELS", "NOT_HERE", "BackendInfo", "ModelInfo", "find_model", "select_models"]

ELSEWHERE = ("remote", "hosted")
"""Backends that judge on another machine: a server's, or a vendor's."""

_LANGUAGE = re.compile(r"[a-z]{2}")


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
        dialect: how it is asked and read, as in ``Guard(dialect=...)``: a family's format, or the label map of a classifier;
            None for the embedded model.
        context: tokens it can take in, answer included; a classifier cuts longer text into windows. None: not stated.
        licence: licence of the weights; None: not stated.
        source: where it is described.
        weights: by backend, what to load: a hub repository, ``repository:file.gguf``, or ``package``. For ``remote`` it is the
            name that a server gives the model unless told otherwise. The first backend that is installed is the default.
        parameters: how many there are, in billions; of a mixture of experts all of them. None: not stated.
        languages: the languages that its authors name, as codes (ISO 639-1); ``mul``: more than fifty. Empty: they do
            not say.
        facts: where ``parameters``, ``context``, ``licence`` and ``languages`` were looked up: by the fact's name, an address
            and what was looked at there.
    """

    name: str
    dialect: str | None
    context: int | None
    licence: str | None
    source: str
    weights: Mapping[str, str] = field(default_factory=dict)
    parameters: float | None = None
    languages: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What it judges; what else a verdict holds is None."""
        if "hosted" in self.weights:
            from guardreasoner_sdk.services import SERVICES

            return SERVICES[self.name].judges
        judges: tuple[Task, ...] = TASKS if self.dialect is None else getattr(self._dialect(), "judges", TASKS)
        return judges

    @property
    def reasons(self) -> bool:
        """Whether it can write down how it came to its verdict, before or after. The steps of a classifier are measured."""
        return self.dialect is not None and bool({"full", "brief"} & set(getattr(self._dialect(), "modes", ("full",))))

    @property
    def takes_policy(self) -> bool:
        """Whether it can be given a policy of one's own: ``Guard(info.name, policy_text=...)``."""
        from guardreasoner_sdk.dialects.families import takes_policy

        return self.dialect is not None and not self.is_classifier and takes_policy(self.dialect)

    @property
    def takes_request(self) -> bool:
        """Whether its request is not in this package, so that it has to be given: ``Guard(info.name, request=...)``."""
        from guardreasoner_sdk.dialects.families import takes_request

        return self.dialect is not None and not self.is_classifier and takes_request(self.dialect)

    @property
    def wire_format(self) -> str | None:
        """Where the request that it is sent is published, to the commit; None: its own chat template writes it."""
        published: str | None = getattr(self._dialect(), "wire_format", None) if self.dialect else None
        return published

    @property
    def is_classifier(self) -> bool:
        """Whether it gives labels their numbers and writes nothing: its dialect is a label map."""
        return bool({"classifier", "onnx"} & set(self.weights))

    @property
    def runs_here(self) -> bool:
        """Whether an engine is installed that runs it on this machine; a server is none."""
        return any(not BACKENDS[name].missing for name in self.weights if name not in ELSEWHERE)

    def _dialect(self) -> Dialect | LabelMap:
        from guardreasoner_sdk.dialects.families import sample_dialect
        from guardreasoner_sdk.dialects.label_map import label_maps

        return label_maps()[self.dialect or ""] if self.is_classifier else sample_dialect(self.dialect or "")


BACKENDS: Mapping[str, BackendInfo] = MappingProxyType(
    {
        info.name: info
        for info in (
            BackendInfo("embedded", "the model inside the package, on any CPU", None, ("onnxruntime", "sentencepiece")),
            BackendInfo("vllm", "language models on GPUs, many calls at a time", "vllm", ("vllm",)),
            BackendInfo("llama_cpp", "language models as GGUF, on laptops", "llama-cpp", ("llama_cpp",)),
            BackendInfo("transformers", "language models on any device", "transformers", ("torch", "transformers")),
            BackendInfo("classifier", "sequence classifiers on any device", "transformers", ("torch", "transformers")),
            BackendInfo("onnx", "sequence classifiers as ONNX, on any CPU", "onnx", ("onnxruntime", "tokenizers")),
            BackendInfo("remote", "any OpenAI-compatible server", None, ("openai", "circuitbreaker")),
            BackendInfo("hosted", "moderation services of vendors", None, ("openai", "circuitbreaker")),
        )
    }
)
"""The engines by name."""


def _models() -> Iterator[ModelInfo]:
    """The rows of ``catalog.tsv``; ``-`` in a cell: not stated. Engines are those that load the weights as they are published:
    models of pictures and sound, and those that need code of their own, are loaded by vLLM alone, for text; an adapter without
    its base needs a server."""
    columns, *lines = (line.split("\t") for line in files(__package__).joinpath("catalog.tsv").read_text("utf-8").splitlines())
    for line in lines:
        row = dict(zip(columns, line, strict=True))
        cells = {column: None if cell == "-" else cell for column, cell in row.items()}
        weights = dict.fromkeys(cells["engines"].split(","), row["weights"]) if cells["engines"] else {}
        if cells["gguf"] is not None:
            weights["llama_cpp"] = cells["gguf"]
        if cells["dialect"] is not None and not {"classifier", "onnx"} & set(weights):
            weights["remote"] = row["weights"]
        yield ModelInfo(
            *(row["name"], cells["dialect"], None if cells["context"] is None else int(row["context"])),
            *(cells["licence"], row["source"], weights),
            parameters=None if cells["parameters"] is None else float(row["parameters"]),
            languages=tuple(row["languages"].split(",")) if cells["languages"] else (),
            facts=_facts(cells["facts"] or ""),
        )


def _facts(cell: str) -> Mapping[str, str]:
    """Where facts were looked up: ``parameters, context = address; licence = address``."""
    entries = [entry.split(" = ", 1) for entry in cell.split("; ") if entry]
    return MappingProxyType({fact: address for facts, address in entries for fact in facts.split(", ")})


MODELS: Mapping[str, ModelInfo] = MappingProxyType({info.name: info for info in _models()})
"""The models by name. Converted files (GGUF) are those of third parties; where a row names none, convert the weights, or pass a
file's path."""

NOT_HERE: Mapping[str, str] = MappingProxyType(
    {
        "rsafe": "its weights are published under no fixed name; pass the folder or repository, with dialect='rsafe'",
        "intentionreasoner": "neither its request nor its weights were found in public (arXiv:2508.20151)",
        "gliguard": "it runs in a package of its own (gliner2), not driven from here; pass a judge that does: Guard(judge=...)",
        "bingoguard": "its code is public, its weights were not found (arXiv:2503.06550)",
        "reasoningshield": "it judges a model's reasoning, which is no part of an exchange",
        "roguard": "its request is published for research only, and this package may be used for anything",
    }
)
"""Guards that people ask for by name, and why there is no row for them."""

_TASKS: Mapping[str, Task] = MappingProxyType(
    {"prompt": "prompt_harmfulness", "refusal": "response_refusal", "response": "response_harmfulness"}
)


def select_models(
    *,
    task: str | None = None,
    language: str | None = None,
    licence: str | None = None,
    parameters: float | None = None,
    reasons: bool | None = None,
    takes_policy: bool | None = None,
    runs_here: bool | None = None,
) -> tuple[ModelInfo, ...]:
    """The models that can do what is asked for; what is None does not matter.

    Args:
        task: what it judges: ``prompt``, ``refusal``, ``response``, or the task's whole name.
        language: a code (ISO 639-1) that its authors name; models of more than fifty languages count for any.
        licence: how the licence of the weights begins, such as ``apache-2.0``; case does not count. A model whose licence is
            not stated is never chosen by it.
        parameters: most parameters, in billions; a model whose size is not stated is never chosen by it.
        reasons: whether it can write down how it came to its verdict.
        takes_policy: whether it can be given a policy of one's own.
        runs_here: whether an engine is installed that runs it.

    Raises:
        ConfigurationError: no such task, or a language that is no code.

    Example:
        >>> from guardreasoner_sdk.catalog import select_models
        >>> [info.name for info in select_models(task="refusal", language="de", licence="apache-2.0", parameters=1)]
        ['embedded', 'qwen3guard-0.6b']
    """
    wanted = None if task is None else _TASKS.get(task, task)
    if wanted is not None and wanted not in TASKS:
        raise ConfigurationError(f"task: {task!r} is unknown; use prompt, refusal or response")
    if language is not None and not _LANGUAGE.fullmatch(language):
        raise ConfigurationError(f"language: must be a code of two letters such as 'de', not {language!r}")

    def fits(info: ModelInfo) -> bool:
        return (
            (wanted is None or wanted in info.tasks)
            and (language is None or language in info.languages or "mul" in info.languages)
            and (licence is None or (info.licence is not None and info.licence.casefold().startswith(licence.casefold())))
            and (parameters is None or (info.parameters is not None and info.parameters <= parameters))
            and (reasons is None or info.reasons == reasons)
            and (takes_policy is None or info.takes_policy == takes_policy)
            and (runs_here is None or info.runs_here == runs_here)
        )

    return tuple(info for info in MODELS.values() if fits(info))


def _names(info: ModelInfo) -> tuple[str, ...]:
    """What a model can be called: its name, and the repository of its weights."""
    return (info.name, *(info.weights[engine] for engine in ("remote", "classifier", "onnx") if engine in info.weights))


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
        if name in _names(info):
            return info
    for known, why in NOT_HERE.items():
        if known in name.casefold().replace("-", "").replace("_", ""):
            raise UnknownModelError(f"model: {name!r} is not in the catalogue: {why}")
    meant = did_you_mean(name, [word for info in MODELS.values() for word in _names(info)])
    raise UnknownModelError(
        f"model: {name!r} is neither in the catalogue nor a folder or GGUF file on this machine; "
        f"{meant}{' ' if meant else ''}known are {', '.join(MODELS)}"
    )
