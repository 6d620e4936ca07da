"""From settings to a judge. Nothing is loaded yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from guardreasoner_sdk._arguments import check_dialect, check_judge
from guardreasoner_sdk.backends.base import Backend
from guardreasoner_sdk.backends.options import VLLM, Classifier, EngineOptions, LlamaCpp, Onnx, Remote, Transformers
from guardreasoner_sdk.catalog import BACKENDS, ELSEWHERE, MODELS, ModelInfo, find_model
from guardreasoner_sdk.dialects.base import Dialect
from guardreasoner_sdk.errors import ConfigurationError, MissingExtraError, UnknownModelError
from guardreasoner_sdk.judges.base import Judge
from guardreasoner_sdk.judges.cascade import BAND, Band, CascadeJudge
from guardreasoner_sdk.settings import Settings

if TYPE_CHECKING:
    from guardreasoner_sdk.dialects.label_map import LabelMap

__all__ = ["build_judge"]

E = TypeVar("E", bound=EngineOptions)

Options: TypeAlias = Mapping[str, Any] | EngineOptions | None


@dataclass(frozen=True, slots=True)
class _Found:
    """A model, wherever it was found.

    Args:
        name: for the verdict.
        weights: by backend, what to load.
        dialect: how it is asked, by name; None where nothing says so.
        labels: what the labels of a classifier of one's own mean, where nothing names a map of the catalogue.
    """

    name: str
    weights: Mapping[str, str]
    dialect: str | None
    labels: LabelMap | None = None


def build_judge(
    settings: Settings,
    *,
    dialect: Dialect | str | None = None,
    options: Options = None,
    screen: Judge | str | None = None,
    band: Band | None = None,
) -> Judge:
    """Make the judge that the settings ask for.

    Args:
        dialect: how the model is asked and read, where the catalogue does not say so.

    Raises:
        UnknownModelError: the catalogue has no such model and there is no such folder or file.
        ConfigurationError: settings that do not go together, an unknown engine, dialect or option.
        MissingExtraError: the engine is not installed.
    """
    screen = settings.screen if screen is None else screen
    if screen is None:
        if band is not None:
            raise ConfigurationError("band: belongs to a screen; add screen='embedded', or leave it out")
        return _judge(settings, dialect, options)
    if isinstance(screen, str):
        try:
            alone = {"model": screen, "backend": "embedded", "base_url": None, "policy_text": None, "request": None}
            first = _judge(settings.model_copy(update=alone), None, None)
        except UnknownModelError:
            raise UnknownModelError(
                f"screen: {screen!r} is neither 'embedded' nor a folder with an embedded model nor a judge"
            ) from None
    else:
        check_judge("screen", screen)
        first = screen
    second = _judge(settings, dialect, options)
    if second.backend == "embedded" and first.backend == "embedded":
        raise ConfigurationError("screen: the embedded guard before the embedded guard decides nothing more; name a model")
    return CascadeJudge(first, second, band=BAND if band is None else band)


def _judge(settings: Settings, dialect: Dialect | str | None, options: Options) -> Judge:
    if (service := _service(settings, options)) is not None:
        return _hosted(service, settings, dialect, options)
    if settings.backend is not None and settings.backend not in BACKENDS:
        raise ConfigurationError(f"backend: {settings.backend!r} is unknown; known are {', '.join(BACKENDS)}")
    if settings.base_url is not None and settings.backend not in (None, "remote"):
        raise ConfigurationError(
            f"base_url (or GUARDREASONER_BASE_URL): {settings.backend!r} calls no server; unset it, or use backend='remote'"
        )
    remote = settings.base_url is not None or settings.backend == "remote"
    if options is not None and not isinstance(options, Mapping | EngineOptions):
        raise ConfigurationError(f"options: must be a mapping such as {{'port': 8000}}, not {type(options).__name__}")
    if dialect is not None and not isinstance(dialect, str):
        check_dialect("dialect", dialect)
    found = _served(settings.model) if remote else _find(settings.model, dialect or settings.dialect)
    backend = "remote" if remote else settings.backend or _default(found)
    if backend not in found.weights:
        known = ", ".join(name for name in found.weights if name != "remote") or "no engine here"
        advice = "; for llama_cpp convert it (docs/engines.md) and pass the file" if backend == "llama_cpp" else ""
        raise ConfigurationError(f"backend: {backend!r} does not run {found.name!r}, which runs on {known}{advice}")
    _check_installed(backend, found)
    if backend == "embedded":
        if options or dialect:
            raise ConfigurationError("options, dialect: belong to language models; the embedded guard takes none")
        _check_untaken(settings, "the embedded guard has its own notion of harm; name a model that takes one")
        from guardreasoner_sdk.judges.embedded import EmbeddedJudge

        folder = None if found.weights["embedded"] == "package" else Path(found.weights["embedded"])
        return EmbeddedJudge(folder, reasoning=settings.reasoning, threads=settings.threads)
    if backend in ("classifier", "onnx"):
        _check_untaken(settings, "a classifier's labels are what they are; name a model that takes one")
        return _classifier(backend, found, settings, dialect, options)
    from guardreasoner_sdk.dialects.families import find_dialect
    from guardreasoner_sdk.judges.reasoner import ReasonerJudge

    spoken = dialect or settings.dialect or found.dialect or "guardreasoner"
    if isinstance(spoken, str):
        spoken = find_dialect(spoken, policy_text=settings.policy_text, request=settings.request)
    else:
        _check_untaken(settings, "the dialect was made already; give it to the dialect, or name the dialect")
    return ReasonerJudge(
        spoken,
        _engine(backend, found, settings, options),
        reasoning=settings.reasoning,
    )


def _check_untaken(settings: Settings, why: str) -> None:
    """Refuse what belongs to a dialect that is made here, where none is."""
    for name in ("policy_text", "request"):
        if getattr(settings, name) is not None:
            raise ConfigurationError(f"{name} (or GUARDREASONER_{name.upper()}): {why}")


def _service(settings: Settings, options: Options) -> str | None:
    """The name of the moderation service that is meant, if one is."""
    named = settings.model.partition(":")[0]
    info = MODELS.get(named)
    if info is not None and "hosted" in info.weights:
        return named
    # Options of a service name it, where nothing else names a model.
    if settings.backend == "hosted" and isinstance(options, EngineOptions) and "model" not in settings.model_fields_set:
        return getattr(options, "name", None)
    return None


def _hosted(name: str, settings: Settings, dialect: Dialect | str | None, options: Options) -> Judge:
    """A service of a vendor's, perhaps with what stands behind the colon of its name."""
    from guardreasoner_sdk.judges.hosted import HostedJudge
    from guardreasoner_sdk.services import SERVICES

    kind = SERVICES[name]
    if settings.backend not in (None, "hosted"):
        raise ConfigurationError(f"backend: {settings.backend!r} does not run {name!r}, which is a service; leave it out")
    if dialect or settings.dialect:
        raise ConfigurationError(f"dialect: belongs to language models; {name} takes none")
    _check_untaken(settings, f"{name} has its vendor's notion of harm, or that of your configuration there")
    if settings.reasoning not in ("auto", "off"):
        raise ConfigurationError(f"reasoning: {name} does not reason as {settings.reasoning!r} asks; use 'auto' or 'off'")
    if isinstance(options, EngineOptions) and not isinstance(options, kind):
        raise ConfigurationError(f"backend: {type(options).__name__}(...) is not for {name!r}; use {kind.__name__}(...)")
    service, target = _options(kind, options), settings.model.partition(":")[2]
    known = settings.model if target or settings.model == name else name
    if target:
        service = service.aimed_at(target)
    return HostedJudge(service, base_url=settings.base_url, api_key=settings.api_key, name=known)


