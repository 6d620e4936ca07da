"""No regular expression of the packages costs the square of a text: each is tried on strings made out of its own parts."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import itertools
import pkgutil
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from re import _constants as ops  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from types import ModuleType
from typing import Any

import pytest

from costs import seconds

ROOT = Path(__file__).parents[1]
SOURCES = {
    "guardreasoner_sdk": ROOT / "guardreasoner_sdk",
    "guardreasoner_integrations": ROOT / "integrations" / "guardreasoner_integrations",
    "guardreasoner_training": ROOT / "training" / "guardreasoner_training",
}
ANCHORED = {"match", "fullmatch"}
METHODS = ANCHORED | {"search", "finditer", "findall", "sub", "subn", "split"}
REPEATS = (ops.MAX_REPEAT, ops.MIN_REPEAT, ops.POSSESSIVE_REPEAT)

# What a class of characters is asked for, and what every pattern meets.
SIGNS = " \n\t*\"'`#>|_-.:,;!?([{<)]}=/\\&@$+~^%"
ALPHABET = SIGNS + "a0Sé\u00a0\u2019\u201d\u4e2d\u3002\u200b\u0301\ud800"
LENGTHS = (32, 128, 512, 2048, 8192)
FLOOR = 0.008  # seconds of CPU below which nothing is said
MOST = 8.0  # times the CPU for four times the text; a square is 16


def modules() -> Iterator[ModuleType]:
    for name, folder in SOURCES.items():
        for found in pkgutil.walk_packages([str(folder)], f"{name}."):
            if found.name.rpartition(".")[2] == "__main__":
                continue
            try:
                yield importlib.import_module(found.name)
            except ImportError:  # an extra that is not installed here
                continue


def patterns_in(value: object, depth: int = 0) -> Iterator[re.Pattern[str]]:
    """The compiled patterns that a value holds, in whatever it holds them."""
    if isinstance(value, re.Pattern):
        yield value
    elif depth < 4:
        inside: Sequence[object] = ()
        if isinstance(value, dict):
            inside = [*value.keys(), *value.values()]
        elif isinstance(value, tuple | list | set | frozenset):
            inside = list(value)
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            inside = [getattr(value, field.name, None) for field in dataclasses.fields(value)]
        for one in inside:
            yield from patterns_in(one, depth + 1)


def collected() -> dict[tuple[str, str], list[re.Pattern[str]]]:
    """All patterns of the packages, by module and name."""
    found: dict[tuple[str, str], list[re.Pattern[str]]] = {}
    for module in modules():
        named = dict(vars(module))
        for value in vars(module).values():
            if isinstance(value, type) and value.__module__ == module.__name__:
                named |= vars(value)
        for name, value in named.items():
            if patterns := list(patterns_in(value)):
                found[module.__name__, name] = patterns
    return found


def sources() -> Iterator[tuple[str, Path, ast.Module]]:
    for name, folder in SOURCES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = [name, *path.relative_to(folder).with_suffix("").parts]
            yield ".".join(part for part in parts if part != "__init__"), path, ast.parse(path.read_text("utf-8"))


def root(node: ast.AST) -> str | None:
    """The name that an expression begins with: ``_WORDS`` of ``_WORDS[task]``, ``_SPECIAL`` of ``self._SPECIAL``."""
    while isinstance(node, ast.Subscript | ast.Call):
        node = node.value if isinstance(node, ast.Subscript) else node.func
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else None


def uses(tree: ast.Module, names: set[str]) -> Iterator[tuple[str, str]]:
    """How a module uses the names: the method called on each, or "?" where it hands one on."""
    stands_for = {name: {name} for name in names}
    for node in ast.walk(tree):
        if isinstance(node, ast.For | ast.comprehension):
            within = {one.id for one in ast.walk(node.iter) if isinstance(one, ast.Name)} & names
            for one in ast.walk(node.target):
                if within and isinstance(one, ast.Name):
                    stands_for.setdefault(one.id, set()).update(within)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in METHODS:
            for name in stands_for.get(root(node.value) or "", ()):
                yield name, node.attr
        if isinstance(node, ast.Call):
            for argument in [*node.args, *(one.value for one in node.keywords)]:
                if isinstance(argument, ast.Name | ast.Subscript) and (name := root(argument)) in names:
                    yield name, "?"  # type: ignore[misc]  # it is one of the names


def methods(found: dict[tuple[str, str], list[re.Pattern[str]]]) -> dict[int, set[str]]:
    """For each pattern, by its identity, how it is used, wherever it is and under whatever name."""
    used: dict[tuple[str, str], set[str]] = {key: set() for key in found}
    for module, _, tree in sources():
        here = {name: (module, name) for of, name in found if of == module}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    if (node.module, alias.name) in found:
                        here[alias.asname or alias.name] = (node.module, alias.name)
        for name, method in uses(tree, set(here)):
            used[here[name]].add(method)
    of: dict[int, set[str]] = {}
    for key, patterns in found.items():
        for pattern in patterns:
            of.setdefault(id(pattern), set()).update(used[key])
    return of


# --- strings made of a pattern


def accepts(items: Sequence[Any], character: str) -> bool:
    """Whether a class of characters holds one."""
    negated = any(op is ops.NEGATE for op, _ in items)
    for op, value in items:
        if op is ops.LITERAL:
            held = ord(character) == value
        elif op is ops.RANGE:
            held = value[0] <= ord(character) <= value[1]
        elif op is ops.CATEGORY:
            name = str(value).rpartition("_")[2]
            held = re.match({"SPACE": r"\s", "DIGIT": r"\d", "WORD": r"\w"}[name], character) is not None
            held ^= "NOT" in str(value)
        else:
            held = False
        if held:
            return not negated
    return negated


def characters(op: Any, value: Any) -> list[str]:
    """Characters of every kind that an item takes."""
    if op is ops.LITERAL:
        return [chr(value)]
    if op is ops.NOT_LITERAL:
        return [one for one in ALPHABET if ord(one) != value]
    if op is ops.ANY:
        return ["a", " ", "*"]
    own = [chr(given) for kind, given in value if kind is ops.LITERAL]
    own += [chr(end) for kind, given in value if kind is ops.RANGE for end in given]
    return list(dict.fromkeys(one for one in (*own, *ALPHABET) if accepts(value, one)))


def example(items: Any) -> str:
    """A short string that a part of a pattern takes, or nearly."""
    made = ""
    for op, value in items:
        if op in (ops.LITERAL, ops.NOT_LITERAL, ops.ANY, ops.IN):
            made += next(iter(characters(op, value)), "")
        elif op is ops.BRANCH:
            made += example(value[1][0])
        elif op is ops.SUBPATTERN:
            made += example(value[3])
        elif op in REPEATS:
            made += example(value[2]) * min(value[0], 20)
        elif op is ops.ATOMIC_GROUP:
            made += example(value)
        elif op is ops.ASSERT and value[0] > 0:
            made += ""
    return made


def units(items: Any) -> list[str]:
    """What a repeated part may be, once: every kind of character, every alternative."""
    if len(items) == 1:
        op, value = items[0]
        if op in (ops.LITERAL, ops.NOT_LITERAL, ops.ANY, ops.IN):
            return characters(op, value)
        if op is ops.BRANCH:
            return [unit for branch in value[1] for unit in units(branch)]
        if op is ops.SUBPATTERN:
            return units(value[3])
    return [example(items)]


def pumped(items: Any, before: str = "") -> Iterator[tuple[str, str]]:
    """What stands before each repeated part, and what the part repeats."""
    listed = list(items)
    for place, (op, value) in enumerate(listed):
        if op in REPEATS:
            low, high, inner = value
            if high is ops.MAXREPEAT or high > 20:
                rest = example(listed[place + 1 : place + 3])
                for unit in units(inner):
                    yield before, unit
                    if rest:
                        yield before, unit + rest
            yield from pumped(inner, before + example(inner) * min(low, 3))
        elif op is ops.BRANCH:
            for branch in value[1]:
                yield from pumped(branch, before)
                # What follows an alternative is reached through each of them.
                yield from itertools.islice(pumped(listed[place + 1 :], before + example(branch)), 40)
        elif op is ops.SUBPATTERN:
            yield from pumped(value[3], before)
            if len(value[3]) == 1 and value[3][0][0] is ops.BRANCH:
                for branch in value[3][0][1][1]:
                    yield from itertools.islice(pumped(listed[place + 1 :], before + example(branch)), 40)
        elif op is ops.ASSERT or op is ops.ASSERT_NOT:
            yield from pumped(value[1], before)
        elif op is ops.ATOMIC_GROUP:
            yield from pumped(value, before)
        before += example([(op, value)])


def hostile(pattern: re.Pattern[Any]) -> Iterator[Callable[[int], str]]:
    """Ways to write a string of a given length."""
    text = pattern.pattern if isinstance(pattern.pattern, str) else pattern.pattern.decode("latin-1")
    parsed = parser.parse(text, pattern.flags & ~(re.UNICODE if not isinstance(pattern.pattern, str) else 0))
    seen: set[tuple[str, str, str]] = set()
    whole = example(parsed)
    pairs = {*pumped(parsed), *(("", sign) for sign in ALPHABET), ("", whole), ("", whole[:-1])}
    pairs |= {("", one + other) for one, other in itertools.permutations(" \n*\"'a0.", 2)}
    for before, unit in sorted(pairs):
        for after in ("", "\x01", "a", "*\x01"):
            if unit and (before, unit, after) not in seen:
                seen.add((before, unit, after))
                yield lambda n, b=before, u=unit, a=after: b + u * (n // len(u)) + a  # type: ignore[misc]
        if before and unit:
            yield lambda n, u=before + unit * 3: u * (n // len(u))  # type: ignore[misc]


def slow(pattern: re.Pattern[Any], used: set[str]) -> str | None:
    """A string for which a pattern takes more than its share, by its first and last characters."""
    runs: list[Callable[[Any], object]] = []
    if used & ANCHORED:
        runs += [getattr(pattern, name) for name in sorted(used & ANCHORED)]
    if not used or not used <= ANCHORED:
        runs.append(lambda text: sum(1 for _ in pattern.finditer(text)))
    for write in hostile(pattern):
        for run in runs:
            shorter: Any = None
            for length in LENGTHS:
                text: Any = write(length)
                if isinstance(pattern.pattern, bytes):
                    text = text.encode("latin-1", "ignore")
                taken = seconds(partial(run, text), tries=1)
                if taken >= FLOOR and (taken := seconds(partial(run, text))) >= FLOOR:
                    before = 0.0 if shorter is None else seconds(partial(run, shorter))
                    if taken >= MOST * before:
                        return f"{text[:24]!r}…{text[-4:]!r} at {length}: {taken:.3f} s, a quarter of it {before:.4f} s"
                    break
                if length == LENGTHS[-2] and taken < FLOOR / 64:
                    break  # not even a cube reaches the floor in the last step
                shorter = text
    return None


# --- the tests


@pytest.fixture(scope="module")
def all_patterns() -> dict[tuple[str, str], list[re.Pattern[str]]]:
    return collected()


def test_every_pattern_takes_time_in_proportion_to_the_text(all_patterns: dict[tuple[str, str], list[re.Pattern[str]]]) -> None:
    how = methods(all_patterns)
    tried: dict[tuple[Any, int, frozenset[str]], str] = {}
    for key, patterns in all_patterns.items():
        for pattern in patterns:
            used = how[id(pattern)]
            same = (pattern.pattern, pattern.flags, frozenset(used))
            if same not in tried:
                found = slow(pattern, used)
                tried[same] = f"{'.'.join(key)}: {found}" if found else ""
    assert not [line for line in tried.values() if line]
    assert len(tried) > 80, "the patterns are no longer found where they are looked for"


@pytest.mark.parametrize(
    ("pattern", "used"),
    [
        (r"\s+(?=(?:and|or)\b)", {"finditer"}),
        (r"(?:\b(?:is|are)|:)[ \t*_]+(?:(?:an?|not)[ \t]+){0,4}[*_\"'`]*harmful\b", {"finditer"}),
        (r"(.*[A-Za-z].*)'(7|\$)([!.,']*)", {"fullmatch"}),
        (r"[ab]*[ac]*d", {"match"}),
        (r"x*y", set()),
    ],
)
def test_a_pattern_that_costs_the_square_is_found(pattern: str, used: set[str]) -> None:
    assert slow(re.compile(pattern), used)


@pytest.mark.parametrize(("pattern", "used"), [(r"x*y", {"match"}), (r"(?<!x)x*+y", {"search"}), (r"[a-z]+", {"finditer"})])
def test_a_pattern_that_does_not_is_left_alone(pattern: str, used: set[str]) -> None:
    assert not slow(re.compile(pattern), used)


def test_no_pattern_hides_from_that_inside_a_call() -> None:
    """``re.search("...", text)`` and a ``re.compile("...")`` in a function are patterns that nobody finds and tries."""
    hidden = []
    for _, path, tree in sources():
        inside = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)]
        in_functions = {id(node) for function in inside for node in ast.walk(function)}
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or not node.args:
                continue
            if not (isinstance(node.func.value, ast.Name) and node.func.value.id == "re"):
                continue
            literal = all(not isinstance(one, ast.Name | ast.Call | ast.Attribute) for one in ast.walk(node.args[0]))
            if node.func.attr in METHODS or (node.func.attr == "compile" and literal and id(node) in in_functions):
                hidden.append(f"{path.relative_to(ROOT)}:{node.lineno}: re.{node.func.attr}")
    assert not hidden
