"""Text for servers that tokenise it themselves."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costs import assert_in_proportion
from guardreasoner_sdk.backends._defuse import defuse
from guardreasoner_sdk.dialects.guardreasoner import neutralise
from public_data import public_data

NAMES = """
<|begin_of_text|> <|end_of_text|> <|eot_id|> <|eom_id|> <|start_header_id|> <|end_header_id|> <|python_tag|> <|image|>
<|reserved_special_token_0|> <|finetune_right_pad_id|> <|begin_of_image|> <|header_start|> <|header_end|> <|eot|>
<s> </s> <unk> <pad> <mask> [INST] [/INST] <<SYS>> <</SYS>> [SYSTEM_PROMPT] [/SYSTEM_PROMPT] [TOOL_CALLS] [AVAILABLE_TOOLS]
[/AVAILABLE_TOOLS] [TOOL_RESULTS] [/TOOL_RESULTS] [IMG] [IMG_BREAK] [IMG_END] [THINK] [/THINK] [ARGS] <SPECIAL_20>
<bos> <eos> <start_of_turn> <end_of_turn> <unused0> <unused99> <start_of_image> <image_soft_token> [multimodal] <|turn> <turn|>
<|im_start|> <|im_end|> <|endoftext|> <|vision_start|> <|object_ref_start|> <tool_call> </tool_call> <tool_response> <think>
</think> <|fim_prefix|> <|file_sep|> <fim_prefix> <file_sep> <｜begin▁of▁sentence｜> <｜end▁of▁sentence｜> <｜User｜> <｜Assistant｜>
<｜tool▁calls▁begin｜> <|EOT|> <|system|> <|user|> <|assistant|> <|end|> <|placeholder1|> <|startoftext|> <|endofprompt|> <|start|>
<|message|> <|channel|> <|return|> <|call|> <BOS_TOKEN> <EOS_TOKEN> <PAD> <UNK> <CLS> <|START_OF_TURN_TOKEN|> <|END_OF_TURN_TOKEN|>
<|CHATBOT_TOKEN|> [gMASK] <sop> <eop> <|observation|> <reserved_106> <extra_id_0> [CLS] [SEP] [PAD] [UNK] [MASK] [|user|]
[|assistant|] [|endofturn|] <seed:bos> <seed:think> [BOS] [EOS] [EOT] [UNUSED_TOKEN_145] <|separator|> <image> <video> <audio>
<|start_of_role|> <|end_of_role|> <PRE> <SUF> <MID> <EOT> ]~b] ]~!b[ [e~[
"""
SPECIAL = NAMES.split()

ORDINARY = (
    "<div class='s'><span>1 < 2</span></div><br/>",
    "<html><body><p>text</p><script>if (a <b && c> d) {}</script></body></html>",
    "x |> f <| y; List<int|string> a[i] = b[INST_SIZE]; [1] [x] [ INST ] (INST) [Name] [REDACTED]",
    "std::vector<std::string> v; <stdio.h> #include <s.h> a<s && s>b",
    "I think <3 and :-] or [-: are fine, e.g. <user@example.org>",
)

FRAGMENTS = sorted({part for token in SPECIAL for part in (token, token[:1], token[1:], token[:-1], token[-2:], token[:3])})


@pytest.mark.parametrize("token", SPECIAL)
def test_the_special_tokens_of_every_family_are_broken_by_one_blank(token: str) -> None:
    assert defuse(f"a{token}b") == f"a{token[0]} {token[1:]}b"


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert defuse(text) == text


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=4), st.sampled_from(" \n|<>[]/｜")), max_size=12).map(
        "".join
    )
)
def test_no_special_token_is_left_and_only_blanks_are_added(text: str) -> None:
    safe = defuse(text)
    assert not [token for token in SPECIAL if token in safe]
    assert defuse(safe) == safe
    assert re.sub(r"([<\[\]]) ", r"\1", safe) == re.sub(r"([<\[\]]) ", r"\1", text)


@pytest.mark.parametrize(
    ("before", "repeated"), [("", "<"), ("", "<|"), ("<", "a|"), ("", "[|a"), ("<image_", "a")], ids=lambda part: part or "-"
)
def test_a_long_text_of_openings_is_read_once(before: str, repeated: str) -> None:
    def work(times: int) -> None:
        text = before + repeated * times
        assert defuse(text) == text

    assert_in_proportion(work, 50_000)


def test_almost_no_benchmark_row_is_touched() -> None:
    rows = [row["input"] for path in public_data("benchmarks").glob("*.json") for row in json.loads(path.read_text("utf-8"))]
    turns = [re.fullmatch(r"Human user:\n(.*)\n\nAI assistant:\n(.*)\n\n", row, re.DOTALL) for row in rows]
    parts = [turn.groups() for turn in turns if turn is not None]
    assert len(parts) == len(rows) > 0
    broken = sum(any(defuse(part) != part for part in pair) for pair in parts)
    quoted = sum(any(neutralise(part) != part for part in pair) for pair in parts)
    print(f"{len(rows)} rows: special tokens broken in {broken}, forged lines quoted in {quoted}")
    # Seven answers to suffix attacks hold </s> and <reserved_958>, which are special tokens indeed.
    assert broken / len(rows) < 0.005
    assert quoted / len(rows) < 0.005
