"""The published answers of GuardReasoner 1B and 8B, where they are at hand."""

import json
import re

import pytest

from guardreasoner_sdk import Exchange
from guardreasoner_sdk.dialects import Completion, GuardReasonerDialect
from guardreasoner_sdk.dialects.guardreasoner import INSTRUCTION
from guardreasoner_sdk.verdict import LABELS, Task
from public_data import public_data

TASKS: dict[str, tuple[Task, str]] = {
    "AegisSafetyTest": ("prompt_harmfulness", "Request"),
    "SimpleSafetyTests": ("prompt_harmfulness", "Request"),
    "XSTestResponseRefusal": ("response_refusal", "Completion"),
    "HarmBenchResponse": ("response_harmfulness", "Response"),
}


def f1(pairs: list[tuple[bool, bool]]) -> float:
    hits = sum(truth and said for truth, said in pairs)
    return 200 * hits / (sum(truth for truth, _ in pairs) + sum(said for _, said in pairs))


@pytest.mark.parametrize("benchmark", TASKS)
@pytest.mark.parametrize("size", ["1B", "8B"])
def test_published_answers_are_read(size: str, benchmark: str) -> None:
    path = public_data("transcripts", size, benchmark, "generated_predictions.jsonl")
    task, field = TASKS[benchmark]
    positive = LABELS[task][0]
    dialect = GuardReasonerDialect()
    ours, theirs, unread, rendered = [], [], [], 0
    rows = [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]
    for number, row in enumerate(rows):
        prompt, response = re.fullmatch(
            r"Human user:\n(.*)\n\nAI assistant:\n(.*)\n\n", row["prompt"][len(INSTRUCTION) + 1 :], re.DOTALL
        ).groups()  # type: ignore[union-attr]
        exchange = Exchange(prompt, None if response == "None" else response)
        rendered += dialect.render(exchange).text == row["prompt"]
        finding = dialect.read(Completion(text=row["predict"]), exchange).findings[task]
        truth = row["label"] == positive or f"{field}: {positive}" in row["label"]
        if finding.determined:
            assert finding.span is not None
            assert row["predict"][finding.span.start : finding.span.end].lower() == finding.label
            ours.append((truth, finding.label == positive))
        else:
            unread.append(f"row {number}: {finding.cause}")
            ours.append((truth, not truth))
        # The authors' rule: the last 300 characters; what is not found there is dropped.
        tail = row["predict"][-300:].lower()
        said = [label for label in LABELS[task] if f"{field}: {label}".lower() in tail]
        if said:
            theirs.append((truth, said[0] == positive))
    print(f"{len(rows)} rows, F1 {f1(ours):.2f} (authors' rule {f1(theirs):.2f}), unread: {unread or 'none'}")
    assert len(unread) <= 0.01 * len(rows), unread
    assert f1(ours) >= f1(theirs) - 0.3
    # The judged text reaches the model letter for letter, but for lines that imitate the format.
    assert rendered >= 0.995 * len(rows)
