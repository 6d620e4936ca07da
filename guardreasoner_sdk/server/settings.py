"""What the server is told: its address, its keys and its limits."""

from __future__ import annotations

import ipaddress
import os
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from guardreasoner_sdk._arguments import close_to
from guardreasoner_sdk.errors import ConfigurationError
from guardreasoner_sdk.settings import SERVER_PREFIX

__all__ = ["ServerSettings", "is_loopback"]


class ServerSettings(BaseSettings):
    """Address, keys and limits of a server. Each field is read from ``GUARDREASONER_SERVER_<FIELD>`` where it is not given.

    Attributes:
        host: the address to listen on.
        port: the port; 0: any free one, which the log names.
        workers: processes, each with a guard of its own.
        keys: what clients have to send as ``Authorization: Bearer <key>`` or ``x-api-key``; any of them will do. In the
            environment a list with commas. Empty: none, and then only this machine itself is answered.
        allow_anonymous: answer other machines without a key: for a server behind a gateway that sees to that.
        max_body: most bytes in a request's body.
        max_items: most exchanges, texts or conversations in one request.
        max_requests: most requests in the server's hands at a time, of each worker.
        max_waiting: most exchanges that wait for the guard, of each worker.
        max_streams: most answers that are judged while they are being written, of each worker.
        concurrency: most calls of the guard at a time; None: 2 for the embedded guard, whose calls take many exchanges and all
            cores, and 64 for every other one.
        wait: seconds that an exchange waits for its turn before the request is answered with 503.
        timeout: seconds for judging, from the exchange's turn on; the guard's own timeout, where that is shorter.
        body_timeout: seconds for a request's body to arrive; of a streamed one, for its next piece.
        drain: seconds that requests have to end in after SIGTERM.
        playground: whether ``/`` shows a page to try the guard on.
        log_level: ``debug``, ``info`` (a line for each request), ``warning`` or ``error``.

    Raises:
        ConfigurationError: a value that does not fit, or a variable ``GUARDREASONER_SERVER_...`` that is no setting: a limit or
            a key that is not heeded is none. The message names it.

    Example:
        >>> from guardreasoner_sdk.server import ServerSettings
        >>> ServerSettings(port=9000, keys=["a-long-random-key"]).port
        9000
    """

    model_config = SettingsConfigDict(env_prefix=SERVER_PREFIX, frozen=True, extra="forbid", env_ignore_empty=True)

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    workers: Annotated[int, Field(ge=1)] = 1
    keys: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    allow_anonymous: bool = False
    max_body: Annotated[int, Field(ge=1)] = 4 * 2**20
    max_items: Annotated[int, Field(ge=1)] = 256
    max_requests: Annotated[int, Field(ge=1)] = 1024
    max_waiting: Annotated[int, Field(ge=1)] = 2048
    max_streams: Annotated[int, Field(ge=1)] = 64
    concurrency: Annotated[int, Field(ge=1)] | None = None
    wait: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 10.0
    timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 30.0
    body_timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 30.0
    drain: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 30.0
    playground: bool = True
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    def __init__(self, **values: Any) -> None:
        _check_names()
        try:
            super().__init__(**values)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            name = str(first["loc"][0]) if first["loc"] else "settings"
            raise ConfigurationError(f"{name} (or {SERVER_PREFIX}{name.upper()}): {first['msg']}") from None

    @field_validator("keys", mode="before")
    @classmethod
    def _keys(cls, given: Any) -> Any:
        keys = given.split(",") if isinstance(given, str) else given
        if isinstance(keys, list | tuple):
            keys = [key.get_secret_value() if isinstance(key, SecretStr) else key for key in keys]
            keys = [key.strip() if isinstance(key, str) else key for key in keys]
            if any(isinstance(key, str) and (not key or not key.isascii()) for key in keys):
                raise ValueError("a key is empty, or has letters that no HTTP header can carry")
        return keys

    def check_exposed(self) -> None:
        """Refuse an address that other machines can reach, where nobody needs a key.

        Raises:
            ConfigurationError: with the way out.
        """
        if not self.keys and not self.allow_anonymous and not is_loopback(self.host):
            raise ConfigurationError(
                f"host: {self.host} can be reached by other machines, and there are no keys; set {SERVER_PREFIX}KEYS "
                f"(openssl rand -hex 32 prints one), listen on 127.0.0.1, or set {SERVER_PREFIX}ALLOW_ANONYMOUS=true behind a "
                "gateway that asks for keys itself"
            )


def is_loopback(host: str | None) -> bool:
    """Whether an address can be reached from this machine alone.

    Args:
        host: a name or an address; None or empty: all of them.
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def _check_names() -> None:
    known = ServerSettings.model_fields
    for variable in os.environ:
        if not variable.upper().startswith(SERVER_PREFIX):
            continue
        name = variable[len(SERVER_PREFIX) :].lower()
        if name not in known:
            meant = [f"{SERVER_PREFIX}{field.upper()}" for field in close_to(name, known)]
            hint = f"did you mean {' or '.join(meant)}?" if meant else "unset it"
            raise ConfigurationError(f"{variable}: is no setting of the server; {hint}")
