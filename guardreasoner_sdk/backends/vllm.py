"""Runs a model by vLLM, in this process's own engine: the fastest way where there is a GPU."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import math
import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from guardreasoner_sdk._deadline import Deadline
from guardreasoner_sdk._failures import config_errors
from guardreasoner_sdk.backends._results import sum_by_text, to_backend_error, too_long
from guardreasoner_sdk.backends.options import VLLM
from guardreasoner_sdk.errors import BackendError, ClosedError, ConfigurationError, DeadlineError, MissingExtraError
from guardreasoner_sdk.generation import Capabilities, Completion, Query, TokenProbabilities
from guardreasoner_sdk.verdict import Usage

if TYPE_CHECKING:
    from guardreasoner_sdk.backends._tokens import PromptEncoder

__all__ = ["VLLMBackend"]

logger = logging.getLogger("guardreasoner_sdk")

ENVIRONMENT = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
"""Set before vLLM is imported, where the user has not set them: vLLM reports its use to its makers by default."""

_GRACE = 20.0
"""Seconds for the engine's processes to end by themselves."""

_RESERVED = {
    "model": "pass it as weights",
    "tokenizer": "it belongs to the weights; put the right one into their folder",
    "enable_log_requests": "judged text is never logged",
}


class VLLMBackend:
    """Runs a language model by vLLM's asynchronous engine.

    Queries of all tasks go to the engine one by one, as they come; it batches them continuously, and keeps what prompts have
    in common (the instruction) in its prefix cache. The engine lives in processes of its own. It is started on first use,
    which takes from half a minute to several minutes. If it dies, the queries under way fail and the next call
    restarts it, unless it had not answered a single query since its start.

    Args:
        weights: a folder in the Hugging Face layout, or a name on the hub.
        name: the model's name, for the verdict; default: ``weights``.
        options: :class:`~guardreasoner_sdk.backends.options.VLLM`.
        fields: the same, one by one; what is none of them goes to vLLM's ``AsyncEngineArgs``.

    Raises:
        MissingExtraError: vLLM is not installed.
        ConfigurationError: an option that cannot be.
    """

    name = "vllm"
    capabilities = Capabilities(continues=True, probes=True, images=True)

    def __init__(
        self,
        weights: str,
        *,
        name: str | None = None,
        options: VLLM | None = None,
        **fields: Any,
    ) -> None:
        if importlib.util.find_spec("vllm") is None:
            raise MissingExtraError("vllm", "Guards run by vLLM")
        options = VLLM.of(fields) if options is None else options
        self.model = weights if name is None else name
        self.batch_size = options.batch_size
        self._weights = weights
        self._revision = options.revision
        self._options = {
            "enable_prefix_caching": True,
            "disable_log_stats": True,
            "use_tqdm_on_load": False,
            **options.engine,
            "dtype": options.dtype,
            "quantization": options.quantization,
            "tensor_parallel_size": options.tensor_parallel_size,
            "data_parallel_size": options.data_parallel_size,
            "gpu_memory_utilization": options.gpu_memory_utilization,
            "max_model_len": options.max_model_len,
        }
        self._process = os.getpid()
        self._loading: asyncio.Task[_Engine] | None = None
        self._closed = False

    async def generate(self, queries: Sequence[Query], *, deadline: float | None) -> list[Completion | BackendError]:
        """Answer the queries side by side, in order.

        Raises:
            ConfigurationError: vLLM cannot start with these weights and options, or this process was forked after it had.
            ClosedError: the backend was closed.
        """
        loading = self._engine()
        # wait() leaves the load alone when this caller's deadline passes or its task is cancelled: others wait for it too.
        await asyncio.wait({loading}, timeout=None if deadline is None else Deadline.of(deadline).remaining())
        if not loading.done():
            return [DeadlineError() for _ in queries]
        engine = loading.result()
        # In a thread: to encode a long batch takes a while, and the loop has other queries' answers to receive meanwhile.
        prompts = await asyncio.to_thread(lambda: [engine.encode(query) for query in queries])
        if self._closed:
            raise ClosedError("the guard was closed before it decided")
        answers = await asyncio.gather(
            *(engine.answer(query, prompt, deadline) for query, prompt in zip(queries, prompts, strict=True))
        )
        if self._closed and any(isinstance(answer, BackendError) for answer in answers):
            raise ClosedError("the guard was closed before it decided")
        return list(answers)

    async def load(self) -> None:
        """Start the engine now, if it is not running yet."""
        loading = self._engine()
        await asyncio.wait({loading})
        loading.result()

    async def aclose(self) -> None:
        """Stop the engine and wait for its processes to end. What is under way fails."""
        self._closed = True
        loading, self._loading = self._loading, None
        if loading is not None and self._process == os.getpid():
            await asyncio.wait({loading})
            if loading.exception() is None:
                await loading.result().stop()

    def _engine(self) -> asyncio.Task[_Engine]:
        """The start of the engine: done, under way, or begun now."""
        if self._closed:
            raise ClosedError("the engine is closed; make a new guard")
        if self._loading is None:
            self._process = os.getpid()
        elif self._process != os.getpid():
            raise ConfigurationError("vllm: the engine belongs to the parent process; fork before the first check")
        dead = None
        if self._loading is not None and self._loading.done():
            if self._loading.exception() is not None:
                self._loading = None
            elif self._loading.result().worth_restarting:
                dead, self._loading = self._loading.result(), None
        if self._loading is None:
            self._loading = asyncio.create_task(self._load(dead))
        return self._loading

    async def _load(self, dead: _Engine | None) -> _Engine:
        if dead is not None:
            logger.warning("the engine died; it is restarted")
            await dead.stop()
        try:
            # Apart from the start: what fails while vLLM is imported is kept by it with its call stack, which must not hold
            # the engine.
            options = await asyncio.to_thread(self._prepare)
            return await asyncio.to_thread(self._start, options)
        except ConfigurationError as error:
            if dead is None:
                raise
            # It has worked with these options: this is no wrong configuration, and every check says so from now on.
            logger.error("the engine could not be restarted: %s", error)
            dead.proven = False
            return dead

    def _start(self, options: dict[str, Any]) -> _Engine:
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.async_llm import AsyncLLM

        from guardreasoner_sdk.backends._tokens import PromptEncoder

        encoder = PromptEncoder.from_folder(Path(options["model"]), self.model)
        fix = (
            "vLLM's own log says why. A script must make the guard under if __name__ == '__main__'; where memory is short, "
            "lower max_model_len, or use a smaller or quantised model"
        )

        def told(error: Exception) -> str:
            wrong = isinstance(error, TypeError | ValueError)  # an option's value, which vLLM names
            return f"vllm: {_line(error)}" if wrong else f"vllm: the engine did not start ({_line(error)}); {fix}"

        with config_errors(told):
            # The context picks the sizes of batches: as for vLLM's server, which fill the GPU. Without one they are small.
            return _Engine(
                AsyncLLM.from_engine_args(AsyncEngineArgs(**options), usage_context=UsageContext.OPENAI_API_SERVER), encoder
            )

    def _prepare(self) -> dict[str, Any]:
        """Import vLLM, check the options and fetch the weights."""
        for variable, value in ENVIRONMENT.items():
            os.environ.setdefault(variable, value)
        with config_errors(lambda error: f"vllm: is installed but cannot be imported ({_line(error)})"):
            import_module("vllm.v1.engine.async_llm")
            from vllm.engine.arg_utils import AsyncEngineArgs
        _check_options(self._options, [option.name for option in fields(AsyncEngineArgs)])
        from guardreasoner_sdk.backends._weights import folder_of

        return {"model": str(folder_of(self._weights, self._revision)), **self._options}


