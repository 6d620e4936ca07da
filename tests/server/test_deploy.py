"""The files that deploy the server fit the server."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from guardreasoner_sdk.catalog import MODELS
from guardreasoner_sdk.server import ServerSettings
from guardreasoner_sdk.server.contracts import CONTRACTS

yaml = pytest.importorskip("yaml", reason="the files are YAML: pip install pyyaml")

ROOT = Path(__file__).parents[2]
PREFIX = "GUARDREASONER_SERVER_"


def settings_named_in(text: str) -> set[str]:
    return {name.lower() for name in re.findall(rf"{PREFIX}([A-Z_]+)", text)}


@pytest.mark.parametrize("name", ["Dockerfile", "deploy/compose.yaml", "deploy/kubernetes.yaml", "docs/deploy.md"])
def test_the_settings_that_files_name_exist(name: str) -> None:
    assert settings_named_in((ROOT / name).read_text("utf-8")) <= set(ServerSettings.model_fields)


def test_the_page_names_every_setting_and_every_route() -> None:
    page = (ROOT / "docs/server.md").read_text("utf-8")
    named = {name.lower() for name in re.findall(r"`([A-Z_]+)`", page)}
    assert set(ServerSettings.model_fields) <= named
    for contract in CONTRACTS:
        for path in contract.paths:
            assert f"POST {path}`" in page


def test_the_pods_ask_what_there_is_and_may_do_little(embedded: Any) -> None:
    deployment, service = yaml.safe_load_all((ROOT / "deploy/kubernetes.yaml").read_text("utf-8"))
    spec = deployment["spec"]["template"]["spec"]
    [container] = spec["containers"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert embedded.get(container[probe]["httpGet"]["path"]).status_code in (200, 503)
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert spec["securityContext"]["runAsNonRoot"]
    wait = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert spec["terminationGracePeriodSeconds"] > wait + ServerSettings().drain
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels == service["spec"]["selector"]
    assert container["ports"][0]["containerPort"] == ServerSettings().port


def test_the_services_of_compose_run_a_model_that_there_is() -> None:
    services = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text("utf-8"))["services"]
    command = services["guard"]["command"]
    model = command[command.index("--model") + 1]
    assert MODELS[model].weights["vllm"] in services["vllm"]["command"]
    assert model in services["vllm"]["command"]
    assert services["guard"]["read_only"]


def test_the_image_has_every_folder_that_the_wheel_is_made_of() -> None:
    image = (ROOT / "Dockerfile").read_text("utf-8")
    for folder in ("guardreasoner_sdk", "integrations", "training", "pyproject.toml", "README.md", "LICENSE"):
        assert re.search(rf"^COPY .*{re.escape(folder)}", image, re.MULTILINE)
        assert f"!{folder}\n" in (ROOT / ".dockerignore").read_text("utf-8")
    assert re.search(r"^USER \d+:\d+$", image, re.MULTILINE)
