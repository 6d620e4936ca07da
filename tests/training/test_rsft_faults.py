"""R-SFT when something is wrong: memory, disk, Ctrl-C, a machine that cannot do it. Nothing that was computed is lost."""

from __future__ import annotations

import importlib.util
import json
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="training needs torch")
pytest.importorskip("trl", reason="training needs TRL")

from benchmark_scripts import load_benchmark  # noqa: E402
from guardreasoner_sdk.errors import ConfigurationError, InputError, MissingExtraError  # noqa: E402
from guardreasoner_training import rsft as stage  # noqa: E402
from guardreasoner_training.cli.train import prepare_training  # noqa: E402
from guardreasoner_training.export import stage as export  # noqa: E402
from guardreasoner_training.recipe import HSDPOSettings, RSFTSettings, override  # noqa: E402
from guardreasoner_training.scratch import scratch  # noqa: E402
from guardreasoner_training.trainers.advice import memory_advice  # noqa: E402
from guardreasoner_training.trainers.arguments import require_training  # noqa: E402
from guardreasoner_training.trainers.checkpoints import Setup  # noqa: E402
from guardreasoner_training.trainers.threads import cpu_threads  # noqa: E402
from guardreasoner_training.trainers.training import on_this_machine  # noqa: E402
from samples import TRAINER, quiet, small_recipe  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

RECIPE = small_recipe("rsft", rsft={**TRAINER, "batch": 4, "accumulation": 1})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("faults")
    rows = [{"prompt": f"What is {number}?", "prompt_harmful": number % 3 == 0} for number in range(8)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    scratch(folder / "rows.jsonl", folder / "base", RECIPE, report=lambda _: None)
    return folder


def trained(
    folder: Path, output: Path, report: Callable[[str], None] = quiet, base: Path | str | None = None, **settings: Any
) -> dict[str, Any]:
    recipe = override(RECIPE, {f"rsft.{name}": value for name, value in settings.items()})
    return stage.rsft(folder / "rows.jsonl", base or folder / "base", output, recipe, report=report)


def without_times(figures: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in figures.items() if name != "seconds"}


def when(told: str, action: Callable[[], object]) -> Callable[[str], None]:
    """Listens to a training, and does something in the middle of it: where it tells a line that begins so."""

    def report(line: str) -> None:
        if line.startswith(told):
            action()

    return report


def pressed() -> None:
    raise KeyboardInterrupt


@pytest.fixture(scope="module")
def alone(folder: Path) -> dict[str, Any]:
    """What a training finds that nothing happens to."""
    return without_times(trained(folder, folder / "alone"))


@pytest.fixture(scope="module")
def stopped(folder: Path) -> tuple[Path, list[str]]:
    """A training that Ctrl-C ended in its fourth step, and what it said. Who goes on from it takes a copy."""
    output, said = folder / "stopped", list[str]()

    def report(line: str) -> None:
        said.append(line)
        when("step 3 of 4", pressed)(line)

    with pytest.raises(KeyboardInterrupt):
        trained(folder, output, report)
    return output, said


def test_out_of_memory_says_what_needs_less_and_the_advice_goes_on(folder: Path, tmp_path: Path, alone: dict[str, Any]) -> None:
    output = tmp_path / "out"
    with pytest.raises(ConfigurationError) as raised:
        trained(folder, output, when("step 3 of 4", lambda: torch.empty(1 << 50)))
    told = str(raised.value)
    assert told.startswith("rsft: out of memory on cpu with batches of 4 rows of up to 512 tokens")
    for advice in (
        "--set rsft.batch=2 --set rsft.accumulation=2 (the same 4 rows to a step)",
        "--set rsft.gradient_checkpointing=true",
        "--set rsft.tuning=lora",
        "or, redone (--restart, or another --output; with pipeline and finetune, --restart STAGE):",
        "--set max_tokens=256",
        f"goes on from {output / 'checkpoints' / 'checkpoint-2'}",
    ):
        assert advice in told
    assert "can't allocate memory" in str(raised.value.__cause__)
    said: list[str] = []
    figures = trained(folder, output, said.append, batch=2, accumulation=2, gradient_checkpointing=True)
    assert any(line.startswith("goes on from") for line in said)
    assert figures["loss"] == pytest.approx(alone["loss"], abs=1e-4)


@pytest.mark.parametrize(
    ("tuning", "processes", "where", "told"),
    [
        ("full", 2, "cuda:0", {"deepspeed=zero3", "tuning=lora"}),
        ("lora", 1, "cuda:0", {"tuning=qlora"}),
        ("lora", 2, "cpu", {"deepspeed=zero3"}),  # 4 bits need a GPU
        ("qlora", 2, "cuda:0", set()),  # and cannot be spread
    ],
)
def test_what_needs_less_memory_can_be_done(tuning: Any, processes: int, where: str, told: set[str]) -> None:
    settings = RSFTSettings(tuning=tuning)
    advice = memory_advice("rsft", settings, max_tokens=512, processes=processes, where=where, checkpoint=None)
    ways = {"deepspeed=zero3", "tuning=lora", "tuning=qlora"}
    assert {way for way in ways if f"--set rsft.{way}" in str(advice)} == told


def test_weights_of_4_bits_are_not_spread_by_deepspeed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert on_this_machine(RSFTSettings(deepspeed="zero3", tuning="lora")).deepspeed == "zero3"
    assert on_this_machine(RSFTSettings(deepspeed="zero3", tuning="qlora")).deepspeed is None
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert on_this_machine(RSFTSettings(deepspeed="zero3")).deepspeed is None


def test_another_error_of_the_training_is_itself(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="size"):
        trained(folder, tmp_path / "out", when("step 1 of 4", lambda: torch.zeros(2) @ torch.zeros(3)))


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_earlier_checkpoint_and_goes_on(folder: Path, tmp_path: Path, alone: dict[str, Any]) -> None:
    output = tmp_path / "out"
    with files_of_at_most(1 << 30):
        # The weights of a checkpoint are larger than that, and nothing else that is written.
        full = when("step 3 of 4", lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, -1)))
        with pytest.raises(InputError) as raised:
            trained(folder, output, full)
    checkpoints = output / "checkpoints"
    assert f"checkpoint {checkpoints / 'checkpoint-4'}: the disk is full" in str(raised.value)
    assert f"{checkpoints / 'checkpoint-2'} is untouched" in str(raised.value)
    assert [path.name for path in checkpoints.iterdir()] == ["checkpoint-2"]
    assert without_times(trained(folder, output)) == alone


