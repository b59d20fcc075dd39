"""Workers of a run's own Ray are copies of one process: alike what Ray starts itself, and gone with their driver."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest

from service.cluster import ask_fork, forkserver
from service.cluster.forked import FIXED, Asked, _environment
from service.cluster.variables import QUIET, TRAIN_ENVIRONMENT, with_threads
from service.resources import Resources
from tests.service.sweeps import ROOT, wait_for
from tests.service.toy_experiment import TOY

HEAVY = {"torch", "ray", "ray.tune", "ray.train", "pandas", "scipy", "sklearn", "mlflow"}


def test_who_has_loaded_something_else_is_no_copy() -> None:
    same = {name: os.environ[name] for name in FIXED if name in os.environ}
    told: dict[str, Any] = {
        "arguments": ["worker.py", "--language=PYTHON", "--id=7"],
        "folder": "/",
    }
    asked = Asked({**told, "environment": {**same, "X": "1"}}, [])
    assert asked.is_alike
    assert (asked.script, asked.arguments) == ("worker.py", ["--id=7"])
    given = json.dumps({"env_vars": {"OMP_NUM_THREADS": "63"}})
    told["arguments"].append(f"--serialized-runtime-env-context={given}")
    assert not Asked({**told, "environment": same}, []).is_alike


@pytest.mark.ray
def test_an_environment_is_variables_and_nothing_else() -> None:
    from ray.core.generated import runtime_env_agent_pb2 as messages

    def answer(wanted: dict[str, Any]) -> Any:
        asked = messages.GetOrCreateRuntimeEnvRequest(serialized_runtime_env=json.dumps(wanted))
        told = _environment("/get_or_create_runtime_env", asked.SerializeToString())
        return messages.GetOrCreateRuntimeEnvReply.FromString(told)

    known = answer({"env_vars": {"A": "1"}})
    assert known.status == messages.AGENT_RPC_STATUS_OK
    assert json.loads(known.serialized_runtime_env_context)["env_vars"] == {"A": "1"}
    refused = answer({"env_vars": {}, "pip": ["x"]})
    assert refused.status == messages.AGENT_RPC_STATUS_FAILED
    assert "pip" in refused.error_message


def test_where_nobody_forks_the_worker_is_started_as_ray_starts_it(tmp_path: Path) -> None:
    setup = tmp_path / "setup.py"
    setup.write_text("import sys; print(*sys.argv[1:])")
    command = [sys.executable, "-S", "-E", ask_fork.__file__, str(tmp_path / "nobody"), str(setup)]
    done = subprocess.run([*command, "worker.py", "--id=7"], capture_output=True, text=True)
    assert done.stdout == "worker.py --id=7\n"


def test_one_that_nobody_took_is_gone_at_the_end() -> None:
    with forkserver.begun(True):
        assert forkserver._waiting is not None
        process, folder = forkserver._waiting._process, forkserver._waiting.directory
        assert psutil.pid_exists(process.pid)
    assert process.returncode is not None
    assert not folder.exists()


def test_another_one_takes_the_place_of_one_that_is_killed() -> None:
    server = forkserver.ForkServer(with_threads(1))
    try:
        server.open("secret")
        for _ in range(2):
            before = server._process
            before.kill()
            wait_for(lambda: server._process is not before, "another one")  # noqa: B023
            request = urllib.request.Request(f"http://127.0.0.1:{server.port}/", b"", method="POST")
            with pytest.raises(urllib.error.HTTPError, match="401"):  # it answers, and not anybody
                urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
                    request, timeout=60
                )
        last = server._process
    finally:
        server.end()
        shutil.rmtree(server.directory)
    assert last.returncode is not None
    assert server._process is last, "none comes after its end"


def test_where_none_can_take_its_place_nobody_waits_for_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError("no memory")

    server = forkserver.ForkServer(with_threads(1))
    monkeypatch.setattr(forkserver, "_OFTEN", 2)
    monkeypatch.setattr(forkserver.ForkServer, "_begin", fails)
    try:
        server.open("secret")
        server._process.kill()
        wait_for(lambda: not ask_fork.forked(str(server._place), []), "a refusal", 20)
    finally:
        server.end()
        shutil.rmtree(server.directory)


@pytest.mark.slow
def test_it_ends_with_a_driver_that_is_killed_before_it_starts_ray() -> None:
    program = (
        "from service.cluster import forkserver as f; s = f.ForkServer(f.with_threads(1));"
        "print(s._process.pid, s.directory, flush=True); input()"
    )
    driver = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )  # fmt: skip
    assert driver.stdout is not None
    pid, folder = driver.stdout.readline().split()
    server = psutil.Process(int(pid))
    driver.kill()
    driver.communicate()
    wait_for(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE, "its end")
    assert not Path(folder).exists()


PROGRAM = """
import json, os, random, sys, uuid
from pathlib import Path
from service.cluster.joining import environment
from service.cluster.own import private
from service.cluster.variables import QUIET, TRAIN_ENVIRONMENT
from service.resources import Resources

