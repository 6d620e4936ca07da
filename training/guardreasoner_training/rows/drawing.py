"""Draws that depend on a seed and on names, and on nothing else: the same rows are drawn wherever it is done."""

from __future__ import annotations

import hashlib

__all__ = ["stable_random"]


def stable_random(*what: object) -> int:
    """A random number that depends on the seed and the names given, and on nothing else."""
    data = "\x1f".join(map(str, what)).encode("utf-8", "replace")
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big")
