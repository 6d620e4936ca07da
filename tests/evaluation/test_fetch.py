"""Downloading benchmarks: from a hub and a GitHub on the loopback, with the pin that the table says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest

from guardreasoner_sdk import InputError, MissingExtraError
from guardreasoner_sdk.evaluation import BENCHMARKS, read_benchmark
from guardreasoner_sdk.evaluation.benchmarks import fetch

SST = BENCHMARKS["SimpleSafetyTests"].source
HARMBENCH = BENCHMARKS["HarmBenchPrompt"].source


class Host(ThreadingHTTPServer):
    """Serves files by path, in the way of the hub, and writes down what it was asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.closed_to_all = False
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Host

    def do_GET(self) -> None:
        path = unquote(self.path)
        self.server.asked.append(f"{self.command} {path}")
        body = self.server.files.get(path)
        if self.server.closed_to_all or body is None:
            self.send_response(403 if self.server.closed_to_all else 404)
            self.send_header("X-Error-Code", "GatedRepo" if self.server.closed_to_all else "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("X-Repo-Commit", "a" * 40)
        self.send_header("ETag", '"etag"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def host() -> Iterator[Host]:
    """A server, gone after the test."""
    server = Host()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


CODE = """
import json, sys
from guardreasoner_sdk import InputError, MissingExtraError
from guardreasoner_sdk.evaluation import read_benchmark
try:
    rows = list(read_benchmark("SimpleSafetyTests", sys.argv[1] or None, revision=sys.argv[2] or None))
    print(json.dumps([row.exchange.prompt for row in rows]))
except InputError as error:
    print(json.dumps(str(error)))
"""


def read(host: Host, folder: Path, source: str = "", revision: str = "") -> object:
    """Read a benchmark in a process that takes the host for the hub: its address is read when the library is imported."""
    pytest.importorskip("huggingface_hub", reason="downloads: pip install 'guardreasoner-sdk[eval]'")
    environment = {**os.environ, "HF_ENDPOINT": host.address, "HF_HOME": str(folder), "HF_HUB_DISABLE_TELEMETRY": "1"}
    environment = {name: value for name, value in environment.items() if name not in ("HF_HUB_OFFLINE", "HF_TOKEN")}
    command = [sys.executable, "-c", CODE, source, revision]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_a_benchmark_comes_from_the_hub_at_its_pinned_commit_once(host: Host, tmp_path: Path) -> None:
    place = f"/datasets/{SST.repo}/resolve/{SST.revision}/{SST.file}"
    host.files[place] = b"id,prompt\np1,one\n"
    assert read(host, tmp_path) == ["one"]
    assert f"GET {place}" in host.asked
    host.asked.clear()
    assert read(host, tmp_path) == ["one"]
    assert f"GET {place}" not in host.asked


def test_another_repository_and_another_revision_can_be_asked_for(host: Host, tmp_path: Path) -> None:
    host.files[f"/datasets/someone/mirror/resolve/v2/{SST.file}"] = b"id,prompt\np1,two\n"
    assert read(host, tmp_path, "someone/mirror", "v2") == ["two"]


def test_a_gated_data_set_says_where_its_terms_are(host: Host, tmp_path: Path) -> None:
    host.closed_to_all = True
    assert f"accept its terms at https://huggingface.co/datasets/{SST.repo}" in str(read(host, tmp_path))


def test_a_file_that_the_hub_has_not_is_named_with_the_revision(host: Host, tmp_path: Path) -> None:
    answer = str(read(host, tmp_path, revision="nowhere"))
    assert answer.startswith(f"{SST.repo}/{SST.file}: cannot be downloaded at revision nowhere")


def test_harmbench_comes_from_its_own_repository_and_stays(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(fetch, "_GITHUB", host.address)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    host.files[f"/{HARMBENCH.repo}/{HARMBENCH.revision}/{HARMBENCH.file}"] = (
        b"Behavior,FunctionalCategory,BehaviorID\none,standard,x\ntwo,contextual,y\n"
    )
    for _ in range(2):
        assert [row.exchange.prompt for row in read_benchmark("HarmBenchPrompt")] == ["one"]
    assert len(host.asked) == 1
    with pytest.raises(InputError, match="cannot be downloaded at revision nowhere"):
        list(read_benchmark("HarmBenchPrompt", revision="nowhere"))
    assert not list(tmp_path.rglob("*.new"))


def test_offline_asks_nobody(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "_GITHUB", host.address)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match="cannot be downloaded at revision .*HF_HUB_OFFLINE"):
        list(read_benchmark("HarmBenchPrompt"))
    assert host.asked == []


def test_a_name_that_no_repository_can_have_is_named(tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub", reason="downloads: pip install 'guardreasoner-sdk[eval]'")
    with pytest.raises(InputError, match="cannot be downloaded"):
        list(read_benchmark("SimpleSafetyTests", "someone/what..ever"))


@pytest.mark.parametrize(
    ("module", "name", "extra"), [("huggingface_hub", "ToxicChat", "eval"), ("pyarrow", "WildGuardTest", "parquet")]
)
def test_a_missing_extra_answers_with_the_pip_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, name: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / "wildguard_test.parquet").touch()
    with pytest.raises(MissingExtraError, match=rf"pip install 'guardreasoner-sdk\[{extra}\]'"):
        list(read_benchmark(name, tmp_path if name == "WildGuardTest" else None))
