"""What can wait waits until a trial trains, and nothing waits longer."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from service.ahead import MODULES, is_new, read_ahead
from service.progress import TrialFinished, TrialReported, TrialStarted
from service.settings import Settings
from service.tracking.notes import REPORT
from service.tracking.outbox import Outbox
from service.tracking.uploader import Uploader
from service.under_way import UnderWay
from trainer.pulse import Heart

STARTED = TrialStarted("a", 0, "k", 1.0)


def test_a_beat_of_this_run_says_that_a_trial_trains(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    directory = settings.trial("k")
    directory.mkdir(parents=True)
    Heart(directory, 1000).beat(100, [])
    is_under_way = UnderWay(settings)
    assert not is_under_way()
    is_under_way.hear(TrialFinished("a", 1, "other", reused=True))
    is_under_way.hear(STARTED)
    assert not is_under_way(), "the beat is that of a process that was killed"
    Heart(directory, 1000).beat(200, [])
    assert is_under_way()


def test_so_does_a_report_and_where_no_beat_is_seen_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, elsewhere = UnderWay(Settings(home=tmp_path)), UnderWay(Settings(home=tmp_path))
    told.hear(STARTED)
    told.hear(TrialReported("a", 0, "k", 0.1, 1.0))
    assert told()
    elsewhere.hear(STARTED)
    assert not elsewhere()
    monkeypatch.setattr("service.under_way.LATEST_S", 0.0)
    assert elsewhere()


def test_nothing_is_delivered_before_unless_somebody_waits_for_it(tmp_path: Path) -> None:
    asked: list[float] = []
    begun = threading.Event()
    uploader = Uploader(
        Outbox(tmp_path / "outbox.db"), Settings(home=tmp_path), "x", interval_s=0.01, may_begin=begun.is_set
    )  # fmt: skip
    uploader._attempt = lambda: asked.append(1.0)  # type: ignore[method-assign]
    uploader.start()
    uploader.join(0.1)
    assert not asked
    begun.set()
    uploader.join(0.5)
    assert asked
    uploader.close()


def test_a_run_is_likely_to_train_where_there_is_no_report(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"home": tmp_path}
    file = tmp_path / "x.yaml"
    file.write_text("name: x\n")
    assert is_new(file, Settings(**settings))
    assert not is_new(file, Settings(**settings, ray_address="ray://elsewhere:10001"))
    assert not is_new(tmp_path / "absent.yaml", Settings(**settings))
    file.write_text("name: [x")
    assert not is_new(file, Settings(**settings)), (
        "what is wrong with it is told where it is checked"
    )
    file.write_text("name: x\n")
    report = Settings(**settings).experiment("x") / REPORT
    report.parent.mkdir(parents=True)
    report.touch()
    assert not is_new(file, Settings(**settings))


def test_the_end_is_read_once_from_the_first_report_on(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Any] = []
    read: list[str] = []
    monkeypatch.setattr("dashboards.html.packed_plotly", lambda: read.append("plotly.js"))
    monkeypatch.setattr("service.ahead.importlib.import_module", read.append)
    show = read_ahead(heard.append)
    events = [STARTED, TrialFinished("a", 1, "other", reused=True)]
    for event in events:
        show(event)
    assert not read
    for k in (0.1, 0.2):
        show(TrialReported("a", 0, "k", k, 1.0))
    for thread in threading.enumerate():
        if thread.name == "diffsweep-ahead":
            thread.join(10)
    assert read == [*MODULES, "plotly.js"]
    assert len(heard) == 4
