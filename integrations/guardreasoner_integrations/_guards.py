"""What all integrations are given."""

from __future__ import annotations

from guardreasoner_sdk import ConfigurationError, Guard

__all__ = ["check_guard"]


def check_guard(guard: object) -> None:
    """Refuse what is no guard, where it is given.

    Args:
        guard: what is to be a guard.

    Raises:
        ConfigurationError: it is none.
    """
    if isinstance(guard, type):
        raise ConfigurationError(f"guard: is the class {guard.__name__}; pass a guard made of it: {guard.__name__}()")
    if not isinstance(guard, Guard):
        raise ConfigurationError(f"guard: must be a Guard, not {type(guard).__name__}")
