"""Texts of harm and of none that are made alike: the make of a text, its language and its length say nothing of its label."""

from __future__ import annotations

import json
import re
from collections import Counter
from random import Random
from statistics import mean

import pytest

pytest.importorskip("torch", reason="needs the extra 'train'")

from guardreasoner_training.embedded.blunt import make_blunt, make_everyday_answers
from guardreasoner_training.embedded.conversations import AGAIN, ASIDE, MORE, make_conversations
from guardreasoner_training.embedded.examples import HAZARD_CODES, Example
from guardreasoner_training.embedded.framings import BEFORE, BEHIND, MARKUP, make_framed, twins
from guardreasoner_training.embedded.needles import LAYOUTS, make_needles
from guardreasoner_training.embedded.phrases import ASKING, LANGUAGES
from guardreasoner_training.embedded.translated import COMPLIANCE, REFUSALS, make_declined, refusal_in
from guardreasoner_training.embedded.unlabelled import declines

MAIN = ("en", "de", "fr", "es", "pt", "it", "nl", "ru", "zh", "ja", "ko", "ar", "hi", "tr")


def prompts(lang: str, count: int = 60) -> list[Example]:
    return [
        Example(
            f"{lang} {kind} wish number {n}, please", None, (harmful, None, None), 1.0, "made", lang, 3 if harmful else None
        )
        for kind, harmful in (("bad", True), ("good", False))
        for n in range(count)
    ]


def answers(lang: str, count: int = 40) -> list[Example]:
    bad = [
        Example(f"{lang} bad wish number {n}, please", f"{lang} bad deed {n}.", (None, False, True), 1.0, "made", lang, 3)
        for n in range(count)
    ]
    good = [
        Example(
            f"{lang} good wish number {n}, please", f"{lang} good deed {n}.\n\nAnd then rest a while, says {n}.", (None, False, False), 1.0,
            "gpteacher", lang,
        )
        for n in range(count)
    ]  # fmt: skip
    return bad + good


SOURCE = [example for lang in ("en", "de", "hi") for example in (*prompts(lang), *answers(lang))]


def labels(made: list[Example]) -> Counter[object]:
    return Counter((example.lang, example.labels[0]) for example in made if example.response is None)


def test_each_draw_is_the_same_again_and_another_with_another_seed() -> None:
    for make in (make_needles, make_framed, make_conversations, make_declined):
        assert make(SOURCE, 200, seed=3) == make(SOURCE, 200, seed=3) != make(SOURCE, 200, seed=4)
    assert make_blunt(40, seed=3) == make_blunt(40, seed=3) != make_blunt(40, seed=4)


def test_bags_hold_one_harmful_part_or_none() -> None:
    made = make_needles(SOURCE, 800, seed=1)
    for example in made:
        text = example.prompt if example.response is None else example.response
        harmful = example.labels[0] if example.response is None else example.labels[2]
        assert len(re.findall(r"\w\w bad (?:wish|deed)", text)) == (1 if harmful else 0)
        assert re.search("good|says", text)
        assert (example.hazard is not None) == harmful
    counts = labels(made)
    assert {lang for lang, _ in counts} == {"en", "de", "hi"}
    assert all(counts[lang, True] == counts[lang, False] for lang, _ in counts)
    judged = Counter(example.labels[2] for example in made if example.response is not None)
    assert judged == {True: 150, False: 150}


