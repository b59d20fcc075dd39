"""Which trial starts next, which one stops, and when is a run over? The agenda, the ledger and the trials at work.

Ray's side (`service.cluster.tuning`) asks and tells; nothing here knows it.
"""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.agenda import Agenda, WorkSource
from service.causes import is_out_of_room
from service.watchdog import Watchdog
from service.worker import Job
from trainer.record import Record
from trainer.report import Failure

if TYPE_CHECKING:
    from service.experiment import Experiment, PlannedTrial
    from service.ledger import Ledger
    from service.resources import Resources
    from service.settings import Settings

Grant = Callable[["PlannedTrial", bool], "Resources | None"]
"""What a trial gets now, if it has room; is told whether it is the most urgent one."""


class Dispatch:
    """One run of an experiment: hands out jobs and takes in what becomes of them."""

    def __init__(
        self,
        experiment: Experiment,
        settings: Settings,
        ledger: Ledger,
        stop: threading.Event,
        wants: Callable[[Experiment, Settings, str], WorkSource] = Agenda,
    ) -> None:
        """`wants` makes what says which work is wanted, given the name of this run of the driver."""
        self.attempt = uuid.uuid4().hex
        self.agenda = wants(experiment, settings, self.attempt)
        self._settings, self._data_root = settings, experiment.data_root
        self._is_elastic = any(cell.asked.is_elastic for cell in experiment.cells)
        self._sets_threads = len({one.threads for one in experiment.shapes}) > 1
        self._ledger, self._stop = ledger, stop
        self._until: dict[str, int] = {}
        self._names: dict[str, str] = {}
        self._occupied: dict[str, Resources] = {}
        self._choices: dict[str, tuple[Resources, ...]] = {}
        self._watchdog = Watchdog(ledger.note, settings.silence_s)
        self._tell()

    @property
    def at_work(self) -> int:
        """How many jobs were handed out and have not come back."""
        return len(self._until)

    @property
    def is_over(self) -> bool:
        """Whether nothing will be handed out any more."""
        if self.at_work and (self._is_elastic or not self.agenda.foreseen):
            return False  # a job may come back
        return self.agenda.next(self._until) is None

    def next(self, grant: Grant | None = None) -> Job | None:
        """The most urgent job, of those that are granted something; None if there is none for now.

        `grant` is asked for one after the other, the most urgent first.
        """
        if self._stop.is_set():
            return None
        for place, (trial, until) in enumerate(self.agenda.ahead(self._until)):
            given = trial.resources if grant is None else grant(trial, place == 0)
            if given is not None:
                return self._handed_out(trial, until, given)
        return None

    @property
    def waiting(self) -> int:
        """How many jobs are known that may be handed out."""
        return sum(1 for _ in self.agenda.ahead(self._until))

    def choices(self, key: str) -> tuple[Resources, ...]:
        """What a trial that was handed out may be given, the least first."""
        return self._choices[key]

    def withdrawn(self, key: str) -> None:
        """A job that had no room any more came back: it is handed out again, with less."""
        del self._until[key]
        self._watchdog.ended(key)

    def occupied(self, key: str) -> Resources:
        """What a trial occupies that was handed out."""
        return self._occupied[key]

    def _handed_out(self, trial: PlannedTrial, until: int, given: Resources) -> Job:
        before = self._occupied.get(trial.key)
        if before is not None and before.workers != given.workers:
            count = f"{given.workers} worker{'' if given.workers == 1 else 's'}"
            name = f"{trial.cell} seed {trial.seed}"
            self.note(f"{name}: goes on with {count} instead of {before.workers}: so many fit now")
        self._until[trial.key] = until
        self._names[trial.key] = f"{trial.cell} seed {trial.seed}"
        self._occupied[trial.key], self._choices[trial.key] = given, trial.choices
        return Job(
            key=trial.key,
            trial=trial.spec.model_dump_json(),
            directory=str(self._settings.trial(trial.key)),
            cache=str(self._settings.cache),
            data_root=str(self._data_root),
            attempt=self.attempt,
            until_images=until,
            on_oom=given.on_oom,
            threads=given.threads if self._sets_threads else 0,
            remote=self._settings.remote or "",
            private=self._settings.private,
        )

    def started(self, key: str, process: str = "") -> None:
        """A trial got its resources, in a process that may have a name; after its loss it starts again."""
        record = Record(self._settings.trial(key))
        failure = record.failure()
        if failure is not None and failure.attempt != self.attempt:
            record.clear_failure()
        self._ledger.started(key)
        self._watchdog.started(key, self._names[key], record.directory, process)

    def lost(self, keys: Sequence[str], why: str) -> None:
        """The process of some trials is gone, and another one goes on."""
        name, others = self._names[keys[0]], len(keys) - 1
        who = name if not others else f"{name} and {others} that share its process"
        self.note(f"{who}: {why}; another process goes on")

    def note(self, text: str) -> None:
        """Tell the person one line."""
        self._ledger.note(text)

    def hopeless(self) -> list[str]:
        """Trials that have given no sign of life for so long that their process should be killed now."""
        return self._watchdog.look()

    @contextlib.contextmanager
    def _room(self) -> Iterator[None]:
        """What is written down here takes room; where there is none, the run ends, and loses nothing."""
        try:
            yield
        except OSError as error:
            if not is_out_of_room(error):
                raise
            self._end_for_room(error.strerror or str(error))

    def _end_for_room(self, why: str) -> None:
        if not self._stop.is_set():
            self._stop.set()
            home = self._settings.home
            self._ledger.note(
                f"{home}: {why}: this run ends; make room, then the same command continues"
            )

    def take(self, key: str, message: dict[str, Any]) -> bool:
        """Take a message of a trial's worker; returns whether the trial is to stop here."""
        with self._room():
            return self._take(key, message)
        return False

    def _take(self, key: str, message: dict[str, Any]) -> bool:
        is_report = message["event"] == "reported"
        if message["event"] == "left":
            kimg = message["images"] / 1000
            self.note(
                f"{self._names[key]}: its machine is about to go: continues elsewhere from {kimg:g} kimg"
            )
            self._watchdog.ended(key)
            return False
        if note := message.get("note"):
            self._ledger.note(note)
        if message["event"] == "failed":
            log = self._keep_failure(key, message["reason"], message["text"])
            message = message | {"log": log}
        self._ledger.take(key, message)
        if message["event"] == "paused":
            self.agenda.paused(key, message["images"])
        self._refresh(key)
        reports = self.agenda.standing(key).reports if is_report else ()
        self._watchdog.heard(key, reports[-1].metrics.get("sys/eval_s") if reports else None)
        if not is_report or not self._goes_on(key):
            return False
        is_unwanted = not self.agenda.wants_more(key)
        if is_unwanted:
            self._ledger.paused(key)
        return is_unwanted

    def released(self, key: str, problem: str, log: str | None = None) -> None:
        """A trial gave its resources back; `problem` is what to say if it did not say itself how it ended.

        `log` is Ray's own of what happened to it.
        """
        del self._until[key]
        self._watchdog.ended(key)
        if not self._stop.is_set() and not self._ledger.is_settled(key):
            with self._room():
                kept = self._keep_failure(key, problem, _tail(log))
                self._ledger.failed(key, problem, kept)
                self._refresh(key)
        self._ledger.released(key)

    def _refresh(self, key: str) -> None:
        self.agenda.refresh(key)
        self._tell()

    def _tell(self) -> None:
        """What the records decide: stops to the records themselves, all of it to the ledger."""
        while (
            unwritten := self.agenda.unwritten_stops()
        ):  # what is stopped may open seeds to others
            for key, stop in unwritten:
                Record(self._settings.trial(key)).write_stop(stop)
                self.agenda.refresh(key)
        self._ledger.stopped(self.agenda.stops())
        if self.agenda.has_looks:
            self._ledger.looked(self.agenda.states())
        self._ledger.budget(self.agenda.budget_note() if self.agenda.is_spent else None)

    def _goes_on(self, key: str) -> bool:
        """Whether the worker trains on unless it is stopped. Its record may be ahead of its messages."""
        standing = self.agenda.standing(key)
        return not standing.status.is_over and standing.images < self._until[key]

    def _keep_failure(self, key: str, reason: str, text: str) -> str | None:
        """What broke in this run stays known in the record here, wherever the worker's disk is: its log."""
        record = Record(self._settings.trial(key))
        failure = record.failure()
        if failure is None or failure.attempt != self.attempt:
            failure = record.write_failure(Failure(reason, self.attempt), text)
            if failure.log is None:  # it would be tried again and again
                self._end_for_room("nothing can be written")
        return failure.log


def _tail(log: str | None, most: int = 20_000) -> str:
    """The end of what Ray wrote of a failure, if it did."""
    try:
        return Path(log).read_text(errors="replace")[-most:] if log is not None else ""
    except OSError:
        return ""
