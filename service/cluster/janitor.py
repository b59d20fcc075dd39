"""How does a killed driver leave nothing behind?

A driver that starts its own Ray starts this beside it, holding a pipe. When the pipe closes, because
the driver ended or was killed in any way, whatever still works in the private directory is killed and
the directory removed. Ray ties its daemons to the driver but leaves agents and busy workers for up
to a minute, in which they would write into trials that the next driver continues.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

GIVE_UP_S = 20.0


class Janitor:
    """Cleans up `directory` and the processes that live in it once this process is gone."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._process = subprocess.Popen(
            [sys.executable, "-E", __file__, str(directory), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,  # Ctrl-C is for the driver
        )

    def dismiss(self) -> None:
        """Clean up now and wait until it is done."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(GIVE_UP_S + 10.0)


def residents(directory: Path, driver: int) -> list[int]:
    """Processes other than the driver started with, or holding a file open below, `directory`."""
    import psutil

    pids = []
    mark = f"{directory}/"
    for process in psutil.process_iter():
        if process.pid in (driver, os.getpid()):
            continue
        try:
            lives = any(mark in argument for argument in process.cmdline()) or any(
                file.path.startswith(mark) for file in process.open_files()
            )
        except (psutil.Error, OSError):
            continue
        if lives:
            pids.append(process.pid)
    return pids


def clean(directory: Path, driver: int) -> None:
    """Kill the residents, then remove the directory."""
    import psutil

    deadline = time.monotonic() + GIVE_UP_S
    while (pids := residents(directory, driver)) and time.monotonic() < deadline:
        for pid in pids:
            try:
                psutil.Process(pid).kill()
            except psutil.Error:
                continue
        time.sleep(0.05)
    shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    sys.stdin.buffer.read()
    clean(Path(sys.argv[1]), int(sys.argv[2]))
