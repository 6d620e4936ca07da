"""Does a guard still say the same where a text stands between others, is framed, disguised, or follows on a conversation?"""

from guardreasoner_sdk.evaluation.robustness.measure import (
    CLEAR_CUT,
    OVER_REFUSAL,
    SETS,
    Robustness,
    RobustnessFigure,
    RobustnessRow,
    RobustnessSet,
    RobustnessTally,
    Share,
    check_made,
    checked_sets,
    given_rows,
    made_rows,
    measure_robustness,
    robustness_rows,
)

__all__ = [
    "CLEAR_CUT",
    "OVER_REFUSAL",
    "SETS",
    "Robustness",
    "RobustnessFigure",
    "RobustnessRow",
    "RobustnessSet",
    "RobustnessTally",
    "Share",
    "check_made",
    "checked_sets",
    "given_rows",
    "made_rows",
    "measure_robustness",
    "robustness_rows",
]
