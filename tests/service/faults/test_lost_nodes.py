"""A node of a cluster dies under a trial and another one takes its place: no trial fails, no number changes."""

from __future__ import annotations

import contextlib
import json
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.service.by_hand import delivered, recorded, undisturbed
from tests.service.faults.test_head_environment import command, head, running_head
from tests.service.sweeps import final_metrics, sweep, wait_for, write
from tests.service.test_cluster import start_node

__all__ = ["head"]
pytestmark = [pytest.mark.fault, pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(560)]
LONG = {"train.kimg": 384.0, "evaluation.evaluations": 48}
SHORT = {"train.kimg": 192.0, "evaluation.evaluations": 24}


def node(head: dict[str, str], scratch: Path) -> subprocess.Popen[bytes]:
    """A further node of one CPU, once it has joined."""
    scratch.mkdir(parents=True)
    started = start_node(
        [f"--address={head['GCS']}", f"--temp-dir={scratch}"], head, scratch / "log"
    )
    wait_for(lambda: b"Ray runtime started" in (scratch / "log").read_bytes(), "the node", 90)
    return started


def kill(started: subprocess.Popen[bytes]) -> None:
    """The machine is gone: its raylet and all that it had started at once."""
    lost = psutil.Process(started.pid)
    for one in [*lost.children(recursive=True), lost]:
        with contextlib.suppress(psutil.NoSuchProcess):  # it went with the one before
            one.kill()
    started.wait(10)


def test_a_trial_whose_node_dies_goes_on_elsewhere_to_the_last_bit(
    head: dict[str, str],
    toy: dict[str, Any],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    experiment = sweep(toy, seeds=1, set=LONG, launcher="inproc")
    yaml = write(experiment, tmp_path)
    home, short = tmp_path / "home", Path(f"/tmp/ds-n{tmp_path_factory.mktemp('n').stat().st_ino}")
    shell = {**head, "DIFFSWEEP_HOME": str(home)}
    nodes = [node(head, short / "1")]
    try:
        code, said = command(shell, "submit", str(yaml))
        assert code == 0, said

        def log() -> str:
            return command(shell, "logs", "toy")[1]

        wait_for(
            lambda: all(f"{cell} seed 0: 8 of" in log() for cell in ("uniform", "under")),
            "both trials",
        )
        kill(nodes[0])
        nodes.append(node(head, short / "2"))
        status = wait_for(lambda: ended(shell), "the end of the job", 300)
        assert status == "SUCCEEDED", log()
        assert "continues at" in log()
        assert "FAILED" not in log()
        assert "Traceback" not in log()
    finally:
        for one in nodes:
            if one.poll() is None:
                kill(one)
        subprocess.run(["rm", "-rf", str(short)], check=True)
    assert final_metrics(home) == undisturbed(experiment, tmp_path / "whole")
    assert delivered(home, "rung/fid") == recorded(tmp_path / "whole", "rung/fid"), (
        "each point once"
    )


def test_a_job_whose_head_dies_is_submitted_again_and_continues_to_the_last_bit(
    toy: dict[str, Any], tmp_path: Path
) -> None:
    """The cluster is gone with all that it knew: the records are what is left."""
    experiment = sweep(toy, seeds=1, set=SHORT, arms={"uniform": {}}, launcher="inproc")
    yaml, home = write(experiment, tmp_path), tmp_path / "home"
    with running_head() as (shell, process):
        shell |= {"DIFFSWEEP_HOME": str(home)}
        code, said = command(shell, "submit", str(yaml))
        assert code == 0, said
        wait_for(lambda: len(list(home.glob("trials/*/checkpoint-*"))) > 0, "some training")
        kill(process)
        assert not list(home.glob("trials/*/result.json")), "it was killed in the middle"
    with running_head() as (shell, _):
        shell |= {"DIFFSWEEP_HOME": str(home)}
        code, said = command(shell, "submit", str(yaml), "--follow")
        assert code == 0, said
        assert "continued from" in said or "continues at" in said
    assert final_metrics(home) == undisturbed(experiment, tmp_path / "whole")


def ended(shell: dict[str, str]) -> str | None:
    (job,) = json.loads(command(shell, "status", "toy", "--json")[1])
    return None if job["status"] in ("PENDING", "RUNNING") else str(job["status"])
