"""Generation by llama.cpp, token by token: what a prompt has in common with the one before is not computed again."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from guardreasoner_sdk._failures import config_errors
from guardreasoner_sdk._forks import Lock
from guardreasoner_sdk.backends._llama_vocabulary import Vocabulary
from guardreasoner_sdk.backends._results import stop_place, sum_by_text, too_long
from guardreasoner_sdk.errors import BackendError, ConfigurationError
from guardreasoner_sdk.generation import Completion, PromptPiece, Query, TokenProbabilities
from guardreasoner_sdk.verdict import Usage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from guardreasoner_sdk.backends._engine_thread import EngineJob

__all__ = ["DEFAULT_CONTEXT", "LlamaEngine"]

DEFAULT_CONTEXT = 8192
"""Most tokens of prompt and answer unless told otherwise; each takes memory, 128 KiB of it for a model of 8B."""

_ERROR = 4
"""ggml's GGML_LOG_LEVEL_ERROR."""

_LOADING = Lock()
"""llama.cpp has one place to send its messages to, for the whole process."""


class LlamaEngine:
    """A loaded model and its cache. Used by one thread.

    Args:
        path: the GGUF file.
        context: most tokens of prompt and answer; None: what the model was trained for, at most :data:`DEFAULT_CONTEXT`.
        n_gpu_layers: layers to put on the GPU; -1 for all.
        threads: CPU threads.
        n_batch: tokens of a prompt to compute at a time.

    Raises:
        ConfigurationError: llama.cpp does not load, or cannot load the file.
    """

    def __init__(self, path: Path, *, context: int | None, n_gpu_layers: int, threads: int, n_batch: int) -> None:
        with config_errors(lambda error: f"llama_cpp: is installed but does not load ({error}); reinstall llama-cpp-python"):
            import llama_cpp
        try:
            with path.open("rb") as file:
                known = file.read(4) == b"GGUF"
        except OSError as error:
            raise ConfigurationError(f"model: {path} cannot be read ({error.strerror}); fix the path or its rights") from error
        if not known:
            raise ConfigurationError(f"model: {path} is not a GGUF file; pass one, such as guard.Q4_K_M.gguf")
        fix = "where the file is whole, update llama-cpp-python, or lower context or n_gpu_layers if memory is short"
        with (
            _quietly() as complaints,
            config_errors(lambda error: f"model: {path} cannot be loaded ({complaints[0] if complaints else error}); {fix}"),
        ):
            llama = llama_cpp.Llama(
                str(path),
                n_ctx=context or DEFAULT_CONTEXT,
                n_batch=n_batch,
                n_gpu_layers=n_gpu_layers,
                n_threads=threads,
                n_threads_batch=threads,
                verbose=False,
            )
        self._api: Any = llama_cpp
        self._llama = llama
        self._path = path
        self._vocabulary = Vocabulary(llama)
        trained = llama_cpp.llama_model_n_ctx_train(llama.model)
        self._context: int = context or min(DEFAULT_CONTEXT, trained)
        self._memory = llama_cpp.llama_get_memory(llama.ctx)
        self._formatter = self._chat_formatter()

    def answer(self, jobs: list[EngineJob[Query, Completion]]) -> None:
        """Answer the jobs one after another; those that nobody waits for any more are left."""
        for job in jobs:
            pieces = (*self._pieces(job.query), PromptPiece(job.query.opening, markup=True))
            prompt = self._vocabulary.encode(pieces, job.query.continuation)
            if not prompt:
                raise BackendError("the prompt is empty; pass some text")
            if len(prompt) >= self._context:
                raise too_long(len(prompt), self._context, "raise context")
            completion = self._generate(job, prompt)
            if completion is not None:
                job.settle(completion)

    def _generate(self, job: EngineJob[Query, Completion], prompt: list[int]) -> Completion | None:
        query = job.query
        cached = self._rewind(prompt)
        text = _Text(query.stop)
        starts: list[int] = []
        alternatives: list[dict[str, float]] = []
        finish: Literal["stop", "length"] = "length"
        unread = prompt[cached:]
        for _ in range(min(query.max_tokens, self._context - len(prompt))):
            if not self._evaluate(unread, job):
                return None
            logits = self._logits()
            token = _choose(logits, query.temperature)
            starts.append(len(text.whole))
            if query.choices:
                alternatives.append(self._alternatives(logits, query.choices, token))
            if self._vocabulary.ends(token) or text.add(self._vocabulary.piece(token, special=query.special)):
                finish = "stop"
                break
            unread = [token]
        return Completion(
            text=text.end(),
            finish_reason=finish,
            usage=Usage(input_tokens=len(prompt), output_tokens=len(starts), cached_tokens=cached),
            choices=TokenProbabilities(starts, alternatives.__getitem__) if query.choices else None,
        )

    def _rewind(self, prompt: list[int]) -> int:
        """Cut the cache back to what the prompt has in common with it; returns how many tokens that are.

        The last token of the prompt is never one of them: what comes after it is known only when it is computed.
        """
        import numpy as np

        llama = self._llama
        most = min(llama.n_tokens, len(prompt) - 1)
        differs = np.flatnonzero(llama.input_ids[:most] != np.asarray(prompt[:most], dtype=np.intc))
        common = int(differs[0]) if differs.size else most
        # Recurrent models cannot go back a part of the way.
        if common < llama.n_tokens and not self._api.llama_memory_seq_rm(self._memory, 0, common, -1):
            self._api.llama_memory_seq_rm(self._memory, 0, 0, -1)
            common = 0
        llama.n_tokens = common
        return common

    def _evaluate(self, tokens: list[int], job: EngineJob[Query, Completion]) -> bool:
        """Compute tokens behind those in the cache; returns False as soon as nobody waits for the answer any more."""
        for start in range(0, len(tokens), self._llama.n_batch):
            if not job.wanted:
                return False
            try:
                self._llama.eval(tokens[start : start + self._llama.n_batch])
            except RuntimeError as error:  # what is half done is cut off by the next prompt
                raise BackendError(f"llama.cpp failed ({error})") from error
        return True

    def _logits(self) -> NDArray[np.float64]:
        """The logits behind the last token computed, over the vocabulary."""
        import numpy as np

        pointer = self._api.llama_get_logits_ith(self._llama.ctx, -1)
        return np.ctypeslib.as_array(pointer, shape=(self._llama.n_vocab(),)).astype(np.float64)

    def _alternatives(self, logits: NDArray[np.float64], count: int, chosen: int) -> dict[str, float]:
        """The most probable tokens' probabilities by text; tokens of the same text (parts of characters) are one."""
        import numpy as np

        probabilities = _softmax(logits)
        count = min(count, probabilities.size)
        most = np.argpartition(-probabilities, count - 1)[:count]
        most = most[np.argsort(-probabilities[most])].tolist()
        return sum_by_text(
            (self._vocabulary.piece(token, special=True).decode("utf-8", "replace"), float(probabilities[token]))
            for token in (most if chosen in most else [*most, chosen])
        )

    def _pieces(self, query: Query) -> tuple[PromptPiece, ...]:
        if not query.messages:
            return query.pieces
        from guardreasoner_sdk.backends._tokens import split_template

        formatter = self._formatter
        if formatter is None:
            raise ConfigurationError(f"model: {self._path.name} holds no chat template; use a GGUF file with one")

        def render(messages: list[dict[str, Any]]) -> str:
            text: str = formatter(messages=messages, **query.template).prompt
            return text

        return split_template(render, query, model=self._path.name)

    def _chat_formatter(self) -> Any:
        """The file's own chat template, in the sandbox that llama-cpp-python has for it; None where there is none."""
        from llama_cpp.llama_chat_format import Jinja2ChatFormatter

        template = self._llama.metadata.get("tokenizer.chat_template")
        if template is None:
            return None
        bos, eos = (
            "" if token < 0 else self._vocabulary.name_of(token) for token in (self._llama.token_bos(), self._llama.token_eos())
        )
        return Jinja2ChatFormatter(template=template, bos_token=bos, eos_token=eos)


