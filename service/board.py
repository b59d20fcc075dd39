"""What is known of a running sweep at this moment? One row per trial: events say what happened, pulses how it moves."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from service import standing
from service.clock import unix
from service.progress import (
    CellStopped,
    Event,
    SweepEvidence,
    SweepNote,
    TrialEvent,
    TrialFinished,
    TrialReported,
    TrialStarted,
    TrialStopped,
    describe,
    headline,
)
from service.standing import Standing, TrialStanding
from trainer.pulse import Pulse, pulse
from trainer.report import Status

if TYPE_CHECKING:
    from service.experiment import Experiment
    from service.settings import Settings


@dataclass
class Row:
    """One trial."""

    cell: str
    seed: int
    status: Status = Status.WAITING
    kimg: float = 0.0
    total_kimg: float = 0.0
    text: str = ""
    whole_s: float | None = None
    """Seconds that it took."""
    beat: Pulse | None = None
    """While it runs, where its directory can be seen."""
    taken_up: tuple[float, float] = (0.0, 0.0)
    """Where it stood when it began to run, and Unix time then."""
    told_s: float = 0.0
    """Unix time of its last event."""

    @property
    def share(self) -> float:
        """Of its images, from 0 to 1."""
        return self.kimg / self.total_kimg if self.total_kimg else float(self.status.is_over)

    def standing(self) -> TrialStanding:
        """For the ETA."""
        if self.status is Status.RUNNING and self.beat is not None:
            return standing.running(self.cell, self.seed, self.beat)
        whole = self.whole_s if self.status.is_over else self._pace_s()
        return TrialStanding(self.cell, self.seed, self.status, self.share, whole)

    def _pace_s(self) -> float | None:
        """Seconds that all of it takes, by what its events told since it began to run."""
        at, began = self.taken_up
        if self.status is not Status.RUNNING or self.kimg <= at:
            return None
        return self.total_kimg * (self.told_s - began) / (self.kimg - at)


class Board:
    """All rows; events may come from any thread. `trials` are (cell, seed, key) in the order to show.

    `homes` is the folder of all trials' directories, where their pulses are looked for; None: nowhere. At least
    `least` trials will there be.
    """

    def __init__(
        self,
        trials: Sequence[tuple[str, int, str]],
        metrics: Sequence[str],
        homes: Path | None = None,
        clock: Callable[[], float] = unix,
        least: int = 0,
    ) -> None:
        self._least, self._stopped = least, set[str]()
        self._rows = {key: Row(cell, seed) for cell, seed, key in trials}
        self.metrics, self._homes, self._clock = metrics, homes, clock
        self._lock = threading.Lock()
        self._begun, self._most = clock(), 1
        self.note, self.evidence = "", ""

    @classmethod
    def of(
        cls,
        experiment: Experiment,
        settings: Settings,
        clock: Callable[[], float] = unix,
    ) -> Board:
        """The trials that a run begins with: candidates while something is searched, else those of the first look."""
        from service.recorded import candidates, is_tuning, to_ask
        from service.search.study import studies, tuned

        known, metrics = tuned(experiment, settings), experiment.shown_metrics
        if is_tuning(known):
            searches = studies(experiment, settings)
            board = cls((), metrics, settings.trials, clock, to_ask(searches))
            for key, one in candidates(searches, settings).items():
                if one.status.is_over:  # a search does not tell again what it knew
                    row = Row(one.cell, one.seed, one.status, text="(already done)")
                    board._rows[key] = row
            return board
        first = experiment.seeds[: experiment.looks[0]]
        trials = [(t.cell, t.seed, t.key) for t in known.trials if t.seed in first]
        return cls(trials, metrics, settings.trials, clock)

    def begin(self) -> None:
        """The sweep starts now."""
        self._begun = self._clock()

    def take(self, event: Event) -> None:
        """What an event says of its trial, or of all."""
        with self._lock:
            if isinstance(event, SweepNote):
                self.note = event.text
            elif isinstance(event, CellStopped):
                self._stopped.add(event.cell)
                self.note = describe(event, self.metrics)
            elif isinstance(event, SweepEvidence):
                self.evidence = describe(event, self.metrics)
            else:
                row = self._rows.setdefault(event.key, Row(event.cell, event.seed))
                row.told_s = self._clock()
                _update(row, event, self.metrics)

    def look(self) -> list[Row]:
        """The rows, those that run with their newest pulse."""
        with self._lock:
            rows = dict(self._rows)
        for key, row in rows.items():
            if row.status is Status.RUNNING and self._homes is not None:
                beat = pulse(self._homes / key)
                is_new = row.beat is not None and beat != row.beat  # whatever clock it tells
                if beat is not None and (is_new or beat.is_fresh(self._clock())):
                    row.beat, row.total_kimg = beat, beat.total / 1000
                    row.kimg = max(row.kimg, beat.images / 1000)
        return list(rows.values())

    def standing(self, rows: Sequence[Row]) -> Standing:
        """All that are wanted together, by as many at once as have run at once so far."""
        self._most = max(self._most, sum(row.status is Status.RUNNING for row in rows))
        wanted = [row.standing() for row in rows if self._is_wanted(row)]
        return standing.of(wanted, self._most, self._least)

    def _is_wanted(self, row: Row) -> bool:
        """Of a cell that was ended for good, what has ended or still runs."""
        return row.cell not in self._stopped or row.status not in (Status.WAITING, Status.STOPPED)

    def elapsed_s(self) -> float:
        """Since the start."""
        return self._clock() - self._begun


def _update(row: Row, event: TrialEvent, metrics: Sequence[str]) -> None:
    if isinstance(event, TrialStarted):
        row.status, row.kimg, row.total_kimg = Status.RUNNING, event.start_kimg, event.total_kimg
        row.text = f"continued from {event.start_kimg:g} kimg" if event.start_kimg else ""
        row.taken_up = (event.start_kimg, row.told_s)
    elif isinstance(event, TrialReported):
        row.status, row.kimg, row.total_kimg = Status.RUNNING, event.kimg, event.total_kimg
        row.text = headline(event.metrics, metrics) or row.text
    elif isinstance(event, TrialStopped):
        row.status, row.kimg, row.total_kimg = Status.STOPPED, event.kimg, event.total_kimg
        row.text = event.reason or row.text
    elif isinstance(event, TrialFinished):
        row.status, row.whole_s = Status.FINISHED, event.seconds or None
        row.kimg = row.total_kimg
        row.text = headline(event.metrics, metrics) or row.text
        row.text += "  (already done)" if event.reused else ""
    else:
        row.status, row.text = Status.FAILED, event.reason
