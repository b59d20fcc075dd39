"""Plan policies for tests: one that grows, one that halves, one that stops a cell. Pure, as all must be."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from service.experiment import Experiment
from service.policy import Design, PlanPolicy, Standing, Work
from tests.service.sweeps import sweep

Standings = Mapping[tuple[str, int], Standing]
HALF, WHOLE = 1280, 2560
"""Images of the toy trial's second of four evaluations, and of its budget."""


def last(standing: Standing, metric: str = "rung/fid") -> float:
    """The newest value of a metric."""
    return standing.reports[-1].metrics[metric]


class Growing(PlanPolicy):
    """All cells with the first seed; when those results are in, the other seeds of the best cell alone."""

    kind: Literal["growing"] = "growing"

    def wanted(self, design: Design, standings: Standings) -> Sequence[Work]:
        """One seed of each, then the rest of one."""
        first = [Work(cell, design.seeds[0], WHOLE) for cell in design.cells]
        ends = {work.cell: standings[work.cell, work.seed].result for work in first}
        known = {cell: result.metrics["eval/fid"] for cell, result in ends.items() if result}
        if len(known) < len(first):
            return first
        best = min(known, key=lambda cell: known[cell])
        return [*first, *(Work(best, seed, WHOLE) for seed in design.seeds[1:])]


class Halving(PlanPolicy):
    """Everything to half its budget; when all are there, the better half of the cells goes on."""

    kind: Literal["halving"] = "halving"

    def wanted(self, design: Design, standings: Standings) -> Sequence[Work]:
        """A rung, then the budget for those who passed it."""
        rung = [Work(cell, seed, HALF) for seed in design.seeds for cell in design.cells]
        if any(standings[work.cell, work.seed].images < HALF for work in rung):
            return rung
        passed = sorted(design.cells, key=lambda cell: self._score(cell, design, standings))
        survivors = passed[: (len(passed) + 1) // 2]
        return [Work(cell, seed, WHOLE) for seed in design.seeds for cell in survivors]

    def _score(self, cell: str, design: Design, standings: Standings) -> float:
        at_rung = [
            next(r.metrics["rung/fid"] for r in standings[cell, seed].reports if r.images >= HALF)
            for seed in design.seeds
        ]
        return sum(at_rung)


class Dropping(PlanPolicy):
    """Everything, without the cell `drop` from its second evaluation on."""

    kind: Literal["dropping"] = "dropping"
    drop: str = "under"

    def wanted(self, design: Design, standings: Standings) -> Sequence[Work]:
        """As `fixed`, one cell less once it has shown itself."""
        begun = {cell for (cell, _), standing in standings.items() if standing.images >= HALF}
        return [
            Work(cell, seed, WHOLE)
            for seed in design.seeds
            for cell in design.cells
            if cell != self.drop or cell not in begun
        ]


class Ending(PlanPolicy):
    """Everything, and the cell `end` is ended for good when its first seed was measured twice."""

    stops_cells: ClassVar[bool] = True
    kind: Literal["ending"] = "ending"
    end: str = "under"

    def wanted(self, design: Design, standings: Standings) -> Sequence[Work]:
        """As `fixed`."""
        return [Work(cell, seed, WHOLE) for seed in design.seeds for cell in design.cells]

    def stops(self, design: Design, standings: Standings) -> Mapping[str, str]:
        """One cell, and the baseline, which it may not."""
        first = standings[self.end, design.seeds[0]]
        why = f"rung/fid is {last(first):.3g}" if first.images >= HALF else ""
        return {self.end: why, "uniform": why} if why else {}


class Straying(PlanPolicy):
    """As `growing`, but the further seeds are none of the experiment's."""

    kind: Literal["straying"] = "straying"

    def wanted(self, design: Design, standings: Standings) -> Sequence[Work]:
        """The planned ones, then one that is not."""
        first = [Work(cell, design.seeds[0], WHOLE) for cell in design.cells]
        if any(standings[work.cell, work.seed].result is None for work in first):
            return first
        return [*first, Work("under", 99, WHOLE)]


def with_policy(experiment: Experiment, policy: PlanPolicy) -> Experiment:
    """The experiment under a policy that no YAML knows."""
    spec = experiment.spec.model_copy(update={"policy": policy})
    return dataclasses.replace(experiment, spec=spec)


def planned(toy: dict[str, Any], policy: PlanPolicy, **changes: Any) -> Experiment:
    """Two cells, two seeds, and this policy."""
    return with_policy(sweep(toy, **changes), policy)
