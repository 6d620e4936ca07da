"""Environment variables -> defaults of :class:`guardreasoner_sdk.Guard`."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from guardreasoner_sdk._arguments import close_to
from guardreasoner_sdk.errors import ConfigurationError

__all__ = ["SERVER_PREFIX", "Settings", "known_variables"]

logger = logging.getLogger("guardreasoner_sdk")

_PREFIX = "GUARDREASONER_"
SERVER_PREFIX = f"{_PREFIX}SERVER_"
"""How the variables begin that the server reads, which knows by itself which of them there are."""

# Read elsewhere: by the command line, by what downloads data, and by the project's own scripts.
_OTHERS = frozenset(f"GUARDREASONER_{name}" for name in ("DATA", "DEBUG", "SETUP", "SKIPS", "VENV", "WORKERS"))
_told: set[str] = set()


class Settings(BaseSettings):
    """What ``Guard()`` takes where an argument is not given. Each field is read from ``GUARDREASONER_<FIELD>``.

    Attributes:
        model: a name of the catalogue, or the folder or GGUF file of a model.
        backend: what runs the model; None: the model's own default.
        dialect: how a model that is not in the catalogue is asked and read.
        policy_text: what counts as harmful, in the application's own words, for a model that takes such a text.
        request: the file of a model's published request, where that is not in this package.
        screen: ``embedded``: the embedded guard decides the clear cases, and the model the doubtful ones.
        base_url: address of a remote engine.
        api_key: its key; never shown.
        timeout: seconds for one check; None: no limit.
        on_undetermined: ``block``, ``allow`` or ``raise``.
        on_unmeasured: ``judge`` or ``undetermined``.
        reasoning: ``auto``, ``full``, ``brief`` or ``off``.
        cache: judgements kept in memory; 0: none.
        calibration: a file that ``guardreasoner calibrate`` wrote for the model.
        threads: windows of text that the embedded model judges at a time; None: one for each core.

    Raises:
        ConfigurationError: a variable has a value that does not fit, or is a setting misspelt: a timeout that is not heeded is
            none. The message names the variable.

    Example:
        >>> from guardreasoner_sdk import Settings
        >>> Settings(timeout=2.5).timeout
        2.5
    """

    model_config = SettingsConfigDict(env_prefix="GUARDREASONER_", frozen=True, extra="ignore", env_ignore_empty=True)

    model: str = "embedded"
    backend: str | None = None
    dialect: str | None = None
    policy_text: str | None = None
    request: str | None = None
    screen: str | None = None
    base_url: str | None = None
    api_key: SecretStr | None = None
    timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    on_undetermined: Literal["block", "allow", "raise"] = "block"
    on_unmeasured: Literal["judge", "undetermined"] = "judge"
    reasoning: Literal["auto", "full", "brief", "off"] = "auto"
    cache: Annotated[int, Field(ge=0)] = 0
    calibration: str | None = None
    threads: Annotated[int, Field(gt=0)] | None = None

    def __init__(self, **values: Any) -> None:
        _check_names(os.environ)
        try:
            super().__init__(**values)
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            name = "_".join(str(part) for part in first["loc"])
            raise ConfigurationError(f"{name} (or GUARDREASONER_{name.upper()}): {first['msg']}") from None


def known_variables() -> frozenset[str]:
    """The environment variables that mean something."""
    return _OTHERS | {f"{_PREFIX}{field.upper()}" for field in Settings.model_fields}


def _check_names(environment: Iterable[str]) -> None:
    for name in environment:
        if not name.upper().startswith(_PREFIX) or name.upper().startswith(SERVER_PREFIX) or name.upper() in known_variables():
            continue
        meant = [f"{_PREFIX}{field.upper()}" for field in close_to(name[len(_PREFIX) :], Settings.model_fields)]
        if meant:
            raise ConfigurationError(f"{name}: is no setting; did you mean {' or '.join(meant)}?")
        if name not in _told:
            _told.add(name)
            logger.warning("%s: is not a setting, and is ignored", name)
