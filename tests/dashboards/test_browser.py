"""Proves: in a browser the page's switches, keyboard, print and lack of scripts do what they should, at every width."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dashboards.page import render
from dashboards.sweep import Sweep
from tests.benchmarks.page import built, large
from tests.dashboards.synthetic import clocked, drawn, ended, grids, judge, levels, sweep, tuning
from tests.dashboards.test_page import passports

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser
LONG = "weighting=min_snr_gamma_5,optimizer.lr=0.0005,prediction=velocity"
CELLS = {"uniform": 0.0, "under": 0.2, LONG: 0.01}
WIDTHS = (1280, 820, 390)


def made(directory: Path) -> Sweep:
    found = clocked(drawn(sweep(CELLS, seeds=6)))
    found = ended(found, LONG, 2, "diverged", "diverged: loss is nan at 28.8 kimg")
    more = {"samples": grids(found, directory), "tuning": (tuning("uniform"),)}
    return dataclasses.replace(found, levels=levels(found), **more)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("page")
    found = made(directory)
    path = directory / "report.html"
    path.write_text(render(found, judge(found), passports(CELLS), command="diffsweep run x.yaml"))
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    api = pytest.importorskip("playwright.sync_api", reason="no playwright here")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium here")
    with api.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield launched
        launched.close()


@dataclasses.dataclass
class Opened:
    """A page with all figures drawn, and what it complained of."""

    page: Page
    complaints: list[str]

    def traces(self, name: str = "convergence") -> list[dict[str, Any]]:
        """What a figure shows now."""
        seen: list[dict[str, Any]] = self.page.evaluate(
            """(name) => document.querySelector(`[data-figure="${name}"]`).data.map((t) =>
            ({role: (t.meta || {}).role, visible: t.visible, group: t.legendgroup, x: t.x[0]}))""",
            name,
        )
        return seen

    def axis(self, axis: str, name: str = "convergence") -> dict[str, Any]:
        """An axis of a figure."""
        found: dict[str, Any] = self.page.evaluate(
            """([axis, name]) => { const a = document.querySelector(`[data-figure="${name}"]`)._fullLayout[axis];
            return {type: a.type, title: a.title.text}; }""",
            [axis, name],
        )
        return found


@pytest.fixture
def opened(browser: Browser, report: Path, request: pytest.FixtureRequest) -> Iterator[Opened]:
    width = getattr(request, "param", 1280)
    context = browser.new_context(viewport={"width": width, "height": 900})
    page, complaints = context.new_page(), []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(report.as_uri())
    page.wait_for_selector("html[data-complete]", state="attached", timeout=120_000)
    yield Opened(page, complaints)
    context.close()


@pytest.mark.parametrize("opened", WIDTHS, indirect=True)
def test_every_figure_is_drawn_and_fits(opened: Opened) -> None:
    page = opened.page
    assert page.locator(".chart.js-plotly-plot").count() == page.locator(".chart").count() > 6
    width, seen = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert width <= seen, "nothing is cut off"
    outside = page.evaluate(
        """() => [...document.querySelectorAll('main *, header *')].filter((e) => !e.closest('.scroll, pre, svg')
        && e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.outerHTML.slice(0, 80))"""
    )
    assert outside == []
    assert opened.complaints == []


@pytest.mark.parametrize("opened", WIDTHS, indirect=True)
def test_names_stay_whole_and_buttons_cover_no_title(opened: Opened) -> None:
    lines = """(all) => all.map((e) => [e.textContent, e.getClientRects().length])"""
    for name, count in opened.page.locator(".samples th .chip").evaluate_all(lines):
        assert count <= 1 + sum(map(name.count, ",=_/@")), f"{name} is broken inside a word"
    covered = """() => [...document.querySelectorAll('.plot')].filter((plot) => {
      const title = plot.querySelector('.xtitle'), button = plot.querySelector('button.svg');
      if (!title || !button) return false;
      const a = title.getBoundingClientRect(), b = button.getBoundingClientRect();
      return a.right > b.left && b.bottom > a.top && a.bottom > b.top && b.right > a.left;
    }).map((plot) => plot.querySelector('.chart').dataset.figure)"""
    assert opened.page.evaluate(covered) == []


def test_the_first_screen_says_it_all_at_once(opened: Opened) -> None:
    page = opened.page
    assert page.locator("#verdict").inner_text().startswith("under is WORSE than uniform")
    rows = page.locator(".forest .row:not(.scale)")
    assert rows.count() == 2
    assert rows.nth(0).locator("circle").count() == 6
    assert rows.nth(1).locator("circle").count() == 5, "one seed was lost"
    said = rows.nth(0).locator("svg.strip").get_attribute("aria-label")
    assert said is not None
    assert "seed 0: +" in said
    assert "95 % CI" in said
    bottom = page.locator(".forest").bounding_box()
    assert bottom is not None
    assert bottom["y"] + bottom["height"] < 900


def test_x_switches_between_what_training_can_be_measured_in(opened: Opened) -> None:
    page = opened.page
    kimg = [trace["x"] for trace in opened.traces()]
    buttons = page.locator("#convergence [data-x]")
    assert buttons.all_inner_texts() == ["kimg", "CPU-seconds", "wall-clock", "FLOPs"]
    seen = [kimg]
    for place, unit in ((1, "CPU-seconds"), (2, "seconds of"), (3, "TFLOPs")):
        buttons.nth(place).click()
        page.wait_for_function(
            """(unit) => document.querySelector('[data-figure=convergence]')
            ._fullLayout.xaxis.title.text.includes(unit)""",
            arg=unit,
        )
        seen.append([trace["x"] for trace in opened.traces()])
        pressed = page.locator("#convergence [data-x][aria-pressed=true]")
        assert pressed.count() == 1
        assert pressed.inner_text() == buttons.nth(place).inner_text()
    assert len({tuple(x) for x in seen}) == 4
    buttons.nth(0).click()
    assert [trace["x"] for trace in opened.traces()] == kimg
    assert opened.complaints == []


def test_y_switches_and_shows_its_state(opened: Opened) -> None:
    page = opened.page
    pressed = page.locator("#convergence [data-y][aria-pressed=true]")
    assert pressed.inner_text() == opened.axis("yaxis")["type"] == "log"
    page.click("#convergence [data-y=linear]")
    assert pressed.inner_text() == opened.axis("yaxis")["type"] == "linear"


def test_single_seeds_come_on_demand_and_are_named_under_the_pointer(opened: Opened) -> None:
    page = opened.page
    seeds = [trace for trace in opened.traces() if trace["role"] == "seeds"]
    assert [trace["visible"] for trace in seeds] == [False] * 3
    page.click("#convergence [data-seeds]")
    page.click("#convergence [data-x=device]")
    seeds = [trace for trace in opened.traces() if trace["role"] == "seeds"]
    assert [trace["visible"] for trace in seeds] == [True] * 3
    text = page.evaluate(
        """() => { const c = document.querySelector('[data-figure=convergence]');
        Plotly.Fx.hover(c, [{curveNumber: c.data.findIndex((t) => (t.meta || {}).role === 'seeds'), pointNumber: 0}]);
        return c.querySelector('.hoverlayer').textContent; }"""
    )
    assert "seed 0" in text
    assert "CPU-seconds" in text
    assert "FID (classifier" in text


def test_a_cell_is_hidden_by_its_name(opened: Opened) -> None:
    page = opened.page
    page.click("#convergence .legend button:has-text('under')")
    shown = {t["group"] for t in opened.traces() if t["visible"] is not False}
    assert shown == {"uniform", LONG}
    assert page.locator("#convergence .legend [aria-pressed=false]").inner_text() == "under"


def test_contents_and_anchors_lead_to_every_section(opened: Opened) -> None:
    page = opened.page
    sections = page.evaluate("[...document.querySelectorAll('main section')].map((s) => s.id)")
    assert len(sections) > 8
    listed = page.evaluate(
        "[...document.querySelectorAll('.contents a')].map((a) => a.hash.slice(1))"
    )
    anchors = page.evaluate(
        "[...document.querySelectorAll('h2 .anchor')].map((a) => a.hash.slice(1))"
    )
    assert listed == anchors == sections
    page.click(".contents a[href='#trials']")
    assert page.evaluate("location.hash") == "#trials"


def test_the_keyboard_reaches_every_control(opened: Opened) -> None:
    page = opened.page
    every = page.locator("a[href], button, summary").evaluate_all(
        "(all) => all.flatMap((e, at) => e.checkVisibility() ? [at] : [])"
    )
    reached = set()
    for _ in range(2 * len(every)):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate(
                """() => { const e = document.activeElement;
                return [...document.querySelectorAll('a[href], button, summary')].indexOf(e); }"""
            )
        )
    assert reached >= set(every)
    page.focus("#convergence .anchor")
    assert page.evaluate("getComputedStyle(document.activeElement).opacity") == "1"
    page.focus("#convergence [data-x=wall]")
    page.keyboard.press("Enter")
    assert "training and evaluation" in opened.axis("xaxis")["title"]
    unnamed = "[role=img]:not([aria-label]), button:not([aria-label]):empty, img:not([alt])"
    assert page.locator(unnamed).count() == 0


def test_without_scripts_there_is_the_first_screen_and_a_notice(
    browser: Browser, report: Path
) -> None:
    context = browser.new_context(java_script_enabled=False, viewport={"width": 390, "height": 800})
    page = context.new_page()
    page.goto(report.as_uri())
    assert page.locator(".forest circle:visible").count() == 11
    assert page.locator("#differences circle:visible").count() > 20
    notices = page.locator("noscript p:visible")
    assert notices.count() == page.locator(".chart").count()
    assert "uniform ends at" in page.locator("#convergence noscript").inner_text()
    assert page.locator(".chart:visible, .controls:visible, .picker:visible").count() == 0
    assert page.locator(".samples td:visible").count() == 18, "no seed is out of reach"
    said = page.locator("#levels noscript").all_inner_texts()
    assert len(set(said)) == 3, "cells are told apart"
    context.close()


def test_print_is_light_whole_and_as_wide_as_paper(browser: Browser, report: Path) -> None:
    context = browser.new_context(color_scheme="dark", viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(report.as_uri())
    page.wait_for_selector("html[data-complete]", state="attached", timeout=120_000)
    before = page.evaluate("document.querySelector('.chart')._fullLayout.width")
    opened_before = page.locator("details[open]").count()
    page.emulate_media(media="print", color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    widths = page.evaluate(
        "[...document.querySelectorAll('.chart')].map((c) => c._fullLayout.width)"
    )
    assert max(widths) <= 680 < before
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.body).printColorAdjust") == "exact"
    right = "(all) => Math.max(...all.map((e) => e.getBoundingClientRect().right))"
    assert page.locator(".samples img:visible").evaluate_all(right) <= 680, "no picture is cut"
    assert page.locator("#downloads:visible").count() == 0, "nothing to press on paper"
    assert page.locator("details:not([open])").count() == 0
    assert page.locator(".contents:visible, [data-seeds]:visible").count() == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    page.emulate_media(media="screen", color_scheme="dark")
    assert page.locator("details[open]").count() == opened_before
    assert len(page.pdf(format="A4")) > 50_000
    context.close()


@pytest.mark.slow
def test_a_large_report_is_small_and_soon_there(browser: Browser, tmp_path: Path) -> None:
    """500 trials of 50 evaluations. CPU-seconds, with room for a slow machine: 5 MB, and ten seconds to build."""
    found, verdicts = large()
    page, cpu_s = built(found, verdicts)
    assert len(page.encode()) < 5_000_000
    assert cpu_s < 10
    path = tmp_path / "large.html"
    path.write_text(page)
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    session = context.new_cdp_session(opened)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    opened.goto(path.as_uri())
    opened.wait_for_selector("html[data-complete]", state="attached", timeout=120_000)
    metrics = {m["name"]: m["value"] for m in session.send("Performance.getMetrics")["metrics"]}
    assert metrics["TaskDuration"] < 10
    paint, complete = opened.evaluate(
        "['first-contentful-paint', 'complete'].map((n) => performance.getEntriesByName(n)[0].startTime)"
    )
    assert paint < complete / 2, "what matters is there long before the figures"
    context.close()


def test_it_draws_in_the_frame_in_which_mlflow_shows_artifacts(
    browser: Browser, report: Path
) -> None:
    """A sandbox without an origin of its own, around a blob."""
    context = browser.new_context()
    page, complaints = context.new_page(), []
    page.on("console", lambda message: complaints.append(message.text))
    page.goto("about:blank")
    page.evaluate(
        """(html) => { const frame = document.createElement('iframe'); frame.sandbox = 'allow-scripts';
        frame.src = URL.createObjectURL(new Blob([html], {type: 'text/html'}));
        frame.width = 900; frame.height = 700; document.body.append(frame); }""",
        report.read_text(),
    )
    frame = page.frame_locator("iframe")
    frame.locator("html[data-complete]").wait_for(state="attached", timeout=120_000)
    assert frame.locator(".chart.js-plotly-plot").count() == frame.locator(".chart").count()
    assert complaints == []
    context.close()
