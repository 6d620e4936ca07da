"""The application: all contracts over one guard."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from guardreasoner_sdk import __version__
from guardreasoner_sdk._failures import trail
from guardreasoner_sdk.errors import ConfigurationError, GuardError, InputError
from guardreasoner_sdk.guard import Guard
from guardreasoner_sdk.server.contracts import CONTRACTS, contract_of
from guardreasoner_sdk.server.desk import Desk
from guardreasoner_sdk.server.failures import Failure, Kind, invalid, kind_of, place_of
from guardreasoner_sdk.server.gate import Gate, answer_failure, path_of
from guardreasoner_sdk.server.metrics import CONTENT_TYPE, Meter
from guardreasoner_sdk.server.page import playground
from guardreasoner_sdk.server.settings import ServerSettings

__all__ = ["create_app"]

logger = logging.getLogger("guardreasoner_sdk.server")

_KINDS: dict[int, Kind] = {404: "not_found", 405: "method_not_allowed"}


def create_app(
    guard: Guard,
    settings: ServerSettings | None = None,
    *,
    on_unusable: Callable[[ConfigurationError], None] | None = None,
) -> FastAPI:
    """Make an ASGI application of a guard: for ``uvicorn``, ``gunicorn`` and whatever else runs one.

    The guard's model is loaded when the application starts, beside the first requests; ``/readyz`` says when it is there. The
    guard stays the caller's: close it when the server has ended. Its policy decides what is blocked.

    Args:
        guard: who judges.
        settings: keys and limits; None: those of ``GUARDREASONER_SERVER_*``. Host, port and workers are the server's own matter
            where the application is run by another one than ``guardreasoner serve``.
        on_unusable: called where the model cannot be loaded at all; None: ``/readyz`` and the log say so.

    Returns:
        the application; ``app.state.desk`` is where its requests meet the guard.

    Raises:
        ConfigurationError: settings that cannot work, or no guard.
        MissingExtraError: FastAPI or prometheus-client is not installed.

    Example:
        >>> from guardreasoner_sdk import Guard
        >>> from guardreasoner_sdk.server import create_app
        >>> app = create_app(Guard())
        >>> sorted(route.path for route in app.routes if route.path.startswith("/v1/check"))
        ['/v1/check', '/v1/check/stream']
    """
    if not isinstance(guard, Guard):
        raise ConfigurationError(f"guard: must be a Guard, not {type(guard).__name__}")
    settings = ServerSettings() if settings is None else settings
    meter = Meter()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(_load(app, guard, on_unusable))
        yield
        app.state.draining = True
        loading.cancel()
        with suppress(asyncio.CancelledError):
            await loading

    app = FastAPI(
        title="guardreasoner",
        version=__version__,
        description="A guard for the prompts and the answers of language models, behind several contracts.",
        lifespan=lifespan,
        docs_url=None,  # its page fetches scripts from elsewhere
        redoc_url=None,
    )
    app.state.settings = settings
    app.state.desk = Desk(guard, settings, meter)
    app.state.draining = False
    app.state.loaded = False
    app.state.unusable = None
    app.add_middleware(Gate, settings=settings, meter=meter, contract_of=contract_of, draining=lambda: bool(app.state.draining))
    for kind in (RequestValidationError, HTTPException, Failure, InputError):
        app.add_exception_handler(kind, _answer)
    for contract in CONTRACTS:
        app.include_router(contract.routes)
    app.add_api_route("/healthz", _healthz, tags=["server"], summary="Whether the process answers")
    app.add_api_route("/readyz", _readyz, tags=["server"], summary="Whether the model is loaded", responses={503: {}})

    @app.get("/metrics", tags=["server"], summary="Counts, for Prometheus", response_class=Response)
    async def metrics() -> Response:
        return Response(meter.exposed(), media_type=CONTENT_TYPE)

    if settings.playground:

        @app.get("/", include_in_schema=False)
        async def page() -> Response:
            return playground()

    return app


async def _load(app: FastAPI, guard: Guard, on_unusable: Callable[[ConfigurationError], None] | None) -> None:
    while not app.state.loaded:
        try:
            await guard.aload()
            app.state.loaded = True
        except ConfigurationError as error:
            # Nothing was judged yet: its message is about files, engines and settings.
            logger.error("the guard cannot work: %s", error)
            app.state.unusable = error
            if on_unusable is not None:
                on_unusable(error)
            return
        except (GuardError, OSError) as error:
            logger.warning("the guard's model is not there yet: %s", trail(error))
            await asyncio.sleep(1.0)
    logger.info("the guard's model is loaded")


async def _healthz() -> dict[str, str]:
    return {"status": "ok"}


async def _readyz(request: Request) -> JSONResponse:
    state = request.app.state
    if state.loaded and not state.draining:
        return JSONResponse({"status": "ready"})
    why = "draining" if state.draining else "unusable" if state.unusable else "loading"
    return JSONResponse({"status": why}, 503, {"retry-after": "1"})


async def _answer(request: Request, error: Exception) -> Response:
    return answer_failure(contract_of(path_of(request.scope)), _failure_of(request, error))


def _failure_of(request: Request, error: Exception) -> Failure:
    """The failure in what the framework raises: bodies that do not fit, and paths that there are not."""
    if isinstance(error, Failure):
        return error
    if isinstance(error, InputError):
        return invalid(error)
    if isinstance(error, RequestValidationError):
        return _unfit(request, error)
    assert isinstance(error, HTTPException)  # noqa: S101 - the handler is registered for these
    if error.status_code == 400:
        return Failure(
            400, "invalid_request", "body: is not JSON that can be read; send UTF-8, and not thousands of levels", "body"
        )
    return Failure(error.status_code, _KINDS.get(error.status_code, "invalid_request"), str(error.detail))


def _unfit(request: Request, error: RequestValidationError) -> Failure:
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return Failure(400, "invalid_request", f"body: is not JSON ({first.get('ctx', {}).get('error', 'broken')})", "body")
    kind = kind_of(request.headers.get("content-type", ""))
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        return Failure(415, "invalid_request", "content-type: must be application/json", "content-type")
    place = place_of(first["loc"][1:])
    message = first["msg"].removeprefix("Value error, ")
    fix = "; remove it" if first["type"] == "extra_forbidden" else ""
    return Failure(422, "invalid_request", f"{place}: {message}{fix}", place)
