"""Loading the embedded guard's model from a folder: nothing in it is believed before it was looked at."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from guardreasoner_sdk._forks import Lock
from guardreasoner_sdk.dialects.hazards import HAZARDS
from guardreasoner_sdk.errors import ConfigurationError
from guardreasoner_sdk.verdict import Task

if TYPE_CHECKING:
    from guardreasoner_sdk.judges.encoding import Encoder, EncodingConfig

__all__ = ["Model", "load_model", "read_object", "shared_model"]

_HEADS: dict[str, Task] = {
    "prompt_harmful": "prompt_harmfulness",
    "response_refusal": "response_refusal",
    "response_harmful": "response_harmfulness",
}
_INPUTS = {"input_ids", "attention_mask", "token_type_ids"}
_LONGEST_NAME = 200
_FILES = ("config.json", "tokenizer.json", "model.onnx")


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Model:
    """A model that was loaded.

    Args:
        session: what runs it.
        encoder: turns text into its windows.
        thresholds: for each task the score from which on the first label holds.
        hazards: the codes of its categories; empty where it has none.
        name: name and version.
    """

    session: Any
    encoder: Encoder
    thresholds: dict[Task, float]
    hazards: tuple[str, ...]
    name: str


@dataclass(frozen=True, slots=True)
class _Config:
    thresholds: dict[Task, float]
    hazards: tuple[str, ...]
    name: str
    encoding: EncodingConfig
    digest: str | None


_shared: WeakValueDictionary[tuple[object, ...], Model] = WeakValueDictionary()
_sharing = Lock(reentrant=True)


def shared_model(folder: Path) -> Model:
    """The model of a folder, loaded once for all in this process that hold it.

    It is loaded anew when its files are other ones meanwhile, and in a forked child.

    Args:
        folder: where ``model.onnx``, ``tokenizer.json`` and ``config.json`` lie.

    Raises:
        ConfigurationError: as :func:`load_model` does.
    """
    key = _identity(folder)
    if key and (shared := _shared.get(key)) is not None:
        return shared
    # Nobody waits for a folder that is slow, or for a thread that loads; of two that load at once one keeps the other's.
    model = load_model(folder)
    # Files that were written while they were read are no model that another one may count on.
    if not key or key != _identity(folder):
        return model
    with _sharing:
        return _shared.setdefault(key, model)


def _identity(folder: Path) -> tuple[object, ...] | None:
    """By what the files of a folder are known, here and now; None where one is missing."""
    try:
        found = [(folder / name).stat() for name in _FILES]
    except OSError:
        return None
    return os.getpid(), *((of.st_dev, of.st_ino, of.st_size, of.st_mtime_ns, of.st_ctime_ns) for of in found)


def load_model(folder: Path) -> Model:
    """Load a model.

    Args:
        folder: where ``model.onnx``, ``tokenizer.json`` and ``config.json`` lie.

    Raises:
        ConfigurationError: a file is missing or damaged, or does not fit the others; it names the file, and the field.
    """
    for name in _FILES:
        if not (folder / name).is_file():
            raise ConfigurationError(f"embedded model: {folder / name} is missing; reinstall guardreasoner-sdk or fix the path")
    config = _config(folder / "config.json")
    encoder = _encoder(folder / "tokenizer.json", config.encoding)
    session = _session(folder / "model.onnx", config)
    _try(session, encoder, config, folder)
    return Model(session, encoder, config.thresholds, config.hazards, config.name)


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object that a file of a model folder holds.

    Args:
        path: the file.

    Raises:
        ConfigurationError: it cannot be read, or holds something else.
    """
    try:
        value = json.loads(path.read_text("utf-8"), parse_constant=_no_constant)
    except (OSError, ValueError, RecursionError) as error:
        problem = str(error) if isinstance(error, ValueError) else type(error).__name__
        raise _damaged(path, f"cannot be loaded: it is not JSON ({problem})") from None
    if not isinstance(value, dict):
        raise _damaged(path, "does not hold a JSON object")
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _damaged(path: Path, problem: str, fix: str = "restore the file as it was made, or reinstall") -> ConfigurationError:
    return ConfigurationError(f"model: {path} {problem}; {fix}")