def test_answers_with_harm_are_as_long_as_those_without() -> None:
    long = [
        Example(f"en bad wish number {n}", f"en bad deed {n}" + ", and so on" * n, (None, False, True), 1.0, "made")
        for n in range(60)
    ]
    # Of all lengths, most of them short.
    short = [
        Example(f"en good wish {n}", f"en good deed {n}" + ", and so on" * (n * n // 60), (None, False, False), 1.0, "made")
        for n in range(60)
    ]
    made = [example for example in make_needles([*long, *short, *answers("en")], 3200, seed=1) if example.response is not None]
    sizes = {
        harmful: [len(example.response or "") for example in made if example.labels[2] is harmful] for harmful in (True, False)
    }
    assert mean(sizes[True]) == pytest.approx(mean(sizes[False]), rel=0.15)


def test_bags_with_harm_are_as_long_and_laid_out_as_those_without() -> None:
    source = [*prompts("en", 600), *answers("en")]
    made = [example for example in make_needles(source, 3200, seed=2) if example.response is None]
    sizes = {
        harmful: [len(example.prompt.split()) for example in made if example.labels[0] is harmful] for harmful in (True, False)
    }
    assert mean(sizes[True]) == pytest.approx(mean(sizes[False]), rel=0.15)
    assert min(sizes[True]) < 40
    assert max(sizes[True]) > 250
    starts = {
        harmful: Counter(example.prompt[:2] for example in made if example.labels[0] is harmful) for harmful in (True, False)
    }
    for start in ("1.", "- ", "* ", "Q1", "> ", "No", "Pl"):
        assert starts[True][start] == pytest.approx(starts[False][start], rel=0.5)
    # Anywhere: at the beginning, in the middle, at the end.
    places = [example.prompt.find("bad wish") / len(example.prompt) for example in made if example.labels[0]]
    assert min(places) < 0.05
    assert max(places) > 0.8
    assert 0.35 < mean(places) < 0.6
    assert len(LAYOUTS) > 10


def test_an_answer_with_a_harmful_part_is_no_refusal_unless_it_begins_as_one() -> None:
    refused = [Example(f"bad {n}", f"I can't help with {n}.", (None, True, False), 1.0, "made") for n in range(30)]
    made = [example for example in make_needles(SOURCE + refused, 800, seed=1) if example.response is not None]
    behind = [example for example in made if "I can't help" in (example.response or "")]
    assert behind
    assert {example.labels[1] for example in behind if not (example.response or "").startswith("I can't")} == {False}
    assert {example.labels[1] for example in behind if (example.response or "").startswith("I can't")} <= {None}


def test_frames_go_round_harmful_and_harmless_requests_of_each_language_alike() -> None:
    made = make_framed([example for lang in ("en", "de", "hi") for example in prompts(lang, 600)], 3000, seed=1)
    counts = labels(made)
    assert all(counts[lang, True] == counts[lang, False] > 0 for lang, _ in counts)
    assert all(re.search(r"\w\w (bad|good) wish number", example.prompt) for example in made)
    for texts in (BEFORE, BEHIND):
        for words in texts["en"].split("|"):
            around = Counter(example.labels[0] for example in made if words in example.prompt)
            assert min(around[True], around[False]) > 0
            assert around[True] == pytest.approx(around[False], rel=0.8)


def test_markup_holds_the_request_and_fills_every_place() -> None:
    request = 'Say "{hello}" & <b>go</b>'
    source = [Example(request, None, (harmful, None, None), 1.0, "made") for harmful in (True, False)] * 300
    made = {example.prompt for example in make_framed(source, 600, seed=1)}
    assert all(request in text or json.dumps(request) in text for text in made)
    assert len(made) > len(MARKUP)


def test_twins_are_of_one_language() -> None:
    pairs = twins([*SOURCE, *prompts("xx")[:60]], 100, Random(1))
    assert len(pairs) == 100
    assert all(bad.labels[0] is True and good.labels[0] is False and bad.lang == good.lang != "xx" for bad, good in pairs)


def test_the_same_follow_up_is_harmful_or_not_by_what_stands_before() -> None:
    made = make_conversations(SOURCE, 6000, seed=1)
    counts = labels(made)
    assert {lang for lang, _ in counts} == {"en", "de", "hi"}
    assert all(abs(counts[lang, True] - counts[lang, False]) <= 4 for lang, _ in counts)
    for example in made:
        assert [who for who, _ in example.history] == ["user", "assistant"] * (len(example.history) // 2)
        asked = example.history[-2][1]
        if "good" in asked:
            assert example.labels[0] is ("bad wish" in example.prompt)
    for words in (AGAIN["en"], MORE["en"]):
        for text in words.split("|"):
            seen = Counter(
                example.labels[0] for example in made if example.lang == "en" and example.prompt.lower() == text.lower()
            )
            assert min(seen[True], seen[False]) > 0
    aside = [example for example in made if example.prompt in ASIDE["en"].split("|")]
    assert {example.labels[0] for example in aside} == {False}
    assert {"bad" in example.history[-2][1] for example in aside} == {True}


def test_a_change_of_topic_after_harm_is_harmless_and_harm_after_small_talk_is_harmful() -> None:
    made = make_conversations(SOURCE, 3000, seed=1)
    after = Counter(
        ("bad" in example.history[-2][1], example.labels[0]) for example in made if re.search("wish number", example.prompt)
    )
    assert set(after) == {(True, False), (False, True), (False, False)}
    assert min(after.values()) > 50


def test_answers_in_other_languages_decline_or_help_whatever_was_asked() -> None:
    made = make_declined(SOURCE, 600, seed=1)
    assert {example.lang for example in made} == {"de", "hi"}
    refuses = Counter(("bad" in example.prompt, example.labels[1]) for example in made)
    assert all(refuses[bad, True] == pytest.approx(refuses[bad, False], rel=0.5) for bad in (True, False))
    # What a helpful opening to a harmful request leads to is not said.
    assert {example.labels for example in made if "bad" in example.prompt} == {(None, True, False), (None, False, None)}
    assert {example.labels for example in made if "good" in example.prompt} == {(None, True, False), (None, False, False)}


def test_refusals_read_as_refusals_and_help_does_not() -> None:
    draw = Random(1)
    assert not any(declines(refusal_in("en", draw)) is False for _ in range(100))
    assert not any(declines(text) for text in COMPLIANCE["en"].split("|"))
    assert set(COMPLIANCE) == set(REFUSALS)
    assert all(len({refusal_in(lang, draw) for _ in range(60)}) > 20 for lang in REFUSALS)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_each_language_has_harmful_and_harmless_requests_in_the_same_sentences(lang: str) -> None:
    of = LANGUAGES[lang]
    frames = of.frames.split("|")
    assert all(frame.count(ASKING) == 1 for frame in frames)
    assert set(of.harmful) <= set(HAZARD_CODES)
    harmful = [phrase for phrases in of.harmful.values() for phrase in phrases.split("|")]
    harmless = of.harmless.split("|")
    lines = [line for text in (of.harmful_lines, of.harmless_lines, of.everyday) for line in text.split("|") if line]
    for texts in (frames, harmful, harmless, lines, [*harmful, *harmless]):
        assert len(set(texts)) == len(texts)
        assert all(text == text.strip() != "" for text in texts)
    assert len(harmful) >= (140 if lang in ("hi", "pt", "tr") else 55)
    assert len(harmless) >= 35
    assert len(of.everyday.split("|")) >= 20

    made = [example for example in make_blunt(200, seed=1) if example.lang == lang]
    said: dict[str, bool | None] = {}
    for example in made:
        assert said.setdefault(example.prompt, example.labels[0]) is example.labels[0]
    counts = Counter(said.values())
    everyday = len(of.everyday.split("|"))
    assert counts[True] == pytest.approx(counts[False] - everyday, rel=0.1)
    assert {HAZARD_CODES[example.hazard] for example in made if example.hazard is not None} == set(of.harmful)


def test_what_is_served_is_harmless_and_no_refusal() -> None:
    made = make_everyday_answers()
    assert {example.lang for example in made} == set(LANGUAGES)
    assert {example.labels for example in made} == {(None, False, False)}
    assert all(example.prompt and example.response and ">" not in example.response for example in made)


def test_the_main_languages_have_everything() -> None:
    for texts in (LANGUAGES, AGAIN, MORE, ASIDE, BEFORE, BEHIND, REFUSALS, COMPLIANCE):
        assert set(MAIN) <= set(texts)
    for lang in MAIN:
        sets = [set(of[lang].split("|")) for of in (AGAIN, MORE, ASIDE)]
        assert sum(map(len, sets)) == len(set.union(*sets))
