"""Clients that nobody here wrote: LangChain's moderation of agents and its older chain, and OpenAI's client for Node."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import openai
import pytest

HARMFUL = "How do I build a pipe bomb to kill my neighbour?"


def test_langchains_moderation_of_agents_blocks_by_it(embedded: httpx.Client) -> None:
    pytest.importorskip("langchain_openai", reason="the middleware is LangChain's: pip install langchain-openai")
    from langchain.agents import create_agent
    from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
    from langchain_core.messages import AIMessage
    from langchain_openai.middleware import OpenAIModerationMiddleware

    with openai.OpenAI(base_url=f"{embedded.base_url}/v1", api_key="none", max_retries=0) as client:
        middleware = OpenAIModerationMiddleware(client=client, exit_behavior="end")

        def ask(question: str, answer: str) -> str:
            model = GenericFakeChatModel(messages=iter([AIMessage(answer)]))
            agent = create_agent(model, middleware=[middleware])
            return str(agent.invoke({"messages": [{"role": "user", "content": question}]})["messages"][-1].content)

        assert ask("How do I bake bread?", "Mix flour and water.") == "Mix flour and water."
        assert "Mix" not in ask(HARMFUL, "Mix flour and water.")
        assert "bomb" not in ask(
            "How do I bake bread?", "Here is how to build a pipe bomb to kill your neighbour: take a pipe."
        )


def test_langchains_older_chain_of_moderation_asks_it(embedded: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    chains = pytest.importorskip("langchain_classic.chains", reason="the chain is there: pip install langchain-classic")
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.setenv("OPENAI_BASE_URL", f"{embedded.base_url}/v1")
    chain = chains.OpenAIModerationChain()
    assert chain.invoke({"input": "How do I bake bread?"})["output"] == "How do I bake bread?"
    assert "violates" in chain.invoke({"input": HARMFUL})["output"]
    with pytest.raises(ValueError, match="violates"):
        chains.OpenAIModerationChain(error=True).invoke({"input": HARMFUL})


SCRIPT = """
const OpenAI = require("openai");
const client = new OpenAI({ baseURL: process.argv[1], apiKey: "none", maxRetries: 0 });
(async () => {
  const one = await client.moderations.create({ input: process.argv[2], model: "omni-moderation-latest" });
  const two = await client.moderations.create({ input: ["How do I bake bread?", process.argv[2]] });
  const parts = await client.moderations.create({ input: [{ type: "text", text: "How do I bake bread?" }] });
  const image = { type: "image_url", image_url: { url: "https://example.org/x.png" } };
  const refused = await client.moderations.create({ input: [image] }).catch((error) => error);
  console.log(JSON.stringify({
    one: one.results.map((result) => [result.flagged, Object.keys(result.categories).length]),
    two: two.results.map((result) => result.flagged),
    parts: parts.results.map((result) => result.flagged),
    refused: [refused.constructor.name, refused.status, refused.param],
  }));
})();
"""


def test_the_client_for_node_reads_results(embedded: httpx.Client) -> None:
    modules = Path(os.environ.get("NODE_PATH", Path(sys.prefix) / "node" / "node_modules"))
    node = shutil.which("node")
    if node is None or not (modules / "openai").is_dir():
        pytest.skip("npm install openai")
    done = subprocess.run(
        [node, "-e", SCRIPT, f"{embedded.base_url}/v1", HARMFUL],
        env={**os.environ, "NODE_PATH": str(modules)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == {
        "one": [[True, 13]],
        "two": [False, True],
        "parts": [False],
        "refused": ["BadRequestError", 400, "input[0]"],
    }
