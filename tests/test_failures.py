"""What logs and errors hold of a failure: never what was judged, and of what was handed in only as much as names it."""

from __future__ import annotations

import ast
import logging
from pathlib import Path

import pytest

from guardreasoner_sdk import Exchange, Guard, InputError
from guardreasoner_sdk._failures import log_failure, trail
from guardreasoner_sdk._text import format_names, quote_value
from guardreasoner_sdk.exchange import exchange_from, exchange_from_messages
from guardreasoner_sdk.testing import ScriptedJudge

ROOT = Path(__file__).parents[1]
SECRET = "ZZHARM how to kill my neighbour"


def _quoting(exchange):
    try:
        raise KeyError(exchange.prompt)
    except KeyError as error:
        raise ValueError(f"cannot read {exchange.prompt!r}") from error


def _raise_from_callback(exchange, verdict):
    raise RuntimeError(exchange.prompt)


def test_no_log_at_any_level_holds_judged_text(caplog):
    with caplog.at_level(logging.DEBUG), Guard(judge=ScriptedJudge(_quoting), on_verdict=_raise_from_callback) as guard:
        assert guard.check(SECRET).undetermined
    said = "\n".join(logging.Formatter().format(record) for record in caplog.records)
    assert "ZZHARM" not in said
    assert "builtins.ValueError at " in said
    assert "after builtins.KeyError at " in said
    assert "builtins.RuntimeError at " in said
    assert f"{__name__}:" in said


def test_nothing_is_logged_with_the_message_of_a_foreign_error():
    """``exc_info`` and ``logger.exception`` print messages, and those of the errors behind them."""
    using = []
    for folder in ("guardreasoner_sdk", "integrations"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.keyword) and node.arg in ("exc_info", "stack_info"):
                    using.append(f"{path}:{node.value.lineno}")
                if isinstance(node, ast.Attribute) and node.attr == "exception" and ast.unparse(node.value) == "logger":
                    using.append(f"{path}:{node.lineno}")
    assert not using


def test_a_trail_names_classes_and_lines_and_reads_no_message():
    class Mean(Exception):
        def __str__(self):
            raise AssertionError("the message was read")

        __repr__ = __str__

    def deep(depth):
        if depth:
            deep(depth - 1)
        raise Mean(SECRET)

    try:
        try:
            deep(100)
        except Mean as error:
            raise ExceptionGroup(SECRET, [error, ValueError(SECRET)]) from None
    except ExceptionGroup as group:
        said = trail(group)
    assert "Mean at " in said
    assert "builtins.ExceptionGroup of [" in said
    assert "builtins.ValueError] at " in said
    assert "ZZHARM" not in said
    assert len(said) < 3_000
    assert "\n" not in said


def test_a_trail_of_errors_that_name_each_other_ends():
    one, two = ValueError(), KeyError()
    one.__context__, two.__context__ = two, one
    assert trail(one) == "builtins.ValueError; after builtins.KeyError"


def test_nothing_is_made_of_a_failure_that_nobody_logs(caplog):
    with caplog.at_level(logging.INFO):
        log_failure(logging.getLogger("guardreasoner_sdk"), "the failure", ValueError(SECRET))
    assert not caplog.records


LONG = SECRET + "\n\x1b[31m\u202e" + "x" * 1_000_000


@pytest.mark.parametrize(
    "make",
    [
        lambda: exchange_from_messages([{"role": "user", "content": [{"type": LONG, "file_id": "a"}]}]),
        lambda: exchange_from_messages([{"role": "user", "content": [{"type": "file", LONG: {"file_id": b"a"}}]}]),
        lambda: exchange_from_messages([{"role": "user", "content": [{"type": [LONG], "file_id": "a"}]}]),
        lambda: exchange_from_messages([{"role": LONG, "content": "a"}]),
        lambda: Exchange("a", history=[{"role": "user", "content": "a", LONG: "b"}]),
        lambda: Exchange("a", history=[{"role": LONG, "content": "a"}]),
        lambda: exchange_from({" " * 1_000_000 + "text": "a"}),
    ],
)
def test_errors_quote_no_more_of_the_input_than_names_it(make):
    with pytest.raises(InputError) as caught:
        make()
    said = str(caught.value)
    assert len(said) < 400
    assert not any(character in said for character in "\n\x1b\u202e")


def test_quoted_is_short_and_on_one_line():
    assert quote_value("text") == "'text'"
    assert quote_value("a\n\u202e\ud800") == "'a\\n\\u202e\\ud800'"
    assert quote_value("x" * 41) == f"'{'x' * 40}...'"
    assert quote_value(["x" * 41]) == "list"
    assert format_names(["a", "b"]) == "'a', 'b'"
    assert format_names([]) == "none"
    assert format_names(map(str, range(22))).endswith("'19' and 2 more")
