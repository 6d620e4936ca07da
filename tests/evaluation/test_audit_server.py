"""The server of the page: it writes decisions to disk, and answers nobody but the page."""

from __future__ import annotations

import http.client
import json
import re
import threading

import pytest

from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.evaluation.audit.decisions import DECISIONS, read_decisions
from guardreasoner_sdk.evaluation.audit.page import render
from guardreasoner_sdk.evaluation.audit.run import Audit, AuditItem, Step
from guardreasoner_sdk.evaluation.audit.server import AuditServer

pytest.importorskip("jinja2", reason="the page needs the extra 'eval'")

HOSTILE = '</script><script>document.title = "owned"</script><img src=x onerror="document.title=1">'


def an_audit() -> Audit:
    return Audit(
        audit="abc", file="/data/<b>rows.jsonl", sha256="0", columns=(), guard={}, rows=3, labelled=3, at_most=1, tasks=()
    )


def some_items() -> list[AuditItem]:
    return [
        AuditItem(
            key=f"{row}:prompt_harmfulness",
            row=row,
            id=str(row),
            task="prompt_harmfulness",
            given="harmful",
            other="unharmful",
            said="unharmful",
            score=0.1 * row,
            margin=1.0,
            why=f"why {row}",
            prompt=f"prompt {row} {HOSTILE}",
            response=None if row == 1 else f"response {row}",
            steps=(Step(kind="thought", text=f"step of {row} {HOSTILE}"),),
        )
        for row in (1, 2, 3)
    ]


@pytest.fixture
def server(tmp_path):
    with AuditServer(tmp_path, an_audit(), some_items()) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(server, method="GET", path=None, body=None, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    own = {"Host": f"127.0.0.1:{server.server_port}"}
    own |= {name.replace("_", "-"): value for name, value in headers.items() if value is not None}
    connection.request(method, server.base if path is None else path, body, own)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer, text


def say(server, decisions, *, audit="abc", **headers):
    body = json.dumps({"audit": audit, "decisions": decisions})
    origin = f"http://127.0.0.1:{server.server_port}"
    headers = {"Origin": origin, "Content_Type": "application/json"} | headers
    return ask(server, "POST", f"{server.base}decisions", body, **headers)[0].status


def test_the_page_is_served_under_its_address_only(server):
    answer, text = ask(server)
    assert answer.status == 200
    assert server.base in text
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Server"] == "guardreasoner"
    for path in ("/", "/wrong/", server.base.rstrip("/"), server.base + "decisions.jsonl", server.base + "../", "/favicon.ico"):
        answer, text = ask(server, path=path)
        assert (answer.status, text) == (404, "")
    assert len(server.base) > 32
    assert server.server_address[0] == "127.0.0.1"


def test_a_decision_is_on_disk_when_it_is_answered(server, tmp_path):
    assert say(server, {"1:prompt_harmfulness": "accept", "2:prompt_harmfulness": "skip"}) == 204
    assert say(server, {"1:prompt_harmfulness": "reject"}) == 204
    decided = {"1:prompt_harmfulness": "reject", "2:prompt_harmfulness": "skip"}
    assert read_decisions(tmp_path / DECISIONS, "abc") == decided
    assert len((tmp_path / DECISIONS).read_text("utf-8").splitlines()) == 3
    data = re.search(r'id="data">(.*?)</script>', ask(server)[1], re.DOTALL)[1]
    assert json.loads(data)["decisions"] == decided


def test_another_server_goes_on_with_the_decisions(server, tmp_path):
    say(server, {"3:prompt_harmfulness": "accept"})
    with AuditServer(tmp_path, an_audit(), some_items()) as second:
        assert second.decisions == {"3:prompt_harmfulness": "accept"}
        assert second.base != server.base
    with pytest.raises(InputError, match="another file"):
        AuditServer(tmp_path, an_audit().model_copy(update={"audit": "other"}), some_items())


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "0.0.0.0:{port}", ""])
def test_another_name_of_this_machine_is_refused(server, host):
    host = host.format(port=server.server_port)
    assert ask(server, Host=host)[0].status == 403
    assert say(server, {"1:prompt_harmfulness": "accept"}, Host=host) == 403


def test_localhost_is_this_machine(server):
    name = f"localhost:{server.server_port}"
    assert ask(server, Host=name)[0].status == 200
    assert say(server, {"1:prompt_harmfulness": "accept"}, Host=name, Origin=f"http://{name}") == 204


@pytest.mark.parametrize("origin", [None, "null", "http://evil.example", "https://127.0.0.1:{port}", "http://127.0.0.1"])
def test_another_sites_page_cannot_decide(server, tmp_path, origin):
    origin = origin and origin.format(port=server.server_port)
    assert say(server, {"1:prompt_harmfulness": "accept"}, Origin=origin) == 403
    assert not (tmp_path / DECISIONS).exists()


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Length": "99999999999"}, 413),
        ({"Content_Length": "-1"}, 411),
    ],
)
def test_requests_that_the_page_would_not_send(server, tmp_path, change, status):
    assert say(server, {"1:prompt_harmfulness": "accept"}, **change) == status
    assert not (tmp_path / DECISIONS).exists()


@pytest.mark.parametrize(
    ("decisions", "audit"),
    [
        ({"9:prompt_harmfulness": "accept"}, "abc"),
        ({"1:prompt_harmfulness": "perhaps"}, "abc"),
        ({"1:prompt_harmfulness": ["accept"]}, "abc"),
        (["1:prompt_harmfulness"], "abc"),
        ({"1:prompt_harmfulness": "accept"}, "other"),
    ],
)
def test_what_is_no_decision_on_this_audit_is_refused(server, tmp_path, decisions, audit):
    assert say(server, decisions, audit=audit) == 400
    assert not (tmp_path / DECISIONS).exists()


@pytest.mark.parametrize("body", ["", "[]", "{", '{"a":' * 100_000])
def test_a_broken_body_is_refused(server, body):
    headers = {"Origin": f"http://127.0.0.1:{server.server_port}", "Content_Type": "application/json"}
    assert ask(server, "POST", f"{server.base}decisions", body, **headers)[0].status == 400


def test_other_methods_lead_nowhere(server):
    for method in ("PUT", "DELETE", "OPTIONS", "HEAD"):
        answer, _ = ask(server, method)
        assert answer.status == 501


def test_a_port_that_is_taken_is_said(server, tmp_path):
    with pytest.raises(InputError, match="--port"):
        AuditServer(tmp_path, an_audit(), some_items(), port=server.server_port)


def test_decisions_made_at_the_same_time_are_all_kept(server, tmp_path):
    keys = [f"{row}:prompt_harmfulness" for row in (1, 2, 3)] * 5
    threads = [threading.Thread(target=say, args=(server, {key: "accept"})) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = (tmp_path / DECISIONS).read_text("utf-8").splitlines()
    assert sorted(json.loads(line)["key"] for line in lines) == sorted(keys)


def test_row_text_is_text_in_the_page():
    page = render(an_audit(), some_items(), {})
    assert page.count("</script>") == 2
    assert "<img" not in page
    assert "<b>rows" not in page
    assert "&lt;b&gt;rows.jsonl" in page
    assert not re.search(r"(?:src|href)=|url\(|@import|http:|https:", page.split('id="data">')[0])
