"""Is this machine fit to run experiments? One check per thing that can be missing, each with its cure."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from service.errors import ServiceError
from service.settings import Settings
from trainer.machine import own_cpus

_ENOUGH_DISK = 2 * 10**9
_NEEDED = (
    *("torch", "ray", "mlflow", "torchvision", "pandas", "plotly", "scikit-learn"),
    *("diffusers", "safetensors"),
)
"""What the product imports."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    ok: bool
    detail: str
    fix: str = ""


def examine(settings: Settings) -> list[Check]:
    """All checks, the cheap ones first. None changes anything but an empty file in `home`."""
    return [
        _python(),
        *(_package(name) for name in _NEEDED),
        _device(),
        _writable(settings),
        *_store(settings),
        _disk(settings.home),
        _tracking(settings),
        _cluster(settings),
    ]


def _python() -> Check:
    ok = sys.version_info >= (3, 11)
    return Check("python", ok, platform.python_version(), "use Python 3.11 or newer")


def _package(name: str) -> Check:
    try:
        return Check(name, True, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Check(name, False, "is not installed", "pip install -e .")


def _device() -> Check:
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return Check("device", True, ", ".join(gpus) or f"no GPU; {own_cpus()} CPU cores")


def _writable(settings: Settings) -> Check:
    try:
        settings.prepare()
    except ServiceError as error:
        return Check("home", False, error.message, error.fix)
    return Check("home", True, str(settings.home))


def _store(settings: Settings) -> list[Check]:
    """Where the home lies in one."""
    from service.remote.home import remote_home

    if (home := remote_home(settings)) is None:
        return []
    try:
        home.store.check()
    except ServiceError as error:
        return [Check("store", False, error.message, error.fix)]
    return [Check("store", True, home.store.uri)]


def _disk(home: Path) -> Check:
    place = next(path for path in (home, *home.parents) if path.exists())
    free = shutil.disk_usage(place).free
    space = f"{free / 1e9:.1f} GB free at {place}"
    return Check(
        "disk", free > _ENOUGH_DISK, space, "free some, or set DIFFSWEEP_HOME to another disk"
    )


def _tracking(settings: Settings) -> Check:
    from service.tracking.server import check_reachable, without_password

    try:
        check_reachable(settings)
    except ServiceError as error:
        return Check("mlflow store", False, error.message, error.fix)
    return Check("mlflow store", True, without_password(settings.store_uri))


def _cluster(settings: Settings) -> Check:
    if not settings.ray_address:
        return Check("cluster", True, "none set: Ray starts on this machine when it is needed")
    from service.address import address_of
    from service.submit import Jobs

    address = address_of(settings)
    try:
        jobs = Jobs(address).list()
    except ServiceError as error:
        return Check("cluster", False, error.message, error.fix)
    return Check("cluster", True, f"{address}, {len(jobs)} diffsweep jobs")
