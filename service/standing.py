"""How far is an experiment, and when will it be done? Pure functions of the records and pulses of its trials."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dashboards.text import duration
from trainer.pulse import Pulse, pulse
from trainer.record import Record
from trainer.report import Status

if TYPE_CHECKING:
    from service.experiment import Experiment


@dataclass(frozen=True)
class TrialStanding:
    """One trial at one moment."""

    cell: str
    seed: int
    status: Status
    share: float = 0.0
    """Of its images that it has seen, from 0 to 1."""
    whole_s: float | None = None
    """Seconds that all of it takes or took, where that is known."""

    @property
    def left_s(self) -> float | None:
        """Seconds that are left of it, by its own pace."""
        return None if self.whole_s is None else (1.0 - self.share) * self.whole_s


@dataclass(frozen=True)
class Standing:
    """All trials of an experiment at one moment."""

    done: int
    """Finished or diverged."""
    running: int
    failed: int
    total: int
    eta_s: float | None
    """Seconds until all are done; None where nothing is known of their pace, 0 where nothing is left."""
    trials: tuple[TrialStanding, ...] = ()

    def text(self) -> str:
        """One line: `7 of 18 trials finished, 2 running; about 4 min 10 s left`."""
        said = f"{self.done} of {self.total} trials finished, {self.running} running"
        said += f", {self.failed} FAILED" if self.failed else ""
        return f"{said}; about {duration(self.eta_s)} left" if self.eta_s else said


def of(trials: Sequence[TrialStanding], at_once: int | None = None) -> Standing:
    """Add up. `at_once` is how many can run side by side; None: as many as run now."""
    running = sum(trial.status is Status.RUNNING for trial in trials)
    return Standing(
        done=sum(trial.status.is_over for trial in trials),
        running=running,
        failed=sum(trial.status is Status.FAILED for trial in trials),
        total=len(trials),
        eta_s=left_s(trials, at_once or max(1, running)),
        trials=tuple(trials),
    )


def left_s(trials: Sequence[TrialStanding], at_once: int) -> float | None:
    """Seconds until the last trial is done with `at_once` side by side; failed ones are not tried again.

    A trial without a pace of its own takes as long as those of its cell do, else as all do on average. None where no
    trial has a pace.
    """
    open_ = [t for t in trials if not t.status.is_over and t.status is not Status.FAILED]
    if not open_:
        return 0.0
    known = [trial for trial in trials if trial.whole_s is not None]
    if not known:
        return None
    left = [(1.0 - t.share) * _whole_s(t, known) for t in open_]
    return max(sum(left) / at_once, max(left))


def _whole_s(trial: TrialStanding, known: Sequence[TrialStanding]) -> float:
    if trial.whole_s is not None and trial.status is not Status.RUNNING:
        return trial.whole_s
    same = [k for k in known if k.cell == trial.cell and k.status.is_over]
    if not same and trial.whole_s is not None:
        return trial.whole_s
    alike = same or [k for k in known if k.status.is_over] or list(known)
    paces = [one.whole_s for one in alike if one.whole_s is not None]
    return sum(paces) / len(paces)


def trial_standing(
    cell: str, seed: int, directory: Path, now: float | None = None
) -> TrialStanding:
    """What a trial's directory says at `now`, in Unix time."""
    record, beat = Record(directory), pulse(directory)
    if (result := record.result()) is not None:
        return TrialStanding(
            cell, seed, Status(result.status), 1.0, result.seconds + result.eval_seconds
        )
    if beat is not None and beat.is_fresh(time.time() if now is None else now):
        return running(cell, seed, beat)
    trial, images = record.status(), record.images()
    share = 0.0
    if images and (spec := record.trial()) is not None:
        share = images / spec.total_images()
    return TrialStanding(cell, seed, trial, share)


def running(cell: str, seed: int, beat: Pulse) -> TrialStanding:
    """A trial that beats."""
    whole = beat.total / beat.img_per_s if beat.img_per_s > 0 else None
    return TrialStanding(cell, seed, Status.RUNNING, beat.images / beat.total, whole)


def standing(home: Path, experiment: Experiment, at_once: int | None = None) -> Standing:
    """How far an experiment is in a home: the trials of its first look, and whichever of the others were begun."""
    first = experiment.seeds[: experiment.looks[0]]
    found = []
    for trial in experiment.trials:
        one = trial_standing(trial.cell, trial.seed, home / "trials" / trial.key)
        if trial.seed in first or one.status is not Status.WAITING:
            found.append(one)
    return of(found, at_once)
