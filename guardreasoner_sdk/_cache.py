"""Remembered judgements: in memory, bounded, least recently used first out."""

from __future__ import annotations

from collections import OrderedDict

from guardreasoner_sdk._forks import Lock, abandon, renew_after_fork
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.verdict import Judgement

__all__ = ["JudgementCache"]


class JudgementCache:
    """Keeps what was decided. What was not decided is asked again, so that a passing failure is not remembered.

    A forked child starts with an empty one: the fork may have hit it in the middle of a change.

    Args:
        size: most judgements kept; 0 keeps none.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: OrderedDict[object, Judgement] = OrderedDict()
        self._lock = Lock()
        renew_after_fork(self)

    def after_fork(self) -> None:
        """Forget everything."""
        abandon(self._kept)
        self._kept = OrderedDict()

    def get(self, exchange: Exchange) -> Judgement | None:
        """What was decided on an exchange, or None."""
        if not self._size:
            return None
        key = exchange.key
        with self._lock:
            judgement = self._kept.get(key)
            if judgement is not None:
                self._kept.move_to_end(key)
            return judgement

    def put(self, exchange: Exchange, judgement: Judgement) -> None:
        """Remember a judgement if every finding of it is determined."""
        if not self._size or not judgement.findings or not all(f.determined for f in judgement.findings.values()):
            return
        key = exchange.key
        with self._lock:
            self._kept[key] = judgement
            self._kept.move_to_end(key)
            while len(self._kept) > self._size:
                self._kept.popitem(last=False)