@dataclass(eq=False)
class _Engine:
    """A running engine.

    Args:
        core: vLLM's ``AsyncLLM``.
        encoder: makes token ids of queries, and text of token ids.
        proven: whether it has answered anything since its start.
        stopping: whether it takes no more queries.
        under_way: the tasks that wait for its answers.
    """

    core: Any
    encoder: PromptEncoder
    proven: bool = False
    stopping: bool = False
    under_way: set[asyncio.Task[Any]] = field(default_factory=set)

    @property
    def worth_restarting(self) -> bool:
        """Whether it died, but not of its start or its very first queries, which would only kill it again."""
        return bool(self.core.errored) and self.proven

    async def stop(self) -> None:
        """End the queries under way and the engine's processes."""
        # vLLM's shutdown tells nobody who still waits for an answer.
        self.stopping = True
        for task in self.under_way:
            task.cancel()
        if self.under_way:
            await asyncio.wait(self.under_way)
        if self.core.output_handler is not None:
            # Else it treats the end as a failure, and logs it as one.
            self.core.output_handler.cancel()
        await asyncio.to_thread(self._shut_down)

    def _shut_down(self) -> None:
        manager = self.core.engine_core.resources.engine_manager
        self.core.shutdown(timeout=_GRACE)
        # It kills what has not ended by then, and does not wait for that; Ray's actors are no processes of ours.
        for process in getattr(manager, "processes", ()):
            process.join(_GRACE)

    def encode(self, query: Query) -> list[int] | BackendError:
        """The prompt's token ids, or why the engine does not take it.

        Raises:
            ConfigurationError: the model has no chat template for such a query.
        """
        config = self.core.model_config
        if 0 <= config.max_logprobs < query.choices:
            return BackendError(
                f"{query.choices} choices are asked for, the engine gives {config.max_logprobs}; "
                f"pass max_logprobs={query.choices}"
            )
        try:
            ids = self.encoder.encode(query)
        except ConfigurationError:
            raise
        except Exception as error:
            return to_backend_error(error)
        if len(ids) >= config.max_model_len:
            return too_long(len(ids), config.max_model_len, "raise max_model_len")
        return ids

    async def answer(self, query: Query, prompt: list[int] | BackendError, deadline: float | None) -> Completion | BackendError:
        """What the engine says, or why it says nothing."""
        if isinstance(prompt, BackendError):
            return prompt
        if self.stopping:
            return BackendError("the engine was stopped")
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        self.under_way.add(task)
        try:
            # What the timeout cancels, and what the caller cancels, vLLM aborts in the engine.
            async with Deadline.of(deadline).scope():
                answer = await self._generate(query, prompt)
        except TimeoutError:
            return DeadlineError()
        except asyncio.CancelledError:
            if not self.stopping:
                raise
            return BackendError("the engine was stopped")
        except Exception as error:
            if self.core.errored:
                return BackendError("the engine died; vLLM's own log says why")
            return to_backend_error(error)
        finally:
            self.under_way.discard(task)
        self.proven = True
        return answer

    async def _generate(self, query: Query, ids: list[int]) -> Completion | BackendError:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        params = SamplingParams(
            temperature=query.temperature,
            max_tokens=min(query.max_tokens, self.core.model_config.max_model_len - len(ids)),
            stop=list(query.stop),
            logprobs=query.choices or None,
            # vLLM needs its own text only to look for stop strings in it.
            detokenize=bool(query.stop),
            skip_special_tokens=not query.special,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        prompt: dict[str, Any] = {"type": "token", "prompt_token_ids": ids}
        if query.images:
            # vLLM makes of an image's token as many as the model has places for it; texts hold no such token.
            pictures = await asyncio.to_thread(lambda: [image.decode() for image in query.images])
            prompt = {"prompt_token_ids": ids, "multi_modal_data": {"image": pictures}}
        results = [result async for result in self.core.generate(prompt, params, uuid.uuid4().hex)]
        if not results:
            return BackendError("the engine gave no answer")
        return self._completion(results[-1], len(results[-1].prompt_token_ids or ids), query.special)

    def _completion(self, result: Any, length: int, special: bool) -> Completion | BackendError:
        output = result.outputs[0]
        if output.finish_reason not in ("stop", "length"):
            return BackendError(f"the engine gave up the answer ({output.finish_reason})")
        ids = list(output.token_ids)
        usage = Usage(input_tokens=length, output_tokens=len(ids), cached_tokens=result.num_cached_tokens or 0)
        stopped_by_text = isinstance(output.stop_reason, str)
        if output.finish_reason == "stop" and not stopped_by_text:
            ids.pop()  # the end token
        # Decoded by us, as on every engine: vLLM leaves out a character that was cut in two, so that its text and the places
        # of the tokens in it would not fit together.
        text = self.encoder.decode(ids, special=special)
        if stopped_by_text:
            text = text.partition(output.stop_reason)[0]
        choices = None if output.logprobs is None else self._choices(ids, output.logprobs, special)
        return Completion(text=text, finish_reason=output.finish_reason, usage=usage, choices=choices)

    def _choices(self, ids: list[int], logprobs: Any, special: bool) -> TokenProbabilities:
        def alternatives(number: int) -> dict[str, float]:
            entries = logprobs[number].items()
            return sum_by_text((self.encoder.token_text(token), math.exp(entry.logprob)) for token, entry in entries)

        return TokenProbabilities(self.encoder.starts(ids, special=special), alternatives)


def _check_options(options: dict[str, Any], known: list[str]) -> None:
    for option in options:
        if option in _RESERVED:
            raise ConfigurationError(f"{option}: is not an option here; {_RESERVED[option]}")
        if option not in known:
            close = get_close_matches(option, known)
            hint = f"did you mean {' or '.join(close)}?" if close else "see vLLM's AsyncEngineArgs"
            raise ConfigurationError(f"{option}: this vLLM has no such option; {hint}")


def _line(error: Exception) -> str:
    """An error of vLLM's start in one line; nothing has been judged by then."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:400]}" if text else type(error).__name__
