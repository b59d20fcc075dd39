"""How far a job is, counted from a run's events, said in its log and read back from there."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from service.experiment import Experiment
from service.job_progress import JobProgress, Tally, published
from service.progress import (
    Event,
    SweepProgress,
    TrialFailed,
    TrialFinished,
    TrialReported,
    TrialStarted,
    TrialStopped,
)
from service.settings import RAY_JOB_VARIABLE, own_job
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


def test_trials_are_counted_from_events_and_the_rest_is_foreseen_by_the_speed_so_far() -> None:
    clock = Clock()
    count = Tally("toy", [("a", 10.0), ("b", 10.0), ("c", 10.0), ("d", 10.0)], clock=clock)
    assert count.progress() == JobProgress("toy", 0, 0, 0, 4)
    count(TrialFinished("x", 0, "a", {}, 5.0, reused=True))
    assert count.progress() == JobProgress("toy", 1, 0, 0, 4), (
        "an earlier run's speed is not this one's"
    )
    count(TrialStarted("x", 1, "b", 10.0, start_kimg=6.0))
    clock.now += 8.0
    count(TrialReported("x", 1, "b", 8.0, 10.0))
    assert count.progress() == JobProgress("toy", 1, 1, 0, 4, left_s=(2 + 20) * 8 / 2)
    count(TrialFinished("x", 1, "b", {}, 5.0))
    count(TrialFailed("y", 0, "c", "broke"))
    assert count.progress() == JobProgress("toy", 2, 0, 1, 4, left_s=10 * 8 / 4)
    count(TrialStarted("y", 1, "d", 10.0))
    count(TrialStopped("y", 1, "d", 5.0, 10.0))
    assert count.progress().running == 0, "it may go on later"
    count(TrialStopped("y", 1, "d", 5.0, 10.0, reason="stopped by racing"))
    assert count.progress() == JobProgress("toy", 2, 0, 1, 3), "nobody wants it any more"
    count(TrialStarted("z", 7, "e", 10.0))
    assert (count.progress().running, count.progress().total) == (1, 4), "seeds come on top"


def test_candidates_that_are_still_to_be_asked_count() -> None:
    clock = Clock()
    count = Tally("toy", (), least=4, clock=clock)
    count(TrialStarted("x", 9, "a", 10.0))
    clock.now += 3.0
    count(TrialReported("x", 9, "a", 5.0, 10.0))
    assert count.progress() == JobProgress("toy", 0, 1, 0, 4, left_s=35 * 3 / 5)


EVENTS: list[Event] = [
    TrialStarted("uniform", 0, "k", 2.56),
    SweepProgress(4, 0, 0, 1, "a note"),
    TrialReported("uniform", 0, "k", 1.28, 2.56),
]


def test_only_the_driver_of_a_job_says_it(
    toy: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line when a trial starts or ends, and once a minute in between; events go on as they came."""
    experiment = sweep(toy)
    heard: list[Event] = []
    assert published(experiment, heard.append) == heard.append
    assert own_job() is None

    about = {"metadata": {"job_submission_id": "toy-3"}}
    monkeypatch.setenv(RAY_JOB_VARIABLE, json.dumps(about))
    assert own_job() == "toy-3"
    out, clock = io.StringIO(), Clock()
    take = published(experiment, heard.append, out, clock)
    for event in EVENTS:
        take(event)
    assert heard == EVENTS
    assert out.getvalue() == "toy: 0 of 5 trials done, 1 running\n"
    clock.now += 60.0
    take(EVENTS[-1])
    last = out.getvalue().splitlines()[-1]
    assert last.startswith("toy: 0 of 5 trials done, 1 running, about ")
    assert JobProgress.read(out.getvalue()) is not None


def test_cells_that_share_a_trial_count_it_once(toy: dict[str, Any]) -> None:
    from service.job_progress import tally

    both: Experiment = sweep(toy, arms={"a": {}, "b": {"optimizer.lr": 1e-3}})
    assert tally(both).progress().total == 4
    looks = sweep(toy, seeds={"first": 3, "most": 6})
    assert tally(looks).progress().total == 6, "seeds of later looks are not wanted yet"
