"""The report of a run: tables beside the paper's rows, and a page that asks for nothing and trusts no text."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser

import pytest

from guardreasoner_sdk import Exchange, Turn, Verdict
from guardreasoner_sdk.cli.terminal import console
from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.evaluation import paper
from guardreasoner_sdk.evaluation.report import print_report, standings, write_page, write_summary
from guardreasoner_sdk.evaluation.rows import LabelledRow
from guardreasoner_sdk.evaluation.summary import Collected
from guardreasoner_sdk.verdict import LABELS, TASKS, Finding, ReasoningStep, undetermined

for _module in ("sklearn", "matplotlib", "jinja2"):
    pytest.importorskip(_module, reason="needs guardreasoner-sdk[eval]")

PROMPT, REFUSAL, RESPONSE = TASKS
HOSTILE = (
    '</script><script>document.title = "owned"</script><img src=x onerror=\'document.title = "owned"\'>'
    "\nfirst \u202edrowssap\u2066 \x1b[31m\u2028\x00 & \"quoted\" 'so' {{ 7 * 7 }} ]]> -->"
)


def said(task, label, score=None, *, steps=(), **more):
    finding = undetermined(label) if isinstance(label, str) else Finding(label=LABELS[task][0 if label else 1], score=score)
    reasoning = [ReasoningStep(task=task, kind="thought", text=text) for text in steps]
    return Verdict(action="allow", model="m", backend="b", reasoning=reasoning, latency_ms=5, **{task: finding}, **more)


def rows():
    """On a benchmark of the paper and one of the user's: hits, misses, false alarms, undetermined and hostile rows."""
    for number in range(60):
        truth = number % 2 == 0
        score = (number * 37 % 100) / 100
        row = LabelledRow(str(number), "AegisSafetyTest", Exchange(f"question {number}"), {PROMPT: truth})
        yield row, said(PROMPT, score > 0.5, score, steps=[f"step one of {number}", f"step two of {number}"])
    hostile = Exchange(HOSTILE, HOSTILE, [Turn(role="user", content="what came before")])
    yield LabelledRow(HOSTILE, "my <b>own</b> rows", hostile, {RESPONSE: False}), said(RESPONSE, True, 0.99, steps=[HOSTILE])
    yield (
        LabelledRow("long", "my <b>own</b> rows", Exchange("x" * 5000), {RESPONSE: True}),
        said(RESPONSE, "the answer is <empty>"),
    )
    yield (
        LabelledRow("raw", "my <b>own</b> rows", Exchange("p"), {RESPONSE: True}),
        said(RESPONSE, False, 0.2, raw="as it wrote"),
    )


@pytest.fixture(scope="module")
def run():
    collected = Collected(most=10)
    for row, verdict in rows():
        collected.add(row, verdict)
    return collected


@pytest.fixture(scope="module")
def summary(run):
    return run.summary({"model": "my-guard", "backend": "b", "reasoning": "auto"}, part="60 rows of each", bootstrap=100)


@pytest.fixture(scope="module")
def tables(summary):
    return standings(summary, paper.rows(["LLaMA Guard 3 8B", "MD-Judge 7B"]))


@pytest.fixture(scope="module")
def page(tmp_path_factory, run, summary, tables):
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_page(summary, tables, run, path, journal="verdicts.jsonl", batched=False)
    return path


def test_the_guard_stands_among_the_papers_systems(tables, summary):
    first, second = tables
    assert (first.task, first.benchmarks) == (PROMPT, ("AegisSafetyTest",))
    # The paper has no figure of MD-Judge on prompts.
    assert [line.system for line in first.lines] == ["my-guard, strict", "my-guard, paper", "LLaMA Guard 3 8B (paper)"]
    assert first.lines[2].values == {"AegisSafetyTest": 71.39}
    assert [line.own for line in second.lines] == [True, True]
    of = summary.benchmarks[0].tasks[0]
    assert first.lines[0].values == {"AegisSafetyTest": of.strict.f1}
    assert first.lines[1].mean == pytest.approx(of.paper.f1)


