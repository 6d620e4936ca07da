"""A guard as a node of a LangGraph graph, and the router behind it.

::

    graph.add_node("guard", guard_node(guard))
    graph.add_conditional_edges("guard", guard_router("model"), ["model", END])
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NotRequired

# Before Python 3.12 pydantic, which may check a graph's state, takes no other.
from typing_extensions import TypedDict

from guardreasoner_sdk import ConfigurationError, Guard, Judgement, MissingExtraError, Verdict

try:
    from langchain_core.messages import AIMessage, BaseMessage, RemoveMessage, SystemMessage
    from langchain_core.runnables import Runnable, RunnableLambda
    from langgraph.graph import END, MessagesState
except ModuleNotFoundError as error:
    raise MissingExtraError("langchain", "LangGraph integrations") from error

from guardreasoner_integrations._guards import check_guard
from guardreasoner_integrations.langchain._blocks import Block, block_by, end_run, replace_answer, replace_message
from guardreasoner_integrations.langchain._messages import from_human, turn_at
from guardreasoner_integrations.langchain._questions import (
    Question,
    Steps,
    answer_of,
    arun_steps,
    blocks,
    prompt_of,
    run_steps,
)

__all__ = ["GuardState", "GuardVerdict", "guard_node", "guard_router"]

Stage = Literal["input", "output"]

_OUTCOMES: dict[str | None, Literal["allowed", "blocked", "undetermined"]] = {
    None: "allowed",
    "finding": "blocked",
    "failure": "undetermined",
}


class GuardVerdict(TypedDict):
    """A verdict as a graph's state keeps it: plain data for every checkpointer, without a word of what was judged.

    Args:
        stage: what was judged: ``input`` or ``output``.
        outcome: ``allowed``; ``blocked``: something was found; ``undetermined``: blocked because the guard could not decide.
        reasons: why the policy acted so.
        findings: the label of each task that was judged.
        scores: their scores, 0 to 1, where there are any.
        categories: hazard categories that the guard named.
        model: the guard's model.
        backend: what ran it.
        latency_ms: milliseconds that it took.
    """

    stage: Stage
    outcome: Literal["allowed", "blocked", "undetermined"]
    reasons: list[str]
    findings: dict[str, str]
    scores: dict[str, float]
    categories: list[str]
    model: str
    backend: str
    latency_ms: float


class GuardState(MessagesState):
    """A graph's state with messages and the last verdict on them. Any other state with these two keys does as well."""

    guard_verdict: NotRequired[GuardVerdict]


def guard_node(
    guard: Guard,
    *,
    stage: Stage = "input",
    messages_key: str = "messages",
    verdict_key: str = "guard_verdict",
    answer: bool = True,
    message: str | None = None,
) -> Runnable[Any, dict[str, Any]]:
    """A node that judges the last turn of a conversation, under every API of a graph, synchronous or not.

    It writes the verdict and, on a block, takes what was blocked out of the state: the messages of the turn are replaced under
    their ids. It never raises on a block, whatever the policy's ``on_block`` says: a graph that stops there would keep what
    was blocked in its checkpoint. Route by the verdict (:func:`guard_router`).

    Args:
        stage: ``input``: what the human said last; ``output``: what the assistant answered to it, tool calls included.
        messages_key: the state's key of the messages; their reducer must be ``add_messages``.
        verdict_key: the state's key that the verdict is written to, a :class:`GuardVerdict`.
        answer: on a blocked input, add the message as the assistant's answer.
        message: what the assistant says in place of what is blocked. None: the policy's message.

    Raises:
        ConfigurationError: an unknown stage; from the graph: a state without the messages, or whose messages have no ids.

    Example:
        >>> from langgraph.graph import END, START, StateGraph
        >>> from guardreasoner_integrations.langgraph import GuardState, guard_node, guard_router
        >>> from guardreasoner_sdk import Guard
        >>> graph = StateGraph(GuardState)
        >>> _ = graph.add_node("guard", guard_node(Guard()))
        >>> _ = graph.add_node("model", lambda state: {"messages": [("ai", "Call her Miso.")]})  # yours
        >>> _ = graph.add_edge(START, "guard")
        >>> _ = graph.add_conditional_edges("guard", guard_router("model"), ["model", END])
        >>> state = graph.compile().invoke({"messages": [("human", "What is a good name for a cat?")]})
        >>> print(state["messages"][-1].text, state["guard_verdict"]["outcome"])
        Call her Miso. allowed
    """
    check_guard(guard)
    if stage not in ("input", "output"):
        raise ConfigurationError(f"stage: must be 'input' or 'output', not {stage!r}")
    name = f"guard_{stage}"
    said = guard.policy.message if message is None else message

    def steps(state: Any) -> Steps[dict[str, Any]]:
        messages = _messages(state, messages_key)
        (verdict,) = yield [_question(messages, stage)]
        changes: dict[str, Any] = {verdict_key: _noted(verdict, stage)}
        if blocks(verdict):
            if any(message.id is None for message in messages):
                raise ConfigurationError("messages: they have no ids; give the state's messages the reducer add_messages")
            block = block_by(name, stage, verdict)
            if stage == "output":
                changes[messages_key] = _without_answer(guard, messages, said, block, verdict)
            else:
                changes[messages_key] = [*_without_prompt(messages, block), *([end_run(said, block)] if answer else [])]
        return changes

    def node(state: Any) -> dict[str, Any]:
        return run_steps(guard, steps(state))

    async def anode(state: Any) -> dict[str, Any]:
        return await arun_steps(guard, steps(state))

    return RunnableLambda(node, anode, name=name)


