"""Data frames are judged row by row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from guardreasoner_sdk import Exchange, Guard, InputError, Judgement
from guardreasoner_sdk.testing import ScriptedJudge, judgement

COLUMNS: dict[str, list[Any]] = {
    "id": [1, 2, 3],
    "prompt": ["good", "bad", "good"],
    "response": ["fine", None, "bad"],
    "history": [[{"role": "user", "content": "before"}], [], None],
}


def by_words(exchange: Exchange) -> Judgement:
    harmful = "harmful" if "bad" in exchange.prompt else "unharmful"
    if exchange.response is None:
        return judgement(harmful)
    return judgement(harmful, "compliance", "harmful" if "bad" in exchange.response else "unharmful")


@pytest.fixture
def judge() -> ScriptedJudge:
    return ScriptedJudge(by_words)


@pytest.fixture
def guard(judge: ScriptedJudge) -> Iterator[Guard]:
    with Guard(judge=judge) as made:
        yield made


@pytest.fixture(params=["pandas", "polars"])
def frame_of(request: pytest.FixtureRequest) -> Any:
    return pytest.importorskip(request.param).DataFrame


def test_rows_of_a_frame_are_judged(guard: Guard, judge: ScriptedJudge, frame_of: Any) -> None:
    assert [verdict.allowed for verdict in guard.check_many(frame_of(COLUMNS))] == [True, False, False]
    assert [(exchange.prompt, exchange.response, len(exchange.history)) for exchange in judge.seen] == [
        ("good", "fine", 1),
        ("bad", None, 0),
        ("good", "bad", 0),
    ]


async def test_rows_of_a_frame_are_judged_asynchronously(guard: Guard, frame_of: Any) -> None:
    verdicts = await guard.acheck_many(frame_of({"prompt": ["bad", "good"]}))
    assert [verdict.allowed for verdict in verdicts] == [False, True]


def test_a_cell_without_a_prompt_is_an_undetermined_row(guard: Guard, frame_of: Any) -> None:
    verdicts = guard.check_many(frame_of({"prompt": ["good", None]}))
    assert [verdict.action for verdict in verdicts] == ["allow", "block"]
    assert verdicts[1].blocked_by == "failure"


def test_a_frame_without_prompts_is_refused_with_the_remedy(guard: Guard, frame_of: Any) -> None:
    with pytest.raises(InputError, match=r"rows: has no column 'prompt'; rename 'Text' to 'prompt'"):
        guard.check_many(frame_of({"Text": ["bad"]}))
    with pytest.raises(InputError, match=r"rows: has no column 'prompt'; give it one"):
        guard.check_many(frame_of({"words": ["bad"]}))


def test_gaps_of_pandas_are_no_text(guard: Guard, judge: ScriptedJudge) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"prompt": ["a", "b", "c"], "response": [float("nan"), pandas.NA, pandas.NaT]})
    assert len(guard.check_many(frame)) == 3
    assert [exchange.response for exchange in judge.seen] == [None, None, None]


def test_a_column_is_a_list_of_prompts(guard: Guard) -> None:
    pandas = pytest.importorskip("pandas")
    assert [verdict.allowed for verdict in guard.check_many(pandas.Series(["good", "bad"]))] == [True, False]
    assert [verdict.allowed for verdict in guard.check_many(pandas.Series(["good", "bad"]).to_numpy())] == [True, False]


def test_other_tables_are_refused(guard: Guard) -> None:
    class Table:
        columns = ("prompt",)

        def __iter__(self) -> Iterator[str]:
            return iter(self.columns)

    with pytest.raises(InputError, match="rows: must be an iterable of rows, not Table; pass a DataFrame"):
        guard.check_many(Table())  # type: ignore[arg-type]
    with pytest.raises(InputError, match="rows: must be an iterable of rows, not Table"):
        guard.check_many(pytest.importorskip("pyarrow").table({"prompt": ["bad"]}))


def test_a_lazy_frame_is_refused(guard: Guard) -> None:
    polars = pytest.importorskip("polars", reason="polars is not installed")
    with pytest.raises(InputError, match="rows: must be an iterable of rows, not LazyFrame"):
        guard.check_many(polars.LazyFrame(COLUMNS))
