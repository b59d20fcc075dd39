"""What of a home lies in a store, and who brings it here or there? All that commands and drivers ask for.

Nothing here does anything for a home that is a plain folder.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from service.command_line import diffsweep
from service.errors import ServiceError
from service.experiment.saved import SAVED, read_saved
from service.remote.experiment import FOLDER, ExperimentMirror, take
from service.remote.learned import pull_learned
from service.remote.lease import seen
from service.remote.left import delivered, expect, waiting, waits
from service.remote.store import Store, StoreError
from service.remote.trial import TrialMirror
from trainer.errors import InputError
from trainer.files import HeldError
from trainer.record import Record

if TYPE_CHECKING:
    from service.experiment import Experiment
    from service.settings import Settings

_AT_ONCE = 8
"""Trials that are asked about side by side."""


class RemoteHome:
    """A home here and in its store."""

    def __init__(self, settings: Settings) -> None:
        assert settings.remote is not None, "see `remote_home`"
        self.settings, self.store = settings, Store(settings.remote)

    def trial(self, key: str) -> TrialMirror:
        """One trial's mirror, that knows nothing of the store yet."""
        return TrialMirror(self.store, Record(self.settings.trial(key)), key)

    def experiment(self, name: str) -> ExperimentMirror:
        """One experiment's mirror, that knows nothing of the store yet."""
        return ExperimentMirror(self.store, self.settings.experiment(name))

    def pull_experiments(self) -> None:
        """Bring here what every experiment there goes on from, so that they are found by name."""
        there = self.store.files(FOLDER)
        saved = (path.partition("/") for path in there)
        names = {name for name, _, file in saved if file == SAVED and not name.startswith(".")}
        for name in sorted(names):
            if not waits(self.settings.home, "experiment", name):
                own = {p.partition("/")[2]: s for p, s in there.items() if p.startswith(f"{name}/")}
                take(self.store, f"{FOLDER}/{name}", self.settings.experiment(name), own)

    def pull_trials(self, keys: Iterable[str]) -> list[str]:
        """Bring here what is known of trials; a line for each that is damaged there, which is set aside."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return [line for line in pool.map(self._pull, dict.fromkeys(keys)) if line]

    def _pull(self, key: str) -> str | None:
        if waits(self.settings.home, "trial", key):  # here is the newest, or somebody trains it
            return None
        mirror = self.trial(key)
        problem = mirror.pull()
        if problem is None:
            return None
        aside = f"{key}.damaged-{time.strftime('%Y%m%d-%H%M%S')}"
        mirror.set_aside(aside)
        return f"{problem}: the trial is trained again; what is left of it is in {aside}"

    def pull_of(self, experiment: Experiment) -> list[str]:
        """What is known of an experiment's trials, those of its searches first; lines as `pull_trials`."""
        from service.search.study import studies, tuned

        asked = [one for study in studies(experiment, self.settings) for one in study.candidates]
        found = self.pull_trials(key for one in asked for keys in one.keys.values() for key in keys)
        known = tuned(experiment, self.settings)
        keys = [trial.key for trial in known.trials if known.is_tuned(trial.cell)]
        return found + self.pull_trials(keys)

    def deliver_left(self) -> None:
        """Bring there what an earlier process left here, unless somebody trains it. StoreError where that fails."""
        for kind, name in waiting(self.settings.home):
            if kind == "experiment":
                self.experiment(name).push()
                delivered(self.settings.home, kind, name)
                continue
            try:
                with self.trial(name).record.writer():
                    self.trial(name).push()
                    delivered(self.settings.home, kind, name)
            except HeldError:
                continue


def remote_home(settings: Settings) -> RemoteHome | None:
    """The home's mirror; None where the home is a plain folder. StoreError where the store cannot be used."""
    return None if settings.remote is None else RemoteHome(settings)


def look_around(settings: Settings) -> None:
    """Before experiments are looked for by name: bring here what the store has of them."""
    if (home := remote_home(settings)) is not None:
        home.store.check()
        home.deliver_left()
        home.pull_experiments()
        pull_learned(home.store, settings.cache)


def look_at_saved(settings: Settings, name: str) -> None:
    """The same for one that was run before, by its name; nothing where it is not known."""
    with contextlib.suppress(OSError, InputError):
        if settings.remote is not None:
            look_at(read_saved(settings.experiment(name)), settings)


def look_at(experiment: Experiment, settings: Settings) -> None:
    """Before an experiment's results are read: bring here what the store knows of its trials."""
    if (home := remote_home(settings)) is not None:
        home.pull_of(experiment)


def bring_key(settings: Settings, beginning: str) -> None:
    """Before a trial is looked for by the beginning of its key: bring here what is known of those that it may mean."""
    if (home := remote_home(settings)) is not None and beginning.isalnum():
        keys = [key for key in home.store.folders("trials") if key.startswith(beginning)]
        home.pull_trials(keys[:_AT_ONCE])


def bring_model(settings: Settings, key: str) -> None:
    """Before a trial's weights are read: bring its newest checkpoint here."""
    if (home := remote_home(settings)) is not None:
        home.trial(key).pull(states=True)


def forget(settings: Settings, keys: Iterable[str], name: str | None = None) -> None:
    """Remove trials, and an experiment's folder, from the store; ServiceError while that experiment runs somewhere."""
    if settings.remote is None:
        return
    store = Store(settings.remote)
    if name is not None and (who := seen(store, name)) is not None:
        raise ServiceError(
            f"{name} is being run by {who.text()}", "end it first; nothing has been removed"
        )
    if name is not None:
        store.remove(f"{FOLDER}/{name}/{SAVED}")  # from here on nobody finds it
        store.remove_folder(f"{FOLDER}/{name}")
        delivered(settings.home, "experiment", name)
    for key in keys:
        store.remove_folder(f"trials/{key}")
        delivered(settings.home, "trial", key)


def remember(settings: Settings, name: str) -> str | None:
    """What somebody who only looks has found, as `publish`; of one that runs elsewhere nothing is brought there."""
    if settings.remote is None or not (settings.experiment(name) / SAVED).is_file():
        return None
    runs = seen(Store(settings.remote), name) is not None
    return None if runs else publish(settings, name)


def publish(settings: Settings, name: str) -> str | None:
    """Bring an experiment's folder there now; a line where that has to wait."""
    if settings.remote is None:
        return None
    expect(settings.home, "experiment", name)
    try:
        RemoteHome(settings).deliver_left()
    except StoreError as error:
        return waiting_note(settings, error)
    return None


def waiting_note(settings: Settings, why: StoreError | None = None) -> str | None:
    """What has not reached the store, and the command that brings it; None where nothing waits."""
    kinds = [kind for kind, _ in waiting(settings.home)]
    counts = [
        f"{kinds.count(kind)} {kind}{'' if kinds.count(kind) == 1 else 's'}"
        for kind in ("experiment", "trial")
        if kind in kinds
    ]
    if not counts:
        return None
    verb = "waits" if len(kinds) == 1 else "wait"
    where = f" for {settings.remote}" if why is None else f": {why.message}"
    command = diffsweep("sync", settings=settings)
    return f"{' and '.join(counts)} {verb}{where}; `{command}` delivers them"
