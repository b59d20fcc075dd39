"""How much of the spread over seeds is sampling noise of finite images, and how much is the seeds' own?

A seed's number is that of its network, a + e: over other images e would vary with the standard error that is reported
beside it (`se/fid`, a jackknife). Independent of a, it adds the mean of the squared errors to the variance between
seeds (the within and between parts of a one-way table; Searle, Casella & McCulloch 1992, chapter 3). All trials start
from the same noises, so a part of e is common to them, moves all seeds together and is not in that variance (the draws'
own part of `variance`). The squared error is therefore the most that sampling can be of it, and what is left the least
that seeds are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dashboards.verdict.statistics import ALPHA, Floats, chi_square_quantile


@dataclass(frozen=True)
class Sampling:
    """The variance between seeds, and the most that finite images have of it."""

    error: float
    """Root mean square of the seeds' standard errors, on the scale of what is compared."""
    sd: float
    """Standard deviation between seeds."""
    seeds: int

    @property
    def share(self) -> float | None:
        """Of the variance between seeds, at most; None where nothing varies."""
        return min(1.0, (self.error / self.sd) ** 2) if self.sd > 0 else None

    @property
    def share_range(self) -> tuple[float, float] | None:
        """95 % interval of the same, for normal seeds: few seeds tell their variance badly."""
        if self.sd == 0:
            return None
        freedom = self.seeds - 1
        ends = [chi_square_quantile(p, freedom) / freedom for p in (ALPHA / 2, 1 - ALPHA / 2)]
        low, high = (min(1.0, (self.error / self.sd) ** 2 * end) for end in ends)
        return low, high

    @property
    def cancelled(self) -> float:
        """Of the images' variance, at least: what is common to all seeds and so not between them."""
        return max(0.0, 1.0 - (self.sd / self.error) ** 2) if self.error > 0 else 0.0

    @property
    def seed_variance(self) -> float:
        """What is left for the seeds, at least; unbiased where no noise is common, so it may be below 0."""
        return self.sd**2 - self.error**2

    @property
    def seed_sd(self) -> float:
        """Its root, 0 where it is below."""
        return math.sqrt(max(0.0, self.seed_variance))


def sampling(numbers: Floats, errors: Sequence[float | None]) -> Sampling | None:
    """Of one number per seed [S] with its standard error; None for one seed, or where an error is not known."""
    known = [error for error in errors if error is not None and math.isfinite(error)]
    if len(numbers) < 2 or len(known) < len(numbers):
        return None
    square = float(np.mean(np.square(known)))
    return Sampling(math.sqrt(square), float(np.std(numbers, ddof=1)), len(numbers))
