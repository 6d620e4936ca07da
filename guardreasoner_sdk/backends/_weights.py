"""Where a model's weights lie on this machine; what is missing is fetched from the model hub."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from guardreasoner_sdk.errors import ConfigurationError, MissingExtraError

__all__ = ["folder_of", "gguf_of"]

PATIENCE = 5.0
"""Seconds to wait for the hub's first answer."""

# What an engine reads, without the copies of the same weights in other formats that many repositories hold.
_FILES = ["*.json", "*.model", "*.jinja", "*.txt"]
_COPIES = ["*/*", "consolidated*"]


class _IncompleteError(Exception):
    """A repository without config.json, or without weights in a format that is read."""


def folder_of(weights: str, revision: str | None = None, *, kinds: Sequence[str] = ("*.safetensors",)) -> Path:
    """The folder of a checkpoint in the Hugging Face layout (``config.json``, weights, tokenizer).

    Args:
        weights: a folder, or ``owner/name`` on the hub: taken from the hub's cache, fetched where it lacks something.
            Where the hub does not answer within seconds, or ``HF_HUB_OFFLINE`` is set, the cache alone counts.
        revision: branch, tag or commit on the hub; default: the main branch.
        kinds: files that the weights may be, of which the first that there are is fetched; none: the tokenizer is enough.

    Raises:
        MissingExtraError: huggingface_hub is not installed.
        ConfigurationError: the weights are not on disk and could not be downloaded.
    """
    path = Path(weights).expanduser()
    if path.is_dir():
        return path
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingExtraError("transformers", "Weights from the model hub") from error

    def fetch(offline: bool) -> Path:
        for kind in kinds or ("*.json",):
            copies = [] if "onnx" in kind else _COPIES  # which lies in a folder of its own in many repositories
            folder = Path(
                snapshot_download(
                    weights, revision=revision, allow_patterns=[*_FILES, kind], ignore_patterns=copies, local_files_only=offline
                )
            )
            # The cache may hold a part only, of a model that was fetched for its tokenizer.
            if not kinds or ((folder / "config.json").is_file() and any(folder.rglob(kind))):
                return folder
        raise _IncompleteError(" or ".join(kinds))

    advice = f'run "hf download {weights} --local-dir DIR", copy DIR here'
    return _fetched(weights, revision, fetch, advice)


def gguf_of(weights: str) -> Path:
    """A GGUF file.

    Args:
        weights: a file, or ``owner/name:file.gguf`` on the hub; see :func:`folder_of`.

    Raises:
        MissingExtraError: huggingface_hub is not installed.
        ConfigurationError: the file is not on disk and could not be downloaded.
    """
    path = Path(weights).expanduser()
    if path.is_file():
        return path
    repository, _, file = weights.partition(":")
    if not file.endswith(".gguf") or repository.count("/") != 1:
        raise ConfigurationError(
            f"model: there is no file {weights!r}; pass the path of a .gguf file, or 'owner/name:file.gguf'"
        )
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise MissingExtraError("llama-cpp", "GGUF files from the model hub") from error

    def fetch(offline: bool) -> Path:
        return Path(hf_hub_download(repository, file, etag_timeout=PATIENCE, local_files_only=offline))

    advice = f'run "hf download {repository} {file} --local-dir DIR", copy DIR/{file} here'
    return _fetched(repository, None, fetch, advice)


def _fetched(repository: str, revision: str | None, fetch: Callable[[bool], Path], advice: str) -> Path:
    """Fetch from the hub, or else from its cache; the hub's answer decides what the error says."""
    from huggingface_hub import HfApi

    try:
        # The downloads themselves wait for ever for a hub that does not answer, and try again and again.
        HfApi().repo_info(repository, revision=revision, timeout=PATIENCE)
        return fetch(False)
    except Exception as error:  # every version of the hub's client has classes of its own for a lost connection
        failure = error
    try:
        return fetch(True)
    except Exception:
        raise ConfigurationError(f"model: {_problem(failure, repository, revision, advice)}") from failure


def _problem(failure: Exception, repository: str, revision: str | None, advice: str) -> str:
    from huggingface_hub import errors

    if isinstance(failure, errors.HFValidationError):
        return f"{repository!r} is not a folder on this machine, and no name on the hub; fix the path"
    if isinstance(failure, errors.GatedRepoError):
        page = f"https://huggingface.co/{repository}"
        return f"the weights of {repository!r} are gated; accept the licence at {page} and run 'hf auth login'"
    if isinstance(failure, errors.RevisionNotFoundError):
        return f"{repository!r} has no revision {revision!r} on the hub; fix revision="
    if isinstance(failure, errors.RepositoryNotFoundError):
        return f"{repository!r} is not a folder here, and the hub does not show it; fix the name, or run 'hf auth login'"
    if isinstance(failure, errors.EntryNotFoundError) and not isinstance(failure, errors.LocalEntryNotFoundError):
        return f"{repository!r} has no such file on the hub; fix the name behind the colon"
    if isinstance(failure, _IncompleteError):
        return f"{repository!r} holds no config.json with {failure}; use a checkpoint in that format"
    return (
        f"the weights of {repository!r} are not on this machine and the hub cannot be reached ({type(failure).__name__}); "
        f"on a machine with network {advice} and pass its path as model="
    )
