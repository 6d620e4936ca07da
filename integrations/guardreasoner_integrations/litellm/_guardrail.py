"""The guardrail: which of litellm's hooks does what."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping
from typing import Any, ClassVar, Literal

from litellm.integrations.custom_guardrail import CustomGuardrail
from litellm.types.guardrails import GuardrailEventHooks

from guardreasoner_integrations._guards import check_guard
from guardreasoner_integrations._texts import Unjudged
from guardreasoner_integrations.litellm._inputs import answers_in, replace_inputs, requests_in
from guardreasoner_integrations.litellm._pieces import Problem, StreamPieces
from guardreasoner_integrations.litellm._refusals import refusal_of
from guardreasoner_integrations.litellm._requests import asked_by, exchanges_of
from guardreasoner_integrations.litellm._responses import replace_texts, texts_of
from guardreasoner_sdk import (
    BlockedError,
    ConfigurationError,
    Exchange,
    Guard,
    GuardError,
    InputError,
    Policy,
    VerdictError,
)
from guardreasoner_sdk.blocking import BlockRule
from guardreasoner_sdk.exchange import has_visible_text
from guardreasoner_sdk.judges.base import sees_images
from guardreasoner_sdk.streaming import AsyncGuardedStream, StreamOptions
from guardreasoner_sdk.verdict import decisive

__all__ = ["GuardReasonerGuardrail"]

_ANSWERED = "guardreasoner_answered"
# Where they are not in the class of the guardrail itself, some parts of litellm treat them as missing, and pass it over. Older
# versions would leave the hooks alone for apply_guardrail, which cannot hold a stream back: they get it by inheritance only.
_IN_THE_CLASS = ["async_post_call_streaming_iterator_hook"]
if hasattr(CustomGuardrail, "use_native_lifecycle_hooks"):
    _IN_THE_CLASS.append("apply_guardrail")
_HOOKS = [GuardrailEventHooks.pre_call, GuardrailEventHooks.during_call, GuardrailEventHooks.post_call]


class _Applicable(CustomGuardrail):
    """What can be asked about texts outside of a call of a model, at ``/guardrails/apply_guardrail`` and elsewhere."""

    guard: Guard
    _rule: BlockRule
    _unjudged: Unjudged
    _skipped: frozenset[str]

    use_native_lifecycle_hooks: ClassVar[bool] = True
    """For litellm: in a call of a model, the hooks judge."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name in _IN_THE_CLASS:
            if name not in vars(cls):
                setattr(cls, name, getattr(cls, name))

    async def apply_guardrail(
        self,
        inputs: Any,
        request_data: dict[str, Any],
        input_type: Literal["request", "response"],
        logging_obj: Any = None,
    ) -> Any:
        """Judge texts that somebody else took out of a call, or that belong to none; whatever ``default_on`` says.

        Args:
            inputs: litellm's ``GenericGuardrailAPIInputs``: ``texts``, ``tool_calls``, ``structured_messages`` and ``images``.
                Definitions of tools are not judged.
            request_data: the call; its ``messages`` (``input``, ``prompt``) are what stands before the texts.
            input_type: ``request``: the texts are prompts; ``response``: they answer what the call asks.
            logging_obj: litellm's, which names the type of the call.

        Returns:
            the inputs as they are; of a blocked response, where blocks are messages, with the message in place of each text.

        Raises:
            BlockedError, UndeterminedError, InputError: as the hooks do outside of the proxy, each with a ``status_code``.
        """
        if _call_type({"litellm_logging_obj": logging_obj}) in self._skipped:
            return inputs
        try:
            found = requests_in if input_type == "request" else answers_in
            await self._judge(found(inputs, request_data, self._unjudged))
        except GuardError as error:
            message = self._rule.message_for(error) if input_type == "response" else None
            if message is None:
                raise refusal_of(error, self.guardrail_name, _problem(error).status) from error
            return replace_inputs(inputs, message)
        return inputs

    async def _judge(self, exchanges: list[Exchange]) -> None:
        verdict = decisive(await self.guard.acheck_many(exchanges))
        if verdict is not None:
            verdict.raise_for_block()


