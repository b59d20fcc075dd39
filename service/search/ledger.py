"""What does the driver write down while candidates are tuned? Runs that nobody knew of when it began.

In MLflow they stand below a run of their own, `NAME tuning`, with the tag `search: tuning`, and are never
averaged into the cells that are compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from service import progress
from service.cell_runs import CellRuns, Entry
from service.clock import unix
from service.ledger import Ledger
from service.search.candidates import Candidate
from service.search.objective import shown
from service.search.standing import sentence, tuning
from service.search.study import Study
from service.tracking.announce import announce_sweep, announce_trial, flat_params
from service.tracking.keys import SEARCH, TUNING, trial_run_key
from service.tracking.outbox import Outbox
from service.tracking.rows import RunHeader
from trainer.report import Report, Result, Status

if TYPE_CHECKING:
    from service.experiment import Experiment, PlannedTrial
    from service.settings import Settings

OBJECTIVE, BEST = "search/objective", "search/best"
"""A candidate's number, and the best one so far by how many there were."""


class StudyRuns(CellRuns):
    """The runs of searches: in place of means over seeds, each candidate's number and the best one so far."""

    def __init__(
        self,
        outbox: Outbox,
        studies: Sequence[Study],
        say: Callable[[str], None],
        now: Callable[[], int],
    ) -> None:
        super().__init__(outbox, {study.id: run_of(study) for study in studies})
        self._studies, self._say, self._now = studies, say, now
        self._told = {study.id: len(study.values()) for study in studies}
        self._written: dict[str, set[int]] = {study.id: set() for study in studies}
        self._of_key: dict[str, str] = {}

    def add(self, entry: Entry) -> None:
        """A candidate's trial."""
        self._of_key[entry.trial.key] = entry.run

    def run_of(self, entry: Entry) -> str:
        """The run of the search that a candidate's trial belongs to."""
        key = entry.trial.key
        return next(self.keys[study.id] for study in self._studies if key in study.trial_keys())

    def average(self, cells: Iterable[str], report: Report | None = None) -> None:
        """What is known of candidates and was not before, whichever has reported."""
        for study in self._studies:
            values = study.values()
            fresh = values.keys() - self._written[study.id]
            if not fresh:
                continue
            for number in fresh:
                if self._write(study.candidates[number].trial_keys(), shown(values[number])):
                    self._written[study.id].add(number)
            scores = study.scores()
            best = min(scores, key=lambda number: (scores[number], number))
            if math.isfinite(shown(values[best])):
                point = (BEST, len(values), self._now(), shown(values[best]))
                self._outbox.metrics(self.keys[study.id], [point])
            if len(values) > self._told[study.id]:
                self._told[study.id] = len(values)
                self._say(sentence(tuning(study)))

    def _write(self, keys: Sequence[str], number: float) -> bool:
        """A candidate's number, to the runs of its trials; False where one of them is not known yet."""
        if not math.isfinite(number):
            return True
        runs = [self._of_key[key] for key in keys if key in self._of_key]
        for run in runs:
            self._outbox.metrics(run, [(OBJECTIVE, 0, self._now(), number)])
        return len(runs) == len(keys)

    def ended(self, entry: Entry, metrics: Mapping[str, float]) -> None:
        """Nothing: a search has no mean."""

    def end(self, now: int) -> None:
        """How each search stands, and which of its candidates has won."""
        for study in self._studies:
            ended = Status.FINISHED if study.is_over else Status.STOPPED
            self._outbox.status(self.keys[study.id], ended, now)
            if (winner := study.winner) is None:
                continue
            for candidate in study.candidates:
                is_winner = "true" if candidate is winner else "false"
                for key in candidate.trial_keys():
                    if key in self._of_key:
                        self._outbox.tag(self._of_key[key], {"search.winner": is_winner})


