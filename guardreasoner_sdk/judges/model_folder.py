"""Loading the embedded guard's model from a folder: nothing in it is believed before it was looked at."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from guardreasoner_sdk._failures import config_errors
from guardreasoner_sdk._forks import Lock
from guardreasoner_sdk.dialects.hazards import HAZARDS
from guardreasoner_sdk.errors import ConfigurationError
from guardreasoner_sdk.verdict import Task

if TYPE_CHECKING:
    from guardreasoner_sdk.judges.encoding import Encoder, EncodingConfig

__all__ = ["OUTPUTS", "Model", "load_model", "read_object", "shared_model"]

_HEADS: dict[str, Task] = {
    "prompt_harmful": "prompt_harmfulness",
    "response_refusal": "response_refusal",
    "response_harmful": "response_harmfulness",
}
_INPUTS = {"input_ids", "attention_mask", "token_type_ids"}
OUTPUTS = ("tokens", "logits", "hazards", "languages")
"""What the model gives for windows: logits of each token, of each window, of its hazard, and of its language."""
_MOST_SHIFT = 10.0
_LONGEST_NAME = 200
_LONGEST_CODE = 8
_FILES = ("config.json", "tokenizer.model", "model.onnx")
# Other pieces of the same number would turn every word into another one, and hardly anything would look harmful.
_DIGESTS = {"sha256": "model.onnx", "tokenizer_sha256": "tokenizer.model"}


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Model:
    """A model that was loaded.

    Args:
        session: what runs it.
        encoder: turns text into its windows.
        thresholds: for each task the score from which on the first label holds.
        length_shift: for each task the logit that is taken off each time that the number of windows doubles.
        hazards: the codes of its categories; empty where it has none.
        languages: the codes of those that it tells apart; empty where it does not.
        measured_languages: of those the ones in which it was measured.
        name: name and version.
    """

    session: Any
    encoder: Encoder
    thresholds: dict[Task, float]
    length_shift: dict[Task, float]
    hazards: tuple[str, ...]
    languages: tuple[str, ...]
    measured_languages: frozenset[str]
    name: str

    def least_logit(self, task: Task) -> float:
        """The logit from which on a task's first label holds."""
        return math.log(self.thresholds[task] / (1.0 - self.thresholds[task]))


@dataclass(frozen=True, slots=True)
class _Config:
    thresholds: dict[Task, float]
    length_shift: dict[Task, float]
    hazards: tuple[str, ...]
    languages: tuple[str, ...]
    measured_languages: frozenset[str]
    name: str
    encoding: EncodingConfig
    digests: dict[str, str]
    """SHA-256 by the name of the file, of those that are stated."""


_shared: WeakValueDictionary[tuple[object, ...], Model] = WeakValueDictionary()
_sharing = Lock(reentrant=True)


def shared_model(folder: Path) -> Model:
    """The model of a folder, loaded once for all in this process that hold it.

    It is reloaded when its files have changed since, and in a forked child.

    Args:
        folder: where ``model.onnx``, ``tokenizer.model`` and ``config.json`` lie.

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
        folder: where ``model.onnx``, ``tokenizer.model`` and ``config.json`` lie.

    Raises:
        ConfigurationError: a file is missing or damaged, or does not fit the others; it names the file, and the field.
    """
    for name in _FILES:
        if not (folder / name).is_file():
            if name == "tokenizer.model" and (folder / "tokenizer.json").is_file():
                problem = "cannot be used: it was made for guardreasoner-sdk 0.3"
                raise _damaged(folder, problem, "rebuild the model, or use that version")
            raise ConfigurationError(f"embedded model: {folder / name} is missing; reinstall guardreasoner-sdk or fix the path")
    config = _config(folder / "config.json")
    for name, digest in config.digests.items():
        _check_digest(folder / name, digest)
    encoder = _encoder(folder / "tokenizer.model", config.encoding)
    session = _session(folder / "model.onnx", config)
    _try(session, encoder, config, folder)
    return Model(
        session,
        encoder,
        config.thresholds,
        config.length_shift,
        config.hazards,
        config.languages,
        config.measured_languages,
        config.name,
    )


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object that a file of a model folder holds.

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
    encoding = value.get("encoding")
    heads = value.get("heads")
    if heads != list(_HEADS):
        raise _damaged(
            path, f"cannot be used: heads are {_short(heads)}, not {list(_HEADS)}", "use a model that was made for this version"
        )
    thresholds = _by_head(path, value, "thresholds", lambda number: 0 < number < 1, "a number between 0 and 1")
    # What would be added to a score, or taken off without end, makes of long texts what one likes.
    shift = _by_head(
        path, value, "length_shift", lambda number: 0 <= number <= _MOST_SHIFT, f"a number from 0 to {_MOST_SHIFT:g}"
    )
    hazards = _codes(path, value, "hazards", HAZARDS)
    languages = _codes(path, value, "languages", None)
    measured = _codes(path, value, "measured_languages", languages)
    names = [value.get(key) for key in ("name", "version")]
    for key, name in zip(("name", "version"), names, strict=True):
        if not isinstance(name, str) or not name.strip() or len(name) > _LONGEST_NAME or not name.isprintable():
            raise _damaged(path, f"cannot be used: {key} must be a short text, not {_short(name)}", f"write the model's {key}")
    digests = {}
    for key, name in _DIGESTS.items():
        digest = value.get(key)
        if digest is not None and not isinstance(digest, str):
            raise _damaged(path, f"cannot be used: {key} is {_short(digest)}", f"write the SHA-256 of {name}, or leave it out")
        if digest is not None:
            digests[name] = digest
    if not isinstance(encoding, Mapping):
        raise _damaged(path, "has no encoding", "restore the sizes that the model was trained with")
    try:
        sizes = EncodingConfig.from_json(encoding)
    except ValueError as error:
        raise _damaged(path, f"cannot be used: {error}", "restore the sizes that the model was trained with") from None
    return _Config(
        thresholds=thresholds,
        length_shift=shift,
        hazards=hazards,
        languages=languages,
        measured_languages=frozenset(measured),
        name="-".join(map(str, names)),
        encoding=sizes,
        digests=digests,
    )


