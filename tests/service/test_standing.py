"""How far an experiment is, and when it is done: pure functions of what the records and pulses say."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from service import standing
from service.agenda import Agenda
from service.board import Board
from service.experiment import Experiment
from service.progress import CellStopped, TrialFinished, TrialStarted, TrialStopped
from service.recorded import of_work, recorded
from service.settings import Settings
from service.standing import TrialStanding
from tests.service.sweeps import sweep, wait_for
from trainer.pulse import Heart, pulse
from trainer.record import Record
from trainer.report import Report, Status, Stop

DONE, RUNNING, WAITING = Status.FINISHED, Status.RUNNING, Status.WAITING


def trial(
    status: Status, share: float = 0.0, whole_s: float | None = None, cell: str = "a"
) -> TrialStanding:
    return TrialStanding(cell, 0, status, share, whole_s)


@pytest.mark.parametrize(
    ("trials", "at_once", "seconds"),
    [
        ([trial(DONE, 1.0, 100.0)], 1, 0.0),
        ([trial(WAITING), trial(WAITING)], 2, None),  # no pace is known
        ([trial(DONE, 1.0, 100.0), trial(WAITING), trial(WAITING)], 1, 200.0),
        ([trial(DONE, 1.0, 100.0), trial(WAITING), trial(WAITING)], 2, 100.0),
        ([trial(RUNNING, 0.75, 40.0)], 1, 10.0),  # its own pace
        ([trial(DONE, 1.0, 100.0), trial(RUNNING, 0.5, 80.0)], 1, 50.0),  # evaluations count, too
        ([trial(DONE, 1.0, 10.0, "b"), trial(WAITING, cell="b"), trial(DONE, 1.0, 90.0)], 1, 10.0),
        ([trial(DONE, 1.0, 100.0), trial(Status.FAILED)], 1, 0.0),
        ([trial(DONE, 1.0, 60.0), *[trial(WAITING)] * 3], 2, 90.0),
    ],
)
def test_the_time_that_is_left(
    trials: list[TrialStanding], at_once: int, seconds: float | None
) -> None:
    assert standing.left_s(trials, at_once) == seconds


def test_an_experiment_is_counted_from_its_records(folder: Path) -> None:
    experiment, settings = Experiment.from_yaml("x.yaml"), Settings(home=folder / "runs")
    whole = recorded(experiment, settings)
    assert (whole.done, whole.running, whole.total, whole.eta_s) == (4, 0, 4, 0.0)
    assert whole.text() == "4 of 4 trials finished, 0 running"
    first, second, *_ = experiment.trials
    (settings.trial(first.key) / "result.json").unlink()
    (settings.trial(second.key) / "result.json").unlink()
    Heart(settings.trial(first.key), 1280).beat(640, [(640, {"train/loss": 0.5})])
    part = recorded(experiment, settings)
    assert (part.done, part.running, part.total) == (2, 1, 4)
    assert part.trials[0].share == 0.5
    assert part.eta_s is not None
    assert part.eta_s > 0
    agenda = Agenda(experiment, settings, attempt=None)
    silent = of_work(agenda, settings, now=time.time() + 3600).trials[0]
    assert silent.status is Status.STOPPED


def test_of_a_cell_that_was_ended_only_what_ended_or_runs_is_counted(
    toy: dict[str, Any], tmp_path: Path
) -> None:
    """From records and from events alike: the trials that it never began are not to come."""
    experiment = sweep(toy, policy={"kind": "racing"}, seeds=3)
    settings = Settings(home=tmp_path)
    under = [trial for trial in experiment.trials if trial.cell == "under"]
    rule = experiment.spec.policy.digest()
    stop = Stop("toy", "under", "racing", rule, "stopped by racing: hopeless", 640)
    record = Record(settings.trial(under[0].key))
    record.directory.mkdir(parents=True)
    record.accept_report(Report(640, time.time(), {"rung/fid": 9.0}))
    record.write_stop(stop)
    assert recorded(experiment, settings).total == len(experiment.trials) - len(under)

    board = Board.of(experiment, settings)
    board.take(TrialStarted("under", 0, under[0].key, total_kimg=1.28))
    assert board.standing(board.look()).total == len(experiment.trials)
    board.take(CellStopped("under", "hopeless"))
    assert board.standing(board.look()).total == len(experiment.trials) - len(under) + 1
    board.take(TrialStopped("under", 0, under[0].key, 0.64, 1.28, "hopeless"))
    assert board.standing(board.look()).total == len(experiment.trials) - len(under)


def test_a_pulse_is_told_once_a_second_and_ends_with_the_training(tmp_path: Path) -> None:
    heart = Heart(tmp_path, 1000, every_s=3600.0)
    heart.beat(100, [(50, {"train/loss": 2.0}), (100, {"train/loss": 1.5})])
    heart.beat(200, [])
    told = pulse(tmp_path)
    assert told is not None
    assert (told.images, told.total, told.loss, told.measures) == (100, 1000, 1.5, False)
    assert told.img_per_s > 0
    heart.beat(300, [], measures=True)  # an evaluation is told at once
    assert (measuring := pulse(tmp_path)) is not None
    assert (measuring.images, measuring.measures) == (300, True)
    heart.stop()
    assert pulse(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_pulse_ends_with_its_process_as_far_as_that_can_be_seen_from_here(tmp_path: Path) -> None:
    beats = f"Heart(Path({str(tmp_path)!r}), 9).beat(1, [])"
    code = f"from pathlib import Path; from trainer.pulse import Heart; {beats}; input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as process:
        left = wait_for(lambda: pulse(tmp_path), "a pulse")
        assert left.is_fresh(left.time_s)
        process.kill()
        gone = psutil.Process(process.pid)
        wait_for(lambda: gone.status() == psutil.STATUS_ZOMBIE, "its end")
        assert not left.is_fresh(left.time_s), "nobody asked for its end yet"
    assert not left.is_fresh(left.time_s)
    assert replace(left, processes="another machine").is_fresh(left.time_s)
    assert replace(left, pid=os.getppid()).is_fresh(left.time_s)
    assert replace(left, pid=1).is_fresh(left.time_s)  # somebody else's
    assert replace(left, pid=0).is_fresh(left.time_s + 119.0), "written by an older diffsweep"


def test_where_nothing_can_be_written_training_goes_on(tmp_path: Path) -> None:
    heart = Heart(tmp_path / "absent", 1000)
    heart.beat(100, [])
    heart.stop()
    assert pulse(tmp_path / "absent") is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"images": 1}', "null"])
def test_a_pulse_that_is_none_reads_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "pulse.json").write_text(text)
    assert pulse(tmp_path) is None


def test_the_board_moves_between_events(tmp_path: Path) -> None:
    now = 1000.0
    board = Board([("a", 0, "k0"), ("a", 1, "k1")], ["eval/fid"], tmp_path, clock=lambda: now)
    board.begin()
    board.take(TrialStarted("a", 0, "k0", total_kimg=10.0))
    assert board.look()[0].kimg == 0.0
    (tmp_path / "k0").mkdir()
    (tmp_path / "k0" / "pulse.json").write_text(
        '{"images": 2500, "total": 10000, "img_per_s": 100.0, "loss": 0.7, "time_s": 999.0}'
    )
    rows = board.look()
    assert (rows[0].kimg, rows[0].share) == (2.5, 0.25)
    found = board.standing(rows)
    assert (found.running, found.total, found.eta_s) == (1, 2, 175.0)  # one at a time: 75 s + 100 s
    board.take(TrialFinished("a", 0, "k0", {"eval/fid": 3.0}, seconds=120.0))
    assert board.standing(board.look()).eta_s == 120.0
