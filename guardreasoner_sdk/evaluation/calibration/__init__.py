"""From labelled rows and a guard's scores to a :class:`~guardreasoner_sdk.calibration.Calibration`."""

from guardreasoner_sdk.evaluation.calibration.fitting import (
    CONFIDENCE,
    FALSE_ALARM_RATE,
    LEAST,
    RECALL,
    UNSEEN,
    Case,
    LabelCount,
    Method,
    Plan,
    calibrate,
    count_labels,
    fit,
)

__all__ = [
    "CONFIDENCE",
    "FALSE_ALARM_RATE",
    "LEAST",
    "RECALL",
    "UNSEEN",
    "Case",
    "LabelCount",
    "Method",
    "Plan",
    "calibrate",
    "count_labels",
    "fit",
]
