"""The embedded guard beside what else a user can install that tells harmful texts offline, on the same prompts in one run.

    pip install alt-profanity-check better-profanity glin-profanity forcefield inferwall prismguard securevector-guardian-model
    python benchmarks/embedded_beside.py [--rows labelled.jsonl ...] [--rounds 3] [--output figures.json]

Each filter that is installed judges each prompt by itself, by the decision that its own pages give as the default; of the
others the table says what to install. Without ``--rows`` the prompts are the package's own clear-cut ones in 19 languages;
with it, those of files that ``guardreasoner evaluate`` reads, prompts only. In each cell English stands first, then the other
languages.

Each filter runs in a process of its own, on one core and one thread, and can connect to nothing: one that fetches its weights
at first use does not run here, and the table says so. The filters take turns, round by round. Rows a second are of CPU time,
and compared by the median of the rounds' ratios. Memory is the most that the process held, beyond what it held before the
filter was imported. Runs on Linux.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from guardreasoner_sdk.evaluation.rows import LabelledRow

Judge = Callable[[str], bool | None]
"""Whether a text is harmful; None: the guard could not decide."""

OURS = "embedded guard"
WARM_UP = 20
GROUPS = ("English", "other languages")
COLUMNS = ("harmful found", "everyday flagged", "look-alikes flagged", "F1")


@dataclass(frozen=True)
class Filter:
    """A package that says of a text whether it is harmful, or something near to that.

    Args:
        package: its name where it is installed from.
        decides: what it decides, and by which of its functions, in a few words.
        load: imports it, and gives the function that decides.
    """

    package: str
    decides: str
    load: Callable[[], Judge]


def _embedded() -> Judge:
    from guardreasoner_sdk import Guard
    from guardreasoner_sdk.evaluation.rows import says_positive

    guard = Guard(cache=0)
    return lambda text: says_positive(guard.check(text).prompt_harmfulness, "prompt_harmfulness")


def _alt_profanity_check() -> Judge:
    from profanity_check import predict

    return lambda text: bool(predict([text])[0])


def _better_profanity() -> Judge:
    from better_profanity import profanity

    return lambda text: bool(profanity.contains_profanity(text))


def _glin_profanity() -> Judge:
    from glin_profanity import Filter as Words

    words = Words({"all_languages": True})
    return lambda text: bool(words.is_profane(text))


def _forcefield() -> Judge:
    from forcefield import Guard

    guard = Guard(telemetry=False)
    return lambda text: bool(guard.scan_full(text)["blocked"])


def _inferwall() -> Judge:
    from inferwall import scan_input

    return lambda text: scan_input(text).decision != "allow"


def _prismguard() -> Judge:
    from prismguard.runtime.factory import create_checker_for_app

    checker = create_checker_for_app("web_chat")
    return lambda text: checker.check(text).decision == "block"


def _securevector() -> Judge:
    from svguardian import resolve_runtime
    from svguardian.model.pure_infer import PureGuardian
    from svguardian.serve import analyze

    guardian = PureGuardian.load(resolve_runtime())
    return lambda text: bool(analyze(text, guardian)["is_threat"])


def _toxic_comment_classifier() -> Judge:
    from toxic_classifier.model import ToxicCommentClassifier

    classifier = ToxicCommentClassifier()
    return lambda text: bool(max(classifier.classify(text).values()) >= 0.5)


def _detoxify() -> Judge:
    from detoxify import Detoxify

    model = Detoxify("original")
    return lambda text: bool(max(model.predict(text).values()) >= 0.5)


def _paxmod_guard() -> Judge:
    from paxmod_guard import Guard

    guard = Guard(threads=1)
    return lambda text: bool(guard.check_input(text).flagged)


FILTERS = (
    Filter(OURS, "whether the prompt is harmful: `Guard().check`", _embedded),
    Filter("alt-profanity-check", "whether the text is offensive, by a linear model: `predict`", _alt_profanity_check),
    Filter("better-profanity", "whether an English word of its list stands in it: `contains_profanity`", _better_profanity),
    Filter(
        "glin-profanity", "the same with lists of 24 languages: `Filter({'all_languages': True}).is_profane`", _glin_profanity
    ),
    Filter("forcefield", "attacks, unsafe content and abuse, by patterns and a linear model: `scan_full`", _forcefield),
    Filter("inferwall", "attacks and unsafe content, by patterns: `scan_input` flags or blocks", _inferwall),
    Filter("prismguard", "attacks on the application, by rules: profile `web_chat` (the others fetch weights)", _prismguard),
    Filter("securevector-guardian-model", "attacks and harmful content, by a linear model: `analyze`", _securevector),
    Filter(
        "toxic-comment-classifier",
        "a toxic comment, by an LSTM: any score of 0.5; it names no threshold",
        _toxic_comment_classifier,
    ),
    Filter("detoxify", "a toxic comment, by an encoder: any score of 0.5; it names no threshold", _detoxify),
    Filter("paxmod-guard", "what a companion should not be told, by an encoder: `check_input`", _paxmod_guard),
)


def installed(package: str) -> str | None:
    """The version of a package, or of the embedded model; None where it is not installed."""
    if package == OURS:  # perhaps a checkout on the path: the model knows its version
        from guardreasoner_sdk import Guard

        return Guard().judge.model.rpartition("-")[2]
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def disconnect() -> None:
    """Let no connection be made from now on."""

    def refuse(*_: object, **__: object) -> NoReturn:
        raise OSError("no connection: this is measured offline")

    setattr(socket, "getaddrinfo", refuse)  # noqa: B010 - mypy takes no other function for it
    setattr(socket.socket, "connect", refuse)  # noqa: B010


def most_memory() -> float:
    """The most memory that this process has held, in MiB: ``ru_maxrss`` would begin with the parent's."""
    status = Path("/proc/self/status").read_text("ascii")
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def judged(load: Callable[[], Judge], texts: Sequence[str]) -> dict[str, Any]:
    """What a filter says of texts, its rows for each second of CPU time, and the MiB that it adds to this process."""
    before = most_memory()
    judge = load()
    for text in texts[:WARM_UP]:
        judge(text)
    started = time.process_time()
    said = [judge(text) for text in texts]
    return {"said": said, "rate": len(texts) / (time.process_time() - started), "memory": most_memory() - before}


