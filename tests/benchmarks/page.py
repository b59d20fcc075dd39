"""What a large report costs: 500 trials of 50 evaluations, from the tables to the last figure in a browser.

Bytes, CPU-seconds to build, and, where playwright and a Chromium are there, when the browser painted first and had
drawn everything, with the CPU-seconds of its main thread: these say on a busy machine what the clock cannot.
"""

import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dashboards.page import render
from dashboards.sweep import Sweep
from dashboards.verdict.values import Verdicts
from tests.dashboards.synthetic import clocked, judge, sweep

CELLS, SEEDS, POINTS = 10, 50, 50


def large() -> tuple[Sweep, Verdicts]:
    """Ten cells with fifty seeds, judged."""
    effects = {f"cell {n}": -0.3 + 0.07 * n for n in range(CELLS)}
    kimg = [57.6 * (n + 1) / POINTS for n in range(POINTS)]
    found = clocked(sweep(effects, seeds=SEEDS, kimg=kimg))
    return found, judge(found)


def built(found: Sweep, verdicts: Verdicts) -> tuple[str, float]:
    """The page, and the CPU-seconds it took."""
    began = time.process_time()
    page = render(found, verdicts)
    return page, time.process_time() - began


def in_browser(page: Path) -> Mapping[str, float] | None:
    """Seconds to the first paint and to the last figure, and the main thread's CPU; None without a browser."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    if chromium is None:
        return None
    with sync_playwright() as api:
        browser = api.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": 1280, "height": 900})
        session = opened.context.new_cdp_session(opened)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
        opened.goto(page.as_uri())
        opened.wait_for_selector("html[data-complete]", state="attached", timeout=120_000)
        metrics: list[dict[str, Any]] = session.send("Performance.getMetrics")["metrics"]
        cpu = {one["name"]: one["value"] for one in metrics}["TaskDuration"]
        paint, end = opened.evaluate(
            "[performance.getEntriesByName('first-contentful-paint')[0].startTime,"
            " performance.getEntriesByName('complete')[0].startTime]"
        )
        browser.close()
    return {"paint_s": paint / 1000, "complete_s": end / 1000, "cpu_s": cpu}


def main(report: Callable[[str], None] = print) -> None:
    """Print bytes and seconds."""
    found, verdicts = large()
    page, seconds = built(found, verdicts)
    report(
        f"page: {CELLS * SEEDS} trials x {POINTS} evaluations: {len(page.encode()) / 1e6:.2f} MB,"
        f" built in {seconds:.1f} CPU-seconds"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.html"
        path.write_text(page)
        seen = in_browser(path)
    if seen is None:
        report("page: no playwright or no Chromium here, so nothing is said of browsers")
        return
    report(
        f"page: in Chromium first paint after {seen['paint_s']:.2f} s, complete after {seen['complete_s']:.1f} s,"
        f" of which the main thread computed {seen['cpu_s']:.1f} CPU-seconds"
    )
