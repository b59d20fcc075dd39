"""The outbox is held, damaged, or its disk is full: nobody waits, nothing ends, and all of it is there afterwards."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from service.catching_up import catch_up
from service.errors import ServiceError
from service.experiment.saved import save
from service.ledger import Ledger
from service.settings import Settings
from service.tracking import patient
from service.tracking.outbox import Outbox
from service.tracking.rows import RunHeader
from service.tracking.uploader import Uploader
from tests.service.by_hand import delivered, recorded
from tests.service.driver import Command, Driver
from tests.service.faults.conftest import SmallDisk
from tests.service.sweeps import sweep, wait_for, write
from trainer.record import Record
from trainer.report import Report, Result

pytestmark = pytest.mark.fault
TRIAL = RunHeader("trial:1", "trial", "one")


class Holder:
    """Another process that holds the file for itself: a backup, a shell, a slow lock of a network disk."""

    def __init__(self, path: Path) -> None:
        program = (
            "import sqlite3, sys; d = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None);"
            "d.execute('BEGIN EXCLUSIVE'); print('held', flush=True); sys.stdin.readline(); d.execute('ROLLBACK')"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-c", program, str(path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "held\n"

    def let_go(self) -> None:
        self._process.communicate("\n", timeout=30)


def reports(box: Outbox, first: int, last: int) -> float:
    """Reports as a trial makes them; returns the longest that one of them took, in seconds."""
    slowest = 0.0
    for step in range(first, last):
        began = time.monotonic()
        box.ingest("trial:1", Report(1000 * step, step, {"eval/fid": 1.0 / step}), b"png")
        box.tag("trial:1", {"last": str(step)})
        slowest = max(slowest, time.monotonic() - began)
    return slowest


def told(box: Outbox) -> tuple[Any, ...]:
    (run,) = box.runs()
    pictures = [(one.step, one.body) for one in box.waiting("trial:1", "image", 99)]
    return run.header.tags, box.points("trial:1"), pictures


def test_a_file_that_another_process_holds_is_written_later(tmp_path: Path) -> None:
    whole, box = Outbox(tmp_path / "whole.db"), Outbox(tmp_path / "outbox.db")
    for one in (whole, box):
        one.open_run(TRIAL, 1000)
        reports(one, 1, 3)
    reports(whole, 3, 30)
    holder = Holder(box.path)
    slowest = reports(box, 3, 30)
    assert slowest < 2 * patient._WRITE_S + 1.0, "a report waits for seconds, not for the holder"
    assert box.storage.put_off >= 50
    assert "locked" in box.storage.problem
    assert box.pending() >= 50, "what is put off is not delivered yet"
    holder.let_go()
    assert box.storage.flush()
    assert (told(box), box.storage.problem) == (told(whole), "")


def test_the_end_of_a_run_waits_for_a_file_that_is_held(tmp_path: Path) -> None:
    box = Outbox(tmp_path / "outbox.db")
    box.open_run(TRIAL, 1000)
    holder = Holder(box.path)
    reports(box, 1, 3)
    box.close()
    holder.let_go()
    again = Outbox(tmp_path / "outbox.db")
    assert again.points("trial:1") == [], "it was given up: the records have it"
    holder = Holder(again.path)
    reports(again, 1, 3)
    release = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3)"])
    release.wait()
    holder.let_go()
    again.close(patience_s=30.0)
    assert len(Outbox(tmp_path / "outbox.db").points("trial:1")) == 2


def test_a_file_that_is_held_from_the_start_is_refused_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = Holder(tmp_path / "outbox.db")
    monkeypatch.setattr(patient, "_OPEN_S", 0.2)
    with pytest.raises(ServiceError, match="held by another process") as refusal:
        Outbox(tmp_path / "outbox.db")
    holder.let_go()
    assert "end what holds it" in refusal.value.fix


def test_the_person_is_told_once_why_it_waits_and_when_it_goes_on(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, tracking_uri=None)
    box = Outbox(settings.experiment("toy") / "outbox.db")
    box.open_run(RunHeader("sweep:toy", "sweep", "toy"), 1000)
    notes: list[str] = []
    uploader = Uploader(box, settings, "toy", notes.append, interval_s=0.05)
    uploader.start()
    assert uploader.drain(60) == 0
    holder = Holder(box.path)
    box.tag("sweep:toy", {"a": "1"})
    wait_for(lambda: notes, "a note", 60)
    time.sleep(2.0)
    holder.let_go()
    wait_for(lambda: len(notes) > 1, "a second note", 60)
    assert uploader.drain(60) == 0
    uploader.close()
    assert ["training goes on" in notes[0], notes[1]] == [
        True, "outbox.db can be written again: nothing is missing",
    ]  # fmt: skip
    assert len(notes) == 2


@pytest.mark.parametrize("disk", [2], indirect=True)
def test_a_full_disk_puts_writes_off_until_there_is_room(disk: SmallDisk, tmp_path: Path) -> None:
    whole, box = Outbox(tmp_path / "whole.db"), Outbox(disk.place / "outbox.db")
    for one in (whole, box):
        one.open_run(TRIAL, 1000)
    reports(whole, 1, 30)
    disk.fill()
    reports(box, 1, 30)
    assert box.storage.put_off > 0
    assert "full" in box.storage.problem
    disk.make_room()
    assert box.storage.flush()
    assert told(box) == told(whole)
    box.close()


# --- damage --------------------------------------------------------------------------


@pytest.fixture
def finished(toy: dict[str, Any], tmp_path: Path) -> tuple[Settings, Outbox]:
    """An experiment whose trials have all told their ends."""
    settings, experiment = Settings(home=tmp_path, tracking_uri=None), sweep(toy)
    home = settings.experiment(experiment.name)
    home.mkdir(parents=True)
    save(experiment, home)
    outbox = Outbox(home / "outbox.db")
    book = Ledger(experiment, settings, outbox, lambda _event: None, lambda: 100.0)
    book.open()
    for trial in experiment.trials:
        record = Record(settings.trial(trial.key))
        for step in (1280, 2560):
            record.add_report(Report(step, 200.0, {"eval/fid": 1.0 + trial.seed}))
        metrics = {"eval/fid": 1.0}
        record.write_result(Result("finished", None, 2560, metrics, 500.0, 1.0, 1.0, {}, 10))
    return settings, outbox


def known(box: Outbox) -> dict[str, Any]:
    return {
        run.header.key: (run.header.name, run.status, box.points(run.header.key, ("eval/",)))
        for run in box.runs()
    }


def test_a_damaged_file_is_set_aside_and_made_anew_from_the_records(
    finished: tuple[Settings, Outbox],
) -> None:
    settings, outbox = finished
    catch_up(settings, "toy", outbox)
    before = known(outbox)
    assert all(points for key, (_, _, points) in before.items() if key.startswith("trial:"))
    outbox.close()
    with open(outbox.path, "r+b") as file:
        file.write(b"\xff" * 100)

    anew = Outbox(outbox.path)
    assert anew.storage.was_damaged
    assert list(outbox.path.parent.glob("outbox.db.damaged-*")), (
        "it is kept for whoever wants to look"
    )
    catch_up(settings, "toy", anew)
    assert known(anew) == before


def test_a_file_that_is_damaged_while_it_is_open_ends_nothing(
    finished: tuple[Settings, Outbox],
) -> None:
    settings, outbox = finished
    outbox.storage._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with open(outbox.path, "r+b") as file:
        file.write(b"\xff" * outbox.path.stat().st_size)
    outbox.storage._db.execute("PRAGMA shrink_memory")
    for step in range(3, 30):
        outbox.tag("sweep:toy", {"step": str(step)})
        outbox.points("sweep:toy")
    assert outbox.storage.is_lost
    assert "damaged" in outbox.storage.problem
    outbox.close()
    anew = Outbox(outbox.path)
    catch_up(settings, "toy", anew)
    assert sum(key.startswith("trial:") for key in known(anew)) == 4


def test_what_a_worker_wrote_that_could_not_tell_it_is_delivered(
    finished: tuple[Settings, Outbox],
) -> None:
    """It died between its record and its word; nobody runs the experiment now."""
    settings, outbox = finished
    assert not any(points for _, _, points in known(outbox).values())
    catch_up(settings, "toy", outbox)
    trials = [points for key, (_, _, points) in known(outbox).items() if key[:6] == "trial:"]
    assert [len(points) for points in trials] == [2] * 4


def test_a_driver_takes_in_what_a_dead_worker_wrote(toy: dict[str, Any], tmp_path: Path) -> None:
    """At the start of a trial and at its end, whatever messages were lost."""
    settings, experiment = Settings(home=tmp_path, tracking_uri=None), sweep(toy)
    outbox = Outbox(tmp_path / "outbox.db")
    book = Ledger(experiment, settings, outbox, lambda _event: None)
    first, second = book.open()[:2]
    for trial, how in ((first, "started"), (second, "ended")):
        record = Record(settings.trial(trial.key))
        book.started(trial.key)
        record.add_report(Report(1280, 200.0, {"eval/fid": 1.0}))
        if how == "started":  # another worker takes it up
            book.started(trial.key)
        else:
            end = {"metrics": {"eval/fid": 1.0}, "seconds": 1.0, "eval_seconds": 1.0}
            end |= {"status": "finished", "reason": None, "images": 2560, "started_s": 500.0}
            end |= {"protocol": {}, "parameters": 10}
            book.take(trial.key, {"event": "ended", "result": end})
        assert outbox.points(f"trial:{trial.key}", ("eval/",)), how


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("what", ["outbox.db*", "."])
def test_what_is_deleted_in_the_middle_is_made_anew_from_the_records(
    what: str, toy: dict[str, Any], tmp_path: Path, drivers: list[Driver]
) -> None:
    """By a person who cleans up: the outbox, or the experiment's whole folder."""
    longer = {"train.kimg": 192.0, "evaluation.evaluations": 24}
    yaml = write(sweep(toy, seeds=1, set=longer, launcher="inproc"), tmp_path)
    home = tmp_path / "home"
    run = Command(home, yaml, DIFFSWEEP_TRACKING_PATIENCE_S="120")
    drivers.append(run)
    run.until(" 16 of 192 kimg")
    folder = home / "experiments" / "toy"
    for found in [folder] if what == "." else list(folder.glob(what)):
        shutil.rmtree(found) if found.is_dir() else found.unlink()
    code, said = run.ending()
    assert code == 0, said
    assert "Traceback" not in said
    assert (folder / "report.html").exists()
    assert delivered(home, "rung/fid") == recorded(home, "rung/fid"), "each point once"
