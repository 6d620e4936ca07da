"""A whole training from one recipe, on a guard that is trained already, so that minutes suffice."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl", reason="needs guardreasoner-sdk[train]")
pytest.importorskip("peft", reason="needs guardreasoner-sdk[train]")

from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.evaluation.rows import LabelledRow
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_training.hsdpo import hsdpo
from guardreasoner_training.manifest import Manifest
from guardreasoner_training.mining import PAIRS, SELF_PAIRS, mine
from guardreasoner_training.pipeline import SYSTEMS, pipeline, stages_of
from guardreasoner_training.pipeline.measure import benchmark_files, benchmark_rows, dev_rows, measure_guard
from guardreasoner_training.pipeline.table import as_markdown, as_text, tables
from guardreasoner_training.recipe import EvaluateSettings, Recipe, load_recipe, override, recipe_names, recipe_text
from guardreasoner_training.rows import TrainingRow
from guardreasoner_training.rsft import rsft
from samples import quiet, synthetic, write

pytestmark = pytest.mark.filterwarnings("ignore")  # of the training's libraries, about each other

OWN_ROWS = r"self: (\d+) of \1 rows"
TEXT = {True: "harmful", False: "unharmful"}


@dataclass(frozen=True)
class Made:
    """A training that was killed, interrupted twice, and finished."""

    recipe: Recipe
    rows: Path
    benchmark: Path
    output: Path
    result: dict[str, Any]
    starts: list[list[str]]
    """What each start said."""

    def again(self, recipe: Recipe | None = None, **options: Any) -> dict[str, Any]:
        return pipeline(recipe or self.recipe, self.output, data=[self.rows], benchmarks=[str(self.benchmark)], **options)


@pytest.fixture(scope="module")
def recipe(tiny_guard: Any) -> Recipe:
    """The laptop recipe, made smaller still, with an ensemble of one more model."""
    changes = {
        "base": str(tiny_guard.folder),
        "rendering": "raw",
        "max_tokens": 1024,
        "data.per_source": None,
        "data.per_prompt": None,
        "data.per_labels": None,
        "data.max_rows": None,
        "data.source_from_file": False,
        "data.dev_share": 0.15,
        "data.response_dev_share": None,
        "data.leaks": "drop",
        "rsft.epochs": 1,
        "rsft.batch": 5,
        "rsft.threads": 1,
        "rsft.learning_rate": 1e-5,
        "rsft.logging_steps": 1,
        "rsft.save_steps": 2,
        "hsdpo.epochs": 1,
        "hsdpo.batch": 4,
        "hsdpo.threads": 1,
        "hsdpo.logging_steps": 1,
        "hsdpo.save_steps": 1,
        "mine.k": 2,
        "mine.max_new_tokens": 200,
        "mine.own_sources": ["one"],
        "mine.ensemble": [{"name": "second", "sources": ["one", "two"]}],
        "evaluate.dev_rows": 2,
        "evaluate.benchmarks": [],
        "export.gguf": ["f16"],
        "export.check_rows": 1,
    }
    return override(load_recipe("laptop"), changes)


def killed(made: list[str], at: bytes, behind: bytes) -> list[str]:
    """Run the command, kill it at a line behind that of a stage, and say what it said."""
    process = subprocess.Popen(made, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env={**os.environ})
    assert process.stderr is not None
    said, stage = [], b""
    for line in process.stderr:
        said.append(line.decode().rstrip())
        stage = line if b"] " in line else stage
        if behind in stage and at in line:
            process.kill()
            break
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    return said


def interrupted(said: list[str], at: str, behind: str) -> Callable[[str], None]:
    """Hears what a training says, and presses Ctrl-C at a line behind that of a stage."""
    stage = ""

    def hear(line: str) -> None:
        nonlocal stage
        said.append(line)
        stage = line if line.startswith("[") else stage
        if behind in stage and re.match(at, line):
            raise KeyboardInterrupt

    return hear


@pytest.fixture(scope="module")
def made(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The training: killed in R-SFT, interrupted in mining and in HS-DPO, and the fourth time finished."""
    folder = tmp_path_factory.mktemp("pipeline")
    rows, benchmark = write(folder / "train.jsonl", synthetic(24, 5)), write(folder / "bench.jsonl", synthetic(4, 6))
    settings, output = folder / "recipe.toml", folder / "out"
    settings.write_text(recipe_text(recipe), encoding="utf-8")
    words = ["train", "pipeline", settings, "--data", rows, "--benchmarks", benchmark, "--output", output]
    starts = [killed([sys.executable, "-m", "guardreasoner_sdk", *map(str, words)], b"step 3 of", b"] rsft")]
    assert not (output / "rsft" / "figures.json").exists()
    unfinished = Made(recipe, rows, benchmark, output, {}, starts)
    for at, stage in ((OWN_ROWS, "] mine"), ("step 2 of", "] hsdpo-self")):
        starts.append([])
        with pytest.raises(KeyboardInterrupt):
            unfinished.again(report=interrupted(starts[-1], at, stage))
    starts.append([])
    return replace(unfinished, result=unfinished.again(report=starts[-1].append))


