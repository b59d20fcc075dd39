"""Proves: the report is one file that loads nothing, says everything, escapes what it is given, and draws."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import json
import re
import shutil
import subprocess
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dashboards.page import render
from dashboards.sweep import Sweep
from dashboards.verdict.comparable import IncomparableError
from tests.dashboards.synthetic import drawn, ended, grids, judge, sweep

CELLS = {"uniform": 0.0, "under": 0.1, "under~equal": 0.0}
SECTIONS = {
    "verdicts",
    "convergence",
    "speed",
    "differences",
    "spread",
    "objectives",
    "samples",
    "loss",
    "trials",
    "protocols",
    "reproduce",
}


class Page(HTMLParser):
    """What a browser would load, show and draw."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.ids: set[str] = set()
        self.charts: list[str] = []
        self.images: list[str] = []
        self.scripts: dict[str, str] = {}
        self.text = ""
        self._inside: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids.add(given.get("id", ""))
        self.loads += [
            v
            for k, v in given.items()
            if k in {"src", "href", "srcset", "data", "action", "poster"}
        ]
        if "data-figure" in given:
            self.charts.append(given["data-figure"])
        if tag == "img":
            self.images.append(given["src"])
        if tag in {"script", "style"}:
            self._inside = [tag, given.get("id", "")]

    def handle_endtag(self, tag: str) -> None:
        if tag in {"script", "style"}:
            self._inside = []

    def handle_data(self, data: str) -> None:
        if not self._inside:
            self.text += data
        elif self._inside[1]:
            self.scripts[self._inside[1]] = data


def figure(page: Page, name: str) -> dict[str, Any]:
    """What the browser will draw; long ones travel as gzip."""
    text = page.scripts[f"figure-{name}"]
    if not text.startswith("{"):
        text = gzip.decompress(base64.b64decode(text)).decode()
    found: dict[str, Any] = json.loads(text)
    return found


def passports(cells: dict[str, float]) -> dict[str, dict[str, list[float]]]:
    x = np.linspace(-10, 10, 64)
    bell = np.exp(-(x**2) / 8)
    curve = {"log_snr": x, "density": bell, "weight": x * 0 + 1, "product": bell}
    curve |= {"t": np.linspace(0, 1, 64), "schedule": -x}
    return {cell: {name: values.tolist() for name, values in curve.items()} for cell in cells}


def synthetic(directory: Path) -> Sweep:
    found = ended(sweep(CELLS), "under", 1, "diverged", "diverged: loss is nan at 28.8 kimg")
    found = ended(found, "under~equal", 2, "waiting")
    return dataclasses.replace(found, samples=grids(found, directory))


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    found = synthetic(tmp_path_factory.mktemp("grids"))
    return render(
        found,
        judge(found),
        passports(CELLS),
        ["`under` and `under~equal` are the same objective (TV 0.000)"],
        command="diffsweep run experiments/synthetic.yaml",
        versions={"diffsweep": "0.1.0", "torch": "2.11.0"},
        created=datetime(2030, 1, 2, 3, 4, tzinfo=UTC),
    )


def without_plotly(html: str) -> str:
    """The page less plotly's own code."""
    return re.sub(r'<script type="application/gzip" id="plotly">.*?</script>', "", html, count=1)


def test_the_page_loads_nothing(html: str) -> None:
    page = Page(html)
    assert all(load.startswith(("data:image/png;base64,", "#")) for load in page.loads)
    assert {load[1:] for load in page.loads if load.startswith("#")} <= page.ids
    own = without_plotly(html)
    assert len(own) < len(html) - 1_500_000
    assert "http://" not in own
    assert "https://" not in own
    assert "@import" not in own
    assert "url(" not in own
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy is not None
    assert "default-src 'none'" in policy[1]
    assert "http" not in policy[1]
    scripts = policy[1].partition("script-src")[2]
    assert scripts.count("'sha256-") == 2, "the page's own script and plotly"
    assert "unsafe" not in scripts


