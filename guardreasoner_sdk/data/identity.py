"""What makes a run this one and no other: hashes of what it reads, and its settings."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from guardreasoner_sdk.errors import InputError

__all__ = ["Fingerprint", "changes", "content_hash", "fingerprint", "without_secrets"]

_BLOCK = 1 << 20
# Of a folder, the files that make the model what it is: a card or a picture beside them changes nothing.
_MODEL_FILES: Final = ("*.safetensors", "*.bin", "*.model", "*.jinja", "*config.json", "*.index.json", "tokenizer.json")
_MODEL_NAMES: Final = ("guard.json", "special_tokens_map.json", "vocab.json", "merges.txt")


class Fingerprint(str):
    """What tells a file from every other: its size and a hash of all of its bytes.

    Attributes:
        ends: what states written before whole files were hashed hold for this file: its size and a hash of its first and
            last MiB, which are all of it up to 2 MiB.
    """

    __slots__ = ("ends",)

    ends: str

    def matches(self, kept: object) -> bool:
        """Whether a state that holds ``kept`` is provably of this very file."""
        size = int(self.partition(":")[0])
        return kept == str(self) or (kept == self.ends and size <= 2 * _BLOCK)

    def may_match(self, kept: object) -> bool:
        """Whether ``kept`` is of both ends of a longer file, and these are the same: its middle is not known."""
        return kept == self.ends and not self.matches(kept)


def fingerprint(path: Path) -> Fingerprint:
    """Read a file once, from its first byte to its last. BLAKE2b: more than 1 GB a second on any processor of today.

    Args:
        path: the file.

    Raises:
        OSError: it cannot be read.
    """
    whole, ends = hashlib.blake2b(digest_size=32), hashlib.sha256()
    with path.open("rb") as file:
        first = file.read(_BLOCK)
        whole.update(first)
        size, before, last = len(first), b"", b""
        while block := file.read(_BLOCK):
            whole.update(block)
            size += len(block)
            before, last = last, block
    ends.update(first)
    ends.update((before + last)[-_BLOCK:])
    found = Fingerprint(f"{size}:blake2b:{whole.hexdigest()}")
    found.ends = f"{size}:{ends.hexdigest()}"
    return found


def content_hash(name: str, value: Path | str | None) -> str | None:
    """What tells one input from another: the hash of a file or of a model's folder; a text as it is.

    Args:
        value: a path, the name of a model of the hub, or None.

    Raises:
        InputError: there is no such file.
    """
    if value is None or (isinstance(value, str) and not Path(value).exists()):
        return value
    path = Path(value)
    files = _model_files(path) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in files:
        try:
            with file.open("rb") as content:
                digest.update(f"{file.name}\0{os.fstat(content.fileno()).st_size}\0".encode())
                while block := content.read(1 << 22):
                    digest.update(block)
        except OSError as error:
            raise InputError(name, f"{file} cannot be read ({error.strerror})", "check the path") from None
    return digest.hexdigest()


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    """What tells the settings of one run from those of another, in words, by the name of the setting."""
    return {
        name: f"{name} was {before.get(name)!r}, is {now.get(name)!r}"
        for name in {**before, **now}
        if not _same(before.get(name), now.get(name))
    }


def _same(kept: object, now: object) -> bool:
    return now.matches(kept) if isinstance(now, Fingerprint) else kept == now


def _model_files(folder: Path) -> list[Path]:
    found = {path for pattern in _MODEL_FILES for path in folder.glob(pattern)}
    found |= {folder / name for name in _MODEL_NAMES if (folder / name).exists()}
    return sorted(found or (path for path in folder.iterdir() if path.is_file()))


def without_secrets(base_url: str) -> str:
    """An address without the user name and the password in it, which are in no file."""
    parts = urlsplit(base_url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