def guard_router(
    allowed: str, *, blocked: str = END, undetermined: str | None = None, verdict_key: str = "guard_verdict"
) -> Callable[[Any], str]:
    """Where to go from a :func:`guard_node`: the function for ``add_conditional_edges``.

    Args:
        blocked: the node after one in which something was found.
        undetermined: the node after one that the guard could not decide and the policy does not allow; default: as blocked.

    Raises:
        ConfigurationError: from the graph: the state holds no verdict. LangGraph drops what a node writes under a key that
            the state does not have, and a lost verdict allows nothing.

    Example:
        >>> from guardreasoner_integrations.langgraph import guard_node, guard_router
        >>> from guardreasoner_sdk import Guard
        >>> from langchain_core.messages import HumanMessage
        >>> state = {"messages": [HumanMessage("What is a good name for a cat?", id="1")]}
        >>> guard_router("model")(state | guard_node(Guard()).invoke(state))
        'model'
    """
    ways = {"allowed": allowed, "blocked": blocked, "undetermined": blocked if undetermined is None else undetermined}

    def route(state: Any) -> str:
        verdict = _get(state, verdict_key)
        if not isinstance(verdict, Mapping) or verdict.get("outcome") not in ways:
            raise ConfigurationError(
                f"{verdict_key}: the state holds no verdict; give it this key ({verdict_key}: GuardVerdict) "
                "and put the router behind a guard_node"
            )
        return ways[verdict["outcome"]]

    return route


def _get(state: Any, key: str) -> Any:
    return state.get(key) if isinstance(state, Mapping) else getattr(state, key, None)


def _messages(state: Any, key: str) -> list[BaseMessage]:
    messages = _get(state, key)
    if not isinstance(messages, list) or not all(isinstance(message, BaseMessage) for message in messages):
        raise ConfigurationError(f"{key}: the state holds no list of messages there; pass messages_key=...")
    return messages


def _prompt_end(messages: Sequence[BaseMessage]) -> int:
    """Where the prompt ends and the answer begins: behind the last human message."""
    return max((place + 1 for place, message in enumerate(messages) if from_human(message)), default=0)


def _question(messages: Sequence[BaseMessage], stage: Stage) -> Question:
    end = _prompt_end(messages)
    prompt = prompt_of(messages[:end])
    if stage == "input":
        return Question(prompt)
    return Question(prompt, answer_of([message for message in messages[end:] if isinstance(message, AIMessage)]))


def _without_prompt(messages: Sequence[BaseMessage], block: Block) -> list[BaseMessage]:
    """The human's last turn, every message of it, with nothing in it."""
    turn = [messages[place] for place in turn_at(messages, _prompt_end(messages) - 1)]
    return [replace_message(message, block) for message in turn]


def _without_answer(
    guard: Guard, messages: Sequence[BaseMessage], said: str, block: Block, verdict: Verdict
) -> list[BaseMessage]:
    """The message in place of the model's last; the rest of the answer is taken out of the state."""
    answer = [message for message in messages[_prompt_end(messages) :] if not isinstance(message, SystemMessage)]
    own = replace_answer(answer, said, block)
    changes = [*(RemoveMessage(id=str(message.id)) for message in answer if message.id != own.id), own]
    prompt = Judgement(prompt_harmfulness=verdict.prompt_harmfulness)
    if verdict.prompt_harmfulness is not None and guard.policy.decide(prompt, response=False).action != "allow":
        return [*_without_prompt(messages, block), *changes]
    return changes


def _noted(verdict: Verdict | None, stage: Stage) -> GuardVerdict:
    if verdict is None:
        return GuardVerdict(
            stage=stage,
            outcome="allowed",
            reasons=["there was no text to judge"],
            findings={},
            scores={},
            categories=[],
            model="",
            backend="",
            latency_ms=0.0,
        )
    return GuardVerdict(
        stage=stage,
        outcome=_OUTCOMES[verdict.blocked_by],
        reasons=list(verdict.reasons),
        findings={task: finding.label for task, finding in verdict.findings.items()},
        scores={task: finding.score for task, finding in verdict.findings.items() if finding.score is not None},
        categories=list(verdict.categories),
        model=verdict.model,
        backend=verdict.backend,
        latency_ms=verdict.latency_ms,
    )
