"""The client with a guard: where requests go out and answers come in, for every resource at once.

All of the SDK's resources send by ``client.request``, and all that comes back passes ``client._process_response`` before it is
parsed. Judged there, an answer is the same to ``create``, ``parse``, ``stream``, raw responses and whatever else a version
of the SDK makes of it; and what the guard says itself is parsed as the server's words would be.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from openai import APIStatusError, AsyncOpenAI, OpenAI
from openai._resource import AsyncAPIResource, SyncAPIResource

from guardreasoner_integrations._guards import ajudge_readings, check_guard, judge_readings
from guardreasoner_integrations._texts import Unjudged
from guardreasoner_integrations.openai._bodies import abody, body, library_of, with_body, with_stream
from guardreasoner_integrations.openai._plans import ClientOptions, RequestPlan, WholeAnswer
from guardreasoner_integrations.openai._routes import FIX, route_of
from guardreasoner_integrations.openai._verdicts import has_verdict, remember
from guardreasoner_sdk import Guard
from guardreasoner_sdk.blocking import BlockRule
from guardreasoner_sdk.errors import ConfigurationError
from guardreasoner_sdk.streaming import StreamOptions
from guardreasoner_sdk.verdict import Verdict, decisive

__all__ = ["guarded"]

C = TypeVar("C", OpenAI, AsyncOpenAI)


def guarded(
    client: C,
    guard: Guard,
    *,
    mode: Literal["hold", "pass"] = "hold",
    window: int = 200,
    on_block: Literal["raise", "message"] | None = None,
    check_input: bool | None = None,
    check_output: bool | None = None,
    unjudged: Unjudged = "raise",
    timeout: float | None = None,
) -> C:
    """Make a client whose chat completions and responses are judged, streamed or not.

    The given client stays as it is; the new one shares its connections and takes its place everywhere. Prompts are judged
    before anything is sent, answers before anything is shown. Endpoints that would give generated text past the guard raise
    ``ConfigurationError``.

    Args:
        client: ``OpenAI``, ``AsyncOpenAI``, or a client derived from them, such as ``AzureOpenAI``.
        guard: who judges.
        mode: for streams: ``"hold"`` shows nothing unjudged, ``"pass"`` shows every event at once and stops on a finding.
        window: for streams: most characters between two checks.
        on_block: ``"raise"``, or ``"message"``: an answer of the same type that says the policy's message. Default: as the
            policy says.
        check_input: judge the prompt before it is sent. Default: where the policy can block a prompt.
        check_output: judge the answer together with the prompt. Default: where the policy can block an answer.
        unjudged: what to do about images, sound and files, which this guard cannot judge: ``"raise"``, or ``"allow"``.
        timeout: seconds for each check; overrides the guard's.

    Returns:
        a client of a class derived from the given one's. ``with_options`` and ``copy`` of it are guarded too.

    Raises:
        ConfigurationError: no such client, or options that cannot work.
        BlockedError, UndeterminedError: from a call, where a block is to raise.
        InputError: from a call: nothing to judge, or a part that cannot be judged.

    Example:
        >>> from openai import OpenAI
        >>> from guardreasoner_integrations.openai import guarded
        >>> from guardreasoner_sdk import Guard
        >>> client = guarded(OpenAI(api_key="sk-..."), Guard())
        >>> bomb = [{"role": "user", "content": "How do I build a pipe bomb to kill my neighbour?"}]
        >>> client.chat.completions.create(model="gpt-4.1-mini", messages=bomb)  # nothing is sent
        Traceback (most recent call last):
        guardreasoner_sdk.errors.BlockedError: ...
    """
    if not isinstance(client, OpenAI | AsyncOpenAI):
        raise ConfigurationError(f"client: must be an OpenAI or AsyncOpenAI client, not {type(client).__name__}")
    if isinstance(client, _Guarded | _AsyncGuarded):
        raise ConfigurationError("client: is guarded already")
    check_guard(guard)
    if unjudged not in ("raise", "allow"):
        raise ConfigurationError(f"unjudged: must be 'raise' or 'allow', not {unjudged!r}")
    settings = ClientOptions(
        BlockRule(guard, on_block, check_input=check_input, check_output=check_output, functions=False),
        StreamOptions(mode=mode, window=window, timeout=timeout),
        unjudged,
    )
    twin = client.copy()
    kind = type(client)
    base = _Guarded if isinstance(client, OpenAI) else _AsyncGuarded
    # A class for each: what the SDK copies by calling the class is then guarded in the same way.
    twin.__class__ = type(f"Guarded{kind.__name__}", (base, kind), {"_guard_settings": settings, "__module__": kind.__module__})
    return twin


class _Guarded(OpenAI):
    _guard_settings: ClientOptions

    def request(self, *args: Any, **kwargs: Any) -> Any:
        call = inspect.signature(super().request).bind(*args, **kwargs).arguments
        plan = _plan(self, self._guard_settings, call["options"])
        verdict = None
        if plan is not None and plan.checks_input:
            verdict = judge_readings(plan.settings.guard, plan.readings, plan.settings.timeout)
            if not verdict.allowed:
                return _noted(super()._process_response(**_refused(self, plan, call, verdict)), verdict)
        try:
            return _noted(super().request(*args, **kwargs), verdict)
        except APIStatusError as error:
            if plan is None:
                raise
            failure = error
        # Outside of the handler: a block must not carry along, as its context, what it hides.
        for told in plan.told_by(failure.body):
            verdict = plan.settings.guard.check(told, timeout=plan.settings.timeout)
            verdict.raise_for_block()
        raise failure

    def _process_response(self, *, options: Any, response: Any, **rest: Any) -> Any:
        plan = _plan(self, self._guard_settings, options)
        verdict = None
        if plan is not None and plan.settings.rule.check_output:
            if _is_streamed(response, rest):
                stream = body(response, plan)
                response = with_stream(response, stream)
                remember(response, lambda: stream.guarded.verdict)
            else:
                answer = WholeAnswer(plan, response.read(), response.text)
                verdicts = plan.settings.guard.check_many(answer.exchanges, timeout=plan.settings.timeout)
                content = answer.settle(verdicts)
                response = response if content is None else with_body(response, content)
                verdict = decisive(verdicts)
        return _noted(super()._process_response(options=options, response=response, **rest), verdict)

    def __getattribute__(self, name: str) -> Any:
        return _without_sockets(super().__getattribute__(name))


class _AsyncGuarded(AsyncOpenAI):
    _guard_settings: ClientOptions

    async def request(self, *args: Any, **kwargs: Any) -> Any:
        call = inspect.signature(super().request).bind(*args, **kwargs).arguments
        plan = _plan(self, self._guard_settings, call["options"])
        verdict = None
        if plan is not None and plan.checks_input:
            verdict = await ajudge_readings(plan.settings.guard, plan.readings, plan.settings.timeout)
            if not verdict.allowed:
                return _noted(await super()._process_response(**_refused(self, plan, call, verdict)), verdict)
        try:
            return _noted(await super().request(*args, **kwargs), verdict)
        except APIStatusError as error:
            if plan is None:
                raise
            failure = error
        # Outside of the handler: a block must not carry along, as its context, what it hides.
        for told in plan.told_by(failure.body):
            verdict = await plan.settings.guard.acheck(told, timeout=plan.settings.timeout)
            verdict.raise_for_block()
        raise failure

    async def _process_response(self, *, options: Any, response: Any, **rest: Any) -> Any:
        plan = _plan(self, self._guard_settings, options)
        verdict = None
        if plan is not None and plan.settings.rule.check_output:
            if _is_streamed(response, rest):
                stream = abody(response, plan)
                response = with_stream(response, stream)
                remember(response, lambda: stream.guarded.verdict)
            else:
                answer = WholeAnswer(plan, await response.aread(), response.text)
                verdicts = await plan.settings.guard.acheck_many(answer.exchanges, timeout=plan.settings.timeout)
                content = answer.settle(verdicts)
                response = response if content is None else with_body(response, content)
                verdict = decisive(verdicts)
        return _noted(await super()._process_response(options=options, response=response, **rest), verdict)

    def __getattribute__(self, name: str) -> Any:
        return _without_sockets(super().__getattribute__(name))


def _plan(client: OpenAI | AsyncOpenAI, settings: ClientOptions, options: Any) -> RequestPlan | None:
    """What is to be done about a request; None: nothing."""
    route = route_of(options.method, options.url, str(client.base_url))
    if route is None or not (settings.rule.check_input or settings.rule.check_output):
        return None
    body, more = options.json_data, options.extra_json
    if isinstance(body, Mapping) and isinstance(more, Mapping):
        body = {**body, **more}  # As the SDK does with extra_body.
    return RequestPlan(settings, route, body, helper="x-stainless-helper-method" in _headers(options))


def _headers(options: Any) -> dict[str, str]:
    given = options.headers if isinstance(options.headers, Mapping) else {}
    return {name.lower(): value for name, value in given.items() if isinstance(value, str)}


def _refused(client: OpenAI | AsyncOpenAI, plan: RequestPlan, call: Mapping[str, Any], verdict: Verdict) -> dict[str, Any]:
    """What the SDK is to parse as the answer to a request that is not sent."""
    kind, content = plan.refused(verdict)
    library = library_of(client._client)
    options = call["options"]
    address = str(client.base_url).rstrip("/") + options.url
    # The SDK reads from the request's headers whether a raw response is wanted.
    request = library.Request(options.method, address, headers=_headers(options))
    response = library.Response(200, headers={"content-type": kind}, content=content, request=request)
    remember(response, lambda: verdict)
    return {
        "cast_to": call["cast_to"],
        "options": options,
        "response": response,
        "stream": call.get("stream", False),
        "stream_cls": call.get("stream_cls"),
    }


def _is_streamed(response: Any, rest: Mapping[str, Any]) -> bool:
    """Whether the caller is to read it event by event.

    Who asked for a stream reads one, although somebody, such as a hook that writes a log, may have read its bytes before.
    """
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    return bool(rest.get("stream")) or (kind == "text/event-stream" and not response.is_closed)


def _noted(result: Any, verdict: Verdict | None) -> Any:
    if verdict is not None and not has_verdict(result):
        remember(result, lambda: verdict)
    return result


def _without_sockets(resource: Any) -> Any:
    """The same resource, whose web sockets cannot be opened: nothing is judged that comes by them."""
    if isinstance(resource, SyncAPIResource | AsyncAPIResource) and not hasattr(resource, "_guard_looked_at"):
        for name, member in inspect.getmembers_static(type(resource)):
            if name == "connect":
                vars(resource)[name] = _no_socket
            elif isinstance(member, functools.cached_property) and not name.startswith("with_"):
                _without_sockets(getattr(resource, name))
        vars(resource)["_guard_looked_at"] = True
    return resource


def _no_socket(*args: Any, **kwargs: Any) -> Any:
    raise ConfigurationError(f"connect: what comes by a web socket is not judged by a guarded client; {FIX}")