class Worker:
    def __init__(self):
        self.before = set(sys.modules)

    def who(self):
        import numpy as np
        pid = os.getpid()
        import ray
        drawn = [random.random(), np.random.random(), uuid.uuid4().hex, ray.NodeID.from_random().hex()]
        return {
            "parent": os.getppid(), "group": os.getpgid(0) == pid, "nice": os.nice(0), "drawn": drawn,
            "adj": Path("/proc/self/oom_score_adj").read_text().strip(), "folder": os.getcwd(),
            "threads": os.environ["OMP_NUM_THREADS"], "raylet": int(os.environ["RAY_RAYLET_PID"]),
        }

    def train(self, text, folder):
        from trainer.loop import train
        from trainer.trial import TrialSpec
        trial = TrialSpec.from_yaml(Path(text))
        reports = list(train(trial, Path(folder), cache=Path(folder, "cache"), device="cpu"))
        loaded = [name for name in sys.modules if name not in self.before]
        return {"metrics": reports[-1].metrics, "loaded": loaded}

cores = Resources(workers=1, cpus=1, gpus=0)
with environment({**TRAIN_ENVIRONMENT, **QUIET}), private([cores]) as logs:
    import ray
    import psutil
    kind = ray.remote(num_cpus=0)(Worker)
    one, other = kind.remote(), kind.remote()
    found = {"who": ray.get([one.who.remote(), other.who.remote()])}
    found["trained"] = ray.get(one.train.remote(sys.argv[1], sys.argv[2]))
    family = psutil.Process().children(recursive=True)
    found["family"] = [" ".join(p.cmdline())[:200] for p in family]
    found["pids"] = [p.pid for p in family]
print(json.dumps(found))
"""


@pytest.mark.ray
@pytest.mark.slow
def test_copies_are_workers_like_any_other_and_have_imported_what_they_need(tmp_path: Path) -> None:
    yaml = tmp_path / "toy.yaml"
    yaml.write_text(TOY)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(yaml), str(tmp_path / "trial")],
        cwd=ROOT, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.strip().splitlines()[-1])
    one, other = found["who"]
    assert one["parent"] == other["parent"]
    for told in (one, other):
        assert (told["group"], told["nice"], told["adj"]) == (True, 15, "1000")
        assert (told["threads"], told["folder"]) == ("1", str(ROOT))
    assert not set(one["drawn"]) & set(other["drawn"]), "copies draw numbers of their own"
    assert not HEAVY & set(found["trained"]["loaded"])
    assert found["trained"]["metrics"]["eval/fid"] > 0
    started = [" ".join(line.split("/")[-3:]) for line in found["family"]]
    for absent in ("dashboard.py", "agent.py", "main.py", "monitor.py", "log_monitor.py"):
        assert not any(absent in line for line in started), started
    deadline = time.monotonic() + 30
    while any(psutil.pid_exists(pid) for pid in found["pids"]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(psutil.pid_exists(pid) for pid in found["pids"]), "none is left"


def test_what_is_begun_is_what_a_run_of_one_thread_takes() -> None:
    one = Resources(workers=1, cpus=1, gpus=0)
    assert with_threads(1)["OMP_NUM_THREADS"] == str(one.threads)
    assert TRAIN_ENVIRONMENT.items() <= with_threads(1).items()
    assert not set(QUIET) & set(with_threads(1))
