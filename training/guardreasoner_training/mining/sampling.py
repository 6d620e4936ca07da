"""Several samples of each prompt from one model, quickly on few cores too, and the same ones every time.

Each sample draws from a source of chance of its own, seeded by the row and the number of the sample: what else is in the batch
does not matter to it. The samples of a row share the keys and values of their prompt, and all rows of a batch those of the
instruction. Samples are the query positions of one row: each sees the prompt and its own tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from itertools import takewhile
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Literal

from guardreasoner_sdk.errors import ConfigurationError, MissingExtraError
from guardreasoner_training.trainers.advice import is_out_of_memory

if TYPE_CHECKING:
    import torch

__all__ = ["ATTENTION", "Asked", "Drawn", "GrowingCache", "Sampler", "Sampling", "register_attention"]

_SLOTS = 1 << 16
"""Keys and values of a batch, in tokens: about 2 GB for a model of 1B parameters."""
_GROWTH = 64
"""Tokens of each sample that the cache grows by."""
_CHUNK = 256
"""Tokens of a prompt that are read at a time."""
_FEW = 64
"""Most probable tokens looked at first: nearly always all of the nucleus."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample.

    Args:
        k: samples of each row.
        temperature: above 0.
        top_p: mass of the nucleus, above 0 to 1.
        max_new_tokens: longest sample.
        seed: of all of it.
    """

    k: int
    temperature: float
    top_p: float
    max_new_tokens: int
    seed: int

    def chance(self, name: str, number: int) -> Random:
        """The source of chance of one sample.

        Args:
            number: of the sample, from 0.
        """
        return Random(f"{self.seed}/{name}/{number}")  # noqa: S311


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt.

    Args:
        name: of the row.
        ids: tokens of the prompt.
        long_answer: whether it is about a response too, and so has a longer answer.
    """

    name: str
    ids: Sequence[int]
    long_answer: bool = False


@dataclass(frozen=True, slots=True)
class Drawn:
    """A sample.

    Args:
        ids: its tokens, without the one that ends it.
        finish: ``stop``, or ``length`` where it was cut off.
    """

    ids: tuple[int, ...]
    finish: Literal["stop", "length"]


