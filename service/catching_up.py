"""What do the records of an experiment know that the tracking server was never told? Asked while nobody runs it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from service.agenda import Agenda
from service.dispatch import Dispatch
from service.experiment.saved import read_saved
from service.ledger import Ledger
from service.search.study import studies
from service.sole_driver import driver, sole_driver
from service.tracking.keys import sweep_key
from trainer.errors import InputError

if TYPE_CHECKING:
    from service.experiment import Experiment
    from service.settings import Settings
    from service.tracking.outbox import Outbox


def catch_up(settings: Settings, name: str, outbox: Outbox) -> None:
    """Pour whatever the records of an experiment know into its outbox, unless a driver does that now.

    A worker may have died between its record and its word; the outbox may be new, because the former was damaged.
    """
    try:
        experiment = read_saved(settings.experiment(name))
    except (OSError, InputError):
        return
    if driver(settings, name) is not None:
        return
    with sole_driver(settings, name):
        is_new = not outbox.has_ended(sweep_key(name))
        _catch_up_candidates(experiment, settings, outbox)
        ledger = Ledger(experiment, settings, outbox, lambda _event: None)
        dispatch = Dispatch(experiment, settings, ledger, threading.Event(), Agenda)
        ledger.open(trains=False)
        if is_new:
            ledger.close(interrupted=not dispatch.is_over)


def _catch_up_candidates(experiment: Experiment, settings: Settings, outbox: Outbox) -> None:
    """What the records of every candidate know that was asked so far."""
    if experiment.spec.search is None:
        return
    from service.search.ledger import TuningLedger

    searches = studies(experiment, settings)
    ledger = TuningLedger(experiment, searches, settings, outbox, lambda _event: None)
    for study in searches:
        for candidate in study.candidates:
            for trial in study.trials(candidate):
                ledger.expect(study, candidate, trial)
    ledger.open(trains=False)
    ledger.close(interrupted=not all(study.is_over for study in searches))
