"""Which trials should run, how far, and in which order? A pure function of an experiment and its records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from trainer.report import Failure, Report, Result, Status, Stop
from trainer.spec import Spec

if TYPE_CHECKING:
    from service.experiment.criterion import Compare
    from trainer.trial import TrialSpec


@dataclass(frozen=True)
class Work:
    """Train the cell's trial of this seed until its first evaluation at or beyond `until_images`.

    So far it can name the planned cells and seeds only, those of the design: others are refused.
    There it keeps its checkpoint, and goes on when more is wanted of it. The whole budget ends it.
    """

    cell: str
    seed: int
    until_images: int


@dataclass(frozen=True)
class Design:
    """What a policy knows of the experiment."""

    cells: Mapping[str, TrialSpec]
    """Every cell's trial, with the first seed; in the YAML's order."""
    seeds: tuple[int, ...]
    """Every seed that a cell may get, the first first."""
    compare: Compare
    looks: tuple[int, ...] = ()
    """Numbers of seeds at the planned looks, rising; empty or one: all seeds are open from the start."""
    standing_plan: tuple[int, ...] = ()
    """The looks that were planned before the first verdict, if others are by now; words fall by these."""
    late: frozenset[str] = frozenset()
    """Cells that came after the first verdict: words on them are a family of their own."""
    open: Mapping[str, tuple[int, ...]] | None = None
    """Cell to the seeds that are open to it now, decided before the policy is asked; None: all."""

    @property
    def space(self) -> str | None:
        """Kind of the feature space that the cells share; None where they do not."""
        kinds = {trial.evaluation.features.kind for trial in self.cells.values()}
        return kinds.pop() if len(kinds) == 1 else None

    def seeds_of(self, cell: str) -> tuple[int, ...]:
        """The seeds that are open to a cell: work on others is passed over."""
        return self.seeds if self.open is None else self.open[cell]

    @property
    def first_seeds(self) -> tuple[int, ...]:
        """Those of the first planned look, which every cell gets."""
        return self.seeds[: self.looks[0]] if self.looks else self.seeds


@dataclass(frozen=True)
class Standing:
    """How far one trial has come, as its directory says. Whether somebody is at work on it is not in it:
    a driver that starts again must decide as the one that was interrupted.
    """

    status: Status = Status.WAITING
    """WAITING, STOPPED (begun), FINISHED, DIVERGED, or FAILED if it broke in this run."""
    reports: tuple[Report, ...] = ()
    result: Result | None = None
    failure: Failure | None = None
    """Why it broke in this run. What broke in an earlier one is tried again."""
    stopped: Stop | None = None
    """That this policy, with these settings, ended its cell for good in this experiment."""

    @property
    def images(self) -> int:
        """Images seen at its last evaluation."""
        return self.reports[-1].images if self.reports else 0


class PlanPolicy(Spec):
    """Decides what runs. A member has a `kind`, fields for the YAML, and `wanted`; it keeps no state.

    `wanted` is asked again after every report, with nothing but records: no clock, no randomness that
    is not derived from its fields, no memory of what it said before.
    """

    foreseen: ClassVar[bool] = False
    """Whether no record changes what is wanted: then Tune may be told of everything at once."""
    stops_cells: ClassVar[bool] = False
    """Whether `stops` may end cells for good: the survivors' p then counts them, which takes more seeds."""

    def wanted(
        self, design: Design, standings: Mapping[tuple[str, int], Standing]
    ) -> Sequence[Work]:
        """The work that should be done, most urgent first; `standings` has every (cell, seed).

        What has ended, has broken in this run, has come that far already or has a seed that is not open
        may be listed: it is passed over. A running trial that is not listed, or not beyond its last
        evaluation, stops there.
        """
        raise NotImplementedError

    def idle(self, cells: int) -> str | None:
        """Why it can stop nobody among so many cells, the baseline counted; None where it can, or never stops any."""
        return "there is one cell, and nobody to stop" if self.stops_cells and cells < 2 else None

    def stops(
        self, design: Design, standings: Mapping[tuple[str, int], Standing]
    ) -> Mapping[str, str]:
        """Cells that are to end for good on their way, each with the reason in one line.

        Asked with the same records as `wanted`. A stop is written to the cell's records and holds from
        then on; work on a stopped cell is passed over. It is always a whole cell, never half of its
        pairs, and never the baseline.
        """
        return {}