class GuardReasonerGuardrail(_Applicable):
    """Judges requests before (``pre_call``) or beside (``during_call``) the call, and answers after it (``post_call``).

    In the proxy's ``config.yaml``: ``guardrail: guardreasoner_integrations.litellm.GuardReasonerGuardrail``; what stands
    beside it under ``litellm_params`` arrives here. Streams are held back up to what was judged. A block is an HTTP 400, a
    failure to decide an HTTP 503, each with ``{"error": {"type": ..., "message": ..., "reasons": [...]}}``; outside the proxy
    they are :class:`~guardreasoner_sdk.BlockedError` and :class:`~guardreasoner_sdk.UndeterminedError`.

    Args:
        guardrail_name: its name in requests.
        guard: a guard of the application's; else one is made of the options that follow.
        model, backend, base_url, api_key, dialect, policy_text, request, options, screen, reasoning, timeout: as for
            :class:`guardreasoner_sdk.Guard`; ``api_base`` is another name of ``base_url``. Default: the embedded guard.
        policy: the guard's policy, or its fields: ``{"block": ["harmful_prompt"], "on_block": "message"}``.
        on_block: ``"raise"``, or ``"message"``: the policy's message as the model's answer. Default: as the policy says.
        unjudged: what to do about images, sound and files, which this guard cannot judge: ``"raise"``, or ``"allow"``.
        window: most characters of a stream between two checks.
        skip_call_types: litellm's names of the calls to let through unjudged, such as ``aembedding``. Every other call that
            holds nothing to read is refused.
        event_hook: ``mode`` in the YAML: one or several of ``pre_call``, ``during_call`` and ``post_call``; None: all.
        default_on: whether requests that do not name it are judged.
        rest: other options of litellm's guardrails.

    Raises:
        ConfigurationError: options that cannot work.
        ValueError: a mode that is not supported.

    Example:
        >>> import asyncio, litellm
        >>> from guardreasoner_integrations.litellm import GuardReasonerGuardrail
        >>> from guardreasoner_sdk import Guard
        >>> stages = ["pre_call", "post_call"]
        >>> litellm.callbacks = [GuardReasonerGuardrail("guardreasoner", guard=Guard(), event_hook=stages, default_on=True)]
        >>> cat = [{"role": "user", "content": "What is a good name for a cat?"}]
        >>> answer = asyncio.run(litellm.acompletion("gpt-4o-mini", messages=cat, mock_response="Call her Miso."))
        >>> answer.choices[0].message.content
        'Call her Miso.'
    """

    def __init__(  # noqa: PLR0913 - the keys of a proxy's configuration are its arguments
        self,
        guardrail_name: str | None = None,
        *,
        guard: Guard | None = None,
        model: str | None = None,
        backend: str | None = None,
        base_url: str | None = None,
        api_base: str | None = None,
        api_key: str | None = None,
        dialect: str | None = None,
        policy_text: str | None = None,
        request: str | None = None,
        options: Mapping[str, Any] | None = None,
        screen: str | None = None,
        reasoning: Literal["auto", "full", "brief", "off"] | None = None,
        timeout: float | None = None,
        policy: Policy | Mapping[str, Any] | None = None,
        on_block: Literal["raise", "message"] | None = None,
        unjudged: Unjudged = "raise",
        window: int = 200,
        skip_call_types: Collection[str] = (),
        event_hook: Any = None,
        default_on: bool = False,
        **rest: Any,
    ) -> None:
        given: dict[str, Any] = {
            "model": model,
            "backend": backend,
            "base_url": base_url or api_base,
            "api_key": api_key,
            "dialect": dialect,
            "policy_text": policy_text,
            "request": request,
            "options": options,
            "screen": screen,
            "reasoning": reasoning,
            "timeout": timeout,
            "policy": policy,
        }
        options_given = {name: value for name, value in given.items() if value is not None}
        if guard is not None and options_given:
            raise ConfigurationError(f"guard: pass either a guard or {', '.join(options_given)}")
        if guard is not None:
            check_guard(guard)
        if isinstance(skip_call_types, str) or not isinstance(skip_call_types, Collection):
            raise ConfigurationError("skip_call_types: pass a list, for example ['aembedding']")
        self.guard = Guard(**options_given) if guard is None else guard
        self._rule = BlockRule(self.guard, on_block, functions=False)
        if unjudged not in ("raise", "allow"):
            raise ConfigurationError(f"unjudged: must be 'raise' or 'allow', not {unjudged!r}")
        self._unjudged: Unjudged = unjudged
        self._options = StreamOptions(window=window)
        self._skipped = frozenset(skip_call_types)
        rest.setdefault("supported_event_hooks", _HOOKS)
        super().__init__(guardrail_name=guardrail_name, event_hook=event_hook, default_on=default_on, **rest)

    async def async_pre_call_hook(self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: str) -> Any:
        """Judge a request before it is sent on."""
        await self._judge_request(data, call_type)
        return data

    async def async_moderation_hook(self, data: dict[str, Any], user_api_key_dict: Any, call_type: str) -> Any:
        """Judge a request while it is sent on; the answer waits for the verdict."""
        await self._judge_request(data, call_type)
        return data

    async def async_post_call_success_hook(self, data: dict[str, Any], user_api_key_dict: Any, response: Any) -> Any:
        """Judge an answer."""
        if _call_type(data) in self._skipped:
            return response
        try:
            texts = [text for text in texts_of(response, self._unjudged).values() if has_visible_text(text)]
            if texts:
                asked = self._asked(data)
                await self._judge([asked.with_response(text) for text in texts])
        except VerdictError as error:
            message = self._rule.message_for(error)
            if message is not None:
                return replace_texts(response, message)
            raise _refusal(error, data, self.guardrail_name) from error
        except GuardError as error:
            raise _refusal(error, data, self.guardrail_name) from error
        return response

    async def async_post_call_streaming_iterator_hook(
        self, user_api_key_dict: Any, response: Any, request_data: dict[str, Any]
    ) -> AsyncGenerator[Any, None]:
        """Hold a streamed answer back up to what was judged."""
        if _call_type(request_data) in self._skipped or isinstance(request_data.get(_ANSWERED), _Answered):
            async for piece in response:
                yield piece
            return
        pieces = StreamPieces(response, self._unjudged)
        begun = False
        try:
            asked = self._asked(request_data)
            stream = AsyncGuardedStream(self.guard, asked, pieces, self._options, text=pieces.texts, on_block="raise")
            async with stream:
                async for piece in stream:
                    begun = True
                    yield piece
        except GuardError as error:
            last = pieces.last(self._rule.message_for(error), _problem(error), begun=begun)
            if last is None:
                raise _refusal(error, request_data, self.guardrail_name) from error
            yield last

    async def async_pre_call_deployment_hook(self, kwargs: dict[str, Any], call_type: Any) -> Any:
        """Judge a call of ``litellm.acompletion``; the proxy has hooks of its own.

        Raises:
            ConfigurationError: the answer is to be judged and the call streams it: litellm has no hook for that here.
        """
        if _proxied(kwargs):
            return await super().async_pre_call_deployment_hook(kwargs, call_type)
        if kwargs.get("stream") and self.should_run_guardrail(data=kwargs, event_type=GuardrailEventHooks.post_call):
            error = ConfigurationError("stream: litellm judges no streams outside its proxy; wrap the stream in guard.astream")
            raise _refusal(error, kwargs, self.guardrail_name)
        before = (GuardrailEventHooks.pre_call, GuardrailEventHooks.during_call)
        if any(self.should_run_guardrail(data=kwargs, event_type=hook) for hook in before):
            await self._judge_request(kwargs, getattr(call_type, "value", call_type))
        return kwargs

    async def async_post_call_success_deployment_hook(self, request_data: dict[str, Any], response: Any, call_type: Any) -> Any:
        """Judge an answer of ``litellm.acompletion``; the proxy has hooks of its own."""
        if _proxied(request_data):
            return await super().async_post_call_success_deployment_hook(request_data, response, call_type)
        if not self.should_run_guardrail(data=request_data, event_type=GuardrailEventHooks.post_call):
            return None
        return await self.async_post_call_success_hook(request_data, None, response)

    def _asked(self, data: Mapping[str, Any]) -> Exchange:
        """What an answer is the answer to; several prompts of one request count as one."""
        return asked_by(exchanges_of(data, self._unjudged, images=sees_images(self.guard.judge)))

    async def _judge_request(self, data: dict[str, Any], call_type: str | None) -> None:
        if call_type in self._skipped or not self.guard.policy.blocks_prompts:
            return
        try:
            await self._judge(exchanges_of(data, self._unjudged, images=sees_images(self.guard.judge)))
        except VerdictError as error:
            message = self._rule.message_for(error)
            if message is not None and _proxied(data):
                data[_ANSWERED] = _Answered(self.guardrail_name)
                self.raise_passthrough_exception(message, data)
            raise _refusal(error, data, self.guardrail_name) from error
        except GuardError as error:
            raise _refusal(error, data, self.guardrail_name) from error


