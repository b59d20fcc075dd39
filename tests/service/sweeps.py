"""Small real sweeps and real servers for the tests of the orchestration."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

from service.experiment import Experiment

UNDER = {"diffusion.timesteps": {"kind": "p2", "gamma": 0.5, "k": 1.0}}
ROOT = Path(__file__).parents[2]


def sweep(toy: dict[str, Any], **changes: Any) -> Experiment:
    """Two cells and two seeds of the toy trial."""
    data = {"name": "toy", "base": toy, "arms": {"uniform": {}, "under": UNDER}, "seeds": 2}
    return Experiment.from_mapping({**data, **changes})


def write(experiment: Experiment, folder: Path) -> Path:
    """The experiment as a YAML file."""
    path = folder / f"{experiment.name}.yaml"
    path.write_text(experiment.text)
    return path


def final_metrics(home: Path) -> dict[str, dict[str, float]]:
    """Per trial key, the numbers of its result that do not depend on the clock."""
    results = {}
    for path in (home / "trials").glob("*/result.json"):
        metrics = json.loads(path.read_text())["metrics"]
        results[path.parent.name] = {k: v for k, v in metrics.items() if not k.startswith("sys/")}
    return results


def free_port() -> int:
    """A port that nothing listens on now, and that is given to nobody who asks for any: Ray's control stores do,
    and two of them may share one without knowing.
    """
    while True:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port := 20_000 + secrets.randbelow(12_000)))
            return port


def wait_for(condition: Any, what: str, timeout_s: float = 120.0) -> Any:
    """The first true value of `condition()`."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError(f"waited {timeout_s:g} s for {what}")


@dataclass
class Answering:
    """A server on loopback, and how often it was asked."""

    address: str
    asked: int = 0


@contextlib.contextmanager
def answering(version: str) -> Iterator[Answering]:
    """What says that it is a Ray of this version, and nothing else."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known.asked += 1
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"ray_version": version}).encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    known = Answering(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield known
    finally:
        server.shutdown()
        server.server_close()


class MlflowServer:
    """A real `mlflow server` on loopback that can be killed and started again."""

    def __init__(self, folder: Path, store: str = "", workers: int = 1) -> None:
        """On a database of its own in the folder, or on the `store` of this address."""
        self.folder, self.port = folder, free_port()
        self._store, self._workers = store or f"sqlite:///{folder}/server.db", workers
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--workers", str(self._workers)]
        command += ["--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", self._store]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        own = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with open(self.folder / "server.log", "ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, env={**os.environ, **own}, start_new_session=True
            )
        wait_for(self.is_up, "the mlflow server")

    @property
    def pid(self) -> int | None:
        """Of the process that was started."""
        return None if self._process is None else self._process.pid

    def is_up(self) -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=1):
            return True
        return False

    def kill(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)  # its own session: ours alone
            self._process.wait(10)
            self._process = None


@contextlib.contextmanager
def mlflow_server(folder: Path, store: str = "", workers: int = 1) -> Iterator[MlflowServer]:
    """A running server, gone at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    server = MlflowServer(folder, store, workers)
    server.start()
    try:
        yield server
    finally:
        server.kill()
