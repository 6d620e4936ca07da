"""The guardrail behind ``litellm.Router``: a block is an answer, and no failure that another try or another model could mend."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

litellm = pytest.importorskip("litellm", reason="pip install 'guardreasoner-sdk[litellm]'")

from litellm.exceptions import GuardrailRaisedException  # noqa: E402
from litellm.integrations import custom_guardrail  # noqa: E402

from guardreasoner_integrations.litellm import GuardReasonerGuardrail  # noqa: E402
from guardreasoner_sdk import BlockedError, ClosedError, InputError, UndeterminedError  # noqa: E402

from .conftest import LITELLMS_OWN  # noqa: E402

pytestmark = LITELLMS_OWN
Make = Callable[..., GuardReasonerGuardrail]
ANSWERS = {"kind": "fine", "harsh": "so bad", "vague": "unsure"}


class Model(ThreadingHTTPServer):
    """Says what the model of a name says, and remembers who was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.asked: list[str] = []
        self.fails = False


class Answers(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Model)
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append(body["model"])
        message = {"role": "assistant", "content": ANSWERS[body["model"]]}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        answer = {"id": "c", "object": "chat.completion", "created": 1, "model": "x", "choices": [choice], "usage": usage}
        data = json.dumps({"error": {"message": "busy"}} if self.server.fails else answer).encode()
        self.send_response(500 if self.server.fails else 200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def model() -> Iterator[Model]:
    with Model() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def router(model: Model) -> Any:
    """Asks four times, and then another model."""
    address = f"http://127.0.0.1:{model.server_address[1]}/v1"
    deployments = [
        {"model_name": name, "litellm_params": {"model": f"openai/{name}", "api_base": address, "api_key": "k"}}
        for name in ANSWERS
    ]
    fallbacks = [{"harsh": ["kind"]}, {"vague": ["kind"]}, {"kind": ["harsh"]}]
    return litellm.Router(model_list=deployments, fallbacks=fallbacks, num_retries=3, retry_after=0)


async def ask(router: Any, name: str, prompt: Any) -> str:
    response = await router.acompletion(model=name, messages=[{"role": "user", "content": prompt}])
    return str(response.choices[0].message.content)


knows_guardrails = pytest.mark.skipif(
    not hasattr(custom_guardrail, "is_guardrail_intervention"), reason="the Router of this litellm knows no guardrails"
)


@knows_guardrails
@pytest.mark.parametrize(("prompt", "error"), [("bad", BlockedError), ("unsure", UndeterminedError), (7, InputError)])
async def test_a_refused_prompt_is_judged_once_and_no_model_is_asked(
    prompt: Any, error: type[Exception], model: Model, make: Make
) -> None:
    guardrail = make(event_hook="pre_call")
    with pytest.raises(error) as caught:
        await ask(router(model), "kind", prompt)
    assert model.asked == []
    assert len(guardrail.guard.judge.seen) == (error is not InputError)  # type: ignore[attr-defined]
    assert isinstance(caught.value, GuardrailRaisedException)
    assert (caught.value.guardrail_name, caught.value.message) == ("guard", str(caught.value))


@knows_guardrails
@pytest.mark.parametrize(("name", "error"), [("harsh", BlockedError), ("vague", UndeterminedError)])
async def test_a_blocked_answer_is_asked_for_once_and_of_no_other_model(
    name: str, error: type[Exception], model: Model, make: Make
) -> None:
    make(event_hook="post_call")
    with pytest.raises(error):
        await ask(router(model), name, "hi")
    assert model.asked == [name]


@knows_guardrails
async def test_a_guard_that_cannot_work_is_no_failure_of_the_model(model: Model, make: Make) -> None:
    make().guard.close()
    with pytest.raises(ClosedError, match="the guard is closed"):
        await ask(router(model), "kind", "hi")
    assert model.asked == []


async def test_a_model_is_not_taken_out_for_what_the_guard_says(model: Model, make: Make) -> None:
    make(event_hook="post_call")
    asked = router(model)
    for _ in range(8):
        with pytest.raises(UndeterminedError):
            await asked.acompletion(model="vague", messages=[{"role": "user", "content": "hi"}], fallbacks=[], num_retries=0)
    assert model.asked == ["vague"] * 8


async def test_the_failure_of_a_model_is_tried_again(model: Model, make: Make) -> None:
    """What the tests above show is the guardrail's doing, and not that of a Router that never tries again."""
    make()
    model.fails = True
    with pytest.raises(litellm.InternalServerError):
        await ask(router(model), "kind", "hi")
    assert len(model.asked) > 4
