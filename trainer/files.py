"""How do files survive crashes and company? Written whole or not at all, by one process at a time."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from trainer.errors import EnvironmentProblem


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all, on disk when this returns; folders above it are made.

    Whoever reads `path` meanwhile sees the old content or the new one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    data = content.encode() if isinstance(content, str) else content
    try:
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    partial.replace(path)


def made_once(path: Path, make: Callable[[], bytes]) -> bytes:
    """The content of a cached file; the first of all processes that ask makes it, the others wait for it.

    A file that was damaged is made again. Raises EnvironmentProblem when another process takes too long.
    """
    with cache_lock(path):
        content = kept(path)
        if content is None:
            content = make()
            keep(path, content)
        return content


def files_below(place: Path) -> Iterator[Path]:
    """All files in a folder and in the folders in it; one that goes away meanwhile has none (`rglob` would raise)."""
    for folder, _, names in os.walk(place):
        yield from (Path(folder, name) for name in names)


def keep(path: Path, content: bytes) -> None:
    """Write a file of a cache, and beside it the digest by which damage shows."""
    write_whole(path, content)
    write_whole(_digest_file(path), hashlib.sha256(content).hexdigest())


def keep_streamed(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """As `keep`, of what `write` puts into a file: content that should not be in memory a second time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with open(partial, "wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    digest = _digest_of(partial)
    partial.replace(path)
    write_whole(_digest_file(path), digest)


def kept_file(path: Path) -> Path | None:
    """The file itself if it holds what was kept; None where there is nothing, or something else."""
    try:
        return path if _digest_of(path) == _digest_file(path).read_text() else None
    except (OSError, UnicodeDecodeError):
        return None


def _digest_of(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def kept(path: Path) -> bytes | None:
    """What `keep` wrote; None where there is nothing, or something else."""
    try:
        content, digest = path.read_bytes(), _digest_file(path).read_text()
    except (OSError, UnicodeDecodeError):
        return None
    return content if hashlib.sha256(content).hexdigest() == digest else None


@contextlib.contextmanager
def cache_lock(path: Path, patience_s: float | None = None) -> Iterator[None]:
    """The right to make `path`; whoever else wants it waits, and learns who has it if that takes too long."""
    patience = _PATIENCE_S if patience_s is None else patience_s
    lock = FileLock(path.with_name(f"{path.name}.lock"), wait_s=patience)
    try:
        lock.__enter__()
    except HeldError as held:
        raise EnvironmentProblem(
            f"{path} has been in the making for more than {patience / 3600:g} h by {held.holder}: "
            "end that process, then the same command makes it"
        ) from None
    try:
        yield
    finally:
        lock.__exit__(None, None, None)


def _digest_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


_PATIENCE_S = 3600.0
"""How long to wait for another process that makes the same file of a cache."""


class HeldError(RuntimeError):
    """Somebody else holds the lock at `path`; `holder` says who."""

    def __init__(self, holder: str, path: Path) -> None:
        self.holder, self.path = holder, path
        super().__init__(f"{path} is held by {holder}")


class FileLock:
    """An exclusive `flock`: freed by the kernel even after kill -9, never stale.

    The file keeps who took it last, for messages only. Not re-entrant.
    """

    def __init__(self, path: Path, wait_s: float = 0.2, who: str = "") -> None:
        """`wait_s` spans the moment in which `holder` looks; `who` takes it, where a process's number is not enough."""
        self.path, self.wait_s, self._who = path, wait_s, who
        self._fd: int | None = None
        self._said = ""

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        deadline = time.monotonic() + self.wait_s
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    who = said_of(os.pread(fd, 400, 0))
                    os.close(fd)
                    raise HeldError(who, self.path) from None
                time.sleep(0.1)
            else:
                break
        try:
            self._look_around(os.pread(fd, 400, 0))
        except BaseException:
            os.close(fd)
            raise
        os.ftruncate(fd, 0)
        self._said = this_process(self._who)
        os.pwrite(fd, self._said.encode(), 0)
        self._fd = fd
        return self

    def _look_around(self, before: bytes) -> None:
        """Called with what the file says once the kernel has given it to us; HeldError still refuses."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def this_process(who: str = "") -> str:
    """Who holds what this process holds: `process 12 on gpu3`, after what else tells it."""
    process = f"process {os.getpid()} on {socket.gethostname()}"
    return f"{who}, {process}" if who else process


def said_of(content: bytes) -> str:
    """Who holds a lock, as its file says."""
    return content.decode(errors="replace").partition("\n")[0].strip() or "another process"


def holder(path: Path) -> str | None:
    """Who on this machine holds the lock at `path` now; None if nobody does."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return said_of(os.pread(fd, 400, 0))
    finally:
        os.close(fd)
    return None
