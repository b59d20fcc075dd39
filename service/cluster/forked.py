"""Where do the workers of a run's own Ray come from? From a process that has imported what they need, by fork.

A trial's actor and its Ray Train worker each take four CPU-seconds to import Ray and torch. This process does so once,
while Ray starts, and is then asked for a copy of itself (`ask_fork`), which becomes a Ray worker like any other. It
never starts a thread and computes nothing, so its copies are as good as new ones. It is Ray's runtime environment
agent, too, for environments that consist of variables, as all of ours do.
"""

from __future__ import annotations

import contextlib
import gc
import hmac
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

MODULES = (
    "ray._private.node",
    "ray._private.services",
    "ray._private.runtime_env.setup_hook",
    "ray.core.generated.runtime_env_agent_pb2",
    "ray.tune",
    "ray.tune.trainable.function_trainable",
    "ray.train",
    "ray.train.torch",
    "ray.train.v2._internal.execution.controller",
    "ray.train.v2._internal.execution.worker_group",
    "service.cluster.trainables",
    "service.cluster.gang",
    "trainer.loop",
    "trainer.trial",
    "torch.distributed",
)
"""What an actor of Tune and a worker of Ray Train import before a first training step."""
LATER = ("sympy", "torch._dynamo", "PIL.PngImagePlugin", "numpy.fft")
"""What a training imports that an actor of Tune can do without: torch's optimizers bring the first two."""
FIXED = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_WAIT_POLICY"),
    "RAY_JOB_ID",
)
"""Variables that libraries read while they are loaded: who needs others is no copy of this process."""
_PATIENCE_S = 5.0
"""For a caller to say all it has to say."""


class Asked:
    """One worker that the raylet wants."""

    def __init__(self, told: dict[str, Any], files: list[int]) -> None:
        self.folder, self.files = told["folder"], files
        known = [a for a in told["arguments"] if not a.startswith(("--serialized-", "--language="))]
        context = next((a for a in told["arguments"] if a.startswith("--serialized-")), "={}")
        self.script, self.arguments = known[0], known[1:]
        given = json.loads(context.partition("=")[2] or "{}").get("env_vars") or {}
        self.environment = {**told["environment"], **given}

    @property
    def is_alike(self) -> bool:
        """Whether what this process has loaded is what the worker would have loaded."""
        return all(self.environment.get(name) == os.environ.get(name) for name in FIXED)

    def become(self) -> None:
        """In the copy: be that process."""
        os.setpgid(0, 0)  # the raylet ends the group of a worker that left
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number, file in enumerate(self.files):
            os.dup2(file, number)
            os.close(file)
        os.chdir(self.folder)
        os.environ.clear()
        os.environ.update(self.environment)
        with contextlib.suppress(OSError):  # as the raylet does for a worker that it starts
            Path("/proc/self/oom_score_adj").write_text("1000")
        import numpy
        from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

        numpy.random.seed()  # Python's own generator does so by itself
        Config.initialize("")
        AuthenticationTokenLoader.instance().reset_cache()
        sys.argv = [self.script, *self.arguments]
        sys.path.insert(0, str(Path(self.script).parent))
        gc.unfreeze()
        runpy.run_path(self.script, run_name="__main__")


def _serve(life: socket.socket) -> Asked | None:
    """Fork and answer until the driver is gone (None), or this is a copy: what it is to become."""
    data, handed, *_ = socket.recv_fds(life, 4096, 2)
    if len(handed) != 2:
        return None
    token = data.decode()
    calls, agent = (socket.socket(fileno=file) for file in handed)
    later = list(LATER)
    while True:
        ready, _, _ = select.select([life, calls, agent], [], [], 0.0 if later else None)
        if life in ready:
            return None
        if not ready:
            _load([later.pop(0)])
        with contextlib.suppress(OSError, ValueError):
            if agent in ready:
                with agent.accept()[0] as call:
                    call.settimeout(_PATIENCE_S)
                    _answer(call, token)
            if calls in ready:
                with calls.accept()[0] as call:
                    call.settimeout(_PATIENCE_S)
                    asked = _asked(call)
                    if asked is not None and os.fork() == 0:
                        for mine in (life, calls, agent):
                            mine.close()
                        return asked
                    call.sendall(b"+" if asked is not None else b"-")
                    for file in [] if asked is None else asked.files:
                        os.close(file)


