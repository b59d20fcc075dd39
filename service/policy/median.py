"""Median stopping: what stands in the worse half does not go on."""

# Field types are read at run time by pydantic: no `from __future__ import annotations` here.

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from service.policy.base import Design, PlanPolicy, Standing, Work
from service.policy.halving import Shares
from service.policy.rungs import Ladder, cell_by_cell, rungs
from trainer.bounds import Count


class Median(PlanPolicy):
    """Stops a cell whose median over its seeds is worse than the median of the other cells at a rung.

    Vizier's rule (Golovin et al. 2017, section 3.2.2), for cells instead of trials. Cells run one after the
    other, all seeds of a cell together; the baseline comes first and is never stopped.
    """

    stops_cells: ClassVar[bool] = True
    kind: Literal["median"] = "median"
    at: Annotated[Shares, Field(min_length=1)] = (0.25, 0.5)
    """Rungs as shares of the budget, each put at the next evaluation; before the first nobody is stopped."""
    least: Annotated[int, Field(ge=1, le=1000)] = 3
    """How many other cells must have come to a rung before it stops anybody."""
    seeds: Count | None = None
    """How many of a cell's seeds are compared; null: those of the first look."""

    def idle(self, cells: int) -> str | None:
        """Where fewer others come to a rung than it asks for."""
        if cells <= self.least:
            others = f"{cells - 1} other{'s' if cells != 2 else ''}"
            return f"each cell has {others}, and least: {self.least} must have come to a rung before it stops anybody"
        return super().idle(cells)

    def wanted(
        self, design: Design, standings: Mapping[tuple[str, int], Standing]
    ) -> Sequence[Work]:
        """Everything to its end, cell by cell."""
        return list(cell_by_cell(design, design.first_seeds[: self.seeds]))

    def stops(
        self, design: Design, standings: Mapping[tuple[str, int], Standing]
    ) -> Mapping[str, str]:
        """Those that are in the worse half at a rung."""
        ladder = Ladder(design, standings, rungs(design, sorted(self.at)), self.seeds)
        stops: dict[str, str] = {}
        for rung in ladder.rungs:
            values = rung.medians
            for cell in ladder.rivals:
                others = [value for other, value in values.items() if other != cell]
                if cell not in values or cell in ladder.through or len(others) < self.least:
                    continue
                middle = float(np.median(others))
                if values[cell] > middle and cell not in stops:
                    stops[cell] = (
                        f"{ladder.at(rung, values[cell])} is worse than {ladder.shown(middle)}, the"
                        f" median of {len(others)} other cells"
                    )
        return stops


MedianPolicies = Median
"""The members of this file: a new policy is one class above and one name here."""
