"""What does a driver do whose home lies in a store? It holds a lease, begins from what is there, brings what is new."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from service.errors import ServiceError
from service.progress import Event, SweepNote
from service.remote.carrier import MEANWHILE, interrupted
from service.remote.courier import Courier
from service.remote.experiment import FOLDER
from service.remote.home import RemoteHome, remote_home, waiting_note
from service.remote.learned import push_learned
from service.remote.lease import Holder, Lease, seen
from service.remote.left import delivered, expect
from service.remote.store import StoreError
from service.remote.trial import TrialMirror
from service.search.study import tuned
from service.stop_request import REQUEST
from trainer.record import FAILURE, STOPS

if TYPE_CHECKING:
    from service.experiment import Experiment
    from service.settings import Settings

Say = Callable[[str], None]
BACK = " takes what is new again"
_NEW_KEYS_EVERY_S = 30.0


def holder(settings: Settings, name: str) -> str | None:
    """Who runs an experiment of a home that lies in a store, on whatever machine; None if nobody does."""
    with contextlib.suppress(StoreError):
        home = remote_home(settings)
        if home is not None and (found := seen(home.store, name)) is not None:
            return found.text()
    return None


def told_once(on_event: Callable[[Event], None]) -> Callable[[Event], None]:
    """Passes events on, but what several processes say of one outage only once."""
    said: set[str] = set()

    def tell(event: Event) -> None:
        text = event.text if isinstance(event, SweepNote) else ""
        if text.endswith(BACK):
            said.clear()
        elif text.endswith(MEANWHILE):
            if said:
                return
            said.add(text)
        on_event(event)

    return tell


def ask_to_stop(settings: Settings, name: str) -> None:
    """Ask who runs an experiment of a home that lies in a store to stop. StoreError where that cannot be done."""
    if (home := remote_home(settings)) is not None:
        home.store.write(_stop_object(name), b"")


def _stop_object(name: str) -> str:
    return f"{FOLDER}/{name}/{REQUEST}"


@contextlib.contextmanager
def driving(
    experiment: Experiment,
    settings: Settings,
    who: str,
    say: Say,
    stop: threading.Event,
    refusal: Callable[[str], ServiceError],
) -> Iterator[None]:
    """The right to run the experiment, with all that the store knows of it here; its store gets what is new.

    Before anything runs, raises StoreError where the store cannot be used, and `refusal` of who has the lease.
    """
    home = remote_home(settings)
    if home is None:
        yield
        return
    home.store.check()
    lease = Lease(home.store, experiment.name, settings.home, who)
    if (other := lease.take()) is not None:
        raise refusal(other.text())
    try:
        home.store.remove(_stop_object(experiment.name))  # of another run
        push_learned(home.store, settings.cache)
        home.deliver_left()
        home.experiment(experiment.name).pull()
        for line in home.pull_of(experiment):
            say(line)
        yield from _delivering(_Errands(home, experiment, lease, say, stop))
    finally:
        with contextlib.suppress(StoreError):
            lease.give_back()


class _Errands:
    """What a driver brings to the store while it runs."""

    def __init__(
        self,
        home: RemoteHome,
        experiment: Experiment,
        lease: Lease,
        say: Say,
        stop: threading.Event,
    ) -> None:
        self.home, self.experiment, self.say = home, experiment, say
        self._lease, self._stop = lease, stop
        self._mirror = home.experiment(experiment.name)
        self._trials: dict[str, TrialMirror] = {}
        self._keys: list[str] = []
        self._looked = -_NEW_KEYS_EVERY_S

    def bring(self) -> None:
        """The lease, the experiment's folder, and what is written here of its trials."""
        if self._lease.renew(self._lost):
            request = _stop_object(self.experiment.name)
            if self.home.store.read(request) is not None:
                self.home.store.remove(request)
                self._stop.set()
        self._mirror.push()
        if time.monotonic() - self._looked >= _NEW_KEYS_EVERY_S:  # a search may have ended
            self._keys = [t.key for t in tuned(self.experiment, self.home.settings).trials]
            self._looked = time.monotonic()
        for key in self._keys:
            directory = self.home.settings.trial(key)
            if (directory / STOPS).exists() or (directory / FAILURE).exists():
                self._trials.setdefault(key, self.home.trial(key)).push_words()

    def changed(self, problem: StoreError | None) -> None:
        """The store went away, or came back: told once."""
        back = f"{self.home.store.uri}{BACK}"
        self.say(back if problem is None else interrupted(problem))

    def _lost(self, other: Holder) -> None:
        if not self._stop.is_set():
            self._stop.set()
            self.say(
                f"the store was out of reach for so long that the experiment is run by {other.text()}: this run ends"
            )


def _delivering(errands: _Errands) -> Iterator[None]:
    home, name = errands.home, errands.experiment.name
    settings = home.settings
    expect(settings.home, "experiment", name)
    with Courier(errands.bring, errands.changed) as courier:
        try:
            yield
        finally:
            why = None
            if courier.finish(settings.store_patience_s):
                delivered(settings.home, "experiment", name)
            try:
                home.deliver_left()
                home.pull_of(errands.experiment)  # what was trained on other nodes
            except StoreError as problem:
                why = problem
            if note := waiting_note(settings, why):
                errands.say(note)
