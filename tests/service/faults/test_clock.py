"""The machine's clock jumps while a sweep runs: no number changes, nothing is taken for a hang."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from service.settings import Settings
from service.tracking.readback import read_sweep
from tests.service.by_hand import undisturbed
from tests.service.driver import Driver
from tests.service.sweeps import final_metrics, sweep, write
from trainer.record import Record

pytestmark = pytest.mark.fault
LONG = {"train.kimg": 64.0, "evaluation.evaluations": 8}
JUMPING = """
import os, time
true, true_ns, now = time.time, time.time_ns, time.monotonic
ahead, looked = 0.0, 0.0

def offset():
    global ahead, looked
    if now() - looked > 0.05:
        looked = now()
        try:
            with open({file!r}) as file:
                ahead = float(file.read() or 0)
        except OSError:
            pass
    return ahead

time.time = lambda: true() + offset()
time.time_ns = lambda: true_ns() + int(offset() * 1e9)
"""
"""Loaded by every Python process of the run, Ray's too: their clock is the machine's and what a file says."""


@pytest.mark.ray
@pytest.mark.slow
def test_a_clock_that_jumps_changes_nothing(
    toy: dict[str, Any], tmp_path: Path, drivers: list[Driver]
) -> None:
    experiment = sweep(toy, seeds=1, set=LONG, launcher="inproc")
    yaml = write(experiment, tmp_path)
    clock = tmp_path / "clock"
    (tmp_path / "sitecustomize.py").write_text(JUMPING.format(file=str(clock)))
    jumped = tmp_path / "jumped"

    run = Driver(jumped, yaml, PYTHONPATH=str(tmp_path), DIFFSWEEP_SILENCE_S="20")
    drivers.append(run)
    run.until(" 8 of 64 kimg")
    clock.write_text("-7200")
    run.until(" 24 of 64 kimg")
    clock.write_text("86400")
    run.until(" 40 of 64 kimg")
    clock.write_text("-86400")
    outcome = run.end()

    stamps = [
        report.time_s
        for trial in (jumped / "trials").iterdir()
        for report in Record(trial).reports()
    ]
    assert max(stamps) - min(stamps) > 86400, "the clock did jump"
    assert outcome["finished"] == 2
    assert final_metrics(jumped) == undisturbed(experiment, tmp_path / "whole")
    assert 0 < outcome["seconds"] < 600
    assert not [line for line in run.lines if "no sign of life" in line]
    told = read_sweep(Settings(home=jumped, tracking_uri=None), "toy")
    assert [0 < trial["seconds"] < 600 for trial in told.trials] == [True] * 2
    points = Counter(
        (p["trial_key"], p["images"]) for p in told.curves if p["metric"] == "rung/fid"
    )
    known = Counter(
        (trial.key, report.images)
        for trial in experiment.trials
        for report in Record(jumped / "trials" / trial.key).reports()
        if "rung/fid" in report.metrics
    )
    assert points == known
    assert len(known) == 2 * 8
