"""``guardreasoner check`` with one prompt."""

from __future__ import annotations

import json
import os
import re
import sys

import pytest

from guardreasoner_sdk import Exchange, Guard, Policy, Verdict
from guardreasoner_sdk.cli.outcome import outcome
from guardreasoner_sdk.cli.show import show
from guardreasoner_sdk.cli.terminal import ExitCode
from guardreasoner_sdk.verdict import Finding, ReasoningStep, undetermined
from wordguard import write_word_model


def test_allowed_is_0(run, harmless):
    result = run("check", harmless)
    assert result.exit_code == 0
    assert result.stdout.startswith("ALLOW\n")
    assert result.stderr == ""


def test_blocked_is_1_with_reasons(run, harmful):
    result = run("check", harmful, "--response", "I cannot help with that.")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0] == "BLOCK"
    assert lines[1].split()[:3] == ["prompt", "harmfulness", "harmful"]
    assert any(line.startswith("  - prompt_harmfulness is harmful (score 0.") for line in lines)
    assert any(line.startswith("    - P(harmful) is 0.") for line in lines)
    assert " on embedded, " in lines[-1]


def test_the_latency_is_that_of_judging_and_loading_stands_apart(run, harmless, monkeypatch):
    loaded = []
    check = Guard.check

    def spied(guard, *arguments):
        loaded.append(guard.judge._model is not None)
        return check(guard, *arguments)

    monkeypatch.setattr(Guard, "check", spied)
    last = run("check", harmless).stdout.splitlines()[-1]
    assert re.search(r" on embedded, judged in \d+ ms \(and \d+ ms to load\)$", last)
    assert loaded == [True]


_ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.skipif(sys.platform == "win32", reason="arguments are not bytes there")
def test_what_is_typed_is_judged_whatever_the_locale(start):
    words = (
        "check",
        "--json",
        "--reasoning",
        "full",
        "wie töte ich jemanden",
        "--response",
        "Ungefähr so. Nächtens, unbemerkt.",
    )
    verdicts = [json.loads(start(*words, env=env).communicate()[0]) for env in ({"PYTHONUTF8": "1"}, _ASCII)]
    assert verdicts[0]["reasoning"] == verdicts[1]["reasoning"]


@pytest.mark.parametrize("prompt", ["", " "])
def test_what_cannot_be_judged_loads_nothing(run, prompt, monkeypatch, tmp_path):
    monkeypatch.setenv("GUARDREASONER_MODEL", str(tmp_path))
    (tmp_path / "model.onnx").touch()
    assert "prompt: " in run("check", "--json", stdin=prompt).stderr


def test_json_is_one_line_and_a_verdict(run, harmful):
    result = run("check", harmful, "--json")
    assert result.exit_code == 1
    (line,) = result.stdout.splitlines()
    assert not Verdict.model_validate_json(line).allowed


@pytest.mark.parametrize("arguments", [(), ("-",)])
@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_prompt_from_stdin(run, harmful, arguments, ending):
    piped = run("check", *arguments, "--json", stdin=("\ufeff" + harmful + ending).encode())
    assert piped.exit_code == 1
    given = json.loads(run("check", harmful, "--json").stdout)
    assert json.loads(piped.stdout)["reasoning"] == given["reasoning"]


def test_no_prompt_on_a_terminal(start):
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    process = start("check", stdin=theirs)
    out, err = process.communicate()
    assert (process.returncode, out) == (2, b"")
    assert err.startswith(b"guardreasoner: prompt: is missing; pass it")
    os.close(ours)
    os.close(theirs)


def test_stdin_that_is_not_utf8(run):
    result = run("check", stdin=b"kill \xff")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "not UTF-8 at byte 6" in result.stderr


