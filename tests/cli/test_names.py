"""Names misspelt on the command line or in the environment are answered with the one that was meant."""

import pytest


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["check", "hello", "--model", "guardreasoner8b"], "did you mean 'guardreasoner-8b'"),
        (["check", "hello", "--model", "embeded"], "did you mean 'embedded'?"),
        (["evaluate", "WildGardTest", "--output", "report"], "did you mean 'WildGuardTest'?"),
        (["evaluate", "toxicchats", "--output", "report"], "did you mean 'ToxicChat'?"),
    ],
)
def test_a_name_misspelt(run, arguments, meant, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 2
    assert meant in " ".join(result.stderr.split())


def test_a_setting_misspelt(run, monkeypatch):
    monkeypatch.setenv("GUARDREASONER_TIMOUT", "5")
    result = run("check", "hello")
    assert result.exit_code == 2
    assert "GUARDREASONER_TIMOUT: is no setting; did you mean GUARDREASONER_TIMEOUT?" in " ".join(result.stderr.split())
    assert "GUARDREASONER_TIMOUT=5  (no such setting)" in run("doctor").stdout


def test_variables_of_the_projects_own_are_settings_to_the_doctor(run, monkeypatch):
    monkeypatch.setenv("GUARDREASONER_VENV", "/tmp/venv")
    assert "GUARDREASONER_VENV=/tmp/venv\n" in run("doctor").stdout