def timeless(value: Any) -> Any:
    """Figures without how long it took."""
    if isinstance(value, dict):
        return {key: timeless(inner) for key, inner in value.items() if "seconds" not in key and "per_second" not in key}
    return [timeless(inner) for inner in value] if isinstance(value, list) else value


def figures(output: Path) -> dict[str, Any]:
    """All that a training found, without how long it took."""
    stages = json.loads((output / "manifest.json").read_bytes())["stages"]
    return {name: timeless(stage["figures"]) for name, stage in stages.items()}


def test_every_stage_of_the_recipe_is_done_in_order(made: Made) -> None:
    recipe, output, result = made.recipe, made.output, made.result
    assert stages_of(recipe) == [
        *("prepare", "baseline", "rsft", "member-second", "mine", "hsdpo-self", "hsdpo-ensemble"),
        *("evaluate-baseline", "evaluate-rsft", "evaluate-hsdpo-self", "evaluate-hsdpo-ensemble", "export"),
    ]
    assert list(figures(output)) == stages_of(recipe)
    assert list(result["systems"]) == list(SYSTEMS.values())
    assert result["guard"] == str(output / "export")
    sets = figures(output)["mine"]["sets"]
    assert list(sets) == ["self", "ensemble"]
    assert all(figures(output)[f"hsdpo-{name}"]["rows"] > 0 for name in sets)


def test_the_manifest_says_versions_seeds_hashes_settings_and_durations(made: Made) -> None:
    manifest = json.loads((made.output / "manifest.json").read_bytes())
    assert {"python", "guardreasoner-sdk", "torch", "transformers", "trl"} <= manifest["versions"].keys()
    assert manifest["seed"] == made.recipe.seed == manifest["recipe"]["seed"]
    assert len(manifest["data"]["files"][str(made.rows)]) == 64
    assert manifest["data"]["benchmarks"][0].startswith("bench (4 rows, ")
    cut_off = dict.fromkeys(("rsft", "mine", "hsdpo-self"), 2)
    for name, stage in manifest["stages"].items():
        assert stage["seconds"] > 0
        assert stage["starts"] == cut_off.get(name, 1)
    assert len(manifest["stages"]["rsft"]["figures"]["weights"]["model.safetensors"]) == 64
    assert str(made.rows.parent) not in (made.output / "export" / "README.md").read_text("utf-8")


def test_the_table_has_each_guard_with_f1_by_task_and_set_and_undetermined_answers(made: Made) -> None:
    text, markdown = (made.output / "table.txt").read_text("utf-8"), (made.output / "table.md").read_text("utf-8")
    assert text == made.result["table"]
    for name in SYSTEMS.values():
        assert f"\n{name} " in text
        assert f"| {name} |" in markdown
    heading = text.splitlines()[0].split()
    assert heading.count("dev") == heading.count("benchmarks") == 4
    assert "| bench | prompt | 4 |" in markdown
    assert markdown in (made.output / "export" / "README.md").read_text("utf-8")


def test_started_again_nothing_is_done_again(made: Made) -> None:
    kept = [path for path in made.output.rglob("*") if path.suffix in (".safetensors", ".jsonl", ".gguf")]
    before = {path: path.stat().st_mtime_ns for path in kept if "members" not in path.parts}  # which are cheap to write
    assert {path.parent.name for path in before} > {"data", "rsft", "mine", "hsdpo-self", "export", "baseline"}
    said: list[str] = []
    assert made.again(report=said.append) == made.result
    assert [line for line in said if line.startswith("[")] == [
        f"[{number}/12] {name}: is there already" for number, name in enumerate(stages_of(made.recipe), 1)
    ]
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_killed_and_started_again_a_stage_goes_on_and_those_before_it_are_not_done_again(made: Made) -> None:
    first, second, third, last = made.starts
    assert "[2/12] baseline: is there already" not in first
    assert "[2/12] baseline: is there already" in second
    assert any(line.startswith("goes on from") for line in second[: second.index("[4/12] member-second")])
    assert "[4/12] member-second: is there already" in third
    mined = third[third.index("[5/12] mine") : third.index("[6/12] hsdpo-self")]
    assert not any(re.match(OWN_ROWS, line) for line in mined)  # they were written before it was interrupted
    assert any(line.startswith("second: ") for line in mined)
    assert "[5/12] mine: is there already" in last
    assert any(line.startswith("goes on from") for line in last[: last.index("[7/12] hsdpo-ensemble")])


