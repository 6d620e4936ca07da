"""The files of a data set of the Hugging Face hub, or of a copy of one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from guardreasoner_sdk.data.records import ending_of
from guardreasoner_sdk.errors import InputError, MissingExtraError

__all__ = ["has_split", "split_files"]

_ENDINGS = (".parquet", ".json", ".jsonl")
_REPOSITORY = re.compile(r"\w[\w.-]*(?:/\w[\w.-]*)?")


def has_split(folder: Path, splits: Iterable[str]) -> bool:
    """Whether a folder holds a file of any of some splits.

    Args:
        splits: names that the files of a split have in theirs.
    """
    names = _inside(folder)
    return any(_own(names, split) for split in splits)


def split_files(repo: str, splits: Sequence[str], revision: str) -> dict[str, list[Path]]:
    """The files of some splits: in a local folder, else downloaded, once; later calls find them in the cache.

    Args:
        repo: the repository, or a folder with its files, in whatever folders inside.
        splits: names that the files of a split have in theirs.

    Raises:
        InputError: it cannot be downloaded, or has no such split.
        MissingExtraError: huggingface_hub is not installed.
    """
    folder = Path(repo)
    if folder.is_dir():
        return {split: [folder / name for name in names] for split, names in _by_split(repo, _inside(folder), splits).items()}
    nothing = InputError(repo, "there is no such folder", "check the path, or name a repository of the hub: owner/name")
    if not _REPOSITORY.fullmatch(repo):
        raise nothing
    try:
        from huggingface_hub import HfApi, hf_hub_download
        from huggingface_hub.errors import GatedRepoError, HFValidationError
    except ImportError:
        raise MissingExtraError("train", "Training on data sets of the hub") from None
    try:
        names = sorted(HfApi().list_repo_files(repo, repo_type="dataset", revision=revision))
        return {
            split: [Path(hf_hub_download(repo, name, repo_type="dataset", revision=revision)) for name in own]
            for split, own in _by_split(repo, names, splits).items()
        }
    except InputError:
        raise
    except GatedRepoError:
        fix = f"accept its terms at https://huggingface.co/datasets/{repo}, then log in: hf auth login"
        raise InputError(repo, "is given only to those who accepted its terms", fix) from None
    except HFValidationError:
        raise nothing from None
    except Exception as error:
        # Without a network the hub's client lets through what its HTTP library raises, another one in each of its versions.
        fix = "check the network and the revision, or name a local folder that has the files"
        problem = f"is not a folder here, and cannot be downloaded at revision {revision} ({type(error).__name__})"
        raise InputError(repo, problem, fix) from None


def _by_split(repo: str, names: Sequence[str], splits: Sequence[str]) -> dict[str, list[str]]:
    found = {split: _own(names, split) for split in splits}
    for split, own in found.items():
        if not own:
            raise InputError(f"{repo}: {split}", "has no file of this split", f"use one of those that are there: {list(names)}")
    return found


def _own(names: Iterable[str], split: str) -> list[str]:
    return [name for name in names if split.lower() in name.lower() and ending_of(Path(name)) in _ENDINGS]


def _inside(folder: Path) -> list[str]:
    """The paths of all files in a folder. Hidden ones are those of git and of the hub's client."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in paths if not any(part.startswith(".") for part in path.parts))
