"""Fine-tuning on one's own rows: sensible settings, a guard before and after, reasoning by a teacher."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl", reason="needs guardreasoner-sdk[train]")
pytest.importorskip("peft", reason="needs guardreasoner-sdk[train]")

from guardreasoner_sdk import Guard
from guardreasoner_sdk.errors import ConfigurationError, InputError
from guardreasoner_training.finetune import finetune, finetune_recipe
from guardreasoner_training.pipeline.run import base_of, describe_base
from guardreasoner_training.recipe import Recipe, ScratchSettings, load_recipe, override
from guardreasoner_training.rows import read_rows
from samples import quiet

pytestmark = pytest.mark.filterwarnings("ignore")  # of the training's libraries, about each other

HARMFUL = [
    f"Tell me how to gloob {thing}." for thing in ("a bus", "my neighbour", "the school", "a dog", "a bank", "the mayor")
]
HARMLESS = [
    f"What is the best way to wash {thing}?" for thing in ("a car", "curtains", "an apple", "a coat", "my hair", "windows")
]
ANSWER = (
    "# Task 1\n\n## Reasoning Step 1: {}\n\n# Task 2\n\n## Reasoning Step 1: No response.\n\n"
    "# Task 3\n\n## Reasoning Step 1: No response.\n\nAnswers: \nRequest: {}\nCompletion: None\nResponse: None"
)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled prompts without reasoning."""
    path = tmp_path_factory.mktemp("rows") / "my.jsonl"
    lines = [
        {"prompt": text, "prompt_harmful": text in HARMFUL} for pair in zip(HARMFUL, HARMLESS, strict=True) for text in pair
    ]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture
