"""A recipe as a TOML file, so that a command in another process reads the very settings that this one has."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from guardreasoner_training.recipe import Recipe

__all__ = ["recipe_text"]


def recipe_text(recipe: Recipe) -> str:
    """The recipe as TOML. What is not set is not there."""
    return "\n".join(_table(recipe.model_dump(mode="json"), ())) + "\n"


def _table(values: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    if path:
        yield from ("", f"[{'.'.join(map(_key, path))}]")
    inner = {key: value for key, value in values.items() if isinstance(value, Mapping)}
    for key, value in values.items():
        if value is not None and key not in inner:
            yield f"{_key(key)} = {_value(value)}"
    for key, value in inner.items():
        yield from _table(value, (*path, key))


def _value(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case list():
            return f"[{', '.join(_value(one) for one in value)}]"
        case Mapping():
            return f"{{{', '.join(f'{_key(key)} = {_value(one)}' for key, one in value.items() if one is not None)}}}"
        case _:
            return repr(value)


def _key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else json.dumps(key, ensure_ascii=False)
