"""Curves from a guard's scores to probabilities: fitted, compared, and left alone where they would not help."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from statistics import fmean, median
from typing import TYPE_CHECKING, Literal

from guardreasoner_sdk.calibration import Isotonic, Temperature, log_odds
from guardreasoner_sdk.errors import MissingExtraError
from guardreasoner_sdk.evaluation.metrics import calibration_error

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]

__all__ = ["Method", "UnfitError", "draw", "fit_curve"]

Method = Literal["auto", "isotonic", "temperature"]
"""``isotonic`` follows any rising shape, ``temperature`` has two numbers to fit; ``auto``: what serves a task best of both."""


class UnfitError(Exception):
    """A task that nothing can be fitted to; the message says why, as the end of a sentence that begins with the task."""


def fit_curve(
    scores: Floats, truths: Bools, prompts: Sequence[str], *, method: Method, seed: int
) -> tuple[Isotonic | Temperature, str | None]:
    """Find the curve with the lowest calibration error in cross-validation.

    Scores stay as they are where their error is not at least twice what chance gives for so many rows, or where no curve
    lowers it.

    Args:
        scores: P(positive) of each row, 0 to 1.
        prompts: names its prompt: rows of one prompt stay together.

    Returns:
        the curve, and a sentence where the scores stay as they are.

    Raises:
        UnfitError: the scores do not rise with the truth.
        MissingExtraError: scikit-learn is not installed.
    """
    kinds = [kind for name, kind in _KINDS.items() if method in (name, "auto")]
    curves = [kind(scores, truths) for kind in kinds]
    error, chance = calibration_error(truths, scores), _by_chance(scores, seed)
    errors = [fmean(_crossed(scores, truths, prompts, kind, f"{seed} {time}") for time in range(_TIMES)) for kind in kinds]
    if error > 2 * chance and min(errors) < error:
        return curves[errors.index(min(errors))], None
    return _UNCHANGED, (
        f"The scores stay as they are: of their calibration error of {error:.1f} % on the {len(scores):,} rows to fit on, "
        f"chance alone would explain {chance:.1f} %."
    )


def draw(seed: object, text: str) -> float:
    """A number in [0, 1) that depends on seed and text alone: the same on every machine."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{text}".encode()).digest()[:8], "big") / 2**64


def _by_chance(scores: Floats, seed: int) -> float:
    """The calibration error that so many rows would show if the scores were true (Broecker and Smith 2007)."""
    import numpy as np

    random = np.random.default_rng(seed)
    return median(calibration_error(random.random(len(scores)) < scores, scores) for _ in range(_DRAWS))


def _crossed(scores: Floats, truths: Bools, prompts: Sequence[str], kind: _Kind, seed: str) -> float:
    """The calibration error where each fifth of the prompts gets the curve of the others."""
    import numpy as np

    folds = np.array([int(_FOLDS * draw(seed, prompt)) for prompt in prompts])
    worth = scores.copy()
    for fold in range(_FOLDS):
        inside = folds == fold
        curve = kind(scores[~inside], truths[~inside])
        worth[inside] = [curve(score) for score in scores[inside].tolist()]
    return calibration_error(truths, worth)


def _isotonic(scores: Floats, truths: Bools) -> Isotonic:
    try:
        from sklearn.isotonic import IsotonicRegression
    except ImportError:
        raise MissingExtraError("eval", "Calibrations") from None

    _check_mixed(truths)
    found = IsotonicRegression(y_min=0.0, y_max=1.0).fit(scores, truths.astype(float))
    values = found.y_thresholds_.tolist()
    if values[0] == values[-1]:
        raise UnfitError(_FALLING)
    return Isotonic(scores=tuple(found.X_thresholds_.tolist()), values=tuple(values))


def _temperature(scores: Floats, truths: Bools) -> Temperature:
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError:
        raise MissingExtraError("eval", "Calibrations") from None
    import numpy as np

    _check_mixed(truths)
    odds = np.array([[log_odds(score)] for score in scores.tolist()])
    # A trace of regularisation: where one score parts the classes cleanly, the best slope would have no end.
    found = LogisticRegression(C=100.0, solver="newton-cholesky").fit(odds, truths)
    slope, shift = float(found.coef_[0, 0]), float(found.intercept_[0])
    if slope <= 0:
        raise UnfitError(_FALLING)
    return Temperature(temperature=1 / slope, shift=shift)


def _check_mixed(truths: Bools) -> None:
    if truths.all() or not truths.any():
        raise UnfitError("has too few prompts to fit on: give rows of more")


_Kind = Callable[["Floats", "Bools"], Isotonic | Temperature]
_KINDS: dict[str, _Kind] = {"temperature": _temperature, "isotonic": _isotonic}
_UNCHANGED = Isotonic(scores=(0.0, 1.0), values=(0.0, 1.0))
_FALLING = "has scores that do not rise with the truth"
_FOLDS, _TIMES, _DRAWS = 5, 4, 100
