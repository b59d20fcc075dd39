"""A file system so small that a test fills it."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


class SmallDisk:
    """One of `megabytes`; as root alone."""

    def __init__(self, place: Path, megabytes: int) -> None:
        self.place, self._filler = place, place / "filler"
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(place)]
        if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("a small file system takes root")

    def fill(self) -> None:
        with open(self._filler, "wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"x" * 4096)

    def make_room(self) -> None:
        self._filler.unlink()


@pytest.fixture
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SmallDisk]:
    """Of as many megabytes as the test's parameter says."""
    small = SmallDisk(tmp_path / "disk", request.param)
    yield small
    subprocess.run(["umount", "-l", str(small.place)], check=True)
