"""How does a killed driver leave nothing behind?

A driver that starts its own Ray starts this beside it, holding a pipe. When the pipe closes, because the driver ended
or was killed in any way, the processes of that Ray are killed and its private directory is removed. Ray ties its
daemons to the driver but leaves agents and busy workers for up to a minute, in which they would write into trials that
the next driver continues. Whoever else looks into the directory, such as a person who follows a log, is left alone.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

GIVE_UP_S = 20.0


MARK = "DIFFSWEEP_PRIVATE_RAY"
"""Variable that every process of a private Ray inherits: its directory."""


class Janitor:
    """Ends the Ray that lives in `directory` once this process is gone, and removes that."""

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
    """The processes of the Ray of `directory`, other than the driver."""
    import psutil

    return [
        process.pid
        for process in psutil.process_iter()
        if process.pid not in (driver, os.getpid()) and _lives_in(process, directory)
    ]


def _lives_in(process: psutil.Process, directory: Path) -> bool:
    """By what it inherited; agents of Ray write their title over that, and are known by title or command."""
    import psutil

    mark = f"{directory}/"
    try:
        if process.environ().get(MARK) == str(directory):
            return True
    except (psutil.Error, OSError):
        pass
    try:
        command = process.cmdline()
        if any(mark in argument for argument in command):
            return any("/ray/" in argument for argument in command[:3])
        is_titled = process.name().startswith("ray::")
        return is_titled and any(file.path.startswith(mark) for file in process.open_files())
    except (psutil.Error, OSError):
        return False


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
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # slurm sends it to all; it is the driver's
    sys.stdin.buffer.read()
    clean(Path(sys.argv[1]), int(sys.argv[2]))
