"""What does a verdict consist of? Frozen values, without the words for them (see `sentences`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from dashboards.verdict.evidence import Quantity
from dashboards.verdict.planning import MoreSeeds
from dashboards.verdict.speed import SpeedUp
from dashboards.verdict.statistics import Interval
from trainer.report import Status

Word = Literal["BETTER", "WORSE", "SAME", "INCONCLUSIVE"]
Name = Literal["final", "area", "target"]


@dataclass(frozen=True)
class Measure:
    """One number of a cell against the baseline's, by seed; differences are cell - baseline."""

    name: Name
    metric: str
    title: str
    """The metric's, for people."""
    cell: str
    baseline: str
    lower_is_better: bool
    margin: float
    """Relative to the baseline's mean."""
    seeds: tuple[int, ...]
    baseline_values: tuple[float, ...]
    cell_values: tuple[float, ...]
    differences: tuple[float, ...]
    mean: float
    relative: float | None
    """`mean` over the baseline's mean; None when that is 0."""
    interval: Interval
    """BCa bootstrap, absolute."""
    student: Interval
    """Student t, absolute: SAME needs both, since a bootstrap of few pairs is too short."""
    p: float
    p_holm: float
    comparisons: int
    """How many cells Holm's correction counts."""
    word: Word
    more: MoreSeeds | None
    """Only when INCONCLUSIVE."""
    cost_hours: float | None
    """CPU- or GPU-hours of `more.more` seeds of the whole sweep."""
    cost_unit: str
    target: float | None = None
    """For kimg-to-target: the metric value to reach."""
    censored_baseline: int = 0
    """Pairs in which the baseline never reached the target: its time counts as the whole budget."""
    censored_cell: int = 0
    diverged_baseline: int = 0
    """Seeds on which only the baseline diverged: in `p`, in none of the values."""
    diverged_cell: int = 0

    @property
    def tested(self) -> int:
        """Seeds that the test counts: pairs, and those on which one of the two diverged."""
        return len(self.seeds) + self.diverged_baseline + self.diverged_cell

    @property
    def scale(self) -> float | None:
        """What relative numbers are relative to: the magnitude of the baseline's mean."""
        mean = abs(float(np.mean(self.baseline_values)))
        return mean if mean > 0 else None


@dataclass(frozen=True)
class Dropped:
    """A seed that gives no pair, and whose fault it is."""

    seed: int
    cell: str
    status: Status
    reason: str | None


@dataclass(frozen=True)
class Refused:
    """A cell that is not compared with the baseline: its numbers mean something else."""

    cell: str
    why: str
    """In a few words, for the headline."""
    reason: str
    """In full, with the way out."""


@dataclass(frozen=True)
class Comparison:
    """One cell against the baseline."""

    cell: str
    baseline: str
    word: Word
    planned: int
    """Seeds of the sweep; `final.seeds` are those which gave a pair."""
    dropped: tuple[Dropped, ...]
    final: Measure | None
    """None when no seed finished in both cells."""
    area: Measure | None
    target: Measure | None
    speed: SpeedUp | None

    def measures(self) -> list[Measure]:
        """Those there are, the deciding one first."""
        return [m for m in (self.final, self.area, self.target) if m is not None]


@dataclass(frozen=True)
class Verdicts:
    """Every cell against the baseline."""

    metric: str
    curve_metric: str
    quantity: Quantity
    """What `metric` is."""
    curve_quantity: Quantity
    """What `curve_metric` is."""
    baseline: str
    margin: float
    protocol: str | None
    protocol_curve: str | None
    kimg: float | None
    """The budget all compared trials share."""
    comparisons: tuple[Comparison, ...]
    refused: tuple[Refused, ...] = ()
    """Cells that are not compared, each with the reason."""
