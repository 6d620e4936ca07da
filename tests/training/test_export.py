"""A trained guard as files for the engines: they answer as it does, or nothing is exported."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs guardreasoner-sdk[train]")
pytest.importorskip("gguf", reason="needs guardreasoner-sdk[train]")
pytest.importorskip("peft", reason="needs guardreasoner-sdk[train]")

from guardreasoner_sdk.dialects.thinkguard import ThinkGuardDialect
from guardreasoner_sdk.errors import ConfigurationError, InputError
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.generation import Capabilities, Completion, Query
from guardreasoner_sdk.guard import Guard
from guardreasoner_sdk.verdict import Verdict
from guardreasoner_training.export import export, guard_dialect, is_outdated
from guardreasoner_training.export import stage as module
from guardreasoner_training.export.roundtrip import Reference, ScoredAnswer
from samples import quiet

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of torch.jit and of os.fork beside threads
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # vLLM leaves its ZeroMQ contexts to the garbage collector
]


@pytest.fixture(scope="module")
def rows(tiny_guard: Any) -> list[Exchange]:
    """What the tiny guard was never trained on."""
    lines = Path(tiny_guard.examples).read_text(encoding="utf-8").splitlines()
    return [Exchange(row["prompt"], row["response"]) for row in map(json.loads, lines)][:6]


@pytest.fixture(scope="module")
def exported(tiny_guard: Any, rows: list[Exchange], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The tiny guard's export, made once."""
    pytest.importorskip("llama_cpp", reason="llama.cpp is not installed")
    output = tmp_path_factory.mktemp("export") / "my-guard"
    card = {
        "base": "random weights",
        "figures": "| a | table |",
        "recipe": {"name": "laptop", "seed": 3},
        "data": {"rows": 1200},
    }
    kinds = ("f32", "f16", "q8_0", "q4_0")
    return output, export(tiny_guard.folder, output, gguf=kinds, rows=rows, card=card, threads=1, report=quiet)


def test_every_file_answers_as_the_trained_guard_does(exported: tuple[Path, dict[str, Any]]) -> None:
    _, figures = exported
    assert list(figures["checks"]) == ["safetensors", "f32", "f16", "q8_0", "q4_0"]
    for kind in ("safetensors", "f32", "f16"):
        found = figures["checks"][kind]
        assert found["equal"] + found["ties"] == found["rows"] == 6
    assert figures["checks"]["safetensors"]["equal"] == 6
    assert figures["checks"]["q8_0"]["labels"] == 6


def test_quantised_files_are_smaller_and_keep_their_size_in_the_figures(exported: tuple[Path, dict[str, Any]]) -> None:
    folder, figures = exported
    sizes = {kind: figures["files"][f"my-guard.{kind}.gguf"] for kind in ("f32", "f16", "q8_0", "q4_0")}
    assert sizes["f32"] > sizes["f16"] > sizes["q8_0"] > sizes["q4_0"]
    assert all((folder / name).stat().st_size == size for name, size in figures["files"].items())
    assert not (folder / ".part").exists()


@pytest.fixture(scope="module")
def expected(tiny_guard: Any, rows: list[Exchange]) -> list[Verdict]:
    """The trained guard's own verdicts."""
    with Guard(str(tiny_guard.folder), backend="transformers", reasoning="full") as guard:
        return guard.check_many(rows)