def _proxied(data: Mapping[str, Any]) -> bool:
    """Whether the proxy carries the call, and not an application that called ``litellm.acompletion``."""
    return "proxy_server_request" in data


def _call_type(data: Mapping[str, Any]) -> str | None:
    return getattr(data.get("litellm_logging_obj"), "call_type", None)


def _refusal(error: GuardError, data: Mapping[str, Any], guardrail_name: str | None) -> Exception:
    """What is raised for a block: what the proxy makes an HTTP error of; the error itself outside of it."""
    if not _proxied(data):
        # Also where the guard failed: at 500 and above litellm's Router would let the model rest for it.
        return refusal_of(error, guardrail_name, 400)
    from fastapi import HTTPException  # the proxy is made of it; outside the proxy it need not be installed

    problem = _problem(error)
    refusal: Exception = HTTPException(problem.status, detail={"error": problem.body})
    return refusal


def _problem(error: GuardError) -> Problem:
    """What the client of the proxy is told of a block."""
    reasons: tuple[str, ...] = ()
    if isinstance(error, BlockedError):
        status, kind, message, reasons = 400, "blocked", "The guard blocked this.", error.verdict.reasons
    elif isinstance(error, InputError):
        status, kind, message = 400, "invalid_request", str(error)
    else:
        status, kind, message = 503, "undetermined", "This could not be checked. Please try again later."
        reasons = error.verdict.reasons if isinstance(error, VerdictError) else (f"the guard failed: {type(error).__name__}",)
    return Problem(status, {"type": kind, "message": message, "reasons": list(reasons)})


class _Answered(str):
    """Marks a request that was answered with the policy's message; no client can send one."""