def _by_head(
    path: Path, value: Mapping[str, object], field: str, fits: Callable[[float], bool], what: str
) -> dict[Task, float]:
    """A number for each head, by its task."""
    numbers = value.get(field)
    if not isinstance(numbers, Mapping):
        raise _damaged(path, f"has no {field}", f"give each of {', '.join(_HEADS)} {what}")
    for head in _HEADS:
        number = numbers.get(head)
        # The comparison is false for a number that is none, too: such a threshold would call everything safe.
        if isinstance(number, bool) or not isinstance(number, int | float) or not fits(number):
            problem = "is missing" if number is None else f"is {_short(number)}"
            raise _damaged(path, f"cannot be used: {field}.{head} {problem}", f"write {what}")
    return {task: float(numbers[head]) for head, task in _HEADS.items()}


def _codes(path: Path, value: Mapping[str, object], field: str, known: Collection[str] | None) -> tuple[str, ...]:
    """A list of codes, each of them one of the known ones, or any short one."""
    codes = value.get(field)
    which = "codes such as 'en'" if known is None else ", ".join(known) or "nothing"
    fix = f"{field} is a list of {which}"
    if not isinstance(codes, list) or not all(isinstance(code, str) for code in codes):
        raise _damaged(path, f"has no {field}" if codes is None else f"names {field} that are no list of texts", fix)
    for code in codes:
        if code not in known if known is not None else not (code.isalpha() and code.isascii() and len(code) <= _LONGEST_CODE):
            raise _damaged(path, f"names unknown {field}: {_short(code)}", fix)
    if len({*codes}) != len(codes):
        raise _damaged(path, f"names one of its {field} twice", fix)
    return tuple(codes)


def _encoder(path: Path, encoding: EncodingConfig) -> Encoder:
    from guardreasoner_sdk.judges.encoding import Encoder
    from guardreasoner_sdk.judges.pieces import SentencePieces

    try:
        return Encoder(SentencePieces.from_file(path), encoding)
    except (OSError, ValueError) as error:
        raise _damaged(path, f"cannot be loaded ({error})") from error


def _check_digest(path: Path, stated: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != stated.lower():
        raise _damaged(path, "cannot be loaded: it is not the file whose sha256 config.json states")


def _session(path: Path, config: _Config) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    with config_errors(lambda error: _damaged(path, f"cannot be loaded ({error})")):
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    given = {one.name for one in session.get_inputs()}
    gives = {one.name for one in session.get_outputs()}
    if given != _INPUTS or not {*OUTPUTS} <= gives:
        raise _damaged(path, f"cannot be used: it goes from {sorted(given)} to {sorted(gives)}")
    return session


def _try(session: Any, encoder: Encoder, config: _Config, folder: Path) -> None:
    """Run the longest window, of the vocabulary's last word: files that do not fit each other fail here, and not in a check."""
    import numpy as np

    from guardreasoner_sdk.judges.encoding import collate

    window = encoder.widest()
    shapes = {
        "tokens": (1, len(window.ids), len(_HEADS)),
        "logits": (1, len(_HEADS)),
        "hazards": (1, len(config.hazards)),
        "languages": (1, len(config.languages)),
    }
    problem = "cannot be run: model.onnx, tokenizer.model and the sizes in config.json do not fit each other"
    with config_errors(lambda error: _damaged(folder, f"{problem} ({error})")):
        found = session.run(OUTPUTS, collate([window]))
    for (name, shape), values in zip(shapes.items(), found, strict=True):
        if values.shape != shape:
            raise _damaged(folder / "model.onnx", f"cannot be used: {name} has the shape {values.shape}, not {shape}")
        if not np.isfinite(values).all():
            raise _damaged(folder / "model.onnx", f"is damaged: its {name} are no numbers")


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 40 else f"{shown[:39]}…"
