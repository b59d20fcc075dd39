"""A person in a browser: moves samples over training, enlarges them, takes tables and figures; nothing complains."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dashboards import exports
from dashboards.links import Links
from dashboards.page import render
from dashboards.sweep import Sweep
from tests.dashboards.synthetic import KIMG, ended, grids, judge, levels, sweep, tuning

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here"),
]
CELLS = {"uniform": 0.0, "under_sampled": 0.1, "under~equal": 0.0}


@dataclasses.dataclass
class Shown:
    """A page on disk and what it is of."""

    sweep: Sweep
    path: Path

    @property
    def address(self) -> str:
        return self.path.as_uri()


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    folder = tmp_path_factory.mktemp("page")
    found = ended(sweep(CELLS, seeds=6), "under_sampled", 1, "diverged", "diverged: loss is nan")
    found = dataclasses.replace(
        found,
        samples=grids(found, folder, KIMG),
        levels=levels(found),
        tuning=tuple(tuning(cell) for cell in CELLS),
    )
    links = Links(
        "http://ui.example/#/experiments/1", {}, {("uniform", 0): "http://ui.example/#/r"}
    )
    path = folder / "report.html"
    path.write_text(render(found, judge(found), links=links))
    return Shown(found, path)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def page(browser: Any, shown: Shown) -> Iterator[Any]:
    """The page, open; at its end nothing may have complained."""
    complaints: list[str] = []
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    opened = context.new_page()
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.goto(shown.address)
    yield opened
    context.close()
    assert complaints == []


def picture(shown: Shown, cell: str, seed: int, time: int) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(shown.sweep.samples[cell, seed][time].path).convert("L"))


def enlarged(of: np.ndarray[Any, Any], factor: int) -> np.ndarray[Any, Any]:
    return of.repeat(factor, 0).repeat(factor, 1)


def is_drawn(page: Any, image: Any, expected: np.ndarray[Any, Any], density: float = 1) -> bool:
    """Whether the screen shows exactly these pixels where the image is."""
    image.scroll_into_view_if_needed()
    box = image.bounding_box()
    screen = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("L"))
    top, left = int(box["y"] * density), int(box["x"] * density)
    height, width = expected.shape
    found = (
        screen[y : y + height, x : x + width]
        for y in range(max(0, top - 2), top + 3)
        for x in range(max(0, left - 2), left + 3)
    )
    return any(np.array_equal(part, expected) for part in found)


@pytest.mark.parametrize("density", [1, 2])
def test_every_pixel_of_a_sample_is_a_whole_number_of_screen_pixels(
    browser: Any, shown: Shown, density: float
) -> None:
    context = browser.new_context(
        viewport={"width": 1280, "height": 900}, device_scale_factor=density
    )
    opened = context.new_page()
    opened.goto(shown.address)
    own = picture(shown, "uniform", 0, -1)
    factor = int(280 * density / own.shape[1])
    assert factor >= 4
    assert is_drawn(
        opened, opened.locator("#samples .zoom img").first, enlarged(own, factor), density
    )
    context.close()


def test_the_slider_shows_the_samples_of_every_evaluation(page: Any, shown: Shown) -> None:
    slider, image = page.locator("#samples-time"), page.locator('[data-place="1-0"] img')
    assert slider.get_attribute("max") == str(len(KIMG) - 1)
    last = image.get_attribute("src")
    slider.focus()
    page.keyboard.press("Home")
    assert page.locator("#samples output").text_content() == "9.6 kimg"
    assert slider.get_attribute("aria-valuetext") == "9.6 kimg"
    assert image.get_attribute("alt") == "samples of under_sampled, seed 0, at 9.6 kimg"
    assert image.get_attribute("src") != last
    own = picture(shown, "under_sampled", 0, 0)
    assert is_drawn(page, image, enlarged(own, 280 // own.shape[1]))
    page.keyboard.press("End")
    assert image.get_attribute("src") == last


def test_a_click_enlarges_and_the_keyboard_walks(page: Any) -> None:
    dialog, title = page.locator("#enlarged"), page.locator("#enlarged-title")
    page.locator('[data-place="0-2"]').click()
    assert dialog.evaluate("d => d.open")
    assert title.text_content().startswith("uniform, seed 2, at 57.6 kimg, ")
    for key, place in (
        ("ArrowLeft", "uniform, seed 2, at 48 kimg"),
        ("ArrowDown", "under_sampled, seed 2, at 48 kimg"),
        ("ArrowDown", "under~equal, seed 2, at 48 kimg"),
        ("ArrowDown", "under~equal, seed 2, at 48 kimg"),
        ("ArrowRight", "under~equal, seed 2, at 57.6 kimg"),
        ("ArrowUp", "under_sampled, seed 2, at 57.6 kimg"),
    ):
        page.keyboard.press(key)
        assert title.text_content().startswith(place + ", ")
    size = dialog.locator("img").evaluate(
        "i => [i.width / i.naturalWidth, i.height / i.naturalHeight]"
    )
    assert size[0] == size[1] == int(size[0]) > 4
    page.keyboard.press("Escape")
    assert not dialog.evaluate("d => d.open")
    assert page.evaluate("document.activeElement.dataset.place") == "1-2"


def test_enter_enlarges_and_the_buttons_work(page: Any) -> None:
    dialog, title = page.locator("#enlarged"), page.locator("#enlarged-title")
    page.locator('[data-place="1-0"]').focus()
    page.keyboard.press("Enter")
    assert title.text_content().startswith("under_sampled, seed 0, at 57.6 kimg")
    dialog.get_by_label("earlier in training").click()
    dialog.get_by_label("cell above").click()
    assert title.text_content().startswith("uniform, seed 0, at 48 kimg")
    assert dialog.get_by_label("cell above").get_attribute("aria-disabled") == "true"
    dialog.get_by_label("close").click()
    assert not dialog.evaluate("d => d.open")
    assert page.evaluate("document.activeElement.dataset.place") == "0-0"


def taken(page: Any, button: Any) -> tuple[str, str]:
    """Name and text of what a button downloads."""
    with page.expect_download() as waiting:
        button.click()
    download = waiting.value
    return download.suggested_filename, Path(download.path()).read_text()


def test_the_tables_that_are_downloaded_are_the_sweeps(page: Any, shown: Shown) -> None:
    section = page.locator("#downloads")
    for of, frame in (("trials", shown.sweep.trials), ("curves", shown.sweep.curves)):
        name, text = taken(page, section.get_by_text(f"synthetic-{of}.csv", exact=True))
        assert name == f"synthetic-{of}.csv"
        read = pd.read_csv(io.StringIO(text))
        assert list(read.columns) == list(frame.columns)
        for column in ("value", "eval/fid", "kimg"):
            if column in frame:
                np.testing.assert_array_equal(read[column], frame[column])
        assert read["cell"].tolist() == frame["cell"].tolist()
    name, text = taken(page, section.get_by_text("synthetic-verdict.json"))
    words = {
        one["cell"]: one["word"] for one in json.loads(text)["words"] if one["measure"] == "final"
    }
    verdicts = judge(shown.sweep)
    assert words == {compared.cell: compared.word for compared in verdicts.comparisons}
    section.get_by_text("Verdict table in LaTeX").click()
    name, text = taken(page, section.get_by_text("synthetic-verdict.tex"))
    assert name == "synthetic-verdict.tex"
    assert text == exports.export(shown.sweep, verdicts, "latex")
    assert "under\\_sampled" in text


def test_a_table_is_copied(page: Any, shown: Shown) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator("#downloads").get_by_text("Verdict table in Markdown").click()
    button = page.locator('[data-copy="copy-1"]')
    button.click()
    page.wait_for_function("document.querySelector('[data-copy]').textContent === 'copied'")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == exports.export(shown.sweep, judge(shown.sweep), "markdown")


def test_every_figure_is_downloaded_as_svg(page: Any) -> None:
    charts = page.locator(".chart")
    names = [charts.nth(at).get_attribute("data-figure") for at in range(charts.count())]
    assert {"convergence", "levels_loss_0", "tuning", "evidence"} <= set(names)
    for figure in ("convergence", "levels_loss_0"):
        chart = page.locator(f'[data-figure="{figure}"]')
        chart.scroll_into_view_if_needed()
        page.wait_for_function(f"document.querySelector('[data-figure={figure}]').data")
        name, text = taken(page, chart.locator("xpath=..").locator("button.svg"))
        assert name == f"{figure}.svg"
        root = ET.fromstring(text)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        drawn = " ".join(root.itertext())
        assert "kimg" in drawn
        assert "uniform" in drawn


def test_links_lead_to_the_runs(page: Any) -> None:
    section = page.locator("#trials")
    assert section.get_by_text("uniform-0", exact=True).locator("xpath=..").get_attribute(
        "href"
    ) == ("http://ui.example/#/r")
    assert (
        section.get_by_text("the experiment").get_attribute("href").startswith("http://ui.example/")
    )
    assert section.locator("a:not(.anchor)").count() == 2


def test_without_javascript_the_last_pictures_show(browser: Any, shown: Shown) -> None:
    context = browser.new_context(java_script_enabled=False)
    opened = context.new_page()
    opened.goto(shown.address)
    assert opened.locator("#samples td:visible img").count() == 17, (
        "all six seeds of three cells, less one: no button shows the others"
    )
    assert is_drawn(opened, opened.locator("#samples img").first, picture(shown, "uniform", 0, -1))
    assert not opened.locator("#samples-time").is_visible()
    assert not opened.locator("#downloads button").first.is_visible()
    assert (
        "diffsweep compare synthetic --format csv --table trials"
        in opened.locator("#downloads").inner_text()
    )
    context.close()
