"""Commands of other packages: found in every way of having the SDK, and none of them spoils the others."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from guardreasoner_sdk.cli.commands import COMMANDS

ROOT = Path(__file__).parents[2]
PACKAGES = [ROOT / "guardreasoner_sdk", *ROOT.glob("*/guardreasoner_*")]
OURS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["entry-points"][COMMANDS]

PLUGIN = """
import typer
from guardreasoner_sdk import ConfigurationError
from guardreasoner_sdk.cli.terminal import report_errors

print("plugin imported")
app, many = typer.Typer(), typer.Typer(help="Many things.")

@app.command()
@report_errors
def hello(name: str, loud: bool = False) -> None:
    "Say hello."
    if name == "nobody":
        raise ConfigurationError("there is nobody")
    print(f"hello {name}{'!' * loud}")

many.command()(hello)
many.command("again")(hello)
app.command("schema")(hello)
app.command("recipes")(hello)
app.add_typer(many, name="many")
app.add_typer(many, name="train")
"""


def distribution(folder: Path, name: str, entries: dict[str, str]) -> None:
    """What an installer writes of a distribution."""
    made = folder / f"{name.replace('-', '_')}-0.0.1.dist-info"
    made.mkdir(parents=True)
    (made / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.0.1\n", "utf-8")
    lines = [f"[{COMMANDS}]", *(f"{entry} = {value}" for entry, value in entries.items())]
    (made / "entry_points.txt").write_text("\n".join(lines), "utf-8")


def guardreasoner(*words: str, path: list[Path]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), "COLUMNS": "100"}
    command = [sys.executable, "-m", "guardreasoner_sdk", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=path[0])


def in_help(text: str) -> list[str]:
    return re.findall(r"^│ (\S+)", text.partition(" Commands ")[2], re.MULTILINE)


@pytest.mark.parametrize("way", ["installed", "a checkout", "a checkout beside an older one"])
def test_the_commands_of_training_are_found(way: str, tmp_path: Path) -> None:
    if way == "installed":
        for package in PACKAGES:
            (tmp_path / package.name).symlink_to(package, target_is_directory=True)
        distribution(tmp_path, "guardreasoner-sdk", OURS)
        (tmp_path / "pyproject.toml").write_text("[project]\nname = 'another'\n", "utf-8")
        path = [tmp_path]
    else:
        path = [tmp_path, *{package.parent for package in PACKAGES}]
    if way == "a checkout beside an older one":
        distribution(tmp_path, "guardreasoner-sdk", {"gone": "guardreasoner_sdk.gone:gone"})
    shown = guardreasoner("--help", path=path)
    assert (shown.returncode, shown.stderr) == (0, "")
    names = in_help(shown.stdout)
    assert names[0] == "check"
    assert names[-3:] == ["finetune", "export", "train"]
    assert "laptop" in guardreasoner("train", "recipes", path=path).stdout


def test_a_package_adds_commands_and_one_that_is_broken_takes_no_other_with_it(tmp_path: Path) -> None:
    (tmp_path / "plugin.py").write_text(PLUGIN, "utf-8")
    distribution(tmp_path, "broken", {"broken": "plugin.missing:app", "odd": "plugin:__name__"})
    distribution(tmp_path, "plugin", {"plugin": "plugin:app"})
    path = [tmp_path, *{package.parent for package in PACKAGES}]
    missing = "guardreasoner: the commands of plugin.missing:app cannot be loaded: ModuleNotFoundError: "
    odd = "guardreasoner: the commands of plugin:__name__ cannot be loaded: AttributeError: "

    shown = guardreasoner("--help", path=path)
    names = in_help(shown.stdout)
    assert names[-4:] == ["train", "hello", "recipes", "many"]
    assert names.count("schema") == names.count("train") == 1
    assert "Many things." in shown.stdout
    assert shown.returncode == 0
    assert [line[: len(start)] for line, start in zip(shown.stderr.splitlines(), (missing, odd), strict=True)] == [missing, odd]

    for words, code, out in (
        (("hello", "you", "--loud"), 0, "hello you!\n"),
        (("many", "again", "you"), 0, "hello you\n"),
        (("hello", "nobody"), 2, ""),
        (("helo",), 2, ""),
    ):
        done = guardreasoner(*words, path=path)
        assert (done.returncode, done.stdout) == (code, f"plugin imported\n{out}")
        assert ("guardreasoner: there is nobody\n" in done.stderr) is ("nobody" in words)
        assert ("Did you mean 'hello'?" in done.stderr) is ("helo" in words)

    # Who asks for a command of the SDK waits for nobody's.
    for words in (("schema",), ("train", "recipes")):
        done = guardreasoner(*words, path=path)
        assert (done.returncode, done.stderr) == (0, "")
        assert "plugin imported" not in done.stdout


@pytest.mark.parametrize("words", [["schema"], ["--help"], ["train", "rsft", "--help"]])
def test_nothing_of_training_is_imported_before_one_of_its_commands_runs(words: list[str]) -> None:
    code = (
        "import sys; from guardreasoner_sdk.cli import main; code = main(sys.argv[1:]);"
        "names = {'guardreasoner_training', 'torch', 'transformers', 'trl', 'datasets'};"
        "print(*(name for name in sys.modules if name.partition('.')[0] in names), file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    signatures = {"guardreasoner_training"} | {
        f"guardreasoner_training.cli{name}" for name in ("", ".app", ".export", ".finetune", ".train")
    }
    assert set(done.stderr.split()) == (set() if words == ["schema"] else signatures)
