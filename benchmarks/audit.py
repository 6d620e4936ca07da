"""How many wrong labels ``guardreasoner audit`` finds: labels of a development set are turned over on purpose.

    python benchmarks/audit.py --data FOLDER [--unlabelled FOLDER] [--rows N] [--flips 200] [--draws 10] [--work FOLDER]
        [--output FILE]

The rows are the development split of the embedded model: cut from FOLDER (the labelled rows that it was trained on) as its
training did, so that it has learnt from none of them nor from a near-duplicate; the model card says how. One draw of flips
goes the whole way: the file with wrong labels, the audit, decisions (accepted is what was flipped), the corrected file. Then
come more draws over all labels and over those of each task, and the same with scores that are bent as those of badly
calibrated guards are. A guard's ranking stays the same when its scores are bent; how far they lie apart does not.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from guardreasoner_sdk import Guard
from guardreasoner_sdk.evaluation.audit import AT_MOST, propose
from guardreasoner_sdk.evaluation.audit.decisions import apply
from guardreasoner_sdk.evaluation.audit.labelled_set import LabelledSet
from guardreasoner_sdk.evaluation.audit.run import Audit, AuditItem, predictions, run
from guardreasoner_sdk.evaluation.rows import Prediction
from guardreasoner_sdk.judges.embedded import DEFAULT_FOLDER
from guardreasoner_sdk.verdict import TASKS

COLUMNS = ("prompt_harmful", "refusal", "response_harmful")


def _logit(score: float) -> float:
    score = min(max(score, 1e-9), 1 - 1e-9)
    return math.log(score / (1 - score))


BENDS: dict[str, Callable[[float], float]] = {
    "as they are": lambda score: score,
    "too low (s^6)": lambda score: score**6,
    "too high (1-(1-s)^6)": lambda score: 1 - (1 - score) ** 6,
    "too sure (6 logit)": lambda score: 1 / (1 + math.exp(-6 * _logit(score))),
    "hardly apart, low (logit/5 - 4)": lambda score: 1 / (1 + math.exp(4 - _logit(score) / 5)),
    "too sure, low (3 logit - 6)": lambda score: 1 / (1 + math.exp(6 - 3 * _logit(score))),
}


def development_rows(data: Path, unlabelled: Path | None = None) -> list[dict[str, Any]]:
    """The measured rows of the embedded model's development split.

    Args:
        data: the folder of labelled rows.
        unlabelled: the folder of text without labels, which joins groups of near-duplicates, too.
    """
    from guardreasoner_training.embedded.config import TrainConfig
    from guardreasoner_training.embedded.examples import evaluation_examples
    from guardreasoner_training.embedded.split import hold_out
    from guardreasoner_training.embedded.unlabelled import load_rows

    metrics = json.loads((DEFAULT_FOLDER / "metrics.json").read_text("utf-8"))
    config, counts = metrics["config"], metrics["data"]
    found = load_rows(data, unlabelled)
    # The folders may have grown since; the split is that of the files which the model was trained on.
    rows = [row for row in found if row.source in counts["sources"]]
    names = ("dev_share", "response_dev_share", "unseen_sources", "seed")
    split = hold_out(rows, TrainConfig(**{name: config[name] for name in names}))
    examples = evaluation_examples((rows[number] for number in split.dev), cap=config["dev_cap"], seed=config["seed"])
    if (len(split.dev), len(examples)) != (counts["dev_rows"], counts["dev_examples"]):
        raise SystemExit(f"{data}, {unlabelled}: not the data that the embedded model was trained on: its split is another")
    return [
        # A prompt without an answer may stand in a row whose answer is empty: there is nothing to judge in that.
        {"prompt": example.prompt, "response": example.response or None, **dict(zip(COLUMNS, example.labels, strict=True))}
        for example in examples
        if example.response is None or example.response.strip()
    ]


def flipped(rows: Sequence[dict[str, Any]], flips: int, seed: int) -> tuple[list[dict[str, Any]], set[str]]:
    """Turn labels over.

    Args:
        rows: labelled rows.
        flips: how many labels.
        seed: of the draw.

    Returns:
        the rows, and the keys of the labels turned over.
    """
    places = [(number, column) for number, row in enumerate(rows) for column in COLUMNS if row[column] is not None]
    wrong = [dict(row) for row in rows]
    keys = set()
    for number, column in random.Random(seed).sample(places, flips):
        wrong[number][column] = not wrong[number][column]
        keys.add(f"{number + 1}:{TASKS[COLUMNS.index(column)]}")
    return wrong, keys


def write(rows: Sequence[dict[str, Any]], path: Path) -> Path:
    """Write rows as JSON lines."""
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    return path


def audited(file: Path, folder: Path, *, at_most: float = AT_MOST) -> tuple[Audit, list[AuditItem]]:
    """Audit a file with the embedded guard, as the command does, but for the reasons."""

    @contextlib.contextmanager
    def shown(total: int, done: int) -> Iterator[Callable[[int], None]]:
        yield lambda now: None

    with Guard(reasoning="off") as guard:
        return run(
            *(guard, LabelledSet(file), folder),
            at_most=at_most,
            explainer=None,
            settings={"reasoning": "off"},
            overwrite=False,
            shown=shown,
        )


def draw(given: Sequence[Prediction], flips: int, seed: int, at_most: float) -> dict[str, float]:
    """Turn labels of judged rows over and see what is proposed.

    Args:
        given: the right labels, and what the guard said.
        flips: how many labels to turn over.
        seed: of the draw.
        at_most: largest share of a task's labels to propose.
    """
    wrong = set(random.Random(seed).sample(range(len(given)), flips))
    keys = {(given[number].id, given[number].task) for number in wrong}
    proposals, _ = propose((replace(one, truth=one.truth != (n in wrong)) for n, one in enumerate(given)), at_most=at_most)
    found = {(proposal.id, proposal.task) for proposal in proposals}
    return {
        "found": 100 * len(found & keys) / flips,
        "right_proposed": 100 * len(found - keys) / (len(given) - flips),
        "proposed": 100 * len(found) / len(given),
    }


def draws(given: Sequence[Prediction], flips: int, count: int, at_most: float) -> dict[str, float]:
    """Mean and worst of several draws, in percent."""
    each = [draw(given, flips, seed, at_most) for seed in range(count)]
    return {
        "labels": len(given),
        "flips": flips,
        "found": round(statistics.mean(one["found"] for one in each), 1),
        "found_least": round(min(one["found"] for one in each), 1),
        "right_proposed": round(statistics.mean(one["right_proposed"] for one in each), 1),
        "right_proposed_most": round(max(one["right_proposed"] for one in each), 1),
        "proposed": round(statistics.mean(one["proposed"] for one in each), 1),
    }


def whole_way(rows: Sequence[dict[str, Any]], flips: int, folder: Path) -> tuple[dict[str, Any], list[Prediction]]:
    """One draw from the file with wrong labels to the corrected file.

    Returns:
        the figures, and the predictions with the right labels.
    """
    wrong, keys = flipped(rows, flips, seed=0)
    file = write(wrong, folder / "wrong.jsonl")
    started = time.perf_counter()
    audit, items = audited(file, folder / "audit")
    seconds = time.perf_counter() - started
    proposed = {item.key for item in items}
    labels = audit.labels()
    correction, corrected = apply(labels, folder / "audit", {key: "accept" if key in keys else "reject" for key in proposed})
    repaired = [json.loads(line) for line in corrected.read_text("utf-8").splitlines()]
    left = sum(row[column] != right[column] for row, right in zip(repaired, rows, strict=True) for column in COLUMNS)
    given = predictions(labels, folder / "audit")
    labelled = len(given)
    figures = {
        "rows": len(rows),
        "labels": labelled,
        "flips": flips,
        "found": round(100 * len(proposed & keys) / flips, 1),
        "right_proposed": round(100 * len(proposed - keys) / (labelled - flips), 1),
        "wrong_left_after": left,
        "agreement": None if correction.agreement is None else round(correction.agreement, 1),
        "f1_before_after": {
            before.task: [None if one.f1 is None else round(one.f1, 1) for one in (before, after)]
            for before, after in zip(correction.before, correction.after, strict=True)
        },
        "seconds": round(seconds, 1),
        "by_task": {
            task: {
                "found": sum(key.endswith(task) for key in proposed & keys),
                "flips": sum(key.endswith(task) for key in keys),
                "right_proposed": sum(key.endswith(task) for key in proposed - keys),
                "labels": sum(one.task == task for one in given),
            }
            for task in TASKS
        },
    }
    return figures, [replace(one, truth=one.truth != (f"{one.id}:{one.task}" in keys)) for one in given]


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the labelled rows that the model was trained on")
    parser.add_argument("--unlabelled", type=Path, help="folder of the text without labels that it was trained on")
    parser.add_argument("--rows", type=int, help="only so many rows, drawn at random")
    parser.add_argument("--flips", type=int, default=200)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--work", type=Path, help="keep the audit in this folder, and go on in it")
    parser.add_argument("--output", type=Path, help="write the figures here, as JSON")
    options = parser.parse_args()
    rows = development_rows(options.data, options.unlabelled)
    if options.rows is not None:
        rows = random.Random(0).sample(rows, options.rows)
    with tempfile.TemporaryDirectory() as folder:
        figures, given = whole_way(rows, options.flips, options.work or Path(folder))
    result: dict[str, Any] = {"at_most": AT_MOST, "whole_way": figures, "draws": {}}
    for bend, bent in BENDS.items():
        scored = [replace(one, score=None if one.score is None else bent(one.score)) for one in given]
        parts = {"all": scored} | {task: [one for one in scored if one.task == task] for task in TASKS}
        result["draws"][bend] = {
            name: draws(part, options.flips, options.draws, AT_MOST)
            for name, part in parts.items()
            if len(part) > options.flips
        }
    text = json.dumps(result, indent=1)
    print(text)
    if options.output is not None:
        options.output.write_text(f"{text}\n", "utf-8")


if __name__ == "__main__":
    main()
