"""What is known of a running sweep at this moment? One row per trial: events say what happened, pulses how it moves."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from service import standing
from service.progress import (
    Event,
    SweepEvidence,
    SweepProgress,
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
    """While it runs."""

    @property
    def share(self) -> float:
        """Of its images, from 0 to 1."""
        return self.kimg / self.total_kimg if self.total_kimg else float(self.status.is_over)

    def standing(self) -> TrialStanding:
        """For the ETA."""
        if self.status is Status.RUNNING and self.beat is not None:
            return standing.running(self.cell, self.seed, self.beat)
        whole = self.whole_s if self.status.is_over else None
        return TrialStanding(self.cell, self.seed, self.status, self.share, whole)


class Board:
    """All rows; events may come from any thread. `trials` are (cell, seed, key) in the order to show.

    `homes` is the folder of all trials' directories, where their pulses are looked for; None: nowhere.
    """

    def __init__(
        self,
        trials: Sequence[tuple[str, int, str]],
        metrics: Sequence[str],
        homes: Path | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._rows = {key: Row(cell, seed) for cell, seed, key in trials}
        self._metrics, self._homes, self._clock = metrics, homes, clock
        self._lock = threading.Lock()
        self._begun, self._most = clock(), 1
        self.note, self.evidence = "", ""

    def begin(self) -> None:
        """The sweep starts now."""
        self._begun = self._clock()

    def take(self, event: Event) -> None:
        """What an event says of its trial, or of all."""
        with self._lock:
            if isinstance(event, SweepProgress):
                self.note = event.note or self.note
            elif isinstance(event, SweepEvidence):
                self.evidence = describe(event, self._metrics)
            else:
                row = self._rows.setdefault(event.key, Row(event.cell, event.seed))
                _update(row, event, self._metrics)

    def look(self) -> list[Row]:
        """The rows, those that run with their newest pulse."""
        with self._lock:
            rows = dict(self._rows)
        for key, row in rows.items():
            if row.status is Status.RUNNING and self._homes is not None:
                beat = pulse(self._homes / key)
                if beat is not None and beat.is_fresh(self._clock()):
                    row.beat, row.total_kimg = beat, beat.total / 1000
                    row.kimg = max(row.kimg, beat.images / 1000)
        return list(rows.values())

    def standing(self, rows: Sequence[Row]) -> Standing:
        """All of them together, by as many at once as have run at once so far."""
        self._most = max(self._most, sum(row.status is Status.RUNNING for row in rows))
        return standing.of([row.standing() for row in rows], self._most)

    def elapsed_s(self) -> float:
        """Since the start."""
        return self._clock() - self._begun


def _update(row: Row, event: TrialEvent, metrics: Sequence[str]) -> None:
    if isinstance(event, TrialStarted):
        row.status, row.kimg, row.total_kimg = Status.RUNNING, event.start_kimg, event.total_kimg
        row.text = f"continued from {event.start_kimg:g} kimg" if event.start_kimg else ""
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
