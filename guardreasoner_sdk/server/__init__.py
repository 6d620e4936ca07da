"""One guard as an HTTP service: ``guardreasoner serve``, or :func:`create_app` inside an application of one's own.

Routes: ``/v1/check`` and ``/v1/check/stream`` with the SDK's own verdict, and in front of the same guard the contracts of
others (``contracts/``): OpenAI's and Mistral's moderations, LiteLLM's generic guardrail API, the detectors of TrustyAI,
the webhooks of agentgateway, the checks of NeMo Guardrails. What each of them says where the guard could not decide is a
table in ``docs/server.md``; it is never "safe".

Needs the extra ``server``. Importing this package imports none of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from guardreasoner_sdk.errors import MissingExtraError

if TYPE_CHECKING:
    from guardreasoner_sdk.server.app import create_app
    from guardreasoner_sdk.server.run import serve
    from guardreasoner_sdk.server.settings import ServerSettings

__all__ = ["ServerSettings", "create_app", "serve"]

_EXTRA = frozenset({"fastapi", "prometheus_client", "starlette", "uvicorn"})


def __getattr__(name: str) -> Any:
    if name == "ServerSettings":
        from guardreasoner_sdk.server.settings import ServerSettings

        return ServerSettings
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from guardreasoner_sdk.server import app, run
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _EXTRA:
            raise
        raise MissingExtraError("server", "Servers") from None
    return {"create_app": app.create_app, "serve": run.serve}[name]
