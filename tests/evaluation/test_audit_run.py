"""An audit from a file of labels to the corrected file, with a scripted guard."""

from __future__ import annotations

import contextlib
import csv
import json
from pathlib import Path

import pytest

from guardreasoner_sdk import Exchange, Guard, Judgement
from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.evaluation.audit.decisions import DECISIONS, append_decisions, apply, read_decisions
from guardreasoner_sdk.evaluation.audit.labelled_set import LabelledSet
from guardreasoner_sdk.evaluation.audit.run import load, load_items, predictions, run
from guardreasoner_sdk.testing import ScriptedJudge
from guardreasoner_sdk.verdict import Finding, ReasoningStep

pytest.importorskip("sklearn", reason="figures need the extra 'eval'")

PROMPT = "prompt_harmfulness"


def score_of(exchange: Exchange) -> float:
    return float(exchange.prompt.split()[-1])


def answer(exchange: Exchange) -> Judgement:
    """A guard that reads its score in the prompt, and gives a reason for each task."""
    score = score_of(exchange)
    steps = (ReasoningStep(task=PROMPT, kind="thought", text=f"it says {score}"),)
    steps += (ReasoningStep(task="response_refusal", kind="thought", text="another task's"),)
    return Judgement(prompt_harmfulness=Finding(label="harmful" if score >= 0.5 else "unharmful", score=score), reasoning=steps)


@pytest.fixture
def judge():
    return ScriptedJudge(answer, batch_size=8)


def rows(flips=(3, 40)):
    """Sixty rows, every other one harmful, and two labels that are wrong."""
    for number in range(60):
        harmful = number % 2 == 0
        score = (0.9 if harmful else 0.1) + 0.001 * number
        yield {"prompt": f"row {score:.3f}", "prompt_harmful": harmful != (number in flips), "id": f"n{number}"}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows()), "utf-8")
    return path


def audited(judge, file, folder, **options):
    told = []

    @contextlib.contextmanager
    def shown(total, done):
        yield lambda now: told.append((now, total))

    settings = {
        "at_most": 0.25,
        "explainer": None,
        "settings": {"reasoning": "auto"},
        "overwrite": False,
        "columns": (),
    } | options
    labels = LabelledSet(file, settings.pop("columns"))
    with Guard(judge=judge) as guard:
        return (*run(guard, labels, folder, shown=shown, **settings), told)


def test_what_is_wrong_is_proposed_with_its_reasons(judge, file, tmp_path):
    audit, items, told = audited(judge, file, tmp_path / "audit")
    assert {item.id for item in items} == {"n3", "n40"}
    item = next(item for item in items if item.id == "n3")
    assert (item.key, item.row, item.given, item.other, item.said) == (
        "4:prompt_harmfulness",
        4,
        "harmful",
        "unharmful",
        "unharmful",
    )
    assert [step.text for step in item.steps] == ["it says 0.103"]
    assert item.why.startswith("P(harmful) is 0.10. Rows labelled harmful have 0.9")
    assert told[-1] == (60, 60)
    assert (audit.rows, audit.labelled, audit.guard["model"]) == (60, 60, "scripted")
    assert load(tmp_path / "audit") == audit
    assert load_items(tmp_path / "audit") == items


def test_a_second_run_asks_nothing_again_and_another_share_is_only_proposed_anew(judge, file, tmp_path):
    _, items, _ = audited(judge, file, tmp_path / "audit")
    asked = len(judge.seen)
    assert audited(judge, file, tmp_path / "audit")[1] == items
    assert len(audited(judge, file, tmp_path / "audit", at_most=0.02)[1]) == 1
    assert len(judge.seen) == asked == 60
    audited(judge, file, tmp_path / "audit", overwrite=True)
    assert len(judge.seen) == 120


def test_a_run_does_not_go_on_in_verdicts_under_another_calibration(judge, file, tmp_path):
    audited(judge, file, tmp_path / "audit", settings={"reasoning": "auto", "calibration": "1:a"})
    with pytest.raises(InputError, match="calibration was '1:a', is None"):
        audited(judge, file, tmp_path / "audit", settings={"reasoning": "auto", "calibration": None})


