"""A model's folder: one model for all guards that name the same files, and nothing in them believed before it was looked at."""

from __future__ import annotations

import gc
import hashlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sentencepiece import sentencepiece_model_pb2

from guardreasoner_sdk import ConfigurationError, Guard, Policy
from guardreasoner_sdk.judges.embedded import EmbeddedJudge
from guardreasoner_sdk.judges.model_folder import shared_model
from wordguard import ENCODING, HARMFUL, HARMLESS, REFUSAL, write_word_model


@pytest.fixture(scope="session")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_word_model(tmp_path_factory.mktemp("words"))


@pytest.fixture
def folder(words: Path, tmp_path: Path) -> Path:
    """A folder whose files are its own."""
    return Path(shutil.copytree(words, tmp_path / "model"))


def rewrite(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(config | changes), "utf-8")


def read_model(folder: Path) -> Any:
    return sentencepiece_model_pb2.ModelProto.FromString((folder / "tokenizer.model").read_bytes())


def write_model(folder: Path, model: Any) -> None:
    """Another tokenizer, which the configuration states."""
    data = model.SerializeToString()
    (folder / "tokenizer.model").write_bytes(data)
    rewrite(folder, tokenizer_sha256=hashlib.sha256(data).hexdigest())


def rename(folder: Path, name: str) -> None:
    rewrite(folder, name=name)


def test_a_model_is_loaded_once_for_all_who_hold_it_and_freed_after_the_last(folder: Path) -> None:
    rename(folder, "mine-and-nobody-elses")
    with ThreadPoolExecutor(4) as pool:
        one, *others = pool.map(lambda _: shared_model(folder), range(4))
    assert all(other is one for other in others)
    freed = weakref.ref(one)
    del one, others
    gc.collect()
    assert freed() is None


def test_a_folder_whose_files_are_other_ones_now_is_loaded_anew(folder: Path) -> None:
    rename(folder, "before")
    with Guard(str(folder)) as before:
        assert before.judge.model.startswith("before-")
        rename(folder, "afterwards")
        with Guard(str(folder)) as after:
            assert after.judge.model.startswith("afterwards-")
        assert before.judge.model.startswith("before-")
        (folder / "config.json").unlink()
        with pytest.raises(ConfigurationError, match=r"config\.json is missing"):
            shared_model(folder)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_does_not_take_the_model_of_its_parent() -> None:
    code = (
        "import os\n"
        "from guardreasoner_sdk.judges.embedded import DEFAULT_FOLDER\n"
        "from guardreasoner_sdk.judges.model_folder import shared_model\n"
        "held = shared_model(DEFAULT_FOLDER)\n"
        "assert shared_model(DEFAULT_FOLDER) is held\n"
        "if child := os.fork():\n"
        "    raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
        "os._exit(7 if shared_model(DEFAULT_FOLDER) is not held else 8)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 7


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer signals")
def test_a_signal_handler_that_asks_another_guard_while_one_loads_gets_its_model(folder: Path) -> None:
    code = (
        "import signal, sys\n"
        "from pathlib import Path\n"
        "from guardreasoner_sdk.judges.model_folder import shared_model\n"
        "got = []\n"
        "shared_model(Path(sys.argv[1]))\n"  # what is imported for it is there; the model goes at once
        "signal.signal(signal.SIGALRM, lambda *_: got.append(shared_model(Path(sys.argv[1]))))\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.02)\n"
        "held = shared_model(Path(sys.argv[1]))\n"
        "while not got: pass\n"
        "print(got[0] is held)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "True\n"


def test_a_model_from_a_folder(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"name": "mine", "version": "7"}))
    with Guard(str(folder), policy=Policy()) as guard:
        assert guard.check(HARMFUL).model == "mine-7"


@pytest.mark.parametrize("name", ["config.json", "tokenizer.model", "model.onnx"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with Guard(judge=EmbeddedJudge(folder)) as guard, pytest.raises(ConfigurationError, match=f"{name} is missing"):
        guard.check("x")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.model", "model.onnx"])
def test_a_damaged_file_is_an_error_and_not_a_verdict(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"rubbish")
    with Guard(judge=EmbeddedJudge(folder)) as guard, pytest.raises(ConfigurationError, match="cannot be loaded"):
        guard.check("x")


def test_a_model_with_other_heads_is_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"heads": ["a"]}))
    with Guard(judge=EmbeddedJudge(folder)) as guard, pytest.raises(ConfigurationError, match="heads are"):
        guard.check("x")