class Sampler:
    """A model that is sampled from by transformers.

    Args:
        folder: the model, in the Hugging Face layout.
        sampling: how.
        ends: ids that end a sample.
        context: longest prompt with its sample, in tokens.
        slots: keys and values of a batch, in tokens.

    Raises:
        MissingExtraError: torch or transformers is not installed.
        ConfigurationError: the model cannot be loaded, or looks back over a window only.
    """

    def __init__(self, folder: Path, sampling: Sampling, ends: frozenset[int], *, context: int, slots: int = _SLOTS) -> None:
        try:
            import torch
            from transformers import AutoModelForCausalLM
        except ImportError as error:
            raise MissingExtraError("train", "Models that are trained") from error
        register_attention()
        self._sampling = sampling
        self._ends = ends
        try:
            model: Any = AutoModelForCausalLM.from_pretrained(
                str(folder), dtype="auto", local_files_only=True, use_safetensors=True, attn_implementation=ATTENTION
            )
        except Exception as error:
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise ConfigurationError(f"model: {folder} cannot be loaded: {reason}") from error
        config = model.config.get_text_config()
        if any(kind != "full_attention" for kind in getattr(config, "layer_types", None) or ()):
            raise ConfigurationError(
                f"mine.engine: transformers cannot sample from {folder} here, whose layers are not all of full attention; "
                "use engine = 'vllm'"
            )
        self._model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        # transformers 5.24 renamed it, and warns of the earlier name.
        self._cache_argument = "cache" if "cache" in signature(model.forward).parameters else "past_key_values"
        self._layers = config.num_hidden_layers
        self._context = context
        self._slots = slots

    def rows_at_a_time(self, longest: int, most: int) -> int:
        """How many rows to sample together."""
        own = self._sampling.k * min(self._sampling.max_new_tokens, 4 * _GROWTH)
        return max(1, min(most, self._slots // (longest + own)))

    def sample(self, rows: Sequence[Asked]) -> list[list[Drawn]]:
        """Draw the samples of some rows.

        Args:
            rows: the prompts; each shorter than the context.

        Returns:
            ``k`` samples for each.

        Raises:
            MemoryError: the device has not enough for so many rows; what they took of it is free again.
        """
        import torch

        try:
            with torch.inference_mode():
                return self._sample(rows)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            error.__traceback__ = None  # it holds the tensors of the batch
        torch.cuda.empty_cache()
        raise MemoryError(f"the device ran out of memory with {len(rows)} rows at a time")

    def _sample(self, rows: Sequence[Asked]) -> list[list[Drawn]]:
        import torch

        k = self._sampling.k
        cache, seen, logits = self._read_prompts(rows)
        device = logits.device
        open_rows = [_Row(row, self._sampling, self._ends, self._context) for row in rows]
        done = list(open_rows)
        lengths = torch.tensor([len(row.ids) for row in rows], device=device)
        logits = logits[:, None].expand(-1, k, -1)
        own = torch.arange(k, device=device)
        for step in range(max(row.limit for row in open_rows)):
            if step % _GROWTH == 0:
                cache.reserve(seen.shape[1] + (step + _GROWTH) * k)
            chances = torch.tensor([row.draws() for row in open_rows], dtype=torch.float64)
            tokens = pick(logits.float(), chances.to(device), self._sampling.temperature, self._sampling.top_p)
            for row, ids in zip(open_rows, tokens.tolist(), strict=True):
                row.add(ids)
            left = [number for number, row in enumerate(open_rows) if row.open]
            if not left:
                break
            # Rows that have ended cost as much as the others, and taking them out costs a copy of the rest.
            if len(left) <= 0.75 * len(open_rows):
                kept = torch.tensor(left, device=device)
                open_rows = [open_rows[number] for number in left]
                cache.keep(kept)
                seen, lengths, tokens = seen[kept], lengths[kept], tokens[kept]
            slots = torch.arange((step + 1) * k, device=device) % k == own[:, None]
            mask = torch.cat(
                [seen[:, None, None].expand(-1, 1, k, -1), slots[None, None].expand(len(open_rows), 1, -1, -1)], dim=-1
            )
            places = (lengths + step)[:, None].expand(-1, k)
            logits = self._forward(tokens, mask, places, cache, k)
        return [row.samples for row in done]

    def _read_prompts(self, rows: Sequence[Asked]) -> tuple[GrowingCache, torch.Tensor, torch.Tensor]:
        """Read the prompts: what they have in common once, the rest padded on the left.

        Returns:
            the cache; which of its slots belong to a row (rows x slots); the logits behind each prompt (rows x vocabulary).
        """
        import torch

        device = self._model.device
        common = min(_common([row.ids for row in rows]), min(len(row.ids) for row in rows) - 1)
        cache = GrowingCache(self._layers)
        cache.reserve(common)
        for start in range(0, common, _CHUNK):
            ids = torch.tensor([rows[0].ids[start : min(start + _CHUNK, common)]], device=device)
            places = torch.arange(start, start + ids.shape[1], device=device)[None]
            mask = torch.arange(start + ids.shape[1], device=device)[None, :] <= places[0][:, None]
            self._forward(ids, mask[None, None], places, cache, 1)
        cache.spread(len(rows))
        width = max(len(row.ids) for row in rows) - common
        cache.reserve(common + width)
        gaps = torch.tensor([width - len(row.ids) + common for row in rows], device=device)
        padded = torch.tensor([[0] * (width + common - len(row.ids)) + list(row.ids[common:]) for row in rows], device=device)
        own = torch.arange(width, device=device)[None] >= gaps[:, None]
        seen = torch.cat([torch.ones(len(rows), common, dtype=torch.bool, device=device), own], dim=1)
        slots = torch.arange(common + width, device=device)
        logits = torch.empty(0)
        for start in range(common, common + width, _CHUNK):
            end = min(start + _CHUNK, common + width)
            queries = slots[start:end, None]
            # A slot sees those before it that are no padding, and itself: padding that saw nothing would be no number.
            mask = (seen[:, None, None, :end] & (slots[:end] <= queries)) | (slots[:end] == queries)
            places = (slots[start:end] - gaps[:, None]).clamp(min=0)
            logits = self._forward(padded[:, start - common : end - common], mask, places, cache, 1)
        return cache, seen, logits[:, -1]

    def _forward(
        self, ids: torch.Tensor, mask: torch.Tensor, places: torch.Tensor, cache: GrowingCache, keep: int
    ) -> torch.Tensor:
        """The logits of the last ``keep`` positions."""
        output = self._model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=places,
            use_cache=True,
            logits_to_keep=keep,
            **{self._cache_argument: cache.inner},
        )
        logits: torch.Tensor = output.logits
        return logits


class _Row:
    """The samples of a row as they grow."""

    def __init__(self, row: Asked, sampling: Sampling, ends: frozenset[int], context: int) -> None:
        self.limit = min(sampling.max_new_tokens, context - len(row.ids))
        self._ends = ends
        self._chances = [sampling.chance(row.name, number) for number in range(sampling.k)]
        self._ids: list[list[int]] = [[] for _ in range(sampling.k)]
        self._finish: list[Literal["stop", "length"] | None] = [None] * sampling.k

    @property
    def open(self) -> bool:
        return None in self._finish

    @property
    def samples(self) -> list[Drawn]:
        return [Drawn(tuple(ids), finish or "length") for ids, finish in zip(self._ids, self._finish, strict=True)]

    def draws(self) -> list[float]:
        """The next number of each sample's chance."""
        return [0.0 if finish else chance.random() for chance, finish in zip(self._chances, self._finish, strict=True)]

    def add(self, tokens: Sequence[int]) -> None:
        for number, token in enumerate(tokens):
            if self._finish[number]:
                continue
            if token in self._ends:
                self._finish[number] = "stop"
                continue
            self._ids[number].append(token)
            if len(self._ids[number]) >= self.limit:
                self._finish[number] = "length"


def pick(logits: torch.Tensor, chances: torch.Tensor, temperature: float, top_p: float) -> torch.Tensor:
    """Choose a token of the nucleus for each number of chance.

    Args:
        logits: float32, with the vocabulary as the last dimension.
        chances: float64 in [0, 1), of the other dimensions.
        temperature: above 0.

    Returns:
        token ids, of the shape of the chances.
    """
    import torch

    shape = chances.shape
    probabilities = (logits.reshape(-1, logits.shape[-1]) / temperature).softmax(-1)
    chances = chances.reshape(-1)
    few = min(_FEW, probabilities.shape[-1])
    tokens, mass = _pick(*probabilities.topk(few, dim=-1), chances, top_p)
    wide = (mass < top_p).nonzero()[:, 0] if few < probabilities.shape[-1] else mass.new_empty(0)
    if len(wide):
        ordered = probabilities[wide].sort(dim=-1, descending=True, stable=True)
        tokens = torch.index_put(tokens, (wide,), _pick(*ordered, chances[wide], top_p)[0])
    return tokens.reshape(shape)


def _pick(
    probabilities: torch.Tensor, ids: torch.Tensor, chances: torch.Tensor, top_p: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens from probabilities in descending order, and the mass of all of these."""
    sums = probabilities.double().cumsum(-1)
    last = (sums < top_p).sum(-1, keepdim=True).clamp(max=sums.shape[-1] - 1)
    nucleus = sums.gather(-1, last)
    place = (sums <= chances[:, None] * nucleus).sum(-1, keepdim=True).clamp(max=sums.shape[-1] - 1)
    return ids.gather(-1, place.minimum(last))[:, 0], sums[:, -1]


def _common(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all of them begin with."""
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*prompts, strict=False)))


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
