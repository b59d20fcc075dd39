"""A trial that breaks says why in a line, with the way out where there is one."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import torch

from service.causes import cause, lost
from trainer.files import FileLock, HeldError
from trainer.record import Record

WAY_OUT = ": lower train.microbatch (training) or evaluation.batch_size (generation)"


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
        MemoryError(),
    ],
)
def test_too_little_memory_names_what_to_lower(error: Exception) -> None:
    assert cause(error).startswith(type(error).__name__)
    assert cause(error).endswith(WAY_OUT)


def test_a_machine_without_memory_is_named_with_who_killed() -> None:
    """Ray's own words of both; the kernel is to blame only where it says so itself."""
    unexpected = (
        "Worker unexpectedly exits with a connection error code 2. End of file. Some common causes include: (1) the "
        "process was killed by the OOM killer due to high memory usage, (2) ray stop --force was called"
    )
    monitor = "The actor was killed due to the node running low on memory.\nMemory on the node was 61 / 64GB"
    assert lost(unexpected) == unexpected[:300]
    start = "its machine ran out of memory, and {} killed its process: run fewer trials at once"
    assert lost(unexpected, killed=1).startswith(start.format("the kernel"))
    assert lost(monitor).startswith(start.format("Ray's memory monitor"))


def test_other_errors_are_told_as_they_are() -> None:
    assert cause(RuntimeError("a\nshapes differ")) == "RuntimeError: shapes differ"


def test_who_holds_what_is_told(tmp_path: Path) -> None:
    process = f"process {os.getpid()} on {socket.gethostname()}"
    record = Record(tmp_path / "trial")
    with record.writer(), pytest.raises(HeldError) as held, record.writer():
        pass
    said = cause(held.value)
    assert said.startswith(f"another run is training it ({process}, since ")
    assert said.endswith("): run again when that is done")
    cached = tmp_path / "cache" / "features.pt.lock"
    with FileLock(cached), pytest.raises(HeldError) as held, FileLock(cached):
        pass
    assert cause(held.value) == f"{cached} is locked ({process}): run again when that is done"
