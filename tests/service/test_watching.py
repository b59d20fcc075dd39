"""A running sweep in the browser: what it shows, who may stop it, and that nothing else is touched."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.experiment import Experiment
from service.settings import Settings
from service.stop_request import REQUEST, heeded, request_stop
from service.watching import Watched
from tests.service.driver import Driver
from tests.service.sweeps import ROOT, sweep, wait_for, write
from trainer.record import Record


class Watching:
    """`diffsweep watch` in a process of its own."""

    def __init__(self, target: str, home: Path) -> None:
        command = [sys.executable, "-m", "service", "watch", target, "--home", str(home)]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        printed = ""
        for line in self.process.stdout:
            printed += line
            if "Ctrl-C" in line:
                break
        found = re.search(r"http://(127\.0\.0\.1:\d+)/#token=(\S+)", printed)
        assert found, printed
        self.address, self.token = f"http://{found[1]}", found[2]

    def get(self, path: str, **headers: str) -> str:
        asked = urllib.request.Request(self.address + path, headers=headers)
        with urllib.request.urlopen(asked, timeout=120) as answer:
            return str(answer.read().decode())

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.get("/state"))
        return found

    def stop(self, token: str) -> tuple[int, dict[str, Any]]:
        asked = urllib.request.Request(
            f"{self.address}/stop", method="POST", headers={"Authorization": f"Bearer {token}"}
        )
        try:
            with urllib.request.urlopen(asked, timeout=30) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def end(self) -> tuple[int, str]:
        self.process.send_signal(signal.SIGINT)
        assert self.process.stdout is not None
        return self.process.wait(30), self.process.stdout.read()


@pytest.fixture
def watching() -> Iterator[Any]:
    """Starts `diffsweep watch`, and ends it."""
    begun: list[Watching] = []

    def start(target: str, home: Path) -> Watching:
        begun.append(Watching(target, home))
        return begun[-1]

    yield start
    for each in begun:
        if each.process.poll() is None:
            each.process.kill()
            each.process.wait(10)


def long(toy: dict[str, Any]) -> Experiment:
    """Two trials that take minutes, with an evaluation every second or so."""
    base = toy | {"train": {"kimg": 6400, "batch_size": 64}}
    base["evaluation"] = toy["evaluation"] | {"evaluations": 200}
    return sweep(base, seeds=1, launcher="inproc")


def seen_at_every_width(watch: Watching) -> None:
    """Trials at work are there, and nothing scrolls sideways or is refused by the page's own policy."""
    api = pytest.importorskip("playwright.sync_api", reason="no playwright here")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        return
    with api.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for width in (1280, 820, 390):
            page = browser.new_page(viewport={"width": width, "height": 844})
            complaints: list[str] = []
            page.on("console", lambda said, told=complaints: told.append(said.text))
            page.goto(f"{watch.address}/")
            page.locator("#running tr").first.wait_for()
            wide = """(e) => [e, ...e.querySelectorAll(':not(thead, thead *)')]
                .filter((x) => x.scrollWidth > x.clientWidth + 1).map((x) => x.outerHTML)"""
            assert page.locator(".board").evaluate(wide) == []
            done, begun = page.evaluate(  # both at once: they are drawn anew every second
                """() => ['.done', '.begun'].map((x) => document.querySelector(`.meter ${x}`).offsetLeft)"""
            )
            assert done <= begun
            assert complaints == []
            page.close()
        browser.close()


