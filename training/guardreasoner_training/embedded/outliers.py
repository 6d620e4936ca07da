"""The same network, with nothing in it so loud that 8 bits leave the rest no room.

In 8 bits every product takes its input in 255 steps, from the smallest to the largest value of the window. In this family of
models one or two channels of 384 reach ten times what the others do, and so do one or two units of a layer's middle; the others
are then told apart in twenty steps. A loud channel is divided, and its weights multiplied, by the same number; a loud unit,
which is not a multiple of anything before it, is computed beside the product in floating point. So do SmoothQuant
(arXiv:2211.10438) and LLM.int8() (arXiv:2208.07339); here it is done to the few channels and units that need it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any, Final

import torch
from torch import Tensor, nn

from guardreasoner_sdk.judges.encoding import TokenWindow, collate
from guardreasoner_training.embedded.model import INPUTS, GuardNet

__all__ = ["APART", "without_outliers"]

APART: Final = "apart"
"""In the names of what stays in floating point."""

# The loudest channels are brought down to the one after these, and the loudest units are computed apart. Measured on held-out
# windows: more of either is less good, as the weights of what is divided grow.
_CHANNELS: Final = 6
_UNITS: Final = 2


class _Quieter(nn.Module):
    """A part whose input is scaled, and whose weights make up for it."""

    def __init__(self, part: nn.Module, scale: Tensor) -> None:
        super().__init__()
        self.part = part
        self.register_buffer("scale", scale)

    def forward(self, states: Tensor, *args: Any, **kwargs: Any) -> Any:
        return self.part(states * self.get_buffer("scale"), *args, **kwargs)


class _Widening(nn.Module):
    """The first half of a layer's middle: most units from one product, some from another."""

    def __init__(self, dense: nn.Linear, apart: Tensor, channels: Tensor, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.activation = activation
        self.register_buffer("scale", 1 / channels)
        rest = _others(apart, dense.out_features)
        self.dense = _linear(dense.weight[rest] * channels, dense.bias[rest])
        self.apart = _linear(dense.weight[apart], dense.bias[apart])

    def forward(self, states: Tensor) -> tuple[Tensor, Tensor]:
        return self.activation(self.dense(states * self.get_buffer("scale"))), self.activation(self.apart(states))


class _Narrowing(nn.Module):
    """The second half, which takes both."""

    def __init__(self, dense: nn.Linear, apart: Tensor, norm: nn.Module) -> None:
        super().__init__()
        self.dense = _linear(dense.weight[:, _others(apart, dense.in_features)], dense.bias)
        self.apart = _linear(dense.weight[:, apart], None)
        self.norm = norm

    def forward(self, units: tuple[Tensor, Tensor], states: Tensor) -> Any:
        return self.norm(self.dense(units[0]) + self.apart(units[1]) + states)


def without_outliers(net: GuardNet, windows: Iterable[TokenWindow]) -> GuardNet:
    """Make a network of the same function that loses little in 8 bits.

    Args:
        net: the trained network; unchanged on return.
        windows: text that shows which channels and units are loud: some hundreds of windows, of all kinds.

    Returns:
        A copy in evaluation mode, to be exported; its parameters have other shapes than those of ``net``.
    """
    loud = _loudest(net, windows)
    even = copy.deepcopy(net).eval()
    with torch.no_grad():
        for number, layer in enumerate(_layers(even)):
            attention = layer.attention
            # Of the attention's own output each channel is one of the values', which can be divided where they are made.
            channels = _channels(loud[f"{number} context"])
            value, dense = attention.self.value, attention.output.dense
            value.weight /= channels[:, None]
            value.bias /= channels
            dense.weight *= channels
            channels = _channels(loud[f"{number} states"])
            for product in (attention.self.query, attention.self.key, value):
                product.weight *= channels
            attention.self = _Quieter(attention.self, 1 / channels)
            units = loud[f"{number} units"]
            apart = units.argsort(descending=True)[: min(_UNITS, len(units) - 1)].sort().values
            middle = layer.intermediate
            layer.output = _Narrowing(layer.output.dense, apart, layer.output.LayerNorm)
            layer.intermediate = _Widening(
                middle.dense, apart, _channels(loud[f"{number} attended"]), middle.intermediate_act_fn
            )
    return even


def _layers(net: GuardNet) -> Iterable[Any]:
    """To the type checker, what a module holds is a tensor or a module, of which nothing is known."""
    return net.encoder.encoder.layer


def _loudest(net: GuardNet, windows: Iterable[TokenWindow]) -> dict[str, Tensor]:
    """The largest value, without its sign, that each input and each unit takes."""
    found: dict[str, Tensor] = {}

    def noting(name: str, values: Tensor) -> None:
        largest = values.abs().flatten(end_dim=-2).amax(dim=0)
        found[name] = torch.maximum(found[name], largest) if name in found else largest

    hooks = []
    for number, layer in enumerate(_layers(net)):
        for name, product in (
            ("states", layer.attention.self.query),
            ("context", layer.attention.output.dense),
            ("attended", layer.intermediate.dense),
            ("units", layer.output.dense),
        ):

            def hook(_: nn.Module, given: tuple[Tensor, ...], key: str = f"{number} {name}") -> None:
                noting(key, given[0])

            hooks.append(product.register_forward_pre_hook(hook))
    training = net.training
    net.eval()
    try:
        with torch.no_grad():
            for window in windows:
                batch = collate([window])
                net(*(torch.from_numpy(batch[name]) for name in INPUTS))
    finally:
        net.train(training)
        for hook_of in hooks:
            hook_of.remove()
    return found


def _channels(largest: Tensor) -> Tensor:
    """What each channel is divided by: 1 for all but the loudest.

    Powers of two, by which floating point multiplies without loss, and which a last bit elsewhere seldom changes.
    """
    limit = largest.sort(descending=True).values[min(_CHANNELS, len(largest) - 1)]
    return (largest / limit.clamp(min=1e-6)).clamp(min=1.0).log2().round().exp2()


def _others(apart: Tensor, count: int) -> Tensor:
    kept = torch.ones(count, dtype=torch.bool)
    kept[apart] = False
    return kept.nonzero().flatten()


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    made.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        made.bias = nn.Parameter(bias.detach().clone())
    return made