def test_a_full_disk_at_the_end_keeps_the_last_checkpoint(folder: Path, tmp_path: Path) -> None:
    output, said = tmp_path / "out", list[str]()
    config = output / "config.json"
    # Whatever is written there, the disk has no room for it.
    with pytest.raises(InputError) as raised:
        trained(folder, output, when("step 4 of 4", lambda: config.symlink_to("/dev/full")))
    assert f"model {output}: the disk is full" in str(raised.value)
    assert f"{output / 'checkpoints' / 'checkpoint-4'} is untouched" in str(raised.value)
    config.unlink()
    assert trained(folder, output, said.append)["steps"] == 4
    assert said[-1] == f"goes on from {output / 'checkpoints' / 'checkpoint-4'}"  # and not a step is done again


def test_ctrl_c_names_the_checkpoint_to_go_on_from(stopped: tuple[Path, list[str]]) -> None:
    output, said = stopped
    assert said[-1] == f"interrupted; the same command goes on from {output / 'checkpoints' / 'checkpoint-2'}"


@pytest.mark.parametrize(
    ("here", "written", "goes"),
    [
        (Setup(4, deepspeed=True), Setup(4, deepspeed=True), True),
        (Setup(2, deepspeed=True), Setup(4, deepspeed=True), False),
        (Setup(1, deepspeed=False), Setup(4, deepspeed=True), False),
        (Setup(4, deepspeed=True), Setup(1, deepspeed=False), False),
        (Setup(4, deepspeed=False), Setup(1, deepspeed=False), True),
    ],
)
def test_what_deepspeed_wrote_is_read_by_the_same_alone(here: Setup, written: Setup, goes: bool) -> None:
    assert here.reads(written) is goes


