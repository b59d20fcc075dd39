"""How large is a mean, and how sure is it? Spread, sign flips, intervals; plain numbers in, plain numbers out.

Everything about one sample; many samples and many looks are judged in `flips` and `looks`. Quantiles are of
`scipy.special`, the functions that `scipy.stats` calls: the same bits, without its second of imports.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ALPHA = 0.05
_EXACT_UP_TO = 12
"""Values up to which all 2^n signs are looked at: 4,096."""
_MONTE_CARLO = 2**13
SLACK = 4 / _MONTE_CARLO
"""What two ways of counting random signs may differ by."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of some values."""

    n: int
    mean: float
    sd: float | None
    """None for a single value."""


def spread(values: Sequence[float] | Floats) -> Spread:
    """Mean and sample standard deviation of at least one value."""
    data = np.asarray(values, dtype=np.float64)
    return Spread(data.size, float(data.mean()), deviation(data) if data.size > 1 else None)


@dataclass(frozen=True)
class Interval:
    """A confidence interval of a mean; both ends are None where the data cannot give one."""

    low: float | None
    high: float | None
    level: float
    """Probability with which such intervals cover, over all looks at the data together."""
    method: str
    """`sign-flip`, `t`, `anytime`, `constant` (all values equal) or `none`."""
    n: int
    """Values it is made from."""

    @property
    def known(self) -> bool:
        """Whether there is an interval at all."""
        return self.low is not None and self.high is not None

    def mapped(self, function: Callable[[float], float]) -> Interval:
        """The interval of an increasing function of the mean."""
        if self.low is None or self.high is None:
            return self
        return Interval(function(self.low), function(self.high), self.level, self.method, self.n)

    def turned(self) -> Interval:
        """The interval of minus the mean."""
        if self.low is None or self.high is None:
            return self
        return Interval(-self.high, -self.low, self.level, self.method, self.n)


@functools.lru_cache(maxsize=64)
def signs(n: int) -> Floats:
    """Rows of n signs, the first all +1: every one of the 2^n up to n = 12, 8,192 of them beyond.

    Beyond, the first twelve still take all their signs equally often and the others are random, the same on
    every call and for every larger n: a look at few seeds stays exact among many looks.
    """
    known = min(n, _EXACT_UP_TO)
    bits = np.arange(2**known)[:, None] >> np.arange(known) & 1
    rows = np.asarray(1 - 2 * bits, dtype=np.float64)
    if n > known:
        rows = np.tile(rows, (_MONTE_CARLO // len(rows), 1))
        more = [np.random.default_rng(j).integers(0, 2, len(rows)) for j in range(known, n)]
        rows = np.hstack([rows, 1.0 - 2.0 * np.stack(more, axis=1)])
        rows[0] = 1.0
    rows.setflags(write=False)
    return rows


def sign_flip_p(values: Sequence[float] | Floats) -> float:
    """Two-sided p of the mean under random signs: exact up to 12 values, 8,192 random signs beyond.

    Exact for any distribution as long as the two members of a pair are exchangeable under the null
    hypothesis (Fisher 1935). The smallest it can be is 2 / 2^n.
    """
    data = np.asarray(values, dtype=np.float64)
    if data.size == 0:
        return 1.0
    slack = 1e-9 * float(np.abs(data).sum())
    sums = np.abs(signs(data.size) @ data)
    return float(np.mean(sums >= abs(float(data.sum())) - slack))


def one_sided_p(values: Sequence[float] | Floats) -> float:
    """P of a mean as far above 0 under random signs."""
    data = np.asarray(values, dtype=np.float64)
    slack = 1e-9 * float(np.abs(data).sum())
    return float(np.mean(signs(data.size) @ data >= float(data.sum()) - slack))


def interval(values: Sequence[float] | Floats, miss: float = ALPHA) -> Interval:
    """The interval of the mean that agrees with the test: inverted sign flips from 6 values on, t below.

    `miss` is the probability with which this one may miss; its `level` is always 95 %, since a smaller
    `miss` is what a look at the data among several has to be content with.
    """
    data = np.asarray(values, dtype=np.float64)
    if data.size < 2:
        return Interval(None, None, 1 - ALPHA, "none", data.size)
    if np.ptp(data) <= 1e-12 * np.abs(data).max():
        mean = float(data.mean())
        return Interval(mean, mean, 1 - ALPHA, "constant", data.size)
    if data.size < fewest_seeds() or smallest_p(data.size) > miss:
        return student_interval(data, miss)
    return _inverted(data, miss)


def _inverted(data: Floats, miss: float) -> Interval:
    """Means that a sign-flip test would not reject (Hartigan 1969): between two means of subsets.

    Flipping a subset makes the sum of x - mu at least as large exactly when the subset's own mean is at
    most mu, so the ends are order statistics of the means of all subsets.
    """
    low, high = _subset_quantiles(data[:, None], miss)
    return Interval(float(low[0]), float(high[0]), 1 - ALPHA, "sign-flip", data.size)


def _subset_quantiles(columns: Floats, miss: float) -> tuple[Floats, Floats]:
    members = (1.0 - signs(len(columns))[1:]) / 2.0  # the first subset is empty
    members = members[members.any(axis=1)]
    means = (members @ columns) / members.sum(axis=1, keepdims=True)
    place = max(0, math.floor(miss / 2 * (len(members) + 1) + 1e-9) - 1)
    ordered = np.partition(means, (place, len(means) - 1 - place), axis=0)
    return ordered[place], ordered[-1 - place]


def student_interval(values: Sequence[float] | Floats, miss: float = ALPHA) -> Interval:
    """Student's t interval of the mean: wide at few values, right for about normal ones."""
    from scipy import special

    data = np.asarray(values, dtype=np.float64)
    if data.size < 2:
        return Interval(None, None, 1 - ALPHA, "none", data.size)
    quantile = float(special.stdtrit(data.size - 1, 1 - miss / 2))
    half = quantile * deviation(data) / math.sqrt(data.size)
    mean = float(data.mean())
    return Interval(mean - half, mean + half, 1 - ALPHA, "t", data.size)


def chi_square_quantile(probability: float, freedom: int) -> float:
    """Below which a chi-square variable of so many degrees of freedom, 1 at least, falls with this probability."""
    from scipy import special

    return 2.0 * float(special.gammaincinv(freedom / 2, probability))


def mean_interval(values: Sequence[float] | Floats, *, ratio: bool) -> Interval:
    """The 95 % interval of a cell's own mean; `ratio`: on the logarithm, where the values are positive."""
    data = np.asarray(values, dtype=np.float64)
    if ratio and data.size and data.min() > 0:
        return interval(np.log(data)).mapped(math.exp)
    return interval(data)


def range_level(n: int) -> float:
    """How surely the range of n values covers the middle of what they are drawn from: 75 % for three."""
    return 1 - 2.0 ** (1 - n)


def smallest_p(n: int) -> float:
    """The smallest p that n pairs can reach: all signs equal."""
    return 2.0 / 2.0**n


def fewest_seeds(alpha: float = ALPHA) -> int:
    """The fewest pairs that can decide anything, however many cells there are: six at .05."""
    n = 1
    while smallest_p(n) >= alpha:
        n += 1
    return n


def deviation(data: Floats) -> float:
    """Sample standard deviation of at least two values; rounding noise of equal values counts as none."""
    sd = float(data.std(ddof=1))
    return sd if sd > 1e-12 * float(np.abs(data).max()) else 0.0
