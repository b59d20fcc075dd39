"""What is a measure's sample? A number for both trials of each pair, or that one of them has none.

A trial that diverged, broke, ended without a finite number or never reached a target is an outcome, the
worst there is: it enters the test as the largest difference seen, against the trial it happened to. That keeps
a sign-flip test exact, since exchanging the two exchanges this too. Such seeds have no number, so means and
intervals are over the surviving pairs, and SAME is not said while there are any. A seed on which both are
lost tells nothing; one that has not ended in both is no pair yet.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dashboards.verdict.statistics import Floats

LOST = math.nan
"""The outcome of a trial that has no number, the worst there is."""


@dataclass(frozen=True)
class Sample:
    """Paired outcomes of one measure, before any statistics; one that is not finite is lost."""

    metric: str
    lower_is_better: bool
    ratio: bool
    """Whether pairs are compared by the logarithm of their ratio; False: by their difference."""
    baseline: Mapping[int, float]
    """By seed, of the seeds that ended in both, in the order in which they count."""
    cell: Mapping[int, float]
    target: float | None = None

    @property
    def surviving(self) -> list[int]:
        """Seeds with a number in both."""
        return [s for s in self.cell if math.isfinite(self.cell[s] + self.baseline[s])]

    @property
    def lost(self) -> tuple[int, int]:
        """Seeds on which only the baseline was lost, and only the cell."""
        gone = [
            (not math.isfinite(self.baseline[s]), not math.isfinite(self.cell[s]))
            for s in self.cell
        ]
        return sum(b and not c for b, c in gone), sum(c and not b for b, c in gone)

    def differences(self) -> Floats:
        """Of the surviving seeds: log ratio or difference, above 0 where the cell is worse."""
        return self._worse(self.surviving)

    def column(self, seeds: Sequence[int]) -> Floats:
        """What is tested, by seed: a lost trial is as large as the largest difference; NaN is no pair, or both
        lost: that is no sign of a difference, and none of being the same.
        """
        alive = set(self.surviving)
        entries = np.full(len(seeds), math.nan)
        places = [place for place, seed in enumerate(seeds) if seed in alive]
        entries[places] = self._worse([seeds[place] for place in places])
        worst = float(np.abs(entries[places]).max(initial=0.0)) or 1.0
        for place, seed in enumerate(seeds):
            if seed in self.cell and seed not in alive:
                base, cell = (math.isfinite(one[seed]) for one in (self.baseline, self.cell))
                if base != cell:
                    entries[place] = worst * (int(base) - int(cell))
        return entries

    def until(self, seeds: Sequence[int]) -> Sample:
        """The same of some seeds only."""
        kept = [seed for seed in seeds if seed in self.cell]
        base, cell = ({s: one[s] for s in kept} for one in (self.baseline, self.cell))
        return replace(self, baseline=base, cell=cell)

    def _worse(self, seeds: Sequence[int]) -> Floats:
        base, cell = (np.array([one[s] for s in seeds]) for one in (self.baseline, self.cell))
        worse = np.log(cell / base) if self.ratio else cell - base
        return np.asarray(worse if self.lower_is_better else -worse, dtype=np.float64)