THRESHOLDS = {"prompt_harmful": 0.5, "response_refusal": 0.5, "response_harmful": 0.5}
SHIFT = {"prompt_harmful": 0.1, "response_refusal": 0, "response_harmful": 0.2}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        *(
            ({"thresholds": THRESHOLDS | {"prompt_harmful": bad}}, "prompt_harmful")
            for bad in (2, 1, 0, -1, "0.5", None, True, [])
        ),
        ({"thresholds": THRESHOLDS | {"prompt_harmful": math.nan}}, "NaN is no number"),
        ({"thresholds": THRESHOLDS | {"prompt_harmful": math.inf}}, "Infinity is no number"),
        ({"thresholds": {"prompt_harmful": 0.5}}, "thresholds.response_refusal is missing"),
        ({"thresholds": None}, "has no thresholds"),
        ({"thresholds": [0.5, 0.5, 0.5]}, "has no thresholds"),
        *(
            ({"length_shift": SHIFT | {"response_harmful": bad}}, "length_shift.response_harmful")
            for bad in (-0.1, 11, "1", None)
        ),
        ({"length_shift": None}, "has no length_shift"),
        ({"length_shift": SHIFT | {"prompt_harmful": math.nan}}, "NaN is no number"),
        ({"heads": None}, "heads are None"),
        ({"heads": ["response_harmful", "response_refusal", "prompt_harmful"]}, "heads are"),
        ({"hazards": ["S99"]}, "hazards"),
        ({"hazards": [1]}, "hazards"),
        ({"hazards": "S1"}, "hazards"),
        ({"hazards": ["S1", "S1"]}, "hazards"),
        ({"hazards": None}, "has no hazards"),
        ({"hazards": ["S1"]}, "hazards has the shape"),
        ({"languages": None}, "has no languages"),
        ({"languages": "en"}, "languages that are no list of texts"),
        ({"languages": ["en", 7]}, "languages that are no list of texts"),
        ({"languages": ["en", "English, of course"]}, "unknown languages: 'English, of course'"),
        ({"languages": ["en", "en"]}, "one of its languages twice"),
        ({"languages": ["en", "sw", "de"]}, "languages has the shape"),
        ({"measured_languages": None}, "has no measured_languages"),
        ({"measured_languages": ["de"]}, "unknown measured_languages: 'de'"),
        ({"name": None}, "name must be a short text"),
        ({"version": 3}, "version must be a short text"),
        ({"name": "a\nb"}, "name must be a short text"),
        ({"encoding": None}, "has no encoding"),
        *(({"encoding": ENCODING | {size: "192"}}, f"encoding.{size} must be a whole number") for size in ENCODING),
        ({"encoding": ENCODING | {"overlap_tokens": 31}}, "window_tokens must exceed"),
        ({"encoding": ENCODING | {"window_tokens": 10**9}}, "encoding.window_tokens"),
        ({"encoding": ENCODING | {"opening_tokens": 0}}, "opening_tokens must be 1 or more"),
        ({"sha256": "0" * 64}, "not the file whose sha256"),
        ({"sha256": 7}, "sha256 is 7"),
        ({"tokenizer_sha256": "0" * 64}, "tokenizer.model cannot be loaded: it is not the file whose sha256"),
        ({"tokenizer_sha256": ["a"]}, "tokenizer_sha256 is"),
    ],
    ids=str,
)
def test_a_damaged_configuration_is_refused_and_nothing_is_safe(folder: Path, changes: dict[str, Any], problem: str) -> None:
    rewrite(folder, **changes)
    with Guard(judge=EmbeddedJudge(folder)) as guard, pytest.raises(ConfigurationError, match=problem) as raised:
        guard.check(HARMFUL)
    assert str(folder) in str(raised.value)
    assert "; " in str(raised.value), "the fix is named"


def test_a_model_of_an_earlier_version_is_told_apart_from_a_damaged_one(folder: Path) -> None:
    (folder / "tokenizer.model").unlink()
    (folder / "tokenizer.json").write_text("{}", "utf-8")
    with Guard(str(folder)) as guard, pytest.raises(ConfigurationError, match=r"was made for guardreasoner-sdk 0\.3; rebuild"):
        guard.check(HARMFUL)