def test_killed_and_started_again_it_ends_in_the_same_figures(made: Made, tmp_path: Path) -> None:
    """Each stage that was cut off, once more by itself and without a break: what is made of them was made without one, too."""
    given, output = figures(made.output), made.output
    whole = rsft(output / "data" / "train.jsonl", Path(str(made.recipe.base)), tmp_path / "rsft", made.recipe, report=quiet)
    assert timeless(whole) == given["rsft"]
    models = {"self": output / "rsft", "second": output / "member-second"}
    assert (
        timeless(mine(output / "data" / "train.jsonl", models, tmp_path / "mine", made.recipe, report=quiet)) == given["mine"]
    )
    for name in (PAIRS, SELF_PAIRS):
        assert (tmp_path / "mine" / name).read_bytes() == (output / "mine" / name).read_bytes()
    whole = hsdpo(output / "mine" / SELF_PAIRS, output / "rsft", tmp_path / "hsdpo", made.recipe, report=quiet)
    assert timeless(whole) == given["hsdpo-self"]


def test_a_folder_of_something_else_is_left_alone(recipe: Recipe, tmp_path: Path) -> None:
    rows = write(tmp_path / "rows.jsonl", synthetic(4, 5))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="is not a folder of a training: it holds mine.txt"):
        pipeline(recipe, tmp_path / "out", data=[rows], report=quiet)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_figures_are_those_of_the_verdicts_by_hand(tiny_guard: Any, tmp_path: Path) -> None:
    rows = [
        LabelledRow(f"{name}{number}", name, Exchange(row["prompt"], row["response"]), labels)
        for name, seed in (("dev", 7), ("bench", 8))
        for number, row in enumerate(synthetic(6, seed))
        if (labels := {"prompt_harmfulness": bool(row["prompt_harmful"])})
    ]
    settings = EvaluateSettings(engine="transformers", batch=4)
    seen: list[int] = []
    found = measure_guard(tiny_guard.folder, rows, tmp_path / "out", settings, threads=1, shown=seen.append)
    assert seen == list(range(1, 13))
    lines = [json.loads(line) for line in (tmp_path / "out" / "verdicts.jsonl").read_bytes().splitlines()]
    for entry in found["sets"]:
        own = [line for line in lines if line["benchmark"] == entry["set"]]
        pairs = [(line["labels"]["prompt_harmfulness"], line["verdict"]["prompt_harmfulness"]["label"]) for line in own]
        wrong = sum(TEXT[truth] != said for truth, said in pairs)
        hits = sum(truth and said == "harmful" for truth, said in pairs)
        assert entry["f1"] == pytest.approx(100 * 2 * hits / (2 * hits + wrong))
        assert entry["undetermined"] == sum(said == "undetermined" for _, said in pairs)
    bench = next(entry for entry in found["sets"] if entry["set"] == "bench")
    assert found["averages"]["strict"] == {"prompt_harmfulness": bench["f1"], "all": bench["f1"]}
    assert found["tokens"] > 20


def test_a_label_that_a_guard_filled_in_is_no_truth() -> None:
    labels: Any = {"prompt_harmfulness": True, "response_refusal": False, "response_harmfulness": False}
    rows = [TrainingRow(f"r{n}", Exchange("Who?", "Me."), labels, filled=("response_harmfulness",)) for n in range(9)]
    found = dev_rows(rows)
    assert [set(row.labels) for row in found] == [{"prompt_harmfulness", "response_refusal"}] * 9
    assert len(dev_rows(rows, most=3)) == 3
    assert dev_rows(rows, most=3) == dev_rows(rows, most=3)