def test_the_page_is_complete(html: str) -> None:
    page = Page(html)
    assert page.ids >= SECTIONS | {"verdict"}
    assert set(page.charts) == {
        "convergence",
        "speed_up",
        "training_loss",
        "passport_density",
        "passport_product",
        "passport_schedule",
    }
    for name in page.charts:
        assert figure(page, name)["data"]
    assert len(page.images) == 7  # nine trials, one diverged, one missing
    assert base64.b64decode(page.images[0].split(",")[1]).startswith(b"\x89PNG")


def test_the_page_begins_with_the_verdict(html: str) -> None:
    """One sentence, a line for each cell, how sure it is; then what was trained, and only then the paragraphs."""
    text = " ".join(Page(html).text.split())
    order = (
        "INCONCLUSIVE: 3 seeds cannot tell",
        "too early",
        "3 cells, 3 seeds",
        "INCONCLUSIVE with",
    )
    places = [text.index(words) for words in order]
    assert places == sorted(places)
    first = html[: html.index("<main")]
    assert first.count('class="strip"') == 2
    assert first.count('<circle class="seed') == 4, (
        "a dot for each pair, of which two cells lost one each"
    )


def test_the_page_says_what_happened(html: str) -> None:
    text = " ".join(Page(html).text.split()).replace("\u00a0", " ")
    for expected in (
        "seed 1 of under diverged",
        "loss is nan at 28.8 kimg",
        "seed 2 of under~equal is missing",
        "7 of 9 trials finished",
        "57.6 kimg each",
        "are the same objective (TV 0.000)",
        "diffsweep run experiments/synthetic.yaml",
        "base: presets/digits.yaml",
        "torch 2.11.0",
        "2 January 2030",
        "The cheap protocol of the convergence curve: 250 images",
        "1,000 images from the averaged (EMA) weights, solver dpmpp_2m in 15 steps",
        "Not comparable across cells",
        "within ± 2 %",
    ):
        assert expected in text
    assert re.search(r"under \d\.\d+ ± \d", text)


def test_the_page_tells_seeds_from_draws() -> None:
    """One row per cell and per difference; an estimate below 0 is marked."""
    found = drawn(sweep(CELLS, seeds=6))
    html = render(found, judge(found))
    (table,) = re.findall(r'<section id="spread">.*?<tbody>(.*?)</tbody>', html, re.DOTALL)
    rows = [
        [" ".join(Page(cell).text.split()) for cell in row.split("<td")[1:]]
        for row in table.split("</tr>")[:-1]
    ]
    assert [row[0].lstrip("> ") for row in rows] == [
        "uniform", "under", "under against uniform", "under~equal", "under~equal against uniform",
    ]  # fmt: skip
    for row in rows:
        assert row[2].endswith("6 \N{MULTIPLICATION SIGN} 3")
        sources = [re.search(r">(0\*|[\d.]+)(?: %)? (\d+) %$", cell) for cell in row[3:6]]
        assert abs(sum(int(source[2]) for source in sources if source) - 100) <= 1, "rounded"
        assert re.search(r"\d+ %$", row[6])
    assert any(cell.endswith(">0* 0 %") for row in rows for cell in row)
    text = " ".join(Page(html).text.split()).replace("\u00a0", " ")
    assert text.count("A test by seed holds for these 3 draws") == 2
    assert "counts as 0" in text


def test_one_noise_for_all_is_said(html: str) -> None:
    text = " ".join(Page(html).text.split())
    assert "the claims hold for that noise" in text
    assert "of draws" not in text


def test_names_cannot_break_out_of_the_page() -> None:
    evil = "</script><b onclick=x>"
    found = sweep({"a": 0.0, evil: 0.1})
    html = render(found, judge(found), findings=[f"see `{evil}` <i>"], command="echo '<u>'")
    own = without_plotly(html)
    for raw in (evil, "<i>", "<u>", "<b onclick"):
        assert raw not in own
    assert figure(Page(html), "convergence")["data"]


