"""Attention in which several samples share what was read of their prompt, and a cache that grows without being copied."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

__all__ = ["ATTENTION", "GrowingCache", "register_attention"]

ATTENTION = "guardreasoner_shared_prompt"
"""The name under which transformers knows the attention."""


def _attend(
    module: Any, query: Any, key: Any, value: Any, mask: Any, scaling: float | None = None, **_: Any
) -> tuple[Any, None]:
    """Attention in which the heads that share keys and values are further query positions: nothing is copied for them."""
    from torch.nn.functional import scaled_dot_product_attention

    rows, heads, positions, width = query.shape
    groups = heads // key.shape[1]
    folded = query.reshape(rows, key.shape[1], groups * positions, width)
    output = scaled_dot_product_attention(folded, key, value, attn_mask=mask.repeat(1, 1, groups, 1), scale=scaling)
    return output.reshape(rows, heads, positions, -1).transpose(1, 2).contiguous(), None


def register_attention() -> None:
    """Make the attention known to transformers."""
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION, _attend)


class GrowingCache:
    """Keys and values with room to grow, so that a new token costs no copy of those before it.

    Args:
        layers: how many the model has.

    Attributes:
        inner: the cache as transformers wants it.
    """

    def __init__(self, layers: int) -> None:
        from transformers.cache_utils import Cache

        layer = _growing_layer()
        self.inner: Any = Cache(layers=[layer() for _ in range(layers)])

    def reserve(self, slots: int) -> None:
        """Make room for so many, in one go, when the next ones come."""
        for layer in self.inner.layers:
            layer.room = slots

    def spread(self, rows: int) -> None:
        """Make what was read for one row that of many."""
        for layer in self.inner.layers:
            layer.change(lambda held: held.expand(rows, -1, -1, -1))

    def keep(self, rows: torch.Tensor) -> None:
        """Drop the rows that are not named."""
        for layer in self.inner.layers:
            layer.change(lambda held: held[rows])


def _growing_layer() -> Any:
    from transformers.cache_utils import CacheLayerMixin

    class Growing(CacheLayerMixin):  # type: ignore[misc, no-untyped-call, unused-ignore]
        """Keys and values of one layer: rows x heads x slots x width, the first ``used`` slots of which hold something."""

        is_sliding = False
        keys: Any
        values: Any

        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call, unused-ignore]
            self.used = 0
            self.room = 0

        def lazy_initialization(self, key_states: Any, value_states: Any) -> None:
            self.keys, self.values = key_states[:, :, :0], value_states[:, :, :0]
            self.is_initialized = True

        def update(self, key_states: Any, value_states: Any, *_: Any, **__: Any) -> tuple[Any, Any]:
            if not self.is_initialized:
                self.lazy_initialization(key_states, value_states)
            end = self.used + key_states.shape[2]
            if end > self.keys.shape[2]:
                self.keys, self.values = (self._grown(held, max(end, self.room)) for held in (self.keys, self.values))
            self.keys[:, :, self.used : end] = key_states
            self.values[:, :, self.used : end] = value_states
            self.used = end
            return self.keys[:, :, :end], self.values[:, :, :end]

        def change(self, how: Any) -> None:
            if self.is_initialized:
                self.keys = how(self.keys[:, :, : self.used]).contiguous()
                self.values = how(self.values[:, :, : self.used]).contiguous()

        def _grown(self, held: Any, room: int) -> Any:
            grown = held.new_empty(*held.shape[:2], room, held.shape[3])
            grown[:, :, : self.used] = held[:, :, : self.used]
            return grown

        def get_seq_length(self) -> int:
            return self.used

        def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
            return self.used + query_length, 0

        def get_max_length(self) -> int:
            return -1

    return Growing
