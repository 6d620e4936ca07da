"""Weights from folders, from a hub (a real one in little, on the loopback), and from its cache."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from guardreasoner_sdk.backends._weights import folder_of, gguf_of
from guardreasoner_sdk.errors import ConfigurationError

pytest.importorskip(
    "huggingface_hub", reason="huggingface_hub is not installed (pip install 'guardreasoner-sdk[transformers]')"
)

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NEEDED = {"config.json": b"{}", "model.safetensors": b"weights", "tokenizer.json": b"{ }", "chat_template.jinja": b"x"}
COPIES = {"pytorch_model.bin": b"b", "original/params.json": b"{}", "consolidated.safetensors": b"c", "model-Q4.gguf": b"g"}

# The hub's client reads its settings when it is imported, so that each setting has a process of its own, which all that is
# asked under it shares.
SCRIPT = """
import json, sys
from guardreasoner_sdk.backends import _weights
from guardreasoner_sdk.errors import ConfigurationError
_weights.PATIENCE = 0.5
for function, *arguments in json.loads(sys.argv[1]):
    try:
        said = str(getattr(_weights, function)(*arguments))
    except ConfigurationError as error:
        said = f"ConfigurationError: {error}"
    print(json.dumps(said))
"""
Call = tuple[str, ...]
FOLDER: Call = ("folder_of", "a/tiny")
FILE: Call = ("gguf_of", "a/gguf:model-Q4.gguf")
ERRORS: dict[Call, str] = {
    (
        "folder_of",
        "a/gated",
    ): "the weights of 'a/gated' are gated; accept the licence at https://huggingface.co/a/gated and run 'hf auth login'",
    (
        "folder_of",
        "a/unknown",
    ): "'a/unknown' is not a folder here, and the hub does not show it; fix the name, or run 'hf auth login'",
    ("folder_of", "a/tiny", "v9"): "'a/tiny' has no revision 'v9' on the hub; fix revision=",
    ("folder_of", "./no/such"): "'./no/such' is not a folder on this machine, and no name on the hub; fix the path",
    ("folder_of", "a/odd"): "'a/odd' holds no config.json with *.safetensors; use a checkpoint in that format",
    ("gguf_of", "a/gguf:other.gguf"): "'a/gguf' has no such file on the hub; fix the name behind the colon",
}


class Hub(ThreadingHTTPServer):
    """Answers as the model hub does, as far as downloads need it; ``a/gated`` wants a licence."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        odd = {"config.json": b"{}", "pytorch_model.bin": b"b"}
        self.repositories = {"a/tiny": NEEDED | COPIES, "a/gguf": NEEDED | COPIES, "a/gated": NEEDED, "a/odd": odd}
        self.fetched: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].strip("/").split("/")
        if path[:2] == ["api", "models"]:
            return self.api("/".join(path[2:4]), path[4:])
        repository, file = "/".join(path[:2]), "/".join(path[4:])
        if repository == "a/gated":
            return self.reply(403, b"", **{"X-Error-Code": "GatedRepo"})
        content = self.server.repositories.get(repository, {}).get(file)
        if content is None:
            return self.reply(404, b"", **{"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        if self.command == "GET":
            self.server.fetched.append(f"{repository}/{file}")
        etag = hashlib.sha1(content).hexdigest()
        return self.reply(200, content, **{"X-Repo-Commit": COMMIT, "ETag": f'"{etag}"'})

    def api(self, repository: str, more: list[str]) -> None:
        files = self.server.repositories.get(repository)
        if files is None:
            return self.reply(401, b"", **{"X-Error-Code": "RepoNotFound"})
        if more[:1] == ["revision"] and more[1:] != ["main"]:
            return self.reply(404, b"", **{"X-Error-Code": "RevisionNotFound"})
        if more[:1] == ["tree"]:
            tree = [
                {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for path, content in files.items()
            ]
            return self.reply(200, json.dumps(tree).encode())
        siblings = [{"rfilename": path} for path in files]
        return self.reply(200, json.dumps({"id": repository, "sha": COMMIT, "siblings": siblings}).encode())

    def reply(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def unreachable() -> str:
    """Where nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


def ask(home: Path, endpoint: str, *calls: Call, offline: bool = False) -> list[str]:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING", "TRANSFORMERS_"))
    }
    environment |= {"HF_HOME": str(home), "HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": str(int(offline))}
    environment |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    command = [sys.executable, "-c", SCRIPT, json.dumps(calls)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@dataclass(frozen=True)
class Online:
    """What a process says that reaches the hub, and what it fetches."""

    home: Path
    folder: str
    again: str
    file: str
    errors: dict[Call, str]
    fetched: list[str]


@pytest.fixture(scope="module")
def online(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Online:
    home = tmp_path_factory.mktemp("hub")
    folder, again, file, *errors = ask(home, hub.url, FOLDER, FOLDER, FILE, *ERRORS)
    return Online(home, folder, again, file, dict(zip(ERRORS, errors, strict=True)), list(hub.fetched))


def test_a_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    assert folder_of(str(tmp_path)) == tmp_path


def test_a_gguf_file_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "odd:name.gguf"
    path.touch()
    assert gguf_of(str(path)) == path


@pytest.mark.parametrize("weights", ["/nowhere/guard.gguf", "owner/name", "owner/name:model.safetensors", "a/b/c:d.gguf"])
def test_what_is_no_gguf_file_is_a_configuration_error(weights: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^model: there is no file .*'owner/name:file\.gguf'$"):
        gguf_of(weights)


def test_weights_are_fetched_without_their_copies_and_once(online: Online) -> None:
    assert {path.name: path.read_bytes() for path in Path(online.folder).iterdir()} == NEEDED
    assert online.again == online.folder
    expected = [*(f"a/tiny/{name}" for name in NEEDED), "a/gguf/model-Q4.gguf"]
    assert sorted(path for path in online.fetched if "/odd/" not in path) == sorted(expected)


def test_a_gguf_file_is_fetched_alone(online: Online) -> None:
    assert {path.name: path.read_bytes() for path in Path(online.file).parent.iterdir()} == {"model-Q4.gguf": b"g"}


@pytest.mark.parametrize("offline", [False, True])
def test_without_network_the_cache_serves_and_the_error_says_what_to_fetch_and_where_to_put_it(
    hub: Hub, online: Online, unreachable: str, offline: bool
) -> None:
    """Where nothing answers, and by the user's wish beside a hub that would."""
    missing = (("folder_of", "b/tiny"), ("gguf_of", "b/tiny:model-Q4.gguf"))
    known = (*FOLDER, "main") if offline else FOLDER
    endpoint = hub.url if offline else unreachable
    before = list(hub.fetched)
    folder, file, no_folder, no_file = ask(online.home, endpoint, known, FILE, *missing, offline=offline)
    assert (folder, file) == (online.folder, online.file)
    assert hub.fetched == before
    cause = "OfflineModeIsEnabled" if offline else "ConnectError"
    assert no_folder == (
        f"ConfigurationError: model: the weights of 'b/tiny' are not on this machine and the hub cannot be reached ({cause}); "
        'on a machine with network run "hf download b/tiny --local-dir DIR", copy DIR here and pass its path as model='
    )
    assert 'run "hf download b/tiny model-Q4.gguf --local-dir DIR", copy DIR/model-Q4.gguf here and pass' in no_file
    assert "\n" not in no_file


def test_a_hub_that_does_not_answer_is_not_waited_for(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        [error] = ask(tmp_path, url, FOLDER)
    assert "the hub cannot be reached (ReadTimeout)" in error


@pytest.mark.parametrize("call", ERRORS, ids=" ".join)
def test_what_the_hub_does_not_give_is_an_error_that_names_the_fix(online: Online, call: Call) -> None:
    assert online.errors[call] == f"ConfigurationError: model: {ERRORS[call]}"
