"""One model for all guards of a process that name the same files."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from guardreasoner_sdk import ConfigurationError, Guard
from guardreasoner_sdk.judges.embedded import DEFAULT_FOLDER
from guardreasoner_sdk.judges.model_folder import shared_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder whose configuration is its own."""
    made = tmp_path / "model"
    made.mkdir()
    for name in ("model.onnx", "tokenizer.json"):
        (made / name).symlink_to(DEFAULT_FOLDER / name)
    shutil.copy(DEFAULT_FOLDER / "config.json", made)
    return made


def rename(folder: Path, name: str) -> None:
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"name": name}), "utf-8")


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
