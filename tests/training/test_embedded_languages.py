"""The second stage: another language than English says nothing of harm."""

from __future__ import annotations

from collections import Counter

from guardreasoner_training.embedded.data import Row, parse_row
from guardreasoner_training.embedded.everyday import EVERYDAY, everyday_prompts
from guardreasoner_training.embedded.examples import Example, level_languages


def row(prompt: str, harmful: bool, *, english: bool) -> Row:
    return Row(prompt, None, (harmful, None, None), "made", english)


def example(of: Row) -> Example:
    return Example(of.prompt, None, of.labels, 1.0, of.source, of.english)


def test_other_languages_are_as_often_harmless_as_harmful() -> None:
    rows = [row(f"schlimm {i}", True, english=False) for i in range(900)]
    rows += [row(f"gut {i}", False, english=False) for i in range(20)]
    rows += [row(f"english {i}", i % 2 == 0, english=True) for i in range(3000)]
    chosen = level_languages([example(of) for of in rows], rows, most=2000, seed=1)
    foreign = Counter(of.labels[0] for of in chosen if not of.english)
    assert foreign[False] == foreign[True] == 20 + len(everyday_prompts())
    assert len(chosen) == 2000
    assert chosen == level_languages([example(of) for of in rows], rows, most=2000, seed=1)


def test_a_small_draw_has_no_english_rather_than_too_many_rows() -> None:
    rows = [row("english", False, english=True)]
    chosen = level_languages([example(of) for of in rows], rows, most=1, seed=1)
    assert {of.prompt for of in chosen} == set(everyday_prompts())


def test_the_everyday_requests_are_many_and_differ() -> None:
    prompts = everyday_prompts()
    assert len(prompts) == len(set(prompts)) > 120
    assert len(EVERYDAY) >= 25
    assert all(prompt.strip() == prompt and len(prompt) > 4 for prompt in prompts)


def test_the_language_of_a_row() -> None:
    def english(**fields: str) -> bool:
        return parse_row({"prompt": "x", "prompt_harmful": True, **fields}, "made").english

    assert english()
    assert english(lang="en")
    assert not english(lang="vi")
