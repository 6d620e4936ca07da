"""What a run shows: tables on the terminal beside the paper's rows, and one self-contained page."""

from guardreasoner_sdk.evaluation.report.tables import (
    Standing,
    TableLine,
    print_report,
    standings,
    write_page,
    write_summary,
)

__all__ = [
    "Standing",
    "TableLine",
    "print_report",
    "standings",
    "write_page",
    "write_summary",
]