class TuningLedger(Ledger):
    """The state of the searches of one run. Trials are added as they are asked."""

    def __init__(
        self,
        experiment: Experiment,
        studies: Sequence[Study],
        settings: Settings,
        outbox: Outbox,
        emit: Callable[[progress.Event], None],
        clock: Callable[[], float] = unix,
    ) -> None:
        nothing = replace(experiment, cells=(), written=(), saved_trials=())
        super().__init__(nothing, settings, outbox, emit, clock)
        self._whole, self._studies = experiment, studies
        self._cells = StudyRuns(outbox, studies, self.note, self._now_ms)
        self._owners: dict[str, tuple[Study, Candidate]] = {}

    def expect(self, study: Study, candidate: Candidate, trial: PlannedTrial) -> None:
        """A trial will be handed out; it may have been begun before."""
        entry = Entry(trial, trial_run_key(trial.key))
        self._entries[trial.key] = [entry]
        self._cells.add(entry)
        self._owners[trial.key] = (study, candidate)
        if self.is_open:
            self._begin(trial.key)

    def open(self, trains: bool = True) -> list[PlannedTrial]:
        """Announce the searches and what was asked so far; returns the trials without a result."""
        self.is_open = True
        sweep = announce_sweep(self._outbox, self._whole)
        params = flat_params(self._whole.resolved()["search"])
        for study in self._studies:
            tags = {SEARCH: TUNING, "cell": study.cell or ""}
            name = f"{study.cell} {TUNING}" if study.cell is not None else TUNING
            header = RunHeader(run_of(study), "cell", name, sweep, params, tags)
            self._outbox.open_run(header)
        waiting = [key for key in list(self._entries) if self._begin(key)]
        self._outbox.begin(sweep, self._now_ms())
        if trains:
            self._outbox.tag(sweep, self._commit)
            for run in (sweep, *(run_of(study) for study in self._studies if not study.is_over)):
                self._outbox.begin(run, self._now_ms())
                self._outbox.status(run, Status.RUNNING)
        self._cells.average(())
        return [self._entries[key][0].trial for key in waiting]

    def _begin(self, key: str) -> bool:
        """Announce one trial's run; whether it has no result yet."""
        entries, (study, candidate) = self._entries[key], self._owners[key]
        tags = {SEARCH: TUNING, "candidate": str(candidate.number)}
        params = {path: str(value) for path, value in candidate.params.items()}
        trial, run = entries[0].trial, entries[0].run
        announce_trial(self._outbox, trial, run, run_of(study), params, tags)
        record = self._record(key)
        result = self._take_in(entries, record)
        if result is None and study.has_ended(key):
            entries[0].status = Status.STOPPED if record.failure() is None else Status.FAILED
        return result is None

    def _tell_pause(self, entry: Entry, last: Report | None) -> None:
        """A candidate is done where candidates are compared, which may be before a trial's end."""
        trial = entry.trial
        if not self._owners[trial.key][0].has_ended(trial.key):
            super()._tell_pause(entry, last)
            return
        self.outcome.tuned += 1
        metrics = dict(last.metrics) if last is not None else {}
        seconds = 0.0 if entry.started is None else self._clock() - entry.started
        self._emit(progress.TrialFinished(trial.cell, trial.seed, trial.key, metrics, seconds))

    def _tell_end(self, entry: Entry, result: Result, reused: bool) -> None:
        """A candidate that diverged is an answer like another; what was known before is not told again."""
        trial = entry.trial
        if reused:
            return
        self.outcome.tuned += 1
        seconds = result.seconds + result.eval_seconds
        if entry.status is Status.DIVERGED:
            reason = result.reason or "diverged"
            self._emit(progress.TrialFailed(trial.cell, trial.seed, trial.key, reason))
        else:
            metrics = dict(result.metrics)
            self._emit(
                progress.TrialFinished(trial.cell, trial.seed, trial.key, metrics, seconds, reused)
            )


def run_of(study: Study) -> str:
    """The key of a search's run."""
    return f"tuning:{study.id}"
