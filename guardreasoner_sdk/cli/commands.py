"""Commands that other packages bring: entry points of the group ``guardreasoner.commands``, each of them a ``typer.Typer``."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from importlib.metadata import EntryPoint, PackageNotFoundError, distribution, entry_points
from pathlib import Path
from typing import Any

from typer.core import TyperGroup
from typer.main import get_group

from guardreasoner_sdk.cli.terminal import note

__all__ = ["COMMANDS", "WithOthers"]

COMMANDS = "guardreasoner.commands"
_DISTRIBUTION = "guardreasoner-sdk"
_PROJECT = Path(__file__).parents[2] / "pyproject.toml"


class WithOthers(TyperGroup):
    """The command line's own commands, and behind them those of other packages, which cannot take the name of an own one.

    They are looked for where none of the own ones is meant, package by package: nobody who checks a prompt waits for them.
    """

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of a name; None where there is none."""
        for _ in self._growing(ctx):
            if cmd_name in self.commands:
                break
        return super().get_command(ctx, cmd_name)

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of all commands, in the order of the help."""
        for _ in self._growing(ctx):
            pass
        return super().list_commands(ctx)

    def _growing(self, ctx: Any) -> Iterator[None]:
        """Add the commands of one package after the other."""
        yield
        for entry in _declared():
            try:
                for name, command in get_group(entry.load()).commands.items():
                    self.commands.setdefault(name, command)
            except Exception as error:
                # Whatever a foreign module does when it is imported, others work. A shell that completes hears none of it.
                if not ctx.resilient_parsing:
                    note(f"the commands of {entry.value} cannot be loaded: {type(error).__name__}: {error}")
            yield


def _declared() -> Iterator[EntryPoint]:
    """What is declared: by this distribution, then, where one goes on asking, by the others in the order of ``sys.path``."""
    yield from _own()
    for entry in entry_points(group=COMMANDS):
        if entry.dist is None or entry.dist.name != _DISTRIBUTION:
            yield entry


def _own() -> list[EntryPoint]:
    """What this distribution declares. In a checkout its pyproject.toml says so: what is installed may be older, or nothing."""
    try:
        project = tomllib.loads(_PROJECT.read_text("utf-8"))["project"]
        if project["name"] == _DISTRIBUTION:
            return [EntryPoint(name, value, COMMANDS) for name, value in project["entry-points"][COMMANDS].items()]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        pass  # there is none, or it is something else's
    try:
        return list(distribution(_DISTRIBUTION).entry_points.select(group=COMMANDS))
    except PackageNotFoundError:
        return []
