"""A machine with so much memory and no more: a control group, which whoever is in it sees as all there is."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from tests.service.sweeps import wait_for
from trainer.machine import GROUPS, OWN_GROUPS

_FILL = """
import sys
held = bytearray(int(sys.argv[1]))
held[::4096] = bytes([1]) * len(held[::4096])  # every page
sys.stdin.read()
"""


class SmallMachine:
    """A group of its own below this process's; as root alone."""

    def __init__(self, megabytes: int) -> None:
        own = _own_group()
        self._root = GROUPS if own == GROUPS or _is_unified() else GROUPS / "memory"
        self.group = own / f"diffsweep-test-{os.getpid()}"
        self._usage = "memory.current" if _is_unified() else "memory.usage_in_bytes"
        limit = "memory.max" if _is_unified() else "memory.limit_in_bytes"
        self.bytes = megabytes << 20
        try:
            self.group.mkdir()
            (self.group / limit).write_text(str(self.bytes))
        except OSError as error:
            self.close()
            pytest.skip(f"a control group takes root: {error}")
        if subprocess.run(self.inside(["true"]), capture_output=True, check=False).returncode:
            self.close()
            pytest.skip("a mount of its own takes root")

    def inside(self, command: list[str]) -> list[str]:
        """The command as it runs there: its group is what it sees at the root, as in a container."""
        enter = 'echo $$ > "$0/cgroup.procs" && mount --bind "$0" "$1" && shift && exec "$@"'
        return ["unshare", "--mount", "sh", "-c", enter, str(self.group), str(self._root), *command]

    def used(self) -> int:
        """Bytes by now."""
        return int((self.group / self._usage).read_text())

    @contextlib.contextmanager
    def filled(self, to: float) -> Iterator[None]:
        """Something else takes memory there, up to this share of it."""
        size = str(max(1, int(to * self.bytes) - self.used()))
        process = subprocess.Popen(
            self.inside([sys.executable, "-c", _FILL, size]),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        try:
            yield
        finally:
            process.kill()
            process.wait(10)

    def close(self) -> None:
        """All of its processes have ended by now."""
        if self.group.is_dir():
            procs = self.group / "cgroup.procs"
            wait_for(lambda: not procs.read_text().strip(), "the machine's processes", 30)
            self.group.rmdir()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _is_unified() -> bool:
    """Whether groups are of version 2."""
    return (GROUPS / "cgroup.controllers").exists()


def _own_group() -> Path:
    """This process's, for memory."""
    for line in OWN_GROUPS.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return GROUPS / "memory" / path.strip("/")
        if not controllers and _is_unified():
            return GROUPS / path.strip("/")
    pytest.skip("no control groups here")
