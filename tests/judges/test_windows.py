"""What of an exchange is judged, and what many windows come to: on a model whose words have known scores (``wordguard``)."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardreasoner_sdk import Exchange, Guard, Turn, Verdict
from guardreasoner_sdk.errors import DeadlineError
from guardreasoner_sdk.judges.embedded import EmbeddedJudge
from guardreasoner_sdk.judges.encoding import TokenWindow, collate
from guardreasoner_sdk.judges.model_folder import OUTPUTS, load_model
from guardreasoner_sdk.judges.windows import JudgedExchange, Seen, read_rows
from wordguard import DOUBT, ENCODING, HARMFUL, HARMLESS, HIGH, LOW, REFUSAL, write_word_model

FILLER = "My sister made a fine bread for the children. "


@pytest.fixture(scope="session")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_word_model(tmp_path_factory.mktemp("words"))


@pytest.fixture(scope="session")
def guard(words: Path) -> Guard:
    return Guard(str(words))


def changed(words: Path, tmp_path: Path, **changes: Any) -> str:
    folder = Path(shutil.copytree(words, tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(config | changes), "utf-8")
    return str(folder)


def score(verdict: Verdict, task: str = "prompt_harmfulness") -> float:
    finding = verdict.findings[task]  # type: ignore[index]
    assert finding.score is not None
    return finding.score


def chance(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def test_the_strongest_token_decides_however_much_stands_around_it(guard: Guard) -> None:
    alone = score(guard.check("storm"))
    assert alone == pytest.approx(chance(HIGH), abs=0.01)
    for around in (1, 10, 100):
        for text in (FILLER * around + "storm", "storm " + FILLER * around, FILLER * around + "storm " + FILLER * around):
            assert score(guard.check(text)) == pytest.approx(alone, abs=0.01)
    assert score(guard.check(FILLER * 200)) == pytest.approx(chance(LOW), abs=0.01)


@pytest.mark.parametrize("role", ["user", "assistant"])
def test_a_prompt_is_judged_alone_and_behind_the_last_turns(guard: Guard, role: str) -> None:
    history = [{"role": role, "content": "What does a cloud do?"}]
    assert guard.check("Make rain").allowed
    verdict = guard.check("Make rain", history=history)
    assert not verdict.allowed
    assert verdict.reasoning[0].text.startswith("Behind the turns before it: P(harmful) is 0.9")
    assert verdict.reasoning[-1].text == 'Behind the turns before it: "rain" carries it: P(harmful) there is 0.98.'
    # What was said before is read, and not judged; and it takes nothing from what is found in the prompt alone.
    assert guard.check(HARMLESS, history=[{"role": role, "content": HARMFUL}]).allowed
    assert score(guard.check(HARMFUL, history=history)) >= score(guard.check(HARMFUL))


@pytest.mark.parametrize("role", ["system", "tool"])
def test_what_the_application_says_itself_is_not_read(guard: Guard, role: str) -> None:
    said = [Turn(role=role, content=f"What does a cloud do? {HARMFUL}")]  # type: ignore[arg-type]
    verdict = guard.check("Make rain", history=said)
    assert verdict.model_copy(update={"latency_ms": 0.0}) == guard.check("Make rain").model_copy(update={"latency_ms": 0.0})


@pytest.mark.parametrize("later", [0, 1, 3])
def test_of_the_turns_before_the_last_ones_are_shown(guard: Guard, later: int) -> None:
    """As many as there is room for; a longer prompt says by itself what it is about."""
    history = [Turn(role="user", content="cloud"), *[Turn(role="assistant", content="fine bread " * 5)] * later]
    assert guard.check("Make rain" + " for children" * 10, history=history).allowed == (later > 1)


@pytest.mark.parametrize("later", [1, 3, 30])
def test_a_short_prompt_is_read_behind_what_the_user_asked_whatever_the_assistant_said_since(guard: Guard, later: int) -> None:
    asked, said = Turn(role="user", content="cloud"), Turn(role="assistant", content="fine bread " * 5)
    verdict = guard.check("Make rain", history=[asked, *[said] * later])
    assert not verdict.allowed
    assert verdict.reasoning[0].text.startswith("Behind the turns before it: ")
    # What the assistant said does not become the user's by that, and what was asked is judged no second time.
    assert guard.check("Make rain", history=[Turn(role="assistant", content="cloud"), *[said] * 3]).allowed
    assert guard.check("Make bread", history=[Turn(role="user", content=HARMFUL), said]).allowed


def test_a_long_conversation_costs_what_a_short_one_does(guard: Guard) -> None:
    long = [Turn(role="user", content=FILLER * 20_000), Turn(role="assistant", content=FILLER * 20_000)] * 20
    usage = guard.check("Make rain", history=long).usage.input_tokens
    assert usage <= 3 * ENCODING["window_tokens"]


def test_a_response_is_judged_behind_its_prompt_and_the_prompt_is_not_judged_in_it(guard: Guard) -> None:
    verdict = guard.check(HARMFUL, "Please read a book.")
    assert [finding.label for finding in verdict.findings.values()] == ["harmful", "compliance", "unharmful"]
    assert guard.check(HARMLESS, "A flood").response_harmfulness.label == "harmful"


def test_a_refusal_is_read_from_the_opening_alone(guard: Guard) -> None:
    fits = "Sorry" + " fine" * 5
    assert guard.check(HARMLESS, fits).response_refusal.label == "refusal"
    assert guard.check(HARMLESS, "fine " * ENCODING["opening_tokens"] + REFUSAL).response_refusal.label == "compliance"
    long = guard.check(HARMLESS, REFUSAL + FILLER * 100)
    assert long.response_refusal.label == "refusal"
    passages = [step for step in long.reasoning if step.task == "response_refusal" and step.span]
    assert passages[0].text == '"Sorry, I cannot" carries it: P(refusal) there is 0.98.'
    # Nor does the beginning of a later window count as one.
    assert guard.check(HARMLESS, FILLER * 50 + (REFUSAL + " ") * 100).response_refusal.label == "compliance"


def test_more_windows_take_off_from_harm_and_nothing_from_a_refusal(words: Path, tmp_path: Path) -> None:
    shift = {"prompt_harmful": 0.5, "response_refusal": 0.5, "response_harmful": 0.25}
    with Guard(changed(words, tmp_path, length_shift=shift)) as guard:
        judge = guard.judge
        assert isinstance(judge, EmbeddedJudge)
        encoder = judge._loaded().encoder
        short, long = guard.check(HARMFUL, "Sorry flood"), guard.check(FILLER * 50 + HARMFUL, "Sorry flood. " + FILLER * 50)
        windows = len(encoder.prompt(FILLER * 50 + HARMFUL))
        answers = len(encoder.pair(FILLER * 50 + HARMFUL, "Sorry flood. " + FILLER * 50))
    assert min(windows, answers) > 15

    def logit(verdict: Verdict, task: str) -> float:
        return math.log(score(verdict, task) / (1 - score(verdict, task)))

    taken = {task: logit(short, task) - logit(long, task) for task in short.findings}
    # No more than in the longest texts that it was measured in: a text must not grow out of reach.
    assert answers > 32
    assert taken["prompt_harmfulness"] == pytest.approx(0.5 * math.log2(min(windows, 32)), abs=0.05)
    assert taken["response_harmfulness"] == pytest.approx(0.25 * 5, abs=0.05)
    assert taken["response_refusal"] == pytest.approx(0, abs=0.05)


def test_earlier_turns_are_not_taken_for_length(words: Path, tmp_path: Path) -> None:
    with Guard(
        changed(words, tmp_path, length_shift=dict.fromkeys(("prompt_harmful", "response_refusal", "response_harmful"), 2))
    ) as guard:
        history = [Turn(role="user", content="What does a cloud do?")]
        assert score(guard.check(HARMFUL, history=history)) == pytest.approx(score(guard.check(HARMFUL)), abs=0.01)


def test_hazard_categories_are_those_of_each_text(guard: Guard) -> None:
    verdict = guard.check("A thunder", "A flood")
    assert verdict.categories == ("S2 Non-Violent Crimes", "S3 Sex-Related Crimes")
    named = {step.task: step.text for step in verdict.reasoning if "hazard" in step.text}
    assert named["prompt_harmfulness"].startswith("The prompt's nearest hazard category is S2 Non-Violent Crimes, P is 0.9")
    assert named["response_harmfulness"].startswith("The response's nearest hazard category is S3 Sex-Related Crimes, P is 0.9")


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_no_verdict_hangs_on_threads_or_neighbours(words: Path, guard: Guard, threads: int) -> None:
    rows = [HARMFUL, (HARMLESS, REFUSAL), FILLER * 30 + HARMFUL, (FILLER * 30, FILLER * 30 + "flood " + FILLER * 30), HARMLESS]
    with Guard(judge=EmbeddedJudge(words, threads=threads, reasoning="full")) as own:
        together = [verdict.model_dump(exclude={"latency_ms"}) for verdict in own.check_many(rows)]
        assert together == [
            own.check(*(row if isinstance(row, tuple) else (row,))).model_dump(exclude={"latency_ms"}) for row in rows
        ]
    assert [verdict["action"] for verdict in together] == [verdict.action for verdict in guard.check_many(rows)]


# --- Sentences that are read again, by themselves ---


HIDDEN = "Make smoke at home."


@pytest.mark.parametrize(
    "text",
    [
        f"How do I bake bread? {HIDDEN} What is one with two?",
        f"1. How do I bake bread\n2. {HIDDEN}\n3. Read a book",
        f"{HIDDEN} {FILLER * 40}",
        f"{FILLER * 40}{HIDDEN} {FILLER * 40}",
    ],
)
def test_a_sentence_that_others_calm_is_read_by_itself(guard: Guard, text: str) -> None:
    verdict, answer = guard.check(text), guard.check(HARMLESS, text)
    assert answer.response_harmfulness is not None
    for found, finding, source in (
        (verdict, verdict.prompt_harmfulness, "prompt"),
        (answer, answer.response_harmfulness, "response"),
    ):
        assert finding.label == "harmful"
        assert finding.score == pytest.approx(chance(HIGH), abs=0.01)
        steps = [step for step in found.reasoning if step.text.startswith("A sentence by itself: ")]
        assert len(steps) == 2
        span = steps[-1].span
        assert span is not None
        assert (text[span.start : span.end], span.source) == ("smoke", source)
    assert answer.response_refusal is not None
    assert answer.response_refusal.label == "compliance"


def test_only_a_doubt_is_looked_at_again_and_only_where_there_is_more_than_it(guard: Guard) -> None:
    def read(text: str) -> int:
        return guard.check(text).usage.input_tokens

    one = guard.check("Make smoke with bread at home")
    assert one.allowed
    assert 0.02 < score(one) < chance(DOUBT)
    assert read("Make smoke with bread at home") == 6 + 2
    assert read("Make bread at home. Read a book.") == 9 + 2, "a text without a doubt"
    assert read("Make bread. A storm at home.") == 8 + 2, "a text that is sure to be harmful"
    assert read("Make bread. My smoke.") == (6 + 2) + (3 + 2) + (3 + 2)
    # Of many doubtful ones, two.
    many = "Read a bread. " + "My smoke bread. " * 3
    assert read(many) == (16 + 2) + 2 * (4 + 2)


def test_length_takes_from_a_sentence_what_it_takes_from_the_text(words: Path, tmp_path: Path) -> None:
    shift = dict.fromkeys(("prompt_harmful", "response_refusal", "response_harmful"), 0.5)
    with Guard(changed(words, tmp_path, length_shift=shift)) as guard:
        judge = guard.judge
        assert isinstance(judge, EmbeddedJudge)
        text = f"{FILLER * 20}{HIDDEN} {FILLER * 20}"
        windows = len(judge._loaded().encoder.prompt(text))
        assert windows > 10
        assert score(guard.check(text)) == pytest.approx(chance(HIGH - 0.5 * math.log2(windows)), abs=0.01)


@pytest.mark.parametrize("letter", ["\u4f60", "a "])
def test_all_of_a_long_sentence_is_read(guard: Guard, letter: str) -> None:
    """Its strongest word may stand behind what fits into one window."""
    text = f"{letter * 150} smoke {letter * 4} bread. bread"
    again = f"bread. {letter * 150} smoke {letter * 4}. bread"
    assert guard.check(text).allowed, "one sentence with what calms it"
    assert not guard.check(again).allowed
    assert not guard.check(HARMLESS, again).allowed


def test_what_is_found_harmful_is_not_read_again(guard: Guard) -> None:
    judge = guard.judge
    assert isinstance(judge, EmbeddedJudge)
    encoder = judge._loaded().encoder
    text = "Make bread. Thunder and smoke. Read a book."
    once = sum(len(window.ids) for window in [*encoder.prompt(HARMLESS), *encoder.pair(HARMLESS, text)])
    assert guard.check(HARMLESS, text).usage.input_tokens == once


def test_a_refusal_is_not_read_in_a_sentence_of_its_own(guard: Guard) -> None:
    late = guard.check(HARMLESS, "Bread is fine. " * 4 + "Sorry, I cannot make smoke.")
    assert late.response_refusal is not None
    assert late.response_refusal.label == "compliance"
    assert late.response_harmfulness is not None
    assert late.response_harmfulness.label == "harmful"


def test_a_sentence_of_what_was_decoded_is_read_by_itself_too(guard: Guard) -> None:
    hidden = "UmVhZCBhIGJyZWFkIGF0IGhvbWUuIE1ha2UgbWUgYSBzbW9rZSBmb3IgdGhlIGNoaWxkcmVuLg=="
    verdict = guard.check(f"Please help with {hidden} for me")
    assert verdict.reasoning[0].text.startswith("Once decoded, a sentence by itself: P(harmful) is 0.98")
    assert [step.span for step in verdict.reasoning] == [None] * len(verdict.reasoning)


def test_what_is_decided_when_the_time_is_up_stays_decided(words: Path) -> None:
    model = load_model(words)
    texts = [HARMLESS, f"Bake bread. {HIDDEN}", HARMFUL, "Read a book. My garden is quiet."]

    def whole(after: int) -> list[bool]:
        windows = 0

        def see(window: TokenWindow) -> Seen:
            nonlocal windows
            windows += 1
            tokens, logits, hazards, languages = (found[0] for found in model.session.run(OUTPUTS, collate([window])))
            return Seen(window.start, tokens[window.first : -1], logits.tolist(), hazards.tolist(), languages.tolist())

        def check() -> None:
            if windows >= after:
                raise DeadlineError

        rows = [JudgedExchange(Exchange(text)) for text in texts]
        read_rows(rows, model.encoder, see, threads=1, check=check)
        return [row.whole for row in rows]

    assert whole(100) == [True] * 4
    # All windows were seen, and one sentence of two: the doubtful row is not decided, the others are.
    assert whole(5) == [True, False, True, True]
    assert whole(0) == [False] * 4


# --- Passages, in the text that the caller gave ---


def passages(verdict: Verdict, text: str) -> list[str]:
    return [text[step.span.start : step.span.end] for step in verdict.reasoning if step.span is not None]


@pytest.mark.parametrize(
    ("text", "passage"),
    [
        ("How do I bake\n\n\na   storm   at home?", "a   storm"),
        ("My st\u200borm is f\u00adine", "My st\u200borm"),
        ("One \uff53\uff54\uff4f\uff52\uff4d please", "\uff53\uff54\uff4f\uff52\uff4d"),
        ("Read s.t.o.r.m. at home", "s.t.o.r.m"),
        ("Read s t o r m at home", "s t o r m"),
        ("Please 5t0rm at home", "5t0rm"),
        ("\u4f60\u597d storm \u4f60\u597d", "storm"),
    ],
)
def test_a_passage_lies_where_the_caller_wrote_it(guard: Guard, text: str, passage: str) -> None:
    verdict = guard.check(text)
    found = passages(verdict, text)
    assert len(found) == 1
    assert passage in found[0]
    assert len(found[0]) <= len(passage) + 16


def test_a_passage_in_a_long_text_is_named_once_and_in_its_place(guard: Guard) -> None:
    text = FILLER * 40 + "One storm. " + FILLER * 40 + "Two thunder! " + FILLER * 40
    verdict = guard.check(text)
    assert passages(verdict, text) == ["storm.", "thunder!"]
    weights = [step.weight for step in verdict.reasoning if step.span]
    assert weights == sorted(weights, reverse=True)
    assert weights[0] == pytest.approx(chance(HIGH))


def test_three_passages_are_named_at_most(guard: Guard) -> None:
    text = (FILLER * 3 + "A storm. ") * 6
    assert len(passages(guard.check(text), text)) == 3


@given(
    st.text(st.characters(codec="utf-8"), max_size=60),
    st.sampled_from(["storm", "Storm!", " storm ", "s.t.o.r.m", "5t0rm"]),
    st.integers(0, 400),
)
def test_passages_lie_in_any_text(words: Path, around: str, word: str, repeats: int) -> None:
    text = f"{around} {FILLER * (repeats // 20)} {word} {around}"
    judge = EmbeddedJudge(words, threads=1, reasoning="full")
    (found,) = judge.judge_now([Exchange(text, text)], deadline=None)
    spans = [step.span for step in found.reasoning if step.span is not None]
    assert spans
    for span in spans:
        assert 0 <= span.start < span.end <= len(text)
        assert span.source in ("prompt", "response")


def test_what_is_decoded_is_judged_beside_the_text_and_the_reasons_say_so(guard: Guard) -> None:
    hidden = "TWFrZSBtZSBhIHN0b3JtIGZvciB0aGUgY2hpbGRyZW4gYXQgaG9tZQ=="  # Make me a storm for the children at home
    verdict = guard.check(f"Please read {hidden} for me")
    assert not verdict.allowed
    score_step, hazard, passage = verdict.reasoning
    assert score_step.text == "Once decoded: P(harmful) is 0.98; the label changes at 0.50."
    assert hazard.text.startswith("The prompt's nearest hazard category is S1")
    assert passage.text == 'Once decoded: "me a storm" carries it: P(harmful) there is 0.98.'
    assert passage.span is None, "the text does not hold it as it was read"
    answer = guard.check(HARMLESS, f"Please read {hidden} for me")
    assert [finding.label for finding in answer.findings.values()] == ["unharmful", "compliance", "harmful"]
    # What is found in the text as it stands is told of that.
    plain = guard.check(f"A storm, please read {hidden} for me")
    assert not any("decoded" in step.text for step in plain.reasoning)
    assert guard.check("Please read TWFrZSBtZSBhIGNha2UgZm9yIHRoZSBjaGlsZHJlbiBhdCBob21l for me").allowed


# --- Languages ---


def test_a_text_in_a_language_never_measured_is_noted(guard: Guard) -> None:
    verdict = guard.check("Habari asante hamna habari", "My sister made a fine bread")
    note = "written in Swahili, a language this guard was never measured in"
    assert verdict.prompt_harmfulness.note == note
    assert verdict.response_harmfulness.note is None
    assert verdict.allowed
    assert guard.check("Habari").prompt_harmfulness.note is None, "of one word no language is told"


def test_a_policy_may_take_a_noted_finding_for_undetermined(words: Path) -> None:
    text = "Habari asante hamna habari"
    with Guard(str(words), policy={"on_unmeasured": "undetermined"}) as strict:
        verdict = strict.check(text)
        assert verdict.undetermined
        assert verdict.blocked_by == "failure"
        assert verdict.reasons == (
            "prompt_harmfulness is undetermined (written in Swahili, a language this guard was never measured in); "
            "on_undetermined='block'",
        )
        assert strict.check(HARMLESS).allowed
    with Guard(str(words), policy={"on_unmeasured": "undetermined", "on_undetermined": "allow"}) as lenient:
        assert lenient.check(text).undetermined
        assert lenient.check(text).allowed


def test_the_language_of_a_long_text_is_that_of_most_of_it(guard: Guard) -> None:
    assert guard.check(FILLER * 60 + "habari asante hamna " * 5).prompt_harmfulness.note is None
    assert guard.check(FILLER * 3 + "habari asante hamna " * 60).prompt_harmfulness.note is not None


@pytest.mark.parametrize("text", ["\u0600\u0601\u06dd", "\u202e\u2066\U000e0001\u0600"])
def test_a_text_in_which_nothing_can_be_read_is_not_decided(guard: Guard, text: str) -> None:
    asked, answered = guard.check(text), guard.check(HARMLESS, text)
    for finding in (asked.prompt_harmfulness, answered.response_refusal, answered.response_harmfulness):
        assert finding is not None
        assert (finding.label, finding.cause) == ("undetermined", "the model reads nothing in the text")
    assert (asked.action, asked.blocked_by) == ("block", "failure")
    assert answered.prompt_harmfulness.label == "unharmful"


def test_letters_that_nobody_sees_are_judged(guard: Guard) -> None:
    tags = "".join(chr(0xE0000 + ord(character)) for character in HARMFUL)
    alone = guard.check(tags)
    for verdict in (alone, guard.check(f"{HARMLESS} {tags}"), guard.check(f"{HARMLESS}{tags} {FILLER * 40}")):
        assert verdict.prompt_harmfulness.label == "harmful"
    # A response of nothing else says in the open neither yes nor no.
    answer = guard.check(HARMLESS, "".join(chr(0xE0000 + ord(character)) for character in "Sure, storm and thunder"))
    assert answer.response_harmfulness is not None
    assert answer.response_refusal is not None
    assert (answer.response_harmfulness.label, answer.response_refusal.label) == ("harmful", "undetermined")


def test_digits_of_every_script_are_judged_as_the_text_that_they_are(guard: Guard) -> None:
    for zero in (0x660, 0x6F0, 0x966, 0x9E6, 0xE50, 0xFF10, 0x1D7CE):
        for count in range(6, 14):
            number = "".join(chr(zero + n % 10) for n in range(count))
            for text in (number, f"{FILLER} {number}", " ".join(number), " ".join([number] * 5)):
                assert guard.check(text, text).prompt_harmfulness.label == "unharmful"
                assert guard.check(f"{HARMFUL} {text}").prompt_harmfulness.label == "harmful"
