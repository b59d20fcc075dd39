"""What does a verdict consist of? Frozen values, without the words for them (see `sentences`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from dashboards.verdict.evidence import Quantity, Row
from dashboards.verdict.planning import Outlook
from dashboards.verdict.speed import SpeedUp
from dashboards.verdict.statistics import Interval
from trainer.report import Status

Word = Literal["BETTER", "WORSE", "SAME", "INCONCLUSIVE"]
Name = Literal["final", "area", "target", "speed"]


class Aside(NamedTuple):
    """A measure of a cell under a further protocol."""

    protocol: str
    same_training: bool
    """Against its own trainings under the deciding protocol; False: against the baseline under the same one."""


Key = tuple[str, Name | Aside]
"""Cell and measure: what has a word of its own."""


@dataclass(frozen=True)
class Guarantee:
    """Which looks at the data there are, and what the words' error rate holds for."""

    looks: tuple[int, ...]
    """Numbers of seeds after which a verdict was planned."""
    passed: int
    """How many of them are done."""
    following: int | None
    """Seeds at the next one."""
    anytime: bool
    """Whether there are more seeds than were planned: evidence that holds at any time then counts."""


@dataclass(frozen=True)
class Measure:
    """One number of a cell against the baseline's, by seed.

    Effects of a ratio are shares: -0.05 is 5 % less than the baseline (of `speed`: slower). Others are
    cell - baseline in the metric's own unit.
    """

    name: Name
    metric: str
    title: str
    """The metric's, for people."""
    cell: str
    baseline: str
    lower_is_better: bool
    ratio: bool
    margin: float | None
    """Effects smaller than this do not matter; None: it is not known, and SAME is not said."""
    seeds: tuple[int, ...]
    """Those with a number in both."""
    baseline_values: tuple[float, ...]
    cell_values: tuple[float, ...]
    effects: tuple[float, ...]
    """By seed."""
    effect: float
    """Their mean: of a ratio the geometric one."""
    interval: Interval
    """Of the effect."""
    p: float
    """Of this comparison alone, at this look alone."""
    p_adjusted: float | None
    """Over all cells, measures and looks of the report; None before the first look."""
    p_at: int | None
    """Number of seeds at which `p_adjusted` was made."""
    word: Word
    decided_at: int | None
    """Number of seeds at the look at which the word fell."""
    outlook: Outlook | None
    """What more seeds would do; only where nothing is decided."""
    target: float | None = None
    """For kimg to a target: the metric's value to reach."""
    lost_baseline: int = 0
    """Seeds on which only the baseline has no number, the worst outcome: in `p`, in none of the values."""
    lost_cell: int = 0

    @property
    def tested(self) -> int:
        """Seeds that the test counts: pairs, and those on which one of the two was lost."""
        return len(self.seeds) + self.lost_baseline + self.lost_cell


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
    decided_at: int | None
    """Number of seeds at the look at which the word fell."""
    planned: int
    """Seeds that the cell was to have; `final.seeds` are those which gave a pair."""
    dropped: tuple[Dropped, ...]
    final: Measure | None
    """None when no seed ended in both cells, or none with a number."""
    area: Measure | None
    target: Measure | None
    speed: Measure | None
    lines: SpeedUp | None
    """The speed-up by target."""

    def measures(self) -> list[Measure]:
        """Those there are, the deciding one first."""
        every = (self.final, self.area, self.target, self.speed)
        return [measure for measure in every if measure is not None]


@dataclass(frozen=True)
class RowComparison:
    """A cell under a further protocol: against the baseline under the same, or against its own trainings under the
    deciding one."""

    row: Row
    against: Row
    word: Word
    decided_at: int | None
    """Number of seeds at the look at which the word fell."""
    final: Measure | None
    """None when no seed ended in both."""

    @property
    def same_training(self) -> bool:
        """Whether both are measured on the same trainings, so that only the way of generating differs."""
        return self.row.cell == self.against.cell


class Unlike(NamedTuple):
    """Two rows that may not be compared."""

    row: Row
    against: Row
    why: str
    """In a few words."""


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
    margin: float | None
    """Of `metric`, as its measures have it."""
    protocol: str | None
    protocol_curve: str | None
    kimg: float | None
    """The budget all compared trials share."""
    guarantee: Guarantee
    comparisons: tuple[Comparison, ...]
    refused: tuple[Refused, ...] = ()
    """Cells that are not compared, each with the reason."""
    rows: tuple[RowComparison, ...] = ()
    """The same trainings under further protocols, by protocol and cell; in one family with the comparisons."""
    unlike: tuple[Unlike, ...] = ()
    """Rows that lack a comparison, each with the reason."""
