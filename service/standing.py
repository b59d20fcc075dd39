"""How far are many trials together, and when will they be done? Pure functions of how far each is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dashboards.text import duration
from trainer.pulse import Pulse
from trainer.report import Status


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
    """All trials that are wanted at one moment."""

    done: int
    """With a number."""
    running: int
    failed: int
    """Without one: broken or diverged."""
    total: int
    """As many as are wanted now: seeds until cells are decided come on top."""
    eta_s: float | None
    """Seconds until all are done; None where nothing is known of their pace, 0 where nothing is left."""
    trials: tuple[TrialStanding, ...] = ()

    def text(self) -> str:
        """One line: `7 of 18 trials finished, 2 running; about 4 min 10 s left`."""
        said = f"{self.done} of {self.total} trials finished, {self.running} running"
        said += f", {self.failed} FAILED" if self.failed else ""
        return f"{said}; about {duration(self.eta_s)} left" if self.eta_s else said


def of(trials: Sequence[TrialStanding], at_once: int = 1, least: int = 0) -> Standing:
    """Add up. At least `at_once` can run side by side, and as many as run now.

    There will be at least `least` of them, those that nobody knows yet as long as the others.
    """
    running = sum(trial.status is Status.RUNNING for trial in trials)
    every = [*trials, *[TrialStanding("", 0, Status.WAITING)] * (least - len(trials))]
    return Standing(
        done=sum(trial.status is Status.FINISHED for trial in trials),
        running=running,
        failed=sum(trial.status in (Status.FAILED, Status.DIVERGED) for trial in trials),
        total=len(every),
        eta_s=left_s(every, max(at_once, running)),
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


def running(cell: str, seed: int, beat: Pulse) -> TrialStanding:
    """A trial that beats."""
    whole = beat.total / beat.img_per_s if beat.img_per_s > 0 else None
    return TrialStanding(cell, seed, Status.RUNNING, beat.images / beat.total, whole)
