"""A driver without Ray: one trial at a time in this process, to be killed at any event."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from service import progress
from service.dispatch import Dispatch
from service.experiment import Experiment
from service.ledger import Ledger
from service.outcome import Outcome
from service.settings import Settings
from service.tracking.outbox import Outbox
from service.tracking.readback import read_sweep
from service.worker import Job, Message, run_trial
from tests.service.sweeps import final_metrics
from trainer.record import Record

Handed = tuple[str, int, int]
"""Cell, seed and images until which a job trains."""


class Killed(BaseException):
    """The driver's process is no more."""


class _Stopped(BaseException):
    """Tune ends a trial at a report in this way."""


class ByHand:
    """One run of what a dispatch wants, one trial at a time, in this process."""

    dispatch: Dispatch
    ledger: Ledger
    outbox: Outbox

    def work(self, messages: int | None = None, heard: bool = True) -> Iterator[Job]:
        """Do what is wanted; the driver is killed at so many messages, before or after it heard the last."""
        self.ledger.open()
        while (job := self.dispatch.next()) is not None:
            yield job
            self.dispatch.started(job.key)
            try:
                messages = self._train(job, messages, heard)
            except _Stopped:
                messages = messages and messages - 1
            self.dispatch.released(job.key, "it ended without a result")
        assert self.dispatch.is_over

    def _train(self, job: Job, messages: int | None, heard: bool) -> int | None:
        def send(message: Message) -> None:
            nonlocal messages
            messages = messages and messages - 1
            if messages == 0 and not heard:
                raise Killed
            is_stopped = self.dispatch.take(job.key, dict(message))
            if messages == 0:
                raise Killed
            if is_stopped:
                raise _Stopped

        run_trial(job, send)
        return messages

    def close(self) -> Outcome:
        outcome = self.ledger.close()
        self.outbox.close()
        return outcome


class Driver(ByHand):
    """One run of an experiment, one trial at a time, in this process."""

    def __init__(self, experiment: Experiment, home: Path) -> None:
        self.settings = Settings(home=home, tracking_uri=None)
        self.events: list[progress.Event] = []
        self.outbox = Outbox(home / "outbox.db")
        self.ledger = Ledger(experiment, self.settings, self.outbox, self.events.append)
        self.dispatch = Dispatch(experiment, self.settings, self.ledger, threading.Event())
        self._of_key = {trial.key: (trial.cell, trial.seed) for trial in experiment.trials}

    def jobs(self, messages: int | None = None, heard: bool = True) -> Iterator[Handed]:
        """Do what is wanted, and say what was handed out."""
        for job in self.work(messages, heard):
            yield (*self._of_key[job.key], job.until_images)


def killed_at_every_event(experiment: Experiment, home: Path, heard: bool) -> list[Handed]:
    """What drivers hand out, each of which is killed at its first event; repeats by the next one left out."""
    handed: list[Handed] = []
    while True:
        driver = Driver(experiment, home)
        try:
            handed += driver.jobs(messages=1, heard=heard)
        except Killed:
            continue
        finally:
            driver.outbox.close()
        return [work for work, _ in groupby(handed)]  # the job in hand is handed out again


def undisturbed(experiment: Experiment, home: Path) -> dict[str, dict[str, float]]:
    """The final metrics of a run to which nothing happens."""
    driver = Driver(experiment, home)
    list(driver.work())
    driver.close()
    return final_metrics(home)


def delivered(home: Path, metric: str) -> list[tuple[str, int, float]]:
    """The same of what MLflow was told of the toy."""
    told = read_sweep(Settings(home=home, tracking_uri=None), "toy").curves
    return sorted(
        (point["trial_key"], point["images"], point["value"])
        for point in told
        if point["metric"] == metric
    )


def recorded(home: Path, metric: str) -> list[tuple[str, int, float]]:
    """Key, images and value of every report that has the metric, in order."""
    return sorted(
        (trial.name, report.images, report.metrics[metric])
        for trial in (home / "trials").iterdir()
        for report in Record(trial).reports()
        if metric in report.metrics
    )
