"""What the embedded guard is measured on, as rows that any guard can be measured on."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from guardreasoner_sdk.evaluation import read_file, robustness_rows
from guardreasoner_training.embedded.config import TrainConfig
from guardreasoner_training.embedded.held_out import main, write_held_out

CONFIG = replace(TrainConfig(), dev_share=0.5, response_dev_share=0.5, unseen_sources=("kept_apart",), dev_cap=60)
WORDS = [
    "apple",
    "bread",
    "cloud",
    "drum",
    "eagle",
    "fence",
    "glove",
    "harp",
    "island",
    "jacket",
    "kettle",
    "ladder",
    "mirror",
    "needle",
    "orchid",
    "pencil",
]


def write(path: Path, *, lang: str | None, answers: bool = False) -> None:
    lines = []
    for number in range(120):
        text = f"{WORDS[number % 16]} {WORDS[number // 16]} of {path.stem} number {number}"
        label = number % 2 == 0
        row = {"prompt": text, "response": f"{text}!" if answers else None, "lang": lang}
        lines.append(row | {"prompt_harmful": label, "response_harmful": label if answers else None, "refusal": None})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "rows"
    folder.mkdir()
    write(folder / "one.jsonl", lang="de")
    write(folder / "phtest.jsonl", lang=None, answers=True)
    write(folder / "hatecheck.jsonl", lang="en")
    write(folder / "kept_apart.jsonl", lang="fr")
    return folder


def test_the_rows_have_what_an_evaluation_asks_for(data: Path, tmp_path: Path) -> None:
    counts = write_held_out(data, tmp_path / "out", CONFIG)
    dev, unseen = (list(read_file(tmp_path / "out" / name)) for name in ("dev.jsonl", "unseen.jsonl"))
    assert counts == {"dev.jsonl": len(dev), "unseen.jsonl": len(unseen)}
    assert {row.language for row in dev} == {"de", "en"}
    assert {row.language for row in unseen} == {"fr"}
    assert len({row.id for row in dev}) == len(dev)
    kinds = Counter((row.kind, any(row.labels.values())) for row in dev)
    assert kinds.keys() == {
        (None, True),
        (None, False),
        ("over_refusal", False),
        ("moderation", True),
        ("moderation", False),
    }
    assert {row.benchmark for row in robustness_rows(dev, pairs=1)} > {"needles", "languages", "over_refusal"}


def test_the_same_settings_hold_out_the_same_rows(data: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_held_out(data, tmp_path / name, CONFIG)
    assert (tmp_path / "a/dev.jsonl").read_bytes() == (tmp_path / "b/dev.jsonl").read_bytes()
    write_held_out(data, tmp_path / "c", replace(CONFIG, seed=8))
    assert (tmp_path / "a/dev.jsonl").read_bytes() != (tmp_path / "c/dev.jsonl").read_bytes()


def test_the_command_says_what_it_wrote_and_what_is_missing(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--data", str(data), "--output", str(tmp_path / "out")]) == 0
    assert "dev.jsonl: " in capsys.readouterr().out
    (tmp_path / "empty").mkdir()
    assert main(["--data", str(tmp_path / "empty"), "--output", str(tmp_path / "out")]) == 1
    assert "give --data a folder of labelled rows" in capsys.readouterr().err


def test_half_a_character_is_written_as_one_that_can_be_read(data: Path, tmp_path: Path) -> None:
    text = (data / "kept_apart.jsonl").read_text()
    (data / "kept_apart.jsonl").write_text(text.replace("bread", r"\ud83d bread \ud83c\udf5e").replace("kettle", r"\udc00"))
    write_held_out(data, tmp_path / "out", CONFIG)
    prompts = " ".join(row.exchange.prompt for row in read_file(tmp_path / "out" / "unseen.jsonl"))
    assert "\ufffd bread \U0001f35e" in prompts
    assert "kettle" not in prompts
