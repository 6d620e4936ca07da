"""The page in a real browser: served, and as a file."""

from __future__ import annotations

import json
import shutil
import threading

import pytest

from guardreasoner_sdk.evaluation.audit.decisions import DECISIONS, read_decisions
from guardreasoner_sdk.evaluation.audit.page import render
from guardreasoner_sdk.evaluation.audit.run import Audit, AuditItem, Step
from guardreasoner_sdk.evaluation.audit.server import AuditServer

pytest.importorskip("jinja2", reason="the page needs the extra 'eval'")
playwright = pytest.importorskip("playwright.sync_api", reason="the browser test needs playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="the browser test needs chromium or google-chrome")

HOSTILE = '</script><script>document.title = "owned"</script><img src="http://127.0.0.1:9/x" onerror="document.title = 1">'
QUIET = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update"
AUDIT = Audit(audit="abc", file="/data/rows.jsonl", sha256="0", columns=(), guard={}, rows=9, labelled=9, at_most=1, tasks=())


def item(row: int, task: str, given: str, other: str) -> AuditItem:
    return AuditItem(
        key=f"{row}:{task}",
        row=row,
        id=f"n{row}",
        task=task,
        given=given,
        other=other,
        said=other,
        score=0.25,
        margin=1.0,
        why=f"why {row}",
        prompt=f"prompt {row} {HOSTILE}",
        response=f"response {row} {HOSTILE}",
        steps=(Step(kind="thought", text=f"step of {row} {HOSTILE}"),),
    )


ITEMS = [
    item(1, "prompt_harmfulness", "harmful", "unharmful"),
    item(2, "prompt_harmfulness", "unharmful", "harmful"),
    item(2, "response_refusal", "refusal", "compliance"),
    item(4, "prompt_harmfulness", "harmful", "unharmful"),
]


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=[*QUIET.split(), "--disable-sync"])
        yield started
        started.close()


@pytest.fixture
def context(browser):
    context = browser.new_context(accept_downloads=True)
    context.set_default_timeout(20_000)
    yield context
    context.close()


@pytest.fixture
def tab(context):
    """A tab; afterwards its page must have asked no other machine and complained of nothing, and hostile text done nothing."""
    tab = context.new_page()
    tab.said, tab.asked = [], []
    tab.on("console", lambda message: tab.said.append(message.text))
    tab.on("pageerror", lambda error: tab.said.append(str(error)))
    tab.on("request", lambda request: tab.asked.append(request.url))
    yield tab
    assert tab.title() == "Labels to look at: rows.jsonl"
    assert tab.said == []
    assert tab.locator("img").count() == 0


@pytest.fixture
def server(tmp_path):
    with AuditServer(tmp_path, AUDIT, ITEMS) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "audit.html"
    path.write_text(render(AUDIT, ITEMS, {}), "utf-8")
    return path


def press(tab, keys: str) -> None:
    for key in keys:
        tab.keyboard.press(key)


def marks(tab) -> list[str]:
    return tab.locator("#list small").all_inner_texts()


def saved(tab, keys: str) -> None:
    """Press keys of which the last one decides, and wait until that is on disk."""
    press(tab, keys[:-1])
    with tab.expect_response(lambda answer: answer.url.endswith("/decisions")) as answer:
        tab.keyboard.press(keys[-1])
    assert answer.value.status == 204


DECIDED = ["prompt harmfulness: harmful, accepted", "prompt harmfulness: unharmful, rejected"]


def test_decisions_by_keyboard_are_on_disk_and_there_after_a_reload(tab, server, tmp_path):
    tab.goto(server.url)
    assert "0 of 4" in tab.get_by_role("status").inner_text()
    saved(tab, "a")
    saved(tab, "r")
    assert read_decisions(tmp_path / DECISIONS, "abc") == {"1:prompt_harmfulness": "accept", "2:prompt_harmfulness": "reject"}
    tab.reload()
    assert marks(tab)[:2] == DECIDED
    assert "2 of 4: 1 accepted, 1 rejected, 0 skipped (agreement 50 %)" in tab.get_by_role("status").inner_text()
    # It opens at the first label that is not decided.
    assert "response refusal: labelled refusal" in tab.locator("#item .verdict").inner_text()
    assert set(tab.asked) == {server.url, f"{server.url}decisions"}


def test_another_browser_sees_the_same_decisions(tab, server, browser):
    tab.goto(server.url)
    saved(tab, "a")
    other = browser.new_context()
    page = other.new_page()
    page.goto(server.url)
    assert marks(page)[0] == DECIDED[0]
    other.close()


def test_buttons_decide_and_a_decision_can_be_changed_and_taken_back(tab, server, tmp_path):
    tab.goto(server.url)
    for name, expected in (("Accept", "accept"), ("Skip", "skip"), ("Reject", "reject"), ("Take back", None)):
        tab.locator("#list button").first.click()
        with tab.expect_response(lambda answer: answer.url.endswith("/decisions")):
            tab.get_by_role("button", name=name).click()
        assert read_decisions(tmp_path / DECISIONS, "abc").get("1:prompt_harmfulness") == expected