@contextmanager
def _quietly() -> Iterator[list[str]]:
    """Keep llama.cpp's messages off the terminal while it loads; gives its error messages, in order."""
    import ctypes

    import llama_cpp
    from llama_cpp._logger import llama_log_callback as usual

    errors: list[str] = []

    def note(level: int, text: bytes, _: object) -> None:
        if level == _ERROR:
            errors.append(text.decode("utf-8", "replace").partition(": ")[2].strip())

    callback = llama_cpp.llama_log_callback(note)
    with _LOADING:
        llama_cpp.llama_log_set(callback, ctypes.c_void_p(0))
        try:
            yield errors
        finally:
            llama_cpp.llama_log_set(usual, ctypes.c_void_p(0))


class _Text:
    """The text of an answer as its bytes arrive.

    Args:
        stop: strings that end it.
    """

    def __init__(self, stop: tuple[str, ...]) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stop = stop
        self.whole = ""

    def add(self, piece: bytes) -> bool:
        """Add a token's bytes; returns whether a stop string is complete, which is cut off then."""
        before = len(self.whole)
        self.whole += self._decoder.decode(piece)
        place = stop_place(self.whole, before, self._stop)
        if place is not None:
            self.whole = self.whole[:place]
            self._decoder.reset()
        return place is not None

    def end(self) -> str:
        """The whole text; half a character at its end is U+FFFD."""
        return self.whole + self._decoder.decode(b"", final=True)


def _choose(logits: NDArray[np.float64], temperature: float) -> int:
    """The next token: the most probable one, or one drawn at a temperature above 0."""
    import numpy as np

    best = int(logits.argmax())
    if not np.isfinite(logits[best]):
        raise BackendError(
            "llama.cpp computed no probabilities (its numbers overflow); try other weights or fewer n_gpu_layers"
        )
    if temperature <= 0.0:
        return best
    return int(np.random.default_rng().choice(logits.size, p=_softmax(logits / temperature)))


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    import numpy as np

    powers = np.exp(logits - logits.max())
    result: NDArray[np.float64] = powers / powers.sum()
    return result
