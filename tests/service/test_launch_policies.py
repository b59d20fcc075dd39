"""Policies on a real Ray: what grows, what pauses and goes on, what stops on the way, and a killed driver."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from service import launch, progress
from service.errors import ServiceError
from service.outcome import Outcome
from service.policy import PlanPolicy
from service.settings import Settings
from service.tracking.readback import read_sweep
from tests.service.driver import Driver, gone
from tests.service.policies import HALF, WHOLE, Dropping, Growing, Halving, Straying, planned
from tests.service.sweeps import final_metrics, sweep, wait_for, write
from trainer.record import Record
from trainer.report import Status

pytestmark = [pytest.mark.ray, pytest.mark.slow]
Start = tuple[str, int, float]
"""Cell, seed and kimg from which a trial starts."""


def run(
    home: Path,
    toy: dict[str, Any],
    policy: PlanPolicy,
    concurrency: int | None = None,
    **changes: Any,
) -> tuple[Outcome, list[progress.Event]]:
    events: list[progress.Event] = []
    settings = Settings(home=home, tracking_uri=None, concurrency=concurrency)
    return launch.run(planned(toy, policy, **changes), settings, events.append), events


def starts(events: Sequence[progress.Event]) -> list[Start]:
    return [(e.cell, e.seed, e.start_kimg) for e in events if isinstance(e, progress.TrialStarted)]


def images(home: Path, experiment: Any) -> dict[tuple[str, int], tuple[Status, int]]:
    settings = Settings(home=home, tracking_uri=None)
    records = {(t.cell, t.seed): Record(settings.trial(t.key)) for t in experiment.trials}
    return {
        pair: (record.status(), max((report.images for report in record.reports()), default=0))
        for pair, record in records.items()
    }


def test_a_cell_gets_more_seeds_after_the_first_results(
    toy: dict[str, Any], tmp_path: Path
) -> None:
    experiment = planned(toy, Growing(), seeds=3, launcher="inproc")
    settings = Settings(home=tmp_path, tracking_uri=None)
    events: list[progress.Event] = []
    known: dict[int, int] = {}

    def on_event(event: progress.Event) -> None:
        """How many results the records hold when each seed's first trial starts."""
        events.append(event)
        if isinstance(event, progress.TrialStarted):
            results = [Record(settings.trial(t.key)).result() for t in experiment.trials]
            known.setdefault(event.seed, sum(result is not None for result in results))

    outcome = launch.run(experiment, settings, on_event)

    assert (outcome.exit_code, outcome.finished, outcome.failed) == (0, 4, [])
    begun = starts(events)
    assert {(cell, seed) for cell, seed, _ in begun[:2]} == {("uniform", 0), ("under", 0)}
    assert len({cell for cell, _, _ in begun[2:]}) == 1
    assert [seed for _, seed, _ in begun[2:]] == [1, 2]
    assert known[1] >= 2, "the records are ahead of the messages, so they are what decides"
    statuses = [t["status"] for t in read_sweep(Settings(home=tmp_path), "toy").trials]
    assert statuses == ["finished"] * 4, "what never began is no run"


@pytest.mark.parametrize("launcher", ["inproc", "train"])
def test_all_pause_at_a_rung_and_the_better_half_continues(
    toy: dict[str, Any], tmp_path: Path, launcher: str
) -> None:
    outcome, events = run(tmp_path, toy, Halving(), launcher=launcher)

    assert (outcome.exit_code, outcome.finished, outcome.failed) == (0, 2, [])
    begun = starts(events)
    assert [kimg for _, _, kimg in begun] == [0.0] * 4 + [HALF / 1000] * 2
    (survivor,) = {cell for cell, _, _ in begun[4:]}
    reached = images(tmp_path, sweep(toy))
    assert reached == {
        (cell, seed): (Status.FINISHED, WHOLE) if cell == survivor else (Status.STOPPED, HALF)
        for cell, seed in reached
    }
    again, events = run(tmp_path, toy, Halving(), launcher=launcher)
    assert (again.finished, again.skipped, starts(events)) == (0, 2, []), "all is done"


