"""A chat model and a guard that say what they are told."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import pytest

from guardreasoner_sdk import Exchange, Guard, Judgement, Policy
from guardreasoner_sdk.testing import ScriptedJudge, judgement


def by_words(exchange: Exchange) -> Judgement:
    """Harmful is what says "poison"; undecided what says "riddle"."""

    def label(text: str) -> Any:
        return "harmful" if "poison" in text else "undetermined" if "riddle" in text else "unharmful"

    if exchange.response is None:
        return judgement(label(exchange.prompt))
    refusal = "refusal" if exchange.response.startswith("I'm sorry") else "compliance"
    return judgement(label(exchange.prompt), refusal, label(exchange.response))


@pytest.fixture
def judge() -> ScriptedJudge:
    return ScriptedJudge(by_words)


@pytest.fixture
def guard(judge: ScriptedJudge) -> Iterator[Guard]:
    with Guard(judge=judge) as made:
        yield made


@pytest.fixture
def polite(judge: ScriptedJudge) -> Iterator[Guard]:
    """A guard whose policy answers in place of what it blocks."""
    with Guard(judge=judge, policy=Policy(on_block="message")) as made:
        yield made


@pytest.fixture(scope="session")
def scripted_chat() -> Any:
    """A class of chat models: ``scripted_chat(answers=["a str", AIMessage(...), ValueError()])``.

    Made here, and not at import, so that this file can be read where LangChain is not installed.
    """
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
    from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
    from langchain_core.runnables import Runnable
    from pydantic import Field

    class ScriptedChat(BaseChatModel):
        """Gives its answers in turn, from the first again in every conversation, and streams them by words.

        The turn is the number of the model's messages since the last human one, so that threads and batches do not mix.
        """

        answers: list[Any]
        asked: list[list[BaseMessage]] = Field(default_factory=list)

        @property
        def _llm_type(self) -> str:
            return "scripted"

        def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, Any]:
            return self.bind()

        def _answer(self, messages: list[BaseMessage]) -> AIMessage:
            self.asked.append(list(messages))
            last = max(place for place, message in enumerate(messages) if isinstance(message, HumanMessage))
            answer = self.answers[sum(isinstance(message, AIMessage) for message in messages[last:])]
            if isinstance(answer, Exception):
                raise answer
            return AIMessage(answer) if isinstance(answer, str) else answer.model_copy()

        def _chunks(self, messages: list[BaseMessage]) -> list[ChatGenerationChunk]:
            answer = self._answer(messages)
            calls = [
                {"name": call["name"], "args": json.dumps(call["args"]), "id": call["id"], "index": index}
                for index, call in enumerate(answer.tool_calls)
            ]
            words = answer.content.split(" ") if isinstance(answer.content, str) else [answer.content]
            spaced = [f"{word} " if isinstance(word, str) else word for word in words[:-1]] + words[-1:]
            said = [AIMessageChunk(word, id=answer.id) for word in spaced]
            last = AIMessageChunk("", id=answer.id, tool_call_chunks=calls, chunk_position="last")
            last.additional_kwargs = answer.additional_kwargs
            return [ChatGenerationChunk(message=message) for message in [*said, last]]

        def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
            return ChatResult(generations=[ChatGeneration(message=self._answer(messages))])

        def _stream(
            self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
        ) -> Iterator[ChatGenerationChunk]:
            for chunk in self._chunks(messages):
                if run_manager is not None:
                    run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk

        async def _agenerate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
            await asyncio.sleep(0)
            return self._generate(messages)

        async def _astream(
            self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
        ) -> AsyncIterator[ChatGenerationChunk]:
            for chunk in self._chunks(messages):
                await asyncio.sleep(0)
                if run_manager is not None:
                    await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk

    return ScriptedChat


@pytest.fixture
def agent_of(guard: Guard, scripted_chat: Any) -> Any:
    """Makes agents with a checkpointer and one middleware: ``agent_of("an answer", check_input=False)``."""
    from langchain.agents import create_agent
    from langgraph.checkpoint.memory import InMemorySaver

    from guardreasoner_integrations.langchain import GuardMiddleware

    def look_up(what: str) -> str:
        """Look something up."""
        return f"all about {what}"

    def make(
        *answers: Any,
        tools: Any = (look_up,),
        guard: Guard = guard,
        saver: Any = None,
        response_format: Any = None,
        **options: Any,
    ) -> Any:
        chat = scripted_chat(answers=list(answers))
        agent = create_agent(
            chat,
            list(tools),
            middleware=[GuardMiddleware(guard, **options)],
            checkpointer=saver or InMemorySaver(),
            response_format=response_format,
        )
        agent.chat = chat
        return agent

    return make
