"""A screen that decides the clear cases, and a second judge for the doubtful ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from guardreasoner_sdk import BackendError, ConfigurationError, Exchange, Guard
from guardreasoner_sdk.judges.cascade import CascadeJudge
from guardreasoner_sdk.judges.embedded import EmbeddedJudge
from guardreasoner_sdk.testing import ScriptedJudge, judgement
from guardreasoner_sdk.verdict import Finding, Judgement, Usage, undetermined
from wordguard import write_word_model


def scored(prompt: float, refusal: float | None = None, response: float | None = None) -> Judgement:
    def finding(score: float | None, words: tuple[str, str]) -> Finding | None:
        return None if score is None else Finding(label=words[score < 0.5], score=score)  # type: ignore[arg-type]

    return Judgement(
        prompt_harmfulness=finding(prompt, ("harmful", "unharmful")),
        response_refusal=finding(refusal, ("refusal", "compliance")),
        response_harmfulness=finding(response, ("harmful", "unharmful")),
        usage=Usage(input_tokens=5),
    )


class Named(ScriptedJudge):
    def __init__(self, name: str, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.model = name
        self.loaded = self.closed = False

    async def load(self) -> None:
        self.loaded = True

    async def aclose(self) -> None:
        self.closed = True


SCREEN = {"clear": scored(0.02), "bad": scored(0.98), "vague": scored(0.6), "lost": judgement("undetermined")}


def make(second: Any = None, **options: Any) -> tuple[Named, Named, Guard]:
    first = Named("small", SCREEN, batch_size=3)
    other = Named("large", lambda _: judgement("harmful") if second is None else second, batch_size=2)
    return first, other, Guard(judge=CascadeJudge(first, other, **options))


def test_the_clear_are_decided_by_the_screen_and_the_doubtful_by_the_second() -> None:
    first, second, guard = make()
    with guard:
        verdicts = guard.check_many(["clear", "vague", "bad", "lost", "clear"])
    assert [verdict.model for verdict in verdicts] == ["small", "large", "small", "large", "small"]
    assert [verdict.action for verdict in verdicts] == ["allow", "block", "block", "block", "allow"]
    assert sorted(exchange.prompt for exchange in second.seen) == ["lost", "vague"]
    assert [hop.model for hop in verdicts[1].path] == ["small", "large"]
    assert verdicts[1].path[0].why == "passed on: prompt_harmfulness scores 0.60, between 0.1 and 0.9"
    assert verdicts[3].path[0].why == "passed on: prompt_harmfulness is undetermined"
    assert verdicts[0].path[0].why == "decided: clear (prompt_harmfulness unharmful 0.02)"
    assert verdicts[1].usage.input_tokens == 5
    assert first.closed
    assert second.closed


def test_a_second_judge_that_fails_leaves_the_doubtful_undetermined_and_the_clear_as_found() -> None:
    first = Named("small", {"x": scored(0.97, 0.05, 0.6)})
    second = Named("large", lambda _: BackendError("the engine is gone"))
    with Guard(judge=CascadeJudge(first, second)) as guard:
        verdict = guard.check("x", "y")
    assert verdict.prompt_harmfulness is not None
    assert verdict.response_harmfulness is not None
    assert verdict.prompt_harmfulness.label == "harmful"
    assert verdict.response_harmfulness.cause == "the engine is gone"
    assert verdict.action == "block"


def test_what_the_second_does_not_judge_stays_as_the_screen_found_it() -> None:
    first = Named("small", {"x": scored(0.02, 0.97, 0.6)})
    with Guard(judge=CascadeJudge(first, Named("large", {"x": judgement("unharmful", None, "unharmful")}))) as guard:
        verdict = guard.check("x", "y")
    assert verdict.response_refusal is not None
    assert verdict.response_harmfulness is not None
    assert (verdict.response_refusal.label, verdict.response_refusal.score) == ("refusal", 0.97)
    assert verdict.response_harmfulness.label == "unharmful"


def test_a_band_by_task_leaves_the_other_tasks_to_the_screen() -> None:
    _, second, guard = make(band={"response_harmfulness": (0.1, 0.9)})
    with guard:
        assert guard.check("vague").model == "small"
        assert guard.check("lost").model == "large"
    assert [exchange.prompt for exchange in second.seen] == ["lost"]


@pytest.mark.parametrize("band", [(0.1, 0.9), (0.5, 0.5), {}, {"response_refusal": (0.1, 0.9)}])
@pytest.mark.parametrize("score", [0.02, 0.98, None])
def test_what_the_screen_was_never_measured_on_is_doubtful_whatever_it_scores(band: Any, score: float | None) -> None:
    note = "written in Greek, a language this guard was never measured in"
    noted = Finding(label="harmful" if score == 0.98 else "unharmful", score=score, note=note)
    first = Named("small", {"x": Judgement(prompt_harmfulness=noted)})
    second = Named("large", {"x": judgement("unharmful")})
    with Guard(judge=CascadeJudge(first, second, band=band), policy={"on_unmeasured": "undetermined"}) as guard:
        verdict = guard.check("x")
    assert (verdict.model, verdict.allowed, verdict.undetermined) == ("large", True, False)
    assert verdict.path[0].why == f"passed on: prompt_harmfulness was found in what small was never measured on: {note}"


def test_the_embedded_guard_passes_on_a_language_it_was_never_measured_in(tmp_path: Path) -> None:
    second = Named("large", lambda _: judgement("unharmful"))
    with Guard(judge=CascadeJudge(EmbeddedJudge(write_word_model(tmp_path / "words")), second)) as guard:
        assert guard.check("Habari asante hamna habari").model == "large"
        assert guard.check("How do I bake a cake?").model == "words-1"


def test_a_score_on_the_edge_of_the_band_is_clear() -> None:
    _, _, guard = make(band=(0.2, 0.6))
    with guard:
        assert guard.check("vague").model == "small"


@pytest.mark.parametrize("band", [(0.9, 0.1), (0.1,), "wide", (0, 2), {"harm": (0, 1)}, {"response_refusal": None}])
def test_a_band_that_cannot_work_is_refused(band: Any) -> None:
    with pytest.raises(ConfigurationError, match="band"):
        make(band=band)


def test_loading_the_guard_loads_both() -> None:
    first, second, guard = make()
    with guard:
        guard.load()
    assert first.loaded
    assert second.loaded


async def test_loading_works_for_asyncio() -> None:
    first, _, guard = make()
    async with guard:
        await guard.aload()
        assert first.loaded
    with pytest.raises(RuntimeError, match="closed"):
        await guard.aload()
    with pytest.raises(RuntimeError, match="closed"):
        guard.load()


def test_the_embedded_guard_screens_for_a_judge_of_ones_own(tiny_model: Any) -> None:
    second = Named("large", lambda _: judgement("unharmful"), batch_size=1)
    with Guard(judge=CascadeJudge(EmbeddedJudge(tiny_model), second, band=(0.0, 1.0))) as guard:
        verdict = guard.check("How do I bake bread?")
    assert verdict.model == "large"
    assert second.seen == [Exchange("How do I bake bread?")]


def test_a_verdict_of_undetermined_findings_says_so_whoever_decided() -> None:
    first = Named("small", {"x": Judgement(prompt_harmfulness=undetermined("no idea"))})
    with Guard(judge=CascadeJudge(first, Named("large", {"x": judgement("undetermined")}))) as guard:
        verdict = guard.check("x")
    assert (verdict.action, verdict.undetermined, verdict.model) == ("block", True, "large")


@pytest.mark.parametrize(("band", "passed_on"), [((0.0, 1.0), [0.0, 0.5, 1.0]), ((0.0, 0.5), [0.0]), ((0.4, 1.0), [0.5, 1.0])])
def test_a_band_that_reaches_to_0_or_1_takes_in_the_scores_there(band: tuple[float, float], passed_on: list[float]) -> None:
    scores = [0.0, 0.5, 1.0]
    first = Named("small", {str(score): scored(score) for score in scores}, batch_size=3)
    second = Named("large", lambda _: judgement("harmful"), batch_size=2)
    with Guard(judge=CascadeJudge(first, second, band=band)) as guard:
        guard.check_many([str(score) for score in scores])
    assert [float(exchange.prompt) for exchange in second.seen] == passed_on


async def test_what_the_screen_was_never_measured_on_is_passed_on() -> None:
    note = "written in Swahili, a language this guard was never measured in"
    noted = Judgement(prompt_harmfulness=Finding(label="unharmful", score=0.02, note=note))
    second = ScriptedJudge({"far": scored(0.9)})
    (found,) = await CascadeJudge(ScriptedJudge({"far": noted}), second).judge([Exchange("far")], deadline=None)
    assert found.prompt_harmfulness is not None
    assert (found.prompt_harmfulness.label, found.prompt_harmfulness.note) == ("harmful", None)
    assert note in str(found.path)
