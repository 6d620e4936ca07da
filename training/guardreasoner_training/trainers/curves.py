"""The loss of a training as a picture."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from guardreasoner_sdk.data.atomic import write_atomic

__all__ = ["loss_curve"]

_SMOOTH = 20


def loss_curve(log: Sequence[Mapping[str, Any]], path: Path, title: str) -> None:
    """Draw the loss of each step, and its running mean, into a PNG.

    Args:
        log: entries with ``step`` and ``loss``, in order.
        path: the file; one that is there is replaced.
        title: stands above it.

    Raises:
        InputError: it cannot be written.
    """
    # Figures of their own need no display and no global state, whatever the caller does with pyplot.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    steps = [int(entry["step"]) for entry in log]
    losses = [float(entry["loss"]) for entry in log]
    width = max(1, min(_SMOOTH, len(losses) // 5))
    means = [sum(losses[max(0, end - width) : end]) / min(width, end) for end in range(1, len(losses) + 1)]
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot(steps, losses, color="#9db4c8", linewidth=0.8, label="loss of the step")
    axes.plot(steps, means, color="#1f4e79", linewidth=1.8, label=f"mean of {width}")
    axes.set(title=title, xlabel="step", ylabel="loss")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    write_atomic(path, picture.getvalue())
