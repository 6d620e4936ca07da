"""The one table of what the places and blocks of messages hold, LangChain's and those of the providers."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = [
    "ARGUMENTS",
    "ASIDE",
    "AUDIO",
    "AUDIO_EVENTS",
    "BESIDE",
    "BINARY",
    "BLOCKS",
    "CALLS",
    "COPIES",
    "HOLDERS",
    "IMAGES",
    "ITEMS",
    "MARKERS",
    "MEDIA",
    "NO_CONTENT",
    "PICTURES",
    "PROTOCOL",
    "QUOTED",
    "REFERENCES",
    "RESULTS",
    "SAYING",
    "SEALED",
    "SEALED_TYPES",
    "SOURCES",
]


def _reasons(keys: Mapping[str, str]) -> Mapping[str, str]:
    """From reason and keys to key and reason."""
    return {key: reason for reason, names in keys.items() for key in names.split()}


SAYING = frozenset({"audio", "content", "function_call", "parts", "refusal", "tool_calls"})
"""Keys of a message under which it says what it says."""

BESIDE = frozenset(
    {
        *("annotations", "citations", "cited_text", "context", "reasoning", "reasoning_content", "reasoningContent", "source"),
        *("summary", "thinking", "title", "url"),
    }
)
"""Keys below those of what stands beside what is said: thoughts, and quotations with where they are from."""

PICTURES = frozenset({"images", "pictures", "video", "videos"})
"""Keys beside the content where some servers take pictures, as base64 or by address."""

RESULTS = frozenset({"json", "response"})
"""Keys of what a tool gave, as a value of its own making."""

PROTOCOL = _reasons(
    {
        "an id that ties parts together": """
            id call_id container_id event_id file_id item_id response_id tool_call_id tool_use_id toolUseId
            approval_request_id previous_response_id __openai_function_call_ids__""",
        "a number": "index file_index output_index content_index token_ids expires_at",
        "what a part is": "type object role __openai_role__ phase chunk_position source_type caller",
        "how it ended": "status finish_reason stop_reason stop_sequence outcome error_code",
        "who made it": """
            model model_id model_name model_provider namespace server_label service_tier system_fingerprint lc_source""",
        "what form it has": "mime_type media_type format detail language",
    }
)
"""Keys that hold no text of anybody's, each with the reason. A value with blanks in it is text all the same."""

NO_CONTENT = _reasons(
    {
        "numbers about what stands beside it": "logprobs usage content_filter_offsets",
        "the findings of the provider's own filter": "content_filter_result content_filter_results",
    }
)
"""Keys of which nothing is shown to a reader or a model, each with the reason. A text with blanks is text all the same."""

ASIDE = _reasons(
    {
        "what a tool keeps for the application: no model reads it": "artifact",
        "what the server says about the answer: headers, reasons, ratings": "response_metadata",
        "numbers": "usage_metadata",
    }
)
"""The same for LangChain's messages, where they are in the message itself."""

SEALED = _reasons(
    {
        "only the provider can open it": """
            encrypted_content encrypted_index encrypted_stdout redacted_content redactedContent""",
        "a proof that the provider wrote it": """
            signature thought_signature thoughtSignature __gemini_function_call_thought_signatures__""",
        "noise that hides the length of a piece": "obfuscation",
    }
)
"""Keys of data that nobody but the provider can read, each with the reason. A value with blanks in it is text all the same."""

MARKERS = _reasons({"where the provider may cache the prompt": "cachePoint cache_point cache_control"})
"""Keys that mark a place and hold no content, each with the reason. A value with blanks in it is text all the same."""

MEDIA = frozenset(
    {
        "audio",
        "computer_screenshot",
        "container_upload",
        "file",
        "image",
        "image_url",
        "input_audio",
        "input_file",
        "input_image",
        "input_video",
        "media",
        "output_audio",
        "output_image",
        "video",
        "video_url",
    }
)
"""Types of blocks that hold something other than text."""

IMAGES = frozenset({"image", "image_url", "input_image"})
"""Those of them that a guard which sees can be shown."""

