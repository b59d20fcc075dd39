"""Real sweeps on this machine: through Tune and one TorchTrainer per trial, killed, interrupted, extended."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from service import launch, progress
from service.errors import ServiceError
from service.outcome import Outcome
from service.settings import Settings
from service.tracking.readback import read_sweep
from tests.service.driver import Driver, gone
from tests.service.sweeps import UNDER, final_metrics, sweep, wait_for, write
from trainer.files import FileLock

LONG = {"train.kimg": 64.0, "evaluation.evaluations": 8}
"""About two seconds of training: long enough to be killed in the middle."""
LONGER = {"train.kimg": 192.0, "evaluation.evaluations": 24}
"""Long enough even if the machine is busy while the test looks for processes."""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", tracking_uri=None)


def run(settings: Settings, experiment: Any) -> tuple[Outcome, list[progress.Event]]:
    events: list[progress.Event] = []
    return launch.run(experiment, settings, events.append), events


@pytest.mark.ray
@pytest.mark.slow
def test_a_sweep_is_trained_tracked_skipped_and_extended(
    toy: dict[str, Any], settings: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    outcome, events = run(settings, sweep(toy))
    assert (outcome.exit_code, outcome.finished, outcome.skipped) == (0, 4, 0)
    assert outcome.first_step_s is not None
    assert outcome.overhead_s is not None
    kinds = Counter(type(event).__name__ for event in events)
    assert (kinds["TrialStarted"], kinds["TrialReported"], kinds["TrialFinished"]) == (4, 16, 4)
    said = capfd.readouterr()
    assert said.out + said.err == "", "nothing of Ray, Tune or MLflow reaches the terminal"

    rows = read_sweep(settings, "toy")
    assert Counter((t["cell"], t["status"]) for t in rows.trials) == {
        ("uniform", "finished"): 2,
        ("under", "finished"): 2,
    }
    assert all(trial["protocol"] and trial["protocol_rung"] for trial in rows.trials)
    points = Counter((row["trial_key"], row["metric"], row["images"]) for row in rows.curves)
    assert max(points.values()) == 1
    assert sum(metric == "rung/fid" for _, metric, _ in points) == 16
    for trial in rows.trials:
        drawn = [trial["metrics"][f"draws/fid.{k}"] for k in range(3)]
        assert trial["metrics"]["eval/fid"] == pytest.approx(sum(drawn) / 3, rel=1e-12)

    outcome, events = run(settings, sweep(toy, seeds=3))
    assert (outcome.finished, outcome.skipped) == (2, 4)
    assert {e.seed for e in events if isinstance(e, progress.TrialStarted)} == {2}
    assert len(read_sweep(settings, "toy").trials) == 6

    outcome, events = run(settings, sweep(toy, seeds=3))
    assert (outcome.exit_code, outcome.finished, outcome.skipped) == (0, 0, 6)
    assert outcome.seconds < 10, "nothing to train, so Ray is not started"
    assert all(e.reused for e in events if isinstance(e, progress.TrialFinished))


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(900)  # three sweeps one after another: two minutes on a quiet machine
def test_kill_9_of_the_driver_then_the_same_command_gives_the_same_bits(
    toy: dict[str, Any], tmp_path: Path, drivers: list[Driver]
) -> None:
    yaml = write(sweep(toy, set=LONG), tmp_path)
    killed = tmp_path / "killed"
    drivers.append(Driver(killed, yaml))
    drivers[0].until("seed 0: finished")
    drivers[0].until("seed 1: 24 of 64 kimg")
    family = drivers[0].family()
    assert len(family) > 8
    os.kill(drivers[0].process.pid, signal.SIGKILL)
    wait_for(lambda: gone(family), "every process of the killed driver to end", 30)

    drivers.append(Driver(killed, yaml))
    outcome = drivers[1].end()
    assert outcome["skipped"] >= 1
    assert outcome["skipped"] + outcome["finished"] == 4
    assert any("continues at" in line for line in drivers[1].lines)

    whole = tmp_path / "whole"
    inproc = sweep(toy, set=LONG, launcher="inproc")
    run(Settings(home=whole, tracking_uri=None), inproc)
    assert final_metrics(killed) == final_metrics(whole), "bit for bit, and by either launcher"

    counted, expected = (
        read_sweep(Settings(home=h, tracking_uri=None), "toy") for h in (killed, whole)
    )
    assert len(counted.trials) == 4, "the same MLflow runs went on"
    key = [("trial_key", "metric", "images", "value")]
    same = [
        sorted(
            tuple(row[n] for n in key[0]) for row in rows.curves if row["metric"] != "train/loss"
        )
        for rows in (counted, expected)
    ]
    assert same[0] == same[1]
    points = Counter((row["trial_key"], row["metric"], row["images"]) for row in counted.curves)
    assert max(points.values()) == 1


@pytest.mark.ray
@pytest.mark.slow
def test_ctrl_c_ends_cleanly_and_the_same_command_continues(
    toy: dict[str, Any], tmp_path: Path, drivers: list[Driver]
) -> None:
    yaml = write(sweep(toy, seeds=1, set=LONGER), tmp_path)
    drivers.append(Driver(tmp_path / "home", yaml))
    drivers[0].until(" 8 of 192 kimg")
    family = drivers[0].family()
    os.kill(drivers[0].process.pid, signal.SIGINT)
    outcome = drivers[0].end()
    assert drivers[0].process.returncode == 130
    assert outcome["interrupted"]
    assert not outcome["failed"], "what was stopped has not failed"
    assert not any("Traceback" in line for line in drivers[0].lines)
    wait_for(lambda: gone(family), "every process to end", 10)
    statuses = {
        t["status"]
        for t in read_sweep(Settings(home=tmp_path / "home", tracking_uri=None), "toy").trials
    }
    assert statuses <= {"stopped", "finished"}

    drivers.append(Driver(tmp_path / "home", yaml))
    assert drivers[1].end()["exit_code"] == 0


@pytest.mark.ray
@pytest.mark.slow
def test_what_breaks_and_what_diverges_is_a_result_and_the_rest_goes_on(
    toy: dict[str, Any], settings: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    arms = {
        "good": {},
        "broken": UNDER,
        "wild": {"optimizer": {"kind": "sgd", "lr": 1000.0, "grad_clip": None}},
    }
    experiment = sweep(toy, arms=arms, seeds=1)
    sabotaged = (
        settings.trial(next(t.key for t in experiment.trials if t.cell == "broken")) / "samples"
    )
    sabotaged.parent.mkdir(parents=True)
    sabotaged.write_text("a file where a folder should be")
    outcome, events = run(settings, experiment)
    assert outcome.exit_code == 1
    assert outcome.finished == 1
    (broken,), (wild,) = outcome.failed, outcome.diverged
    assert (broken.cell, wild.cell) == ("broken", "wild")
    assert "diverged" in wild.reason
    assert "\n" not in broken.reason
    assert broken.log is not None
    assert "Traceback" in Path(broken.log).read_text(), "the whole story is in the log"
    assert "Traceback" not in "".join(capfd.readouterr())
    assert sum(isinstance(event, progress.TrialFailed) for event in events) == 2
    rows = {t["cell"]: t for t in read_sweep(settings, "toy").trials}
    assert {cell: row["status"] for cell, row in rows.items()} == {
        "good": "finished",
        "broken": "failed",
        "wild": "diverged",
    }
    assert rows["broken"]["reason"] == broken.reason

    sabotaged.unlink()
    outcome, _ = run(settings, experiment)
    assert (outcome.skipped, outcome.finished) == (1, 1), "what broke is tried again"
    assert (len(outcome.diverged), len(outcome.failed)) == (1, 0), "what diverged is a result"
    rows = {t["cell"]: t for t in read_sweep(settings, "toy").trials}
    assert (rows["broken"]["status"], rows["broken"]["reason"]) == ("finished", "")


@pytest.mark.ray
@pytest.mark.slow
def test_two_workers_train_one_trial_and_a_lost_one_is_replaced(
    toy: dict[str, Any], tmp_path: Path, drivers: list[Driver]
) -> None:
    together = {"workers": 2, "cpus": 0.5}
    changes = {"seeds": 1, "arms": {"uniform": {}}, "set": LONG}
    yaml = write(sweep(toy, resources=together, **changes), tmp_path)
    drivers.append(Driver(tmp_path / "two", yaml))
    drivers[0].until(" 16 of 64 kimg")
    workers = [
        p
        for p in drivers[0].family()
        if "RayTrainWorker" in p.name() or "RayTrainWorker" in " ".join(p.cmdline())
    ]
    assert len(workers) == 2
    workers[1].kill()
    assert drivers[0].end()["exit_code"] == 0

    alone = tmp_path / "one"
    run(Settings(home=alone, tracking_uri=None), sweep(toy, launcher="inproc", **changes))
    (two,), (one,) = final_metrics(tmp_path / "two").values(), final_metrics(alone).values()
    # The workers add up gradients in another order; over 1000 steps that is all the difference there is.
    assert two["eval/fid"] == pytest.approx(one["eval/fid"], rel=0.2)


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ({"cpus": 1024}, r"1 x 1024 = 1024 CPUs, this machine has \d+"),
        ({"workers": 64, "cpus": 100}, r"64 x 100 = 6400 CPUs, this machine has \d+"),
    ],
)
def test_a_trial_too_large_for_the_machine_is_refused_with_numbers(
    toy: dict[str, Any], settings: Settings, resources: dict[str, Any], words: str
) -> None:
    with pytest.raises(ServiceError, match=words) as refusal:
        run(settings, sweep(toy, resources=resources))
    assert "nothing has been run" in str(refusal.value)
    assert not settings.database.exists(), "not even MLflow has heard of it"
    assert "resources.cpus" in refusal.value.fix


@pytest.mark.ray
@pytest.mark.slow
def test_more_gpus_than_there_are_is_refused_with_numbers(
    toy: dict[str, Any], settings: Settings
) -> None:
    with pytest.raises(
        ServiceError, match=r"1 x 64 = 64 GPUs, this machine has \d+; nothing has been run"
    ):
        run(settings, sweep(toy, resources={"gpus": 64}))
    assert not final_metrics(settings.home)


def test_two_drivers_of_one_experiment_do_not_run_together(
    toy: dict[str, Any], settings: Settings
) -> None:
    words = f"is being run by process {os.getpid()}"
    lock = FileLock(settings.experiment("toy") / "driver.lock")
    with lock, pytest.raises(ServiceError, match=words):
        run(settings, sweep(toy))
