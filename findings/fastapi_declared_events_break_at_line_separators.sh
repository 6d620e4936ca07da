#!/usr/bin/env bash
# Expected: what a path operation with response_class=EventSourceResponse yields arrives as one JSON document in `data`, whatever
#   characters stand in it, and whether or not the operation declares what it yields.
# Happens: where it declares it (-> AsyncIterable[Said]), the JSON has its characters as they are, and FastAPI cuts it into `data:`
#   lines with str.splitlines(), which knows more ends of a line than the format does (U+2028, U+0085 and others stand in JSON strings
#   as they are). A reader puts the lines together again with "\n": a raw line end inside a JSON string, which is no JSON.
#   Without the declaration the same text arrives whole, as an escape.
# Versions: fastapi 0.136.3, httpx 0.28.1, Python 3.11. Exits 1 if that changes.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'fastapi==0.136.3' 'httpx==0.28.1' >&2
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import json
from collections.abc import AsyncIterable

from fastapi import FastAPI
from fastapi.sse import EventSourceResponse
from fastapi.testclient import TestClient
from pydantic import BaseModel

app = FastAPI()


class Said(BaseModel):
    text: str


@app.get("/declared", response_class=EventSourceResponse)
async def declared(word: str) -> AsyncIterable[Said]:
    yield Said(text=f"one{word}two")


@app.get("/plain", response_class=EventSourceResponse)
async def plain(word: str):
    yield Said(text=f"one{word}two")


def read(path, word):
    """The data of the first event, put together as the format says: lines end at CR, LF or both, and nowhere else."""
    body = TestClient(app).get(path, params={"word": word}).content.decode()
    lines = body.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return "\n".join(line.removeprefix("data:").removeprefix(" ") for line in lines if line.startswith("data:"))


def is_json(text):
    try:
        return json.loads(text) is not None
    except ValueError:
        return False


for name, word in (("a blank", " "), ("a line feed", "\n"), ("U+2028", "\u2028"), ("U+0085", "\u0085"), ("U+2029", "\u2029")):
    for path in ("/plain", "/declared"):
        data = read(path, word)
        print(f"{path}, {name}: {data!r}: {'JSON' if is_json(data) else 'no JSON'}")
        assert is_json(data) == (path == "/plain" or word in (" ", "\n"))
PYTHON