def test_benchmarks_are_files_folders_or_names(tmp_path: Path) -> None:
    benchmark = write(tmp_path / "bench.jsonl", synthetic(8, 6))
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    (folder / ".hidden.json").write_text("{}")
    (folder / "README.md").write_text("x")
    with pytest.raises(InputError, match="has no file of a benchmark"):
        benchmark_files([str(folder)])
    (folder / "bench.jsonl").write_bytes(benchmark.read_bytes())
    assert benchmark_files([str(folder), "ToxicChat"]) == [str(folder / "bench.jsonl"), "ToxicChat"]
    assert len(benchmark_rows([str(folder)], limit=3)) == 3
    with pytest.raises(InputError, match="is a second benchmark 'bench'"):
        benchmark_rows([str(folder), str(benchmark)])


def entry(name: str, task: str, rows: int, f1: float | None, undetermined: int = 0) -> dict[str, Any]:
    return {"set": name, "task": task, "rows": rows, "f1": f1, "undetermined": undetermined}


def test_means_of_the_table_are_weighted_by_rows() -> None:
    one = [entry("a", "prompt_harmfulness", 100, 50.0, 3), entry("b", "prompt_harmfulness", 300, 90.0)]
    two = [entry("a", "prompt_harmfulness", 100, None), entry("b", "prompt_harmfulness", 300, 80.0)]
    made = tables({"first": {"sets": one}, "second": {"sets": two}})
    assert as_text(made).splitlines()[:4] == [
        "        benchmarks prompt  benchmarks mean  undetermined   of",
        "------  -----------------  ---------------  ------------  ---",
        "first               80.00            80.00             3  400",
        "second                  -                -             0  400",
    ]
    assert "| a | prompt | 100 | 50.00 (3) | - (0) |" in as_markdown(made)
    assert tables({}) == []
    assert as_text([]) == as_markdown([]) == ""


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_written_as_toml_is_read_as_the_same(name: str, tmp_path: Path) -> None:
    recipe = override(load_recipe(name), {"base": 'a "quoted"\\ name\n\x7fé😀', "data.splits": {"a b.c": 3}})
    (tmp_path / "r.toml").write_text(recipe_text(recipe), encoding="utf-8")
    assert load_recipe(tmp_path / "r.toml") == recipe


def test_a_stage_found_complete_keeps_the_duration_of_the_run_that_made_it(tmp_path: Path) -> None:
    times = iter(range(0, 1000, 7))
    manifest = Manifest(tmp_path, {"seed": 4}, {}, clock=lambda: next(times))
    folder = tmp_path / "stage"
    folder.mkdir()

    def run() -> dict[str, Any]:
        (folder / "figures.json").write_text('{"loss": 1}')
        return {"loss": 1}

    manifest.stage("stage", folder, run)
    again = Manifest(tmp_path, {"seed": 4}, {}, clock=lambda: 10.0**6)
    again.stage("stage", folder, run)
    assert again.stages["stage"]["seconds"] == 7
    assert again.stages["stage"]["starts"] == 1
    again.keep_only(["another"])
    assert list(json.loads((tmp_path / "manifest.json").read_bytes())["stages"]) == ["stage"]
    again.stage("another", tmp_path / "another", dict)
    assert list(json.loads((tmp_path / "manifest.json").read_bytes())["stages"]) == ["another"]


def test_another_setting_is_told_and_a_stage_can_be_done_anew(made: Made) -> None:
    output = made.output  # the last of the tests that look at it
    changed = override(made.recipe, {"evaluate.reasoning": "off", "export.check_rows": 2})
    message = (
        r"evaluate.baseline was made with other settings: reasoning was 'full', is 'off'; .*--restart evaluate-baseline to"
    )
    with pytest.raises(InputError, match=message):
        made.again(changed, report=quiet)
    assert json.loads((output / "manifest.json").read_bytes())["recipe"]["evaluate"]["reasoning"] == "full"
    weights = (output / "hsdpo-ensemble" / "model.safetensors").stat().st_mtime_ns
    made.again(changed, restart="evaluate-baseline", report=quiet)
    for name in ("baseline", "rsft", "hsdpo-self", "hsdpo-ensemble"):
        noted = json.loads((output / "evaluate" / name / "stage.json").read_bytes())
        assert noted["settings"]["reasoning"] == "off"
    assert json.loads((output / "export" / "stage.json").read_bytes())["settings"]["rows"] == 2
    assert (output / "hsdpo-ensemble" / "model.safetensors").stat().st_mtime_ns == weights
