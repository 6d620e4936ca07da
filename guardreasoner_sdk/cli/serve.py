"""``guardreasoner serve``: the guard as an HTTP service."""

from __future__ import annotations

from typing import Annotated

import typer

from guardreasoner_sdk.cli.options import (
    Backend,
    BaseUrl,
    CalibrationFile,
    Dialect,
    GuardOptions,
    MinScore,
    Model,
    OnUndetermined,
    OnUnmeasured,
    PolicyText,
    ReasoningMode,
    Request,
    Screen,
    Timeout,
)

__all__ = ["serve"]

_POLICY, _SERVER = "Policy", "Server"


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; default: 127.0.0.1.", rich_help_panel=_SERVER)] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0: any; default: 8080.", rich_help_panel=_SERVER)] = None,
    workers: Annotated[int | None, typer.Option(help="Processes, each with its model.", rich_help_panel=_SERVER)] = None,
    model: Model = None,
    backend: Backend = None,
    dialect: Dialect = None,
    policy_text: PolicyText = None,
    request: Request = None,
    screen: Screen = None,
    base_url: BaseUrl = None,
    reasoning: ReasoningMode = None,
    timeout: Timeout = None,
    calibration: CalibrationFile = None,
    on_undetermined: Annotated[
        OnUndetermined | None, typer.Option(help="What an undecided finding means.", rich_help_panel=_POLICY)
    ] = None,
    on_unmeasured: Annotated[
        OnUnmeasured | None,
        typer.Option(help="What a finding is worth in a language never measured.", rich_help_panel=_POLICY),
    ] = None,
    block: Annotated[
        list[str] | None,
        typer.Option(help="What blocks: harmful_prompt, harmful_response, refusal.", rich_help_panel=_POLICY),
    ] = None,
    min_score: MinScore = None,
) -> None:
    """Serve the guard over HTTP: its own contract, OpenAI's moderations, gateways, metrics and a page to try it on.

    Keys and limits come from GUARDREASONER_SERVER_* environment variables (docs/server.md lists them); without
    GUARDREASONER_SERVER_KEYS only this machine is answered. SIGTERM ends it when what has come is answered.
    """
    from guardreasoner_sdk.server import ServerSettings
    from guardreasoner_sdk.server import serve as run

    options = GuardOptions(
        model,
        backend,
        dialect,
        screen,
        base_url,
        reasoning,
        timeout=timeout,
        on_undetermined=on_undetermined,
        on_unmeasured=on_unmeasured,
        block=tuple(block or ()),
        min_score=tuple(min_score or ()),
        calibration=calibration,
        policy_text=policy_text,
        request=request,
    )
    given = {"host": host, "port": port, "workers": workers}
    settings = ServerSettings(**{name: value for name, value in given.items() if value is not None})
    options.guard().close()  # what cannot work is told here, and not in every worker's log
    run(options.guard, settings)
