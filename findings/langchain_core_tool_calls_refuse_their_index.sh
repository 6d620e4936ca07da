#!/usr/bin/env bash
# Expected: AIMessage takes every tool call that LangChain's own type of content blocks describes: ToolCall and InvalidToolCall declare
#   `index` (where in the stream the block stood), and pieces of streams carry it.
# Happens: AIMessage(tool_calls=[{..., "index": 0}]) raises TypeError, for the constructor hands all keys to a function without that
#   argument. So does AIMessage(content_blocks=[...]) with a block of that very type; only chunks take it.
# Versions: langchain-core 1.8.3, Python 3.11. Exits 1 if that changes.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'langchain-core==1.8.3' >&2
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.content import InvalidToolCall, ToolCall

call = {"type": "tool_call", "name": "look_up", "args": {"word": "bread"}, "id": "1", "index": 0}
wrong = {"type": "invalid_tool_call", "name": "look_up", "args": "{", "id": "2", "error": None, "index": 0}
print("declared:", "index" in ToolCall.__annotations__, "index" in InvalidToolCall.__annotations__)
assert "index" in ToolCall.__annotations__ and "index" in InvalidToolCall.__annotations__
for name, given in (("tool_calls", call), ("invalid_tool_calls", wrong), ("content_blocks", call)):
    try:
        AIMessage(**{"content": "", name: [given]} if name != "content_blocks" else {name: [given]})
    except TypeError as error:
        print(f"AIMessage({name}=[...]): TypeError: {error}")
        assert "index" in str(error)
    else:
        raise SystemExit(f"{name} with an index is taken now")
chunk = AIMessageChunk("", tool_call_chunks=[{"type": "tool_call_chunk", "name": "look_up", "args": "{}", "id": "1", "index": 0}])
print("in a chunk:", chunk.tool_calls)
assert chunk.tool_calls[0]["name"] == "look_up"
PYTHON
