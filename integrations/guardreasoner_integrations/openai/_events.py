"""One event of a stream on its way through the guard."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Event"]


@dataclass(frozen=True)
class Event:
    """One event.

    Args:
        raw: its bytes, with the blank line that ends it.
        data: what it carries, parsed; None where that is no JSON object.
        texts: the text in it, by channel.
        last: whether it says that the stream is over.
    """

    raw: bytes = field(repr=False)
    data: Any = field(default=None, repr=False)
    texts: Mapping[Hashable, str] = field(default_factory=dict, repr=False)
    last: bool = False
