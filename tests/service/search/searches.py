"""Searches of toy trials in this process, without Ray, that may be killed at every message."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from service import progress
from service.agenda import WorkSource
from service.dispatch import Dispatch
from service.experiment import Experiment
from service.search.agenda import TuningAgenda
from service.search.ledger import TuningLedger
from service.search.study import studies
from service.settings import Settings
from service.tracking.outbox import Outbox
from tests.service.by_hand import ByHand
from tests.service.sweeps import sweep

LR = {"optimizer.lr": {"log": [1e-4, 1e-1]}}


def searching(
    toy: dict[str, Any], search: dict[str, Any] | None = None, **changes: Any
) -> Experiment:
    """Two cells and two seeds of the toy trial; three candidates for each cell."""
    return sweep(toy, search={"space": LR, "trials": 3} | (search or {}), **changes)


class TuningDriver(ByHand):
    """One run of the searches of an experiment, one trial at a time."""

    def __init__(self, experiment: Experiment, home: Path) -> None:
        self.settings = Settings(home=home, tracking_uri=None)
        self.events: list[progress.Event] = []
        self.outbox = Outbox(self.settings.experiment(experiment.name) / "outbox.db")
        self.studies = studies(experiment, self.settings)
        self.ledger = TuningLedger(
            experiment, self.studies, self.settings, self.outbox, self.events.append
        )

        def wants(_: Experiment, settings: Settings, attempt: str) -> WorkSource:
            return TuningAgenda(self.studies, settings, attempt, self.ledger.expect)

        stop = threading.Event()
        self.dispatch = Dispatch(experiment, self.settings, self.ledger, stop, wants)


def tune(experiment: Experiment, home: Path) -> TuningDriver:
    """All searches to their end."""
    driver = TuningDriver(experiment, home)
    list(driver.work())
    driver.close()
    return driver