def test_a_systems_mean_goes_over_the_benchmarks_shown_as_the_paper_weights_them():
    collected = Collected()
    every = [name for name, found in paper.row("GuardReasoner 8B").f1[PROMPT].items() if found]
    for name in every:
        collected.add(LabelledRow("1", name, Exchange("x"), {PROMPT: True}), said(PROMPT, True, 0.9))
    (table,) = standings(collected.summary({"model": "m"}), paper.rows(["all"]))
    systems = {line.system.removesuffix(" (paper)"): line for line in table.lines if not line.own}
    for name, line in systems.items():
        printed = paper.row(name).value(PROMPT, None)
        if line.mean is not None and printed is not None and name.startswith("GuardReasoner"):
            assert line.mean == pytest.approx(printed, abs=0.01)
    assert systems["GuardReasoner 8B"].mean is not None


def test_the_summary_is_json_with_every_figure(tmp_path, summary, tables):
    write_summary(summary, tables, tmp_path / "summary.json")
    found = json.loads((tmp_path / "summary.json").read_text("utf-8"))
    task = found["benchmarks"][0]["tasks"][0]
    assert task["strict"]["f1"] == summary.benchmarks[0].tasks[0].strict.f1
    assert task["strict"]["f1_interval"]["low"] < task["strict"]["f1"] < task["strict"]["f1_interval"]["high"]
    assert found["standings"][0]["lines"][2]["system"] == "LLaMA Guard 3 8B (paper)"
    assert found["part"] == "60 rows of each"
    with pytest.raises(InputError, match="cannot be written"):
        write_summary(summary, tables, tmp_path / "nowhere" / "summary.json")


def test_the_terminal_shows_figures_and_what_they_mean(capsys, summary, tables):
    print_report(console(), summary, tables)
    out = capsys.readouterr().out
    assert re.search(r"AegisSafetyTest +│ prompt harmfulness +│ +60 │", out)
    assert "LLaMA Guard 3 8B (paper)" in out
    assert "71.39" in out
    assert "my <b>own</b> rows: 1 undetermined: the answer is <empty>" in out


class _Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.addresses, self.ids = [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            if name in ("src", "href", "xlink:href", "action", "srcset", "data"):
                self.addresses.append(value)
            if name == "id":
                self.ids.append(value)
            assert not name.startswith("on"), f"{name} on {tag}"


def test_the_page_asks_for_nothing_and_holds_no_foreign_markup(page):
    text = page.read_text("utf-8")
    found = _Page()
    found.feed(text)
    assert all(address.startswith("#") or address == "data:," for address in found.addresses)
    assert not re.findall(r"url\((?!#)|@import", text)
    assert found.tags.count("script") == 1
    assert "img" not in found.tags
    assert found.tags.count("svg") == 4
    assert len(found.ids) == len(set(found.ids))
    assert set(re.findall(r"url\(#([^)]+)\)", text)) <= set(found.ids)


def test_hostile_texts_are_shown_as_they_are_with_what_is_invisible_spelled_out(page):
    text = page.read_text("utf-8")
    assert "&lt;/script&gt;&lt;script&gt;" in text
    assert "{{ 7 * 7 }}" in text
    assert "\\u202edrowssap\\u2066 \\x1b[31m\\u2028\\x00 &amp;" in text
    assert not re.search("[\x00-\x09\x0b-\x1f\u202a-\u202e\u2066-\u2069\u2028]", text)


def test_what_the_page_leaves_out_it_says(page, run):
    text = page.read_text("utf-8")
    kept = len(run.errors())
    assert kept < sum(run.counts.values())
    assert f"This page holds {kept} of them" in text
    assert "[… 1,000 more characters]" in text
    assert "Longer texts are cut after 4,000 characters." in text
    assert "60 rows of each" in text


def test_a_run_without_errors_has_a_page_too(tmp_path):
    collected = Collected()
    collected.add(LabelledRow("1", "mine", Exchange("x"), {PROMPT: True}), said(PROMPT, True))
    found = collected.summary({"model": "m", "backend": "b"})
    write_page(found, standings(found, []), collected, tmp_path / "r.html", journal="j", batched=True)
    text = (tmp_path / "r.html").read_text("utf-8")
    assert "There are none." in text
    assert "No plots" in text
    assert "the latency is that of the batch it stood in" in text


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="the browser test needs playwright")
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("the browser test needs chromium or google-chrome")
    quiet = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(
            executable_path=path, args=[*quiet.split(), "--disable-component-update", "--disable-sync"]
        )
        yield started
        started.close()


