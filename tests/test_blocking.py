"""One rule for what is judged and what follows a block, whoever wraps an application."""

from __future__ import annotations

from typing import Any

import pytest

from guardreasoner_sdk import (
    BlockedError,
    BlockRule,
    ConfigurationError,
    Guard,
    InputError,
    Policy,
    StreamOptions,
    UndeterminedError,
)
from guardreasoner_sdk.testing import ScriptedJudge, judgement

SCRIPT = {"bad": judgement("harmful"), "unsure": judgement("undetermined"), "good": judgement()}


def guard_with(**policy: Any) -> Guard:
    return Guard(judge=ScriptedJudge(SCRIPT), policy=Policy(**policy))


def test_what_is_not_given_is_as_the_policy_says() -> None:
    rule = BlockRule(guard_with(block={"refusal"}, on_block="message", message="No."))
    assert (rule.on_block, rule.message, rule.check_input, rule.check_output) == ("message", "No.", False, True)
    rule = BlockRule(guard_with(block={"harmful_prompt"}), check_output=True, message="Never.")
    assert (rule.on_block, rule.message, rule.check_input, rule.check_output) == ("raise", "Never.", True, True)


def test_a_block_raises_or_is_replaced() -> None:
    guard = guard_with(message="No.")
    verdict = guard.check("bad")
    with pytest.raises(BlockedError):
        BlockRule(guard).replacement(verdict)
    assert BlockRule(guard, "message").replacement(verdict) == "No."
    assert BlockRule(guard, lambda verdict: verdict.action).replacement(verdict) == "block"


def test_a_policy_that_insists_raises_whatever_else_is_said() -> None:
    guard = guard_with(on_undetermined="raise")
    [verdict] = guard.check_many(["unsure"])
    rule = BlockRule(guard, "message")
    assert rule.raises(verdict)
    with pytest.raises(UndeterminedError):
        rule.replacement(verdict)
    assert rule.message_for(UndeterminedError(verdict)) is None


def test_a_message_stands_for_a_verdict_and_for_no_other_error() -> None:
    guard = guard_with(message="No.")
    error = BlockedError(guard.check("bad"))
    assert BlockRule(guard, "message").message_for(error) == "No."
    assert BlockRule(guard, "raise").message_for(error) is None
    assert BlockRule(guard, "message").message_for(InputError("prompt", "is empty", "pass a text")) is None


def test_a_new_policy_holds_for_the_message_and_what_must_be_raised() -> None:
    guard = guard_with(message="No.")
    rule = BlockRule(guard, "message")
    guard.policy = Policy(message="Never.")
    assert rule.replacement(guard.check("bad")) == "Never."


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"on_block": "explode"}, "on_block: must be 'raise', 'message' or a function, not 'explode'"),
        ({"on_block": print, "functions": False}, "on_block: must be 'raise' or 'message', not <built-in function print>"),
        ({"check_input": "yes"}, "check_input: must be True or False, not 'yes'"),
        ({"check_output": 1}, "check_output: must be True or False, not 1"),
        ({"message": b"No."}, "message: must be a str, not bytes"),
    ],
)
def test_options_that_cannot_work_are_named(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        BlockRule(guard_with(), **options)
    assert str(caught.value) == told


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"mode": "stop"}, "mode: must be 'hold' or 'pass', not 'stop'"),
        ({"window": 0}, "window: must be a number of characters from 1, not 0"),
        ({"window": True}, "window: must be a number of characters from 1, not True"),
        ({"timeout": 0}, "timeout: must be seconds above 0, or None for no limit, not 0"),
        ({"timeout": float("inf")}, "timeout: must be seconds above 0, or None for no limit, not inf"),
    ],
)
def test_stream_options_are_looked_at_where_they_are_made(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        StreamOptions(**options)
    assert str(caught.value) == told
