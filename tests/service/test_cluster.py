"""The cluster way, for real: two Ray nodes with a token, an MLflow server, jobs by command and by SDK."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from service.cluster.janitor import clean
from service.settings import Settings
from service.tracking.readback import read_sweep
from tests.service.sweeps import (
    ROOT,
    MlflowServer,
    free_port,
    mlflow_server,
    sweep,
    wait_for,
    write,
)

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(420)]
BIN = Path(sys.executable).parent
SDK = """
import json, sys
from service import Client, Experiment
address, yaml, home = sys.argv[1:]
job = Client(address).submit(Experiment.from_yaml(yaml), env={"DIFFSWEEP_HOME": home})
status = job.wait(timeout=180)
table = job.results() if status == "SUCCEEDED" else None
rows = [] if table is None else json.loads(table.to_json(orient="records"))
print(json.dumps({"id": job.id, "status": status, "rows": rows, "logs": job.logs()}))
"""


@dataclass(frozen=True)
class Ray:
    """A running cluster: where its jobs go, and the environment that may talk to it."""

    address: str
    environment: dict[str, str]


def start_node(
    arguments: list[str], environment: dict[str, str], log: Path
) -> subprocess.Popen[bytes]:
    ports = {
        name: free_port() for name in ("dashboard-agent-grpc-port", "dashboard-agent-listen-port")
    }
    command = [str(BIN / "ray"), "start", "--block", "--num-cpus=1", "--num-gpus=0"]
    command += ["--object-store-memory=100000000", "--min-worker-port=0", "--max-worker-port=0"]
    command += [*arguments, *(f"--{name}={port}" for name, port in ports.items())]
    with open(log, "ab") as out:
        return subprocess.Popen(
            command, env=environment, stdout=out, stderr=out, start_new_session=True
        )


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as server:
        yield server


@pytest.fixture(scope="module")
def ray(mlflow: MlflowServer) -> Iterator[Ray]:
    scratch = Path(tempfile.mkdtemp(prefix="ds-test-", dir="/tmp"))  # sockets need a short path
    token = scratch / "token"
    token.write_text(secrets.token_hex(32))
    environment = {
        **os.environ,
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "MLFLOW_TRACKING_URI": mlflow.uri,
    }
    environment.pop("RAY_ADDRESS", None)
    port, dashboard = free_port(), free_port()
    head = ["--head", "--node-ip-address=127.0.0.1", f"--port={port}", f"--temp-dir={scratch}/ray"]
    head += ["--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"]
    head += [f"--ray-client-server-port={free_port()}"]
    nodes = [start_node(head, environment, scratch / "head.log")]
    address = f"http://127.0.0.1:{dashboard}"
    try:
        wait_for(lambda: status_code(address) in (200, 401), "the head node", 90)
        # A directory of its own: nodes that share one delete each other's copy of the job's code.
        second = [f"--address=127.0.0.1:{port}", f"--temp-dir={scratch}/two"]
        nodes.append(start_node(second, environment, scratch / "second.log"))
        wait_for(
            lambda: b"Ray runtime started" in (scratch / "second.log").read_bytes(), "node two", 90
        )
        yield Ray(address, environment)
    finally:
        for node in nodes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(node.pid, signal.SIGKILL)
            node.wait(10)
        clean(scratch, os.getpid())


def status_code(url: str) -> int | None:
    """What the address answers to a stranger."""
    try:
        with urllib.request.urlopen(f"{url}/api/version", timeout=2) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def by_sdk(ray: Ray, yaml: Path, home: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", SDK, ray.address, str(yaml), str(home)],
        cwd=ROOT, env=ray.environment, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert told["status"] == "SUCCEEDED", told["logs"][-3000:]
    return told


def test_a_stranger_without_the_token_is_refused(ray: Ray) -> None:
    assert status_code(ray.address) == 401
    stranger = {k: v for k, v in ray.environment.items() if not k.startswith("RAY_AUTH")}
    stranger["HOME"] = str(ROOT / "tests")  # no ~/.ray there
    done = subprocess.run(
        [sys.executable, "-c", SDK, ray.address, "experiments/smoke.yaml", "/nowhere"],
        cwd=ROOT, env=stranger, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode != 0
    assert "refuses this user's token" in done.stderr


def test_ray_job_submit_from_a_checkout_with_nothing_installed(
    ray: Ray, mlflow: MlflowServer, tmp_path: Path
) -> None:
    variables = {"env_vars": {"DIFFSWEEP_HOME": str(tmp_path / "home")}}
    command = [str(BIN / "ray"), "job", "submit", "--address", ray.address, "--working-dir", "."]
    command += ["--runtime-env-json", json.dumps(variables)]
    command += ["--", "python", "-m", "service", "run", "experiments/smoke.yaml"]
    done = subprocess.run(
        command, cwd=ROOT, env=ray.environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    home = Settings(home=tmp_path / "home", tracking_uri=mlflow.uri)
    rows = read_sweep(home, "smoke")
    assert len(rows.trials) == 4
    assert {trial["status"] for trial in rows.trials} == {"finished"}


def test_the_sdk_submits_waits_and_reads_a_table_and_again_finds_all_done(
    ray: Ray, tmp_path: Path
) -> None:
    first = by_sdk(ray, ROOT / "experiments" / "smoke.yaml", tmp_path / "home")
    assert first["id"].startswith("smoke-")
    assert first["id"].endswith("-1")
    assert [(row["cell"], row["seed"], row["status"]) for row in first["rows"]] == [
        ("uniform", 0, "finished"),
        ("uniform", 1, "finished"),
        ("lognormal", 0, "finished"),
        ("lognormal", 1, "finished"),
    ]
    again = by_sdk(ray, ROOT / "experiments" / "smoke.yaml", tmp_path / "home")
    assert again["id"] == f"{first['id'][:-1]}2"
    assert again["rows"] == first["rows"]


def test_a_trial_spans_two_nodes(ray: Ray, toy: dict[str, Any], tmp_path: Path) -> None:
    """Each node has one CPU, the trial needs two workers of one: the gang lies across both."""
    pair = sweep(
        toy, name="pair", seeds=1, arms={"uniform": {}}, resources={"workers": 2, "cpus": 1}
    )
    told = by_sdk(ray, write(pair, tmp_path), tmp_path / "home")
    (row,) = told["rows"]
    assert row["status"] == "finished"
    assert row["eval/fid"] > 0
