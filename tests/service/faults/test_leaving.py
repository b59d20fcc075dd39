"""A machine is about to go: what trains there keeps a checkpoint, and goes on elsewhere from exactly there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.service.driver import Command, Driver
from tests.service.faults.test_lost_processes import at_work
from tests.service.sweeps import final_metrics, sweep, wait_for, write
from trainer.record import Record

pytestmark = [pytest.mark.fault, pytest.mark.ray, pytest.mark.slow]
LONG = {"train.kimg": 256.0, "evaluation.evaluations": 8}


@pytest.mark.parametrize("launcher", ["inproc", "train"])
def test_sigterm_to_a_worker_costs_nothing_however_often_it_comes(
    launcher: str, toy: dict[str, Any], tmp_path: Path, drivers: list[Driver]
) -> None:
    """Three times: a worker that is lost is replaced twice."""
    yaml = write(sweep(toy, seeds=1, set=LONG, arms={"uniform": {}}, launcher=launcher), tmp_path)
    run = Command(tmp_path / "home", yaml)
    drivers.append(run)
    run.until("uniform seed 0: starts")
    left = 0.0
    for _ in range(3):
        wait_for(lambda before=left: trained(tmp_path) > before, "a checkpoint")
        wait_for(lambda: at_work(run, launcher), "a worker")[0].terminate()
        run.until("uniform seed 0: its machine is about to go: continues elsewhere from ")
        left = float(run.lines[-1].split()[-2])
        run.until(f"uniform seed 0: continues at {left:g} of 256 kimg")
    code, said = run.ending()
    assert code == 0, said
    assert "Traceback" not in said
    assert "FAILED" not in said
    calm = Command(tmp_path / "whole", yaml)
    drivers.append(calm)
    assert calm.ending()[0] == 0
    assert final_metrics(tmp_path / "home") == final_metrics(tmp_path / "whole")


def trained(folder: Path) -> float:
    """kimg of the only trial's newest checkpoint."""
    return max((Record(p).images() / 1000 for p in (folder / "home" / "trials").glob("*")), default=0.0)  # fmt: skip
