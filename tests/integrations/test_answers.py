"""Answers of servers that number their parts in ways of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from guardreasoner_integrations._answer_texts import ResponseEvents, anthropic_texts, chat_texts


@pytest.mark.parametrize("odd", [[], [1], {}, {"a": 1}, 1.5, None, "x", True], ids=repr)
def test_whatever_stands_where_a_number_should_takes_no_text_away(odd: Any) -> None:
    chat: Mapping[str, Any] = {
        "choices": [
            {"index": odd, "delta": {"content": "said", "tool_calls": [{"index": odd, "function": {"arguments": "done"}}]}}
        ]
    }
    response = {
        "type": "response.output_text.delta",
        "output_index": odd,
        "content_index": odd,
        "summary_index": odd,
        "delta": "said",
    }
    anthropic = {"type": "content_block_delta", "index": odd, "delta": {"type": odd, "text": "said"}}
    assert sorted(chat_texts(chat, "raise").values()) == ["done", "said"]
    assert "".join(ResponseEvents("raise").texts(response).values()) == "said"
    assert "said" in "".join(anthropic_texts(anthropic, "raise").values())
