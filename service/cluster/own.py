"""How is a Ray of this run alone started on this machine, and what keeps others out of it?

It lives in a private directory and ends with the driver, however that ends (see `service.cluster.janitor`).
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

from service.cluster import bare, forkserver
from service.cluster.janitor import MARK, Janitor
from service.cluster.joining import disconnect, environment, init
from service.cluster.parts import watched
from service.cluster.variables import worker_environment
from service.resources import Resources
from trainer.machine import own_cpus

OBJECT_STORE_BYTES = 150 * 2**20
"""Only reports pass through it."""


@contextlib.contextmanager
def private(shapes: Sequence[Resources]) -> Iterator[Path]:
    """A Ray for the length of the block, heard on loopback alone; gives the folder of its logs."""
    from ray._private import worker

    given = worker_environment(shapes)
    forks = bare.supported() and forkserver.is_safe()
    server = forkserver.take(given) if forks else None
    directory = server.directory if server is not None else forkserver.private_folder()
    inner = (
        directory / "r"
    )  # Ray opens it to everybody; the folder around it lets only its owner in
    (directory / "session_latest").symlink_to(
        inner / "session_latest"
    )  # where people look for logs
    janitor = Janitor(directory)
    parts = bare.bare(server) if bare.supported() else contextlib.nullcontext()
    with _own_token() as token, _loopback():
        try:
            if server is not None:
                server.open(token)
            with environment({MARK: str(directory)}), parts:
                init(
                    address="local",
                    num_cpus=own_cpus(),
                    include_dashboard=False,
                    object_store_memory=OBJECT_STORE_BYTES,
                    runtime_env={"env_vars": {**given, "PYTHONPATH": forkserver.python_path()}},
                    _temp_dir=str(inner),
                )
            with watched(worker._global_node):
                yield inner / "session_latest" / "logs"
        finally:
            disconnect()
            if server is not None:
                server.end()
            janitor.dismiss()


@contextlib.contextmanager
def _own_token() -> Iterator[str]:
    """A token for this cluster alone: Ray would write one into the user's home, and keep it cached."""
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

    loader = AuthenticationTokenLoader.instance()
    own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    try:
        with environment(own):
            Config.initialize("")  # Ray reads both once per process
            loader.reset_cache()
            yield own["RAY_AUTH_TOKEN"]
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
