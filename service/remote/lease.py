"""Who runs an experiment whose home lies in a store? The holder of a lease that is renewed while he lives.

A lease is an object with a name in it. By the store's own clock it is fresh for a minute after it was written; then it
may be taken over. Two who take it at the same moment read it again: the last to write has it.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from service.remote.experiment import FOLDER
from trainer.machine import this_machine

if TYPE_CHECKING:
    from service.remote.store import Store

FRESH_S = 60.0
"""How long a lease holds after it was written last."""
RENEWED_S = 12.0
"""How often whoever lives writes it."""
_FILE = "lease.json"
_SETTLES_S = 0.5
"""After which a race of two is decided."""


@dataclass(frozen=True)
class Holder:
    """Who has a lease."""

    who: str
    """For people: a job, a process and its machine."""
    machine: str
    home: str
    """The folder there that mirrors the store, in which a lock says whether he lives."""
    since: str
    token: str

    def text(self) -> str:
        """For people."""
        return f"{self.who}, since {self.since}"


class Lease:
    """The right to run one experiment. Only for who holds the lock of the home's folder on this machine."""

    def __init__(self, store: Store, name: str, home: Path, who: str) -> None:
        self._store, self._object = store, f"{FOLDER}/{name}/{_FILE}"
        since = time.strftime("%Y-%m-%d %H:%M:%S %Z")
        self._own = Holder(who, this_machine(), str(home), since, uuid.uuid4().hex)
        self._renewed = 0.0

    def take(self) -> Holder | None:
        """Take it, or return who has it. StoreError where the store does not answer."""
        other = fresh(self._store, self._object)
        if other is not None and not self._is_mine(other):
            return other
        self._write()
        time.sleep(_SETTLES_S)
        found = _read(self._store, self._object)
        return None if found is None or found.token == self._own.token else found

    def renew(self, lost: Callable[[Holder], None]) -> bool:
        """Write it again, and return True, where it is time.

        `lost` hears who took it, because this process was cut off for long.
        """
        if time.monotonic() - self._renewed < RENEWED_S:
            return False
        found = _read(self._store, self._object)
        if found is not None and found.token != self._own.token:
            lost(found)
            self._renewed = time.monotonic()
            return False
        self._write()
        return True

    def give_back(self) -> None:
        """Let the next one have it at once."""
        found = _read(self._store, self._object)
        if found is not None and found.token == self._own.token:
            self._store.remove(self._object)

    def _write(self) -> None:
        self._store.write(self._object, json.dumps(asdict(self._own)).encode())
        self._renewed = time.monotonic()

    def _is_mine(self, other: Holder) -> bool:
        """Whether it is of a process that is gone: it would hold the lock of this very folder."""
        return (other.machine, other.home) == (self._own.machine, self._own.home)


def fresh(store: Store, name: str) -> Holder | None:
    """Who has the lease of this name; None where it is of somebody who is gone."""
    folder, _, file = name.rpartition("/")
    there = store.files(folder).get(file)
    if there is None:
        return None
    probe = f".clock-{uuid.uuid4().hex}"
    store.write(f"{folder}/{probe}", b"")  # what time it is there
    now = store.files(folder)[probe].changed_s
    store.remove(f"{folder}/{probe}")
    return _read(store, name) if now - there.changed_s < FRESH_S else None


def seen(store: Store, name: str) -> Holder | None:
    """Who has an experiment's lease, by the clock of this machine: to be shown, not to decide by."""
    there = store.files(f"{FOLDER}/{name}").get(_FILE)
    if there is None or time.time() - there.changed_s >= FRESH_S:
        return None
    return _read(store, f"{FOLDER}/{name}/{_FILE}")


def _read(store: Store, name: str) -> Holder | None:
    try:
        return Holder(**json.loads(store.read(name) or b""))
    except (ValueError, TypeError):
        return None