@pytest.mark.parametrize("engine", ["transformers", "llama_cpp", "vllm"])
def test_a_guard_on_each_engine_gives_the_trained_guards_verdicts(
    exported: tuple[Path, dict[str, Any]],
    rows: list[Exchange],
    expected: list[Verdict],
    engine: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip(engine, reason=f"{engine} is not installed")
    options: dict[str, Any] = {"threads": 1} if engine == "llama_cpp" else {}
    if engine == "vllm":
        for name, value in {"HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "TORCH_COMPILE_DISABLE": "1"}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # in this process: loaded in seconds
        options = {"dtype": "float32", "enforce_eager": True, "max_model_len": 1024, "gpu_memory_utilization": 0.1}
    folder, _ = exported
    model = folder / "my-guard.f32.gguf" if engine == "llama_cpp" else folder
    with Guard(str(model), backend=engine, reasoning="full", options=options) as guard:
        found = guard.check_many(rows)
    assert [verdict.raw for verdict in found] == [verdict.raw for verdict in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.backend == engine
        assert {task: finding.label for task, finding in one.findings.items()} == {
            task: finding.label for task, finding in other.findings.items()
        }
        assert one.action == other.action


def test_the_card_tells_of_data_recipe_figures_and_checks(exported: tuple[Path, dict[str, Any]]) -> None:
    card = (exported[0] / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlibrary_name: transformers\n")
    for part in ("# my-guard", 'Guard("my-guard/my-guard.f16.gguf")', "random weights", "recipe: laptop", "rows: 1,200"):
        assert part in card
    assert "| a | table |" in card
    assert "| q8_0 | 6 | " in card
    assert re.search(r"\| my-guard\.q8_0\.gguf \| [\d.]+ MB \| 8\.\d\d bits a weight: Q8_0 \d+ %, F32 < 1 % \|", card)


def test_the_same_export_again_does_nothing_but_write_the_card(
    exported: tuple[Path, dict[str, Any]], tiny_guard: Any, rows: list[Exchange]
) -> None:
    folder, figures = exported
    kinds, said = ("f32", "f16", "q8_0", "q4_0"), list[str]()
    before = {name: (folder / name).stat().st_mtime_ns for name in figures["files"]}
    assert export(tiny_guard.folder, folder, gguf=kinds, rows=rows, card={"base": "another"}, report=said.append) == figures
    assert said == []  # neither guard nor file was asked
    assert {name: (folder / name).stat().st_mtime_ns for name in figures["files"]} == before
    assert "trained from: another" in (folder / "README.md").read_text(encoding="utf-8")
    with pytest.raises(InputError, match="made with other settings: gguf was"):
        export(tiny_guard.folder, folder, gguf=("f16",), rows=rows, report=quiet)


def test_an_adapter_is_merged_into_its_base(tiny_guard: Any, rows: list[Exchange], tmp_path: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(tiny_guard.folder)
    model = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    folder = tmp_path / "adapter"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_guard.folder).save_pretrained(folder, save_jinja_files=False)
    shutil.copy(tiny_guard.folder / "guard.json", folder)
    found = export(folder, tmp_path / "merged", gguf=(), rows=rows[:2], report=quiet)
    assert sum(found["checks"]["safetensors"][key] for key in ("equal", "ties")) == 2
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    change = (
        merged.model.layers[0].self_attn.q_proj.weight
        - AutoModelForCausalLM.from_pretrained(tiny_guard.folder).model.layers[0].self_attn.q_proj.weight
    )
    assert change.abs().max() > 1e-3
    assert not (tmp_path / "merged" / "adapter_config.json").exists()


def test_a_file_that_answers_differently_is_not_exported(
    tiny_guard: Any, rows: list[Exchange], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("llama_cpp", reason="llama.cpp is not installed")
    from safetensors.torch import load_file, save_file

    honest = module.export_gguf

    def broken(folder: Path, file: Path, *, dtype: Any) -> None:
        other = tmp_path / "other"
        shutil.copytree(folder, other)
        weights = load_file(other / "model.safetensors")
        for name, tensor in weights.items():
            if "k_proj" in name:  # keys in the wrong order
                weights[name] = tensor.flip(0).contiguous()
        save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
        honest(other, file, dtype=dtype)

    monkeypatch.setattr(module, "export_gguf", broken)
    output = tmp_path / "guard"
    with pytest.raises(
        ConfigurationError, match=r"f32 answers differently from the trained guard on 1 of 1 rows \(row 1, from"
    ):
        export(tiny_guard.folder, output, gguf=("f32",), rows=rows[:1], threads=1, report=quiet)
    assert sorted(path.name for path in output.iterdir()) == [".lock", "stage.json"]
    monkeypatch.undo()
    assert (
        export(tiny_guard.folder, output, gguf=("f32",), rows=rows[:1], threads=1, report=quiet)["checks"]["f32"]["rows"] == 1
    )


def test_what_no_gguf_file_can_hold_is_said_before_the_guard_is_asked(
    tiny_guard: Any, rows: list[Exchange], tmp_path: Path
) -> None:
    folder = tmp_path / "qwen"
    shutil.copytree(tiny_guard.folder, folder)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["Qwen2ForCausalLM"]}), "utf-8")
    said: list[str] = []
    with pytest.raises(ConfigurationError, match=r"architectures is \['Qwen2ForCausalLM'\]"):
        export(folder, tmp_path / "guard", gguf=("f16",), rows=rows[:1], report=said.append)
    assert said == []


def test_an_export_of_another_model_or_of_other_types_is_outdated(
    tiny_guard: Any, rows: list[Exchange], tmp_path: Path
) -> None:
    folder, output = tiny_guard.folder, tmp_path / "guard"
    assert not is_outdated(folder, output, gguf=(), rows=rows[:1])  # there is none
    export(folder, output, gguf=(), rows=rows[:1], report=quiet)
    assert not is_outdated(folder, output, gguf=(), rows=rows[:1])
    assert is_outdated(folder, output, gguf=("F16",), rows=rows[:1])
    assert is_outdated(folder, output, gguf=(), rows=rows[:2])
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    (other / "guard.json").write_text('{"dialect": "guardreasoner", "rendering": "chat"}', "utf-8")
    assert is_outdated(other, output, gguf=(), rows=rows[:1])
    (output / "stage.json").write_text('{"stage": "rsft", "inputs": {}, "settings": {}}', "utf-8")
    assert not is_outdated(folder, output, gguf=(), rows=rows[:1])  # no export's folder: it is left alone


def test_without_llama_cpp_the_gguf_file_is_written_and_not_checked(
    tiny_guard: Any, rows: list[Exchange], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    said: list[str] = []
    found = export(tiny_guard.folder, tmp_path / "guard", gguf=("f16",), rows=rows[:1], report=said.append)
    assert found["checks"]["f16"] is None
    assert "f16: not checked, llama-cpp-python is not installed" in said
    assert "| f16 | not checked |" in (tmp_path / "guard" / "README.md").read_text(encoding="utf-8")


def test_a_disk_that_is_full_is_said_and_leaves_no_half_export(
    tiny_guard: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(module, "export_gguf", full)
    with pytest.raises(InputError, match="free some space and run the same command again"):
        export(tiny_guard.folder, tmp_path / "guard", gguf=("f16",), rows=(), report=quiet)
    assert sorted(path.name for path in (tmp_path / "guard").iterdir()) == [".lock", "stage.json"]


@pytest.mark.parametrize(
    ("note", "name"),
    [
        ({"dialect": "guardreasoner", "rendering": "chat"}, ("guardreasoner", "chat")),
        ({"dialect": "guardreasoner"}, ("guardreasoner", "raw")),
        ({"dialect": "thinkguard", "rendering": "chat"}, ("thinkguard", None)),
    ],
)
def test_the_dialect_is_the_one_noted_by_the_training(tmp_path: Path, note: dict[str, str], name: tuple[str, Any]) -> None:
    (tmp_path / "guard.json").write_text(json.dumps(note), encoding="utf-8")
    dialect = guard_dialect(tmp_path)
    assert (dialect.name, getattr(dialect, "rendering", None)) == name


@pytest.mark.parametrize(
    ("gguf", "message"),
    [
        (("f16", "F16"), "gguf: 'f16' is named twice"),
        (("q9_z",), "gguf: llama.cpp knows no type 'q9_z'; known are .*q4_k_m"),
    ],
)
def test_types_that_cannot_be_are_named_before_anything_is_done(
    tiny_guard: Any, tmp_path: Path, gguf: tuple[str, ...], message: str
) -> None:
    pytest.importorskip("llama_cpp", reason="llama.cpp is not installed")
    with pytest.raises(ConfigurationError, match=message):
        export(tiny_guard.folder, tmp_path / "guard", gguf=gguf, report=quiet)
    assert not (tmp_path / "guard").exists()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "guard.json: is not in"),
        ({"guard.json": '{"dialect": "klingon"}'}, "dialect: 'klingon' is unknown"),
        ({"guard.json": '{"dialect": "guardreasoner"}'}, "holds no model: neither config.json nor adapter_config.json"),
    ],
)
def test_a_folder_that_is_no_trained_guard_is_told(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=message):
        export(tmp_path, tmp_path / "guard", gguf=(), report=quiet)
    with pytest.raises(ConfigurationError, match="there is no folder"):
        export(tmp_path / "absent", tmp_path / "guard", report=quiet)


class Changed:
    """An engine that writes another letter at one place of the trained guard's answer."""

    name, model, batch_size, capabilities = "changed", "changed", 1, Capabilities()

    def __init__(self, text: str, place: int) -> None:
        self._text = f"{text[:place]}~{text[place + 1 :]}"

    async def generate(self, queries: Sequence[Query], *, deadline: float | None) -> list[Any]:
        return [Completion(self._text, "stop") for _ in queries]

    async def load(self) -> None: ...

    async def aclose(self) -> None: ...


def test_an_answer_that_parts_where_the_trained_guard_was_undecided_is_a_tie(tiny_guard: Any, rows: list[Exchange]) -> None:
    reference = Reference(tiny_guard.folder, guard_dialect(tiny_guard.folder), rows[:1])
    text = reference.answers[0].text
    place = text.index("Conclusion")
    found = reference.compare(Changed(text, place))
    assert (found.equal, found.ties, found.differing) == (0, 0, [(1, place)])
    found = reference.compare(Changed(text, place), tie=1e9)
    assert (found.equal, found.ties, found.differing) == (0, 1, [])


class Repeating:
    """An engine that writes what the trained guard wrote, but for another letter in the last answer."""

    name, model, batch_size, capabilities = "repeating", "repeating", 1, Capabilities()

    def __init__(self, written: Sequence[ScoredAnswer]) -> None:
        self._texts = [(one.query, one.text) for one in written]
        query, text = self._texts[-1]
        self._texts[-1] = (query, f"{text[:3]}~{text[4:]}")

    async def generate(self, queries: Sequence[Query], *, deadline: float | None) -> list[Any]:
        asked = [replace(query, choices=0) for query in queries]
        return [Completion(next(text for own, text in self._texts if own == query), "stop") for query in asked]

    async def load(self) -> None: ...

    async def aclose(self) -> None: ...


def test_a_tie_is_found_in_every_dialect_and_no_model_is_loaded_for_it(
    tiny_guard: Any, rows: list[Exchange], monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    pair = next(row for row in rows if row.response is not None)
    reference = Reference(tiny_guard.folder, ThinkGuardDialect(max_tokens=24), [pair])
    written = reference.answers[0].written
    assert len(written) == 4  # the prompt and the response, each in short and in full
    for one in written:
        assert len(one.starts) == len(one.margins) > 0
        assert min(one.margins) >= 0
    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", None)
    for tie, ties in ((1e9, 1), (-1.0, 0)):
        found = reference.compare(Repeating(written), tie=tie)
        assert (found.equal, found.ties, len(found.differing)) == (0, ties, 1 - ties)


def test_margins_are_those_of_the_models_logits(tiny_guard: Any, rows: list[Exchange]) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from guardreasoner_sdk.backends._tokens import PromptEncoder

    [answer] = Reference(tiny_guard.folder, guard_dialect(tiny_guard.folder), rows[:1]).answers
    [written] = answer.written
    encoder = PromptEncoder.from_folder(tiny_guard.folder)
    prompt = encoder.encode(written.query)
    model = AutoModelForCausalLM.from_pretrained(tiny_guard.folder).eval()
    ids = list(prompt)
    with torch.inference_mode():
        for number, margin in enumerate(written.margins[:12]):
            best = model(torch.tensor([ids])).logits[0, -1].topk(2)
            assert margin == pytest.approx(float(best.values[0] - best.values[1]), abs=1e-3)
            assert written.margin(written.starts[number]) in written.margins
            ids.append(int(best.indices[0]))
    # The end is a token, too.
    assert written.starts[-1] == len(written.text)
    assert written.margin(len(written.text)) == written.margins[-1]


@pytest.mark.parametrize("where", ["load", "generate"])
def test_a_guard_that_does_not_fit_is_asked_in_another_way(
    tiny_guard: Any, rows: list[Exchange], monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    import torch
    import transformers

    dialect = guard_dialect(tiny_guard.folder)
    expected = Reference(tiny_guard.folder, dialect, rows[:1]).answers
    ways: list[tuple[str, Any]] = [("cpu", "float32"), ("cpu", "auto")]
    method = "to" if where == "load" else "forward"
    honest, failures = getattr(transformers.LlamaForCausalLM, method), [1]

    @functools.wraps(honest)
    def full(*arguments: Any, **options: Any) -> Any:
        if failures[0]:
            failures[0] -= 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return honest(*arguments, **options)

    monkeypatch.setattr(transformers.LlamaForCausalLM, method, full)
    told: list[str] = []
    reference = Reference(tiny_guard.folder, dialect, rows[:1], ways=ways, report=told.append)
    assert told == ["on cpu in float32 it does not fit into memory; asking it on cpu in its own precision"]
    assert (reference.dtype, reference.device) == ("auto", "cpu")
    assert reference.answers == expected
    failures[0] = 2
    with pytest.raises(ConfigurationError, match=r"is too large for the memory of cpu; leave the comparison out with --set"):
        Reference(tiny_guard.folder, dialect, rows[:1], ways=ways)
