"""A machine runs out of memory: Ray's monitor or the kernel kills a trial's process, and the person reads why."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.service.by_hand import undisturbed
from tests.service.driver import Command, Driver
from tests.service.faults.machines import SmallMachine
from tests.service.faults.test_lost_processes import LONG, at_work
from tests.service.sweeps import final_metrics, sweep, wait_for, write

pytestmark = [pytest.mark.fault, pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(400)]
MONITOR = {"RAY_memory_usage_threshold": "0.8", "RAY_memory_monitor_refresh_ms": "100"}
KERNEL = {"RAY_memory_monitor_refresh_ms": "0"}
KILLERS = {"Ray's memory monitor": (MONITOR, 0.9), "the kernel": (KERNEL, 1.02)}
"""Who kills: what Ray is told, and the share of the memory that something else takes then."""


@pytest.fixture
def machine() -> Iterator[SmallMachine]:
    with SmallMachine(4096) as small:
        yield small


class Inside(Command):
    """`diffsweep run` on a small machine."""

    def __init__(
        self, machine: SmallMachine, home: Path, yaml: Path, environment: dict[str, str]
    ) -> None:
        self._machine = machine
        super().__init__(home, yaml, **environment)

    def command(self, home: Path | str, yaml: Path, policy: str) -> list[str]:
        return self._machine.inside(super().command(home, yaml, policy))


@pytest.mark.parametrize("killer", KILLERS)
def test_a_process_killed_for_memory_is_told_of_and_replaced_and_no_number_changes(
    killer: str,
    machine: SmallMachine,
    toy: dict[str, Any],
    tmp_path: Path,
    drivers: list[Driver],
) -> None:
    environment, share = KILLERS[killer]
    one = sweep(toy, seeds=1, set=LONG, arms={"uniform": {}}, launcher="inproc")
    run = Inside(machine, tmp_path / "home", write(one, tmp_path), environment)
    drivers.append(run)
    run.until(" 16 of 192 kimg")
    (process,) = at_work(run, "inproc")
    with machine.filled(to=share):
        wait_for(lambda: not process.is_running(), "the kill", 60)
    run.until(f"uniform seed 0: its machine ran out of memory, and {killer} killed its process")
    assert "lower train.microbatch" in run.lines[-1]
    run.until("uniform seed 0: continues at ")
    code, said = run.ending()
    assert code == 0, said
    assert "Traceback" not in said
    assert "FAILED" not in said
    assert final_metrics(tmp_path / "home") == undisturbed(one, tmp_path / "whole")


def test_a_worker_of_ray_train_killed_for_memory_is_replaced_and_no_number_changes(
    machine: SmallMachine, toy: dict[str, Any], tmp_path: Path, drivers: list[Driver]
) -> None:
    one = sweep(toy, seeds=1, set=LONG, arms={"uniform": {}}, launcher="train")
    run = Inside(machine, tmp_path / "home", write(one, tmp_path), MONITOR)
    drivers.append(run)
    run.until(" 16 of 192 kimg")
    (process,) = at_work(run, "train")
    with machine.filled(to=0.9):
        wait_for(lambda: not process.is_running(), "the kill", 60)
    run.until("uniform seed 0: its machine ran out of memory, and Ray's memory monitor killed")
    code, said = run.ending()
    assert code == 0, said
    assert "Traceback" not in said
    assert "FAILED" not in said
    assert final_metrics(tmp_path / "home") == undisturbed(one, tmp_path / "whole")


def test_a_machine_that_stays_without_memory_ends_the_trial_with_what_to_lower(
    machine: SmallMachine, toy: dict[str, Any], tmp_path: Path, drivers: list[Driver]
) -> None:
    """By Ray's monitor, which goes by the machine, not by the process that took it."""
    one = sweep(toy, seeds=1, set=LONG, arms={"uniform": {}}, launcher="inproc")
    run = Inside(machine, tmp_path / "home", write(one, tmp_path), MONITOR)
    drivers.append(run)
    run.until(" 16 of 192 kimg")
    with machine.filled(to=0.9):
        run.until("uniform seed 0: FAILED: its machine ran out of memory, and Ray's memory monitor")
        assert "run fewer trials at once (DIFFSWEEP_CONCURRENCY" in run.lines[-1]
        code, said = run.ending()
    assert code == 1, said
    assert "Traceback" not in said