def child(package: str, texts: Path, output: Path) -> None:
    """Judge with one filter on one core, offline, and write what came out."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    disconnect()
    [one] = [one for one in FILTERS if one.package == package]
    output.write_text(json.dumps(judged(one.load, json.loads(texts.read_text("utf-8")))), encoding="utf-8")


def run(package: str, texts: Path) -> dict[str, Any]:
    """The same in a process of its own; what went wrong in it is told by its last line."""
    # Not from the folder of this script: files in it are named like packages.
    env = {
        **os.environ,
        "PYTHONSAFEPATH": "1",
        "OMP_NUM_THREADS": "1",
        "TF_NUM_INTRAOP_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    output = texts.with_suffix(".said")
    command = [sys.executable, Path(__file__).resolve(), "--child", package, texts, output]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        return {"failed": done.stderr.strip().rpartition("\n")[2] or f"exit code {done.returncode}"}
    found: dict[str, Any] = json.loads(output.read_text("utf-8"))
    return found


def figures(rows: Sequence[LabelledRow], said: Sequence[bool | None]) -> dict[str, dict[str, float | None]]:
    """Of English rows and of the others, in percent: recall, flagged of everyday prompts and of look-alikes, and F1.

    None where there is nothing to count. A guard that could not decide was wrong. Rows without a language count as English.
    """
    from guardreasoner_sdk.evaluation.rows import OVER_REFUSAL

    found: dict[str, dict[str, float | None]] = {}
    for group in GROUPS:
        pairs = [
            (row, row.labels["prompt_harmfulness"], (not row.labels["prompt_harmfulness"]) if flagged is None else flagged)
            for row, flagged in zip(rows, said, strict=True)
            if (row.language in (None, "en")) == (group == GROUPS[0])
        ]
        harmful = [flagged for _, truth, flagged in pairs if truth]
        alike = [flagged for row, truth, flagged in pairs if not truth and row.kind == OVER_REFUSAL]
        everyday = [flagged for row, truth, flagged in pairs if not truth and row.kind != OVER_REFUSAL]
        of_f1 = len(harmful) + sum(flagged for _, _, flagged in pairs)
        f1 = round(200 * sum(harmful) / of_f1, 1) if harmful else None
        shares = (round(100 * sum(part) / len(part), 1) if part else None for part in (harmful, everyday, alike))
        found[group] = dict(zip(COLUMNS, (*shares, f1), strict=True))
    return found


def measure(rows: Sequence[LabelledRow], rounds: int, filters: Sequence[Filter] = FILTERS) -> dict[str, Any]:
    """All filters on the prompts of the rows, in turns; the first of them is the one that the others are compared with."""
    versions = {one.package: installed(one.package) for one in filters}
    done: dict[str, list[dict[str, Any]]] = {package: [] for package, found in versions.items() if found}
    with tempfile.TemporaryDirectory() as folder:
        texts = Path(folder) / "texts.json"
        texts.write_text(json.dumps([row.exchange.prompt for row in rows]), encoding="utf-8")
        for _ in range(rounds):
            for package, rounds_of in done.items():
                if not rounds_of or "failed" not in rounds_of[-1]:
                    rounds_of.append(run(package, texts))
    first = [one["rate"] for one in done[filters[0].package] if "rate" in one]
    guards: dict[str, Any] = {}
    for one in filters:
        entry: dict[str, Any] = {"decides": one.decides, "version": versions[one.package]}
        runs = done.get(one.package, [])
        if runs and "failed" in runs[-1]:
            entry["failed"] = runs[-1]["failed"]
        elif runs:
            rates = [each["rate"] for each in runs]
            entry |= figures(rows, runs[0]["said"])
            entry["rows a second"] = round(statistics.median(rates), 1)
            entry["relative"] = (
                round(statistics.median(rate / of for rate, of in zip(rates, first, strict=True)), 2) if first else None
            )
            entry["memory, MiB"] = round(statistics.median(each["memory"] for each in runs))
        guards[one.package] = entry
    return guards


def table(guards: Mapping[str, Mapping[str, Any]]) -> str:
    """The figures as a table in Markdown: English / other languages, in percent; speed relative to the first."""
    lines = [f"| | {' | '.join(COLUMNS)} | rows a second | MiB |", "|---" * (len(COLUMNS) + 3) + "|"]
    blank = " |" * (len(COLUMNS) + 1)
    for package, of in guards.items():
        if of["version"] is None:
            lines.append(f"| {package} | not installed: `pip install {package}` |{blank}")
        elif "failed" in of:
            said = of["failed"].replace("|", "/").replace("`", "'")
            lines.append(f"| {package} {of['version']} | does not run offline: `{said}` |{blank}")
        else:
            cells = [" / ".join(_cell(of[group][column]) for group in GROUPS) for column in COLUMNS]
            speed = f"{of['rows a second']:.0f}" + ("" if of["relative"] in (None, 1) else f" ({of['relative']:.2g} times)")
            lines.append(f"| {package} {of['version']} | {' | '.join(cells)} | {speed} | {of['memory, MiB']} |")
    return "\n".join(lines)


def _cell(share: float | None) -> str:
    return "-" if share is None else f"{share:.1f}"


def prompts(paths: Sequence[Path]) -> list[LabelledRow]:
    """The rows of files that are labelled for prompts; without files, the clear-cut ones."""
    from guardreasoner_sdk.evaluation.benchmarks import read_file
    from guardreasoner_sdk.evaluation.clear_cut import clear_cut_rows

    rows = [row for path in paths for row in read_file(path)] if paths else clear_cut_rows()
    return [row for row in rows if "prompt_harmfulness" in row.labels]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, nargs="*", default=[], help="files that 'guardreasoner evaluate' reads")
    parser.add_argument("--rounds", type=int, default=3, help="how often each filter is measured (default: 3)")
    parser.add_argument("--output", type=Path, help="a JSON file for the figures")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        package, texts, output = given.child
        child(package, Path(texts), Path(output))
        return
    rows = prompts(given.rows)
    guards = measure(rows, given.rounds)
    print(table(guards))
    if given.output:
        record = {
            "rows": len(rows),
            "of": [path.name for path in given.rows] or "clear-cut texts of the package",
            "python": platform.python_version(),
            "machine": platform.platform(),
            "rounds": given.rounds,
            "guards": guards,
        }
        given.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