@pytest.fixture
def opened(browser, page):
    """The page in a browser; afterwards it must have asked for nothing else and complained of nothing."""
    tab = browser.new_page()
    said, asked = [], []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(page.as_uri())
    yield tab
    assert tab.title() == "Evaluation of my-guard"
    tab.close()
    assert said == []
    assert asked == [page.as_uri()]


def test_in_a_browser_the_plots_are_drawn(opened):
    plots = opened.get_by_role("img")
    assert plots.count() == 4
    for place in range(4):
        plots.nth(place).scroll_into_view_if_needed()
        box = plots.nth(place).bounding_box()
        assert min(box["width"], box["height"]) > 100
    assert opened.get_by_role("img", name="Precision and recall: AegisSafetyTest, prompt harmfulness").is_visible()
    assert opened.get_by_role("heading", name="Errors").is_visible()


def test_in_a_browser_errors_are_filtered_and_opened_from_the_keyboard(opened, run):
    count = opened.get_by_role("status")
    every = len(run.errors())
    assert count.inner_text() == f"{every} shown"
    opened.get_by_role("combobox", name="benchmark").select_option("AegisSafetyTest")
    opened.get_by_role("combobox", name="kind").select_option("miss")
    shown = opened.locator("details.error:visible")
    assert count.inner_text() == f"{shown.count()} shown"
    assert 0 < shown.count() < every
    assert {one.get_attribute("data-kind") for one in shown.all()} == {"miss"}
    first = shown.first
    number = re.search(r"question (\d+)", first.text_content())[1]
    assert not first.get_by_text(f"step one of {number}").is_visible()
    first.locator("summary").focus()
    opened.keyboard.press("Enter")
    assert first.get_by_text(f"step one of {number}").is_visible()
    assert first.get_by_text("the truth is harmful").is_visible()
    opened.get_by_role("combobox", name="benchmark").select_option("")
    opened.get_by_role("combobox", name="kind").select_option("")
    assert count.inner_text() == f"{every} shown"


def test_in_a_browser_hostile_text_is_text(opened):
    opened.get_by_role("combobox", name="task").select_option(RESPONSE)
    opened.get_by_role("combobox", name="kind").select_option("false alarm")
    error = opened.locator("details.error:visible")
    assert error.count() == 1
    error.locator("summary").click()
    assert error.get_by_role("heading").all_inner_texts() == ["Earlier: user", "Prompt", "Response", "Scores", "Reasoning"]
    assert '<script>document.title = "owned"</script>' in error.locator(".text").nth(1).inner_text()
    assert "onerror" in error.locator(".steps").inner_text()


def test_in_a_browser_what_a_model_wrote_stands_in_for_steps(opened):
    opened.get_by_role("combobox", name="task").select_option(RESPONSE)
    opened.get_by_role("combobox", name="kind").select_option("miss")
    error = opened.locator("details.error:visible")
    error.locator("summary").click()
    assert error.get_by_text("as it wrote").is_visible()


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_in_a_browser_the_page_takes_the_users_colours(browser, page, scheme):
    tab = browser.new_page(color_scheme=scheme)
    tab.goto(page.as_uri())
    colours = tab.evaluate("[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]")
    brightness = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in colours]
    assert (brightness[0] < brightness[1]) == (scheme == "dark")
    # Text of the plots has the page's colour.
    assert tab.evaluate("getComputedStyle(document.querySelector('svg text')).fill") == colours[1]
    tab.close()