SOURCES = frozenset({"base64", "file", "url"})
"""Types of a block's ``source`` that hold, or refer to, something other than text."""

BLOCKS = frozenset(
    {
        # text
        "text", "input_text", "output_text", "refusal", "summary_text", "text_delta", "message", "message_delta",
        # reasoning
        "reasoning", "reasoning.text", "reasoning.summary", "reasoning.encrypted", "reasoning_content", "reasoning_text",
        "redacted_thinking", "thinking", "thinking_delta", "signature_delta",
        # what the model hands to tools
        "apply_patch_call", "computer_call", "custom", "custom_tool_call", "function", "function_call", "input_json_delta",
        "invalid_tool_call", "local_shell_call", "mcp_approval_request", "shell_call", "tool_call", "tool_call_chunk",
        "tool_use",
        # tools that the provider runs, and what they found
        "bash_code_execution_output", "bash_code_execution_result", "bash_code_execution_tool_result",
        "bash_code_execution_tool_result_error", "code_execution_output", "code_execution_result",
        "code_execution_tool_result", "code_execution_tool_result_error", "code_interpreter_call",
        "encrypted_code_execution_result", "executable_code", "file_search_call", "image_generation_call", "mcp_call",
        "mcp_list_tools", "mcp_tool_result", "mcp_tool_use", "server_tool_call", "server_tool_call_chunk",
        "server_tool_result", "server_tool_use", "text_editor_code_execution_create_result",
        "text_editor_code_execution_str_replace_result", "text_editor_code_execution_tool_result",
        "text_editor_code_execution_tool_result_error", "text_editor_code_execution_view_result", "tool_reference",
        "tool_search_call", "tool_search_output", "tool_search_tool_result", "tool_search_tool_result_error",
        "tool_search_tool_search_result", "web_fetch_result", "web_fetch_tool_result", "web_fetch_tool_result_error",
        "web_search_call", "web_search_result", "web_search_tool_result", "web_search_tool_result_error",
        # what tools gave
        "apply_patch_call_output", "computer_call_output", "custom_tool_call_output", "function_call_output",
        "function_response", "local_shell_call_output", "mcp_approval_response", "shell_call_output", "tool_result",
        # what is quoted and from where
        "char_location", "citation", "citations_delta", "container_file_citation", "content", "content_block_location",
        "document", "file_citation", "file_path", "page_location", "search_result", "search_result_location",
        "url_citation", "web_search_result_location",
        # bounds and states: compaction, guards of the provider, what the server keeps of this conversation already
        "compaction", "compaction_trigger", "context_compaction", "guard_content", "item_reference",
    }
)  # fmt: skip
"""Types of blocks whose strings are all that they hold: an address in them is quoted, not read."""

# Where a value of a block refers to something that is not in it, or is no text.
REFERENCES = frozenset(
    {
        *("audio_url", "bytes", "data", "fileId", "fileUri", "file_id", "file_uri", "file_url", "image_url", "s3Location"),
        *("s3_location", "uri", "url", "video_url"),
    }
)
BINARY = frozenset({"b64_json", "base64", "file_data", "partial_image_b64"})
AUDIO = frozenset({"audio", "input_audio"})
AUDIO_EVENTS = frozenset({"response.audio.delta", "response.output_audio.delta"})
SEALED_TYPES = frozenset({"redacted_thinking", "reasoning.encrypted"})
# What a model hands to a tool, names and numbers too: it chose them.
ARGUMENTS = frozenset({"args", "arguments", "input", "partial_json"})
ITEMS = frozenset({"content", "parts"})
# What a text quotes, and from where: read after the text itself.
QUOTED = frozenset({"annotations", "citations"})
# Blocks whose content is made of blocks of its own.
HOLDERS = frozenset({"mcp_tool_result", "message", "tool_result"})
# LangChain's own places of tool calls. Providers put them once more where they like.
CALLS = ("tool_call_chunks", "tool_calls", "invalid_tool_calls")
# Places where litellm and others put once more what stands beside them.
COPIES = frozenset({"provider_specific_fields", "thinking_blocks"})
