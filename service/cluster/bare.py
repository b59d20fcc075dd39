"""Which parts of Ray does a run of its own need? GCS, raylet, workers. Which others does `ray.init` start?

Dashboard, its agent, the autoscaler's and the logs' monitor: five seconds of two processors before the first trial
trains, for what nobody looks at. The seams are Ray's internals, so `supported()` looks for them, and where they are
gone Ray starts as it does for everybody.
"""

from __future__ import annotations

import contextlib
import inspect
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from service.cluster.forkserver import ForkServer

TESTED = ("2.60.",)
"""Ray versions in which these seams, and those of `gang`, were tested."""
_ABSENT = (
    "METRICS_AGENT_PORT_NAME",
    "METRICS_EXPORT_PORT_NAME",
    "DASHBOARD_AGENT_LISTEN_PORT_NAME",
)
"""Ports that the raylet waits for; -1 says that nobody offers this."""
_AGENT = "RUNTIME_ENV_AGENT_PORT_NAME"
_WAITS = "import os, time\np = os.getppid()\nwhile os.getppid() == p: time.sleep(5)"
_IDLE = [sys.executable, "-S", "-E", "-c", _WAITS]
"""Stands in for an agent: the raylet ends when one of its agents does, and it when the raylet has ended."""


@cache
def supported() -> bool:
    """Whether this Ray has the seams."""
    import ray

    _raylet: Any = ray._raylet
    if not ray.__version__.startswith(TESTED) or sys.platform != "linux":
        return False
    try:
        from ray._private import services, utils
        from ray._private.node import Node
    except ImportError:
        return False
    return (
        hasattr(_raylet, "persist_port")
        and all(hasattr(_raylet, name) for name in (*_ABSENT, _AGENT))
        and all(hasattr(Node, name) for name in ("start_api_server", "start_raylet"))
        and "process_type" in inspect.signature(services.start_ray_process).parameters
        and hasattr(utils, "get_dashboard_dependency_error")
    )


@contextlib.contextmanager
def bare(server: ForkServer | None) -> Iterator[None]:
    """`ray.init` within the block starts only what is needed; workers are forked from the server, if there is one."""
    from ray._private import node

    stock = node.Node
    node.Node = _node_class(stock, server)
    try:
        yield
    finally:
        node.Node = stock


def _node_class(stock: type[Any], server: ForkServer | None) -> type[Any]:
    import ray

    class BareNode(stock):  # type: ignore[misc]
        def __init__(self, ray_params: Any, **options: Any) -> None:
            ray_params.no_monitor, ray_params.include_log_monitor = True, False
            super().__init__(ray_params, **options)

        def start_api_server(self, **_: Any) -> None:
            """None."""
            self._webui_url = ""

        def start_raylet(self, *given: Any, **named: Any) -> None:
            """With agents that offer nothing, and workers of the server."""
            with _no_dashboard(), _commands(self._changed):
                self._persist_ports()
                super().start_raylet(*given, **named)

        def _persist_ports(self) -> None:
            raylet: Any = ray._raylet
            ports = dict.fromkeys(_ABSENT, -1)
            if server is not None:
                ports[_AGENT] = server.port
            for name, port in ports.items():
                raylet.persist_port(self._session_dir, self._node_id, getattr(raylet, name), port)

        def _changed(self, command: list[str]) -> list[str]:
            idle = subprocess.list2cmdline(_IDLE)
            changed = {"--dashboard_agent_command": lambda _: idle}
            if server is not None:
                changed["--runtime_env_agent_command"] = lambda _: idle
                changed["--python_worker_command"] = server.worker_command
            return [_change(argument, changed) for argument in command]

    return BareNode


def _change(argument: str, changed: dict[str, Callable[[str], str]]) -> str:
    name, equals, value = argument.partition("=")
    return f"{name}={changed[name](value)}" if equals and name in changed else argument


@contextlib.contextmanager
def _commands(changed: Callable[[list[str]], list[str]]) -> Iterator[None]:
    """Ray's processes are started with other arguments."""
    from ray._private import services

    stock = services.start_ray_process
    services.start_ray_process = lambda command, *given, **named: stock(
        changed(command), *given, **named
    )
    try:
        yield
    finally:
        services.start_ray_process = stock


@contextlib.contextmanager
def _no_dashboard() -> Iterator[None]:
    """Ray imports what a dashboard needs, a third of a second, to know whether it is there."""
    from ray._private import utils

    stock = utils.get_dashboard_dependency_error
    utils.get_dashboard_dependency_error = lambda: ImportError("no dashboard is wanted")
    try:
        yield
    finally:
        utils.get_dashboard_dependency_error = stock
