"""How is a Ray of this run alone started on this machine, and what keeps others out of it?

It lives in a private directory and ends with the driver, however that ends (see `service.cluster.janitor`).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from service.cluster.janitor import MARK, Janitor
from service.cluster.joining import disconnect, environment, init, worker_environment
from service.resources import Resources
from service.staging import ROOT
from trainer.machine import own_cpus

_LONGEST = 20
"""Characters of the temporary folder: the path of a socket may have 107 in all."""
OBJECT_STORE_BYTES = 150 * 2**20
"""Only reports pass through it."""


@contextlib.contextmanager
def private(shapes: Sequence[Resources]) -> Iterator[Path]:
    """A Ray for the length of the block, heard on loopback alone; gives the folder of its logs."""
    scratch = tempfile.gettempdir()
    scratch = scratch if len(scratch) <= _LONGEST else "/tmp"
    directory = Path(tempfile.mkdtemp(prefix="diffsweep-", dir=scratch))
    inner = (
        directory / "r"
    )  # Ray opens it to everybody; the folder around it lets only its owner in
    (directory / "session_latest").symlink_to(
        inner / "session_latest"
    )  # where people look for logs
    janitor = Janitor(directory)
    with _own_token(), _loopback():
        try:
            with environment({MARK: str(directory)}):
                init(
                    address="local",
                    num_cpus=own_cpus(),
                    include_dashboard=False,
                    object_store_memory=OBJECT_STORE_BYTES,
                    runtime_env={
                        "env_vars": {**worker_environment(shapes), "PYTHONPATH": _python_path()}
                    },
                    _temp_dir=str(inner),
                )
            yield inner / "session_latest" / "logs"
        finally:
            disconnect()
            janitor.dismiss()


@contextlib.contextmanager
def _own_token() -> Iterator[None]:
    """A token for this cluster alone: Ray would write one into the user's home, and keep it cached."""
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

    loader = AuthenticationTokenLoader.instance()
    own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    try:
        with environment(own):
            Config.initialize("")  # Ray reads both once per process
            loader.reset_cache()
            yield
    finally:
        Config.initialize("")
        loader.reset_cache()


@contextlib.contextmanager
def _loopback() -> Iterator[None]:
    """All ports of this Ray, of its metrics too, are open to this machine alone, as Ray has it on laptops."""
    from ray._private import ray_constants

    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        with environment({ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR: "0"}):
            yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def _python_path() -> str:
    return os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
