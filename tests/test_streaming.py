"""Nothing of a stream is seen before it was judged, whatever way it comes."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import itertools
import random
import string
from collections.abc import AsyncIterator, Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardreasoner_sdk import (
    BlockedError,
    ConfigurationError,
    Exchange,
    Finding,
    Guard,
    InputError,
    Judgement,
    Policy,
    UndeterminedError,
    Verdict,
)
from guardreasoner_sdk.judges.embedded import EmbeddedJudge
from guardreasoner_sdk.streaming import DOUBTFUL, NOTICEABLE, READ_AHEAD
from guardreasoner_sdk.testing import ScriptedJudge, judgement

HARM = "█"


def by_mark(exchange: Exchange) -> Judgement:
    if exchange.response is None:
        return judgement()
    return judgement("unharmful", "compliance", "harmful" if HARM in exchange.response else "unharmful")


@pytest.fixture
def judge() -> ScriptedJudge:
    return ScriptedJudge(by_mark)


@pytest.fixture
def guard(judge: ScriptedJudge) -> Iterator[Guard]:
    with Guard(judge=judge) as guard:
        yield guard


class Source:
    """An answer in pieces that knows how far it was read, and whether it was closed."""

    def __init__(self, pieces: Iterable[str], failure: Exception | None = None) -> None:
        self.pieces = list(pieces)
        self.failure = failure
        self.read = 0
        self.closed = False

    def __iter__(self) -> Iterator[str]:
        return self._pieces()

    def __aiter__(self) -> AsyncIterator[str]:
        return self._apieces()

    def _pieces(self) -> Iterator[str]:
        try:
            for piece in self.pieces:
                self.read += 1
                yield piece
            if self.failure:
                raise self.failure
        finally:
            self.closed = True

    async def _apieces(self) -> AsyncIterator[str]:
        with contextlib.closing(self._pieces()) as pieces:
            for piece in pieces:
                await asyncio.sleep(0)
                yield piece


async def alist(items: AsyncIterator[str]) -> list[str]:
    return [item async for item in items]


async def into(shown: list[str], items: AsyncIterator[str]) -> None:
    """What was shown stays in the list, whatever ends the stream."""
    async for item in items:
        shown.append(item)  # noqa: PERF401


def collect(guard: Guard, pieces: Iterable[str], **options) -> tuple[str, Verdict | None]:
    """What a reader of the synchronous stream gets to see, and the verdict."""
    shown = []
    stream = guard.stream("Tell me.", pieces, **options)
    with contextlib.suppress(BlockedError):
        shown.extend(stream)
    return "".join(shown), stream.verdict


async def acollect(guard: Guard, pieces: Iterable[str], **options) -> tuple[str, Verdict | None]:
    shown = []
    stream = guard.astream("Tell me.", Source(pieces), **options)
    with contextlib.suppress(BlockedError):
        await into(shown, stream)
    return "".join(shown), stream.verdict


def random_text(chance: random.Random, harmful: bool) -> str:
    letters = string.ascii_letters + string.digits + " .,!?\n…。éß中👍" + " " * 20
    text = "".join(chance.choices(letters, k=chance.randrange(1, 60)))
    if harmful:
        place = chance.randrange(len(text) + 1)
        text = text[:place] + HARM * chance.randrange(1, 8) + text[place:]
    return text


def test_at_every_split_of_1000_random_texts_nothing_harmful_is_ever_released() -> None:
    chance = random.Random(20261121)
    with Guard(judge=InThread()) as guard:
        for _ in range(1000):
            text = random_text(chance, harmful=True)
            safe = text[: text.index(HARM)]
            for cut in range(len(text) + 1):
                shown, verdict = collect(guard, [text[:cut], text[cut:]], window=chance.choice([1, 7, 200]))
                assert safe.startswith(shown), (text, cut)
                assert verdict is not None
                assert not verdict.allowed
            shown, _ = collect(guard, list(text), window=chance.choice([1, 7, 200]))
            assert safe.startswith(shown), text


class InThread:
    """The scripted judge, without the hop to another thread: many thousand streams in a few seconds."""

    model = backend = "scripted"
    batch_size = 1

    def judge_now(self, exchanges: list[Exchange], *, deadline: float | None) -> list[Judgement]:
        return [by_mark(exchange) for exchange in exchanges]

    async def judge(self, exchanges: list[Exchange], *, deadline: float | None) -> list[Judgement]:
        return self.judge_now(exchanges, deadline=deadline)

    async def aclose(self) -> None: ...


async def test_random_splits_of_1000_random_texts_release_nothing_harmful_asynchronously() -> None:
    chance = random.Random(20261121)
    async with Guard(judge=InThread()) as guard:
        for _ in range(1000):
            text = random_text(chance, harmful=True)
            cuts = sorted(chance.choices(range(len(text) + 1), k=chance.randrange(6)))
            pieces = [text[a:b] for a, b in itertools.pairwise([0, *cuts, len(text)])]
            shown, verdict = await acollect(guard, pieces, window=chance.choice([1, 7, 200]))
            assert text[: text.index(HARM)].startswith(shown), text
            assert verdict is not None
            assert not verdict.allowed


@given(st.lists(st.text(max_size=12), max_size=20), st.integers(1, 30), st.sampled_from(["hold", "pass"]))
def test_an_allowed_stream_is_unchanged_chunk_by_chunk(pieces: list[str], window: int, mode) -> None:
    pieces = [piece.replace(HARM, "") for piece in pieces]
    with Guard(judge=InThread()) as guard:
        assert list(guard.stream("Tell me.", pieces, window=window, mode=mode)) == pieces
        assert asyncio.run(alist(guard.astream("Tell me.", Source(pieces), window=window, mode=mode))) == pieces


class Recording(InThread):
    """Knows what it was shown of answers."""

    def __init__(self, script=by_mark, look_back: int = 1000) -> None:
        self.look_back = look_back
        self.script = script
        self.seen: list[str] = []

    def judge_now(self, exchanges: list[Exchange], *, deadline: float | None) -> list[Judgement]:
        self.seen.extend(exchange.response or "" for exchange in exchanges)
        return [self.script(exchange) for exchange in exchanges]


@given(st.lists(st.text("abc .\n", max_size=9), max_size=20), st.integers(1, 30))
def test_what_is_released_was_judged_and_the_end_judges_the_whole(pieces: list[str], window: int) -> None:
    judge = Recording()
    seen = judge.seen
    with Guard(judge=judge) as guard:
        shown = ""
        for piece in guard.stream("Tell me.", pieces, window=window):
            shown += piece
            assert not shown.strip() or any(text.startswith(shown.rstrip()) for text in seen)
    assert seen
    assert seen[-1].rstrip() == "".join(pieces).rstrip()
    # Blanks alone are nothing to judge yet.
    lengths = [len("".join(text.split())) for text in ("", *seen)]
    assert all(longer - length <= window + 9 for length, longer in itertools.pairwise(lengths))


def sentences(characters: int, place: str = "") -> list[str]:
    """An answer of so many characters in which every stretch can be told from every other, word by word."""
    count = characters // 60
    text = "".join(f"Sentence {place}{number:05d} says nothing, and it says so at some length. " for number in range(count))
    return [f"{word} " for word in text.split()]


def test_the_cost_of_a_stream_grows_with_its_answer_and_not_with_the_square() -> None:
    def judged(characters: int, **options) -> int:
        judge = Recording()
        with Guard(judge=judge) as guard:
            collect(guard, sentences(characters), **options)
        return sum(map(len, judge.seen))

    for options in ({}, {"mode": "pass"}, {"window": 20}, {"window": 5000}):
        assert judged(40_000, **options) < 5 * judged(10_000, **options)


@pytest.mark.parametrize("look_back", [50, 1000])
@pytest.mark.parametrize("window", [30, 200, 3000])
async def test_what_is_shown_was_judged_together_with_what_stands_before_it(look_back: int, window: int) -> None:
    pieces = sentences(8000)
    answer = "".join(pieces)
    begins = functools.cache(answer.index)

    def check(judge: Recording, at: int, piece: str) -> int:
        ends = at + len(piece)
        assert any(begins(text) <= max(0, at - look_back) and ends <= begins(text) + len(text) for text in judge.seen), at
        return ends

    at = aat = 0
    with Guard(judge=Recording(look_back=look_back)) as guard:
        for piece in guard.stream("Tell me.", pieces, window=window):
            at = check(guard.judge, at, piece)
        assert guard.judge.seen[-1] == answer
    async with Guard(judge=Recording(look_back=look_back)) as guard:
        async for piece in guard.astream("Tell me.", Source(pieces), window=window):
            aat = check(guard.judge, aat, piece)
        assert guard.judge.seen[-1] == answer
    assert at == aat == len(answer)


def test_a_finding_that_lies_across_the_border_of_two_checks_is_found_before_its_end_is_shown() -> None:
    def both_halves(exchange: Exchange) -> Judgement:
        found = "first half" in (exchange.response or "") and "second half" in (exchange.response or "")
        return judgement("unharmful", "compliance", "harmful" if found else "unharmful")

    apart = 900
    for place in range(0, 4000, 131):
        pieces = [*sentences(place, "a"), "first half. ", *sentences(apart, "b"), "second half. ", *sentences(3000, "c")]
        judge = Recording(both_halves)
        with Guard(judge=judge) as guard:
            shown, verdict = collect(guard, pieces)
        assert "first half" in shown
        assert "second half" not in shown
        assert verdict is not None
        assert verdict.blocked_by == "finding"


def test_the_last_verdict_is_that_of_the_whole_answer_and_known_to_the_cache() -> None:
    with Guard(judge=EmbeddedJudge(reasoning="off"), cache=1000) as guard:
        pieces = sentences(2000)
        stream = guard.stream("Tell me.", pieces)
        answer = "".join(stream)
        verdict = guard.check("Tell me.", answer)
        assert verdict.cached
        assert stream.verdict is not None
        assert stream.verdict.findings == verdict.findings
        fresh = EmbeddedJudge(reasoning="off").judge_now([Exchange("Tell me.", answer)], deadline=None)
        assert stream.verdict.findings == fresh[0].findings


async def test_each_of_several_answers_is_judged_whole_at_the_end() -> None:
    judge = Recording()
    items = [{"a": one, "b": two} for one, two in zip(sentences(5000, "a"), sentences(5000, "b"), strict=True)]
    items += [{"b": " And nothing but blanks for the other one."}, {"a": " \n"}]
    wholes = ["".join(item.get(key, "") for item in items) for key in "ab"]
    async with Guard(judge=judge) as guard:
        assert list(guard.stream("Tell me.", items, text=lambda item: item)) == items
        assert judge.seen[-2:] == wholes
        judge.seen.clear()
        assert [item async for item in guard.astream("Tell me.", once(items), text=lambda item: item)] == items
        assert judge.seen[-2:] == wholes
        assert sum(map(len, judge.seen)) < 60 * len(wholes[0])


async def once(items):
    for item in items:
        yield item


def harmful_without_its_beginning(exchange: Exchange) -> Judgement:
    told = (exchange.response or "").startswith("It is a tale. ")
    return judgement("unharmful", "compliance", "unharmful" if told else "harmful")


async def test_an_excerpt_that_looks_bad_out_of_its_context_blocks_nothing() -> None:
    judge = Recording(harmful_without_its_beginning)
    pieces = ["It is a tale. ", *sentences(4000)]
    events: list[Verdict] = []
    async with Guard(judge=judge, on_verdict=lambda exchange, verdict: events.append(verdict)) as guard:
        assert list(guard.stream("Tell me.", pieces)) == pieces
        assert await alist(guard.astream("Tell me.", Source(pieces))) == pieces
    excerpts = [place for place, text in enumerate(judge.seen) if not text.startswith(pieces[0])]
    assert len(excerpts) > 40
    assert all(judge.seen[place + 1].startswith(pieces[0]) for place in excerpts)
    assert len(events) == len(judge.seen)


@pytest.mark.parametrize("on_undetermined", ["block", "allow", "raise"])
def test_an_excerpt_is_not_cleared_by_a_guard_that_cannot_decide_on_the_whole(on_undetermined) -> None:
    def script(exchange: Exchange) -> Judgement:
        text = exchange.response or ""
        if text.startswith("Sentence 00000") and HARM in text:
            return judgement("unharmful", "compliance", "undetermined")
        return by_mark(exchange)

    pieces = [*sentences(5000), HARM + ". ", "more. "]
    with Guard(judge=Recording(script), policy=Policy(on_undetermined=on_undetermined)) as guard:
        shown, verdict = collect(guard, pieces)
    assert shown == "".join(pieces[:-2])
    assert verdict is not None
    assert verdict.blocked_by == "finding"


GREEK = "\u03b1\u03c5\u03c4\u03cc "
NOTE = "written in Greek, a language this guard was never measured in"


def of_a_language(exchange: Exchange) -> Judgement:
    """What is Greek for the most part carries a note; ``HARM`` is seen in the rest alone."""
    text = exchange.response or ""
    foreign = 2 * text.count(GREEK) * len(GREEK) > len(text)
    found = judgement("unharmful", "compliance", "harmful" if HARM in text and not foreign else "unharmful")
    noted = {task: finding.model_copy(update={"note": NOTE}) for task, finding in found.findings.items() if "response" in task}
    return found.model_copy(update=noted) if foreign else found


@pytest.mark.parametrize(
    "policy",
    [
        Policy(on_unmeasured="undetermined"),
        Policy(on_unmeasured="undetermined", on_undetermined="raise"),
        Policy(on_unmeasured="undetermined", on_undetermined="allow"),
        Policy(on_unmeasured="undetermined", block={"refusal"}),
    ],
)
async def test_a_quotation_in_a_language_never_measured_ends_no_stream_whose_whole_is_allowed(policy: Policy) -> None:
    pieces = [*sentences(3000), *[GREEK] * 60, ". ", *sentences(1000), *[GREEK] * 60, ". ", *sentences(500)]
    async with Guard(judge=Recording(of_a_language, look_back=100), policy=policy) as guard:
        assert guard.check("Tell me.", "".join(pieces)).allowed
        assert list(guard.stream("Tell me.", pieces)) == pieces
        assert await alist(guard.astream("Tell me.", Source(pieces))) == pieces


def test_a_prompt_in_such_a_language_does_not_undo_what_the_whole_says() -> None:
    def script(exchange: Exchange) -> Judgement:
        found = of_a_language(exchange)
        return found.model_copy(update={"prompt_harmfulness": Finding(label="unharmful", note=NOTE)})

    pieces = [*sentences(3000), *[GREEK] * 60, ". ", *sentences(500)]
    policy = Policy(on_unmeasured="undetermined", block={"harmful_response"})
    with Guard(judge=Recording(script, look_back=100), policy=policy) as guard:
        assert list(guard.stream("Tell me.", pieces)) == pieces


@pytest.mark.parametrize("on_undetermined", ["block", "allow"])
def test_a_quotation_in_a_language_never_measured_hides_nothing_that_the_whole_shows(on_undetermined) -> None:
    pieces = [*sentences(3000), *[GREEK] * 60, HARM, ". ", *sentences(500)]
    policy = Policy(on_unmeasured="undetermined", on_undetermined=on_undetermined)
    with Guard(judge=Recording(of_a_language, look_back=100), policy=policy) as guard:
        shown, verdict = collect(guard, pieces)
    assert HARM not in shown
    assert verdict is not None
    assert verdict.blocked_by == "finding"


def test_an_answer_that_turns_to_a_language_never_measured_ends_undetermined() -> None:
    pieces = [*sentences(1000), *[GREEK] * 600]
    shown: list[str] = []
    with (
        Guard(judge=Recording(of_a_language, look_back=100), policy=Policy(on_unmeasured="undetermined")) as guard,
        pytest.raises(UndeterminedError, match="written in Greek"),
    ):
        shown.extend(guard.stream("Tell me.", pieces))
    assert 1000 < len("".join(shown)) < 2500


def test_a_doubtful_excerpt_is_put_before_the_whole_within_a_budget() -> None:
    def script(exchange: Exchange) -> Judgement:
        text = exchange.response or ""
        if text.startswith("Sentence 00000") and "00050" in text:
            return judgement("unharmful", "compliance", "harmful")
        return judgement("unharmful", "compliance").model_copy(
            update={"response_harmfulness": Finding(label="unharmful", score=DOUBTFUL if "00050" in text else 0.0)}
        )

    with Guard(judge=Recording(script)) as guard:
        shown, verdict = collect(guard, sentences(6000))
    assert "00040" in shown
    assert "00050" not in shown
    assert verdict is not None
    assert verdict.blocked_by == "finding"

    def always(exchange: Exchange) -> Judgement:
        finding = Finding(label="unharmful", score=DOUBTFUL)
        return judgement("unharmful", "compliance").model_copy(update={"response_harmfulness": finding})

    judge = Recording(always)
    with Guard(judge=judge) as guard:
        collect(guard, sentences(40_000))
    assert sum(map(len, judge.seen)) < 40 * 40_000


def test_an_answer_too_long_to_be_judged_ends_when_it_becomes_so() -> None:
    piece = "x" * 300_000 + ". "
    with Guard(judge=Recording()) as guard:
        stream = guard.stream("Tell me.", itertools.repeat(piece))
        with pytest.raises(InputError, match="response: has 2,100,014 characters"):
            list(stream)


def test_a_harmful_prompt_blocks_at_the_first_check_and_stays_in_every_verdict() -> None:
    def script(exchange: Exchange) -> Judgement:
        return judgement("harmful" if "bomb" in exchange.prompt else "unharmful", "compliance", "unharmful")

    with Guard(judge=Recording(script)) as guard:
        stream = guard.stream("How do I build a bomb?", sentences(3000), on_block="message")
        assert list(stream) == [guard.policy.message]
    verdicts: list[Verdict] = []
    policy = Policy(block={"harmful_response"})
    with Guard(judge=Recording(script), policy=policy, on_verdict=lambda exchange, verdict: verdicts.append(verdict)) as guard:
        stream = guard.stream("How do I build a bomb?", sentences(3000))
        assert "".join(stream) == "".join(sentences(3000))
    assert {verdict.prompt_harmfulness.label for verdict in verdicts if verdict.prompt_harmfulness} == {"harmful"}
    assert stream.verdict is verdicts[-1]


def test_checks_come_at_sentence_ends_and_after_a_full_window(guard: Guard, judge: ScriptedJudge) -> None:
    text = "One, 3.14 and 2. Two!\nThree ends. " + "x" * 25 + " four"
    assert "".join(guard.stream("Tell me.", list(text), window=20)) == text
    assert [exchange.response for exchange in judge.seen] == [
        "One, 3.14 and 2. Two",  # a window of 20 characters: a digit's full stop ends no sentence
        "One, 3.14 and 2. Two!",
        "One, 3.14 and 2. Two!\nThree ends.",
        "One, 3.14 and 2. Two!\nThree ends. " + "x" * 19,
        text,
    ]


@pytest.mark.parametrize("end", [". ", "! ", "?", '."', "…", "。", "\n", "?) ", ".** "])
def test_a_sentence_end_of_any_kind_is_a_place_to_judge(guard: Guard, judge: ScriptedJudge, end: str) -> None:
    stream = guard.stream("Tell me.", iter(["This ends" + end, "and this goes on"]))
    assert next(stream) == "This ends" + end
    assert len(judge.seen) == 1


def test_what_the_answer_is_judged_with_is_the_prompt_and_its_history(guard: Guard, judge: ScriptedJudge) -> None:
    list(guard.stream("And then?", ["Well."], history=[{"role": "user", "content": "Begin."}]))
    assert [(seen.prompt, seen.response, seen.history[0].content) for seen in judge.seen] == [("And then?", "Well.", "Begin.")]


@pytest.mark.parametrize("pieces", [[], ["", ""], [" ", "\n\n", "\u200b"]])
def test_a_stream_that_says_nothing_has_the_verdict_on_its_prompt(guard: Guard, judge: ScriptedJudge, pieces) -> None:
    shown, verdict = collect(guard, pieces)
    assert shown == "".join(pieces)
    assert verdict is not None
    assert verdict.response_harmfulness is None
    assert [exchange.response for exchange in judge.seen] == [None]


def test_blanks_without_end_are_not_held_without_end(guard: Guard) -> None:
    assert next(guard.stream("Tell me.", itertools.repeat(" "), window=10)) == " "


async def test_a_block_raises_closes_the_source_and_reads_no_further(guard: Guard) -> None:
    pieces = ["Fine. ", f"Now {HARM}. ", *["more. "] * 200]
    source = Source(pieces)
    stream = guard.stream("Tell me.", source)
    assert next(stream) == "Fine. "
    with pytest.raises(BlockedError) as caught:
        next(stream)
    assert stream.blocked
    assert caught.value.verdict is stream.verdict
    assert source.closed
    assert source.read == 2
    with pytest.raises(StopIteration):
        next(stream)

    asource = Source(pieces)
    astream = guard.astream("Tell me.", asource)
    with pytest.raises(BlockedError):
        await alist(astream)
    assert astream.blocked
    assert asource.closed
    assert asource.read <= 2 + 200 // len("more. ") + 1 + READ_AHEAD


@pytest.mark.parametrize(
    ("policy", "on_block", "tail"),
    [
        (Policy(on_block="message", message="No."), None, ["\n\nNo."]),
        (Policy(), "message", ["\n\nI'm sorry, but I can't help with that."]),
        (Policy(on_block="message"), lambda verdict: f"<{verdict.action}>", ["<block>"]),
        (Policy(), lambda verdict: ["<", verdict.action, ">"], ["<", "block", ">"]),
        (Policy(), lambda verdict: ("<", ">"), ["<", ">"]),
        (Policy(), lambda verdict: [], []),
    ],
)
async def test_a_late_block_ends_as_the_policy_or_the_caller_says(judge: ScriptedJudge, policy, on_block, tail) -> None:
    async with Guard(judge=judge, policy=policy) as guard:
        pieces = ["Fine.", f" Now {HARM}.", " more"]
        stream = guard.stream("Tell me.", pieces, on_block=on_block)
        assert list(stream) == ["Fine.", *tail]
        assert stream.blocked
        astream = guard.astream("Tell me.", Source(pieces), on_block=on_block, window=5)
        assert await alist(astream) == ["Fine.", *tail]
        assert astream.blocked


async def test_an_asynchronous_function_says_what_ends_an_asynchronous_stream(guard: Guard) -> None:
    async def ending(verdict: Verdict) -> str:
        await asyncio.sleep(0)
        return f"<{verdict.action}>"

    assert await alist(guard.astream("Tell me.", Source([HARM]), on_block=ending)) == ["<block>"]


def test_a_message_that_comes_first_stands_alone(guard: Guard) -> None:
    assert list(guard.stream("Tell me.", [HARM, "more"], on_block="message")) == ["I'm sorry, but I can't help with that."]


@pytest.mark.parametrize("policy", [Policy(), Policy(on_undetermined="raise")])
async def test_what_could_not_be_decided_is_never_shown(policy: Policy) -> None:
    async with Guard(judge=ScriptedJudge({"Tell me.": RuntimeError("down")}), policy=policy) as guard:
        stream, astream = guard.stream("Tell me.", ["Fine."]), guard.astream("Tell me.", Source(["Fine."]))
        with pytest.raises(UndeterminedError):
            next(stream)
        with pytest.raises(UndeterminedError):
            await anext(astream)
        for verdict in (stream.verdict, astream.verdict):
            assert verdict is not None
            assert verdict.undetermined


def test_what_could_not_be_decided_is_shown_where_the_policy_allows_it() -> None:
    policy = Policy(on_undetermined="allow")
    with Guard(judge=ScriptedJudge({"Tell me.": RuntimeError("down")}), policy=policy) as guard:
        assert list(guard.stream("Tell me.", ["Fine."])) == ["Fine."]


async def test_pass_shows_at_once_and_stops_on_a_finding_within_a_window(guard: Guard) -> None:
    pieces = ["Fine ", "and ", HARM, " so on and on. ", "Never shown."]
    source = Source(pieces)
    stream = guard.stream("Tell me.", source, mode="pass")
    assert next(stream) == "Fine "
    assert source.read == 1
    assert stream.verdict is None
    assert [next(stream) for _ in range(3)] == pieces[1:4]
    with pytest.raises(BlockedError):
        next(stream)
    shown, _ = await acollect(guard, ["y" * 5, HARM, *["z" * 5] * 50], mode="pass", window=20)
    assert len(shown) <= 20 + 5


async def test_a_failing_source_fails_the_stream_and_what_was_held_is_dropped(guard: Guard) -> None:
    shown: list[str] = []
    source = Source(["Fine. ", "half a"], ConnectionError("lost"))
    with pytest.raises(ConnectionError, match="lost"):
        shown.extend(guard.stream("Tell me.", source))
    source = Source(["Fine. ", "half a"], ConnectionError("lost"))
    stream = guard.astream("Tell me.", source)
    with pytest.raises(ConnectionError, match="lost"):
        await into(shown, stream)
    assert "half a" not in shown
    assert source.closed


async def test_a_source_that_is_cancelled_from_within_does_not_leave_its_reader_waiting(guard: Guard) -> None:
    async def source() -> AsyncIterator[str]:
        yield "Fine. "
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await alist(guard.astream("Tell me.", source()))


async def test_the_source_is_read_no_faster_than_the_stream(guard: Guard) -> None:
    source = Source(["One. "] * 1000)
    stream = guard.stream("Tell me.", source)
    next(stream)
    assert source.read == 1
    source = Source(["One. "] * 1000)
    astream = guard.astream("Tell me.", source, window=5)
    await anext(astream)
    for _ in range(2 * READ_AHEAD):
        await asyncio.sleep(0)
    assert source.read <= READ_AHEAD + 2
    await astream.aclose()
    assert source.closed


async def test_closing_early_closes_the_source_even_if_nothing_was_read(guard: Guard) -> None:
    def untouched() -> Iterator[str]:
        yield ""

    never = untouched()
    guard.stream("Tell me.", never).close()
    assert never.gi_frame is None
    anever = Source([])._apieces()
    await guard.astream("Tell me.", anever).aclose()
    assert anever.ag_frame is None
    source = Source(["One. ", "Two. "])
    with guard.stream("Tell me.", source) as stream:
        next(stream)
    assert source.closed
    source = Source(["One. ", "Two. "])
    async with guard.astream("Tell me.", source, window=1) as astream:
        await anext(astream)
    assert source.closed


async def test_cancelling_the_reader_ends_the_check_and_the_source() -> None:
    started, ended = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    async def slow(exchange: Exchange) -> Judgement:
        loop.call_soon_threadsafe(started.set)
        try:
            await asyncio.Event().wait()
        finally:
            loop.call_soon_threadsafe(ended.set)
        raise AssertionError

    source = Source(["One. "] * 500)
    async with Guard(judge=ScriptedJudge(slow)) as guard:
        reading = asyncio.create_task(alist(guard.astream("Tell me.", source)))
        await asyncio.wait_for(started.wait(), 10)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await asyncio.wait_for(ended.wait(), 10)
    assert source.closed
    assert len(asyncio.all_tasks()) == 1


def test_a_slow_guard_is_asked_less_often_by_a_synchronous_stream() -> None:
    async def slow(exchange: Exchange) -> Judgement:
        await asyncio.sleep(1.1 * NOTICEABLE)
        return judgement("unharmful", "compliance", "unharmful")

    judge = ScriptedJudge(slow)
    with Guard(judge=judge) as guard:
        assert "".join(guard.stream("Tell me.", ["One. ", "Two. ", "Three. "], window=40)) == "One. Two. Three. "
    assert [exchange.response for exchange in judge.seen] == ["One. ", "One. Two. Three. "]


async def test_what_arrives_during_a_check_is_judged_together() -> None:
    gate = asyncio.Event()
    loop = asyncio.get_running_loop()
    everything_read = asyncio.Event()

    async def slow(exchange: Exchange) -> Judgement:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(everything_read.wait(), loop))
        return judgement("unharmful", "compliance", "unharmful")

    async def source() -> AsyncIterator[str]:
        yield "One. "
        await gate.wait()
        for _ in range(9):
            yield "More. "
        everything_read.set()

    judge = ScriptedJudge(slow)
    async with Guard(judge=judge) as guard:
        stream = guard.astream("Tell me.", source())
        first = asyncio.create_task(anext(stream))
        while not judge.seen:
            await asyncio.sleep(0.001)
        gate.set()
        await first
        await alist(stream)
    assert [exchange.response for exchange in judge.seen] == ["One. ", "One. " + "More. " * 9]


async def test_200_streams_at_a_time_never_mix() -> None:
    async def patient(exchange: Exchange) -> Judgement:
        await asyncio.sleep(0)
        return by_mark(exchange)

    judge = ScriptedJudge(patient)
    async with Guard(judge=judge) as guard:

        async def one(number: int) -> None:
            chance = random.Random(number)
            pieces = [f"<{number}>" + chance.choice([" ", ". ", "! "]) for _ in range(chance.randrange(5, 40))]
            if number % 4 == 0:
                pieces.insert(chance.randrange(len(pieces)), HARM)
            stream = guard.astream(f"Number {number}", Source(pieces), window=chance.randrange(5, 60))
            shown = []
            with contextlib.suppress(BlockedError):
                await into(shown, stream)
            assert shown == pieces[: len(shown)]
            assert stream.blocked == (number % 4 == 0)
            assert HARM not in shown
            assert stream.blocked or shown == pieces

        await asyncio.gather(*(one(number) for number in range(200)))
    for exchange in judge.seen:
        number = exchange.prompt.split()[1]
        assert set((exchange.response or "").replace(HARM, "").replace("!", "").replace(".", "").split()) <= {f"<{number}>"}


class Chunk:
    def __init__(self, number: int, **texts: str) -> None:
        self.number = number
        self.texts = texts


async def test_items_that_carry_text_come_out_whole_and_in_order(guard: Guard, judge: ScriptedJudge) -> None:
    items = [Chunk(0), Chunk(1, a="Hello"), Chunk(2), Chunk(3, b="Servus. "), Chunk(4, a=" there."), Chunk(5)]
    stream = guard.stream("Tell me.", items, text=lambda item: item.texts)
    assert next(stream) is items[0]
    assert judge.seen == []
    assert list(stream) == items[1:]
    assert [exchange.response for exchange in judge.seen] == ["Hello", "Servus. ", "Hello there."]


def test_one_harmful_answer_of_several_blocks_the_stream(guard: Guard) -> None:
    items = [Chunk(1, a="Hello. "), Chunk(2, b=HARM), Chunk(3, a="more. ")]
    stream = guard.stream("Tell me.", items, text=lambda item: item.texts, on_block=lambda verdict: Chunk(9))
    assert [item.number for item in stream] == [1, 9]


def test_a_finding_in_one_answer_is_not_hidden_by_a_failure_in_another() -> None:
    def script(exchange: Exchange) -> Judgement:
        return judgement("unharmful", "compliance", "undetermined" if exchange.response == "unsure." else "harmful")

    item = {"a": "unsure.", "b": "bad."}
    with Guard(judge=ScriptedJudge(script)) as guard, pytest.raises(BlockedError):
        list(guard.stream("Tell me.", [item], text=lambda item: item))


def test_items_without_text_behind_held_text_do_not_pile_up(guard: Guard) -> None:
    items = iter(["half a sentence", *[""] * 1000])
    assert next(guard.stream("Tell me.", items, window=50)) == "half a sentence"
    assert len(list(items)) > 900


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"mode": "show"}, "mode: must be 'hold' or 'pass', not 'show'"),
        ({"window": 0}, "window: must be a number of characters from 1, not 0"),
        ({"window": True}, "window:"),
        ({"on_block": "stop"}, "on_block: must be 'raise', 'message' or a function, not 'stop'"),
        ({"on_block": "message", "text": str}, "on_block: 'message' is for streams of str"),
    ],
)
def test_options_that_cannot_work_are_refused_when_the_stream_is_made(guard: Guard, options, problem: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        guard.stream("Tell me.", [], **options)
    assert str(caught.value).startswith(problem)


def test_chunks_that_are_no_text_are_an_error_that_says_what_to_do(guard: Guard) -> None:
    with pytest.raises(InputError, match="chunk: must be a str, not bytes; pass text="):
        list(guard.stream("Tell me.", [b"bytes"]))  # type: ignore[list-item]
    with pytest.raises(InputError, match="text: must be a str, not NoneType; let text= give a str"):
        list(guard.stream("Tell me.", [Chunk(1)], text=lambda item: None))  # type: ignore[arg-type, return-value]
    with pytest.raises(InputError, match="chunks: must be an iterable of chunks, not str"):
        guard.stream("Tell me.", "a whole text is no stream of chunks")
    with pytest.raises(InputError, match="use guard.astream"):
        guard.stream("Tell me.", Source([])._apieces())  # type: ignore[call-overload]
    with pytest.raises(InputError, match="chunks: must be an asynchronous iterable, not list; use guard.stream in a thread"):
        guard.astream("Tell me.", ["text"])  # type: ignore[call-overload]
    with pytest.raises(InputError, match="prompt: is empty"):
        guard.stream("", ["text"])


async def test_a_stream_that_is_forgotten_leaves_no_task_behind(guard: Guard) -> None:
    source = Source(["One. "] * 500)
    stream = guard.astream("Tell me.", source, window=1)
    await anext(stream)
    del stream
    gc.collect()
    async with asyncio.timeout(60):
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0)
    assert source.closed


def test_a_quotation_in_a_language_never_measured_does_not_end_an_answer_that_is_judged() -> None:
    note = "written in the Greek script, which this guard was never measured in"

    def judged(exchange: Exchange) -> Judgement:
        text = exchange.response or ""
        far = sum(character > "\u036f" for character in text) * 2 > len(text)
        finding = Finding(label="unharmful", score=0.02, note=note if far else None)
        return Judgement(prompt_harmfulness=Finding(label="unharmful", score=0.02), response_harmfulness=finding)

    answer = "The teacher told us about it in plain words. " * 40
    quoted = answer + "\u03b1\u03b2\u03b3 " * 200 + answer
    policy = Policy(on_unmeasured="undetermined")
    with Guard(judge=ScriptedJudge(judged), policy=policy) as guard:
        assert guard.check("Hi", quoted).allowed
        pieces = [quoted[at : at + 40] for at in range(0, len(quoted), 40)]
        assert "".join(guard.stream("Hi", pieces)) == quoted
        with pytest.raises(UndeterminedError):
            list(guard.stream("Hi", ["\u03b1\u03b2\u03b3 " * 400]))
