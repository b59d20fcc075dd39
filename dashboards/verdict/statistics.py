"""Is a paired difference more than luck? Mean, spread, intervals, an exact test, a correction.

Plain numbers in, plain numbers out; which numbers are paired is decided in `samples`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

ALPHA = 0.05
_EXACT_UP_TO = 16
_MONTE_CARLO = 2**16

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
    method: str
    """`bca`, `percentile`, `constant` (all values equal), `t` or `none`."""
    note: str | None = None
    """What a reader has to know before trusting it."""

    @property
    def known(self) -> bool:
        """Whether there is an interval at all."""
        return self.low is not None and self.high is not None

    def within(self, margin: float) -> bool:
        """Whether the whole interval lies in [-margin, margin]; False for an unknown one."""
        return (
            self.low is not None
            and self.high is not None
            and -margin <= self.low
            and self.high <= margin
        )

    def mapped(self, function: Callable[[float], float]) -> Interval:
        """The interval of an increasing function of the mean."""
        if self.low is None or self.high is None:
            return self
        low, high = function(self.low), function(self.high)
        return Interval(low, high, self.level, self.method, self.note)


def bootstrap_interval(
    values: Sequence[float] | Floats,
    *,
    level: float = 1 - ALPHA,
    resamples: int = 9999,
    seed: int = 0,
) -> Interval:
    """BCa bootstrap interval of the mean (Efron 1987), the same on every call.

    One value gives no interval; equal values give one without width; where BCa is undefined the
    percentile interval is given. `note` says so, and says when a bootstrap is too short to trust.
    """
    data = np.asarray(values, dtype=np.float64)
    if data.size < 2:
        return Interval(None, None, level, "none", "one pair has no spread: no interval")
    if np.ptp(data) <= 1e-12 * np.abs(data).max():
        mean = float(data.mean())
        return Interval(mean, mean, level, "constant", "all differences are equal")
    note = _short_sample_note(data.size)
    low, high = _bootstrap(data, "BCa", level, resamples, seed)
    if math.isfinite(low) and math.isfinite(high):
        return Interval(low, high, level, "bca", note)
    low, high = _bootstrap(data, "percentile", level, resamples, seed)
    fallback = "BCa is undefined for these values, this is the percentile interval"
    return Interval(low, high, level, "percentile", "; ".join(filter(None, [fallback, note])))


def _bootstrap(
    data: Floats, method: Literal["BCa", "percentile"], level: float, resamples: int, seed: int
) -> tuple[float, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        interval = stats.bootstrap(
            (data,),
            np.mean,
            confidence_level=level,
            n_resamples=resamples,
            method=method,
            vectorized=True,
            rng=np.random.default_rng(seed),
        ).confidence_interval
    return float(interval.low), float(interval.high)


def _short_sample_note(n: int) -> str | None:
    if n >= 8:
        return None
    return f"with {n} pairs a bootstrap interval is too short (it covers less than it says)"


def student_interval(values: Sequence[float] | Floats, *, level: float = 1 - ALPHA) -> Interval:
    """Student's t interval of the mean: wide at few values, right for about normal ones."""
    data = np.asarray(values, dtype=np.float64)
    if data.size < 2:
        return Interval(None, None, level, "none", "one pair has no spread: no interval")
    half = (
        float(stats.t.ppf((1 + level) / 2, data.size - 1)) * deviation(data) / math.sqrt(data.size)
    )
    mean = float(data.mean())
    return Interval(mean - half, mean + half, level, "t")


def sign_flip_p(values: Sequence[float] | Floats, *, seed: int = 0) -> float:
    """Two-sided p of the mean under random signs: exact up to 16 values, seeded Monte Carlo beyond.

    Exact for any distribution as long as the two members of a pair are exchangeable under the null
    hypothesis (Fisher 1935). The smallest it can be is 2 / 2^n.
    """
    data = np.asarray(values, dtype=np.float64)
    if data.size == 0:
        return 1.0
    seen = abs(float(data.sum()))
    slack = 1e-9 * float(np.abs(data).sum())
    if data.size <= _EXACT_UP_TO:
        bits = np.arange(2**data.size)[:, None] >> np.arange(data.size) & 1
        sums = np.abs((2.0 * bits - 1.0) @ data)
        return float(np.mean(sums >= seen - slack))
    rng = np.random.default_rng(seed)
    signs = rng.integers(0, 2, size=(_MONTE_CARLO, data.size)) * 2.0 - 1.0
    hits = int(np.count_nonzero(np.abs(signs @ data) >= seen - slack))
    return (hits + 1) / (_MONTE_CARLO + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p values (1979), in the order given."""
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def smallest_p(n: int, comparisons: int = 1) -> float:
    """The smallest (Holm-adjusted) p that `n` pairs can reach when all comparisons are as clear."""
    return min(1.0, comparisons * 2.0 / 2.0**n)


def fewest_seeds(comparisons: int = 1, alpha: float = ALPHA) -> int:
    """The fewest pairs whose smallest p is below `alpha`: six for one comparison at .05."""
    n = 1
    while smallest_p(n, comparisons) >= alpha:
        n += 1
    return n


def deviation(data: Floats) -> float:
    """Sample standard deviation of at least two values; rounding noise of equal values counts as none."""
    sd = float(data.std(ddof=1))
    return sd if sd > 1e-12 * float(np.abs(data).max()) else 0.0
