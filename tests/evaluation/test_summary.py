"""What a run comes to."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardreasoner_sdk import Exchange, Verdict
from guardreasoner_sdk.evaluation.rows import LabelledRow
from guardreasoner_sdk.evaluation.summary import Ceiling, Collected
from guardreasoner_sdk.verdict import LABELS, Finding, Usage, undetermined

pytest.importorskip("sklearn", reason="needs guardreasoner-sdk[eval]")


def row(number, *, benchmark="Some", **labels):
    return LabelledRow(str(number), benchmark, Exchange(f"prompt {number}", "answer"), labels or {"prompt_harmfulness": True})


def verdict(prompt=None, *, score=None, latency=1.0, tokens=(10, 0), cached=False, **findings):
    """A verdict; ``prompt`` and the like: True, False, or a str that is the cause of an undetermined one."""
    found = {}
    for task, said in {"prompt_harmfulness": prompt, **findings}.items():
        if isinstance(said, str):
            found[task] = undetermined(said)
        elif said is not None:
            found[task] = Finding(label=LABELS[task][0 if said else 1], score=score)
    usage = Usage(input_tokens=tokens[0], output_tokens=tokens[1])
    return Verdict(action="allow", model="m", backend="b", usage=usage, latency_ms=latency, cached=cached, **found)


def collected(*pairs, most=100):
    run = Collected(most=most)
    for labelled, said in pairs:
        run.add(labelled, said)
    return run


def summary(*pairs, **options):
    return collected(*pairs).summary({"model": "m"}, **options)


def test_both_rules_stand_side_by_side():
    found = summary(
        (row(1), verdict(True)),
        (row(2), verdict("the answer is empty")),
        (row(3, prompt_harmfulness=False), verdict(False)),
        (row(4, prompt_harmfulness=False), verdict("the answer is empty")),
    )
    (benchmark,) = found.benchmarks
    (task,) = benchmark.tasks
    assert task.strict.f1 == pytest.approx(50.0)
    assert task.paper.f1 == pytest.approx(100.0)
    assert (task.strict.undetermined, task.paper.dropped) == (2, 2)
    assert benchmark.causes == {"the answer is empty": 2}
    assert found.averages["strict"]["prompt_harmfulness"] == pytest.approx(50.0)
    assert "Some: 2 undetermined: the answer is empty" in list(found.notes())


def test_what_a_guardreasoner_wrote_counts_by_the_authors_rule_in_paper_scoring():
    answer = "# Task 1\nAnswers: \nRequest: harmful\n\n"
    found = summary(
        (row(1), verdict(True).model_copy(update={"raw": answer})),
        (row(2), verdict(True).model_copy(update={"raw": answer + "and so on, " * 40})),
        (row(3), verdict(False).model_copy(update={"raw": answer, "calibrated": True})),
    )
    (task,) = found.benchmarks[0].tasks
    assert (task.strict.true_positives, task.strict.false_negatives) == (2, 1)
    assert (task.paper.dropped, task.paper.true_positives, task.paper.false_negatives) == (1, 1, 1)


def test_a_whole_benchmark_with_other_rows_than_the_papers_is_told():
    whole = summary((row(1, benchmark="ToxicChat"), verdict(True)))
    said = "ToxicChat, prompt harmfulness: 1 rows here; the paper counts 2,853."
    assert said in list(whole.notes())
    part = summary((row(1, benchmark="ToxicChat"), verdict(True)), part="the first 1 rows of each")
    assert said not in list(part.notes())


def test_the_average_is_weighted_by_rows():
    one = [(row(number, benchmark="One"), verdict(True)) for number in range(30)]
    # F1 of one hit and one miss: 2/3.
    two = [(row(number, benchmark="Two"), verdict(number % 2 == 0)) for number in range(10)]
    found = summary(*one, *two)
    assert found.averages["strict"]["prompt_harmfulness"] == pytest.approx((30 * 100 + 10 * 200 / 3) / 40)


def test_cost_is_of_what_was_asked_and_not_of_what_was_remembered():
    found = summary(
        *((row(number), verdict(True, latency=float(number), tokens=(10, 4))) for number in range(1, 101)),
        (row(101), verdict(True, latency=0.0, cached=True, tokens=(10, 4))),
    )
    assert found.cost.latency_median == pytest.approx(50.5)
    assert found.cost.latency_p99 == pytest.approx(99.01)
    assert (found.cost.input_tokens, found.cost.output_tokens) == (10, 4)
    assert summary((row(1), verdict(True, cached=True))).cost.latency_median is None


def test_a_task_that_the_guard_does_not_judge_is_no_zero():
    labels = {"prompt_harmfulness": True, "response_refusal": True}
    run = collected((row(1, **labels), verdict(True)), (row(2, **labels), verdict(False)))
    found = run.summary({"model": "m"})
    refusal = found.benchmarks[0].tasks[1]
    assert (refusal.task, refusal.judged, refusal.strict) == ("response_refusal", False, None)
    assert "response_refusal" not in found.averages["strict"]
    assert "Some, response refusal: the guard does not judge this task." in list(found.notes())
    assert [error.task for error in run.errors()] == ["prompt_harmfulness"]


def test_a_finding_that_is_missing_now_and_then_is_undetermined():
    run = collected((row(1), verdict(True)), (row(2), verdict()))
    assert run.summary({"model": "m"}).benchmarks[0].tasks[0].strict.undetermined == 1
    assert [error.kind for error in run.errors()] == ["undetermined"]


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        ([(row(1), verdict("too slow"))], "undetermined, so that there is nothing to measure"),
        ([(row(1, prompt_harmfulness=False), verdict(True, score=0.9))], "No row is positive"),
        ([(row(1), verdict(True, score=0.9))], "Every row is positive"),
    ],
)
def test_degenerate_sets_give_a_sentence(pairs, said):
    found = summary(*pairs, bootstrap=50)
    assert any(said in note for note in found.notes())
    (task,) = found.benchmarks[0].tasks
    assert task.strict.auprc is None


def test_an_empty_run_has_no_figures():
    found = summary()
    assert (found.rows, found.benchmarks, found.averages) == (0, (), {"paper": {}, "strict": {}})


def test_the_surest_errors_of_each_kind_are_kept():
    wrong = [(row(number), verdict(False, score=number / 100)) for number in range(40)]
    alarms = [(row(100, prompt_harmfulness=False), verdict(True, score=0.9))]
    unsure = [(row(200 + number), verdict("no label")) for number in range(5)]
    right = [(row(300), verdict(True, score=0.8))]
    run = collected(*wrong, *alarms, *unsure, *right, most=3)
    assert [(error.kind, error.row.id) for error in run.errors()] == [
        *(("miss", str(number)) for number in range(3)),
        ("false alarm", "100"),
        *(("undetermined", str(number)) for number in range(200, 203)),
    ]
    assert sorted(run.counts.values()) == [1, 5, 40]


def best_of_all(counts):
    """The highest accuracy and F1 over every way to answer each exchange."""
    rows = sum(map(sum, counts))
    accuracies, f1s = [], []
    for answers in itertools.product((False, True), repeat=len(counts)):
        found = sum(positive for (_, positive), said in zip(counts, answers, strict=True) if said)
        alarms = sum(negative for (negative, _), said in zip(counts, answers, strict=True) if said)
        missed = sum(positive for (_, positive), said in zip(counts, answers, strict=True) if not said)
        accuracies.append(100 * (rows - alarms - missed) / rows)
        f1s.append(100 * 2 * found / (2 * found + alarms + missed) if found else 0.0)
    return max(accuracies), max(f1s)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=6))
def test_a_ceiling_is_what_the_best_answers_reach(counts):
    ceiling = Ceiling.of(counts)
    if not any(negative and positive for negative, positive in counts):
        assert ceiling is None
    else:
        assert (ceiling.accuracy, ceiling.f1) == pytest.approx(best_of_all(counts))


def test_rows_that_contradict_each_other_are_counted_and_what_they_forbid_is_said():
    def labelled(number, prompt, harmful, refusal=None):
        labels = {"prompt_harmfulness": harmful} | ({} if refusal is None else {"response_refusal": refusal})
        return LabelledRow(str(number), "Some", Exchange(prompt, "answer"), labels)

    found = summary(
        (labelled(1, "one", True, refusal=True), verdict(True)),
        (labelled(2, "one", False, refusal=True), verdict(True)),
        (labelled(3, "one", True), verdict(True)),
        (labelled(4, "two", False), verdict(False)),
        (labelled(5, "two", False), verdict(False)),
    )
    harm, refusal = found.benchmarks[0].tasks
    assert refusal.ceiling is None
    assert harm.ceiling == Ceiling(exchanges=1, rows=3, accuracy=80.0, f1=80.0)
    assert harm.strict.f1 == pytest.approx(80.0)
    said = "Some, prompt harmfulness: 1 exchange (3 rows) with both labels; no guard can reach more than 80.0 % accuracy and F1 80.0."
    assert said in list(found.notes())
    assert found == type(found).model_validate_json(found.model_dump_json())
