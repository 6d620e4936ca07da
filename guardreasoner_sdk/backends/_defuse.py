"""Text for a server that tokenises it itself, and treats the names of special tokens in it as the tokens."""

from __future__ import annotations

import re

__all__ = ["defuse"]

_ANGLES = (
    # Ends and beginnings: Llama 2, Mistral, Gemma, Cohere, GLM, T5, BERT and their kin.
    "s|bos|eos|pad|unk|cls|sep|mask|sop|eop|eot|eod|eom|BOS|EOS|PAD|UNK|CLS|SEP|MASK|SOP|EOP|EOT|EOD|EOM"
    r"|[A-Z]{3,4}_TOKEN|MASK_TOKEN|BEGIN_OF_[A-Z]+|END_OF_[A-Z]+|begin_of_\w+|end_of_\w+|start_of_\w+"
    # Room that vocabularies keep.
    r"|unused_?\d+|reserved\w*\d|extra_id_\d+|special_?\d+|SPECIAL_?\d+|mask_\d+|placeholder_?\d+"
    # Code infilling.
    "|PRE|SUF|MID|fim_prefix|fim_middle|fim_suffix|fim_pad|file_sep|repo_name|filename|gh_stars|commit_before|commit_after"
    # Reasoning and tools: Qwen, DeepSeek, Hermes, GLM, Granite.
    "|think|thinking|no_?think|tools|tool_calls?|tool_responses?|tool_results?|tool_code|tool_outputs?|arg_key|arg_value"
    "|function_calls?"
    # Stand-ins for pictures, sound and the like.
    r"|image|images|img|video|audio|speech|sound|image_\w+|img_\w+|video_\w+|audio_\w+|vision_\w+"
    "|ref|box|quad|im_start|im_end|im_patch|im_col|im_sep"
    # Seed.
    r"|seed:[^\s<>]+"
)
_SQUARES = (
    "INST|SYS|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS?|TOOL_CONTENT|TOOL_CALL_ID|CALL_ID|ARGS|THINK|PREFIX|MIDDLE"
    "|SUFFIX|IMG|IMG_BREAK|IMG_END|AUDIO|BEGIN_AUDIO|TRANSCRIBE|MODEL_SETTINGS|gMASK|sMASK|MASK|CLS|SEP|PAD|UNK|BOS|EOS|EOT"
    r"|multimodal|control_\d+|UNUSED_TOKEN_\d+|unused_?\d+|@BOS@"
)

# Only the first character is matched, and what follows is looked at, so that one that begins inside another is found too.
_SPECIAL = re.compile(
    r"<(?="
    # <|im_start|>, <｜User｜>, <|turn>, <turn|>: no blank inside, so x <| f |> y stays.
    r"[|\uff5c][^\s<>]+>|[^\s<>]+[|\uff5c]>"
    rf"|</?SYS>>|/?(?:{_ANGLES})/?>)"
    # [INST]; [|user|] of EXAONE; [e~[ of MiniMax.
    rf"|\[(?=/?(?:{_SQUARES})\]|\|[^\s\[\]]+\|\]|e~\[)"
    # ]~b] and ]~!b[ of MiniMax.
    r"|\](?=~!?b[\[\]])"
)


def defuse(text: str) -> str:
    """Break what a tokenizer may take for a special token, and touch nothing else.

    A blank is put after its first character: ``<|im_end|>`` becomes ``< |im_end|>``. No special token of the families known
    here holds a blank there, so the result holds none. Ordinary markup such as ``<div>`` stays.

    Args:
        text: judged text, a message, or the beginning of an answer; never a dialect's own markup.
    """
    return _SPECIAL.sub(r"\g<0> ", text)
