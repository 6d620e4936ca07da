"""What the guard says in place of an answer, and in which form."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Note"]


@dataclass(frozen=True)
class Note:
    """The guard's own answer.

    Args:
        message: its text.
        model: the model that was asked.
        choices: how many answers were asked for.
        structured: whether an answer in JSON is expected. The message then stands where a model refuses: nobody parses that.
        helper: whether the SDK's own ``parse`` or ``stream`` asked.
    """

    message: str
    model: str
    choices: int
    structured: bool
    helper: bool
