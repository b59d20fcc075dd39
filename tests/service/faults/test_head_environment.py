"""A head that was started from an environment off the PATH runs jobs with that environment, for who has its token."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.cluster.janitor import clean
from service.head import head_python
from tests.service.sweeps import ROOT, free_port, sweep, wait_for, write
from tests.service.test_cluster import BIN, start_node, status_code

pytestmark = [pytest.mark.fault, pytest.mark.timeout(420)]


@pytest.fixture(scope="module")
def head() -> Iterator[dict[str, str]]:
    """Variables of a shell that may talk to it; its address is RAY_API_SERVER_ADDRESS."""
    with running_head() as (shell, _):
        yield shell


@contextlib.contextmanager
def running_head() -> Iterator[tuple[dict[str, str], subprocess.Popen[bytes]]]:
    """The same, and the process of the head."""
    scratch = Path(tempfile.mkdtemp(prefix="ds-test-", dir="/tmp"))  # sockets need a short path
    token = scratch / "token"
    token.write_text(secrets.token_hex(32))
    path = [p for p in os.environ["PATH"].split(os.pathsep) if Path(p) != BIN]
    common = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    common = {**common, "RAY_USAGE_STATS_ENABLED": "0", "PATH": os.pathsep.join(path)}
    for name in ("RAY_ADDRESS", "VIRTUAL_ENV", "PYTHONPATH", "MLFLOW_TRACKING_URI"):
        common.pop(name, None)
    port, dashboard = free_port(), free_port()
    words = ["--head", "--node-ip-address=127.0.0.1", f"--port={port}", f"--temp-dir={scratch}/ray"]
    words += ["--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"]
    node = start_node([*words, f"--ray-client-server-port={free_port()}"], common, scratch / "log")
    address = f"http://127.0.0.1:{dashboard}"
    try:
        wait_for(lambda: status_code(address) in (200, 401), "the head node", 120)
        yield {**common, "RAY_API_SERVER_ADDRESS": address, "GCS": f"127.0.0.1:{port}"}, node
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(node.pid, signal.SIGKILL)
        node.wait(10)
        clean(scratch, os.getpid())


def command(shell: dict[str, str], *words: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "service", *words], cwd=ROOT, env=shell, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300,
    )  # fmt: skip
    return done.returncode, done.stdout


@pytest.mark.ray
@pytest.mark.slow
def test_a_job_runs_with_the_interpreter_of_the_head(
    head: dict[str, str], toy: dict[str, Any], tmp_path: Path
) -> None:
    yaml = write(sweep(toy, seeds=1, arms={"uniform": {}}, launcher="inproc"), tmp_path)
    shell = {**head, "DIFFSWEEP_HOME": str(tmp_path / "home")}
    code, said = command(shell, "submit", str(yaml), "--follow")
    assert code == 0, said
    (job,) = json.loads(command(shell, "status", "toy", "--json")[1])
    assert job["status"] == "SUCCEEDED"
    assert len(list((tmp_path / "home" / "trials").glob("*/result.json"))) == 1


@pytest.mark.ray
@pytest.mark.slow
def test_a_wrong_token_is_refused_at_every_door(
    head: dict[str, str], toy: dict[str, Any], tmp_path: Path
) -> None:
    yaml = write(sweep(toy, seeds=1, arms={"uniform": {}}, launcher="inproc"), tmp_path)
    wrong = {**head, "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    wrong.pop("RAY_AUTH_TOKEN_PATH")
    code, said = command(wrong, "submit", str(yaml))
    assert code == 3, said
    assert "refuses this user's token" in said
    own = {**wrong, "RAY_ADDRESS": head["GCS"], "DIFFSWEEP_HOME": str(tmp_path / "home")}
    code, said = command(own, "run", str(yaml))
    assert code == 3, said
    assert "Traceback" not in said
    assert not list(tmp_path.glob("home/trials/*/result.json"))


@pytest.mark.parametrize(
    ("nodes", "python"),
    [
        ([], None),
        ([{"raylet": None, "cmdline": ["raylet"]}], None),
        ([{"raylet": {"isHeadNode": True}, "cmdline": []}], None),
        ([{"raylet": {"isHeadNode": True}, "cmdline": ["raylet", "--head"]}], "python"),
        (
            [
                {"raylet": {"isHeadNode": False}, "cmdline": ["--python_worker_command=/w/python x"]},
                {"raylet": {"isHeadNode": True}, "cmdline": ["r", "--python_worker_command=/h/python -u x"]},
            ],
            "/h/python",
        ),
    ],
)  # fmt: skip
def test_the_heads_interpreter_is_read_from_what_its_dashboard_tells(
    nodes: list[dict[str, Any]], python: str | None
) -> None:
    assert head_python(nodes) == python