class _Drawn:
    """Stands for Ray's id of an actor's class, of which each class that is defined draws one."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kind, name)

    def from_random(self) -> Any:
        """One that is as random, by the kernel."""
        return self._kind(os.urandom(self._kind.size()))


def _load(modules: Iterable[str]) -> None:
    """Import without a draw from Ray's generator of ids: all copies would go on where it stood, with the same ids."""
    import ray.actor as actors

    stock = actors.ActorClassID
    actors.ActorClassID = _Drawn(stock)
    try:
        for name in modules:
            importlib.import_module(name)
    finally:
        actors.ActorClassID = stock
    gc.freeze()  # so that the collector of a copy leaves these pages alone


def _asked(call: socket.socket) -> Asked | None:
    size, files, *_ = socket.recv_fds(call, 8, 3)
    asked = Asked(json.loads(_read(call, int.from_bytes(size, "big"))), list(files))
    if asked.is_alike and len(files) == 3:
        return asked
    for file in files:
        os.close(file)
    return None


def _read(call: socket.socket, size: int) -> bytes:
    body = b""
    while len(body) < size and (more := call.recv(size - len(body))):
        body += more
    return body


def _answer(call: socket.socket, token: str) -> None:
    """What Ray's own agent answers over HTTP."""
    head = b""
    while b"\r\n\r\n" not in head and (more := call.recv(65536)):
        head += more
    lines, _, body = head.partition(b"\r\n\r\n")
    first, *rest = lines.decode("latin-1").split("\r\n")
    said = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in rest)}
    body += _read(call, int(said.get("content-length", "0")) - len(body))
    if not hmac.compare_digest(said.get("authorization", ""), f"Bearer {token}"):
        status, told = "401 Unauthorized", b""
    else:
        status, told = "200 OK", _environment(first.split(" ")[1], body)
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(told)}\r\nConnection: close\r\n\r\n".encode()
    call.sendall(head + told)


def _environment(path: str, body: bytes) -> bytes:
    from ray.core.generated import runtime_env_agent_pb2 as messages

    reply: Any
    if path == "/get_or_create_runtime_env":
        asked = messages.GetOrCreateRuntimeEnvRequest.FromString(body)
        wanted = json.loads(asked.serialized_runtime_env or "{}")
        reply = messages.GetOrCreateRuntimeEnvReply(status=messages.AGENT_RPC_STATUS_OK)
        context = {"env_vars": wanted.pop("env_vars", {}), "py_executable": sys.executable}
        reply.serialized_runtime_env_context = json.dumps(context)
        if wanted:
            reply.status = messages.AGENT_RPC_STATUS_FAILED
            reply.error_message = f"only variables are known here, not {', '.join(wanted)}"
    else:
        reply = messages.DeleteRuntimeEnvIfPossibleReply(status=messages.AGENT_RPC_STATUS_OK)
    return bytes(reply.SerializeToString())


def main(directory: Path) -> Asked | None:
    """The life of the fork server; standard input is its line to the driver."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for copies
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # slurm sends it to all; it is the driver's
    _load(MODULES)
    with socket.socket(fileno=os.dup(0)) as life:
        asked = _serve(life)
    if asked is None:
        with contextlib.suppress(OSError):  # what is not empty is the janitor's
            directory.rmdir()
    return asked


if __name__ == "__main__":
    if (worker := main(Path(sys.argv[1]))) is not None:
        worker.become()
