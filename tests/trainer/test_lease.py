"""A lease is one's own, says who has it, ends with its holder, and reaches machines that do not share locks."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainer import lease
from trainer.files import HeldError
from trainer.lease import Lease, holder

HOLDS = """
import fcntl, socket, sys
from pathlib import Path
from trainer import lease
if sys.argv[2]:  # another machine, whose locks nobody else sees
    socket.gethostname = lambda: sys.argv[2]
    fcntl.flock = lambda *_: None
lease.BEAT_S = 0.1
with lease.Lease(Path(sys.argv[1]), on_lost=lambda: print("lost", flush=True)) as mine:
    print("holds", flush=True)
    sys.stdin.readline()
    mine.check()
"""


class Other:
    """Another process that holds a lease; with a `machine`, one elsewhere."""

    def __init__(self, path: Path, machine: str = "") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDS, str(path), machine],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "holds\n"

    def end(self) -> tuple[str, str]:
        return self.process.communicate("\n", timeout=30)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(lease, "BEAT_S", 0.1)
    monkeypatch.setattr(lease, "EXPIRES_S", 4.0)
    return tmp_path / "lock"


def seconds_to_take(path: Path) -> float:
    began = time.monotonic()
    with Lease(path):
        return time.monotonic() - began


@pytest.mark.parametrize("machine", ["", "elsewhere"])
def test_a_living_holder_keeps_it_and_is_named(path: Path, machine: str) -> None:
    other = Other(path, machine)
    with pytest.raises(HeldError) as held, Lease(path):
        pass
    assert f"process {other.process.pid} on {machine}" in held.value.holder
    assert ", since " in held.value.holder
    assert holder(path) == held.value.holder
    other.end()
    assert holder(path) is None
    assert seconds_to_take(path) < 2.0, "what was given back is free at once"


def test_on_one_machine_it_is_free_when_its_holder_dies(path: Path) -> None:
    other = Other(path)
    other.process.kill()
    other.process.wait(10)
    assert holder(path) is None
    assert seconds_to_take(path) < 2.0


def test_on_one_machine_it_is_not_taken_from_one_that_was_stopped(path: Path) -> None:
    other = Other(path)
    other.process.send_signal(signal.SIGSTOP)
    time.sleep(2.0)
    with pytest.raises(HeldError), Lease(path):
        pass
    other.process.send_signal(signal.SIGCONT)
    assert other.end() == ("", "")


def test_elsewhere_it_expires_when_its_holder_dies(path: Path) -> None:
    other = Other(path, "elsewhere")
    other.process.kill()
    other.process.wait(10)
    assert 3.0 < seconds_to_take(path) < 20.0
    assert seconds_to_take(path) < 2.0


def test_who_was_not_heard_for_long_is_told_that_another_took_over(path: Path) -> None:
    other = Other(path, "elsewhere")
    other.process.send_signal(signal.SIGSTOP)
    with Lease(path):
        other.process.send_signal(signal.SIGCONT)
        assert other.process.stdout is not None
        assert other.process.stdout.readline() == "lost\n"
        _, error = other.end()
        assert "HeldError" in error, "it writes nothing more"
        with pytest.raises(HeldError), Lease(path):
            pass


def test_a_clock_that_is_wrong_elsewhere_does_not_matter(path: Path) -> None:
    """Only whether the count moves: an old or a future date on the file decides nothing."""
    import os

    other = Other(path, "elsewhere")
    for when in (1.0, time.time() + 1e6):
        os.utime(path, (when, when))
        with pytest.raises(HeldError), Lease(path):
            pass
    other.end()