def test_a_checkpoint_of_other_processes_is_refused_only_with_deepspeed(
    folder: Path, tmp_path: Path, stopped: tuple[Path, list[str]], alone: dict[str, Any]
) -> None:
    output = Path(shutil.copytree(stopped[0], tmp_path / "out"))
    mark = output / "checkpoints" / "checkpoint-2" / "complete.json"
    told = json.loads(mark.read_bytes())
    assert (told["processes"], told["deepspeed"]) == (1, False)
    mark.write_text(json.dumps(told | {"processes": 4, "deepspeed": True}), "utf-8")
    with pytest.raises(ConfigurationError) as raised:
        trained(folder, output)
    assert str(raised.value) == (
        f"rsft: {mark.parent} was written by 4 processes with DeepSpeed, and 1 process without DeepSpeed cannot go on from it; "
        "let as many devices go on as then (CUDA_VISIBLE_DEVICES shows a process some of them), or redo it "
        "(--restart, or another --output; with pipeline and finetune, --restart STAGE)"
    )
    mark.write_text(json.dumps(told | {"processes": 4}), "utf-8")
    said: list[str] = []
    assert without_times(trained(folder, output, said.append)) == alone  # it goes on as if nobody had pressed Ctrl-C
    assert f"goes on from {mark.parent}" in said


def test_a_loss_that_is_no_number_stops_it(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    base = Path(shutil.copytree(folder / "base", tmp_path / "base"))
    weights = load_file(base / "model.safetensors")
    weights["model.norm.weight"].fill_(float("nan"))
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigurationError, match="the loss is nan at step 1: lower the learning rate"):
        trained(folder, tmp_path / "out", base=base)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"tuning": "qlora"}, "qlora needs a GPU and bitsandbytes"),
        ({"precision": "fp16"}, "fp16 needs a GPU"),
        ({"liger": True}, "liger-kernel is not installed"),
        ({"report_to": ("wandb",)}, "wandb is not installed"),
        ({"optimizer": "adamw_8bit"}, "adamw_8bit needs bitsandbytes"),
    ],
)
def test_what_the_machine_cannot_do_is_said_at_once(
    folder: Path, tmp_path: Path, settings: dict[str, Any], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    missing = ("bitsandbytes", "liger_kernel", "wandb")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in missing else find(name, *rest))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigurationError, match=told):
        trained(folder, tmp_path / "out", **settings)


def test_a_base_that_is_missing_is_said(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    with pytest.raises(ConfigurationError, match=r"holds no model \(config\.json\)"):
        trained(folder, tmp_path / "out", base=tmp_path / "base")
    with pytest.raises(ConfigurationError, match="no such folder"):
        trained(folder, tmp_path / "other", base=str(tmp_path / "none"))
    with pytest.raises(InputError, match="base: .* cannot be read"):
        trained(folder, tmp_path / "other", base=tmp_path / "none")
    (tmp_path / "base" / "config.json").write_text("{}")
    with pytest.raises(ConfigurationError, match="cannot be loaded"):
        trained(folder, tmp_path / "third", base=tmp_path / "base")


@pytest.mark.parametrize("library", ["accelerate", "datasets", "matplotlib", "peft", "trl"])
def test_whatever_needs_the_extra_says_so_before_it_begins(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == library else find(name, *rest))
    for check in (require_training, prepare_training, export._check_installed):
        with pytest.raises(MissingExtraError, match=r"need an extra: pip install 'guardreasoner-sdk\[train\]'"):
            check()


def test_threads_are_as_before_in_the_end() -> None:
    before = torch.get_num_threads()
    with cpu_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        with cpu_threads(None):
            assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_the_benchmark_tries_only_what_there_is_and_tells_what_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    module = load_benchmark("training_speed")
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: True)
        patch.setattr(importlib.util, "find_spec", lambda name: object())  # every kernel is installed
        tried = list(module.variations(tiny=False))
    assert {chosen["attention"] for _, _, chosen in tried} == {"sdpa", "flash_attention_2", "flash_attention_3"}
    for stage_name, _, chosen in tried:
        (RSFTSettings if stage_name == "rsft" else HSDPOSettings)(**chosen)
    found = module.measured("rsft", "full", {"attention": "magic"}, Path("none"), tiny=True, longest=64, steps=2)
    assert "attention" in found["failed"]
