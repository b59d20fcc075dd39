"""Where are cells compared on their way, and how do they stand there? What policies that stop have in common."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dashboards.metrics import quantity
from dashboards.verdict.evidence import rung_twin
from service.policy.base import Design, Standing, Work
from trainer.report import Status

Standings = Mapping[tuple[str, int], Standing]
_ROUNDING = 1e-9


def rungs(design: Design, shares: Sequence[float]) -> tuple[int, ...]:
    """Images at which cells are compared: the first evaluation that all have at or beyond each share of the budget.

    Evaluations are at whole batches: one that was rounded down stands at its share, too. The next one would be at twice
    the images where they double. Evaluations at the end or later are none: there the verdict has the word.
    """
    trials = list(design.cells.values())
    budget = min(trial.total_images() for trial in trials)
    common = set[int].intersection(*(set(trial.evaluation_points()) for trial in trials))
    points = sorted(point for point in common if point < budget)
    rounded = max(trial.train.batch_size for trial in trials) / 2
    found = (
        next((p for p in points if p + rounded >= share * budget * (1 - _ROUNDING)), None)
        for share in shares
    )
    return tuple(dict.fromkeys(point for point in found if point is not None))


@dataclass(frozen=True)
class Rung:
    """How the cells stand at one number of images; lower is better."""

    images: int
    values: Mapping[str, NDArray[np.float64]]
    """Cell to its values by screening seed, of cells that have nothing to wait for here.

    Infinity for a seed that diverged, NaN for one that broke in this run.
    """

    @cached_property
    def means(self) -> dict[str, float]:
        """Cell to the mean over its seeds, infinity if one diverged; those that broke do not count."""
        return {cell: float(np.nanmean(own)) for cell, own in self.values.items()}

    @cached_property
    def medians(self) -> dict[str, float]:
        """Cell to the median over its seeds; those that broke do not count."""
        return {cell: float(np.nanmedian(own)) for cell, own in self.values.items()}


class Ladder:
    """The cells at every rung, from the records."""

    def __init__(
        self, design: Design, standings: Standings, images: Sequence[int], seeds: int | None
    ) -> None:
        """`seeds` is how many of a cell's first seeds are compared; None: those of the first look."""
        self.seeds = design.first_seeds[:seeds]
        self._design, self._standings = design, standings
        self._whole = min(trial.total_images() for trial in design.cells.values()) / 1000
        self.metric = _metric(design, standings)
        known = quantity(self.metric)
        self.lower_is_better = known is None or known.lower_is_better
        self.is_ratio = known is None or known.ratio
        self.rungs = tuple(self._rung(at) for at in images)
        self.rivals = [cell for cell in design.cells if cell != design.compare.baseline]
        """The cells that may be stopped."""
        self.through = {
            cell
            for cell in design.cells
            if all(standings[cell, seed].status.is_over for seed in self.seeds)
        }
        """Cells that were trained to the end with all these seeds: there is nothing left to stop."""

    def broke(self, cell: str) -> bool:
        """Whether none of its seeds can be compared, for all broke in this run."""
        return all(self._standings[cell, seed].failure is not None for seed in self.seeds)

    def at(self, rung: Rung, value: float) -> str:
        """`rung/fid 21.3 over 2 seeds at 14.4 of 57.6 kimg`."""
        if not np.isfinite(value):
            return f"it diverged before {rung.images / 1000:g} kimg and"
        over = "" if len(self.seeds) == 1 else f" over {len(self.seeds)} seeds"
        return f"{self.metric} {self.shown(value)}{over} at {rung.images / 1000:g} of {self._whole:g} kimg"

    def final(self) -> Rung:
        """The same of finished trials, in the deciding metric of the experiment."""
        values = {}
        for cell in self._design.cells:
            ends = [self._end(self._standings[cell, seed]) for seed in self.seeds]
            if all(end is not None for end in ends):
                values[cell] = np.array(ends, dtype=np.float64)
        return Rung(0, values)

    def _rung(self, images: int) -> Rung:
        values = {}
        for cell in self._design.cells:
            own = [self._value(self._standings[cell, seed], images) for seed in self.seeds]
            known = [value for value in own if value is not None]
            if len(known) == len(own) and not np.isnan(known).all():
                values[cell] = np.array(known, dtype=np.float64)
        return Rung(images, values)

    def _value(self, standing: Standing, images: int) -> float | None:
        """At a rung: None while there is something to wait for."""
        for report in standing.reports:
            if report.images == images and self.metric in report.metrics:
                return self._signed(report.metrics[self.metric])
        if standing.status is Status.DIVERGED:
            return np.inf
        return np.nan if standing.status is Status.FAILED else None

    def _end(self, standing: Standing) -> float | None:
        if standing.result is None or standing.status is not Status.FINISHED:
            return None
        value = standing.result.metrics.get(self._design.compare.metric)
        return None if value is None else self._signed(value)

    def _signed(self, value: float) -> float:
        if not np.isfinite(value):
            return np.inf
        return value if self.lower_is_better else -value

    def shown(self, value: float) -> str:
        """A value as it was measured."""
        return f"{value if self.lower_is_better else -value:.4g}"


def _metric(design: Design, standings: Standings) -> str:
    """What is measured on the way: the cheap twin of the deciding metric, or that itself."""
    rung = rung_twin(design.compare.metric)
    every = (report.metrics for standing in standings.values() for report in standing.reports)
    return rung if any(rung in metrics for metrics in every) else design.compare.metric


def cell_by_cell(design: Design, seeds: Sequence[int]) -> Iterator[Work]:
    """Everything that is open: each cell with its screening seeds together, the baseline first, then the rest."""
    base = design.compare.baseline
    for cell in sorted(design.cells, key=lambda cell: cell != base):
        whole = design.cells[cell].total_images()
        yield from (Work(cell, seed, whole) for seed in seeds)
    yield from the_rest(design, seeds, design.cells)


def the_rest(design: Design, seeds: Container[int], cells: Container[str]) -> Iterator[Work]:
    """The further seeds of cells, to the end; seeds in the outer loop, so that pairs end together."""
    for seed in design.seeds:
        for cell, trial in design.cells.items():
            if cell in cells and seed not in seeds and seed in design.seeds_of(cell):
                yield Work(cell, seed, trial.total_images())
