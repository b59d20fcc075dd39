"""Which Ray runs the trials, is it large enough, and how is it left behind?

A Ray to which this process is connected already, as in a notebook: that one, which is left as it was. Inside a
Ray job, or with RAY_ADDRESS set, that cluster. Otherwise a private one on this machine, which ends with the driver
however the driver ends (see `service.cluster.janitor`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from service.cluster.joining import disconnect, environment, init, use_token
from service.cluster.own import private
from service.cluster.parts import lost_part
from service.cluster.variables import QUIET, TRAIN_ENVIRONMENT, worker_environment
from service.errors import ServiceError
from service.resources import Resources
from service.settings import Settings, inside_ray_job
from service.staging import ROOT, code
from trainer.machine import own_cpus

_ANSWERS_S = 5.0
"""How long to wait for somebody to take the call at a cluster's address."""


@dataclass(frozen=True)
class Cluster:
    """A Ray that is connected."""

    is_private: bool
    """Whether it is this run's own: then it neither grows nor serves others."""
    logs: Path | None
    """Ray's own logs, if they are on this machine and end with this run."""

    def size(self) -> tuple[float, float]:
        """CPUs and GPUs that there are now."""
        import ray

        total: Mapping[str, float] = ray.cluster_resources()
        return total.get("CPU", 0.0), total.get("GPU", 0.0)

    def free(self) -> tuple[float, float]:
        """CPUs and GPUs that nobody holds now."""
        import ray

        free: Mapping[str, float] = ray.available_resources()
        return free.get("CPU", 0.0), free.get("GPU", 0.0)

    def check(self) -> None:
        """ServiceError where it is this run's own and a part of it is gone: nothing would ever run again."""
        if self.is_private and (lost := lost_part()) is not None:
            raise ServiceError(
                f"this run's own Ray has ended: something killed its {lost}, or there was no memory for it",
                "nothing is lost: the same command continues; its logs are kept as `ray-logs` beside the report",
            )


@contextlib.contextmanager
def connected(settings: Settings, shapes: Sequence[Resources]) -> Iterator[Cluster]:
    """Connect, check that a trial of each shape fits, and disconnect at the end; raises `ServiceError`.

    Experiments that run in several threads of one process share the connection; the last one ends it.
    """
    logging.getLogger("ray.widgets.util").setLevel(
        logging.ERROR
    )  # a notebook need not have ipywidgets
    with contextlib.ExitStack() as stack:
        stack.enter_context(environment({**TRAIN_ENVIRONMENT, **QUIET}))
        with _SHARED.lock:
            cluster, place = _SHARED.take(settings, shapes)
            stack.callback(_SHARED.release)
        _check(place, shapes, *cluster.size())
        yield cluster


def fits(cluster: Cluster, shapes: Sequence[Resources]) -> None:
    """Check that a trial of each shape fits on what is connected; raises `ServiceError`."""
    place = "this machine" if cluster.is_private else "the Ray cluster"
    _check(place, shapes, *cluster.size())


@dataclass
class _Shared:
    """The connection of this process: whoever comes first makes it."""

    lock: threading.RLock = field(default_factory=threading.RLock)
    users: int = 0
    cluster: Cluster | None = None
    place: str = ""
    held: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def take(self, settings: Settings, shapes: Sequence[Resources]) -> tuple[Cluster, str]:
        """The cluster, and what messages call it; hold the lock."""
        if self.cluster is None:
            with contextlib.ExitStack() as held:
                self.cluster, self.place = _open(settings, shapes, held)
                self.held = held.pop_all()
        self.users += 1
        return self.cluster, self.place

    def release(self) -> None:
        """One user less."""
        with self.lock:
            self.users -= 1
            if self.users == 0:
                self.cluster = None
                self.held.close()


_SHARED = _Shared()


def check_alive() -> None:
    """As `Cluster.check`, of what this process is connected to."""
    if (cluster := _SHARED.cluster) is not None:
        cluster.check()


def _open(
    settings: Settings, shapes: Sequence[Resources], held: contextlib.ExitStack
) -> tuple[Cluster, str]:
    import ray

    if (
        ray.is_initialized()
    ):  # by whoever owns this process: it stays connected, with all its objects
        return Cluster(False, None), "the Ray of this process"
    address = settings.ray_address or ("auto" if inside_ray_job() else None)
    if address is None:
        _check("this machine", shapes, float(own_cpus()), None)
        return Cluster(True, held.enter_context(private(shapes))), "this machine"
    held.enter_context(_existing(address, shapes))
    return Cluster(False, None), "the Ray cluster"


@contextlib.contextmanager
def _existing(address: str, shapes: Sequence[Resources]) -> Iterator[None]:
    _call(address)
    use_token()
    runtime_env: dict[str, Any] = {"env_vars": _missing_from_job(worker_environment(shapes))}
    try:
        with contextlib.ExitStack() as sent:
            if not inside_ray_job() and (ROOT / "pyproject.toml").exists():
                runtime_env["working_dir"] = str(sent.enter_context(code()))
            init(address=address, runtime_env=runtime_env)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise _unreachable(address, str(error).strip().splitlines()[0][:200]) from None
    try:
        yield
    finally:
        disconnect()


def _call(address: str) -> None:
    """ServiceError where nobody listens: Ray itself would try for minutes without a word."""
    place = urlsplit(address if "://" in address else f"ray://{address}")
    try:
        host, port = place.hostname, place.port
    except ValueError:
        host, port = None, None
    if host is None or port is None:
        return  # `auto`, or what Ray finds out
    try:
        socket.create_connection((host, port), _ANSWERS_S).close()
    except OSError as error:
        raise _unreachable(address, f"{error.strerror or error}") from None


def _unreachable(address: str, why: str) -> ServiceError:
    return ServiceError(
        f"cannot reach Ray at {address}: {why}",
        "start it with `ray start --head`, or unset RAY_ADDRESS to run on this machine",
    )


def _check(place: str, shapes: Sequence[Resources], cpus: float, gpus: float | None) -> None:
    """Refuse what can never be placed on so much (None: not known)."""
    asked = [("CPU", one, one.cpus, cpus) for one in shapes]
    for name, need, each, there in [*asked, *(("GPU", one, one.gpus, gpus) for one in shapes)]:
        if there is not None and need.devices(name) > there + 1e-9:
            wanted = f"{need.workers} x {each:g} = {need.devices(name):g} {name}s"
            raise ServiceError(
                f"a trial needs {wanted}, {place} has {there:g}; nothing has been run",
                f"lower resources.{name.lower()}s or resources.workers, or add nodes",
            )


def _missing_from_job(env_vars: dict[str, str]) -> dict[str, str]:
    """Ray refuses a variable that the job has set already."""
    import json

    from service.settings import RAY_JOB_VARIABLE

    job: dict[str, Any] = json.loads(os.environ.get(RAY_JOB_VARIABLE) or "{}")
    known = (job.get("runtime_env") or {}).get("env_vars") or {}
    return {name: value for name, value in env_vars.items() if name not in known}