def test_a_run_that_was_cut_off_goes_on_where_it_stopped(judge, file, tmp_path):
    def tired(exchange: Exchange) -> Judgement:
        if score_of(exchange) == 0.935:
            raise KeyboardInterrupt
        return answer(exchange)

    folder = tmp_path / "audit"
    whole = audited(judge, file, tmp_path / "whole")[1]
    with pytest.raises(KeyboardInterrupt):
        audited(_Sudden(20), file, folder)
    kept = len((folder / "verdicts.jsonl").read_bytes().splitlines())
    assert 0 < kept < 60
    with (folder / "verdicts.jsonl").open("ab") as journal:
        journal.write(b'{"row": ')
    again = ScriptedJudge(answer, batch_size=8)
    assert audited(again, file, folder)[1] == whole
    assert len(again.seen) == 60 - kept


class _Sudden:
    """A judge that Ctrl-C hits after some batches."""

    model = backend = "scripted"
    batch_size = 4

    def __init__(self, after: int) -> None:
        self._left = after

    def judge_now(self, exchanges, *, deadline):
        self._left -= len(exchanges)
        if self._left < 0:
            raise KeyboardInterrupt
        return [answer(exchange) for exchange in exchanges]

    async def judge(self, exchanges, *, deadline):
        return self.judge_now(exchanges, deadline=deadline)

    async def aclose(self) -> None:
        pass


def test_reasons_may_come_from_a_second_guard_which_is_asked_for_proposals_only(judge, file, tmp_path):
    thorough = ScriptedJudge(answer)
    with Guard(judge=thorough) as explainer:
        items = audited(judge, file, tmp_path / "audit", explainer=explainer)[1]
        assert {exchange.prompt for exchange in thorough.seen} == {item.prompt for item in items}
        assert [step.text for step in items[0].steps]
        audited(judge, file, tmp_path / "audit", explainer=explainer)
        assert len(thorough.seen) == 2
        audited(judge, file, tmp_path / "audit", explainer=explainer, at_most=0.02)
        assert len(thorough.seen) == 3


def test_rows_without_a_label_are_not_judged(judge, file, tmp_path):
    file.write_text('{"prompt": "x 0.5", "prompt_harmful": null}\n' + file.read_text("utf-8"), "utf-8")
    audit, items, _ = audited(judge, file, tmp_path / "audit")
    assert (audit.rows, audit.labelled, len(judge.seen)) == (61, 60, 60)
    assert {item.row for item in items} == {5, 42}
    assert len(predictions(audit.labels(), tmp_path / "audit")) == 60


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"prompt": "x 0.5", "prompt_harmful": null}\n', "has no labelled row"),
        ('{"prompt": "x 0.5", "prompt_harmful": true}\n{"prompt": "x', r"line 2: is not JSON"),
        (
            '{"prompt": "x 0.5", "prompt_harmful": true}\n\n{"prompt": "", "prompt_harmful": true}\n',
            r"line 3, prompt: is empty",
        ),
        ('{"prompt": "x 0.5", "prompt_harmful": "perhaps"}\n', r"line 1: prompt_harmful: 'perhaps' is not a label"),
        ('{"prompt": "x 0.5"}\n', r"line 1: has no column of labels"),
    ],
)
def test_a_file_that_cannot_be_audited_says_why_before_anything_is_judged(judge, file, tmp_path, text, said):
    file.write_text(text, "utf-8")
    with pytest.raises(InputError, match=said):
        audited(judge, file, tmp_path / "audit")
    assert judge.seen == []


def test_another_file_or_other_columns_do_not_go_on_in_a_folder(judge, file, tmp_path):
    audited(judge, file, tmp_path / "audit")
    with pytest.raises(InputError, match="columns was"):
        audited(judge, file, tmp_path / "audit", columns=("prompt=prompt",))
    file.write_text(file.read_text("utf-8").replace("true", "false", 1), "utf-8")
    with pytest.raises(InputError, match="its input was different"):
        audited(judge, file, tmp_path / "audit")


def decide(folder, audit, decisions):
    append_decisions(folder / DECISIONS, audit.audit, decisions)
    return read_decisions(folder / DECISIONS, audit.audit)


def test_accepted_labels_are_turned_over_and_the_figures_say_what_it_makes(judge, file, tmp_path):
    folder = tmp_path / "audit"
    audit, _, _ = audited(judge, file, folder)
    decisions = decide(
        folder, audit, {"4:prompt_harmfulness": "accept", "41:prompt_harmfulness": "reject", "7:prompt_harmfulness": "skip"}
    )
    correction, path = apply(audit.labels(), folder, decisions)
    assert path == folder / "corrected.jsonl"
    old, new = file.read_text("utf-8").splitlines(), path.read_text("utf-8").splitlines()
    assert [number for number in range(60) if old[number] != new[number]] == [3]
    assert new[3] == old[3].replace("true", "false")
    assert (correction.accepted, correction.rejected, correction.skipped, correction.agreement) == (1, 1, 1, 50.0)
    (before,), (after,) = correction.before, correction.after
    assert (before.true_positives, before.false_positives, before.false_negatives) == (29, 1, 1)
    assert (after.true_positives, after.false_positives, after.false_negatives) == (29, 1, 0)
    assert json.loads((folder / "correction.json").read_text("utf-8"))["agreement"] == 50.0


