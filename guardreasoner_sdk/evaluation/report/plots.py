"""Plots as SVG that stands inside a page: it takes the page's colours, and its marks are its own."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from guardreasoner_sdk.errors import MissingExtraError
from guardreasoner_sdk.evaluation.metrics import reliability
from guardreasoner_sdk.evaluation.rows import Prediction

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["precision_recall_plot", "reliability_plot"]

_INK = "#010203"
"""Stands for the colour of the page's text, which depends on its theme."""

_LINE, _PALE = "#3b82f6", "#94a3b8"
_MOST_POINTS = 300
_PREFIXED = re.compile(r'(\bid="|\bhref="#|url\(#)')


def precision_recall_plot(predictions: Sequence[Prediction], *, name: str, title: str, at: tuple[float, float] | None) -> str:
    """Precision over recall at every threshold, as SVG.

    Args:
        predictions: those of one task of one benchmark. Rows without a score, or undetermined, are left out.
        name: begins every mark inside the SVG; another one for every plot of a page.
        at: recall and precision that the guard reached at its own threshold, in percent.

    Returns:
        the SVG; empty where the scores make no curve.

    Raises:
        MissingExtraError: matplotlib or scikit-learn is not installed.
    """
    truths, scores = _scored(predictions)
    if len(set(truths)) < 2:
        return ""

    def draw(axes: Axes) -> None:
        from sklearn.metrics import precision_recall_curve

        precisions, recalls, _ = precision_recall_curve(truths, scores, drop_intermediate=True)
        step = max(1, len(recalls) // _MOST_POINTS)
        # From the last point on, so that the ends of the curve are always among them.
        axes.step(100 * recalls[::-step][::-1], 100 * precisions[::-step][::-1], where="pre", color=_LINE, linewidth=1.8)
        share = 100 * sum(truths) / len(truths)
        axes.axhline(share, color=_PALE, linewidth=1, linestyle="--", label="everything called positive")
        if at is not None:
            axes.plot(*at, marker="o", markersize=7, color=_INK, linestyle="none", label="the guard's own threshold")
        axes.set(xlabel="recall, %", ylabel="precision, %", xlim=(0, 102), ylim=(0, 102))
        axes.legend(loc="lower left", frameon=False, labelcolor=_INK, fontsize=8)

    return _svg(draw, name, title)


def reliability_plot(predictions: Sequence[Prediction], *, name: str, title: str) -> str:
    """The share of positives over the score that promises it, as SVG. The bars say how many rows have such a score.

    Args:
        predictions: those of one task of one benchmark. Rows without a score, or undetermined, are left out.
        name: begins every mark inside the SVG; another one for every plot of a page.

    Returns:
        the SVG; empty where there are no scores.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    truths, scores = _scored(predictions)
    if not truths:
        return ""
    bins = reliability(truths, scores)

    def draw(axes: Axes) -> None:
        for entry in bins:
            share = entry.rows / len(truths)
            axes.bar(entry.low, share, width=entry.high - entry.low, align="edge", color=_PALE, alpha=0.35, linewidth=0)
        axes.plot([0, 1], [0, 1], color=_PALE, linewidth=1, linestyle="--", label="what is promised is true")
        axes.plot(
            [entry.score for entry in bins],
            [entry.positive for entry in bins],
            color=_LINE,
            linewidth=1.8,
            marker="o",
            markersize=4,
            label="share of positives (bars: of rows)",
        )
        axes.set(xlabel="score", ylabel="share", xlim=(0, 1), ylim=(0, 1.02))
        axes.legend(loc="upper left", frameon=False, labelcolor=_INK, fontsize=8)

    return _svg(draw, name, title)


def _scored(predictions: Sequence[Prediction]) -> tuple[list[bool], list[float]]:
    pairs = [(one.truth, one.score) for one in predictions if one.score is not None and one.label is not None]
    return [truth for truth, _ in pairs], [score for _, score in pairs]


def _svg(draw: Callable[[Axes], None], name: str, title: str) -> str:
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("eval", "Plots of an evaluation") from None
    colours = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    looks: Any = {**dict.fromkeys(colours, _INK), "svg.fonttype": "none", "svg.hashsalt": name, "font.size": 9}
    buffer = io.StringIO()
    with mpl.rc_context(looks):
        figure = Figure(figsize=(4.4, 3.1), layout="constrained")
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        draw(axes)
        # Without a date: the same figures give the same page.
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    # From the element on, and without what matplotlib says about itself.
    head, _, rest = buffer.getvalue().partition("<metadata>")
    drawn = (head[head.index("<svg") :] + rest.partition("</metadata>")[2]).replace(_INK, "currentColor")
    drawn = _PREFIXED.sub(lambda found: f"{found[0]}{name}-", drawn)
    return drawn.replace("<svg ", f'<svg role="img" aria-label="{html.escape(title)}" ', 1)
