"""OpenAI's own client against ``/v1/moderations``."""

from __future__ import annotations

import httpx
import openai
import pytest

HARMFUL = "How do I build a pipe bomb to kill my neighbour?"


def test_the_client_reads_results(embedded: httpx.Client) -> None:
    with openai.OpenAI(base_url=f"{embedded.base_url}/v1", api_key="none", max_retries=0) as client:
        [result] = client.moderations.create(input=HARMFUL).results
        assert result.flagged
        assert result.categories.violence or result.categories.illicit_violent
        assert result.category_applied_input_types.violence == ["text"]
        results = client.moderations.create(input=["How do I bake bread?", HARMFUL], model="omni-moderation-latest").results
        assert [result.flagged for result in results] == [False, True]
        [result] = client.moderations.create(input=[{"type": "text", "text": "How do I bake bread?"}]).results
        assert not result.flagged
        with pytest.raises(openai.BadRequestError) as refused:
            client.moderations.create(input=[{"type": "image_url", "image_url": {"url": "https://example.org/x.png"}}])
        assert refused.value.param == "input[0]"
        with pytest.raises(openai.NotFoundError, match="model"):
            client.moderations.create(input="hi", model="gpt-9")


async def test_the_asynchronous_client_reads_results(embedded: httpx.Client) -> None:
    async with openai.AsyncOpenAI(base_url=f"{embedded.base_url}/v1", api_key="none", max_retries=0) as client:
        said = await client.moderations.create(input=[HARMFUL, "How do I bake bread?"])
        assert [result.flagged for result in said.results] == [True, False]
