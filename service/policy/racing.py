"""Racing: a cell that cannot win any more does not go on."""

# Field types are read at run time by pydantic: no `from __future__ import annotations` here.

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from dashboards.verdict.screening import chance, field, held
from service.policy.base import Design, PlanPolicy, Standing, Work
from service.policy.halving import Shares
from service.policy.rungs import Ladder, Rung, cell_by_cell, rungs
from trainer.bounds import Count


class Racing(PlanPolicy):
    """Stops a cell once its paired evidence at equal images excludes that it ends as the best, or beats the baseline.

    It knows the noise of the rung's metric and how well ranks at the rung have held to the end so far
    (`dashboards/verdict/screening.py`); before enough cells have finished it is cautious. Cells run one after
    the other, all seeds of a cell together; the baseline comes first and is never stopped.
    """

    stops_cells: ClassVar[bool] = True
    kind: Literal["racing"] = "racing"
    goal: Literal["best", "baseline"] = "best"
    """best: against the cell that leads at the rung. baseline: against the baseline."""
    error: Annotated[float, Field(ge=1e-4, lt=0.5)] = 0.1
    """Probability, over all cells, of stopping the one that would have ended as the best."""
    at: Annotated[Shares, Field(min_length=1)] = (0.125, 0.25, 0.5)
    """Rungs as shares of the budget, each put at the next evaluation."""
    seeds: Count | None = None
    """How many of a cell's seeds are compared; null: those of the first look."""

    def wanted(
        self, design: Design, standings: Mapping[tuple[str, int], Standing]
    ) -> Sequence[Work]:
        """Everything to its end, cell by cell."""
        return list(cell_by_cell(design, design.first_seeds[: self.seeds]))

    def stops(
        self, design: Design, standings: Mapping[tuple[str, int], Standing]
    ) -> Mapping[str, str]:
        """Those that are excluded at a rung."""
        ladder = Ladder(design, standings, rungs(design, sorted(self.at)), self.seeds)
        final = ladder.final().values
        stops: dict[str, str] = {}
        for rung in ladder.rungs:
            for cell, why in self._excluded(design, ladder, rung, final).items():
                stops.setdefault(cell, why)
        return stops

    def _excluded(
        self,
        design: Design,
        ladder: Ladder,
        rung: Rung,
        final: Mapping[str, NDArray[np.float64]],
    ) -> dict[str, str]:
        seen = field(_scaled(rung.values) if ladder.is_ratio else rung.values)
        if seen is None:
            return {}
        both = [cell for cell in seen.means if cell in final and np.isfinite(final[cell]).all()]
        ends = np.array([final[cell].mean() for cell in both])
        rho = held(np.array([seen.means[cell] for cell in both]), ends)
        rival = min(seen.means, key=lambda cell: seen.means[cell])
        if self.goal == "baseline" and design.compare.baseline is not None:
            rival = design.compare.baseline
        if rival not in seen.means:
            return {}
        means, limit = rung.means, self.error / max(1, len(ladder.rivals))
        excluded = {}
        for cell in ladder.rivals:
            if cell not in seen.means or cell == rival or cell in ladder.through:
                continue
            if (left := chance(seen, cell, rival, rho)) < limit:
                excluded[cell] = (
                    f"{ladder.at(rung, means[cell])} leaves it a chance of {left:.1g} to end better than"
                    f" `{rival}`, which has {ladder.shown(means[rival])} there"
                )
        return excluded


def _scaled(values: Mapping[str, NDArray[np.float64]]) -> Mapping[str, NDArray[np.float64]]:
    """Logarithms of what is compared as a ratio, if all of it is positive."""
    if not all(bool((own > 0).all()) for own in values.values()):
        return values
    return {cell: np.log(own) for cell, own in values.items()}


RacingPolicies = Racing
"""The members of this file: a new policy is one class above and one name here."""