def test_a_csv_comes_back_as_a_csv_in_its_own_words(judge, tmp_path):
    file = tmp_path / "rows.csv"
    with file.open("w", newline="") as out:
        csv.writer(out).writerows(
            [["q", "toxic"], *([row["prompt"], "bad" if row["prompt_harmful"] else "fine"] for row in rows())]
        )
    columns = ("prompt=q", "prompt_harmfulness=toxic", "positive=bad", "negative=fine")
    audit, items, _ = audited(judge, file, tmp_path / "audit", columns=columns)
    decisions = decide(tmp_path / "audit", audit, {item.key: "accept" for item in items})
    _, path = apply(audit.labels(), tmp_path / "audit", decisions)
    before, after = file.read_bytes().split(b"\r\n"), path.read_bytes().split(b"\r\n")
    assert {number: new for number, (old, new) in enumerate(zip(before, after, strict=True)) if old != new} == {
        4: b"row 0.103,fine",
        41: b"row 0.940,bad",
    }


def test_the_last_decision_counts_and_one_can_be_taken_back(tmp_path):
    path = tmp_path / DECISIONS
    append_decisions(path, "x", {"1:a": "accept", "2:a": "reject"})
    append_decisions(path, "x", {"1:a": "reject", "2:a": "open"})
    assert read_decisions(path, "x") == {"1:a": "reject"}


def test_a_torn_line_loses_that_decision_only(tmp_path):
    path = tmp_path / DECISIONS
    append_decisions(path, "x", {"1:a": "accept", "2:a": "reject"})
    path.write_bytes(path.read_bytes()[:-9])
    assert read_decisions(path, "x") == {"1:a": "accept"}
    append_decisions(path, "x", {"3:a": "skip"})
    assert read_decisions(path, "x") == {"1:a": "accept", "3:a": "skip"}


def test_decisions_from_the_page_are_read_too(tmp_path):
    path = tmp_path / "decisions.json"
    path.write_text(json.dumps({"audit": "x", "decisions": {"1:a": "accept"}}, indent=1), "utf-8")
    assert read_decisions(path, "x") == {"1:a": "accept"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"audit": "other", "decisions": {}}', "belongs to the audit of another file"),
        ('{"audit": "other", "key": "1:a", "decision": "accept"}\n', "line 1: belongs to the audit of another file"),
        ('{"audit": "x", "key": "1:a", "decision": "perhaps"}\n', "line 1: is not a decision"),
        ('{"audit": "x", "decisions": [1]}', "is not a decision"),
        ("hello\n", "line 1: is not a decision"),
    ],
)
def test_what_are_no_decisions_on_this_audit(tmp_path, text, said):
    path = tmp_path / "decisions.json"
    path.write_text(text, "utf-8")
    with pytest.raises(InputError, match=said):
        read_decisions(path, "x")


def test_decisions_on_labels_that_the_file_does_not_have(judge, file, tmp_path):
    audit, _, _ = audited(judge, file, tmp_path / "audit")
    with pytest.raises(InputError, match="'99:prompt_harmfulness' is not a label of"):
        apply(audit.labels(), tmp_path / "audit", {"99:prompt_harmfulness": "accept"})


def test_a_file_that_changed_since_is_not_corrected(judge, file, tmp_path):
    audit, _, _ = audited(judge, file, tmp_path / "audit")
    file.rename(tmp_path / "moved.jsonl")
    with pytest.raises(InputError, match="does not exist"):
        audit.labels()
    assert audit.labels(tmp_path / "moved.jsonl").path == tmp_path / "moved.jsonl"
    (tmp_path / "moved.jsonl").write_text("{}\n", "utf-8")
    with pytest.raises(InputError, match="is not the file that was audited"):
        audit.labels(tmp_path / "moved.jsonl")


def test_a_folder_without_an_audit(tmp_path):
    with pytest.raises(InputError, match="holds no"):
        load(tmp_path)
    Path(tmp_path / "audit.json").write_text("{}", "utf-8")
    with pytest.raises(InputError, match="cannot be read"):
        load(tmp_path)
