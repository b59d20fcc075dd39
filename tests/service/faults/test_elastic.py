"""An elastic trial loses a node, and goes on with the workers that still fit; once there is room again, with more."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.service.faults.test_head_environment import command, running_head
from tests.service.faults.test_lost_nodes import ended, kill, node
from tests.service.sweeps import sweep, wait_for, write
from trainer.record import Record

pytestmark = [pytest.mark.fault, pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]
LONG = {"train.kimg": 8192.0, "train.batch_size": 512, "evaluation.evaluations": 32}
NAME = "uniform seed 0"


def workers(of: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Of a trial, on the node of this process."""
    found = list[psutil.Process]()
    for one in psutil.Process(of.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # ended since
            if "RayTrainWorker" in one.name() + " ".join(one.cmdline()):
                found.append(one)
    return found


def test_it_goes_on_with_fewer_workers_and_with_more_again(
    toy: dict[str, Any], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    both = {"workers": {"least": 1, "most": 2}, "cpus": 1}
    experiment = sweep(toy, seeds=1, arms={"uniform": {}}, set=LONG, resources=both)
    yaml, home = write(experiment, tmp_path), tmp_path / "home"
    short = Path(f"/tmp/ds-e{tmp_path_factory.mktemp('n').stat().st_ino}")
    with running_head() as (shell, head):
        shell |= {"DIFFSWEEP_HOME": str(home)}
        nodes = [node(shell, short / "1")]
        try:
            code, said = command(shell, "submit", str(yaml))
            assert code == 0, said

            def log() -> str:
                return command(shell, "logs", "toy")[1]

            wait_for(lambda: f"{NAME}: 256 of" in log(), "a trial of two workers")
            assert (len(workers(head)), len(workers(nodes[0]))) == (1, 1)
            kill(nodes[0])
            fewer = f"{NAME}: goes on with 1 worker instead of 2: so many fit now"
            wait_for(lambda: fewer in log(), "fewer workers", 120)
            assert "continues at" not in log().split(fewer)[0]
            nodes.append(node(shell, short / "2"))
            wait_for(lambda: f"{NAME}: 512 of" in log().split(fewer)[1], "the trial", 300)
            workers(head)[0].terminate()  # it trains, and so it listens
            more = f"{NAME}: goes on with 2 workers instead of 1: so many fit now"
            wait_for(lambda: more in log(), "more workers", 120)
            status = wait_for(lambda: ended(shell), "the end of the job", 300)
            assert status == "SUCCEEDED", log()
            assert "FAILED" not in log()
            assert "Traceback" not in log()
        finally:
            for one in nodes:
                if one.poll() is None:
                    kill(one)
            subprocess.run(["rm", "-rf", str(short)], check=True)
    (trial,) = experiment.trials
    reports = Record(home / "trials" / trial.key).reports()
    assert [one.images for one in reports] == trial.spec.evaluation_points(), "each once"
