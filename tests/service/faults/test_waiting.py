"""Trials that wait for what others hold say so: what they need, what is free, who has the rest."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from service.cluster import waiting
from service.cluster.waiting import Waiting
from service.resources import Resources
from tests.service.sweeps import ROOT, sweep, write

pytestmark = pytest.mark.fault

_NOTEBOOK = """
import sys, threading
from pathlib import Path
import ray
from service import launch
from service.cluster import waiting
from service.experiment import Experiment
from service.progress import SweepNote
from service.settings import Settings

home, yaml, scratch = sys.argv[1:]
waiting.PATIENCE_S = 3.0
ray.init(num_cpus=1, include_dashboard=False, object_store_memory=100 * 2**20, log_to_driver=False,
         logging_level="ERROR", _temp_dir=scratch)

@ray.remote(num_cpus=1)
class Holder:
    def ready(self): return 7

holder = Holder.remote()
assert ray.get(holder.ready.remote()) == 7

def hear(event):
    if isinstance(event, SweepNote):
        print("NOTE", event.text, flush=True)
        if "waits, none runs" in event.text:
            ray.kill(holder)

outcome = launch.run(Experiment.from_yaml(yaml), Settings(home=Path(home), tracking_uri=None), hear)
print("CODE", outcome.exit_code, "TRAINED", outcome.finished, "CONNECTED", ray.is_initialized())
ray.shutdown()
"""


@pytest.mark.ray
@pytest.mark.slow
def test_what_another_holds_is_told_and_it_begins_when_that_is_free(
    toy: dict[str, Any], tmp_path: Path
) -> None:
    """In the Ray of a notebook, whose own actor has the only CPU."""
    yaml = write(sweep(toy, seeds=1, arms={"uniform": {}}, launcher="inproc"), tmp_path)
    with tempfile.TemporaryDirectory(prefix="ds-", dir="/tmp") as scratch:
        done = subprocess.run(
            [sys.executable, "-c", _NOTEBOOK, str(tmp_path / "home"), str(yaml), scratch],
            cwd=ROOT, env={**os.environ, "RAY_AUTH_MODE": "disabled"}, text=True,
            capture_output=True, timeout=200,
        )  # fmt: skip
    said = done.stdout.splitlines()
    words = "1 trial waits, none runs: each needs 1 CPU; free: 0 of 1 CPU; other jobs of this Ray hold the rest"
    assert f"NOTE {words}" in said, done.stdout + done.stderr
    assert said[-1] == "CODE 0 TRAINED 1 CONNECTED True"


class Clock:
    """Time that passes when the test says so."""

    now = 100.0


def test_it_is_said_after_half_a_minute_and_not_all_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    notes, clock = list[str](), Clock()
    held = ({"CPU": 8.0, "GPU": 2.0}, {"CPU": 8.0})
    monkeypatch.setattr(waiting, "_ray_holds", lambda: held)
    monkeypatch.setattr(waiting, "draining", lambda: [])
    told, need = Waiting(notes.append, lambda: clock.now), Resources(workers=2, gpus=1, cpus=2)

    def passes(seconds: float, waits: int, at_work: int = 0) -> None:
        for _ in range(int(seconds)):
            clock.now += 1
            told.look([need] * waits, at_work)

    passes(300, waits=4, at_work=1)
    passes(300, waits=0)
    passes(25, waits=4)
    assert notes == []
    passes(10, waits=4)
    assert notes == [
        "4 trials wait, none runs: each needs 2 x (2 CPU and 1 GPU); free: 8 of 8 CPU, 0 of 2 GPU; "
        "other jobs of this Ray hold the rest"
    ]
    passes(500, waits=4)
    assert len(notes) == 1
    passes(200, waits=4)
    assert len(notes) == 2
    monkeypatch.setattr(waiting, "draining", lambda: ["a", "b"])
    passes(600, waits=4)
    assert notes[2].endswith("; 2 nodes are about to go, and other jobs of this Ray hold the rest")
    passes(1, waits=4, at_work=1)
    passes(20, waits=4)
    assert len(notes) == 3, "what was at work has just ended"


def test_in_a_ray_of_its_own_nobody_else_is_blamed(monkeypatch: pytest.MonkeyPatch) -> None:
    notes, clock = list[str](), Clock()
    monkeypatch.setattr(waiting, "_ray_holds", lambda: ({"CPU": 2.0}, {}))
    monkeypatch.setattr(waiting, "draining", lambda: [])
    told = Waiting(notes.append, lambda: clock.now, is_private=True)
    for _ in range(60):
        clock.now += 1
        told.look([Resources(workers=1, gpus=0, cpus=1)], 0)
    (said,) = notes
    assert "their own processes hold the rest and do not start: `ray.log`" in said
