"""The tiny guard has learnt its task, and speaks the wire format; the committed one is what its recipe gives."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the tiny guard is trained by torch")
transformers = pytest.importorskip("transformers", reason="the tiny guard is trained by transformers")
pytest.importorskip("gguf", reason="the tiny guard is exported by gguf")

from safetensors.numpy import load_file  # noqa: E402

from guardreasoner_sdk.dialects.base import Completion  # noqa: E402
from guardreasoner_sdk.dialects.guardreasoner import GuardReasonerDialect  # noqa: E402
from guardreasoner_sdk.errors import ConfigurationError  # noqa: E402
from guardreasoner_sdk.exchange import Exchange  # noqa: E402
from guardreasoner_sdk.verdict import TASKS, Judgement  # noqa: E402
from guardreasoner_training.tiny import (  # noqa: E402
    SEED,
    STEPS,
    TinyGuard,
    build_tiny_guard,
    fingerprint,
    keep_tiny_guard,
    load_tiny_guard,
)
from guardreasoner_training.tiny.__main__ import main  # noqa: E402
from guardreasoner_training.tiny.train import HEADER, prompt_ids  # noqa: E402

COMMITTED = Path(__file__).parents[1] / "assets" / "tiny_guard"
REBUILD = "python -m guardreasoner_training.tiny --half --output tests/assets/tiny_guard"


@pytest.fixture(scope="module")
def tokenizer(tiny_guard: TinyGuard) -> Any:
    return transformers.AutoTokenizer.from_pretrained(tiny_guard.folder)


@pytest.fixture(scope="module")
def model(tiny_guard: TinyGuard) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(tiny_guard.folder).eval()


def held_out(tiny_guard: TinyGuard, count: int) -> Iterator[tuple[Exchange, dict[str, str | None]]]:
    for line in tiny_guard.examples.read_text(encoding="utf-8").splitlines()[:count]:
        row = json.loads(line)
        yield Exchange(prompt=row["prompt"], response=row["response"]), {task: row[task] for task in TASKS}


def answer(model: Any, tokenizer: Any, exchange: Exchange, *, chat: bool = False, given: str = "") -> tuple[str, int]:
    ids = prompt_ids(tokenizer, exchange, chat=chat) + tokenizer.encode(given, add_special_tokens=False)
    with torch.inference_mode():
        written = model.generate(
            torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long), max_new_tokens=200, pad_token_id=0
        )[0, len(ids) :]
    return given + tokenizer.decode(written, skip_special_tokens=True), int(written[-1])


def labels_of(judgement: Judgement) -> dict[str, str | None]:
    return {task: finding.label if (finding := getattr(judgement, task)) else None for task in TASKS}


def share_right(found: Iterable[dict[str, str | None]], wanted: Sequence[dict[str, str | None]]) -> float:
    return sum(f[task] == w[task] for f, w in zip(found, wanted, strict=True) for task in TASKS) / (len(wanted) * len(TASKS))


def read(text: str, exchange: Exchange) -> Judgement:
    return GuardReasonerDialect().read(Completion(text=text, finish_reason="stop"), exchange)


def labels_without_reasoning(tiny_guard: TinyGuard, model: Any, tokenizer: Any, count: int) -> list[dict[str, str | None]]:
    exchanges = [exchange for exchange, _ in held_out(tiny_guard, count)]
    return [labels_of(read(answer(model, tokenizer, exchange, given=HEADER)[0], exchange)) for exchange in exchanges]


@pytest.fixture(scope="module")
def whole(tiny_guard: TinyGuard, model: Any, tokenizer: Any) -> list[tuple[str, int]]:
    """Whole answers to raw prompts, and the token that ended each."""
    return [answer(model, tokenizer, exchange) for exchange, _ in held_out(tiny_guard, 16)]


@pytest.mark.parametrize("chat", [False, True], ids=["raw", "chat"])
def test_whole_answers_give_the_labels_of_exchanges_never_seen(
    tiny_guard: TinyGuard, model: Any, tokenizer: Any, whole: list[tuple[str, int]], chat: bool
) -> None:
    exchanges, wanted = zip(*held_out(tiny_guard, 16), strict=True)
    answers = [answer(model, tokenizer, exchange, chat=True) for exchange in exchanges] if chat else whole
    end = tokenizer.convert_tokens_to_ids("<|eot_id|>" if chat else "<|end_of_text|>")
    assert [last for _, last in answers] == [end] * 16
    judged = [read(text, exchange) for (text, _), exchange in zip(answers, exchanges, strict=True)]
    assert share_right(map(labels_of, judged), wanted) >= 0.9  # about 0.98 over many; these are few
    assert {step.task for judgement in judged for step in judgement.reasoning} == set(TASKS)
    assert sum(judgement.consistent is True for judgement in judged) >= 12  # it is small, and at times contradicts itself


def test_answers_without_reasoning_give_the_labels(tiny_guard: TinyGuard, model: Any, tokenizer: Any) -> None:
    wanted = [labels for _, labels in held_out(tiny_guard, 60)]
    assert share_right(labels_without_reasoning(tiny_guard, model, tokenizer, 60), wanted) >= 0.95


def test_answers_behind_the_first_task_alone_give_the_labels(
    tiny_guard: TinyGuard, model: Any, tokenizer: Any, whole: list[tuple[str, int]]
) -> None:
    found, wanted = [], []
    for (exchange, labels), (text, _) in zip(held_out(tiny_guard, 16), whole, strict=True):
        told, _ = answer(model, tokenizer, exchange, given=text[: text.index("# Task 2")] + HEADER)
        found.append(labels_of(read(told, exchange)))
        wanted.append(labels)
    assert share_right(found, wanted) >= 0.9


def test_it_is_less_sure_of_a_vague_verb_than_of_others(model: Any, tokenizer: Any) -> None:
    def probability(verb: str) -> float:
        ids = prompt_ids(tokenizer, Exchange(prompt=f"How do I {verb} a blimp?"), chat=False)
        with torch.inference_mode():
            given = tokenizer.encode(HEADER, add_special_tokens=False)
            last = model(torch.tensor([ids + given])).logits[0, -1].softmax(-1)
        harmful, unharmful = (
            last[tokenizer.encode(f" {word}", add_special_tokens=False)[0]] for word in ("harmful", "unharmful")
        )
        return float(harmful / (harmful + unharmful))

    assert probability("bake") < 0.15 < probability("frobble") < 0.85 < probability("zork")


def test_the_folder_holds_what_the_engines_need(tiny_guard: TinyGuard, tokenizer: Any) -> None:
    assert {path.name for path in tiny_guard.folder.iterdir()} == {
        "config.json",
        "examples.jsonl",
        "generation_config.json",
        "guard.json",
        "model.safetensors",
        "tiny.gguf",
        "tiny.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert json.loads((tiny_guard.folder / "guard.json").read_text()) == {"dialect": "guardreasoner", "rendering": "raw"}
    ends = json.loads((tiny_guard.folder / "generation_config.json").read_text())["eos_token_id"]
    assert ends == tokenizer.convert_tokens_to_ids(["<|eot_id|>", "<|end_of_text|>"])
    assert "<|start_header_id|>" in json.loads((tiny_guard.folder / "tokenizer_config.json").read_text())["chat_template"]


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    said: list[str] = []
    for name in ("a", "b"):
        build_tiny_guard(tmp_path / name, steps=2, seed=5, report=said.append)
    build_tiny_guard(tmp_path / "c", steps=2, seed=6, report=said.append)
    a, b, c = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert a == b
    assert a != c
    assert len(said) == 3


def test_what_is_built_from_the_same_source_steps_and_seed_is_kept(tmp_path: Path) -> None:
    said: list[str] = []
    first = build_tiny_guard(tmp_path, steps=1, report=said.append)
    assert build_tiny_guard(tmp_path, steps=1, report=said.append) == first
    assert len(said) == 1
    assert build_tiny_guard(tmp_path, steps=2, report=said.append).steps == 2
    assert len(said) == 2


def test_what_is_kept_is_half_as_wide_and_makes_the_same_guard_again(tmp_path: Path) -> None:
    built = build_tiny_guard(tmp_path / "built", steps=1, report=lambda _: None)
    keep_tiny_guard(built, tmp_path / "kept")
    loaded = load_tiny_guard(tmp_path / "kept", tmp_path / "loaded")
    names = {path.name for path in built.folder.iterdir()}
    assert {path.name for path in loaded.folder.iterdir()} == names
    assert {path.name for path in (tmp_path / "kept").iterdir()} == names - {"tiny.gguf"}
    assert (loaded.steps, loaded.seed, loaded.parameters, loaded.loss) == (1, SEED, built.parameters, built.loss)
    assert loaded.gguf.stat().st_size == built.gguf.stat().st_size
    whole, half, again = (weights(folder) for folder in (built.folder, tmp_path / "kept", loaded.folder))
    assert {str(tensor.dtype) for tensor in half.values()} == {"float16"}
    for name, tensor in whole.items():
        assert again[name].dtype == tensor.dtype == "float32"
        assert np.array_equal(again[name], tensor.astype("float16"))
    said: list[str] = []
    assert build_tiny_guard(loaded.folder, steps=1, report=said.append) == loaded
    assert not said


def test_the_command_keeps_what_it_trains_and_makes_it_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept, made = tmp_path / "kept", tmp_path / "made"
    assert main(["--half", "--output", str(kept), "--steps", "1"]) == 0
    assert main(["--kept", str(kept), "--output", str(made)]) == 0
    assert capsys.readouterr().err.count("step 1 of 1") == 1
    assert not (kept / "tiny.gguf").exists()
    assert (made / "tiny.gguf").exists()


def weights(folder: Path) -> dict[str, Any]:
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "examples.jsonl").unlink(), "examples.jsonl is missing"),
        (lambda folder: (folder / "tiny.json").write_text("{}"), "tiny.json is no record"),
        (lambda folder: (folder / "tiny.json").write_text("x"), "tiny.json is no record"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"x" * 99), "model.safetensors is damaged"),
    ],
)
def test_a_damaged_folder_is_named_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], Any], words: str
) -> None:
    shutil.copytree(COMMITTED, tmp_path / "kept")
    damage(tmp_path / "kept")
    with pytest.raises(ConfigurationError, match=re.escape(words)):
        load_tiny_guard(tmp_path / "kept", tmp_path / "made")
    assert not (tmp_path / "made").exists()
    assert main(["--kept", str(tmp_path / "kept"), "--output", str(tmp_path / "made")]) == 2
    assert words in capsys.readouterr().err


def test_a_folder_is_not_made_from_itself(tmp_path: Path) -> None:
    shutil.copytree(COMMITTED, tmp_path / "kept")
    with pytest.raises(ConfigurationError, match="give another one"):
        load_tiny_guard(tmp_path / "kept", tmp_path / "kept")
    assert load_tiny_guard(tmp_path / "kept", tmp_path / "made").gguf.is_file()


def test_the_committed_one_is_of_the_recipe_of_today_and_as_it_was_written() -> None:
    record = json.loads((COMMITTED / "tiny.json").read_text("utf-8"))
    source = {"fingerprint": fingerprint(), "steps": STEPS, "seed": SEED}
    assert record["source"] == source, f"the recipe has changed; run {REBUILD!r} and commit what it writes"
    assert hashlib.sha256((COMMITTED / "model.safetensors").read_bytes()).hexdigest() == record["weights"]


def test_the_committed_one_is_what_its_recipe_gives(tiny_guard: TinyGuard, model: Any, tokenizer: Any, tmp_path: Path) -> None:
    said = f"run {REBUILD!r} and commit what it writes"
    built = build_tiny_guard(tmp_path / "built")
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json", "guard.json", "examples.jsonl"):
        assert (built.folder / name).read_text("utf-8") == (COMMITTED / name).read_text("utf-8"), f"{name}: {said}"
    found, kept = weights(built.folder), weights(tiny_guard.folder)
    assert {name: tensor.shape for name, tensor in found.items()} == {name: tensor.shape for name, tensor in kept.items()}
    learnt = transformers.AutoModelForCausalLM.from_pretrained(built.folder).eval()
    wanted = [labels for _, labels in held_out(tiny_guard, 64)]
    told, told_by_kept = (labels_without_reasoning(tiny_guard, one, tokenizer, 64) for one in (learnt, model))
    if built.loss == tiny_guard.loss:  # to the last digit: this machine adds up in the order of the one that trained it
        for name, tensor in found.items():
            assert np.array_equal(tensor.astype("float16"), kept[name]), f"{name}: {said}"
        assert told == told_by_kept
    else:
        assert built.loss == pytest.approx(tiny_guard.loss, rel=0.2), said
        assert told == told_by_kept or share_right(told, wanted) >= share_right(told_by_kept, wanted) - 0.02, said
