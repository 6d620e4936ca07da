"""``GuardMiddleware``: a guard around the model and the tools of a LangChain agent."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired, TypeVar

from langchain.agents.middleware import AgentMiddleware, AgentState, ModelRequest, ModelResponse, hook_config
from langchain.agents.middleware.types import PrivateStateAttr
from langchain.agents.structured_output import StructuredOutputError
from langchain_core.messages import AIMessage, BaseMessage, RemoveMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config, merge_configs, set_config_context

from guardreasoner_integrations._guards import check_guard
from guardreasoner_integrations.langchain._blocks import Block, block_by, block_of, end_run, replace_answer, replace_message
from guardreasoner_integrations.langchain._messages import from_human, is_removed, turn_at
from guardreasoner_integrations.langchain._questions import (
    ModelAnswer,
    Question,
    Stage,
    Steps,
    answer_of,
    arun_steps,
    blocks,
    entry_of,
    prompt_of,
    run_steps,
    should_check,
)
from guardreasoner_integrations.langchain._tool_results import each_message
from guardreasoner_sdk import ConfigurationError, Guard, Verdict

if TYPE_CHECKING:
    from langchain.agents.middleware import ToolCallRequest
    from langgraph.runtime import Runtime
    from langgraph.types import Command

__all__ = ["GuardMiddleware"]

T = TypeVar("T")


class GuardMiddlewareState(AgentState[Any]):
    """The agent's state, and what the guard remembers in it.

    Args:
        guardreasoner: by the instance's name and the message's id, the verdict (without the reasoning and what the model
            wrote, which may quote the text) and a digest of what was judged. Private: no input sets it,
            and what ``invoke`` returns does not hold it.
    """

    guardreasoner: NotRequired[Annotated[dict[str, dict[str, Any]], PrivateStateAttr]]


class GuardMiddleware(AgentMiddleware[GuardMiddlewareState, Any]):
    """Judges what goes into an agent's model and what comes out of it, and keeps what is blocked out of the agent's state.

    Put it first in ``middleware=[...]``: what stands after it then sees only what was judged, and what it judges is final.

    Args:
        guard: who judges, and by its policy decides.
        check_input: judge human messages, each once. None: where the policy can block a prompt.
        check_output: judge what the model says. None: where the policy can block a response.
        check_tool_args: judge what the model hands to tools, as a response, before they run.
        check_tool_results: judge what tools return, as a prompt, before the model reads it.
        exit_behavior: what a block does: ``"end"`` ends the run with ``message``, ``"replace"`` puts a placeholder in place
            of a human message or tool result and goes on, ``"error"`` raises.
        message: what the agent says in place of what is blocked. None: the policy's message.
        streaming: ``"withhold"`` shows nothing of the model's message in a stream before it was judged; ``"pass"`` shows
            tokens as they come, and a block only keeps them out of the state.
        name: the instance's name; two instances in one agent need two names.

    Raises:
        ConfigurationError: arguments that cannot work, or a check that the guard's policy can never block by.

    Example:
        >>> from langchain.agents import create_agent
        >>> from langchain_core.language_models.fake_chat_models import FakeMessagesListChatModel
        >>> from langchain_core.messages import AIMessage
        >>> from guardreasoner_integrations.langchain import GuardMiddleware
        >>> from guardreasoner_sdk import Guard
        >>> model = FakeMessagesListChatModel(responses=[AIMessage("Call her Miso.")])  # yours
        >>> agent = create_agent(model, middleware=[GuardMiddleware(Guard())])
        >>> result = agent.invoke({"messages": [("user", "What is a good name for a cat?")]})
        >>> print(result["messages"][-1].text)
        Call her Miso.
    """

    state_schema = GuardMiddlewareState

    def __init__(
        self,
        guard: Guard,
        *,
        check_input: bool | None = None,
        check_output: bool | None = None,
        check_tool_args: bool = False,
        check_tool_results: bool = False,
        exit_behavior: Literal["end", "replace", "error"] = "end",
        message: str | None = None,
        streaming: Literal["withhold", "pass"] = "withhold",
        name: str | None = None,
    ) -> None:
        check_guard(guard)
        if exit_behavior not in ("end", "replace", "error"):
            raise ConfigurationError(f"exit_behavior: must be 'end', 'replace' or 'error', not {exit_behavior!r}")
        if streaming not in ("withhold", "pass"):
            raise ConfigurationError(f"streaming: must be 'withhold' or 'pass', not {streaming!r}")
        self.guard = guard
        self.check_input = should_check(guard.policy, "check_input", check_input, response=False)
        self.check_output = should_check(guard.policy, "check_output", check_output, response=True)
        self.check_tool_results = should_check(guard.policy, "check_tool_results", check_tool_results, response=False)
        self.check_tool_args = should_check(guard.policy, "check_tool_args", check_tool_args, response=True)
        if not (self.check_input or self.check_output or self.check_tool_results or self.check_tool_args):
            raise ConfigurationError("check_input: every check is off; turn one on, or leave the middleware out")
        self.exit_behavior = exit_behavior
        self.message = guard.policy.message if message is None else message
        self.streaming = streaming
        self._name = type(self).__name__ if name is None else name

    @property
    def name(self) -> str:
        """The instance's name in the agent's graph."""
        return self._name

    @hook_config(can_jump_to=["end"])
    def before_model(self, state: GuardMiddlewareState, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """Judge the human messages that were not judged yet; end the run where a tool result was blocked."""
        return run_steps(self.guard, self._entering(state))

    @hook_config(can_jump_to=["end"])
    async def abefore_model(self, state: GuardMiddlewareState, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """:meth:`before_model` for asyncio."""
        return await arun_steps(self.guard, self._entering(state))

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """Judge what the model says and hands to tools before it enters the state."""
        if not (self.check_output or self.check_tool_args):
            return handler(request)
        failure: StructuredOutputError | None = None
        try:
            if self.streaming == "pass":
                response = handler(request)
            else:
                with set_config_context(_quiet()) as context:
                    response = context.run(handler, request)
        except StructuredOutputError as error:
            failure, response = error, ModelResponse(result=[error.ai_message])
        return run_steps(self.guard, self._leaving(request, response, failure))

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelResponse[Any]:
        """:meth:`wrap_model_call` for asyncio."""
        if not (self.check_output or self.check_tool_args):
            return await handler(request)
        failure: StructuredOutputError | None = None
        try:
            if self.streaming == "pass":
                response = await handler(request)
            else:
                with set_config_context(_quiet()) as context:
                    response = await asyncio.create_task(_awaited(handler, request), context=context)
        except StructuredOutputError as error:
            failure, response = error, ModelResponse(result=[error.ai_message])
        return await arun_steps(self.guard, self._leaving(request, response, failure))

    def wrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], ToolMessage | Command[Any]]
    ) -> ToolMessage | Command[Any]:
        """Judge what a tool returns before it enters the state."""
        result = handler(request)
        return run_steps(self.guard, self._returning(request, result)) if self.check_tool_results else result

    async def awrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Awaitable[ToolMessage | Command[Any]]]
    ) -> ToolMessage | Command[Any]:
        """:meth:`wrap_tool_call` for asyncio."""
        result = await handler(request)
        return await arun_steps(self.guard, self._returning(request, result)) if self.check_tool_results else result

    def _entering(self, state: GuardMiddlewareState) -> Steps[dict[str, Any] | None]:
        messages: list[BaseMessage] = list(state["messages"])
        stop = self._blocked_result(messages)
        if stop is not None:
            return self._end({}, stop)
        update: dict[str, Any] = {}
        if messages and from_human(messages[-1]) and state.get("structured_response") is not None:
            update["structured_response"] = None  # An earlier run's answer; after a block it would pass for this one's.
        remembered = state.get("guardreasoner") or {}
        known = remembered.get(self.name, {})
        humans = [place for place, message in enumerate(messages) if from_human(message) and not is_removed(message)]
        fresh = [at for at in humans if known.get(str(messages[at].id), {}).get("digest") != _digest(messages, at)]
        if not self.check_input or not fresh:
            return update or None
        verdicts: dict[int, Verdict | None] = {}
        redacted: list[BaseMessage] = []

        def remove(place: int, block: Block) -> None:
            for at in turn_at(messages, place):
                messages[at] = replace_message(messages[at], block)
                redacted.append(messages[at])

        # What was said earlier and is not judged yet (a block may have raised before it could be taken out of the state) is
        # judged first, so that nothing is judged together with what is blocked. It ends nothing: it is removed.
        last = humans[-1]
        earlier = [place for place in fresh if place != last]
        while earlier:
            ready = [place for place in earlier if not {*turn_at(messages, place)[:-1]} & {*earlier}]
            found = yield [Question(prompt_of(_without(messages, place, earlier))) for place in ready]
            for place, verdict in zip(ready, found, strict=True):
                verdicts[place] = verdict
                if blocks(verdict):
                    remove(place, block_by(self.name, "input", verdict))
            earlier = [place for place in earlier if place not in ready]
        if last in fresh:
            [verdicts[last]] = yield [Question(prompt_of(messages[: last + 1]))]
            stop = self._stop("input", verdicts[last])
            if stop is not None:
                remove(last, stop)
        memory = {key: known[key] for message in messages if (key := str(message.id)) in known}
        for place, verdict in verdicts.items():
            if verdict is not None:
                dump = verdict.model_dump(mode="json", exclude={"raw", "reasoning"})
                memory[str(messages[place].id)] = {"digest": _digest(messages, place), "verdict": dump}
        update["guardreasoner"] = {**remembered, self.name: memory}
        if redacted:
            update["messages"] = redacted
        return update if stop is None or self.exit_behavior == "replace" else self._end(update, stop)

    def _leaving(
        self, request: ModelRequest[Any], response: ModelResponse[Any], failure: StructuredOutputError | None
    ) -> Steps[ModelResponse[Any]]:
        prompt = prompt_of(request.messages)
        own = [message for message in response.result if isinstance(message, AIMessage)]
        answered = {getattr(message, "tool_call_id", None) for message in response.result} - {None}
        answers: dict[Stage, ModelAnswer] = {}
        if self.check_output:
            answers["output"] = answer_of(own, answered=answered)  # The calls that are answered already: a structured answer.
        if self.check_tool_args or failure is not None:
            answers["tool_args"] = answer_of(own, text=False)
        verdicts = yield [Question(prompt, answer) for answer in answers.values()]
        for stage, verdict in zip(answers, verdicts, strict=True):
            block = self._stop(stage, verdict)
            if block is not None:
                return replace(
                    response, result=[replace_answer(response.result, self.message, block)], structured_response=None
                )
        if failure is not None:
            raise failure
        return response

    def _returning(self, request: ToolCallRequest, result: T) -> Steps[T]:
        before: list[BaseMessage] = list(request.state["messages"])
        # A command may carry the conversation so far, which is no tool's.
        known = {message.id: message for message in before}
        new: list[BaseMessage] = []

        def note(message: BaseMessage) -> BaseMessage:
            if not isinstance(message, RemoveMessage) and (message.id is None or known.get(message.id) != message):
                new.append(message)
            return message

        read = each_message(result, note)
        verdicts = yield [Question(entry_of(message, before)) for message in new]
        blocked: dict[int, BaseMessage] = {}
        for message, verdict in zip(new, verdicts, strict=True):
            block = self._stop("tool_result", verdict)
            if block is not None:
                blocked[id(message)] = replace_message(message, block)
        # The very result where nothing is blocked.
        return each_message(read, lambda message: blocked.get(id(message), message)) if blocked else result

    def _blocked_result(self, messages: Sequence[BaseMessage]) -> Block | None:
        """Why a result of the last tool calls was blocked, where that ends the run: the tools cannot, only the next hook."""
        if self.exit_behavior == "end":
            for message in reversed(messages):
                block = block_of(message)
                if block is not None and block.get("guard") == self.name and block.get("stage") == "tool_result":
                    return block
                if not isinstance(message, ToolMessage):
                    return None
        return None

    def _end(self, update: dict[str, Any], block: Block) -> dict[str, Any]:
        return {**update, "messages": [*update.get("messages", []), end_run(self.message, block)], "jump_to": "end"}

    def _stop(self, stage: Stage, verdict: Verdict | None) -> Block | None:
        """Why something is blocked, if it is; raises where the exit behaviour or the policy wants that."""
        if not blocks(verdict):
            return None
        if self.exit_behavior == "error" or self.guard.policy.insists(verdict):
            verdict.raise_for_block()
        return block_by(self.name, stage, verdict)


def _without(messages: Sequence[BaseMessage], place: int, unjudged: Sequence[int]) -> list[BaseMessage]:
    """The conversation as far as a place, without what else was not judged yet."""
    return [message for at, message in enumerate(messages[: place + 1]) if at == place or at not in unjudged]


def _digest(messages: Sequence[BaseMessage], place: int) -> str:
    """What was judged, so that another text under the same id is judged again."""
    turn = [messages[at].model_dump(exclude={"id", "response_metadata"}) for at in turn_at(messages, place)]
    return hashlib.sha256(json.dumps(turn, sort_keys=True, default=repr).encode()).hexdigest()


def _quiet() -> RunnableConfig:
    """The current configuration with the tag by which LangGraph leaves a model's tokens out of its streams.

    It is not put on the model: a copy of a model is another model where it counts its calls, and a binding cannot bind tools.
    """
    return merge_configs(ensure_config(), {"tags": ["nostream"]})


async def _awaited(
    handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]], request: ModelRequest[Any]
) -> ModelResponse[Any]:
    return await handler(request)
