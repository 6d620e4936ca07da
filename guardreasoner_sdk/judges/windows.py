"""Which windows of an exchange the embedded model sees, which sentences it reads again, and what their scores come to."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any, Final, Literal, overload

from guardreasoner_sdk.errors import DeadlineError
from guardreasoner_sdk.exchange import Exchange, Turn
from guardreasoner_sdk.judges.evidence import sentence
from guardreasoner_sdk.judges.languages import language_note
from guardreasoner_sdk.judges.threads import each_in_threads
from guardreasoner_sdk.verdict import TASKS, Task

if TYPE_CHECKING:
    import numpy as np

    from guardreasoner_sdk.judges.encoding import Context, Encoder, TokenWindow
    from guardreasoner_sdk.judges.evidence import Token
    from guardreasoner_sdk.judges.model_folder import Model
    from guardreasoner_sdk.judges.readings import Readings

__all__ = ["Check", "JudgedExchange", "Part", "Seen", "read_rows"]

_HEADS: Final = {task: place for place, task in enumerate(TASKS)}
_ASKED_OF: Final[dict[str, tuple[Task, ...]]] = {"prompt": TASKS[:1], "response": TASKS[1:]}
# Of a long text, the passages that carry a finding are looked for in so many windows; the others are forgotten.
_KEPT: Final = 4
_UNJUDGED: Final = -1e3
"""A logit below which a token was not looked at."""
_LONGEST: Final = 32
"""Windows beyond which length takes no more off: it was measured in texts of so many, and a text must not grow out of reach."""
_SHOWN: Final = 4000
"""Characters of an earlier turn, of which far fewer fit into a window."""
_BRIEF: Final = 16
"""Tokens of a question that may mean nothing without an earlier one; a longer one says by itself what it is about."""
_DOUBTFUL: Final = (-2.5, 3.0)
"""Logits, of chances of 0.08 and 0.95, between which a text is worth a closer look: what its sentences say by themselves."""
_SENTENCES: Final = 2
"""How many of them are read by themselves, the strongest."""
_TOGETHER: Final = 32
"""Rows whose windows are seen before the sentences of any: the later ones do not wait for all of a large batch."""

Check = Callable[[], None]
"""Called every few milliseconds; raises ``DeadlineError`` when nobody waits any more."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the model makes of a window.

    Args:
        start: which token of the judged text the window begins with.
        tokens: the logits of each token of that, for each head.
        logits: those of the window.
        hazards: the probability of each hazard category.
        languages: the probability of each language.
    """

    start: int
    tokens: np.ndarray
    logits: Sequence[float]
    hazards: Sequence[float]
    languages: Sequence[float]


@dataclass(slots=True)
class Part:
    """A text of an exchange as it is read in one way, and what was found in its windows.

    Args:
        source: what is judged.
        text: it, a sentence of it, or what was decoded of it.
        original: what the caller gave.
        start: where the text begins in that; None where it was decoded, so that it is there in other words, or is bare.
        behind: whether it is read after earlier turns, or alone.
        bare: whether codes that say nothing were left out (`without_codes`).
        sentence: whether it is a sentence, read by itself.
        among: windows of the text that it was found in.
    """

    source: Literal["prompt", "response"]
    text: str
    original: str
    start: int | None = 0
    behind: bool = False
    bare: bool = False
    sentence: bool = False
    among: int = 1
    windows: int = 0
    tokens: int = 0
    _best: dict[Task, list[Seen]] = field(default_factory=dict)
    _languages: list[float] = field(default_factory=list)

    @property
    def harm(self) -> Task:
        """The task of its source that is about harm."""
        return _ASKED_OF[self.source][-1]

    @property
    def how(self) -> str:
        """How it was read, as the beginning of a clause; empty where it was read as it stands."""
        ways = {
            "once decoded": self.start is None and not self.bare,
            "without the codes in it": self.bare,
            "behind the turns before it": self.behind,
            "a sentence by itself": self.sentence,
        }
        said = ", ".join(way for way, so in ways.items() if so)
        return f"{said.capitalize()}: " if said else ""

    def add(self, seen: Seen, tokens: int) -> None:
        """Take in a window.

        Args:
            tokens: how many were read, the context among them.
        """
        self.windows += 1
        self.tokens += tokens
        for task in _ASKED_OF[self.source]:
            # An answer says at its beginning that it is a refusal.
            if task == "response_refusal" and (seen.start or self.start is None or self.sentence):
                continue
            best = self._best.setdefault(task, [])
            best.append(seen)
            if len(best) > 1:
                # Windows come in any order: of equal ones the first in the text counts.
                best.sort(key=lambda one: (-one.logits[_HEADS[task]], one.start))
                del best[_KEPT:]
        weight = max(1, len(seen.tokens))
        if not self._languages:
            self._languages = [0.0] * len(seen.languages)
        self._languages = [sum_ + weight * one for sum_, one in zip(self._languages, seen.languages, strict=True)]

    def strongest(self, task: Task) -> Seen:
        """The window that decides on a task."""
        return self._best[task][0]

    def logit(self, task: Task, length_shift: Mapping[Task, float]) -> float | None:
        """What all windows come to: the strongest, and a little less the more there are; None where it is not judged here."""
        if task not in self._best:
            return None
        return self.strongest(task).logits[_HEADS[task]] - self.shift(task, length_shift)

    def shift(self, task: Task, length_shift: Mapping[Task, float]) -> float:
        """The logit that is taken off for the number of windows: among many, some score high by chance."""
        return (
            0.0 if task == "response_refusal" else length_shift[task] * math.log2(min(max(self.windows, self.among), _LONGEST))
        )

    def doubtful(self, model: Model | None) -> bool:
        """Whether its sentences are worth reading by themselves: it is neither clearly harmless nor clearly harmful.

        Args:
            model: the model, whose thresholds say what is harmful already; None while these are still to be chosen.
        """
        task = self.harm
        if self.behind or task not in self._best:
            return False
        logit = self.strongest(task).logits[_HEADS[task]]
        if not _DOUBTFUL[0] <= logit < _DOUBTFUL[1]:
            return False
        return model is None or logit - self.shift(task, model.length_shift) < model.least_logit(task)

    def sentences(self, encoder: Encoder, check: Check) -> Iterator[tuple[int, int]]:
        """The places of its sentences, the strongest first.

        Among other text a sentence scores less than alone, and a text of one sentence was read alone already.

        Args:
            check: called every few milliseconds; what it raises ends the work.
        """
        task = self.harm
        tokens = sorted(chain.from_iterable(self.stretches(task, encoder, check)), key=lambda token: -token[2])
        found: list[tuple[int, int]] = []
        for start, end, _ in tokens:
            if start == end or any(start < last and first < end for first, last in found):
                continue
            found.append(sentence(self.text, start, end))
            if self.text[slice(*found[-1])] == self.text.strip():
                return
            yield found[-1]
            if len(found) == _SENTENCES:
                return

    def note(self, model: Model) -> str | None:
        """What to say of its language."""
        whole = sum(self._languages) or 1.0
        chances = [one / whole for one in self._languages]
        return language_note(self.original, chances, model.languages, model.measured_languages)

    def stretches(self, task: Task, encoder: Encoder, check: Check) -> list[list[Token]]:
        """The tokens of the strongest windows, with their places in the text.

        Args:
            check: called every few milliseconds; what it raises ends the work.
        """
        logits: dict[int, float] = {}
        for seen in self._best[task]:
            for number, logit in enumerate(seen.tokens[:, _HEADS[task]].tolist(), seen.start):
                if logit > _UNJUDGED:
                    logits[number] = max(logit, logits.get(number, logit))
        numbers = sorted(logits)
        edges = [place for place, (one, other) in enumerate(pairwise(numbers), 1) if other > one + 1]
        runs = [numbers[a:b] for a, b in pairwise([0, *edges, len(numbers)]) if a < b]
        places = encoder.places(self.text, [(run[0], run[-1] + 1) for run in runs], check)
        return [[(*places[number], logits[number]) for number in run] for run in runs]

    def place(self, start: int, end: int) -> tuple[int, int] | None:
        """Where a stretch of the text is in what the caller gave; None where that does not hold it as it is."""
        if self.start is not None:
            return self.start + start, self.start + end
        found = self.original.find(self.text[start:end])
        return None if found < 0 else (found, found + end - start)


@dataclass(slots=True)
class JudgedExchange:
    """An exchange, and what was found in it.

    Args:
        exchange: what is judged.
    """

    exchange: Exchange
    parts: list[Part] = field(default_factory=list)
    context: Context = ()
    """What a response is read behind."""
    whole: bool = False
    """Whether all was read that decides on it."""

    @property
    def length(self) -> int:
        """Characters to read, about."""
        return len(self.exchange.prompt) + len(self.exchange.response or "")

    def part(self, source: Literal["prompt", "response"], text: str, original: str, **how: Any) -> Part:
        """Add a part, and return it: see :class:`Part`."""
        self.parts.append(Part(source, text, original, **how))
        return self.parts[-1]

    def decided(self, task: Task, model: Model) -> tuple[Part, float] | None:
        """The highest logit for a task, and the part that decides; None where the task is not judged.

        That is the part with this logit, unless a plainer reading of the text reaches the threshold already.
        """
        scored = self._scored(task, model.length_shift)
        if not scored:
            return None
        highest, logit = max(scored, key=lambda one: one[1])
        least = model.least_logit(task)
        return next((part for part, own in scored if own >= least), highest), logit

    def logit(self, task: Task, length_shift: Mapping[Task, float]) -> float | None:
        """The highest logit for a task; None where the task is not judged."""
        return max((logit for _, logit in self._scored(task, length_shift)), default=None)

    def _scored(self, task: Task, length_shift: Mapping[Task, float]) -> list[tuple[Part, float]]:
        return [(part, logit) for part in self.parts if (logit := part.logit(task, length_shift)) is not None]


def read_rows(
    rows: Sequence[JudgedExchange],
    encoder: Encoder,
    see: Callable[[TokenWindow], Seen],
    *,
    threads: int,
    check: Check,
    judged: Callable[[JudgedExchange, Part], bool] = lambda row, part: True,
    model: Model | None = None,
) -> None:
    """Read rows: their windows, and the strongest sentences by themselves where these leave a doubt.

    What was not read to its end before the deadline is not ``whole``.

    Args:
        rows: what is judged; their parts are added to them.
        see: the model, called in several threads at a time.
        threads: most windows that are seen at a time.
        check: called every few milliseconds; what it raises but for ``DeadlineError`` ends the work.
        model: whose thresholds say what leaves a doubt: see :meth:`Part.doubtful`.
    """
    lock = threading.Lock()

    def take(placed: tuple[Part, TokenWindow]) -> None:
        part, window = placed
        seen = see(window)
        with lock:
            part.add(seen, len(window.ids))

    def in_time(
        group: Sequence[JudgedExchange], windows: _Windows, through: list[JudgedExchange]
    ) -> Iterator[tuple[Part, TokenWindow]]:
        for row in group:
            try:
                for placed in windows(row, encoder, check):
                    check()
                    if judged(row, placed[0]):
                        yield placed
            except DeadlineError:
                continue  # of the others some may have nothing left to read
            through.append(row)

    # The shortest first: a long one takes no other row's time.
    ordered = sorted(rows, key=lambda row: row.length)
    for first in range(0, len(ordered), _TOGETHER):
        seen: list[JudgedExchange] = []
        whole: list[JudgedExchange] = []
        each_in_threads(take, in_time(ordered[first : first + _TOGETHER], _windows, seen), threads)
        each_in_threads(take, in_time(seen, partial(_sentences, model), whole), threads)
        for row in whole:
            row.whole = True


_Windows = Callable[[JudgedExchange, "Encoder", Check], "Iterator[tuple[Part, TokenWindow]]"]


def _windows(row: JudgedExchange, encoder: Encoder, check: Check) -> Iterator[tuple[Part, TokenWindow]]:
    """The windows of a row, each made when it is its turn: those of a long text would take much more room than it.

    A text in which nothing can be read has none: nobody knows what it says.
    """
    from guardreasoner_sdk.judges.encoding import ASKED, PROMPT, RESPONSE

    check()
    prompt, response = row.exchange.prompt, row.exchange.response
    tokens = encoder.read(prompt, check)
    if tokens:
        alone = row.part("prompt", prompt, prompt)
        for window in encoder.windows(tokens, PROMPT):
            yield alone, window
    earlier = _Earlier([turn for turn in row.exchange.history if turn.role in ("user", "assistant")], encoder, check)
    if tokens and earlier:
        # Its first window: a question that goes on from what was said before does so at its beginning.
        yield row.part("prompt", prompt, prompt, behind=True), next(encoder.windows(tokens, PROMPT, encoder.context(earlier)))
        # A follow-up goes on from what the user asked, however much the assistant said since: long answers would take the room.
        asked = _Earlier([turn for turn in row.exchange.history if turn.role == "user"], encoder, check)
        if len(tokens) <= _BRIEF and 0 < len(asked) < len(earlier):
            context = encoder.context(asked)
            yield row.part("prompt", prompt, prompt, behind=True), next(encoder.windows(tokens, PROMPT, context))
    for reading, how in _other_readings(prompt, check):
        other = row.part("prompt", reading, prompt, start=None, **how)
        for window in encoder.windows(encoder.read(reading, check), PROMPT):
            yield other, window
    if response is None:
        return
    row.context = context = encoder.context([(ASKED, tokens)])
    if answered := encoder.read(response, check):
        answer = row.part("response", response, response)
        for window in encoder.windows(answered, RESPONSE, context):
            yield answer, window
    for reading, how in _other_readings(response, check):
        other = row.part("response", reading, response, start=None, **how)
        for window in encoder.windows(encoder.read(reading, check), RESPONSE, context):
            yield other, window


def _sentences(model: Model | None, row: JudgedExchange, encoder: Encoder, check: Check) -> Iterator[tuple[Part, TokenWindow]]:
    """The strongest sentences of each part that leaves a doubt, each as a window of its own."""
    from guardreasoner_sdk.judges.encoding import PROMPT, RESPONSE

    for part in tuple(row.parts):
        if not part.doubtful(model):
            continue
        for start, end in part.sentences(encoder, check):
            text = part.text[start:end]
            if tokens := encoder.read(text, check):
                place = None if part.start is None else part.start + start
                asked = part.source == "prompt"
                own = row.part(part.source, text, part.original, start=place, bare=part.bare, sentence=True, among=part.windows)
                for window in encoder.windows(tokens, PROMPT) if asked else encoder.windows(tokens, RESPONSE, row.context):
                    yield own, window


def _other_readings(text: str, check: Check) -> Iterator[tuple[str, dict[str, bool]]]:
    """What else a text says, each with how it was read."""
    from guardreasoner_sdk.judges.readings import without_codes

    for reading in _readings()(text, check):
        yield reading, {}
    if (rest := without_codes(text)) is not None:
        yield rest, {"bare": True}


@lru_cache(1)
def _readings() -> Readings:
    """What is encoded in a text, to be judged beside it."""
    from guardreasoner_sdk.judges.readings import Readings
    from guardreasoner_sdk.judges.unmasking import word_list

    return Readings(word_list())


class _Earlier(Sequence[tuple[int, Sequence[int]]]):
    """Types and tokens of earlier turns, each read when it is asked for: of a long conversation, the last few are shown."""

    def __init__(self, turns: Sequence[Turn], encoder: Encoder, check: Check) -> None:
        self._turns, self._encoder, self._check = turns, encoder, check

    def __len__(self) -> int:
        return len(self._turns)

    @overload
    def __getitem__(self, place: int) -> tuple[int, Sequence[int]]: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[tuple[int, Sequence[int]]]: ...

    def __getitem__(self, place: int | slice) -> tuple[int, Sequence[int]] | Sequence[tuple[int, Sequence[int]]]:
        from guardreasoner_sdk.judges.encoding import ANSWERED, ASKED

        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(len(self)))]
        turn = self._turns[place]
        said = turn.content
        if len(said) > _SHOWN:
            # Its head and its tail are shown, and no more is read.
            said = f"{said[: _SHOWN // 2]} {said[-_SHOWN // 2 :]}"
        return ASKED if turn.role == "user" else ANSWERED, self._encoder.read(said, self._check)