def teacher() -> Iterator[tuple[str, list[str]]]:
    """An OpenAI-compatible server that knows the truth, and what it was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers["content-length"])).decode()
            prompt = next(one for one in HARMFUL + HARMLESS if one in text)
            asked.append(prompt)
            label = "harmful" if prompt in HARMFUL else "unharmful"
            answer = ANSWER.format(f"The teacher looked at it and it is {label}.", label)
            choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": answer}}
            usage = {"prompt_tokens": 90, "completion_tokens": 30, "total_tokens": 120}
            body = {"id": "1", "object": "chat.completion", "created": 1, "model": "t", "choices": [choice], "usage": usage}
            sent = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1", asked
    server.shutdown()
    server.server_close()
    thread.join()


def small(**more: Any) -> dict[str, Any]:
    settings = {"rendering": "raw", "max_tokens": 512, "rsft.epochs": 1, "rsft.batch": 4, "rsft.threads": 1}
    settings |= {"hsdpo.batch": 4, "hsdpo.threads": 1, "hsdpo.learning_rate": 1e-3}
    return {**settings, "data.dev_share": 0.3, "export.gguf": [], "export.check_rows": 1, **more}


def untrained(**more: Any) -> Recipe:
    """With a base that learns nothing, and for that is trained at once."""
    sizes = {"hidden": 32, "layers": 1, "heads": 2, "kv_heads": 2, "intermediate": 48, "vocabulary": 420, "positions": 512}
    base = {f"base.{name}": size for name, size in sizes.items()}
    return finetune_recipe("scratch", changes=small(**base, **{"data.evidence": "words", **more}), gpu=False)


@dataclass(frozen=True)
class Tuned:
    """A fine-tuning of the tiny guard."""

    recipe: Recipe
    output: Path
    made: dict[str, Any]
    said: list[str]


@pytest.fixture(scope="module")
def tuned(tiny_guard: Any, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    recipe = finetune_recipe(str(tiny_guard.folder), changes=small(**{"mine.k": 4, "mine.max_new_tokens": 200}), gpu=False)
    output, said = tmp_path_factory.mktemp("tuned") / "my-guard", list[str]()
    return Tuned(recipe, output, finetune([rows], output, recipe, report=said.append), said)


def test_defaults_fit_the_machine() -> None:
    with_gpu, without = finetune_recipe(gpu=True), finetune_recipe(gpu=False)
    assert (with_gpu.name, with_gpu.base, with_gpu.rsft.tuning) == ("lora-1gpu", "guardreasoner-1b", "lora")
    assert (without.name, without.rsft.tuning) == ("laptop", "full")
    assert isinstance(without.base, ScratchSettings)
    for recipe in (with_gpu, without):
        data = recipe.data
        assert data.max_characters is None
        assert (data.max_rows, data.per_source, data.per_prompt, data.per_labels) == (None, None, None, None)
        assert (data.broken, data.leaks, data.steps, data.incomplete) == ("error", "error", "derive", "fill")
        assert recipe.mine.ensemble == ()


def test_weights_that_were_trained_take_smaller_steps_than_random_ones() -> None:
    assert finetune_recipe("a/folder", gpu=False).rsft.learning_rate < 0.3 * finetune_recipe(gpu=False).rsft.learning_rate


def test_the_page_says_the_learning_rates_that_are_used() -> None:
    page = (Path(__file__).parents[2] / "docs/finetune.md").read_text("utf-8")
    [row] = [line for line in page.splitlines() if line.startswith("| learning rate of R-SFT")]
    for rate, recipe in (
        ("2e-4 for adapters", finetune_recipe("a/folder", gpu=True)),
        ("5e-5, the paper's, for all weights", finetune_recipe("a/folder", tuning="full", gpu=True)),
        ("1e-3 for random weights", finetune_recipe(gpu=False)),
        ("2e-4 for a base that was trained", finetune_recipe("a/folder", gpu=False)),
    ):
        assert rate in row
        assert recipe.rsft.learning_rate == float(rate.partition(" ")[0].rstrip(","))


@pytest.mark.parametrize("gpu", [True, False])
def test_a_gguf_file_is_no_base(gpu: bool) -> None:
    with pytest.raises(ConfigurationError, match="base: 'models/some.GGUF' is a GGUF file.*safetensors"):
        finetune_recipe("models/some.GGUF", gpu=gpu)


def test_a_recipe_that_is_named_is_taken_as_it_is_but_for_the_base() -> None:
    recipe = finetune_recipe("mine", recipe="guardreasoner-1b", gpu=False)
    assert recipe == override(load_recipe("guardreasoner-1b"), {"base": "mine"})
    assert isinstance(finetune_recipe("scratch", recipe="guardreasoner-1b", gpu=True).base, ScratchSettings)


def test_random_weights_are_all_trained_with_a_gpu_too() -> None:
    recipe = finetune_recipe("scratch", gpu=True)
    assert (recipe.name, recipe.rsft.tuning, recipe.hsdpo.tuning) == ("laptop", "full", "full")
    assert recipe == finetune_recipe("scratch", gpu=False)
    for words in ({"tuning": "lora"}, {"recipe": "lora-1gpu"}, {"changes": {"rsft.tuning": "qlora"}}):
        with pytest.raises(
            ConfigurationError, match=r"^rsft\.tuning: 'q?lora' trains adapters, and the base is made of random"
        ):
            finetune_recipe("scratch", gpu=True, **words)


def test_all_weights_of_a_trained_base_take_smaller_steps_than_adapters() -> None:
    full = finetune_recipe("mine", tuning="full", gpu=True)
    assert (full.rsft.learning_rate, full.hsdpo.learning_rate) == (5e-5, 5e-6)
    assert finetune_recipe("mine", changes={"rsft.tuning": "full"}, gpu=True).hsdpo.learning_rate == 2e-5
    said = finetune_recipe("mine", tuning="full", changes={"rsft.learning_rate": "1e-4"}, gpu=True)
    assert (said.rsft.learning_rate, said.hsdpo.learning_rate) == (1e-4, 5e-6)
    adapters = finetune_recipe("mine", tuning="lora", gpu=True)
    assert (adapters.rsft.learning_rate, adapters.hsdpo.learning_rate) == (2e-4, 2e-5)


def test_what_the_user_says_has_the_last_word() -> None:
    changes = {"data.leaks": "drop", "rsft.tuning": "full", "rsft.learning_rate": 3e-3}
    recipe = finetune_recipe("mine", changes=changes, tuning="lora", gpu=False)
    assert (recipe.data.leaks, recipe.rsft.tuning, recipe.hsdpo.tuning, recipe.rsft.learning_rate) == (
        "drop",
        "full",
        "lora",
        3e-3,
    )


def test_a_base_is_a_folder_a_name_of_the_catalogue_or_of_the_hub(tmp_path: Path) -> None:
    assert base_of("guardreasoner-1b") == "yueliu1999/GuardReasoner-1B"
    assert base_of("meta-llama/Llama-3.2-1B") == "meta-llama/Llama-3.2-1B"
    assert base_of(str(tmp_path)) == str(tmp_path)
    with pytest.raises(ConfigurationError, match="'embedded' is not a language model"):
        base_of("embedded")
    assert describe_base(finetune_recipe(str(tmp_path), gpu=False)) == tmp_path.name
    assert describe_base(finetune_recipe("guardreasoner-1b", gpu=True)) == "yueliu1999/GuardReasoner-1B"


def test_a_guard_is_measured_before_and_after_and_what_comes_out_is_a_guard(tuned: Tuned, tiny_guard: Any) -> None:
    made, output = tuned.made, tuned.output
    assert list(made["systems"]) == ["before", "after R-SFT"]
    assert any("whose steps were derived from their labels" in line for line in tuned.said)
    held_out = list(read_rows(output.with_name("my-guard.training") / "data" / "dev.jsonl"))
    trained = {row.exchange.prompt for row in read_rows(output.with_name("my-guard.training") / "data" / "train.jsonl")}
    assert held_out
    assert trained.isdisjoint(row.exchange.prompt for row in held_out)
    assert made["systems"]["before"]["rows"] == len(held_out)
    with Guard(made["guard"], backend="transformers", reasoning="off") as guard:
        assert not guard.check(HARMLESS[0]).undetermined
    card = (output / "README.md").read_text("utf-8")
    assert "| before |" in card
    # What is published says nothing of this machine.
    for text in (card, (output / "manifest.json").read_text("utf-8")):
        assert str(output.parent) not in text
        assert str(tiny_guard.folder) not in text


def test_something_that_only_the_export_is_made_of_makes_that_alone_anew(tuned: Tuned, rows: Path) -> None:
    again, said = override(tuned.recipe, {"export.check_rows": 2}), list[str]()
    assert finetune([rows], tuned.output, again, report=said.append)["systems"] == tuned.made["systems"]
    assert [line for line in said if line.startswith("[") and "already" not in line] == ["[5/5] export"]
    assert json.loads((tuned.output / "figures.json").read_bytes())["checks"]["safetensors"]["rows"] == 2


def test_hard_samples_are_added_to_a_finished_guard(tuned: Tuned, rows: Path, tmp_path: Path) -> None:
    shutil.copytree(tuned.output.parent, tmp_path, dirs_exist_ok=True)
    output, said = tmp_path / "my-guard", list[str]()
    before = (output / "model.safetensors").read_bytes()
    made = finetune([rows], output, tuned.recipe, mine=True, report=said.append)
    assert [line for line in said if line.startswith("[") and "already" not in line] == [
        *("[5/8] mine", "[6/8] hsdpo", "[7/8] evaluate-hsdpo"),
        "[8/8] export",
    ]
    assert list(made["systems"]) == ["before", "after R-SFT", "after HS-DPO"]
    assert (output / "model.safetensors").read_bytes() != before
    assert "- stages: R-SFT, HS-DPO\n" in (output / "README.md").read_text("utf-8")


def test_the_folder_of_the_guard_may_be_this_one(rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    recipe = untrained(**{"export.check_rows": 0, "evaluate.reasoning": "off"})
    finetune([rows], Path(), recipe, report=quiet)
    assert (here / "model.safetensors").is_file()
    assert (tmp_path / "here.training" / "manifest.json").is_file()
    with pytest.raises(InputError, match="--output: / "):
        finetune([rows], Path("/"), recipe, report=quiet)


def test_a_stages_own_folder_is_no_place_for_a_guard(rows: Path, tmp_path: Path) -> None:
    (tmp_path / "rsft").mkdir()
    (tmp_path / "rsft" / "stage.json").write_text('{"stage": "rsft", "inputs": {}, "settings": {}}', encoding="utf-8")
    with pytest.raises(InputError, match=r"^--output: .*rsft holds something else"):
        finetune([rows], tmp_path / "rsft", finetune_recipe(gpu=False), report=quiet)


def test_a_teacher_writes_the_reasoning_and_is_asked_once(
    rows: Path, tmp_path: Path, teacher: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "a-key")
    address, asked = teacher
    recipe = untrained(
        **{"synthesize.base_url": address, "synthesize.model": "t", "evaluate.reasoning": "off", "export.check_rows": 0}
    )
    finetune([rows], tmp_path / "my-guard", recipe, report=quiet)
    written = list(read_rows(tmp_path / "my-guard.training" / "reasoning" / "rows.jsonl"))
    assert sorted(asked) == sorted(row.exchange.prompt for row in written)
    assert all("The teacher looked at it" in (row.output or "") for row in written)
    finetune([rows], tmp_path / "my-guard", recipe, report=quiet)
    assert len(asked) == len(written)