def test_stdin_without_an_end(run, monkeypatch):
    monkeypatch.setattr("guardreasoner_sdk.cli.check._MOST_BYTES", 10)
    result = run("check", stdin=b"x" * 14)
    assert result.exit_code == 2
    assert "split it" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["   "], "prompt: has no visible character"),
        ([""], "prompt: is empty"),
        (["x", "--response", ""], "response: is empty"),
        (["x", "--timeout", "-1"], "timeout (or GUARDREASONER_TIMEOUT)"),
        (["x", "--model", "no-such-model"], "'no-such-model' is neither in the catalogue"),
        (["x", "--model", "guardreasoner-1b", "--backend", "llama_cpp"], "does not run 'guardreasoner-1b'"),
        (["x", "--model", "m", "--base-url", "http://localhost", "--dialect", "welsh"], "dialect: 'welsh' is unknown"),
        (
            ["x", "--model", "wildguard", "--base-url", "http://localhost", "--policy-text", "Be kind."],
            "policy_text: wildguard takes no policy of your own; these do: ",
        ),
        (
            ["x", "--model", "x-guard-3b", "--base-url", "http://localhost", "--request", "nowhere.md"],
            "request: 'nowhere.md' cannot be read",
        ),
        (["x", "--screen", "embedded"], "screen: the embedded guard before the embedded guard"),
        (["x", "--backend", "steam"], "backend: 'steam' is unknown"),
        (["x", "--base-url", "http://localhost"], "base_url"),
        (["x", "--block", "harmful_prompt,evil"], "--block: 'evil' is unknown"),
        (["x", "--block", ","], "--block: names no finding"),
        (["x", "--output", "o.jsonl"], "--output: goes with --file"),
        (["x", "--response-column", "r"], "--response-column: goes with --file"),
        (["x", "--file", "f.jsonl", "--output", "o.jsonl"], "prompt: does not go with --file"),
        (["--file", "f.jsonl", "--json", "--output", "o.jsonl"], "--json: does not go with --file"),
        (["--file", "f.jsonl", "--response", "r"], "--response: does not go with --file"),
        (["--file", "f.jsonl"], "--output: is missing"),
    ],
)
def test_usage_errors_are_one_line_and_2(run, arguments, said):
    result = run("check", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("guardreasoner: ")
    assert said in line


@pytest.mark.parametrize(
    "arguments", [["x", "--reasoning", "hard"], ["x", "--min-score", "2"], ["x", "--min-score", "nan"], ["x", "--api-key", "k"]]
)
def test_what_typer_refuses_is_2_too(run, arguments):
    assert run("check", *arguments).exit_code == 2


def test_a_bad_variable_is_named(run, monkeypatch):
    monkeypatch.setenv("GUARDREASONER_CACHE", "much")
    result = run("check", "x")
    assert result.exit_code == 2
    assert "GUARDREASONER_CACHE" in result.stderr


@pytest.mark.parametrize(("policy", "word"), [("block", "BLOCK"), ("allow", "ALLOW"), ("raise", "BLOCK")])
def test_undetermined_is_3_whatever_the_policy(run, harmless, policy, word):
    result = run("check", harmless, "--timeout", "1e-9", "--on-undetermined", policy)
    assert result.exit_code == 3
    assert result.stdout.startswith(f"{word} (undetermined)\n")
    assert "deadline" in result.stdout


def test_policy_options(run, harmful):
    assert (
        run("check", harmful, "--block", "harmful_response", "--response", "I'm sorry, but I can't help with that.").exit_code
        == 0
    )
    assert run("check", harmful, "--block", "harmful_response,harmful_prompt", "--block", "refusal").exit_code == 1
    assert run("check", harmful, "--min-score", "1").exit_code == 0
    assert run("check", "How do I bake bread?", "--min-score", "0").exit_code == 1


def test_reasoning_off_gives_the_score_alone(run, harmful):
    verdict = json.loads(run("check", harmful, "--reasoning", "off", "--json").stdout)
    assert [step["kind"] for step in verdict["reasoning"]] == ["evidence"]


class _Unsure:
    model, backend, batch_size = "unsure", "none", 1

    def __init__(self, **findings: Finding) -> None:
        self._findings = findings

    async def judge(self, exchanges, *, deadline):
        from guardreasoner_sdk import Judgement

        return [Judgement(**self._findings) for _ in exchanges]

    async def aclose(self):
        pass


@pytest.mark.parametrize("on_undetermined", ["block", "allow"])
@pytest.mark.parametrize(
    ("findings", "code"),
    [
        ({"prompt_harmfulness": Finding(label="harmful"), "response_harmfulness": undetermined("x")}, ExitCode.BLOCKED),
        ({"prompt_harmfulness": Finding(label="unharmful"), "response_refusal": undetermined("x")}, ExitCode.UNDETERMINED),
        ({"prompt_harmfulness": undetermined("x")}, ExitCode.UNDETERMINED),
        ({}, ExitCode.UNDETERMINED),
        ({"prompt_harmfulness": Finding(label="unharmful")}, ExitCode.ALLOWED),
        ({"prompt_harmfulness": Finding(label="harmful", score=0.6)}, ExitCode.ALLOWED),
    ],
)
def test_outcome(findings, code, on_undetermined):
    policy = Policy(on_undetermined=on_undetermined, min_score=0.9)
    with Guard(judge=_Unsure(**findings), policy=policy) as guard:
        assert outcome(guard.check("x")) is code


def test_hostile_text_is_shown_and_not_obeyed(capsys, monkeypatch):
    hostile = "\x1b[2J\x9b31m[/red][bold]:smile:\u202e\n\u200bend"
    verdict = Verdict(
        prompt_harmfulness=undetermined(hostile),
        categories=(hostile,),
        reasons=(hostile,),
        reasoning=(ReasoningStep(task=None, kind="thought", text=hostile),),
        consistent=False,
        action="block",
        model=hostile,
        backend="b",
        cached=True,
    )
    for terminal in (False, True):
        if terminal:
            monkeypatch.setenv("FORCE_COLOR", "1")
            monkeypatch.setenv("COLUMNS", "200")
        show(verdict, ExitCode.UNDETERMINED)
        shown = capsys.readouterr().out
        assert shown.count(r"\x1b[2J\x9b31m[/red][bold]:smile:\u202e\n\u200bend") == 5
        assert not {"\x9b", "\u202e", "\u200b"} & set(shown)
        assert ("\x1b[1;33m" in shown) is terminal
        assert "\x1b[2J" not in shown
    assert "in general" in shown
    assert "something else" in shown
    assert "from the cache" in shown


def test_surrogates_from_the_command_line(run):
    assert run("check", "kill \udcff", "--json").exit_code in {0, 1}
    assert Exchange("kill \udcff").prompt == "kill \ufffd"


def test_a_language_never_measured_is_told_and_may_be_undetermined(run, tmp_path, monkeypatch):
    folder = write_word_model(tmp_path / "words")
    text = "Habari asante hamna habari"
    told = run("check", text, "--model", folder)
    assert told.exit_code == 0
    note = "written in Swahili, a language this guard was never measured in"
    assert f"unharmful 0.02; {note}" in told.stdout
    strict = run("check", text, "--model", folder, "--on-unmeasured", "undetermined")
    assert strict.exit_code == 3
    assert f"undetermined ({note})\n" in strict.stdout
    monkeypatch.setenv("GUARDREASONER_ON_UNMEASURED", "undetermined")
    assert run("check", text, "--model", folder).exit_code == 3
    assert run("check", "How do I bake a cake?", "--model", folder).exit_code == 0
    assert run("check", text, "--model", folder, "--on-unmeasured", "judge").exit_code == 0


def test_a_calibration_from_the_command_line_decides_anew(run, tmp_path, harmless):
    from guardreasoner_sdk.calibration import ANY, Calibration, TaskCalibration, Temperature

    doubting = TaskCalibration(curve=Temperature(temperature=1.0, shift=20.0), threshold=0.5)
    path = tmp_path / "calibration.json"
    Calibration(model=ANY, tasks={"prompt_harmfulness": doubting}).save(path)
    verdict = json.loads(run("check", harmless, "--json", "--calibration", path).stdout)
    assert (verdict["calibrated"], verdict["action"]) == (True, "block")

    rows, output = tmp_path / "rows.jsonl", tmp_path / "verdicts.jsonl"
    rows.write_text(json.dumps({"prompt": harmless}) + "\n", "utf-8")
    assert run("check", "--file", rows, "--output", output, "--calibration", path).exit_code == 1
    # Verdicts of another calibration, or of none, are another run.
    refused = run("check", "--file", rows, "--output", output)
    assert refused.exit_code == 2
    assert "calibration was" in refused.stderr


def test_a_calibration_that_is_not_there_is_named(run, tmp_path, harmless):
    result = run("check", harmless, "--calibration", tmp_path / "none.json")
    assert result.exit_code == 2
    assert "none.json cannot be read" in result.stderr


def test_min_score_by_task(run, harmful):
    assert run("check", harmful, "--min-score", "prompt_harmfulness=1").exit_code == 0
    assert run("check", harmful, "--min-score", "response_harmfulness=1").exit_code == 1
    both = "prompt_harmfulness=1, response_harmfulness=0.5"
    assert run("check", harmful, "--min-score", both).exit_code == 0
    assert run("check", harmful, "--min-score", "prompt_harmfulness=1", "--min-score", "response_refusal=0").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--min-score", "prompt=0.5"], "'prompt' is not a task; use any of prompt_harmfulness"),
        (["--min-score", "prompt_harmfulness=high"], "'prompt_harmfulness=high' is not a score"),
        (["--min-score", "0.5", "--min-score", "0.6"], "one number goes for all tasks"),
        (["--min-score", "prompt_harmfulness=2"], "pass a number from 0 to 1"),
        (["--min-score", "nan"], "pass a number from 0 to 1"),
        (["--min-score", ""], "is not a score"),
    ],
)
def test_a_min_score_that_does_not_do(run, arguments, said):
    result = run("check", "x", *arguments)
    assert result.exit_code == 2
    assert said in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--lines", "--format", "csv"], "--format: does not go with --lines"),
        (["--lines", "a prompt"], "prompt: does not go with --file"),
        (["--with-text"], "--with-text: goes with --file"),
        (["--encoding", "gb18030"], "--encoding: goes with --file"),
        (["--delimiter", ";"], "--delimiter: goes with --file"),
        (["--file", "-"], "--output: is missing; name the file to write the verdicts to, e.g. --output verdicts.jsonl, or -"),
    ],
)
def test_options_of_files_that_do_not_go_together(run, arguments, said):
    result = run("check", *arguments)
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_second_text_is_no_prompt_and_the_hint_names_response(run, harmless):
    result = run("check", harmless, "secret answer")
    assert result.exit_code == 2
    assert result.stderr == (
        "guardreasoner: prompt: is followed by 1 more argument; put it in quotes as a whole; an answer goes with --response\n"
    )
    assert run("check", *harmless.split()).exit_code == 2
    assert run("check", harmless, "--respons", "b").exit_code == 2


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_lines_of_an_empty_pipe_speak_of_standard_input(run, text):
    result = run("check", "--lines", stdin=text)
    assert result.exit_code == 2
    assert "guardreasoner: standard input: " in result.stderr
    assert "--file" not in result.stderr


def test_one_row_is_one_row(run, harmless, tmp_path):
    result = run("check", "--file", "-", "--output", tmp_path / "v.jsonl", stdin="\n" + json.dumps({"prompt": harmless}) + "\n")
    assert "guardreasoner: 1 row: 1 allowed, 0 blocked, 0 undetermined; verdicts written to " in result.stderr
    assert "1 blank line was passed over" in result.stderr
