"""What if the outbox's file is held by another process, its disk is full, or it is damaged? Nobody waits, nothing ends.

Everything in it can be poured in again from the trials' directories, which are the truth. So a write that cannot
be done now is done later, in its order, and a file that is no database any more is set aside.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from service.errors import ServiceError
from service.tracking import schema

Write = Callable[[sqlite3.Connection], None]

_OPEN_S = 60.0
"""How long the file may be held when it is opened: nothing has begun yet."""
_WRITE_S = 2.0
"""How long a write waits for others, before it is put off; those behind it do not wait."""
_AGAIN_S = 1.0
"""Between two attempts at what was put off."""


class PatientFile:
    """One sqlite file: safe between threads, processes and kill -9."""

    def __init__(self, path: Path) -> None:
        """Open or make it; ServiceError where that is impossible. One that is damaged is set aside."""
        self._path = path
        self._lock = threading.RLock()
        self._put_off: deque[Write] = deque()
        self._tried_s = 0.0
        self._said = ""
        self.is_lost = False
        """It was damaged after it was opened: what is written from then on is dropped."""
        self.was_damaged = False
        """It was damaged when it was opened: it begins anew."""
        self._is_closed = False
        """Given back: a thread that is late finds nothing in it, and writes nothing."""
        try:
            self._db = self._opened()
        except sqlite3.OperationalError as error:
            raise _refusal(path, error) from None
        except sqlite3.DatabaseError:
            self._set_aside()
            self.was_damaged = True
            self._db = self._opened()
        self._wait_for_others(_WRITE_S)

    def _opened(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(
            self._path, timeout=_OPEN_S, check_same_thread=False, isolation_level=None
        )
        try:
            schema.prepare(db)
        except BaseException:
            db.close()
            raise
        return db

    def _set_aside(self) -> None:
        stamp = time.strftime("%Y%m%d-%H%M%S")
        for suffix in ("", "-wal", "-shm"):
            file = self._path.with_name(self._path.name + suffix)
            if file.exists():
                file.rename(file.with_name(f"{file.name}.damaged-{stamp}"))

    @property
    def problem(self) -> str:
        """Why writes wait or were dropped; empty while they do not."""
        if self.is_lost:
            return f"{self._path} is damaged"
        return f"{self._path}: {self._said}" if self._put_off else ""

    @property
    def put_off(self) -> int:
        """How many writes wait."""
        return len(self._put_off)

    def write(self, write: Write) -> None:
        """Do it in a transaction of its own, now or as soon as the file can be written."""
        with self._lock:
            if self.is_lost or self._is_closed:
                return
            self._put_off.append(write)
            if len(self._put_off) == 1 or time.monotonic() - self._tried_s >= _AGAIN_S:
                self.flush()

    def flush(self) -> bool:
        """Do what was put off, in its order; whether nothing is left."""
        with self._lock:
            while self._put_off and not self.is_lost and not self._is_closed:
                try:
                    self._transact(self._put_off[0])
                except sqlite3.OperationalError as error:
                    self._said = str(error)
                    self._wait_for_others(0.0)
                    self._tried_s = time.monotonic()
                    return False
                except sqlite3.DatabaseError:
                    self._lose()
                    return True
                self._put_off.popleft()
                if self._said:
                    self._said = ""
                    self._wait_for_others(_WRITE_S)
            return True

    def _wait_for_others(self, seconds: float) -> None:
        self._db.execute(f"PRAGMA busy_timeout={int(1000 * seconds)}")

    def _transact(self, write: Write) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            write(self._db)
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _lose(self) -> None:
        """Nothing more is written or read: what it held is poured in again by whoever opens it next."""
        self.is_lost = True
        self._put_off.clear()
        self._db.close()
        self._set_aside()

    def read(self, query: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Rows; none where the file cannot be read."""
        with self._lock:
            if self.is_lost or self._is_closed:
                return []
            try:
                return self._db.execute(query, values).fetchall()
            except sqlite3.OperationalError:
                return []
            except sqlite3.DatabaseError:
                self._lose()
                return []

    def close(self, patience_s: float = 0.0) -> None:
        """Give the file back, with what was put off if that can be written within `patience_s`."""
        deadline = time.monotonic() + patience_s
        while not self.flush() and time.monotonic() < deadline:
            time.sleep(0.2)
        with self._lock:
            self._is_closed = True
            self._db.close()


def _refusal(path: Path, error: sqlite3.OperationalError) -> ServiceError:
    if "locked" in str(error):
        return ServiceError(
            f"{path} is held by another process for more than {_OPEN_S:g} s",
            "end what holds it (a backup, an `sqlite3` on it), then the same command continues",
        )
    return ServiceError(
        f"{path} cannot be opened: {error}",
        "make room, or make it writable; nothing in it is lost for good: the trials' directories are the truth",
    )
