"""Several trials in one process, as one program: a record each, decided about one by one, and a loss loses nothing."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from service.cluster.seats import Seats
from service.dispatch import Dispatch
from service.experiment import Experiment
from service.ledger import Ledger
from service.policy import Fixed, PlanPolicy
from service.policy.halving import Halving
from service.settings import Settings
from service.tracking.outbox import Outbox
from tests.service.driver import Command, Driver
from tests.service.faults.test_lost_processes import at_work
from tests.service.policies import Dropping, with_policy
from tests.service.sweeps import UNDER, final_metrics, sweep, write
from tests.service.test_launch_policies import images, run
from tests.service.test_tuning import Machine
from trainer.errors import InputError
from trainer.record import Record
from trainer.report import Status

CLOSE = 1e-4
"""Of a FID, relative: sums in another order, after some hundred steps of the toy."""


def seats(experiment: Experiment, home: Path, cpus: float = 2.0, most: int | None = None) -> Seats:
    settings = Settings(home=home, tracking_uri=None)
    ledger = Ledger(experiment, settings, Outbox(home / "outbox.db"), lambda _event: None)
    ledger.open()
    dispatch = Dispatch(experiment, settings, ledger, threading.Event())
    machine = Machine(True, None)
    machine.cpus = cpus
    return Seats(dispatch, experiment, machine, most)


def shared(found: Seats) -> list[int]:
    """How many trials each process gets, until nothing is left."""
    counts = []
    while (jobs := found.next(f"tune{len(counts)}")) is not None:
        counts.append(len(jobs))
    return counts


@pytest.mark.parametrize(
    ("changes", "cpus", "most", "counts"),
    [
        ({}, 2.0, None, [6, 6]),
        ({}, 4.0, None, [3, 3, 3, 3]),
        ({}, 2.0, 1, [12]),
        ({"together": 4}, 2.0, None, [4, 4, 4]),
        ({"together": 4}, 1.0, None, [4, 4, 4]),
        ({"launcher": "inproc"}, 2.0, None, [1] * 12),
    ],
)
def test_no_place_stays_empty_and_no_process_gets_too_many(
    changes: dict[str, Any], cpus: float, most: int | None, counts: list[int],
    toy: dict[str, Any], tmp_path: Path,
) -> None:  # fmt: skip
    experiment = sweep(toy, **{"launcher": "ensemble", "seeds": 6} | changes)
    found = seats(experiment, tmp_path, cpus, None)
    if most is not None:
        found = seats(experiment, tmp_path, cpus, most)
        first = found.next("tune0")
        assert first is not None
        assert [len(first)] == counts
        assert found.next("tune1") is None
        return
    assert shared(found) == counts


def test_only_those_that_are_alike_share_a_process(toy: dict[str, Any], tmp_path: Path) -> None:
    arms = {
        "uniform": {},
        "wide": {"model.width": 64},
        "under": UNDER,
        "fp16": {"train.precision": "fp16"},
    }
    found = seats(sweep(toy, launcher="ensemble", seeds=2, arms=arms), tmp_path, 1.0)
    names, groups = found.dispatch._names, []
    while (jobs := found.next(f"tune{len(groups)}")) is not None:
        groups.append(sorted({names[job.key].split()[0] for job in jobs}))
    assert sorted(groups) == [["fp16"], ["fp16"], ["under", "uniform"], ["wide"]]


def test_each_is_let_go_for_itself(toy: dict[str, Any], tmp_path: Path) -> None:
    found = seats(sweep(toy, launcher="ensemble"), tmp_path, 1.0)
    jobs = found.next("tune")
    assert jobs is not None
    assert found.started("tune") == [job.key for job in jobs]
    for key in found.keys("tune"):
        found.dispatch.started(key)
    first, second, *rest = [job.key for job in jobs]
    broken = {"event": "failed", "reason": "broke", "log": None, "text": "", "key": first}
    assert found.take("tune", broken) is False, "the others train on"
    assert found.keys("tune") == [second, *rest]
    assert found.take("tune", broken) is False, "a process that was replaced tells it again"
    left = [json.loads(one)["key"] for one in json.loads(found.left("tune")["jobs"])]
    assert left == [second, *rest]
    assert found.release("tune") == [second, *rest]
    assert found.dispatch.at_work == 3


def test_an_ensemble_is_one_process(toy: dict[str, Any]) -> None:
    with pytest.raises(
        InputError, match=r"ensemble trains in one process, resources\.workers is 2"
    ):
        sweep(toy, launcher="ensemble", resources={"workers": 2})


def test_who_trains_alone_is_said_before(toy: dict[str, Any]) -> None:
    arms = {"uniform": {}, "fp16": {"train.precision": "fp16"}, "wide": {"model.width": 64}}
    notes = sweep(toy, launcher="ensemble", arms=arms).notes
    assert any("`fp16` trains alone, not in the ensemble: fp16 skips" in note for note in notes)
    assert any("the cells are of 2 kinds" in note for note in notes)
    assert not any("ensemble" in note for note in sweep(toy, arms=arms).notes)


def test_a_share_of_a_gpu_is_not_measured_for_one_of_several(toy: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="auto measures one trial, and an ensemble has several"):
        sweep(toy, launcher="ensemble", resources={"gpus": "auto"})


@pytest.mark.ray
@pytest.mark.slow
def test_numbers_are_those_of_lone_trials_and_one_that_goes_astray_is_alone_in_it(
    toy: dict[str, Any], tmp_path: Path
) -> None:
    astray = {"optimizer": {"kind": "sgd", "lr": 1000.0, "grad_clip": None}}
    arms = {"uniform": {}, "under": UNDER, "astray": astray}
    found: dict[str, Any] = {}
    for launcher in ("inproc", "ensemble"):
        home = tmp_path / launcher
        outcome, _ = run(home, toy, Fixed(), launcher=launcher, arms=arms, seeds=3)
        assert (len(outcome.diverged), len(outcome.failed)) == (3, 0)
        found[launcher] = final_metrics(home)
    assert found["ensemble"].keys() == found["inproc"].keys()
    for key, metrics in found["inproc"].items():
        if Record(tmp_path / "inproc" / "trials" / key).status() is Status.FINISHED:
            assert found["ensemble"][key] == pytest.approx(metrics, rel=CLOSE)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize(
    ("policy", "seeds"), [(Dropping(), 1), (Halving(reduction=2, at=(0.25, 0.5)), 2)]
)
def test_a_policy_stops_and_pauses_each(
    policy: PlanPolicy, seeds: int, toy: dict[str, Any], tmp_path: Path
) -> None:
    """The same trials at the same images as where each has a process."""
    arms = {"uniform": {}, "under": UNDER, "idle": {"optimizer.lr": 1e-7}}
    seen = []
    for launcher in ("inproc", "ensemble"):
        changes: dict[str, Any] = {"launcher": launcher, "arms": arms, "seeds": seeds}
        home = tmp_path / launcher
        run(home, toy, policy, 1, **changes)
        seen.append(images(home, with_policy(sweep(toy, **changes), policy)))
    assert seen[0] == seen[1]
    assert {status for status, _ in seen[1].values()} >= {Status.FINISHED, Status.STOPPED}


@pytest.mark.ray
@pytest.mark.slow
def test_a_killed_process_loses_nothing(
    toy: dict[str, Any], tmp_path: Path, drivers: list[Driver]
) -> None:
    longer = {"train.kimg": 96.0, "train.batch_size": 64, "evaluation.evaluations": 12}
    experiment = sweep(toy, launcher="ensemble", seeds=2, set=longer)
    yaml, one = write(experiment, tmp_path), {"DIFFSWEEP_CONCURRENCY": "1"}
    whole = Command(tmp_path / "whole", yaml, **one)
    drivers.append(whole)
    code, said = whole.ending()
    assert code == 0, said
    cut = Command(tmp_path / "cut", yaml, **one)
    drivers.append(cut)
    cut.until(" 16 of 96 kimg")
    (process,) = at_work(cut, "ensemble")
    process.kill()
    cut.until("continues at ")
    code, said = cut.ending()
    assert code == 0, said
    assert "FAILED" not in said
    assert "Traceback" not in said
    assert final_metrics(tmp_path / "cut") == final_metrics(tmp_path / "whole")
    for trial in experiment.trials:
        told = [one.images for one in Record(tmp_path / "cut" / "trials" / trial.key).reports()]
        assert told == trial.spec.evaluation_points(), "each once"
