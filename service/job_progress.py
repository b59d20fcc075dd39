"""How far is a job, as anybody can see who sees its log? The driver says it there, in a line that reads back.

A submitter may see neither the home's storage nor the tracking server; the log of a job it gets from Ray alone.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TextIO

from dashboards.text import duration
from service.progress import (
    Event,
    TrialFailed,
    TrialFinished,
    TrialReported,
    TrialStarted,
    TrialStopped,
)
from service.settings import inside_ray_job
from trainer.report import Status

if TYPE_CHECKING:
    from service.experiment import Experiment
    from service.settings import Settings

_EVERY_S = 60.0
"""How often what is left is said again while no trial starts or ends."""
_LINE = re.compile(
    r"^(?P<experiment>.+): (?P<done>\d+) of (?P<total>\d+) trials done"
    r"(?:, (?P<running>\d+) running)?(?:, (?P<failed>\d+) failed)?(?:, about (?P<left>[\w ]+) left)?$"
)
_UNITS = {"h": 3600.0, "min": 60.0, "s": 1.0}


@dataclass(frozen=True)
class JobProgress:
    """How many trials of an experiment are where."""

    experiment: str
    done: int
    """With a result."""
    running: int
    failed: int
    """Without a number: diverged or broken."""
    total: int
    """As many as are wanted now: seeds until cells are decided, and candidates of a search, come on top."""
    left_s: float | None = None
    """Seconds until all are done, by the speed so far; None while that is not known."""

    def counts(self) -> str:
        """`3 of 12 done, 2 running, 1 failed`."""
        return self._text("done")

    def line(self) -> str:
        """Inverse of `read`: `toy: 3 of 12 trials done, 2 running, about 4 min 05 s left`."""
        left = "" if self.left_s is None else f", about {duration(self.left_s)} left"
        return f"{self.experiment}: {self._text('trials done')}{left}"

    def _text(self, done: str) -> str:
        running = f", {self.running} running" if self.running else ""
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.done} of {self.total} {done}{running}{failed}"

    @classmethod
    def read(cls, log: str) -> JobProgress | None:
        """The last such line of a job's log; None where there is none yet."""
        for line in reversed(log.splitlines()):
            if found := _LINE.match(line.strip()):
                counts = {name: int(found[name] or 0) for name in _COUNTS}
                return cls(found["experiment"], **counts, left_s=_seconds(found["left"]))
        return None


_COUNTS = ("done", "running", "failed", "total")


def _seconds(text: str | None) -> float | None:
    """Inverse of `duration`."""
    if text is None:
        return None
    return sum(_UNITS[unit] * int(n) for n, unit in re.findall(r"(\d+) (h|min|s)\b", text))


@dataclass(frozen=True)
class _Trial:
    kimg: float = 0.0
    begun: float = 0.0
    """Where this run took it up."""
    total: float = 0.0
    state: str = "waiting"


class Tally:
    """Counts trials from the events of a run; `progress` may be asked from any thread."""

    def __init__(
        self,
        experiment: str,
        planned: Iterable[tuple[str, float]],
        least: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`planned` are the keys of trials with their kimg; others are added as they start, `least` will be in all."""
        self._name, self._least, self._clock, self._begun = experiment, least, clock, clock()
        self._trials = {key: _Trial(total=kimg) for key, kimg in planned}

    def __call__(self, event: Event) -> None:
        """Take one event."""
        if not isinstance(
            event, TrialStarted | TrialReported | TrialStopped | TrialFinished | TrialFailed
        ):
            return
        trial = self._trials.get(event.key, _Trial())
        if isinstance(event, TrialStarted):
            at, total = event.start_kimg, event.total_kimg
            trial = _Trial(at, at, total, "running")
        elif isinstance(event, TrialReported):
            trial = replace(trial, kimg=event.kimg, total=event.total_kimg, state="running")
        elif isinstance(event, TrialStopped):
            state = "stopped" if event.reason else "waiting"
            trial = replace(trial, kimg=event.kimg, total=event.total_kimg, state=state)
        elif isinstance(event, TrialFinished):
            begun = trial.total if event.reused else trial.begun
            trial = replace(trial, kimg=trial.total, begun=begun, state="done")
        else:
            trial = replace(trial, state="failed")
        self._trials[event.key] = trial

    def progress(self) -> JobProgress:
        """How far they are now. A cell that was stopped for good wants none of its trials any more."""
        wanted = [trial for trial in list(self._trials.values()) if trial.state != "stopped"]
        of = {
            state: sum(t.state == state for t in wanted) for state in ("done", "running", "failed")
        }
        total = max(len(wanted), self._least)
        return JobProgress(self._name, **of, total=total, left_s=self._left(wanted))

    def _left(self, wanted: list[_Trial]) -> float | None:
        gained = sum(trial.kimg - trial.begun for trial in self._trials.values())
        ahead = sum(t.total - t.kimg for t in wanted if t.state in ("waiting", "running"))
        if wanted:  # those to come are as long as these
            unknown = max(0, self._least - len(wanted))
            ahead += unknown * sum(trial.total for trial in wanted) / len(wanted)
        spent = self._clock() - self._begun
        return ahead * spent / gained if gained > 0 and ahead > 0 and spent > 0 else None


def tally(experiment: Experiment) -> Tally:
    """Of the trials that an experiment begins with; cells that share a trial count it once.

    While something is searched, of the candidates.
    """
    search, cells = experiment.spec.search, experiment.cells
    if search is not None and not all(experiment.is_tuned(cell.name) for cell in cells):
        return Tally(experiment.name, (), least=search.trials * len(cells) * search.seeds)
    first = experiment.seeds[: experiment.looks[0]]
    trials = [trial for trial in experiment.trials if trial.seed in first]
    return Tally(experiment.name, [(t.key, t.spec.total_images() / 1000) for t in trials])


def counted(experiment: Experiment, settings: Settings) -> JobProgress:
    """From the records and pulses of the trials that are wanted, whoever trains them."""
    from service.agenda import Agenda
    from service.search.study import tuned
    from service.standing import of, trial_standing

    agenda = Agenda(tuned(experiment, settings), settings, attempt=None)
    stopped = agenda.stops()
    wanted = {t.key: t for t in agenda.open_trials() if t.cell not in stopped}.values()
    found = of([trial_standing(t.cell, t.seed, settings.trial(t.key)) for t in wanted])
    done = sum(one.status is Status.FINISHED for one in found.trials)
    left = found.eta_s if found.running else None
    broken = found.done - done + found.failed
    return JobProgress(experiment.name, done, found.running, broken, found.total, left)


def published(
    experiment: Experiment,
    on_event: Callable[[Event], None],
    out: TextIO | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Callable[[Event], None]:
    """`on_event`, which inside a Ray job also says in the job's log how far the experiment is."""
    if not inside_ray_job():
        return on_event
    counting, said, at = tally(experiment), "", clock()

    def take(event: Event) -> None:
        nonlocal said, at
        on_event(event)
        counting(event)
        now = counting.progress()
        if now.counts() != said or clock() - at >= _EVERY_S:
            said, at = now.counts(), clock()
            print(now.line(), file=out or sys.stderr, flush=True)

    return take
