"""What does the driver write down while the trials run?

Each message of a trial goes to the outbox (for MLflow), to the progress events (for the person) and
into the outcome (for the exit code). Nothing here knows Ray.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from service import progress
from service.cell_runs import CellRuns, Entry, began_s
from service.clock import unix
from service.outcome import Failure, Outcome
from service.tracking.announce import announce, cell_runs, commit, result_tags, trial_runs
from service.tracking.keys import EVALUATION_S, TRAINING_S, sweep_key
from service.tracking.outbox import Outbox
from trainer.record import Record
from trainer.report import Report, Result, Status, Stop

if TYPE_CHECKING:
    from service.experiment import Experiment, PlannedTrial
    from service.looks import CellState
    from service.settings import Settings


class Ledger:
    """The state of one run of an experiment."""

    def __init__(
        self,
        experiment: Experiment,
        settings: Settings,
        outbox: Outbox,
        emit: Callable[[progress.Event], None],
        clock: Callable[[], float] = unix,
    ) -> None:
        self.outcome = Outcome(experiment.name)
        self.is_open = False
        self._experiment, self._settings, self._outbox = experiment, settings, outbox
        self._emit, self._clock, self._begun = emit, clock, clock()
        self._held: list[float] = []
        self._entries: dict[str, list[Entry]] = {}
        self._commit = commit()
        self._cells = CellRuns(outbox, cell_runs(experiment))
        self._said: dict[str, str] = {}
        self._announced: set[str] = set()
        self._poured: dict[str, set[int]] = {}
        for trial, run in trial_runs(experiment):
            entry = Entry(trial, run)
            self._entries.setdefault(trial.key, []).append(entry)
            self._cells.add(entry)

    def open(self, trains: bool = True) -> list[PlannedTrial]:
        """Announce every run, take in what is finished already, and return the trials without a result.

        `trains` says whether this run will add to them: otherwise the runs keep their commit and times.
        """
        self.is_open = True
        waiting = []
        self._announce(e for entries in self._entries.values() for e in entries)
        for key, entries in self._entries.items():
            record = self._record(key)
            result = self._take_in(entries, record)
            if result is None and any(self._cells.is_open(entry) for entry in entries):
                waiting.append(entries[0].trial)
        sweep = sweep_key(self._experiment.name)
        self._outbox.begin(sweep, self._now_ms())
        if waiting and trains:
            self._outbox.tag(sweep, self._commit)
            self._outbox.status(sweep, Status.RUNNING)
        for cell, reason in self.outcome.stopped.items():
            self._stop(cell, reason)
        self._cells.average(self._cells.keys)
        return waiting

    def _announce(self, entries: Iterable[Entry]) -> None:
        """Open the runs of those that are worth showing; repeating it changes nothing."""
        if fresh := [e for e in entries if e.run not in self._announced and self._is_shown(e)]:
            trials = [(entry.trial, entry.run) for entry in fresh]
            announce(self._outbox, self._experiment, trials, self._cells.keys)
            self._announced.update(entry.run for entry in fresh)

    def _is_shown(self, entry: Entry) -> bool:
        record = self._record(entry.trial.key)
        return self._cells.is_open(entry) or record.status() is not Status.WAITING

    def looked(self, states: Mapping[str, CellState]) -> None:
        """How far the evidence on the cells is, where seeds are given until they are decided."""
        self._cells.looked(states)
        if self.is_open:
            self._announce(e for entries in self._entries.values() for e in entries)
        base = self._experiment.baseline
        said = {cell: state.text() for cell, state in states.items() if cell != base}
        if said != self._said:
            self._said = said
            self._emit(progress.SweepEvidence(said))

    def stopped(self, stops: Mapping[str, Stop]) -> None:
        """Cells that the policy ended for good; their running trials stop at their next report."""
        fresh = {c: stop.reason for c, stop in stops.items() if c not in self.outcome.stopped}
        self.outcome.stopped |= fresh
        for cell, reason in fresh.items() if self.is_open else ():
            self._stop(cell, reason)

    def _stop(self, cell: str, reason: str) -> None:
        self._cells.stop(cell, reason, self._announced, self._now_ms())
        self._emit(progress.CellStopped(cell, reason))

    def budget(self, note: str | None) -> None:
        """That the budget is spent, or that it is not."""
        if note is not None and self.outcome.budget is None:
            self.note(note)
        self.outcome.budget = note

    def note(self, text: str) -> None:
        """Tell the person one line."""
        self._emit(progress.SweepNote(text))

    def started(self, key: str) -> None:
        """A trial got its resources."""
        reports = self._pour(key)
        self._begin_at(self._entries[key], self._clock())
        for entry in self._entries[key]:
            self._outbox.status(self._cells.run_of(entry), Status.RUNNING)
            entry.status, entry.started = Status.RUNNING, self._clock()
            entry.resumed = bool(reports)
            self._outbox.tag(entry.run, self._commit)
            self._outbox.status(entry.run, Status.RUNNING)
            trial = entry.trial
            known = max([self._record(key).images(), *(one.images for one in reports)])
            total = trial.spec.total_images() / 1000
            self._emit(progress.TrialStarted(trial.cell, trial.seed, key, total, known / 1000))

    def take(self, key: str, message: dict[str, Any]) -> None:
        """Take one message of a worker (see `service.worker`)."""
        if message["event"] == "reported":
            png = message.get("png")
            report = Report.from_json(message["report"])
            self._report(key, report, base64.b64decode(png) if png else None)
        elif message["event"] == "ended":
            self._ended(key, Result(**message["result"]))
        elif message["event"] == "paused":
            self.paused(key)
        else:
            self.failed(key, message["reason"], message.get("log"))

    def _report(self, key: str, report: Report, png: bytes | None) -> None:
        entries = self._entries[key]
        self._ingest(key, report, png)
        self._record(key).accept_report(report)  # a copy here, if the worker's disk is another one
        for note in report.notes:
            self.note(f"{entries[0].trial.cell} seed {entries[0].trial.seed}: {note}")
        for trial in (entry.trial for entry in entries):
            total = trial.spec.total_images() / 1000
            metrics = dict(report.metrics)
            told = (trial.cell, trial.seed, key, report.kimg, total, metrics)
            self._emit(progress.TrialReported(*told))
        self._cells.average((entry.trial.cell for entry in entries), report)

    def _ended(self, key: str, result: Result) -> None:
        entries = self._entries[key]
        self._record(key).accept_result(result)
        self._pour(key)  # what a worker wrote that died before it could tell
        self._cells.average(entry.trial.cell for entry in entries)
        if not entries[0].resumed:
            entries[0].work_s = result.seconds + result.eval_seconds
            first = result.started_s - self._begun
            self.outcome.first_step_s = min(self.outcome.first_step_s or first, first)
        self._end(entries, result, reused=False)

    def paused(self, key: str) -> None:
        """A trial stopped on the way, as it was asked to; it keeps its checkpoint."""
        reports = self._pour(key)  # also what it reported after the one at which it was stopped
        self._cells.average(entry.trial.cell for entry in self._entries[key])
        for entry in self._entries[key]:
            entry.status, entry.ended_ms = Status.STOPPED, self._now_ms()
            self._outbox.status(entry.run, Status.STOPPED, entry.ended_ms)
            self._tell_pause(entry, reports[-1] if reports else None)

    def _tell_pause(self, entry: Entry, last: Report | None) -> None:
        trial, why = entry.trial, self.outcome.stopped.get(entry.trial.cell, "")
        kimg, total = last.kimg if last else 0.0, trial.spec.total_images() / 1000
        self._emit(progress.TrialStopped(trial.cell, trial.seed, trial.key, kimg, total, why))

    def released(self, key: str) -> None:
        """A trial gave its resources back."""
        entry = self._entries[key][0]
        if entry.work_s is not None and entry.started is not None:
            self._held.append(self._clock() - entry.started - entry.work_s)

    def failed(self, key: str, reason: str, log: str | None = None) -> None:
        """A trial broke; the sweep goes on without it."""
        self._pour(key)
        self._begin_at(self._entries[key], self._clock())  # where it never got its resources
        for entry in self._entries[key]:
            if entry.status is Status.FAILED:
                continue
            entry.status, entry.ended_ms = Status.FAILED, self._now_ms()
            trial = entry.trial
            self.outcome.failed.append(Failure(trial.cell, trial.seed, key, reason, log))
            self._outbox.tag(entry.run, {"reason": reason[:500]})
            self._outbox.status(entry.run, Status.FAILED, entry.ended_ms)
            self._emit(progress.TrialFailed(trial.cell, trial.seed, key, reason))

    def is_settled(self, key: str) -> bool:
        """Whether the trial has told how it ended, or that it paused."""
        return self._entries[key][0].status not in (Status.WAITING, Status.RUNNING)

    def close(self, interrupted: bool = False) -> Outcome:
        """Write the ending of everything that has none, and return the outcome."""
        now = self._now_ms()
        for key, entries in self._entries.items():
            for entry in (entry for entry in entries if entry.status is Status.RUNNING):
                self._pour(key)  # what it wrote when nobody listened any more
                entry.ended_ms = now
                self._outbox.status(entry.run, Status.STOPPED, now)
        self._cells.average(self._cells.keys)
        self._cells.end(now)
        ended = Status.FAILED if self.outcome.failed else Status.FINISHED
        status = Status.STOPPED if interrupted else ended
        every = [entry for entries in self._entries.values() for entry in entries]
        if all(entry.started is None for entry in every):  # nothing was left to do
            now = max((e.ended_ms for e in every if e.ended_ms is not None), default=now)
        self._outbox.status(sweep_key(self._experiment.name), status, now)
        self.outcome.interrupted = interrupted
        self.outcome.ended_early = sum(
            entry.trial.cell in self.outcome.stopped and entry.ended_early for entry in every
        )
        self.outcome.seconds = self._clock() - self._begun
        if self._held:
            self.outcome.overhead_s = sum(self._held) / len(self._held)
        return self.outcome

    def _ingest(self, key: str, report: Report, png: bytes | None) -> None:
        self._poured.setdefault(key, set()).add(report.images)
        for entry in self._entries[key]:
            self._outbox.ingest(entry.run, report, png)

    def _pour(self, key: str) -> list[Report]:
        """Hand over whatever a record says that nobody was told in this run; returns all of its reports."""
        record, known = self._record(key), self._poured.get(key, ())
        reports = record.reports()
        for report in reports:
            if report.images not in known:
                self._ingest(key, report, record.sample(report))
        return reports

    def _take_in(self, entries: list[Entry], record: Record) -> Result | None:
        """What the record of a trial knew before this run; returns its result."""
        reports, result = self._pour(entries[0].trial.key), record.result()
        if result is not None:
            self._end(entries, result, reused=True)
        elif reports:
            self._begin_at(entries, began_s(reports[0]))
        return result

    def _begin_at(self, entries: list[Entry], began_s: float) -> None:
        """These began then: they, their cells and the sweep, of which the earliest counts."""
        self._outbox.begin(sweep_key(self._experiment.name), int(began_s * 1000))
        for entry in entries:
            self._cells.begin(entry, int(began_s * 1000))

    def _end(self, entries: list[Entry], result: Result, reused: bool) -> None:
        self._begin_at(entries, result.started_s)
        tags = result_tags(result, self._experiment.metric)
        for entry in entries:
            trial, run = entry.trial, entry.run
            last = self._record(trial.key).reports()
            ended = int(last[-1].time_s * 1000) if last else self._now_ms()
            totals = {TRAINING_S: result.seconds, EVALUATION_S: result.eval_seconds}
            points = [(name, result.images, ended, value) for name, value in totals.items()]
            self._outbox.metrics(run, points)
            self._outbox.tag(run, tags)
            entry.status, entry.ended_ms = Status(result.status), ended
            self._outbox.status(run, entry.status, ended)
            self._cells.ended(entry, result.metrics)
            self._tell_end(entry, result, reused)

    def _tell_end(self, entry: Entry, result: Result, reused: bool) -> None:
        trial = entry.trial
        if entry.status is Status.DIVERGED:
            reason = result.reason or "diverged"
            self.outcome.diverged.append(Failure(trial.cell, trial.seed, trial.key, reason))
            self._emit(progress.TrialFailed(trial.cell, trial.seed, trial.key, reason))
            return
        self.outcome.skipped += reused
        self.outcome.finished += not reused
        seconds = result.seconds + result.eval_seconds
        metrics = dict(result.metrics)
        told = (trial.cell, trial.seed, trial.key, metrics, seconds, reused)
        self._emit(progress.TrialFinished(*told))

    def _record(self, key: str) -> Record:
        return Record(self._settings.trial(key))

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)
