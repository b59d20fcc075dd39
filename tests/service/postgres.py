"""A real PostgreSQL on loopback that can be killed and started again."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.sweeps import free_port, wait_for

_PLACES = ("/usr/lib/postgresql/*/bin", "/opt/homebrew/opt/postgresql*/bin")


def programs() -> Path | None:
    """The folder with `initdb` and `postgres`, if there is one."""
    if (found := shutil.which("initdb")) is not None:
        return Path(found).resolve().parent
    every = [p for place in _PLACES for p in Path("/").glob(place[1:]) if (p / "initdb").exists()]
    return max(every, default=None)


class Postgres:
    """One with an empty database `mlflow`; as another user where this one is root, whom it refuses."""

    def __init__(self, bin_folder: Path) -> None:
        self._bin = bin_folder
        self._user = "nobody" if os.geteuid() == 0 else None
        self.folder = Path(tempfile.mkdtemp(prefix="ds-pg-", dir="/tmp"))
        if self._user:
            shutil.chown(self.folder, self._user)
        self.port = free_port()
        self.uri = f"postgresql+psycopg2://mlflow@127.0.0.1:{self.port}/mlflow"
        self._process: subprocess.Popen[bytes] | None = None
        self._call("initdb", "--auth=trust", "--username=mlflow", "--pgdata", str(self._data))
        with open(self.folder / "log", "wb"):
            pass
        self.start()
        self._call("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "mlflow", "mlflow")

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _call(self, program: str, *words: str) -> None:
        done = subprocess.run(
            [self._bin / program, *words], cwd="/", user=self._user, capture_output=True, text=True, check=False
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        """Begin, or begin again on the same data."""
        command = [str(self._bin / "postgres"), "-D", str(self._data), "-p", str(self.port)]
        command += ["-h", "127.0.0.1", "-k", str(self.folder)]
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                command, cwd="/", user=self._user, stdout=log, stderr=log, start_new_session=True
            )
        wait_for(self._is_up, "PostgreSQL", 60)

    def _is_up(self) -> bool:
        done = subprocess.run(
            [self._bin / "pg_isready", "-h", "127.0.0.1", "-p", str(self.port), "-U", "mlflow"],
            capture_output=True,
            check=False,
        )
        return done.returncode == 0

    def kill(self) -> None:
        """SIGKILL, as if its machine lost power; its children end with it."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(10)
            self._process = None
            wait_for(lambda: not self._is_heard(), "the end of PostgreSQL", 30)

    def _is_heard(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def close(self) -> None:
        """Nothing of it is left."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def postgres() -> Iterator[Postgres]:
    """A running one, gone at the end; a test is skipped where there is none on this machine."""
    folder = programs()
    if folder is None:
        pytest.skip(f"PostgreSQL's `initdb` is neither on PATH nor in {' or '.join(_PLACES)}")
    pytest.importorskip("psycopg2")
    running = Postgres(folder)
    try:
        yield running
    finally:
        running.close()
