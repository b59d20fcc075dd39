"""How does a worker begin from a store, and bring there what it trains? By a courier beside the training.

A store that does not answer keeps nobody from training: every number is the same whether a trial is continued or
trained again, and what is new waits on this machine.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from service.remote.courier import Courier
from service.remote.learned import pull_learned, push_learned
from service.remote.left import delivered, expect, waits
from service.remote.store import Store, StoreError
from service.remote.trial import TrialMirror
from trainer.record import Record

if TYPE_CHECKING:
    from service.settings import Settings

MEANWHILE = ": training goes on, and what is new is delivered when the store takes it"
"""How a line ends that tells of an outage."""
Send = Callable[[dict[str, Any]], None]
_STOPPED_S = 10.0
"""How long a trial that was stopped from outside still brings its newest state."""


class Carrier:
    """One worker of one trial, where the home is a folder that all nodes see: nothing is to be done."""

    def __init__(self, send: Send) -> None:
        self.send = send

    def even(self) -> None:
        """Before the workers meet: what they begin from is where all of them find it."""

    def follow(self) -> None:
        """After they met: take it."""


class Mirrored(Carrier):
    """One worker of one trial whose home lies in a store."""

    def __init__(self, settings: Settings, key: str, send: Send, rank: int, world: int) -> None:
        super().__init__(self._telling)
        self._send, self._settings, self._key = send, settings, key
        self._is_first, self._world = rank == 0, world
        assert settings.remote is not None, "see `carried`"
        self._record = Record(settings.trial(key))
        self._mirror = TrialMirror(Store(settings.remote), self._record, key)
        self._has_learned = False
        self._courier = Courier(self._bring)
        self._told, self._is_over = "", False

    def _bring(self) -> None:
        self._mirror.push()
        if not self._has_learned:
            was_made = self._record.reports() != []  # what measures was made before
            push_learned(self._mirror.store, self._settings.cache)
            self._has_learned = was_made

    @contextlib.contextmanager
    def carrying(self) -> Iterator[None]:
        """Take what is there; meanwhile, and at the end, bring there what is new."""
        home = self._settings.home
        self._arrive()
        if not self._is_first:
            yield
            return
        expect(home, "trial", self._key)
        with self._courier:
            try:
                yield
            except Exception:
                self._finish(self._settings.store_patience_s)
                raise
            except BaseException:  # it was stopped
                self._finish(_STOPPED_S)
                raise
            self._finish(self._settings.store_patience_s)

    def _arrive(self) -> None:
        """Within some patience: the newest checkpoint of all, unless it lies here."""
        deadline = time.monotonic() + self._settings.store_patience_s
        while True:
            try:
                if waits(self._settings.home, "trial", self._key) and self._is_first:
                    self._mirror.push()  # a process of this node was killed before it could
                self._mirror.pull(states=True)
                pull_learned(self._mirror.store, self._settings.cache)
            except StoreError:
                if time.monotonic() >= deadline:
                    return
                time.sleep(2.0)
            else:
                return

    def even(self) -> None:
        """The first worker's state is in the store."""
        if self._is_first and self._world > 1:
            self._courier.finish(self._settings.store_patience_s)

    def follow(self) -> None:
        """The others have it."""
        if not self._is_first:
            with contextlib.suppress(StoreError):  # the workers then find that they differ
                self._mirror.pull(states=True)

    def _telling(self, message: dict[str, Any]) -> None:
        """Send a message; one that ends the trial waits until the trial is in the store."""
        if self._is_first:
            if message["event"] == "reported":
                self._courier.wake()
            else:
                self._finish(self._settings.store_patience_s)
            problem = self._courier.problem
            if problem is not None and self._told != problem.message:
                self._told = problem.message
                message["note"] = interrupted(problem)
        self._send(message)

    def _finish(self, patience_s: float) -> None:
        if not self._is_over and self._courier.finish(patience_s):
            delivered(self._settings.home, "trial", self._key)
        self._is_over = True


def interrupted(problem: StoreError) -> str:
    """One line for the person: nothing is lost."""
    return f"{problem.message}{MEANWHILE}"


@contextlib.contextmanager
def carried(home: str, key: str, send: Send, rank: int, world: int) -> Iterator[Carrier]:
    """The carrier of one worker; `home` is the URI of the store, or empty."""
    if not home:
        yield Carrier(send)
        return
    from service.settings import load

    mirrored = Mirrored(load(home=home), key, send, rank, world)
    with mirrored.carrying():
        yield mirrored
