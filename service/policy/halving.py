"""Successive halving over cells: at each rung the best part goes on."""

# Field types are read at run time by pydantic: no `from __future__ import annotations` here.

import math
from collections.abc import Container, Mapping, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from service.policy.base import Design, PlanPolicy, Standing, Work
from service.policy.rungs import Ladder, Rung, rungs, the_rest
from trainer.bounds import Count

Share = Annotated[float, Field(ge=1e-6, lt=1.0)]
"""Of the budget."""


def _different(shares: tuple[float, ...]) -> tuple[float, ...]:
    twice = next((share for share in shares if shares.count(share) > 1), None)
    if twice is not None:
        raise ValueError(f"lists {twice:g} twice: remove one")
    return shares


Shares = Annotated[tuple[Share, ...], AfterValidator(_different)]
"""Each once."""


class Halving(PlanPolicy):
    """Asynchronous successive halving over cells (Li et al. 2020, arXiv 1810.05934), all seeds of a cell together.

    Cells pause at rungs of images. One of the best 1/`reduction` of those that have come so far goes on; when
    all have come, the others are stopped for good. The baseline is never stopped and takes nobody's place.
    """

    stops_cells: ClassVar[bool] = True
    kind: Literal["halving"] = "halving"
    reduction: Annotated[int, Field(ge=2, le=100)] = 3
    """One of so many goes on at each rung; at least one always does."""
    at: Shares | None = None
    """Rungs as shares of the budget; null: 1/`reduction`^2 and 1/`reduction`. Each is put at the next evaluation."""
    seeds: Count | None = None
    """How many of a cell's seeds are compared; null: those of the first look."""

    def wanted(
        self, design: Design, standings: Mapping[tuple[str, int], Standing]
    ) -> Sequence[Work]:
        """Every cell to its next rung, the lowest first; those that have passed all, with all their seeds."""
        ladder = self._ladder(design, standings)
        out, settled = self._settle(ladder, standings)
        work: list[tuple[int, Work]] = []
        passed = []
        for cell, trial in design.cells.items():
            whole = trial.total_images()
            height = self._height(ladder, cell, out, settled) if cell in ladder.rivals else 0
            until = ladder.rungs[height].images if height < len(ladder.rungs) else whole
            if cell not in ladder.rivals or until == whole:
                until = whole
                passed.append(cell)
            work += [(height, Work(cell, seed, until)) for seed in ladder.seeds]
        climbing = [one for _, one in sorted(work, key=lambda each: each[0])]
        return [*climbing, *the_rest(design, ladder.seeds, passed)]

    def stops(
        self, design: Design, standings: Mapping[tuple[str, int], Standing]
    ) -> Mapping[str, str]:
        """At rungs to which all have come that will: those that are not among the best."""
        return self._settle(self._ladder(design, standings), standings)[0]

    def _ladder(self, design: Design, standings: Mapping[tuple[str, int], Standing]) -> Ladder:
        shares = self.at or (1 / self.reduction**2, 1 / self.reduction)
        return Ladder(design, standings, rungs(design, sorted(shares)), self.seeds)

    def _settle(
        self, ladder: Ladder, standings: Mapping[tuple[str, int], Standing]
    ) -> tuple[dict[str, str], int]:
        """Cells that do not go on, with reasons, and at how many rungs nobody is waited for."""
        gone = {cell for (cell, _), standing in standings.items() if standing.stopped is not None}
        out: dict[str, str] = {}
        for settled, rung in enumerate(ladder.rungs):
            ranked = _ranked(ladder, rung, out)
            coming = set(ladder.rivals) - set(ranked) - set(out) - gone
            if not ranked or any(not ladder.broke(cell) for cell in coming):
                return out, settled
            keep = math.ceil(len(ranked) / self.reduction)
            values = rung.means
            last = ladder.shown(values[ranked[keep - 1]])
            for cell in ranked[keep:]:
                if cell not in ladder.through:
                    out[cell] = (
                        f"{ladder.at(rung, values[cell])} is not among the best {keep} of"
                        f" {len(ranked)}, which end at {last}"
                    )
        return out, len(ladder.rungs)

    def _height(self, ladder: Ladder, cell: str, out: Container[str], settled: int) -> int:
        """The rung to which a cell may train: beyond one only where it is among the best there."""
        if cell in ladder.through:
            return len(ladder.rungs)
        for height, rung in enumerate(ladder.rungs):
            ranked = _ranked(ladder, rung, () if height == 0 else out)
            best = ranked[: len(ranked) // self.reduction]
            if cell not in rung.values or not (
                cell in best or (height < settled and cell not in out)
            ):
                return height
        return len(ladder.rungs)


def _ranked(ladder: Ladder, rung: Rung, out: Container[str]) -> list[str]:
    """The cells that have come to a rung, the best first; without those that were out before."""
    values = rung.means
    here = [cell for cell in ladder.rivals if cell in values and cell not in out]
    return sorted(here, key=lambda cell: values[cell])


HalvingPolicies = Halving
"""The members of this file: a new policy is one class above and one name here."""