def _config(path: Path) -> _Config:
    from guardreasoner_sdk.judges.encoding import EncodingConfig

    value = read_object(path)
    heads = value.get("heads")
    if heads != list(_HEADS):
        raise _damaged(
            path, f"cannot be used: heads are {_short(heads)}, not {list(_HEADS)}", "use a model that was made for this version"
        )
    thresholds = value.get("thresholds")
    if not isinstance(thresholds, Mapping):
        raise _damaged(path, "has no thresholds", f"give each of {', '.join(_HEADS)} a number between 0 and 1")
    for head in _HEADS:
        threshold = thresholds.get(head)
        # The comparison is false for a number that is none, too: such a threshold would call everything safe.
        if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 < threshold < 1:
            problem = "is missing" if threshold is None else f"is {_short(threshold)}"
            raise _damaged(path, f"cannot be used: thresholds.{head} {problem}", "write a number between 0 and 1")
    hazards = value.get("hazards", [])
    if not isinstance(hazards, list) or any(code not in HAZARDS for code in hazards if isinstance(code, str) or code is None):
        raise _damaged(path, "names unknown hazards", f"hazards is a list of {', '.join(HAZARDS)}")
    if not all(isinstance(code, str) for code in hazards) or len({*map(str, hazards)}) != len(hazards):
        raise _damaged(path, "names a hazard twice, or one that is no text", f"hazards is a list of {', '.join(HAZARDS)}")
    names = [value.get(key) for key in ("name", "version")]
    for key, name in zip(("name", "version"), names, strict=True):
        if not isinstance(name, str) or not name.strip() or len(name) > _LONGEST_NAME or not name.isprintable():
            raise _damaged(path, f"cannot be used: {key} must be a short text, not {_short(name)}", f"write the model's {key}")
    digest = value.get("sha256")
    if digest is not None and not isinstance(digest, str):
        raise _damaged(path, f"cannot be used: sha256 is {_short(digest)}", "write the SHA-256 of model.onnx, or leave it out")
    encoding = value.get("encoding")
    if not isinstance(encoding, Mapping):
        raise _damaged(path, "has no encoding", "restore the sizes that the model was trained with")
    try:
        sizes = EncodingConfig.from_json(encoding)
    except ValueError as error:
        raise _damaged(path, f"cannot be used: {error}", "restore the sizes that the model was trained with") from None
    return _Config(
        thresholds={task: float(thresholds[head]) for head, task in _HEADS.items()},
        hazards=tuple(hazards),
        name="-".join(map(str, names)),
        encoding=sizes,
        digest=digest,
    )


def _encoder(path: Path, encoding: EncodingConfig) -> Encoder:
    from tokenizers import Tokenizer

    from guardreasoner_sdk.judges.encoding import Encoder

    try:
        return Encoder(Tokenizer.from_file(str(path)), encoding)
    except Exception as error:  # tokenizers raises bare classes of its own
        raise _damaged(path, f"cannot be loaded ({error})") from error


def _session(path: Path, config: _Config) -> Any:
    import onnxruntime

    if config.digest is not None:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != config.digest.lower():
            raise _damaged(path, "cannot be loaded: it is not the file whose sha256 config.json states")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises bare classes of its own
        raise _damaged(path, f"cannot be loaded ({error})") from error
    given = {one.name for one in session.get_inputs()}
    gives = {one.name for one in session.get_outputs()}
    if given != _INPUTS or not {"logits", *(["hazards"] if config.hazards else [])} <= gives:
        raise _damaged(path, f"cannot be used: it goes from {sorted(given)} to {sorted(gives)}")
    return session


def _try(session: Any, encoder: Encoder, config: _Config, folder: Path) -> None:
    """Run the longest window, of the vocabulary's last word: files that do not fit each other fail here, and not in a check."""
    import numpy as np

    from guardreasoner_sdk.judges.encoding import collate

    outputs = {"logits": len(_HEADS), **({"hazards": len(config.hazards)} if config.hazards else {})}
    try:
        found = session.run(list(outputs), collate([encoder.widest()]))
    except Exception as error:
        problem = f"cannot be run: model.onnx, tokenizer.json and the sizes in config.json do not fit each other ({error})"
        raise _damaged(folder, problem) from error
    for (name, size), values in zip(outputs.items(), found, strict=True):
        if values.shape != (1, size):
            raise _damaged(folder / "model.onnx", f"cannot be used: {name} has the shape {values.shape}, not (1, {size})")
        if not np.isfinite(values).all():
            raise _damaged(folder / "model.onnx", f"is damaged: its {name} are no numbers")


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 40 else f"{shown[:39]}…"