@pytest.mark.parametrize("launcher", ["inproc", "train"])
def test_a_running_cell_is_stopped_and_its_slot_goes_to_another(
    toy: dict[str, Any], tmp_path: Path, launcher: str
) -> None:
    outcome, events = run(tmp_path, toy, Dropping(), launcher=launcher, concurrency=1)

    assert (outcome.exit_code, outcome.finished, outcome.failed) == (0, 2, [])
    reached = images(tmp_path, sweep(toy))
    assert {reached["uniform", seed] for seed in (0, 1)} == {(Status.FINISHED, WHOLE)}
    status, seen = reached["under", 0]
    assert status is Status.STOPPED
    assert HALF <= seen < WHOLE, "a worker may be one report ahead of the driver"
    assert reached["under", 1] == (Status.WAITING, 0)
    stopped = [e for e in events if isinstance(e, progress.TrialStopped)]
    assert [(e.cell, e.seed) for e in stopped] == [("under", 0)]
    rows = {
        (t["cell"], t["seed"]): t["status"]
        for t in read_sweep(Settings(home=tmp_path), "toy").trials
    }
    assert rows["under", 0] == Status.STOPPED
    assert ("under", 1) not in rows, "it never began"


def test_kill_9_then_the_same_command_hands_out_the_same_work(
    toy: dict[str, Any], tmp_path: Path, drivers: list[Driver]
) -> None:
    yaml = write(sweep(toy, launcher="inproc"), tmp_path)
    one_at_a_time = {"DIFFSWEEP_CONCURRENCY": "1"}

    def begun(driver: Driver) -> list[str]:
        return [re.sub(r": .*", "", li) for li in driver.lines if "starts (" in li or "s at" in li]

    drivers.append(Driver(tmp_path / "whole", yaml, "Halving", **one_at_a_time))
    assert drivers[0].end()["exit_code"] == 0

    drivers.append(Driver(tmp_path / "killed", yaml, "Halving", **one_at_a_time))
    drivers[1].until("under seed 0: 0.64 of 2.56 kimg")
    family = drivers[1].family()
    os.kill(drivers[1].process.pid, signal.SIGKILL)
    wait_for(lambda: gone(family), "every process of the killed driver to end", 30)
    drivers.append(Driver(tmp_path / "killed", yaml, "Halving", **one_at_a_time))
    assert drivers[2].end()["exit_code"] == 0

    work = [name for name, _ in groupby(begun(drivers[1]) + begun(drivers[2]))]
    assert work == [name for name, _ in groupby(begun(drivers[0]))]
    assert final_metrics(tmp_path / "killed") == final_metrics(tmp_path / "whole")


def test_a_policy_that_strays_while_tune_runs_is_told_to_the_person(
    toy: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(ServiceError, match="policy straying wants cell `under` with seed 99"):
        run(tmp_path, toy, Straying(), launcher="inproc")
    assert len(final_metrics(tmp_path)) == 2, "what was planned is kept"


def test_halving_killed_in_the_middle_stops_the_same_cells_for_the_same_reasons(
    toy: dict[str, Any], tmp_path: Path, drivers: list[Driver]
) -> None:
    lrs = {"uniform": {}, "fast": 1e-2, "slow": 1e-4, "idle": 1e-7}
    arms = {name: {"optimizer.lr": lr} if lr else {} for name, lr in lrs.items()}
    policy = {"kind": "halving", "reduction": 2, "at": [0.25, 0.5]}
    experiment = sweep(toy, arms=arms, seeds=1, policy=policy, launcher="inproc")
    yaml = write(experiment, tmp_path)
    one_at_a_time = {"DIFFSWEEP_CONCURRENCY": "1"}

    drivers.append(Driver(tmp_path / "whole", yaml, **one_at_a_time))
    whole = drivers[0].end()
    assert (whole["exit_code"], whole["finished"]) == (0, 2), "the baseline and the best of three"
    assert len(whole["stopped"]) == 2

    drivers.append(Driver(tmp_path / "killed", yaml, **one_at_a_time))
    drivers[1].until("stopped by halving: ")
    family = drivers[1].family()
    os.kill(drivers[1].process.pid, signal.SIGKILL)
    wait_for(lambda: gone(family), "every process of the killed driver to end", 30)
    drivers.append(Driver(tmp_path / "killed", yaml, **one_at_a_time))
    again = drivers[2].end()

    assert (again["exit_code"], again["stopped"]) == (0, whole["stopped"])
    assert final_metrics(tmp_path / "killed") == final_metrics(tmp_path / "whole")
    rows = read_sweep(Settings(home=tmp_path / "killed"), "toy").trials
    reasons = {row["cell"]: row["reason"] for row in rows if row["status"] == Status.STOPPED}
    assert reasons == whole["stopped"]