def test_a_refusal_is_shown_in_place_of_a_verdict() -> None:
    found = sweep()
    odd = found.curves["protocol"].where(found.curves["cell"] != "under", "p-other")
    mixed = dataclasses.replace(found, curves=found.curves.assign(protocol=odd))
    with pytest.raises(IncomparableError) as error:
        judge(mixed)
    page = Page(render(mixed, None, refusal=str(error.value)))
    assert "rung/fid was measured under 2 protocols" in page.text
    assert page.charts == ["training_loss"]
    assert "p-other" in page.text


def test_a_cell_not_compared_is_named_and_left_out_of_the_convergence_chart() -> None:
    found = sweep({"a": 0.0, "b": 0.1, "odd": 0.0})
    odd = found.curves["protocol"].where(found.curves["cell"] != "odd", "p-other")
    mixed = dataclasses.replace(found, curves=found.curves.assign(protocol=odd))
    page = Page(render(mixed, judge(mixed)))
    assert "odd is not compared: rung/fid was measured under 2 protocols" in page.text
    drawn = figure(page, "convergence")["data"]
    assert {trace["legendgroup"] for trace in drawn} == {"a", "b"}


def test_the_table_says_over_how_many_seeds_a_mean_is(html: str) -> None:
    text = " ".join(Page(html).text.split())
    assert re.search(r"under \d\.\d+ ± \d\.\d+ 2 of 3 ", text)
    assert re.search(r"uniform \d\.\d+ ± \d\.\d+ 3 ", text)
    assert "A trial that diverged, broke or has no finite number is the worst outcome" in text


def test_an_empty_sweep_still_makes_a_page() -> None:
    found = sweep(seeds=1)
    for cell in found.cells:
        found = ended(found, cell, 0, "waiting")
    page = Page(render(found, None))
    assert "Nothing to judge yet." in page.text
    assert page.charts == []
    assert page.text.count("waiting") == 2


def test_many_seeds_get_a_picker(tmp_path: Path) -> None:
    found = sweep(seeds=5)
    found = dataclasses.replace(found, samples=grids(found, tmp_path))
    own = without_plotly(render(found, judge(found)))
    assert len(re.findall(r'<button type="button" data-seed="\d"', own)) == 5
    assert len(re.findall(r'<button [^>]*data-seed="\d" aria-pressed="true"', own)) == 3
    assert len(re.findall(r"<td data-seed=\"[34]\" hidden>", own)) == 4


@pytest.mark.browser
@pytest.mark.parametrize("dark", [False, True])
def test_a_browser_draws_every_chart(html: str, tmp_path: Path, dark: bool) -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium here")
    (tmp_path / "report.html").write_text(html)
    run = subprocess.run(
        [
            chromium,
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--blink-settings=preferredColorScheme={0 if dark else 1}",
            *("--virtual-time-budget=8000", "--enable-logging=stderr", "--window-size=700,1000"),
            *("--dump-dom", f"file://{tmp_path / 'report.html'}"),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert run.stdout.count('class="chart js-plotly-plot"') == 6
    assert "CONSOLE" not in run.stderr  # no script error, nothing refused by the page's own policy
    page = "rgb(17, 20, 25)" if dark else "rgb(251, 251, 252)"
    assert f"fill: {page}" in run.stdout, "figures have the page's colours"


def test_passports_page_is_self_contained_and_names_equal_objectives() -> None:
    from dashboards.page import render_passports
    from trainer.diffusion import timestep, weighting
    from trainer.diffusion.passport import findings, passport, total_variation
    from trainer.diffusion.process import Diffusion

    cells = {
        "under": Diffusion(timesteps=timestep.P2()),
        "weighted": Diffusion(weighting=weighting.P2()),
        "plain": Diffusion(),
    }
    page = render_passports(
        {name: passport(cell).to_dict() for name, cell in cells.items()},
        {n: [total_variation(c, other) for other in cells.values()] for n, c in cells.items()},
        findings(cells),
    )
    body = page.split("<script>")[0]
    assert 'src="http' not in body
    assert 'href="http' not in body
    for name in cells:
        assert name in body
    assert body.count("are the same objective") == 1
    for chart in ("density", "product", "schedule"):
        assert f'id="figure-passport_{chart}"' in page
