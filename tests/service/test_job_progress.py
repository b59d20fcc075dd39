"""How far a job is, counted from a run's events, said in its log and read back from there."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from service.board import Board
from service.experiment import Experiment
from service.job_log import what_failed
from service.job_progress import JobProgress, published
from service.progress import (
    CellStopped,
    Event,
    SweepNote,
    TrialFailed,
    TrialFinished,
    TrialReported,
    TrialStarted,
    TrialStopped,
)
from service.recorded import recorded
from service.settings import RAY_JOB_VARIABLE, Settings, own_job
from tests.service.sweeps import sweep


@pytest.mark.parametrize(
    "known",
    [
        JobProgress("toy", 0, 0, 0, 12),
        JobProgress("toy", 3, 2, 1, 12, left_s=245.0),
        JobProgress("a: 3 of 4 trials done", 12, 0, 0, 12),
        JobProgress("2026-11-26", 1, 1, 0, 900, left_s=7500.0),
        JobProgress("toy", 1, 1, 0, 2, left_s=9.0),
    ],
)
def test_what_is_said_in_a_log_is_read_back(known: JobProgress) -> None:
    log = f"toy: 1 of 1 trials done\nRay says\n{known.line()}\n12:00:03  under seed 1: finished in 2 s\n"
    assert JobProgress.read(log) == known
    assert known.line().count("\n") == 0


@pytest.mark.parametrize(
    ("log", "error"),
    [
        ("", None),
        ("12:00:03  a seed 1: starts\nno room: home is full; make room\n", "no room: home is full; make room"),
        ("FAILED: a seed 1: NaN at step 3 (log: x)\n\nverdict: none\n", "a seed 1: NaN at step 3 (log: x)"),
        ("FAILED: a seed 1: NaN\nFAILED: a seed 2: NaN\nFAILED: b seed 1: NaN\nbye\n", "a seed 1: NaN, and 2 more"),
        (
            "Traceback (most recent call last):\n  File x\nray.exceptions.RayTaskError: lost\n(pid=3) bye\n",
            "ray.exceptions.RayTaskError: lost",
        ),
    ],
)  # fmt: skip
def test_what_failed_in_a_job_is_found_in_its_log(log: str, error: str | None) -> None:
    assert what_failed(log) == error


def test_a_log_without_it_says_nothing() -> None:
    assert JobProgress.read("") is None
    assert (
        JobProgress.read("toy: 2 cells x 2 seeds = 4 trials, eval/fid against `uniform`\n") is None
    )


class Clock:
    """A clock that is set by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def told(board: Board) -> JobProgress:
    return JobProgress.of("toy", board.standing(board.look()))


def test_trials_are_counted_from_events_and_the_rest_is_foreseen_by_their_pace() -> None:
    """Where no pulse can be seen: on a cluster without a shared disk."""
    clock = Clock()
    trials = [("x", 0, "a"), ("x", 1, "b"), ("y", 0, "c"), ("y", 1, "d")]
    board = Board(trials, (), clock=clock)
    assert told(board) == JobProgress("toy", 0, 0, 0, 4)
    board.take(TrialFinished("x", 0, "a", {}, 0.0, reused=True))
    assert told(board) == JobProgress("toy", 1, 0, 0, 4)
    board.take(TrialStarted("x", 1, "b", 10.0, start_kimg=6.0))
    clock.now += 8.0
    board.take(TrialReported("x", 1, "b", 8.0, 10.0))
    assert told(board) == JobProgress("toy", 1, 1, 0, 4, left_s=8.0 + 2 * 40.0)  # 4 s a kimg
    board.take(TrialFinished("x", 1, "b", {}, 5.0))
    board.take(TrialFailed("y", 0, "c", "broke"))
    assert told(board) == JobProgress("toy", 2, 0, 1, 4), "nothing runs"
    board.take(TrialStarted("y", 1, "d", 10.0))
    assert told(board) == JobProgress("toy", 2, 1, 1, 4, left_s=5.0), (
        "as long as the one that ended"
    )
    board.take(TrialStopped("y", 1, "d", 5.0, 10.0))
    assert (told(board).running, told(board).total) == (0, 4), "it may go on later"
    board.take(CellStopped("y", "stopped by racing"))
    assert told(board) == JobProgress("toy", 2, 0, 1, 3), "nobody wants it any more"
    board.take(TrialStarted("z", 7, "e", 10.0))
    assert (told(board).running, told(board).total) == (1, 4), "seeds come on top"


def test_candidates_that_are_still_to_be_asked_count() -> None:
    clock = Clock()
    board = Board((), (), clock=clock, least=4)
    board.take(TrialStarted("x #0", 9, "a", 10.0))
    clock.now += 3.0
    board.take(TrialReported("x #0", 9, "a", 5.0, 10.0))
    assert told(board) == JobProgress("toy", 0, 1, 0, 4, left_s=3.0 + 3 * 6.0)


EVENTS: list[Event] = [
    TrialStarted("uniform", 0, "k", 2.56),
    SweepNote("a note"),
    TrialReported("uniform", 0, "k", 1.28, 2.56),
]


def test_only_the_driver_of_a_job_says_it(
    toy: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line when a trial starts or ends, and once a minute in between; events go on as they came."""
    experiment, settings = sweep(toy), Settings(home=tmp_path)
    heard: list[Event] = []
    clock, ticking = Clock(), Clock()

    def board() -> Board:
        return Board.of(experiment, settings, clock)

    assert published("toy", board, heard.append) == heard.append
    assert own_job() is None

    about = {"metadata": {"job_submission_id": "toy-3"}}
    monkeypatch.setenv(RAY_JOB_VARIABLE, json.dumps(about))
    assert own_job() == "toy-3"
    out = io.StringIO()
    take = published("toy", board, heard.append, out, ticking)
    for event in EVENTS:
        take(event)
        clock.now += 1.0
    assert heard == EVENTS
    assert out.getvalue() == "toy: 0 of 5 trials done, 1 running\n"
    ticking.now += 60.0
    take(EVENTS[-1])
    last = out.getvalue().splitlines()[-1]
    assert last.startswith("toy: 0 of 5 trials done, 1 running, about ")
    assert JobProgress.read(out.getvalue()) is not None


def test_cells_that_share_a_trial_count_it_once(toy: dict[str, Any], tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    both: Experiment = sweep(toy, arms={"a": {}, "b": {"optimizer.lr": 1e-3}})
    assert told(Board.of(both, settings)).total == 4
    looks = sweep(toy, seeds={"first": 3, "most": 6})
    assert told(Board.of(looks, settings)).total == 6, "seeds of later looks are not wanted yet"
    for experiment, count in ((both, 4), (looks, 6)):
        assert recorded(experiment, settings).total == count, "records say the same"
