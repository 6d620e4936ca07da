"""The code of README, docs and examples runs, and prints what it says it prints."""

import contextlib
import io
import json
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from guardreasoner_sdk import MissingExtraError
from guardreasoner_sdk.cli import main
from guardreasoner_sdk.judges.languages import language_name
from telemetry_globals import no_providers

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MARK = re.compile(r"# ?> ")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    return [code for kind, code in BLOCK.findall(page.read_text("utf-8")) if kind == language]


# Of LiteLLM's own types, when it is imported: a file's tests run in a process that may not have it yet.
pytestmark = pytest.mark.filterwarnings("ignore:Items? .* on TypedDict class:UserWarning")

ENGINE = re.compile(r"\.gguf\b")
"""In a block that needs an engine of its own, and runs where it is installed: llama.cpp."""
OPERATOR = re.compile(r"[|<>&;$`]")
QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")


FRAMEWORKS = {"fastapi", "jinja2", "langchain", "langchain_core", "langgraph", "litellm", "sklearn", "starlette"}


@contextlib.contextmanager
def skipped_where_an_extra_is_missing() -> Iterator[None]:
    try:
        yield
    except MissingExtraError as error:
        pytest.skip(f"not installed: {error}")
    except ModuleNotFoundError as error:
        if error.name not in FRAMEWORKS:
            raise
        pytest.skip(f"not installed: {error.name}")


@pytest.fixture
def no_telemetry() -> Iterator[None]:
    """The page sets providers, which can be done once in a process."""
    with no_providers():
        yield


def python_pages() -> Iterator[object]:
    for page in PAGES:
        yield pytest.param(page, False, id=page.name)
        if ENGINE.search("".join(blocks(page, "python"))):
            yield pytest.param(page, True, id=f"{page.name}-llama.cpp")


@pytest.mark.parametrize(("page", "engine"), list(python_pages()))
def test_python_blocks_run_in_order_and_print_what_they_say(
    page: Path, engine: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(tmp_path)
    if engine:
        pytest.importorskip("llama_cpp", reason="the page runs llama.cpp: pip install 'guardreasoner-sdk[llama-cpp]'")
    if "tiny-guard" in page.read_text("utf-8"):
        (tmp_path / "tiny-guard").symlink_to(request.getfixturevalue("tiny_guard").folder)
    names: dict[str, object] = {"__name__": "__main__"}
    if page.name == "observe.md":
        request.getfixturevalue("no_telemetry")
    for code in blocks(page, "python"):
        if ENGINE.search(code) and not engine:
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), skipped_where_an_extra_is_missing():
            exec(compile(code, str(page), "exec"), names)
        said = [MARK.split(line, 1)[1] for line in code.splitlines() if MARK.search(line)]
        # What is printed after the lines that are shown may differ from machine to machine, such as scores.
        assert printed.getvalue().splitlines()[: len(said)] == said


def console_lines(page: Path) -> Iterator[tuple[str, int]]:
    """The ``$ ...`` lines of a page; ``# exit 1`` at the end of one says how it ends."""
    for block in blocks(page, "console"):
        for line in block.splitlines():
            if line.startswith("$ "):
                command, _, ending = line[2:].partition("  # exit ")
                yield command, int(ending or 0)