def test_files_that_do_not_fit_each_other_are_refused(folder: Path) -> None:
    model = read_model(folder)
    model.pieces.add(piece="\u2581unseen", score=-1.0)
    write_model(folder, model)
    with Guard(str(folder)) as guard, pytest.raises(ConfigurationError, match="do not fit each other"):
        guard.check(HARMFUL)


def test_a_tokenizer_of_another_make_is_refused(folder: Path) -> None:
    model = read_model(folder)
    model.normalizer_spec.remove_extra_whitespaces = True
    write_model(folder, model)
    with Guard(str(folder)) as guard, pytest.raises(ConfigurationError, match=r"tokenizer\.model .*it changes texts"):
        guard.check(HARMFUL)


def test_a_threshold_beyond_every_number_is_refused(folder: Path) -> None:
    text = (folder / "config.json").read_text("utf-8").replace('"prompt_harmful": 0.5', '"prompt_harmful": 1e999')
    (folder / "config.json").write_text(text)
    with Guard(judge=EmbeddedJudge(folder)) as guard, pytest.raises(ConfigurationError, match="prompt_harmful is inf"):
        guard.check(HARMFUL)


def test_weights_other_than_those_stated_are_refused(folder: Path) -> None:
    weights = bytearray((folder / "model.onnx").read_bytes())
    weights[len(weights) // 2] ^= 0xFF
    (folder / "model.onnx").write_bytes(weights)
    with Guard(judge=EmbeddedJudge(folder)) as guard, pytest.raises(ConfigurationError, match="not the file whose sha256"):
        guard.check(HARMFUL)


def test_a_tokenizer_of_another_build_is_refused_though_it_is_of_the_same_size(folder: Path) -> None:
    model = read_model(folder)
    one, other = (next(of for of in model.pieces if of.piece == f"\u2581{word}") for word in ("storm", "bread"))
    one.piece, other.piece = other.piece, one.piece
    (folder / "tokenizer.model").write_bytes(model.SerializeToString())
    with (
        Guard(str(folder)) as guard,
        pytest.raises(ConfigurationError, match="tokenizer.model cannot be loaded: it is not the file"),
    ):
        guard.check(HARMFUL)


@pytest.mark.parametrize("always", [True, False])
def test_a_model_that_gives_no_number_is_never_safe(folder: Path, always: bool) -> None:
    """Not when it is loaded, and not where only some text makes it so."""
    onnx = pytest.importorskip("onnx", reason="the damage is done with the extra 'train'")
    model = onnx.load(str(folder / "model.onnx"))
    for node in model.graph.node:
        for place, name in enumerate(node.output):
            if name == "logits":
                node.output[place] = "sound"
    word = 0 if always else [entry.piece for entry in read_model(folder).pieces].index("\u2581storm")
    made = [
        onnx.helper.make_tensor("word", onnx.TensorProto.INT64, [1], [word]),
        onnx.helper.make_tensor("nan", onnx.TensorProto.FLOAT, [1], [math.nan]),
        onnx.helper.make_tensor("axis", onnx.TensorProto.INT64, [1], [1]),
    ]
    model.graph.initializer.extend(made)
    compare = "GreaterOrEqual" if always else "Equal"
    model.graph.node.extend(
        [
            onnx.helper.make_node(compare, ["input_ids", "word"], ["is_word"]),
            onnx.helper.make_node("Cast", ["is_word"], ["as_number"], to=onnx.TensorProto.FLOAT),
            onnx.helper.make_node("ReduceSum", ["as_number", "axis"], ["hits"], keepdims=1),
            onnx.helper.make_node("Cast", ["hits"], ["there"], to=onnx.TensorProto.BOOL),
            onnx.helper.make_node("Where", ["there", "nan", "sound"], ["logits"]),
        ]
    )
    onnx.save(model, str(folder / "model.onnx"))
    rewrite(folder, sha256=None)
    with Guard(judge=EmbeddedJudge(folder)) as guard:
        if always:
            with pytest.raises(ConfigurationError, match="its logits are no numbers"):
                guard.check(HARMLESS)
            return
        verdict = guard.check(HARMFUL, REFUSAL)
        assert not verdict.allowed
        assert verdict.undetermined
        assert "gave no number" in str(verdict.prompt_harmfulness.cause)
        # One such row takes no other with it.
        first, second = guard.check_many([HARMFUL, HARMLESS])
        assert first.undetermined
        assert second.allowed
