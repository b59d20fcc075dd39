"""How does a driver come by its fork server (`forked`), early enough that it is ready when Ray is?

`run` begins it before anything else, on the second core; `own.private` takes it, or begins one itself.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from service.cluster.janitor import MARK
from service.cluster.variables import QUIET, with_threads
from service.staging import ROOT

_HERE = Path(__file__).parent
_LOADED = {"RAY_JOB_ID": "01000000"}
"""Ray reads two variables while it is loaded: the job, which is the first of a Ray that has one alone, and the process
without which a worker ends itself. That is the driver here: when the raylet ends before it, the janitor ends all."""
_OFTEN = 30
"""How often another one takes the place of one that was killed."""
_PAUSE_S = 0.2
_LONGEST = 20
"""Characters of the temporary folder: the path of a socket may have 107 in all."""


class ForkServer:
    """One process from which the workers of one Ray are forked, and the folder of that Ray.

    If something kills it, another one takes its place: a raylet without its agent ends itself.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.directory = private_folder()
        self.environment = {**environment, "PYTHONPATH": python_path()}
        self.port = 0
        self._place, self._is_over = self.directory / "fork", False
        self._lock, self._sockets = threading.Lock(), contextlib.ExitStack()
        self._begin()

    def _begin(self) -> None:
        self._life, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(_HERE / "forked.py"), str(self.directory)],
                env={
                    **os.environ,
                    **QUIET,
                    **self.environment,
                    **_LOADED,
                    MARK: str(self.directory),
                    "RAY_RAYLET_PID": str(os.getpid()),
                },
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the driver
            )

    def open(self, token: str) -> None:
        """From here on it may be asked; whoever asks its agent says the token."""
        calls = self._sockets.enter_context(socket.socket(socket.AF_UNIX))
        agent = self._sockets.enter_context(socket.socket())
        calls.bind(str(self._place))
        agent.bind(("127.0.0.1", 0))
        for each in (calls, agent):
            each.listen(64)
        self.port = agent.getsockname()[1]
        given = [token.encode()], [calls.fileno(), agent.fileno()]
        with contextlib.suppress(OSError):  # it was killed before: another one is told
            socket.send_fds(self._life, *given)
        threading.Thread(target=self._keep, args=given, name="diffsweep-forks", daemon=True).start()

    def _keep(self, told: list[bytes], files: list[int]) -> None:
        """While one is missing, who asks waits in the queue of the sockets; if there will be none, they are closed."""
        for _ in range(_OFTEN):
            self._process.wait()
            with self._lock:
                if self._is_over:
                    return
                # No memory; variables that another thread changes
                with contextlib.suppress(OSError, LookupError, RuntimeError):
                    self._life.close()
                    self._begin()
                    socket.send_fds(self._life, told, files)
            time.sleep(_PAUSE_S)
        self._process.wait()
        with self._lock:
            self._sockets.close()  # the raylet ends itself, and the run says so

    def worker_command(self, stock: str) -> str:
        """In place of Ray's `python setup_worker.py ...`."""
        python, setup, rest = stock.split(" ", 2)
        asks = [sys.executable, "-S", "-E", str(_HERE / "ask_fork.py"), str(self._place)]
        assert python == subprocess.list2cmdline([sys.executable])
        return f"{subprocess.list2cmdline(asks)} {setup} {rest}"

    def end(self) -> None:
        """The process; its copies are Ray's."""
        with self._lock:
            self._is_over = True
            self._sockets.close()
        self._process.kill()
        self._process.wait()
        self._life.close()


def private_folder() -> Path:
    """A new one that its owner alone may enter."""
    scratch = tempfile.gettempdir()
    scratch = scratch if len(scratch) <= _LONGEST else "/tmp"
    return Path(tempfile.mkdtemp(prefix="diffsweep-", dir=scratch))


def python_path() -> str:
    """Where workers find this code."""
    return os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))


def is_safe() -> bool:
    """Whether nothing that this process loads breaks in its copies: CUDA and its like do, so not where a GPU is."""
    gpus = [*Path("/dev").glob("nvidia[0-9]*"), *Path("/dev").glob("kfd")]
    return sys.platform == "linux" and not gpus


_LOCK = threading.Lock()
_waiting: ForkServer | None = None


def take(environment: Mapping[str, str]) -> ForkServer:
    """The one that was begun, if it is as this environment asks; else a new one."""
    global _waiting
    with _LOCK:
        found, _waiting = _waiting, None
    if found is not None:
        if {**environment, "PYTHONPATH": python_path()} == found.environment:
            return found
        _discard(found)
    return ForkServer(environment)


@contextlib.contextmanager
def begun(wanted: bool) -> Iterator[None]:
    """Begin one for trials of one thread, where it is wanted; what nobody took is gone at the end."""
    global _waiting
    if wanted and is_safe():
        with _LOCK:
            _waiting = _waiting or ForkServer(with_threads(1))
    try:
        yield
    finally:
        with _LOCK:
            found, _waiting = _waiting, None
        if found is not None:
            _discard(found)


def _discard(server: ForkServer) -> None:
    server.end()
    shutil.rmtree(server.directory, ignore_errors=True)
