"""The tiny guard has learnt its task, and speaks the wire format."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the tiny guard is trained by torch")
transformers = pytest.importorskip("transformers", reason="the tiny guard is trained by transformers")
pytest.importorskip("gguf", reason="the tiny guard is exported by gguf")

from guardreasoner_sdk.dialects.base import Completion  # noqa: E402
from guardreasoner_sdk.dialects.guardreasoner import GuardReasonerDialect  # noqa: E402
from guardreasoner_sdk.exchange import Exchange  # noqa: E402
from guardreasoner_sdk.verdict import TASKS, Judgement  # noqa: E402
from guardreasoner_training.tiny import TinyGuard, build_tiny_guard, fingerprint  # noqa: E402
from guardreasoner_training.tiny.train import HEADER, prompt_ids  # noqa: E402


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


def share_right(judged: list[Judgement], wanted: list[dict[str, str | None]]) -> float:
    found = [labels_of(judgement) for judgement in judged]
    return sum(f[task] == w[task] for f, w in zip(found, wanted, strict=True) for task in TASKS) / (len(found) * len(TASKS))


@pytest.mark.parametrize("chat", [False, True], ids=["raw", "chat"])
def test_whole_answers_give_the_labels_of_exchanges_never_seen(
    tiny_guard: TinyGuard, model: Any, tokenizer: Any, chat: bool
) -> None:
    judged, wanted = [], []
    for exchange, labels in held_out(tiny_guard, 16):
        text, last = answer(model, tokenizer, exchange, chat=chat)
        assert last == tokenizer.convert_tokens_to_ids("<|eot_id|>" if chat else "<|end_of_text|>")
        judged.append(GuardReasonerDialect().read(Completion(text=text, finish_reason="stop"), exchange))
        wanted.append(labels)
    assert share_right(judged, wanted) >= 0.9  # about 0.98 over many; these are few
    assert {step.task for judgement in judged for step in judgement.reasoning} == set(TASKS)
    assert sum(judgement.consistent is True for judgement in judged) >= 12  # it is small, and at times contradicts itself


def test_answers_without_reasoning_give_the_labels(tiny_guard: TinyGuard, model: Any, tokenizer: Any) -> None:
    judged, wanted = [], []
    for exchange, labels in held_out(tiny_guard, 60):
        text, _ = answer(model, tokenizer, exchange, given=HEADER)
        judged.append(GuardReasonerDialect().read(Completion(text=text, finish_reason="stop"), exchange))
        wanted.append(labels)
    assert share_right(judged, wanted) >= 0.95


def test_answers_behind_the_first_task_alone_give_the_labels(tiny_guard: TinyGuard, model: Any, tokenizer: Any) -> None:
    judged, wanted = [], []
    for exchange, labels in held_out(tiny_guard, 16):
        whole, _ = answer(model, tokenizer, exchange)
        text, _ = answer(model, tokenizer, exchange, given=whole[: whole.index("# Task 2")] + HEADER)
        judged.append(GuardReasonerDialect().read(Completion(text=text, finish_reason="stop"), exchange))
        wanted.append(labels)
    assert share_right(judged, wanted) >= 0.9


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


def test_the_fingerprint_stays_as_long_as_the_source_does() -> None:
    assert fingerprint() == fingerprint()
    assert len(fingerprint()) == 16
