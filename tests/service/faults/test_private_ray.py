"""The Ray of a run on this machine is its owner's alone, and ends without harm to whoever looks on."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from service.cluster.connect import connected
from service.cluster.janitor import MARK, residents
from service.cluster.parts import Parts
from service.errors import ServiceError
from service.resources import Resources
from service.settings import Settings
from tests.service.driver import Command, Driver, gone
from tests.service.sweeps import free_port, sweep, wait_for, write

pytestmark = pytest.mark.fault
LONG = {"train.kimg": 192.0, "evaluation.evaluations": 24}


def directory_of(run: Driver) -> Path:
    """Its private directory, by the mark that its processes inherit."""
    return next(
        Path(mark)
        for one in run.family()
        if one.name() == "raylet" and (mark := one.environ().get(MARK))
    )


def heard_from_outside(family: list[psutil.Process]) -> list[tuple[str, str]]:
    """Ports of these processes that other machines could reach."""
    found = []
    for one in family:
        with contextlib.suppress(psutil.Error):
            for link in one.net_connections("inet"):
                is_local = link.laddr.ip in ("127.0.0.1", "::1", "::ffff:127.0.0.1")
                if link.status == psutil.CONN_LISTEN and not is_local:
                    found.append((one.name(), f"{link.laddr.ip}:{link.laddr.port}"))
    return found


@contextlib.contextmanager
def following(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


@pytest.mark.ray
@pytest.mark.slow
def test_others_are_kept_out_and_those_who_follow_a_log_live_on(
    toy: dict[str, Any], tmp_path: Path, drivers: list[Driver]
) -> None:
    """The driver is killed, so that the janitor alone ends what is left."""
    yaml = write(sweep(toy, seeds=1, set=LONG, launcher="inproc"), tmp_path)
    run = Driver(tmp_path / "home", yaml)
    drivers.append(run)
    run.until(" 8 of 192 kimg")
    family, directory = run.family(), directory_of(run)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert directory.owner() == Path(f"/proc/{os.getpid()}").owner()
    assert heard_from_outside(family) == []
    log = directory / "session_latest" / "logs" / "gcs_server.out"
    assert log.exists()
    holds = "import sys, time; kept = open(sys.argv[1], 'a'); time.sleep(600)"
    with (
        following("tail", "-f", str(log)) as reader,
        following(sys.executable, "-c", holds, str(log)) as editor,
    ):
        wait_for(lambda: psutil.Process(reader.pid).open_files(), "the reader")
        wait_for(lambda: psutil.Process(editor.pid).open_files(), "the editor")
        run.process.kill()
        wait_for(lambda: gone(family), "every process of the killed driver to end", 30)
        wait_for(lambda: not directory.exists(), "its directory to go", 30)
        assert (reader.poll(), editor.poll()) == (None, None)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "killed"),
    [("inproc", "raylet"), ("train", "raylet"), ("inproc", "gcs_server"), ("train", "gcs_server")],
)
def test_where_a_part_of_its_ray_is_killed_the_run_ends_and_the_same_command_continues(
    launcher: str, killed: str, toy: dict[str, Any], tmp_path: Path
) -> None:
    """Trials of some train on meanwhile: they are longer than it takes to notice."""
    longer = LONG | {"train.kimg": 1536.0}
    yaml = write(sweep(toy, seeds=1, set=longer, launcher=launcher), tmp_path)
    home = tmp_path / "home"
    run = Command(home, yaml)
    family: list[psutil.Process] = []
    try:
        run.until(" 64 of 1536 kimg")
        family = run.family()
        (part,) = (one for one in family if one.is_running() and one.name() == killed)
        part.kill()
        code, said = run.ending()
    finally:
        run.process.kill()
        run.process.wait(10)
    assert code == 3, said
    assert "this run's own Ray has ended" in said
    assert killed in said
    assert "the same command continues" in said
    assert "Traceback" not in said
    assert list((home / "experiments" / "toy" / "ray-logs").glob("raylet*"))
    wait_for(lambda: gone(family), "every process to end", 20)
    again = Command(home, yaml)
    try:
        again.until("continues at")
    finally:
        again.process.kill()
        again.process.wait(10)


def test_a_foreign_process_that_was_started_with_the_path_is_no_resident(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("x")
    with following("tail", "-f", str(tmp_path / "log")):
        assert residents(tmp_path, os.getpid()) == []
    marked = {**os.environ, MARK: str(tmp_path)}
    with subprocess.Popen(["sleep", "60"], env=marked) as ours:
        wait_for(lambda: residents(tmp_path, os.getpid()) == [ours.pid], "our own to be known", 10)
        ours.kill()


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_cluster_that_is_gone_is_told_in_seconds(scheme: str, tmp_path: Path) -> None:
    settings = Settings(
        home=tmp_path, tracking_uri=None, ray_address=f"{scheme}127.0.0.1:{free_port()}"
    )
    began = time.monotonic()
    with (
        pytest.raises(ServiceError, match=r"cannot reach Ray at .*: Connection refused"),
        connected(settings, [Resources()]),
    ):
        raise AssertionError("nobody is there")
    assert time.monotonic() - began < 10


class _Ended:
    """A process that is over."""

    process = SimpleNamespace(poll=lambda: 1)


def test_a_control_store_that_cannot_be_replaced_yet_is_tried_again() -> None:
    """No memory for it the first time; what is known of the Ray stays."""
    tries = list[int]()

    def start() -> None:
        tries.append(1)
        if len(tries) < 2:
            raise OSError(12, "no memory")
        node.all_processes["gcs_server"] = [
            SimpleNamespace(process=SimpleNamespace(poll=lambda: None))
        ]

    node = SimpleNamespace(
        all_processes={"gcs_server": [_Ended()], "raylet": []}, gcs_address="127.0.0.1:6379",
        _gcs_address="", _gcs_client=None, _ray_params=SimpleNamespace(), start_gcs_server=start,
    )  # fmt: skip
    parts = Parts(node)
    assert [parts.look(), parts.look(), parts.look()] == ["gcs_server"] * 3
    assert len(tries) == 2
    assert node._ray_params.gcs_server_port == 6379
    assert node._gcs_address == "127.0.0.1:6379"


@pytest.mark.ray
@pytest.mark.slow
def test_a_port_that_another_ray_has_got_as_well_costs_one_more_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Ray ends where its control store's port leads to another one, with another token."""
    import ray

    stock, tries = ray.init, list[int]()

    def once(**given: Any) -> Any:
        tries.append(1)
        if len(tries) == 1:
            raise RuntimeError(
                "Failed to start GCS.  Last 0 lines of error files: InvalidAuthToken"
            )
        return stock(**given)

    monkeypatch.setattr(ray, "init", once)
    settings = Settings(home=tmp_path, tracking_uri=None, ray_address=None)
    with connected(settings, [Resources(cpus=1)]) as cluster:
        assert cluster.size()[0] >= 1
    assert len(tries) == 2
