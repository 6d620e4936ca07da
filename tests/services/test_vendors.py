"""The vendors' own clients as the oracle: they send what is sent here, and read what the loopback server answers here."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from pydantic import SecretStr

import servers
from guardreasoner_sdk import ConfigurationError, Guard
from guardreasoner_sdk.judges.hosted import HostedJudge
from guardreasoner_sdk.services import SERVICES, BedrockGuardrail
from guardreasoner_sdk.services.base import Access
from guardreasoner_sdk.services.hazards import VENDOR_HAZARDS
from vendors import HARMFUL, HARMLESS, KEY, MODELS, TEMPLATE, answering, openai

PROMPT, RESPONSE = "How do I bake bread? – ähm…", "Mix flour."


def asked_here(name: str, server: Any, response: str | None = None, **options: Any) -> list[tuple[str, Any]]:
    model, needed = MODELS[name]
    server.plan(otherwise=answering(HARMLESS, name))
    with Guard(model, base_url=f"http://{server.host}", api_key=KEY, options={**needed, **options}) as guard:
        assert guard.check(PROMPT, response).allowed
    return sorted(((request.path, request.body) for request in server.asked), key=lambda one: json.dumps(one))


def asked_there(server: Any, answer: Any, *calls: Callable[[], Any]) -> tuple[list[tuple[str, Any]], list[Any]]:
    server.plan(servers.Reply(body=answer))
    answers = [call() for call in calls]
    return sorted(((request.path, request.body) for request in server.asked), key=lambda one: json.dumps(one)), answers


def test_openai(server: Any) -> None:
    from openai import OpenAI
    from openai.types.moderation import Categories

    with OpenAI(base_url=f"http://{server.host}", api_key=KEY) as client:
        for texts in ((PROMPT,), (PROMPT, RESPONSE)):
            there, answers = asked_there(
                server,
                HARMFUL["openai-moderation"],
                *(lambda text=text: client.moderations.create(input=text, model="omni-moderation-latest") for text in texts),
            )
            assert there == asked_here("openai-moderation", server, *texts[1:])
    [result] = answers[0].results
    assert (result.flagged, result.categories.violence, result.category_scores.violence) == (True, True, 0.93)
    fields = {field.alias or name for name, field in Categories.model_fields.items()}
    assert fields == set(VENDOR_HAZARDS["openai-moderation"]) == set(openai({})["results"][0]["categories"])
    for answer in (HARMFUL, HARMLESS):
        again = type(answers[0]).model_validate(answer["openai-moderation"], strict=True)
        assert again.model_dump(by_alias=True, exclude_unset=True) == answer["openai-moderation"]


def test_mistral(server: Any) -> None:
    client_module = pytest.importorskip("mistralai.client", reason="a vendor's client is not installed: mistralai")
    with client_module.Mistral(api_key=KEY, server_url=f"http://{server.host}") as client:
        model = "mistral-moderation-latest"
        user, assistant = {"role": "user", "content": PROMPT}, {"role": "assistant", "content": RESPONSE}
        there, answers = asked_there(
            server,
            HARMFUL["mistral-moderation"],
            lambda: client.classifiers.moderate_chat(model=model, inputs=[user]),
            lambda: client.classifiers.moderate_chat(model=model, inputs=[user, assistant]),
            lambda: client.classifiers.moderate(model=model, inputs=PROMPT),
        )
    here = asked_here("mistral-moderation", server, RESPONSE) + asked_here("mistral-moderation", server, chat=False)

    def plain(
        path: str, body: Any
    ) -> Any:  # the client's address begins without the version, and it names the kind of a message
        turns = body["input"]
        if not isinstance(turns, str):
            turns = [{key: turn[key] for key in ("role", "content")} for turn in turns]
        return (path.removeprefix("/v1"), body["model"], turns)

    assert sorted(map(str, (plain(*one) for one in there))) == sorted(map(str, (plain(*one) for one in here)))
    [result] = answers[0].results
    assert result.categories["violence_and_threats"]
    assert result.category_scores["violence_and_threats"] == 0.93


def test_azure(server: Any) -> None:
    package = pytest.importorskip("azure.ai.contentsafety", reason="a vendor's client is not installed: azure-ai-contentsafety")
    from azure.core.credentials import AzureKeyCredential

    with package.ContentSafetyClient(f"http://{server.host}", AzureKeyCredential(KEY)) as client:
        kind = package.models.AnalyzeTextOptions

        def analyze(text: str, **more: Any) -> Any:
            return client.analyze_text(kind(text=text, output_type="FourSeverityLevels", **more))

        harmful = HARMFUL["azure-content-safety"]
        there, answers = asked_there(server, harmful, lambda: analyze(PROMPT), lambda: analyze(RESPONSE))
        assert there == asked_here("azure-content-safety", server, RESPONSE)
        there, _ = asked_there(server, harmful, lambda: analyze(PROMPT, blocklist_names=["words"]))
        assert there == asked_here("azure-content-safety", server, blocklists=["words"])
    found = {str(entry.category): entry.severity for entry in answers[0].categories_analysis}
    assert found == {"Hate": 4, "SelfHarm": 0, "Sexual": 0, "Violence": 6}
    assert {category.value for category in package.models.TextCategory} == set(VENDOR_HAZARDS["azure-content-safety"])


def _runtime(server: Any) -> Any:
    session = pytest.importorskip("botocore.session", reason="a vendor's client is not installed: botocore").Session()
    session.set_credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "session-token")
    return session.create_client("bedrock-runtime", region_name="eu-central-1", endpoint_url=f"http://{server.host}")


def test_bedrock(server: Any) -> None:
    client = _runtime(server)

    def apply(source: str, text: str) -> Any:
        content = [{"text": {"text": text}}]
        return client.apply_guardrail(guardrailIdentifier="abc123", guardrailVersion="1", source=source, content=content)

    answer = HARMFUL["bedrock-guardrails"]
    there, answers = asked_there(server, answer, lambda: apply("INPUT", PROMPT), lambda: apply("OUTPUT", RESPONSE))
    assert there == asked_here("bedrock-guardrails", server, RESPONSE)
    assert {key: value for key, value in answers[0].items() if key != "ResponseMetadata"} == answer
    shapes = client.meta.service_model
    kinds = shapes.shape_for("GuardrailContentFilterType").enum
    assert set(kinds) == set(VENDOR_HAZARDS["bedrock-guardrails"])
    assert shapes.shape_for("GuardrailAction").enum == ["NONE", "GUARDRAIL_INTERVENED"]
    from botocore.validate import validate_parameters

    for given in (HARMFUL, HARMLESS):
        validate_parameters(given["bedrock-guardrails"], shapes.shape_for("ApplyGuardrailResponse"))


def _signed_here(url: str, **options: Any) -> BedrockGuardrail:
    """A guardrail whose signed requests go to the loopback server: the package itself sends them to AWS alone."""

    class Here(BedrockGuardrail):
        def access(self, base_url: str | None, api_key: SecretStr | None) -> Access:
            return replace(super().access(base_url, api_key), url=url)

    return Here(**options)


def test_bedrocks_signature_is_the_one_that_botocore_makes(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    auth = pytest.importorskip("botocore.auth", reason="a vendor's client is not installed: botocore")
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import ReadOnlyCredentials

    keys = ("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "session-token")
    for name, value in zip(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"), keys, strict=True):
        monkeypatch.setenv(name, value)
    slow = servers.Reply(503, b"", {"Retry-After-Ms": "1"})
    server.plan(slow, otherwise=answering(HARMLESS, "bedrock-guardrails"))
    arn = "arn:aws:bedrock:eu-central-1:123456789012:guardrail/abc123"
    url = f"http://{server.host}"
    with Guard(judge=HostedJudge(_signed_here(url, guardrail=arn, version="1", region="eu-central-1"))) as guard:
        assert guard.check(PROMPT).allowed
        assert keys[1] not in repr(guard.judge)
    assert len(server.asked) == 2  # each try is signed
    for request in server.asked:
        headers = {name.lower(): value for name, value in request.headers.items()}
        assert headers["x-amz-security-token"] == keys[2]
        assert keys[1] not in str(headers)
        signed = headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
        assert {"host", "x-amz-date", "x-amz-security-token"} <= set(signed)
        # The body as it went over the wire: JSON in another spelling would have another signature.
        body = json.dumps(request.body, separators=(",", ":"), ensure_ascii=False).encode()
        again = AWSRequest("POST", url + request.path, data=body, headers={name: headers[name] for name in signed})
        again.context["timestamp"] = headers["x-amz-date"]
        signer = auth.SigV4Auth(ReadOnlyCredentials(*keys), "bedrock", "eu-central-1")
        wanted = signer.signature(signer.string_to_sign(again, signer.canonical_request(again)), again)
        assert headers["authorization"].endswith(f"Signature={wanted}")


def test_without_credentials_bedrock_says_so(server: Any) -> None:
    pytest.importorskip("botocore", reason="a vendor's client is not installed: botocore")
    service = _signed_here(f"http://{server.host}", guardrail="abc123", version="1", region="eu-central-1")
    told = pytest.raises(ConfigurationError, match="api_key: there are no AWS credentials; configure them")
    with Guard(judge=HostedJudge(service)) as guard, told:
        guard.check(PROMPT)
    assert not server.asked


def test_model_armor(server: Any) -> None:
    types = pytest.importorskip(
        "google.cloud.modelarmor_v1.types", reason="a vendor's client is not installed: google-cloud-modelarmor"
    )
    from google.api_core.client_options import ClientOptions
    from google.auth.credentials import AnonymousCredentials
    from google.cloud.modelarmor_v1 import ModelArmorClient
    from google.cloud.modelarmor_v1.services.model_armor.transports.rest import ModelArmorRestTransport

    transport = ModelArmorRestTransport(host=server.host, url_scheme="http", credentials=AnonymousCredentials())
    client = ModelArmorClient(transport=transport, client_options=ClientOptions() if transport is None else None)
    answer = HARMFUL["model-armor"]
    there, answers = asked_there(
        server,
        answer,
        lambda: client.sanitize_user_prompt({"name": TEMPLATE, "user_prompt_data": {"text": PROMPT}}),
        lambda: client.sanitize_model_response(
            {"name": TEMPLATE, "model_response_data": {"text": RESPONSE}, "user_prompt": PROMPT}
        ),
    )
    here = asked_here("model-armor", server, RESPONSE)
    assert [(path.partition("?")[0], body) for path, body in there] == here
    found = answers[0].sanitization_result
    assert found.filter_match_state == types.FilterMatchState.MATCH_FOUND
    for given in (HARMFUL, HARMLESS):
        parsed = types.SanitizeUserPromptResponse.from_json(json.dumps(given["model-armor"]))
        assert parsed.sanitization_result.invocation_result == types.InvocationResult.SUCCESS
        assert set(parsed.sanitization_result.filter_results) <= set(VENDOR_HAZARDS["model-armor"]) | {"rai"}


def test_every_service_has_its_vendor_here() -> None:
    assert set(SERVICES) == set(MODELS) == set(HARMFUL) == set(HARMLESS)
