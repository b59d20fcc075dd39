"""Who works in a directory, on whichever machine that sees it? A lock that is kept by saying so again and again.

On one machine the kernel keeps it: it is free at the moment its holder dies, and never taken from one that was
stopped for a while. Network file systems may keep such locks to each machine. So the holder also counts on in
the file, and whoever on another machine would take it first looks whether the count moves. Clocks are not compared.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from trainer import files
from trainer.files import FileLock, HeldError, said_of

BEAT_S = 5.0
"""How often the holder says that it is there."""
EXPIRES_S = 30.0
"""How long another machine watches a count that does not move before it takes over."""
_LINE = re.compile(rb"\nbeat (\d{12}) (\w+) (\S+)")


class _Beat(NamedTuple):
    number: int
    token: str
    host: str


class Lease(FileLock):
    """The right to work somewhere. Not re-entrant; HeldError says who has it and since when."""

    def __init__(
        self,
        path: Path,
        wait_s: float = 0.2,
        who: str = "",
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_lost` is called, from a thread, if another machine took over because this one was not heard for long."""
        super().__init__(path, wait_s, who)
        self._token, self._on_lost = uuid.uuid4().hex, on_lost
        self._over, self._thread = threading.Event(), None
        self.is_lost = False

    _thread: threading.Thread | None

    def _look_around(self, before: bytes) -> None:
        """Another machine's holder is alive if it counts on."""
        beat = _beat(before)
        if beat is None or beat.host == socket.gethostname():
            return
        deadline = time.monotonic() + EXPIRES_S
        while time.monotonic() < deadline:
            time.sleep(min(1.0, EXPIRES_S / 10))
            if (now := _read(self.path)) and _beat(now) not in (beat, None):
                raise HeldError(said_of(now), self.path)

    def __enter__(self) -> Lease:
        super().__enter__()
        self._said += time.strftime(", since %d %b %H:%M")
        self._write(0)
        self._over.clear()
        self._thread = threading.Thread(target=self._count, name="diffsweep-lease", daemon=True)
        self._thread.start()
        return self

    def _write(self, count: int) -> None:
        assert self._fd is not None
        line = f"{self._said}\nbeat {count:012d} {self._token} {socket.gethostname()}"
        os.pwrite(self._fd, line.encode(), 0)
        os.fsync(self._fd)

    def _count(self) -> None:
        count = 0
        while not self._over.wait(BEAT_S):
            mine = _beat(_read(self.path))
            if mine is not None and mine.token != self._token:
                self.is_lost = True
                self._on_lost()
                return
            count += 1
            with contextlib.suppress(OSError):  # a full disk, a network that is away
                self._write(count)

    def check(self) -> None:
        """HeldError if another machine took over meanwhile."""
        if self.is_lost:
            raise HeldError(said_of(_read(self.path)), self.path)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        if self._fd is not None and not self.is_lost:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, 0)
        super().__exit__(kind, error, trace)


def holder(path: Path) -> str | None:
    """Who holds a lease now, as far as a single look can tell; None if nobody does."""
    if (here := files.holder(path)) is not None:
        return here
    content = _read(path)
    beat = _beat(content)
    if beat is None or beat.host == socket.gethostname():
        return None
    with contextlib.suppress(OSError):
        if time.time() - path.stat().st_mtime < EXPIRES_S:
            return said_of(content)
    return None


def _read(path: Path) -> bytes:
    """Opened anew each time: network file systems then look at the server."""
    try:
        return path.read_bytes()[:400]
    except OSError:
        return b""


def _beat(content: bytes) -> _Beat | None:
    found = _LINE.search(content)
    return None if found is None else _Beat(int(found[1]), found[2].decode(), found[3].decode())
