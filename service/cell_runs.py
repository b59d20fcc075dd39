"""What becomes of the MLflow runs of cells? Means over the seeds that a cell got, and how it ended."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from service.tracking.cells import average, averaged, so_far
from service.tracking.outbox import Outbox
from trainer.report import Report, Status

if TYPE_CHECKING:
    from service.experiment import PlannedTrial
    from service.looks import CellState


@dataclass
class Entry:
    """A planned trial of a cell, as one run of an experiment sees it."""

    trial: PlannedTrial
    run: str
    """Key of its MLflow run."""
    status: Status = Status.WAITING
    started: float | None = None
    ended_ms: int | None = None
    """Unix time in ms at which it ended or paused, if this run of the driver knows that."""
    work_s: float | None = None
    """Seconds of training and evaluation, if all of them were in this run."""
    resumed: bool = False
    metrics: Mapping[str, float] = field(default_factory=dict)
    """What it ended with; of one that diverged nothing."""

    @property
    def ended_early(self) -> bool:
        """Whether this run worked at it and left it on its way."""
        return self.started is not None and self.status is Status.STOPPED


class CellRuns:
    """The runs of all cells, each with the entries of its trials."""

    def __init__(self, outbox: Outbox, keys: Mapping[str, str]) -> None:
        self.keys = keys
        """Cell to the key of its run."""
        self._outbox = outbox
        self._entries: dict[str, list[Entry]] = {cell: [] for cell in keys}
        self._states: Mapping[str, CellState] | None = None

    def add(self, entry: Entry) -> None:
        """A trial that belongs to a cell."""
        self._entries[entry.trial.cell].append(entry)

    def looked(self, states: Mapping[str, CellState]) -> None:
        """Seeds are given until cells are decided: which are open to which cell now."""
        before, self._states = self._states or states, states
        self.average(c for c, s in states.items() if s.is_settled > before[c].is_settled)

    def is_open(self, entry: Entry) -> bool:
        """Whether a trial is worth showing: its seed is open to its cell, or it has begun."""
        trial, states = entry.trial, self._states
        if states is None or entry.status is not Status.WAITING:
            return True
        return trial.seed in states[trial.cell].seeds

    def run_of(self, entry: Entry) -> str:
        """The key of the run that stands above a trial's."""
        return self.keys[entry.trial.cell]

    def begin(self, entry: Entry, time_ms: int) -> None:
        """A trial began then, and with it its cell, if it is the first."""
        self._outbox.begin(self.run_of(entry), time_ms)
        self._outbox.begin(entry.run, time_ms)

    def average(self, cells: Iterable[str], report: Report | None = None) -> None:
        """The mean curve of cells, after `report` where its numbers alone are new.

        A cell that may get more seeds has none yet: MLflow takes no point back.
        """
        at = None if report is None else averaged(report)
        for cell in cells:
            if self._states is None or self._states[cell].is_settled:
                runs, key = [entry.run for entry in self._own(cell)], self.keys[cell]
                self._outbox.metrics(key, average(self._outbox, key, runs, at))

    def ended(self, entry: Entry, metrics: Mapping[str, float]) -> None:
        """A trial has ended with these numbers: the means over the seeds of its cell that have."""
        cell = entry.trial.cell
        entry.metrics = metrics if entry.status is Status.FINISHED else {}
        over = [e for e in self._entries[cell] if e.status.is_over and e.ended_ms is not None]
        over.sort(key=lambda entry: (entry.ended_ms, entry.trial.seed))
        last = [(entry.ended_ms or 0, entry.metrics) for entry in over]
        self._outbox.metrics(self.keys[cell], so_far(self._outbox, self.keys[cell], last))

    def stop(self, cell: str, reason: str, announced: Container[str], now: int) -> None:
        """A policy ended the cell for good: its run and those of its trials say why."""
        tags = {"reason": reason[:500]}
        self._outbox.tag(self.keys[cell], tags)
        for entry in self._entries[cell]:
            if entry.run in announced:
                self._outbox.tag(entry.run, tags)
                if entry.status is not Status.RUNNING and not entry.status.is_over:
                    self._outbox.status(entry.run, Status.STOPPED, now)

    def end(self, now: int) -> None:
        """How each cell ended: when the last of its trials did."""
        for cell, key in self.keys.items():
            own = self._own(cell)
            statuses = {entry.status for entry in own}
            now = max((e.ended_ms for e in own if e.ended_ms is not None), default=now)
            if statuses == {Status.FINISHED}:
                self._outbox.status(key, Status.FINISHED, now)
            else:
                broken = statuses & {Status.FAILED, Status.DIVERGED}
                self._outbox.status(key, Status.FAILED if broken else Status.STOPPED, now)

    def _own(self, cell: str) -> list[Entry]:
        """The entries of the seeds that the cell got."""
        if self._states is None:
            return self._entries[cell]
        seeds = self._states[cell].seeds
        return [entry for entry in self._entries[cell] if entry.trial.seed in seeds]


def began_s(first: Report) -> float:
    """Unix time at which a trial began, as its first report tells."""
    pace = first.metrics.get("sys/img_per_s", 0.0)
    trained = first.images / pace if pace > 0 else 0.0
    return first.time_s - trained - first.metrics.get("sys/eval_s", 0.0)
