"""Searches of toy trials in this process, without Ray, that may be killed at every message."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from service import progress
from service.agenda import WorkSource
from service.dispatch import Dispatch
from service.experiment import Experiment
from service.outcome import Outcome
from service.search.agenda import TuningAgenda
from service.search.ledger import TuningLedger
from service.search.study import studies
from service.settings import Settings
from service.tracking.outbox import Outbox
from service.worker import Job, Message, run_trial
from tests.service.sweeps import sweep

LR = {"optimizer.lr": {"log": [1e-4, 1e-1]}}


def searching(
    toy: dict[str, Any], search: dict[str, Any] | None = None, **changes: Any
) -> Experiment:
    """Two cells and two seeds of the toy trial; three candidates for each cell."""
    return sweep(toy, search={"space": LR, "trials": 3} | (search or {}), **changes)


class Killed(BaseException):
    """The driver's process is no more."""


class Stopped(BaseException):
    """Tune ends a trial at a report in this way."""


class TuningDriver:
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

    def jobs(self, messages: int | None = None) -> Iterator[Job]:
        """Do what is wanted; the driver is killed after so many messages."""
        self.ledger.open()
        while (job := self.dispatch.next()) is not None:
            yield job
            self.dispatch.started(job.key)
            try:
                messages = self._train(job, messages)
            except Stopped:
                messages = messages and messages - 1
            self.dispatch.released(job.key, "it ended without a result")
        assert self.dispatch.is_over

    def _train(self, job: Job, messages: int | None) -> int | None:
        def send(message: Message) -> None:
            nonlocal messages
            messages = messages and messages - 1
            is_stopped = self.dispatch.take(job.key, dict(message))
            if messages == 0:
                raise Killed
            if is_stopped:
                raise Stopped

        run_trial(job, send)
        return messages

    def close(self) -> Outcome:
        outcome = self.ledger.close()
        self.outbox.close()
        return outcome


def tune(experiment: Experiment, home: Path) -> TuningDriver:
    """All searches to their end."""
    driver = TuningDriver(experiment, home)
    list(driver.jobs())
    driver.close()
    return driver
