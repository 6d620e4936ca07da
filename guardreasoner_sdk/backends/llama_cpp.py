"""Runs a model by llama.cpp, in this process: GGUF files, on laptops and other machines without a large GPU."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from guardreasoner_sdk._cpus import usable_cpus
from guardreasoner_sdk.backends._engine_thread import EngineThread
from guardreasoner_sdk.backends._llama_engine import LlamaEngine
from guardreasoner_sdk.backends.options import LlamaCpp
from guardreasoner_sdk.errors import BackendError, MissingExtraError
from guardreasoner_sdk.generation import Capabilities, Completion, Query

__all__ = ["LlamaCppBackend"]


class LlamaCppBackend:
    """Runs a language model by llama-cpp-python, one query at a time.

    What a prompt has in common with the one before it is not computed again: the instruction only once, and a question about
    an answer just given costs a token. So that this holds when many ask at a time, a task that goes on with its prompt comes
    before the others that wait.

    Args:
        weights: a GGUF file, or ``repository:file.gguf`` on the hub.
        name: the model's name, for the verdict; default: ``weights``.
        options: :class:`~guardreasoner_sdk.backends.options.LlamaCpp`.
        fields: the same, one by one.

    Raises:
        MissingExtraError: llama-cpp-python is not installed.
        ConfigurationError: an option that cannot be.
    """

    name = "llama_cpp"
    capabilities = Capabilities(continues=True, probes=True)
    # Each exchange finds the engine's cache as it left it; the next ones wait in the guard.
    batch_size = 1

    def __init__(
        self,
        weights: str,
        *,
        name: str | None = None,
        options: LlamaCpp | None = None,
        **fields: Any,
    ) -> None:
        if importlib.util.find_spec("llama_cpp") is None:
            raise MissingExtraError("llama-cpp", "Guards run by llama.cpp")
        options = LlamaCpp.of(fields) if options is None else options
        self.model = weights if name is None else name
        self._weights = weights
        self._options: dict[str, Any] = {
            "context": options.context,
            "n_gpu_layers": options.n_gpu_layers,
            "threads": usable_cpus() if options.threads is None else options.threads,
            "n_batch": options.n_batch,
        }
        self._thread = EngineThread(self._load, LlamaEngine.answer, batch=1, name="guardreasoner-llama-cpp")
        self._turns = _Turns(None)

    async def generate(self, queries: Sequence[Query], *, deadline: float | None) -> list[Completion | BackendError]:
        """Answer the queries one after another.

        Args:
            queries: what is asked; the answers come in the same order.
            deadline: time on ``time.monotonic()``, in seconds, after which nobody waits any more; None for no limit.

        Raises:
            ConfigurationError: llama.cpp cannot run these weights.
            ClosedError: the backend was closed.
        """
        here = asyncio.get_running_loop()
        if self._turns.home is not here:
            # Of another loop, as in a forked child.
            self._turns = _Turns(here)
        # Of several questions about one answer the farthest comes first: the cache then only has to be cut back.
        order = sorted(range(len(queries)), key=lambda number: -len(queries[number].continuation))
        async with self._turns.taken([(query.pieces, query.messages) for query in queries[:1]]):
            answers = await self._thread.answer([queries[number] for number in order], deadline)
        return [answer for _, answer in sorted(zip(order, answers, strict=True), key=lambda pair: pair[0])]

    async def load(self) -> None:
        """Load the model now, if it is not loaded yet.

        Raises:
            ConfigurationError: llama.cpp cannot run these weights.
            ClosedError: the backend was closed.
        """
        await self._thread.load()

    async def aclose(self) -> None:
        """Free the model. What is under way and what waits fails."""
        await self._thread.aclose()

    def _load(self) -> LlamaEngine:
        from guardreasoner_sdk.backends._weights import gguf_of

        return LlamaEngine(gguf_of(self._weights), **self._options)


class _Turns:
    """Lets callers in one at a time: first the one that goes on with its prompt, then the one that has waited longest.

    Args:
        home: the event loop of the callers; another one needs turns of its own.
    """

    def __init__(self, home: asyncio.AbstractEventLoop | None) -> None:
        self.home = home
        self._busy = False
        self._last: Any = None
        self._waiting: list[tuple[Any, asyncio.Future[None]]] = []

    @asynccontextmanager
    async def taken(self, prompt: object) -> AsyncIterator[None]:
        """Wait for a turn, and have it for the time of the block."""
        caller = (asyncio.current_task(), prompt)
        if self._busy:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append((caller, turn))
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._next()
                raise
        self._busy = True
        try:
            yield
        finally:
            # Not at once: a task that goes on does so before the loop's next round.
            self._last = caller
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        self._waiting = [(caller, turn) for caller, turn in self._waiting if not turn.done()]
        self._busy = bool(self._waiting)
        if self._waiting:
            chosen = next((one for one in self._waiting if one[0] == self._last), self._waiting[0])
            self._waiting.remove(chosen)
            chosen[1].set_result(None)