def in_a_shell(command: str, folder: Path) -> tuple[int, object]:
    words = command.replace("guardreasoner ", f"{shlex.quote(sys.executable)} -m guardreasoner_sdk ")
    done = subprocess.run(words, shell=True, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done


@pytest.mark.parametrize("page", PAGES[1:], ids=lambda page: page.name)
def test_console_blocks_end_as_they_say(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command line runs in this process, where nothing else takes a shell."""
    monkeypatch.chdir(tmp_path)
    for command, ending in console_lines(page):
        if not command.startswith("guardreasoner ") or OPERATOR.search(QUOTED.sub("", command)):
            code, said = in_a_shell(command, tmp_path)
        else:
            code, said = main(shlex.split(command)[1:]), capsys.readouterr()
            if code != ending and (missing := re.search(r"pip install 'guardreasoner-sdk\[.*?\]'", said.err)):
                pytest.skip(f"not installed: {missing[0]}")
        assert code == ending, f"{command}\n{said}"


def test_console_blocks_of_the_readme_end_as_they_say_in_a_shell(tmp_path: Path) -> None:
    lines = list(console_lines(ROOT / "README.md"))
    assert lines
    for command, ending in lines:
        code, said = in_a_shell(command, tmp_path)
        assert code == ending, f"{command}\n{said}"


EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
PROGRAMS = {"first_guard.py", "litellm_guardrail.py"}
"""Examples that run in a process of their own: the first one, and LiteLLM, which keeps the loop of whoever asked it first."""


@pytest.mark.parametrize("path", [path for path in EXAMPLES if path.name not in PROGRAMS], ids=lambda path: path.name)
def test_examples_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """In this process, which has the frameworks imported already; a warning is an error here."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(path)])
    with skipped_where_an_extra_is_missing():
        runpy.run_path(str(path), run_name="__main__")
    out, err = capsys.readouterr()
    assert out
    assert not err


@pytest.mark.parametrize("path", [path for path in EXAMPLES if path.name in PROGRAMS], ids=lambda path: path.name)
def test_examples_run_as_programs(path: Path, tmp_path: Path) -> None:
    if path.name == "litellm_guardrail.py":
        pytest.importorskip("litellm", reason="pip install 'guardreasoner-sdk[litellm]'")
    done = subprocess.run([sys.executable, str(path)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert not done.stderr


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} -> {target}"


def test_every_example_is_linked_from_a_page() -> None:
    said = "".join(page.read_text("utf-8") for page in PAGES)
    assert [path.name for path in (ROOT / "examples").glob("*.py") if f"examples/{path.name})" not in said] == []


def test_every_page_can_be_found_from_the_readme() -> None:
    readme = PAGES[0].read_text("utf-8")
    assert [page.name for page in PAGES[1:] if f"docs/{page.name}" not in readme] == []


def test_no_block_of_a_page_installs_the_package_from_the_index() -> None:
    """There is no release on it: whoever copies such a line gets an error, or somebody else's package."""
    for page in PAGES:
        for kind, code in BLOCK.findall(page.read_text("utf-8")):
            assert not re.search(r"pip install.*guardreasoner-sdk", code), f"{page.name}: {kind}"


def test_the_figures_of_streaming_are_the_measured_ones() -> None:
    measured = json.loads((ROOT / "benchmarks/results/streaming-cpu.json").read_text("utf-8"))
    results = measured["results"]
    page = (ROOT / "docs/streaming.md").read_text("utf-8")
    for way, name in [
        ("stream, hold", "`stream`, hold"),
        ("stream, pass", "`stream`, pass"),
        ("astream, hold", "`astream`, hold"),
        ("astream, pass", "`astream`, pass"),
        ("check at the end", "one check at the end"),
    ]:
        paced = [of for of in results if of["way"] == way and of["words_per_second"]]
        cells = [cell for of in paced for cell in (f"{of['first_text_s']:.3f} s", f"{of['total_ratio']:.3f}")]
        assert f"| {name} | {' | '.join(cells)} |" in page
    for of in measured["growth"]:
        here = (
            f"{of['cpu_s']:.2f} | {of['judged_characters']:,} | {of['beside_cpu_s']:.2f} | {of['beside_judged_characters']:,}"
        )
        assert f"| {of['characters'] // 1000 * 1000:,} | {here} | {of['cpu_ratio']:.3f} |" in page
    last = measured["growth"][-1]
    assert last["judged_characters"] <= last["beside_judged_characters"] / 8
    assert last["cpu_ratio"] < 1


def test_what_observing_costs_is_the_measured_figure() -> None:
    measured = json.loads((ROOT / "benchmarks/results/telemetry-cpu.json").read_text("utf-8"))
    page = (ROOT / "docs/observe.md").read_text("utf-8")
    bare, embedded = measured["a judge that decides at once"], measured["embedded"]
    for way, words in (("api alone", "nothing configured"), ("exported", "exported to memory")):
        assert f"{words} | {bare[way]['microseconds more']:.1f} | {embedded[way]['over none']:.2f} |" in page
    assert f"takes {embedded['api alone']['check without, microseconds']:,.0f} microseconds" in page


def test_what_serving_costs_is_the_measured_figure() -> None:
    page = (ROOT / "docs/deploy.md").read_text("utf-8")
    found = json.loads((ROOT / "benchmarks/results/serving-cpu.json").read_text("utf-8"))
    for of in found["ways"]:
        rates = f"{of['checks_per_second']:.0f} | {of['ratio']:.2f} | {of['cpu_ratio']:.2f}"
        assert f"| {of['clients']} | {of['items']} | {rates} | {of['median_ms']:,.0f} | {of['p99_ms']:,.0f} |" in page
    assert f"After {found['requests']:,} requests the process holds {found['memory_last_mib']:.0f} MiB" in page
    assert found["memory_last_mib"] < found["memory_first_mib"] * 1.05
    faults = json.loads((ROOT / "benchmarks/results/serving-faults.json").read_text("utf-8"))
    assert not [name for part in ("load", "kill", "end") for name in faults[part] if name.endswith(("WRONG", "WITHOUT"))]
    words = " ".join(page.split())
    for figures in (
        f"{faults['clients']} clients for {faults['seconds']:.0f} s",
        f"{faults['load']['right']:,} right answers, {faults['load']['malformed, refused']} refusals",
        f"{faults['kill']['cut']} connections cut, {faults['kill']['right']:,} right answers",
        f"ended with {faults['end']['exit']}",
    ):
        assert figures in words


def test_what_was_killed_in_a_bulk_job_and_how_fast_it_is_is_what_the_page_says() -> None:
    page = " ".join((ROOT / "docs/bulk.md").read_text("utf-8").split())
    for name in ("words", "embedded"):
        report = json.loads((ROOT / f"benchmarks/results/bulk-{name}.json").read_text("utf-8"))
        found = report["faults"]
        assert (found["workers killed"], found["jobs killed"], found["rows"]) == (2, 1, report["rows"])
        assert found["each identity once, in order"]
        assert found["verdicts unlike those of check_many"] == 0
        assert f"with {found['rows']:,} rows in {found['blocks']} blocks" in page
    nodes = report["scale"]["rows a second by nodes"]
    assert f"{nodes['1']:.0f} rows a second on one node, {nodes['2']:.0f} on two, {nodes['4']:.0f} on four" in page
    report = json.loads((ROOT / "benchmarks/results/bulk-speed.json").read_text("utf-8"))
    speed, rows = report["speed"], report["rows"]
    for name, took in speed["seconds by rows"].items():
        rate = speed["rows a second, of the last three quarters"][name]
        assert f"| {name} | {min(took[str(rows // 4)]):.1f} | {min(took[str(rows)]):.1f} | {rate:.0f} |" in page
    assert f"a job makes {speed['bulk over check --file, of the last three quarters']:.2f} of the rows" in page


def test_the_embedded_guards_figures_are_the_measured_ones() -> None:
    metrics = json.loads((ROOT / "guardreasoner_sdk/assets/embedded/metrics.json").read_text("utf-8"))
    readme = (ROOT / "README.md").read_text("utf-8")
    for name, of in metrics["benchmarks"].items():
        figures = (of["int8"]["f1"], of["baseline"]["f1"], of["int8"]["undetermined"])
        assert f"| {name} | " in readme
        assert f" | {figures[0]:.1f} | {figures[1]:.1f} | {figures[2]} |" in next(
            line for line in readme.splitlines() if line.startswith(f"| {name} | ")
        )
    page = (ROOT / "docs/embedded.md").read_text("utf-8")
    alarms = metrics["false_alarms"]
    for of, words in (
        (alarms["dev"]["benign"], "of harmless instructions"),
        (alarms["dev"]["over_refusal"], "of harmless prompts made to look harmful"),
        (alarms["unseen"]["benign"], "of everyday prompts"),
    ):
        for text in (readme, page):
            assert f"{of['false_alarm_rate']:.1f} % {words}" in " ".join(text.split())
    clear = {(of["variant"], of["task"]): of for of in metrics["surroundings"] if of["set"] == "clear_cut"}
    prompts, responses = "prompt_harmfulness", "response_harmfulness"
    for share, words in (
        (clear["all languages", prompts]["found"], "of the harmful requests"),
        (clear["all languages", prompts]["flagged"], "of the everyday messages"),
        (clear["all languages, look-alikes", prompts]["flagged"], "of the harmless ones that look harmful"),
        (clear["all languages", responses]["flagged"], "of the harmless answers"),
    ):
        assert f"{share['percent']:.1f} % {words}" in " ".join(page.split())


def test_the_languages_that_pages_name_are_those_that_were_measured() -> None:
    config = json.loads((ROOT / "guardreasoner_sdk/assets/embedded/config.json").read_text("utf-8"))
    *names, last = sorted(map(language_name, config["measured_languages"]))
    page = " ".join((ROOT / "docs/embedded.md").read_text("utf-8").split())
    assert f"was measured in {', '.join(names)} and {last}" in page
    assert f"measured in [{len(names) + 1} languages](docs/embedded.md#languages)" in (ROOT / "README.md").read_text("utf-8")


def test_the_embedded_guards_speed_is_the_measured_one() -> None:
    found = json.loads((ROOT / "benchmarks/results/embedded-cpu.json").read_text("utf-8"))
    page = (ROOT / "docs/embedded.md").read_text("utf-8")
    for title, of in found["speed"].items():
        name = re.sub(r" \((un)?harmful\)", "", title)
        cells = [f"{of[of_what]:.{1 if of[of_what] >= 10 else 2}f}" for of_what in ("this", "beside", "ratio")]
        assert f"| {name} | {' | '.join(cells)} |" in page


def test_what_eight_bits_lose_is_the_measured_figure() -> None:
    found = json.loads((ROOT / "benchmarks/results/embedded-eight-bits.json").read_text("utf-8"))
    page = (ROOT / "docs/embedded.md").read_text("utf-8")
    for name, of in found["ways"].items():
        lost = [f"{of[key]:.3f}" if key in of else "-" for key in ("logit, root mean square", "score, worst")]
        times = [f"{of[key]:.1f}" for key in ("ms, 32 tokens", "ms, 128 tokens")]
        assert f"| {name} | {of['bytes'] / 1e6:.0f} | {' | '.join([*lost, *times])} |" in page


def test_what_other_processors_change_is_the_measured_figure() -> None:
    found = json.loads((ROOT / "benchmarks/results/embedded-processors.json").read_text("utf-8"))
    page = (ROOT / "docs/embedded.md").read_text("utf-8")
    assert f"{found['judged on each']} of {found['rows']:,} rows, at even distances" in " ".join(page.split())
    rows = [
        f"| {name} | {task.replace('_', ' ')} | {of['rows']} | {of['labels_changed']} | {of['worst']:.3f} | {of['mean']:.4f} |"
        for name, one in found["processors"].items()
        for task, of in one["tasks"].items()
    ]
    assert len(rows) >= 6
    for row in rows:
        assert row in page


def test_what_surroundings_cost_is_the_measured_figure() -> None:
    found = json.loads((ROOT / "benchmarks/results/surroundings.json").read_text("utf-8"))["surroundings"]
    section = (
        (ROOT / "docs/embedded.md").read_text("utf-8").partition("\n## What it still gets wrong\n")[2].partition("\n## ")[0]
    )
    rows = re.findall(r"^\| (?!surroundings)([^-|][^|]*) \| (.*) \|$", section, re.MULTILINE)
    assert len(rows) > 10
    for name, cells in rows:
        where, _, what = name.partition(" (")
        [key] = [
            key
            for key in found["this"]
            if key.endswith(f": {where}, {'response' if what else 'prompt'}_harmfulness") and not key.startswith("clear_cut")
        ]
        shown = [
            "-" if found[build][key][part] is None else f"{found[build][key][part]:.0f}"
            for part in ("found", "flagged")
            for build in ("this", "beside")
        ]
        assert cells.split(" | ") == shown, name


def test_what_hostile_text_costs_is_the_measured_figure() -> None:
    found = json.loads((ROOT / "benchmarks/results/hostile-cpu.json").read_text("utf-8"))
    page = (ROOT / "docs/embedded.md").read_text("utf-8")
    worst = found["worst"]
    assert found["characters"] == 1_000_000
    assert found["timeout_s"] == 1.0
    assert len(found["shapes"]) == 30
    assert f"| CPU time beyond the deadline | {worst['overrun']:.2f} s |" in page
    assert f"| gap of the caller's event loop, in CPU time | {worst['gap']:.2f} s |" in page
    assert f"| memory of the process | {worst['memory']:.0f} MiB |" in page
