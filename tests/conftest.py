"""What the tests share."""

from __future__ import annotations

import gc
import os
import signal
import socketserver
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from guardreasoner_sdk.judges.embedded import DEFAULT_FOLDER
from guardreasoner_sdk.judges.model_folder import shared_model
from tiers import pytest_collection_modifyitems, pytest_make_collect_report, pytest_runtest_makereport  # noqa: F401, hooks

if TYPE_CHECKING:
    from guardreasoner_training.tiny import TinyGuard

# A busy machine makes no test fail.
hypothesis.settings.register_profile("guardreasoner", deadline=None)
hypothesis.settings.load_profile("guardreasoner")

# LiteLLM would fetch its price list from the network when it is imported.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")


def pytest_configure() -> None:
    """A shell's background job ignores Ctrl-C and so would all it starts, among them the commands that tests interrupt."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # A client that leaves is no fault of a test's server, and prints no traceback among the dots.
    complain = socketserver.BaseServer.handle_error

    def handle_error(self: socketserver.BaseServer, request: Any, address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            complain(self, request, address)

    socketserver.BaseServer.handle_error = handle_error  # type: ignore[method-assign]


def pytest_collection_finish() -> None:
    """All that was imported is there to stay: it need not be searched for garbage again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def tiny_model() -> Path:
    """Folder of a real embedded model: the one that the package ships."""
    return DEFAULT_FOLDER


@pytest.fixture(autouse=True, scope="session")
def _loaded(tiny_model: Path) -> Iterator[None]:
    """The embedded model stays loaded: it is shared by all guards of a process, and each test would load it again."""
    model = shared_model(tiny_model)
    yield
    del model


@pytest.fixture(scope="session")
def tiny_guard(tmp_path_factory: pytest.TempPathFactory) -> TinyGuard:
    """A real reasoning guard of a few million parameters: the one that is committed, with the files of every engine.

    ``tests/training/test_tiny.py`` trains it anew and compares; after a change of its recipe it is
    ``python -m guardreasoner_training.tiny --half --output tests/assets/tiny_guard`` that writes it.
    """
    for module in ("torch", "transformers", "safetensors", "gguf"):
        pytest.importorskip(module, reason=f"the tiny guard needs {module}, of the extra 'train'")
    from guardreasoner_training.tiny import load_tiny_guard

    return load_tiny_guard(Path(__file__).parent / "assets" / "tiny_guard", tmp_path_factory.mktemp("tiny-guard"))


@pytest.fixture(autouse=True, scope="module")
def _nothing_of_others_is_cleared_away_on_a_loop(request: pytest.FixtureRequest) -> None:
    """What earlier tests left goes before a net is out that catches blocking calls: finalizers, of locks for one, block."""
    if any(hasattr(request.module, name) for name in ("BlockBuster", "blockbuster_ctx")):
        gc.collect()


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The developer's own GUARDREASONER_* variables must not change what the tests see."""
    for name in list(os.environ):
        if name.startswith("GUARDREASONER_") and name != "GUARDREASONER_DATA":
            monkeypatch.delenv(name)
