"""What is written or believed beside the sources: both labels alike, labels that follow from how a text is made."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from pathlib import Path
from random import Random

import pytest

pytest.importorskip("torch", reason="needs the extra 'train'")

from guardreasoner_training.embedded.answers import make_answers, refusal
from guardreasoner_training.embedded.blunt import make_everyday_answers
from guardreasoner_training.embedded.briefs import BRIEFS
from guardreasoner_training.embedded.chats import chats
from guardreasoner_training.embedded.coded import make_coded
from guardreasoner_training.embedded.config import TrainConfig
from guardreasoner_training.embedded.data import DataError
from guardreasoner_training.embedded.documents import documents
from guardreasoner_training.embedded.examples import Example, evaluation_examples
from guardreasoner_training.embedded.figures import DISGUISES, disguise
from guardreasoner_training.embedded.lookalikes import lookalikes
from guardreasoner_training.embedded.phrases import LANGUAGES
from guardreasoner_training.embedded.tasks import tasks
from guardreasoner_training.embedded.unlabelled import declines, load_unlabelled
from guardreasoner_training.embedded.wrappings import TEMPLATES, make_wrapped
from guardreasoner_training.embedded.written import written_examples


def prompts(count: int, harmful: bool) -> list[Example]:
    return [Example(f"request {harmful} {n} {{x}}", None, (harmful, None, None), 1.0, "made") for n in range(count)]


def answers(count: int, harmful: bool) -> list[Example]:
    return [Example(f"ask {n}", f"Step one of {harmful} {n}.", (None, False, harmful), 1.0, "made") for n in range(count)]


def test_wrappings_go_round_harmful_and_harmless_requests_alike() -> None:
    made = make_wrapped(prompts(900, True) + prompts(1200, False), 1600, seed=3)
    assert Counter(example.labels[0] for example in made) == {True: 800, False: 800}
    skeletons = {
        harmful: Counter(example.prompt[:12] for example in made if example.labels[0] is harmful) for harmful in (True, False)
    }
    # Each wrapper that starts with words of its own stands around both kinds, about equally often.
    own = [template[:12] for template in TEMPLATES if "{" not in template[:12]]
    for start in own:
        assert min(skeletons[True][start], skeletons[False][start]) > 0
        assert 1 / 4 < skeletons[True][start] / skeletons[False][start] < 4
    assert make_wrapped(prompts(9, True), 4, seed=1) == make_wrapped(prompts(9, True), 4, seed=1)


def test_wrappings_leave_out_what_is_no_request() -> None:
    unfit = [
        Example("x" * 700, None, (True, None, None), 1.0, "made"),
        Example("hate", None, (True, None, None), 1.0, "hatecheck"),
        Example("fremd", None, (True, None, None), 1.0, "made", lang="de"),
        Example("p", "r", (None, True, False), 1.0, "made"),
    ]
    assert make_wrapped(unfit, 10, seed=1) == []


def test_requests_are_all_different_and_filled() -> None:
    for texts in (lookalikes(), chats(most=10_000, seed=1)):
        assert len(set(texts)) == len(texts) > 400
        assert not [text for text in texts if re.search(r"\{\}|\|", text)]
    assert len(chats(most=5, seed=1)) < 5 * 30


def test_further_answers_have_the_labels_of_what_they_do() -> None:
    source = prompts(50, True) + answers(60, True) + answers(60, False)
    source.append(Example("p", "I'm sorry, I can't. Step 1", (None, None, True), 1.0, "made"))
    made = make_answers(source, 160, seed=2)
    counts = Counter(example.labels for example in made)
    assert counts == {(None, True, False): 40, (None, None, True): 40, (None, False, True): 40, (None, False, False): 40}
    for example in made:
        assert example.response is not None
        if example.labels[1] is True:
            assert "Step one" not in example.response
        else:
            assert f"Step one of {example.labels[2]}" in example.response


def test_advice_follows_refusals_and_stands_in_answers_that_help_and_in_no_harm() -> None:
    made = make_answers(prompts(80, True) + answers(80, True) + answers(80, False), 320, seed=2)
    advised = Counter(
        example.labels for example in made if re.search(r"\n(-|1\.) [^\n]+: [^\n]+\n(-|2\.) ", example.response or "")
    )
    assert set(advised) == {(None, True, False), (None, False, False)}
    assert min(advised.values()) >= 16


def test_our_refusals_read_as_refusals() -> None:
    draw = Random(5)
    texts = [refusal(draw) for _ in range(300)]
    assert len(set(texts)) > 200
    assert not [text for text in texts if declines(text) is False]


@pytest.mark.parametrize(
    ("text", "refuses"),
    [
        ("I'm sorry, but I can't help with that.", True),
        ("I cannot provide instructions.", True),
        ("Sorry, I won\u2019t do this.", True),
        ("<think>should I?</think>\n\nI am unable to assist.", True),
        ("Sure! Here are the steps: 1. Buy flour.", False),
        ("The capital of France is Paris.", False),
        ("It is illegal to do so, please consult a lawyer.", None),
        ("", None),
    ],
)
def test_refusals_are_told_by_their_first_words(text: str, refuses: bool | None) -> None:
    assert declines(text) is refuses


def test_unlabelled_rows_get_what_is_believed_of_them_and_nothing_is_measured_on_them(tmp_path: Path) -> None:
    def row(prompt: str, response: str | None, harmful: bool | None = None, category: str | None = None) -> dict[str, object]:
        return {"prompt": prompt, "response": response, "prompt_harmful": harmful, "category": category}

    files = {
        "arena_hard_prompts": [row("sort a list", None)],
        "hh_harmless_test": [
            row("Human: a\n\nAssistant: b\n\nHuman: how to steal", "Take it and run.", None, "rejected|turns=2"),
            row("Human: how to steal", "Take it and run fast.", None, "chosen|turns=1"),
            row("Human: how to steal", "I can't help.", None, "rejected|turns=1"),
        ],
        "interp_refusal_responses": [
            row("p", "Step 1: take it.", True, "wildjailbreak_adversarial_harmful_eval|deepseek-llama-distill")
        ],
        "unknown_file": [row("p", None)],
    }
    for name, rows in files.items():
        with gzip.open(tmp_path / f"{name}.jsonl.gz", "wt") as file:
            file.writelines(json.dumps(one) + "\n" for one in rows)
    found = load_unlabelled(tmp_path)
    assert [(one.prompt, one.labels) for one in found] == [
        ("sort a list", (False, None, None)),
        ("how to steal", (True, False, True)),
        ("how to steal", (True, False, False)),
        ("how to steal", (True, True, False)),
        ("p", (True, False, True)),
    ]
    assert evaluation_examples(found, cap=10, seed=1) == []
    with pytest.raises(DataError, match="has none of the files"):
        load_unlabelled(tmp_path / "nothing")


def test_written_examples_are_of_all_kinds() -> None:
    source = prompts(200, True) + prompts(200, False) + answers(50, True) + answers(50, False)
    settings = TrainConfig(wrapped_examples=100, paired_examples=80, chats_per_pattern=3)
    counts = {"framed_examples": 100, "needled_examples": 80, "conversed_examples": 80, "declined_examples": 60}
    made = written_examples(source, settings, blunt_per_language=20, **counts)
    assert {example.source for example in made} == {"written"}
    assert sum(example.response is not None for example in made) > 80 + 20 + len(make_everyday_answers())
    looks = set(lookalikes())
    assert sum(example.prompt in looks for example in made) >= len(looks)
    assert {example.lang for example in made} == {*LANGUAGES, None}  # a code is in no language
    assert Counter(bool(example.history) for example in made)[True] == pytest.approx(80, abs=20)
    # A harmful request keeps the hazard that its source named, or its phrase has.
    assert all(example.hazard is None for example in made if True not in (example.labels[0], example.labels[2]))


def test_longer_tasks_are_many_and_different_in_each_language_and_harm_stands_in_the_same_sentences() -> None:
    made = tasks(seed=1)
    assert made == tasks(seed=1) != tasks(seed=2)
    assert set(BRIEFS) == set(LANGUAGES)
    assert len({example.prompt for example in made}) == len(made)
    assert not [example.prompt for example in made if re.search(r"\{\}|\||  ", example.prompt)]
    counts = Counter((example.lang, example.labels[0]) for example in made)
    for lang, of in BRIEFS.items():
        assert (counts[lang, False], counts[lang, True]) == ((800, 300) if lang == "en" else (160, 60))
        harmful, harmless = ([e.prompt for e in made if e.lang == lang and e.labels[0] is label] for label in (True, False))
        for frame in (*of.ways.split("|"), *of.claiming.split("|")):
            shape = re.compile(".+".join(map(re.escape, frame.split("{}"))))
            found = [sum(bool(shape.fullmatch(text)) for text in texts) for texts in (harmful, harmless)]
            assert 0 < max(found) <= 2 * min(found), (frame, found)
    assert all((example.hazard is not None) is example.labels[0] for example in made)


@pytest.mark.parametrize("lang", BRIEFS)
def test_the_texts_of_longer_tasks_are_whole(lang: str) -> None:
    of = BRIEFS[lang]
    for frames in (of.about, of.ways, of.claiming):
        assert all(frame.count("{}") == 1 for frame in frames.split("|"))
    for text in (of.about, of.topics, of.ways, of.deeds, of.claiming, of.claims, of.hateful, of.lines):
        parts = text.split("|")
        assert len(set(parts)) == len(parts)
        assert all(part == part.strip() != "" for part in parts)
    assert len(of.about.split("|")) >= 20
    assert len(of.topics.split("|")) >= 25


def test_doubtful_labels_are_not_multiplied() -> None:
    doubtful = [Example(f"doubtful {n}", None, (n % 2 == 0, None, None), 0.25, "hh_harmless_test") for n in range(90)]
    settings = TrainConfig(wrapped_examples=40, paired_examples=0, chats_per_pattern=1)
    made = written_examples(doubtful + prompts(50, True) + prompts(50, False), settings, blunt_per_language=4)
    assert not [example for example in made if "doubtful" in example.prompt + str(example.history)]


def test_disguises_change_what_is_judged_and_nothing_else() -> None:
    long = "Step one of many is the simplest and the longest of them all."
    examples = [*prompts(3, True), Example("ask", long, (None, False, False), 1.0, "made")]
    for name in DISGUISES:
        made = disguise(examples, name, seed=1)
        assert [one.labels for one in made] == [one.labels for one in examples]
        assert made[0].prompt != examples[0].prompt
        assert made[-1].prompt == examples[-1].prompt
        assert made[-1].response != examples[-1].response


def test_a_code_that_nobody_reads_says_nothing_and_one_that_anybody_reads_keeps_its_label() -> None:
    source = prompts(60, True) + prompts(60, False) + answers(40, True) + answers(40, False)
    made = make_coded(source, 500, seed=2)
    assert made == make_coded(source, 500, seed=2)
    assert all(example.source == "written" and example.prompt.strip() for example in made)
    readable = [example for example in made if re.search(r"request.{1,8}(?:True|False)", example.prompt)]
    assert {example.labels[0] for example in readable} == {True, False}
    assert all(("True" in example.prompt) == example.labels[0] for example in readable)
    dark = [example for example in made if example not in readable and example.response is None]
    assert all(example.labels == (False, None, None) for example in dark)
    hidden = [example for example in made if example.response is not None]
    assert all(example.labels == (None, False, False) for example in hidden)
    assert not any("Step" in (example.response or "") for example in hidden)
    assert min(len(readable), len(dark), len(hidden)) > 50


def test_pages_of_prose_are_harmless_answers_of_plain_instructions() -> None:
    prose = " ".join(f"Plain sentence number {n}." for n in range(30))
    plain = [
        Example(f"ask {n}", f"{prose} {n}", (None, False, False), 1.0, "gpteacher", lang)
        for n, lang in enumerate(["en", "de"] * 9)
    ]
    other = [
        Example("ask", f"HARM {prose}", (None, False, True), 1.0, "gpteacher"),
        Example("ask", f"SORRY {prose}", (None, True, False), 1.0, "gpteacher"),
        Example("ask", f"MADE {prose}", (None, False, False), 1.0, "made"),
        Example("ask", "short", (None, False, False), 1.0, "gpteacher"),
    ]
    made = documents([*plain, *other], 80, seed=1)
    assert made == documents([*plain, *other], 80, seed=1)
    assert {example.labels for example in made} == {(False, None, None)}
    assert {example.lang for example in made} == {"en", "de"}
    assert not any(re.search(r"HARM|SORRY|MADE", example.prompt) for example in made)
    assert all(50 <= len(example.prompt.split()) <= 350 for example in made)
    assert documents(other, 80, seed=1) == []
