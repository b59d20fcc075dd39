"""The cluster way, for real: two Ray nodes with a token, an MLflow server, jobs by command and by SDK."""

from __future__ import annotations

import contextlib
import json
import os
import re
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

import numpy as np
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
AGAIN = """
import json, sys
from service import Client
client = Client(sys.argv[1].removeprefix("http://"))
job = client.job("smoke")
rows, known = json.loads(job.results().to_json(orient="records")), job.progress()
print(json.dumps({"jobs": [one.id for one in client.jobs()], "rows": rows, "headline": str(job.verdict()),
    "progress": [known.done, known.running, known.failed, known.total]}))
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


SMALL = (
    " -o seeds=2 -o train.kimg=2.56 -o optimizer.lr_schedule.warmup_kimg=0.64 -o evaluation.draws=1"
    " -o evaluation.features='{kind: pixels}' -o evaluation.full.images=64 -o evaluation.rung.images=64"
    " -o launcher=inproc"
)


def of_the_readme(ray: Ray, mlflow: MlflowServer, home: Path) -> dict[str, str]:
    """README's commands for a cluster by their first words, with this test's servers and folder for its own."""
    fenced = (ROOT / "README.md").read_text().split("```")[1::2]
    (block,) = (text for text in fenced if "ray start --head" in text)
    lines = re.sub(r"\\\n\s*", "", block).splitlines()
    commands = [re.sub(r"\s+#.*", "", line) for line in lines if line and not line.startswith("#")]
    places = {"http://127.0.0.1:8265": ray.address, "http://127.0.0.1:5000": mlflow.uri}
    for written, here in {**places, "/shared/diffsweep": str(home)}.items():
        assert any(written in command for command in commands), written
        commands = [command.replace(written, here) for command in commands]
    kinds = ("ray start", "mlflow server", "export", "diffsweep submit", "ray job submit")
    assert len(commands) == len(kinds), commands
    return dict(zip(kinds, commands, strict=True))


def shell(ray: Ray, command: str) -> subprocess.Popen[str]:
    """A command in a shell whose cluster is this one, in a fresh clone with its environment activated."""
    away = {"RAY_API_SERVER_ADDRESS": ray.address, "DIFFSWEEP_HOME": "", "MLFLOW_TRACKING_URI": ""}
    return subprocess.Popen(
        ["bash", "-euc", command], cwd=ROOT, env={**ray.environment, **away}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def said(ray: Ray, command: str) -> tuple[int, str]:
    done = shell(ray, command)
    text, _ = done.communicate(timeout=300)
    return done.returncode, text


def test_the_readmes_commands_land_where_it_says_and_an_experiment_is_one_job(
    ray: Ray, mlflow: MlflowServer, tmp_path: Path
) -> None:
    """Word for word, at reduced size: by Ray alone, by ours while that runs, and again when it has ended."""
    home = tmp_path / "home"
    readme = of_the_readme(ray, mlflow, home)
    by_ray = shell(ray, f"{readme['export']}; {readme['ray job submit']}{SMALL}")

    def running() -> dict[str, Any] | None:
        code, text = said(ray, "diffsweep status --json quickstart")
        told: dict[str, Any] | None = json.loads(text) if code == 0 else [None]
        return told[0] if told[0] and told[0]["status"] == "RUNNING" else None

    job = wait_for(running, "the job of Ray alone")
    assert job["id"].startswith("raysubmit_")
    assert job["experiment"] == "quickstart", "known by its command, it has no name of ours"
    ours = f"{readme['export']}; {readme['diffsweep submit']}"
    for again in (
        f"{ours}{SMALL}",
        f"{ours} -o seeds=1",
        f"cd experiments; {ours.replace('experiments/', '')}",
    ):
        code, text = said(ray, again)
        assert code == 3, text
        assert f"quickstart is running already, as {job['id']}" in text
        assert "diffsweep stop raysubmit_" in text
    text, _ = by_ray.communicate(timeout=300)
    assert by_ray.returncode == 0, text[-4000:]

    rows = read_sweep(Settings(home=home, tracking_uri=mlflow.uri), "quickstart")
    assert len(rows.trials) == 6
    assert {trial["status"] for trial in rows.trials} == {"finished"}
    assert len(list((home / "trials").glob("*/result.json"))) == 6
    assert (home / "experiments" / "quickstart" / "report.html").is_file()
    assert "quickstart: 6 of 6 trials done" in text

    code, text = said(ray, f"{ours}{SMALL} --follow")
    assert code == 0, text[-4000:]
    assert "0 trials trained" in text
    assert "6 were finished already" in text
    code, table = said(ray, "diffsweep status")
    assert code == 0
    (newest, first) = (line for line in table.splitlines() if "quickstart" in line)
    assert newest.startswith("quickstart-1 ")
    for line in (newest, first):
        assert "SUCCEEDED" in line
        assert "6 of 6 done" in line


def test_a_failed_job_is_told_in_a_line_and_its_address_wins(ray: Ray, tmp_path: Path) -> None:
    """The experiment is valid here and not there: its data lie on this machine. The variable names no cluster."""
    away = f"export RAY_API_SERVER_ADDRESS=http://127.0.0.1:{free_port()}; "
    here = ray.address.removeprefix("http://")
    np.savez(tmp_path / "few.npz", arr_0=np.zeros((64, 4, 4, 1), np.uint8))
    (tmp_path / "gone.yaml").write_text(
        "name: gone\nbase: {data: {kind: npz, path: few.npz}, model: {kind: mlp}, train: {kimg: 1},"
        " evaluation: {evaluations: 1, features: {kind: pixels}, full: {images: 32, steps: 2}}}\nseeds: 1\n"
    )
    submit = f"{away}cd {tmp_path}; diffsweep submit gone.yaml --address {here} --follow"
    code, text = said(ray, submit)
    assert code == 1, text
    assert f"gone-1 is PENDING on {ray.address}" in text
    assert f"diffsweep stop gone-1 --address {ray.address}" in text, "the address is really used"
    code, table = said(ray, f"{away}diffsweep status --address {here}")
    assert code == 0, table
    why = [line for line in table.splitlines() if line.startswith("gone-1: ")]
    assert why == [
        "gone-1: exit code 2: the experiment is not valid there; "
        f"diffsweep logs gone-1 --address {ray.address}"
    ]
    assert "few.npz" not in table, "its log is not in the table"
    code, text = said(ray, f"{away}diffsweep logs gone --address {here}")
    assert code == 0
    assert "few.npz" in text
    code, text = said(ray, f"{away}diffsweep status")
    assert (code, "no Ray cluster answers at" in text) == (3, True)


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
    taken_up = subprocess.run(
        [sys.executable, "-c", AGAIN, ray.address], cwd=tmp_path, capture_output=True, text=True,
        env={**ray.environment, "PYTHONPATH": str(ROOT)}, timeout=120,
    )  # fmt: skip
    assert taken_up.returncode == 0, taken_up.stderr[-3000:]
    told = json.loads(taken_up.stdout.splitlines()[-1])
    assert first["id"] in told["jobs"]
    assert told["rows"] == first["rows"], "without YAML and home of its own, by what Ray keeps"
    assert told["headline"].startswith("INCONCLUSIVE with 2 paired seeds")
    assert told["progress"] == [4, 0, 0, 4]
    again = by_sdk(ray, ROOT / "experiments" / "smoke.yaml", tmp_path / "home")
    assert again["id"] == f"{first['id'][:-1]}2"
    assert again["rows"] == first["rows"]


@pytest.mark.fault
def test_a_job_that_is_stopped_ends_with_its_bookkeeping_done(
    ray: Ray, mlflow: MlflowServer, toy: dict[str, Any], tmp_path: Path
) -> None:
    """Its runs are not left as running, and what its log says that they reported has reached the server."""
    long = {"train.kimg": 1920.0, "evaluation.evaluations": 240}
    yaml = write(sweep(toy, name="endless", seeds=1, set=long, launcher="inproc"), tmp_path)
    home = tmp_path / "home"
    code, text = said(ray, f"export DIFFSWEEP_HOME={home}; diffsweep submit {yaml}")
    assert code == 0, text

    def told() -> str:
        return said(ray, "diffsweep logs endless")[1]

    wait_for(lambda: "of 1920 kimg" in told(), "its first reports")
    code, text = said(ray, "diffsweep stop endless")
    assert code == 0, text

    def status() -> str:
        return str(json.loads(said(ray, "diffsweep status endless --json")[1])[0]["status"])

    wait_for(lambda: status() == "STOPPED", "the job to end", 90)
    log = told()
    assert "then interrupted: nothing is lost" in log
    assert "Traceback" not in log
    assert "***" not in log
    rows = read_sweep(Settings(home=home, tracking_uri=mlflow.uri), "endless")
    assert {trial["status"] for trial in rows.trials} == {"stopped"}
    points = {(r["trial_key"], r["images"]) for r in rows.curves if r["metric"] == "rung/fid"}
    assert len(points) >= log.count(" of 1920 kimg ") > 0


def test_a_trial_spans_two_nodes(ray: Ray, toy: dict[str, Any], tmp_path: Path) -> None:
    """Each node has one CPU, the trial needs two workers of one: the gang lies across both."""
    pair = sweep(
        toy, name="pair", seeds=1, arms={"uniform": {}}, resources={"workers": 2, "cpus": 1}
    )
    told = by_sdk(ray, write(pair, tmp_path), tmp_path / "home")
    (row,) = told["rows"]
    assert row["status"] == "finished"
    assert row["eval/fid"] > 0


def test_a_plan_is_timed_on_a_worker_of_the_cluster_and_is_no_experiments_job(
    ray: Ray, tmp_path: Path
) -> None:
    """Two nodes of one CPU hold two trials at once; what no node has is refused, and nobody answers elsewhere."""
    environment = {
        **ray.environment,
        "DIFFSWEEP_HOME": str(tmp_path),
        "DIFFSWEEP_PRICE": "1 EUR",
        "RAY_API_SERVER_ADDRESS": ray.address,
    }

    def planned(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "service", "plan", "experiments/smoke.yaml", *words]
        return subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200
        )

    there = ["--address", ray.address.removeprefix("http://")]
    told = planned(*there, "--json", "--budget", "1cpuh", "-o", "launcher=inproc")
    assert told.returncode == 0, told.stderr
    plan = json.loads(told.stdout)
    assert plan["at_once"] == 2
    assert plan["basis"].startswith("calibrated on the cluster (CPU of ")
    assert plan["money"]["amount"] == pytest.approx(plan["cpu_hours"])
    assert plan["proposals"]["rows"][0]["seeds"] > 6
    (kept,) = tmp_path.glob("cache/calibration-*-cluster.json")
    assert json.loads(kept.read_text())["device"] == "cpu"
    refused = planned(*there, "-o", "resources.gpus=1")
    assert refused.returncode == 3
    assert "a trial needs 1 x 1 = 1 GPUs, the Ray cluster has 0" in refused.stderr
    nobody = planned("--address", f"127.0.0.1:{free_port()}")
    assert nobody.returncode == 3
    assert "no Ray cluster answers at" in nobody.stderr
    listed = subprocess.run(
        [sys.executable, "-m", "service", "status", "--json", "--all"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert listed.returncode == 0, listed.stderr
    assert not [job for job in json.loads(listed.stdout) if job["id"].startswith("plan-")]
