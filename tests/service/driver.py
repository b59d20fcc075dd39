"""A sweep in a process of its own, to be watched, killed and started again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

from tests.service.sweeps import ROOT


class Driver:
    """A sweep in a process of its own."""

    def __init__(self, home: Path | str, yaml: Path, policy: str = "", **environment: str) -> None:
        self.process = subprocess.Popen(
            self.command(home, yaml, policy), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, start_new_session=True, env={**os.environ, **environment},
        )  # fmt: skip
        self.lines: list[str] = []

    def command(self, home: Path | str, yaml: Path, policy: str) -> list[str]:
        """What is run."""
        return [sys.executable, "-m", "tests.service.drive", str(home), str(yaml), policy]

    def until(self, words: str) -> None:
        """Read on to the first line that contains the words."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if words in line:
                return
        raise AssertionError("\n".join(["the driver ended:", *self.lines]))

    def family(self) -> list[psutil.Process]:
        """Every process that it has started so far."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self) -> dict[str, Any]:
        """Wait for the end and return the outcome, its last line."""
        assert self.process.stdout is not None
        self.lines += self.process.stdout.read().splitlines()
        self.process.wait(60)
        outcome: dict[str, Any] = json.loads(self.lines[-1])
        return outcome


class Command(Driver):
    """The same by `diffsweep run`, as a person types it."""

    def command(self, home: Path | str, yaml: Path, policy: str) -> list[str]:
        """What is run."""
        return [sys.executable, "-m", "service", "run", str(yaml), "--home", str(home)]

    def ending(self) -> tuple[int, str]:
        """Wait for the end; the exit code, and everything that was said."""
        assert self.process.stdout is not None
        self.lines += self.process.stdout.read().splitlines()
        return self.process.wait(60), "\n".join(self.lines)


def gone(family: list[psutil.Process]) -> bool:
    """Whether none of these processes is left."""
    return not any(
        process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in family
    )