def _served(model: str) -> _Found:
    """A model behind a server: any name will do there."""
    try:
        info: ModelInfo | None = find_model(model)
    except UnknownModelError:
        info = None
    embedded = (Path(model).expanduser() / "model.onnx").is_file()
    if embedded or (info is not None and "remote" not in info.weights):
        raise ConfigurationError(
            f"base_url: no server runs {model!r}; name the model that yours runs (model=, or GUARDREASONER_MODEL)"
        )
    return _Found(model, {"remote": model}, None) if info is None else _Found(info.name, info.weights, info.dialect)


def _find(model: str, dialect: Dialect | str | None) -> _Found:
    """A model on this machine, of the catalogue, or of the hub."""
    path = Path(model).expanduser()
    repository, _, file = model.partition(":")
    if path.is_dir():
        classifier = _own_classifier(path, dialect)
        if classifier is not None:
            return classifier
        if (path / "model.onnx").is_file():
            return _Found(path.name, {"embedded": str(path)}, None)
        if (path / "config.json").is_file():
            return _Found(path.name, {"vllm": str(path), "transformers": str(path)}, _noted(path))
        raise UnknownModelError(f"model: the folder {str(path)!r} holds no model: neither model.onnx nor config.json")
    if path.is_file():
        return _Found(path.stem, {"llama_cpp": str(path)}, _noted(path.parent))
    if file.endswith(".gguf") and repository.count("/") == 1:
        return _Found(Path(file).stem, {"llama_cpp": model}, None)
    info = find_model(model)
    return _Found(info.name, info.weights, info.dialect)


def _own_classifier(folder: Path, dialect: Dialect | str | None) -> _Found | None:
    """A sequence classifier in a folder, or None. A label map's name makes it one, whatever it calls itself."""
    exported = any((folder / place).is_file() for place in ("model.onnx", "onnx/model.onnx"))
    if not (folder / "config.json").is_file() or (exported and not (folder / "tokenizer.json").is_file()):
        return None
    from guardreasoner_sdk.backends.classifier import read_config
    from guardreasoner_sdk.dialects.label_map import LabelMap, label_maps, labels_of, meanings_of
    from guardreasoner_sdk.judges.model_folder import read_object

    config = read_config(folder)
    written = any("ForSequenceClassification" in str(each) for each in config.get("architectures") or [])
    note = read_object(folder / "guard.json") if (folder / "guard.json").exists() else {}
    spoken = note.pop("dialect", None)
    named = any(isinstance(name, str) and name in label_maps() for name in (dialect, spoken))
    if not written and not named and (not exported or "heads" in config):
        return None  # a language model, or a model like the one inside the package, which an earlier version made
    stored = any(folder.glob("*.safetensors")) or any(folder.glob("*.bin"))
    weights = {"classifier": str(folder)} if stored or not exported else {}
    if exported:
        weights["onnx"] = str(folder)
    if spoken is not None:
        return _Found(folder.name, weights, str(spoken))
    labels = LabelMap.of({"name": folder.name, "labels": meanings_of(labels_of(config)), **note}, str(folder / "guard.json"))
    return _Found(folder.name, weights, None, labels)


