"""A machine is about to go: what trains there keeps a checkpoint, and goes on elsewhere from exactly there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.service.by_hand import undisturbed
from tests.service.driver import Command, Driver
from tests.service.faults.test_head_environment import command, head
from tests.service.faults.test_lost_nodes import ended, kill, node
from tests.service.sweeps import final_metrics, sweep, wait_for, write
from trainer.pulse import pulse
from trainer.record import Record

__all__ = ["head"]
pytestmark = [pytest.mark.fault, pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(560)]
LONG = {"train.kimg": 128.0, "evaluation.evaluations": 8}


@pytest.mark.parametrize("launcher", ["inproc", "train"])
def test_sigterm_to_a_worker_costs_nothing_however_often_it_comes(
    launcher: str, toy: dict[str, Any], tmp_path: Path, drivers: list[Driver]
) -> None:
    """Three times: a worker that is lost is replaced twice."""
    experiment = sweep(toy, seeds=1, set=LONG, arms={"uniform": {}}, launcher=launcher)
    yaml = write(experiment, tmp_path)
    run = Command(tmp_path / "home", yaml)
    drivers.append(run)
    run.until("uniform seed 0: starts")
    left = 0.0
    for _ in range(3):
        wait_for(lambda before=left: trained(tmp_path) > before, "a checkpoint")
        wait_for(lambda: trains(tmp_path), "the process that trains").terminate()
        run.until("uniform seed 0: its machine is about to go: continues elsewhere from ")
        left = float(run.lines[-1].split()[-2])
        run.until(f"uniform seed 0: continues at {left:g} of 128 kimg")
    code, said = run.ending()
    assert code == 0, said
    assert "Traceback" not in said
    assert "FAILED" not in said
    assert final_metrics(tmp_path / "home") == undisturbed(experiment, tmp_path / "whole")


_DRAIN = """
import sys, time
import ray
from ray._raylet import GcsClient
from ray.core.generated import autoscaler_pb2
address = sys.argv[1]
ray.init(address=address, logging_level="ERROR")
(found,) = (n for n in ray.nodes() if n["Alive"] and "node:__internal_head__" not in n["Resources"])
reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
print(GcsClient(address=address).drain_node(found["NodeID"], reason, "a test", int(1000 * time.time()) + 300_000))
"""


def test_a_trial_on_a_node_that_is_drained_leaves_in_time(
    head: dict[str, str],
    toy: dict[str, Any],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Of two nodes with a trial each one is drained, while there is no room elsewhere; then there is."""
    longer = {**LONG, "train.kimg": 768.0}  # than it takes to ask Ray for the drain
    experiment = sweep(toy, seeds=1, set=longer, launcher="inproc")
    yaml = write(experiment, tmp_path)
    home = tmp_path / "home"
    short = Path(f"/tmp/ds-l{tmp_path_factory.mktemp('n').stat().st_ino}")
    shell = {**head, "DIFFSWEEP_HOME": str(home)}
    nodes = [node(head, short / "1")]
    try:
        code, said = command(shell, "submit", str(yaml))
        assert code == 0, said

        def log() -> str:
            return command(shell, "logs", "toy")[1]

        wait_for(
            lambda: all(f"{cell} seed 0: 96 of" in log() for cell in ("uniform", "under")),
            "both trials",
        )
        drained = subprocess.run(
            [sys.executable, "-c", _DRAIN, head["GCS"]],
            env=shell, text=True, capture_output=True, timeout=100, check=False,
        )  # fmt: skip
        assert "True" in drained.stdout, drained.stderr
        wait_for(lambda: "its machine is about to go: continues elsewhere from" in log(), "a word")
        nodes.append(node(head, short / "2"))
        assert wait_for(lambda: ended(shell), "the end of the job", 300) == "SUCCEEDED", log()
        (moved,) = (line for line in log().splitlines() if "its machine is about to go" in line)
        cell, kimg = moved.split()[1], moved.split()[-2]
        assert f"{cell} seed 0: continues at {kimg} of" in log()
        assert "FAILED" not in log()
    finally:
        for each in nodes:
            if each.poll() is None:
                kill(each)
        subprocess.run(["rm", "-rf", str(short)], check=True)
    assert final_metrics(home) == undisturbed(experiment, tmp_path / "whole")


def trained(folder: Path) -> float:
    """kimg of the only trial's newest checkpoint."""
    return max((Record(p).images() / 1000 for p in (folder / "home" / "trials").glob("*")), default=0.0)  # fmt: skip


def trains(folder: Path) -> psutil.Process | None:
    """The process whose heart beats for the only trial; one that left may take seconds to end beside it."""
    beats = [pulse(p) for p in (folder / "home" / "trials").glob("*")]
    return next((psutil.Process(one.pid) for one in beats if one is not None and one.is_here), None)
