"""Getting the file of a public data set: from a folder of the user's, from the Hugging Face hub, or from GitHub."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal, NamedTuple

from guardreasoner_sdk.data.atomic import replacing
from guardreasoner_sdk.errors import InputError, MissingExtraError

__all__ = ["DatasetSource", "fetch", "local_file"]

_GITHUB = "https://raw.githubusercontent.com"
_SECONDS = 60
_TRUE = ("1", "ON", "YES", "TRUE")


class DatasetSource(NamedTuple):
    """Where a data set is published.

    Args:
        host: the hub, or GitHub for those that were never on the hub.
        repo: the repository.
        revision: the commit that is read unless the user asks for another one.
        file: the file in it.
    """

    host: Literal["hub", "github"]
    repo: str
    revision: str
    file: str


def local_file(folder: Path, names: list[str]) -> Path:
    """The first of some files that a folder has.

    Args:
        names: paths in it, the best one first; found also by their last part alone.

    Raises:
        InputError: it has none.
    """
    for name in names:
        for path in (folder / name, folder / Path(name).name):
            if path.is_file():
                return path
    raise InputError(str(folder), f"has none of {', '.join(names)}", "put the data set's file there")


def fetch(source: DatasetSource, repo: str | None = None, revision: str | None = None) -> Path:
    """Download the file of a data set, once; later calls find it in the cache.

    Raises:
        InputError: it cannot be downloaded: no network, no such revision, or terms of the data set that were not accepted.
        MissingExtraError: huggingface_hub is not installed.
    """
    wanted = source._replace(repo=repo or source.repo, revision=revision or source.revision)
    return _from_github(wanted) if wanted.host == "github" else _from_hub(wanted)


def _from_hub(source: DatasetSource) -> Path:
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ImportError:
        raise MissingExtraError("eval", "Evaluations on data sets of the hub") from None
    try:
        return Path(hf_hub_download(source.repo, source.file, repo_type="dataset", revision=source.revision))
    except GatedRepoError:
        fix = f"accept its terms at https://huggingface.co/datasets/{source.repo}, then log in: hf auth login"
        raise InputError(source.repo, "is given only to those who accepted its terms", fix) from None
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        fix = "check the network and the revision, or name a local folder that has the file"
        problem = f"cannot be downloaded at revision {source.revision} ({type(error).__name__})"
        raise InputError(f"{source.repo}/{source.file}", problem, fix) from None


_NO_NAME = re.compile(r"[^\w.-]")


def _from_github(source: DatasetSource) -> Path:
    from http.client import HTTPException
    from urllib.parse import quote
    from urllib.request import urlopen

    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "guardreasoner" / "data"
    path = cache / _NO_NAME.sub("_", f"{source.repo}@{source.revision}") / Path(source.file).name
    if path.is_file():
        return path
    try:
        if os.environ.get("HF_HUB_OFFLINE", "").upper() in _TRUE:
            raise ConnectionError("HF_HUB_OFFLINE")
        path.parent.mkdir(parents=True, exist_ok=True)
        address = f"{_GITHUB}/{source.repo}/{quote(source.revision)}/{quote(source.file)}"
        # Another process may download it just now, into a file of its own.
        with (
            urlopen(address, timeout=_SECONDS) as answer,  # noqa: S310 - the scheme is fixed
            replacing(path, ending=f".{os.getpid()}.new") as fresh,
        ):
            fresh.write_bytes(answer.read())
    except (OSError, HTTPException) as error:
        fix = "check the network (HF_HUB_OFFLINE holds here, too) and the revision, or name a local folder that has the file"
        problem = f"cannot be downloaded at revision {source.revision} ({type(error).__name__})"
        raise InputError(f"github.com/{source.repo}/{source.file}", problem, fix) from None
    return path
