"""Recipes: every setting of a training, in one TOML file."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from guardreasoner_sdk.errors import ConfigurationError, MissingExtraError
from guardreasoner_training.recipe.settings import Recipe

__all__ = ["load_recipe", "override", "recipe_names", "recipe_text"]

_FOLDER = Path(__file__).parents[1] / "recipes"
_MOST_PARENTS = 8


def recipe_names() -> list[str]:
    """The names of the recipes that come with the package.

    Example:
        >>> from guardreasoner_training.recipe import recipe_names
        >>> "lora-1gpu" in recipe_names()
        True
    """
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def load_recipe(name_or_path: str | Path) -> Recipe:
    """Read a recipe.

    A recipe may say ``extends = "laptop"`` (a name, or a path beside its own): it then holds only what differs.

    Args:
        name_or_path: the name of one that comes with the package, or a TOML file.

    Raises:
        ConfigurationError: there is none, it is no TOML, or a setting is unknown or wrong; naming file and setting.

    Example:
        >>> from guardreasoner_training.recipe import load_recipe
        >>> load_recipe("guardreasoner-1b").hsdpo.effective_batch
        256
    """
    path = _find(name_or_path, Path())
    return _checked(_read(path, ()), str(path))


def recipe_text(recipe: Recipe) -> str:
    """The recipe as TOML, which :func:`load_recipe` reads. What is not set is not there.

    Raises:
        MissingExtraError: tomli-w is not installed.

    Example:
        >>> from guardreasoner_training.recipe import load_recipe, recipe_text
        >>> "[rsft]" in recipe_text(load_recipe("laptop"))
        True
    """
    try:
        import tomli_w
    except ImportError:
        raise MissingExtraError("finetune", "Recipes as TOML") from None
    return tomli_w.dumps(recipe.model_dump(mode="json", exclude_none=True))


def override(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """A recipe with some settings changed.

    Args:
        recipe: what is changed.
        changes: values by dotted name, ``{"rsft.epochs": 1}``. A string is read as TOML would (``"1e-4"``, ``"true"``,
            ``'["q8_0"]'``), and stands for itself where it is no TOML.

    Raises:
        ConfigurationError: a setting is unknown or its value is wrong.

    Example:
        >>> from guardreasoner_training.recipe import load_recipe, override
        >>> override(load_recipe("laptop"), {"rsft.epochs": 1, "hsdpo.beta": "0.05"}).hsdpo.beta
        0.05
    """
    values = recipe.model_dump(mode="python")
    for name, value in changes.items():
        *parents, last = name.split(".")
        place = values
        for parent in parents:
            if place.get(parent) is None:
                place[parent] = {}
            if not isinstance(place[parent], dict):
                raise ConfigurationError(f"{name}: {parent!r} has no settings of its own; set {parent} itself")
            place = place[parent]
        place[last] = _value(value) if isinstance(value, str) else value
    return _checked(values, f"recipe {recipe.name}")


def _find(name_or_path: str | Path, beside: Path) -> Path:
    path = _FOLDER / f"{name_or_path}.toml"
    if isinstance(name_or_path, str) and name_or_path in recipe_names():
        return path
    path = beside / name_or_path
    if path.is_file():
        return path
    known = ", ".join(recipe_names())
    raise ConfigurationError(f"recipe: {str(name_or_path)!r} is neither a file nor one of {known}; name one of them")


def _read(path: Path, before: tuple[Path, ...]) -> dict[str, Any]:
    if path in before or len(before) > _MOST_PARENTS:
        raise ConfigurationError(f"{path}: extends: leads back to itself; name another recipe")
    try:
        values = tomllib.loads(path.read_text("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: is not TOML ({error}); write for example: epochs = 3") from None
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    parent = values.pop("extends", None)
    if parent is None:
        return values
    if not isinstance(parent, str):
        raise ConfigurationError(f'{path}: extends: must be a name or a path; write for example: extends = "laptop"')
    return _merged(_read(_find(parent, path.parent), (*before, path)), values)


def _merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Tables are merged, everything else is replaced."""
    tables = {key: _merged(old[key], value) for key, value in new.items() if isinstance(value, dict) and _table(old.get(key))}
    return {**old, **new, **tables}


def _table(value: object) -> bool:
    return isinstance(value, dict)


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _checked(values: Mapping[str, Any], where: str) -> Recipe:
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        # "base" is a name or a table: what was meant is told by what was given, and not both.
        other = "str" if isinstance(values.get("base"), dict) else "ScratchSettings"
        found = [
            one for one in error.errors(include_url=False) if not (one["loc"][:1] == ("base",) and _alternative(one, other))
        ]
        problems = [_problem(values, one) for one in found]
    raise ConfigurationError(f"{where}: " + "; ".join(dict.fromkeys(problems)))


def _problem(values: Mapping[str, Any], found: Any) -> str:
    path = [str(part) for part in found["loc"] if not _is_type(str(part))]
    name = ".".join(path)
    match found["type"]:
        case "extra_forbidden":
            known = _known(path[:-1])
            near = difflib.get_close_matches(path[-1], known, 1)
            beside = ".".join([*path[:-1], near[0]]) if near else ""
            return f"{name}: is unknown; " + (f"did you mean {beside}?" if near else f"use one of {', '.join(known)}")
        case "missing":
            return f"{name}: is missing; give it a value"
        case "value_error":
            return ": ".join([*([name] if name else []), found["msg"].removeprefix("Value error, ")])
        case _:
            # What was put in the place of the teacher's settings may be its key.
            given = "" if name == "synthesize" else f", not {_shown(found['input'])}"
            return f"{name}: {found['msg']}{given}"


def _alternative(found: Any, name: str) -> bool:
    return any(name in str(part) and _is_type(str(part)) for part in found["loc"])


def _is_type(part: str) -> bool:
    """Whether a part of an error's path names one of several types allowed, and no setting."""
    return part in ("str", "ScratchSettings") or "[" in part


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:59] + "…"


def _known(path: list[str]) -> list[str]:
    """The settings that stand where a path leads."""
    model: type[BaseModel] = Recipe
    for part in path:
        field = model.model_fields.get(part)
        inner = next(_models(field.annotation), None) if field is not None else None
        if inner is not None:
            model = inner
    return list(model.model_fields)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from _models(inner)
