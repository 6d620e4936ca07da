"""Does a guard still say the same where a text stands between others, is framed, disguised, or follows on a conversation?"""

from guardreasoner_sdk.evaluation.robustness.figures import Robustness, RobustnessFigure, RobustnessRow, RobustnessTally, Share
from guardreasoner_sdk.evaluation.robustness.measure import (
    CLEAR_CUT,
    SETS,
    RobustnessSet,
    check_made,
    checked_sets,
    given_rows,
    made_rows,
    measure_robustness,
    robustness_rows,
)
from guardreasoner_sdk.evaluation.rows import OVER_REFUSAL

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