@pytest.mark.ray
@pytest.mark.slow
def test_a_running_sweep_is_seen_and_stopped_with_the_token_alone(
    toy: dict[str, Any], tmp_path: Path, drivers: list[Driver], watching: Any
) -> None:
    home = tmp_path / "home"
    yaml = write(long(toy), tmp_path)
    drivers.append(Driver(home, yaml))
    drivers[0].until("kimg  rung/fid")
    watch = watching(str(yaml), home)

    def moving() -> Any:
        """What is said once a trial has moved: its pulse may come after its first report."""
        known = watch.state()
        return known if any(trial["kimg"] > 0 for trial in known["running"]) else None

    state = wait_for(moving, "a trial that moves")
    seen_at_every_width(watch)
    assert state["at_work"]
    assert f"process {drivers[0].process.pid}" in state["driver"]
    assert {trial["cell"] for trial in state["running"]} <= {"uniform", "under"}
    first = next(trial for trial in state["running"] if trial["kimg"] > 0)
    assert first["total_kimg"] == 6400
    assert wait_for(lambda: watch.state()["version"] != state["version"], "a newer report")
    assert "<h1>toy</h1>" in watch.get("/report")

    status, told = watch.stop("wrong")
    assert (status, "token" in told["error"]) == (403, True)
    assert drivers[0].process.poll() is None
    with pytest.raises(urllib.error.HTTPError) as refused:
        watch.get("/state", Host="evil.example")
    assert refused.value.code == 400, "no other site may ask through a browser"

    assert watch.stop(watch.token) == (202, {"asked": True})
    ended = drivers[0].end()
    assert ended["interrupted"]
    wait_for(lambda: not watch.state()["at_work"], "nobody to be at work")
    status, told = watch.stop(watch.token)
    assert (status, told["error"]) == (409, "nobody is running this experiment now")
    assert watch.end() == (0, "")


def test_a_finished_sweep_is_shown_too(trained: Path, watching: Any) -> None:
    watch = watching(str(trained / "x.yaml"), trained / "runs")
    state = watch.state()
    assert not state["at_work"]
    assert state["percent"] == 100
    assert state["running"] == []
    page = watch.get("/")
    assert "toy" in page
    assert "http" not in page.replace("http-equiv", ""), "nothing is asked from elsewhere"
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    assert "default-src 'none'" in policy[1]
    scripts = policy[1].partition("script-src")[2].partition(";")[0]
    assert scripts.count("'sha256-") == 1, "no script runs but its own"
    assert "unsafe" not in scripts
    assert watch.get("/report") == watch.get("/report"), "made once"


@pytest.mark.browser
def test_what_is_at_work_has_room_above_the_report(trained: Path, watching: Any) -> None:
    """Styles of the report are this page's too: none of them may squeeze it."""
    api = pytest.importorskip("playwright.sync_api", reason="no playwright here")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium here")
    watch = watching(str(trained / "x.yaml"), trained / "runs")
    with api.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 844})
        complaints: list[str] = []
        page.on("console", lambda said: complaints.append(said.text))
        page.goto(f"{watch.address}/#token={watch.token}")
        page.get_by_text("4 of 4 trials finished").wait_for()
        board = page.locator(".board")
        assert board.evaluate("(e) => e.scrollHeight <= e.clientHeight")
        assert page.get_by_role("button", name="Stop the run").is_disabled()
        report = page.frame_locator("iframe:not(.next)")
        report.get_by_role("heading", name="toy").wait_for()
        assert complaints == []
        browser.close()


def test_the_report_is_made_again_only_when_a_trial_said_something(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.watching._LOOKS_EVERY_S", 0.0)
    settings = Settings(home=folder / "runs", tracking_uri=None)
    experiment = Experiment.from_yaml("x.yaml")
    watched = Watched(experiment, settings)
    page, version = watched.page(), watched.state()["version"]
    assert watched.page() is page
    record = Record(settings.trial(experiment.trials[0].key))
    record.add_report(record.reports()[0])
    assert watched.state()["version"] != version
    assert watched.page() is not page


def test_a_request_stops_the_run_that_is_there_and_not_the_next(tmp_path: Path) -> None:
    stop = threading.Event()
    request_stop(tmp_path)  # of a run before
    with heeded(tmp_path, stop, every_s=0.01):
        assert not (tmp_path / REQUEST).exists()
        assert not stop.is_set()
        request_stop(tmp_path)
        assert stop.wait(30)
    assert not (tmp_path / REQUEST).exists()
