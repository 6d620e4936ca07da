"""The guard's errors as those of a guardrail of litellm's.

When a call fails, litellm's Router asks again, or asks another model; not so where a guardrail said no.
"""

from __future__ import annotations

from typing import Any

from litellm.exceptions import GuardrailRaisedException

from guardreasoner_sdk import BlockedError, ClosedError, ConfigurationError, GuardError, InputError, UndeterminedError
from guardreasoner_sdk.errors import PortableError

__all__ = ["refusal_of"]


class _GuardrailError(PortableError, GuardrailRaisedException):
    """Of a guardrail.

    Args:
        error: the guard's error.
        guardrail_name: the guardrail's name in requests.
        status_code: the HTTP status that it is at an endpoint of litellm's.
    """

    def __init__(self, error: GuardError, guardrail_name: str | None, status_code: int) -> None:
        Exception.__init__(self, *error.args)  # litellm's own puts other words before the message
        vars(self).update(vars(error))
        self.message = str(error)
        self.guardrail_name = guardrail_name
        self.status_code = status_code
        self.blocked_content = isinstance(error, BlockedError)


class GuardrailBlockedError(_GuardrailError, BlockedError):
    """A guardrail blocked the call."""


class GuardrailUndeterminedError(_GuardrailError, UndeterminedError):
    """A guardrail could not decide on the call."""


class GuardrailInputError(_GuardrailError, InputError):
    """A guardrail cannot judge the call."""


class GuardrailClosedError(_GuardrailError, ClosedError):
    """A guardrail's guard was closed."""


class GuardrailConfigurationError(_GuardrailError, ConfigurationError):
    """A guardrail's guard cannot work."""


class GuardrailFailureError(_GuardrailError, GuardError):
    """A guardrail's guard failed."""


def refusal_of(error: GuardError, guardrail_name: str | None, status_code: int) -> GuardError:
    """The same error, as one of a guardrail of litellm's.

    Args:
        status_code: the HTTP status that it is at an endpoint of litellm's.
    """
    kind = next(kind for own, kind in _KINDS.items() if isinstance(error, own))
    refusal: GuardError = kind(error, guardrail_name, status_code)
    return refusal


_KINDS: dict[type[GuardError], type[Any]] = {
    BlockedError: GuardrailBlockedError,
    UndeterminedError: GuardrailUndeterminedError,
    InputError: GuardrailInputError,
    ClosedError: GuardrailClosedError,
    ConfigurationError: GuardrailConfigurationError,
    GuardError: GuardrailFailureError,
}
