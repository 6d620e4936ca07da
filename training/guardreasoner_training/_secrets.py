"""Settings that a secret is easily mistaken for: a recipe is written to manifests, and its errors to logs."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

__all__ = ["Address", "VariableName"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _address(value: object) -> str:
    # Behind a user name or in a query there may be a key. What is no text is no address either.
    return value if isinstance(value, str) and not set("@?#") & set(value) else ""


def _name(value: object) -> str:
    return value if isinstance(value, str) and _NAME.fullmatch(value) else ""


def _checked_address(value: str) -> str:
    if not value:
        raise ValueError(
            "must be an address with neither user name, password nor query (no '@', '?' or '#'), such as "
            "http://localhost:8000/v1; put the key into an environment variable, and its name into api_key_env"
        )
    return value


def _checked_name(value: str) -> str:
    if not value:
        raise ValueError(
            "must be the name of an environment variable (letters, digits and _), not the key itself; put the key into a "
            "variable, and its name here"
        )
    return value


# What may be a secret is taken away first and refused afterwards: pydantic's errors show the value that was refused.
Address = Annotated[str, AfterValidator(_checked_address), BeforeValidator(_address)]
"""Where a server is."""

VariableName = Annotated[str, AfterValidator(_checked_name), BeforeValidator(_name)]
"""An environment variable."""
