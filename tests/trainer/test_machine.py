"""A container that is granted fewer CPUs than its host has says so in its control groups."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trainer import machine


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty tree of groups, on a host of eight CPUs."""
    monkeypatch.setattr(machine, "GROUPS", tmp_path)
    monkeypatch.setattr(machine, "OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    return tmp_path


def put(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("max 100000", 8),
        ("100000 100000", 1),
        ("250000 100000", 2),
        ("20000 100000", 1),
        ("1600000 100000", 8),
        ("300000 100000\n", 3),
        ("-1 100000", 8),
        ("nonsense", 8),
        ("", 8),
    ],
)
def test_a_quota_of_version_2_bounds_whole_cpus(groups: Path, text: str, cpus: int) -> None:
    put(groups / "cpu.max", text)
    assert machine.own_cpus() == cpus


@pytest.mark.parametrize("mount", ["cpu", "cpu,cpuacct"])
def test_a_quota_of_version_1_bounds_too(groups: Path, mount: str) -> None:
    put(groups / mount / "cpu.cfs_quota_us", "350000\n")
    put(groups / mount / "cpu.cfs_period_us", "100000\n")
    assert machine.own_cpus() == 3
    put(groups / mount / "cpu.cfs_quota_us", "-1\n")
    assert machine.own_cpus() == 8


def test_memory_is_that_of_the_smallest_group(groups: Path) -> None:
    whole = machine.own_memory()
    assert whole == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    put(groups / "memory.max", "max\n")
    assert machine.own_memory() == whole
    put(groups / "own", "0::/job\n")
    put(groups / "job" / "memory.max", "1048576\n")
    assert machine.own_memory() == 2**20
    put(groups / "memory" / "memory.limit_in_bytes", "4096\n")
    assert machine.own_memory() == 4096


def test_what_the_kernel_killed_is_counted(groups: Path) -> None:
    before = machine.oom_kills()
    put(groups / "memory.events", "low 0\noom 3\noom_kill 2\noom_group_kill 0\n")
    assert machine.oom_kills() >= before + 2


@pytest.mark.parametrize("line", ["0::/batch/job/step", "4:cpu,cpuacct:/batch/job/step"])
def test_the_least_of_all_groups_above_counts(groups: Path, line: str) -> None:
    """As slurm and systemd nest them: the job has less than its batch, its step has no bound of its own."""
    put(groups / "own", f"7:memory:/elsewhere\n{line}\n")
    root = groups if line.startswith("0") else groups / "cpu"
    put(root / "batch" / "cpu.max", "600000 100000")
    put(root / "batch" / "job" / "cpu.max", "200000 100000")
    put(root / "batch" / "job" / "step" / "cpu.max", "max 100000")
    put(groups / "elsewhere" / "cpu.max", "100000 100000")
    assert machine.own_cpus() == 2


@pytest.mark.usefixtures("groups")
def test_without_groups_the_cpus_it_is_bound_to() -> None:
    assert machine.own_cpus() == 8