def test_what_could_not_be_saved_is_said_and_saved_with_the_next_decision(context, server, tmp_path):
    tab = context.new_page()
    tab.goto(server.url)
    tab.route("**/decisions", lambda route: route.abort())
    press(tab, "a")
    tab.get_by_role("alert").get_by_text("1 not saved").wait_for()
    assert not (tmp_path / DECISIONS).exists()
    tab.unroute("**/decisions")
    saved(tab, "r")
    assert read_decisions(tmp_path / DECISIONS, "abc") == {"1:prompt_harmfulness": "accept", "2:prompt_harmfulness": "reject"}
    playwright.expect(tab.locator("#trouble")).to_have_text("")


def test_the_file_works_without_a_server(tab, file):
    tab.goto(file.as_uri())
    press(tab, "ar")
    tab.reload()
    assert marks(tab)[:2] == DECIDED
    with tab.expect_download() as download:
        tab.get_by_role("button", name="Download decisions").click()
    assert download.value.suggested_filename == "decisions.json"
    decisions = read_decisions(download.value.path(), "abc")
    assert decisions == {"1:prompt_harmfulness": "accept", "2:prompt_harmfulness": "reject"}
    assert {url for url in tab.asked if not url.startswith("blob:")} == {file.as_uri()}


def test_two_tabs_with_the_file_lose_none_of_each_others_decisions(tab, context, file):
    tab.goto(file.as_uri())
    other = context.new_page()
    other.goto(file.as_uri())
    press(tab, "a")
    press(other, "jr")
    playwright.expect(tab.locator("#list small.reject")).to_have_count(1)
    assert marks(tab)[:2] == marks(other)[:2] == DECIDED
    press(other, "ku")
    playwright.expect(tab.locator("#list small.reject")).to_have_count(0)
    press(tab, "s")
    tab.reload()
    assert [mark.partition(", ")[2] for mark in marks(tab)] == ["accepted", "skipped", "", ""]


def test_the_file_knows_what_was_decided_when_it_was_made(tab, tmp_path):
    path = tmp_path / "audit.html"
    path.write_text(render(AUDIT, ITEMS, {"1:prompt_harmfulness": "accept"}), "utf-8")
    tab.goto(path.as_uri())
    assert marks(tab)[0] == DECIDED[0]


def test_j_and_k_move_and_hostile_text_is_shown_as_text(tab, file):
    tab.goto(file.as_uri())
    shown = tab.locator("#item")
    assert "prompt 1 " in shown.inner_text()
    press(tab, "jjj")
    assert "prompt 4 " in shown.inner_text()
    press(tab, "jk")
    text = shown.inner_text()
    assert "response refusal: labelled refusal, the guard's reading is compliance" in text
    for part in (
        f"prompt 2 {HOSTILE}",
        f"response 2 {HOSTILE}",
        f"step of 2 {HOSTILE}",
        "why 2",
        "Row 2, id n2",
        "score 0.250",
    ):
        assert part in text
    assert tab.locator("#list button[aria-current=true]").count() == 1


def test_filters_narrow_the_list_and_typing_in_them_decides_nothing(tab, file):
    tab.goto(file.as_uri())
    press(tab, "a")
    visible = tab.locator("#list li:visible")
    tab.get_by_label("Task").select_option("response_refusal")
    assert visible.count() == 1
    tab.get_by_label("Task").select_option("")
    tab.get_by_label("Show").select_option("open")
    assert visible.count() == 3
    tab.get_by_label("Find").fill("RESPONSE 4")
    assert visible.count() == 1
    tab.get_by_label("Find").press("r")
    assert visible.count() == 0
    assert "Nothing here" in tab.locator("#item").inner_text()
    assert tab.get_by_role("button", name="Accept").is_disabled()
    tab.get_by_label("Find").fill("")
    assert "1 of 4" in tab.get_by_role("status").inner_text()


def test_deciding_under_a_filter_goes_to_the_next_label(tab, file):
    tab.goto(file.as_uri())
    tab.get_by_label("Show").select_option("open")
    tab.locator("#list button:visible").first.click()
    press(tab, "as")
    assert tab.locator("#list li:visible").count() == 2
    assert "labelled refusal" in tab.locator("#item .verdict").inner_text()
    press(tab, "rr")
    assert "4 of 4: 1 accepted, 2 rejected, 1 skipped (agreement 33 %)" in tab.get_by_role("status").inner_text()


def test_an_audit_without_proposals_says_so(tab, tmp_path):
    path = tmp_path / "audit.html"
    path.write_text(render(AUDIT, [], {}), "utf-8")
    tab.goto(path.as_uri())
    assert "The guard contradicts no label." in tab.locator("#item").inner_text()


def test_another_audits_decisions_in_the_browser_are_not_taken(tab, file):
    tab.goto(file.as_uri())
    press(tab, "a")
    file.write_text(render(AUDIT.model_copy(update={"audit": "other"}), ITEMS, {}), "utf-8")
    tab.reload()
    assert "0 of 4" in tab.get_by_role("status").inner_text()
    assert json.loads(tab.evaluate("localStorage.getItem('guardreasoner-audit:abc')"))["decisions"]
