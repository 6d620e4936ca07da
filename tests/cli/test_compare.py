"""``guardreasoner compare``: from names and rows to one page; cut off and started again; what cannot be compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import servers
import vendors
from guardreasoner_sdk.cli import main

for _module in ("sklearn", "jinja2"):
    pytest.importorskip(_module, reason="needs guardreasoner-sdk[eval]")


@pytest.fixture
def labelled(tmp_path: Path, write_rows: Any, harmful: str, harmless: str) -> Path:
    rows = [{"id": f"r{n}", "prompt": f"{harmful if n % 2 else harmless} {n}", "prompt_harmful": bool(n % 2)} for n in range(6)]
    return Path(write_rows(tmp_path / "mine.jsonl", rows))


def moderation(flagged: bool) -> Any:
    return servers.Reply(body=vendors.openai({"violence": 0.9 if flagged else 0.1}))


def test_two_guards_on_a_file_give_one_page_and_go_on_where_they_stopped(
    labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GUARDREASONER_API_KEY", "k")
    with servers.running_faulty_server() as server:
        other = f"openai-moderation@http://{server.host}"
        words = ["compare", "embedded", other, "--data", str(labelled), "--output", str(tmp_path / "out"), "--bootstrap", "50"]
        # The third answer is the last one that comes before Ctrl-C would; the command is started again.
        server.plan(otherwise=lambda request: moderation("bread" in request.body["input"]))
        assert main(words) == 0
        said = capsys.readouterr()
        asked = len(server.asked)
        assert main([*words, "--quiet"]) == 0
        assert len(server.asked) == asked == 6  # all of it was done already
    assert "comparison.html shows the figures" in said.err
    assert "who agrees with whom" in said.out
    found = json.loads((tmp_path / "out" / "comparison.json").read_text("utf-8"))
    assert [guard["name"] for guard in found["guards"]] == ["embedded", other]
    [task] = found["tasks"]
    [pair] = task["pairs"]
    # The service flags every row about bread, and those are the harmless ones.
    assert (pair["first_right"], pair["second_right"], pair["agreement"], pair["kappa"]) == (6, 0, 0.0, -1.0)
    assert pair["p"] == 2 * 0.5**6
    assert (tmp_path / "out" / "embedded.jsonl").is_file()


@pytest.mark.parametrize(
    ("words", "environment", "told"),
    [
        (["embedded"], {}, "guards: are 1; name two at least"),
        (["embedded", "embedded"], {}, "guards: name 'embedded' twice"),
        (["embedded", "no-such-guard"], {}, "model: 'no-such-guard' is neither in the catalogue"),
        (["embedded", "a@http://h/v1", "--threshold", "2"], {}, "--threshold: is 2; pass a score above 0"),
        (
            ["embedded", "a@http://h/v1"],
            {"GUARDREASONER_BASE_URL": "http://h"},
            "GUARDREASONER_BASE_URL: is set, for all guards",
        ),
        (
            ["a@http://h/v1", "b@http://i/v1"],
            {"GUARDREASONER_API_KEY": "k"},
            "GUARDREASONER_API_KEY: would go to a@http://h/v1",
        ),
    ],
)
def test_what_cannot_be_compared_is_told_before_anybody_is_asked(
    labelled: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    environment: dict[str, str],
    told: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main(["compare", *words, "--data", str(labelled), "--output", str(tmp_path / "out")]) == 2
    assert told in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_a_language_model_beside_the_embedded_guard_counts_its_tokens(
    labelled: Path, tmp_path: Path, tiny_guard: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["compare", "embedded", str(tiny_guard.folder), "--data", str(labelled), "--output", str(tmp_path / "out")]
    assert main([*words, "--limit", "3", "--bootstrap", "0", "--backend", "transformers"]) == 0
    assert "tokens read" in capsys.readouterr().out
    first, second = json.loads((tmp_path / "out" / "comparison.json").read_text("utf-8"))["guards"]
    assert (first["input_tokens"] > 0, first["output_tokens"], first["batched"], second["batched"]) == (True, 0, False, True)
    assert second["input_tokens"] > second["output_tokens"] > 0
    assert len(list((tmp_path / "out").glob("*.jsonl"))) == 2
