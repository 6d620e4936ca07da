"""A teacher's key goes where it belongs, is asked for by name, and stands in no file and no message."""

from __future__ import annotations

import json

import pytest
import typer
from pydantic import ValidationError

from guardreasoner_sdk.errors import ConfigurationError
from guardreasoner_training.recipe import load_recipe, override
from guardreasoner_training.recipe.settings import Recipe, SynthesisSettings
from guardreasoner_training.synthesis import synthesize
from samples import quiet
from teachers import act, row_in, rows_in, settings, teaching

SECRET = "geheim"


@pytest.mark.parametrize("status", [401, 403])
def test_a_server_that_wants_a_key_is_told_where_the_key_is(tmp_path, monkeypatch, status):
    monkeypatch.setenv("OPENAI_API_KEY", f"sk-{SECRET}")
    monkeypatch.setenv("TEACHER_KEY", f"of-the-teacher-{SECRET}")
    rows_in(tmp_path / "rows.jsonl", 2)
    with teaching() as server:
        server.answer = lambda body: (status, {"error": {"message": f"no {SECRET}", "code": None, "type": "t"}}, {})
        host = server.url.split("/")[2]
        fix = f"(HTTP {status}); set it to the name of the environment variable that holds this server's key"
        for variable, problem in (
            ("OPENAI_API_KEY", "wants a key, and none was sent: OPENAI_API_KEY goes to OpenAI alone"),
            ("TEACHER_KEY", "refuses this key"),
        ):
            with pytest.raises(ConfigurationError) as caught:
                synthesize(tmp_path / "rows.jsonl", tmp_path / "out", settings(server, api_key_env=variable), report=quiet)
            assert str(caught.value) == f"synthesize.api_key_env: the server at {host} {problem} {fix}"
        assert "sk-" not in str(server.headers)


def test_the_content_filter_of_a_server_is_no_matter_of_keys(tmp_path):
    rows_in(tmp_path / "rows.jsonl", 4)
    filtered = {"error": {"message": "no", "code": "content_filter", "type": "t"}}
    with teaching() as server:
        server.answer = lambda body: (403, filtered, {}) if row_in(body) == "r0001" else act("good", body)
        figures = synthesize(tmp_path / "rows.jsonl", tmp_path / "out", settings(server), report=quiet)
    assert figures["rejected_by_reason"] == {"filtered": 1}


@pytest.mark.parametrize("words", [("finetune",), ("train", "synthesize")])
def test_the_help_says_which_variable_holds_the_key(words):
    from guardreasoner_sdk.cli.app import app

    command = typer.main.get_command(app)
    for word in words:
        command = command.get_command(typer.Context(command), word)
    [option] = [option for option in command.params if option.name == "teacher"]
    assert "its key: the variable named by --set synthesize.api_key_env" in option.help


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("base_url", f"https://user:{SECRET}@host/v1"),
        ("base_url", f"https://{SECRET}@host/v1"),
        ("base_url", f"http:/user:{SECRET}@host"),
        ("base_url", f"http://user:{SECRET}@[host/v1"),
        ("base_url", f"https://host/v1?api-key={SECRET}"),
        ("base_url", [f"https://user:{SECRET}@host/v1"]),
        ("base_url", ""),
        ("api_key_env", f"sk-{SECRET}"),
        ("api_key_env", f"{SECRET}\n"),
        ("api_key_env", f"1{SECRET}"),
        ("api_key_env", [SECRET]),
        ("api_key_env", ""),
    ],
)
def test_a_secret_is_refused_and_not_repeated(tmp_path, name, value):
    told = []
    for make in (lambda: SynthesisSettings(**{name: value}), lambda: Recipe(name="r", base="b", synthesize={name: value})):
        with pytest.raises(ValidationError) as caught:
            make()
        told += [str(caught.value), repr(caught.value.errors())]
    with pytest.raises(ConfigurationError) as refused:
        override(load_recipe("laptop"), {f"synthesize.{name}": value})
    told.append(str(refused.value))
    (tmp_path / "own.toml").write_text(f'extends = "laptop"\n[synthesize]\n{name} = {json.dumps(value)}\n')
    with pytest.raises(ConfigurationError) as refused:
        load_recipe(tmp_path / "own.toml")
    told.append(str(refused.value))
    assert f"synthesize.{name}: must be " in told[4]
    assert "api_key_env" in told[4]
    assert all(SECRET not in one for one in told)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("base_url", None),
        ("base_url", "http://localhost:8000/v1"),
        ("base_url", "https://[::1]:8000/v1"),
        ("api_key_env", "OPENAI_API_KEY"),
        ("api_key_env", "_my_key_2"),
    ],
)
def test_addresses_and_names_of_variables_stay_as_they_are(name, value):
    recipe = override(load_recipe("laptop"), {"synthesize.model": "t", f"synthesize.{name}": value})
    assert getattr(recipe.synthesize, name) == value