def _classifier(backend: str, found: _Found, settings: Settings, dialect: Dialect | str | None, options: Options) -> Judge:
    """The judge for a sequence classifier, with the label map that its options, a name or the catalogue give it."""
    from guardreasoner_sdk.backends.classifier import OnnxClassifier, TransformersClassifier
    from guardreasoner_sdk.dialects.label_map import LabelMap, label_maps
    from guardreasoner_sdk.judges.classifier import ClassifierJudge

    spoken = dialect or settings.dialect or found.dialect
    if spoken is not None and (not isinstance(spoken, str) or spoken not in label_maps()):
        name = spoken if isinstance(spoken, str) else spoken.name
        raise ConfigurationError(
            f"dialect: {name!r} is no label map, and {found.name} is a classifier; known are {', '.join(label_maps())}, or "
            "pass options={'labels': {...}}"
        )
    labels = label_maps()[spoken] if isinstance(spoken, str) else found.labels or LabelMap(name=found.name)
    if backend == "onnx":
        onnx = _options(Onnx, options)
        engine: OnnxClassifier | TransformersClassifier = OnnxClassifier(
            found.weights[backend], labels.changed(**onnx.reading), onnx, name=found.name
        )
    else:
        own = _options(Classifier, options)
        engine = TransformersClassifier(found.weights[backend], labels.changed(**own.reading), own, name=found.name)
    return ClassifierJudge(engine, reasoning=settings.reasoning)


def _noted(folder: Path) -> str | None:
    """The dialect that training noted beside the weights."""
    from guardreasoner_sdk.dialects.families import FAMILIES
    from guardreasoner_sdk.judges.model_folder import read_object

    path = folder / "guard.json"
    if not path.exists():
        return None
    note = read_object(path)
    dialect, rendering = note.get("dialect"), note.get("rendering")
    if not isinstance(dialect, str) or dialect not in FAMILIES:
        raise ConfigurationError(f"model: {path} names no known dialect; write one of {', '.join(FAMILIES)}, or pass dialect=")
    if rendering not in (None, "raw", "chat"):
        raise ConfigurationError(f"model: {path} names an unknown rendering; write 'raw' or 'chat', or leave it out")
    # Only the family of GuardReasoner has renderings.
    chat = f"{dialect}-chat"
    return chat if rendering == "chat" and chat in FAMILIES else dialect


def _default(found: _Found) -> str:
    """The first engine for the model that is installed."""
    local = [name for name in found.weights if name not in ELSEWHERE]
    return next((name for name in local if not BACKENDS[name].missing), local[0])


def _check_installed(backend: str, found: _Found) -> None:
    info = BACKENDS[backend]
    if info.missing and info.extra is not None:
        others = [name for name in found.weights if name not in (backend, "remote")]
        local = " or ".join(_pip_line(name) for name in (backend, *others))
        if "remote" in found.weights:
            local = f"On a server: base_url=URL or --base-url URL (no extra). Here: {local}"
        raise MissingExtraError(info.extra, f"Guards on {backend}", message=f"{found.name} needs an engine. {local}")


def _pip_line(backend: str) -> str:
    purposes = {"llama_cpp": "GGUF files", "transformers": "any device", "classifier": "any device", "onnx": "CPUs"}
    purpose = purposes.get(backend, "GPUs")
    return f"pip install 'guardreasoner-sdk[{BACKENDS[backend].extra}]' ({purpose})"


def _engine(name: str, found: _Found, settings: Settings, options: Options) -> Backend:
    """Make the engine's backend; its module is imported only now."""
    weights = found.weights[name]
    if name == "remote":
        from guardreasoner_sdk.backends.remote import RemoteBackend

        remote = _options(Remote, options)
        return RemoteBackend(weights, settings.base_url, name=found.name, api_key=settings.api_key, options=remote)
    if name == "vllm":
        from guardreasoner_sdk.backends.vllm import VLLMBackend

        return VLLMBackend(weights, name=found.name, options=_options(VLLM, options))
    if name == "llama_cpp":
        from guardreasoner_sdk.backends.llama_cpp import LlamaCppBackend

        return LlamaCppBackend(weights, name=found.name, options=_options(LlamaCpp, options))
    from guardreasoner_sdk.backends.transformers import TransformersBackend

    return TransformersBackend(weights, name=found.name, options=_options(Transformers, options))


def _options(kind: type[E], options: Options) -> E:
    return options if isinstance(options, kind) else kind.of(options if isinstance(options, Mapping) else {})
