"""What a large report costs: 500 trials of 50 evaluations, from the tables to the last figure in a browser.

Bytes, CPU-seconds to build, and, where playwright and a Chromium are there, when the browser painted first and was
complete: every figure is drawn, those that nobody has scrolled to as well, and nothing is pending. The browser is alone
with the page and is asked only when it has come to rest, since a debugger that looks on doubles the time that plotly.js
takes to start. The CPU-seconds of its process say on a busy machine what the clock cannot.
"""

import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.request import Request, urlopen

import psutil

from dashboards.page import render
from dashboards.sweep import Sweep
from dashboards.verdict.values import Verdicts
from tests.dashboards.synthetic import clocked, judge, sweep

CELLS, SEEDS, POINTS = 10, 50, 50


def large(seeds: int = SEEDS) -> tuple[Sweep, Verdicts]:
    """Ten cells with so many seeds, judged."""
    effects = {f"cell {n}": -0.3 + 0.07 * n for n in range(CELLS)}
    kimg = [57.6 * (n + 1) / POINTS for n in range(POINTS)]
    found = clocked(sweep(effects, seeds=seeds, kimg=kimg))
    return found, judge(found)


def built(found: Sweep, verdicts: Verdicts) -> tuple[str, float]:
    """The page, and the CPU-seconds it took."""
    began = time.process_time()
    page = render(found, verdicts)
    return page, time.process_time() - began


def in_browser(page: Path) -> Mapping[str, float] | None:
    """Seconds to the first paint and to the last figure, and the renderer's CPU; None without a browser."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    if chromium is None:
        return None
    with tempfile.TemporaryDirectory() as profile:
        options = [
            "--headless",
            "--no-sandbox",
            "--window-size=1280,900",
            "--remote-debugging-port=0",
        ]
        command = [chromium, *options, f"--user-data-dir={profile}", "about:blank"]
        started = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            at_rest(started.pid)
            port = (Path(profile) / "DevToolsActivePort").read_text().splitlines()[0]
            opening = f"http://127.0.0.1:{port}/json/new?{page.as_uri()}"
            urlopen(Request(opening, method="PUT")).close()
            cpu = at_rest(started.pid)
            with sync_playwright() as api:
                browser = api.chromium.connect_over_cdp(f"http://127.0.0.1:{port}")
                pages = [one for context in browser.contexts for one in context.pages]
                (opened,) = [one for one in pages if one.url == page.as_uri()]
                paint, end = opened.evaluate(
                    "['first-contentful-paint', 'complete'].map((it) => performance.getEntriesByName(it)[0].startTime)"
                )
                browser.close()
        finally:
            for process in [*psutil.Process(started.pid).children(recursive=True), started]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            started.wait()
    return {"paint_s": paint / 1000, "complete_s": end / 1000, "cpu_s": cpu}


def at_rest(pid: int, quiet_s: float = 3.0) -> float:
    """Wait until no renderer of this browser has worked for a while; CPU-seconds of the one that worked most."""
    spent, since = -1.0, time.monotonic()
    while spent <= 0 or time.monotonic() - since < quiet_s:
        time.sleep(0.2)
        now = [0.0]
        for child in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if "--type=renderer" in child.cmdline():
                    now.append(sum(child.cpu_times()[:2]))
        if max(now) > spent + 0.02:
            spent, since = max(now), time.monotonic()
    return spent


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
        f" with {seen['cpu_s']:.1f} CPU-seconds of its process"
    )
